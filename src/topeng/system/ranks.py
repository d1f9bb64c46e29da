"""Several processes of one run, started by `torchrun` or `accelerate launch`.

Rank 0 runs every stage and writes all files. The others wait until it reaches a stage that all take part in. It tells
them through the launcher's store, where waiting has no time limit, because reading a corpus may take an hour.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

from topeng.errors import RunError

RANK, RANKS = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
_POLL_SECONDS = 0.1
_numbers = count()


def use_own_gpu() -> None:
    """Selects the GPU of this process, by its rank on the machine, as the one that `cuda` means.

    Raises:
        RunError: the launcher is unknown.
    """
    if RANKS == 1:
        return
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RunError(f"WORLD_SIZE = {RANKS}, but the launcher is unknown. Use torchrun or accelerate launch.")
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def tell(word: str = "") -> None:
    """Sends a word from rank 0 to the other ranks, each of which must `hear` it."""
    if RANKS > 1:
        _store().set(_next_key(), word)


def hear() -> str:
    """Waits for the next word of rank 0."""
    key = _next_key()
    while not _store().check([key]):
        time.sleep(_POLL_SECONDS)
    return _store().get(key).decode()


@contextmanager
def rank_0_first() -> Iterator[None]:
    """Lets the other ranks enter after rank 0 has left."""
    if RANK:
        hear()
    yield
    if not RANK:
        tell()


def _next_key() -> str:
    return f"topeng/{os.environ['TORCHELASTIC_RESTART_COUNT']}/{next(_numbers)}"


@cache
def _store() -> Any:
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(minutes=5))
