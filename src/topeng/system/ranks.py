"""Several processes of one run, as `torchrun` and `accelerate launch` start them.

Rank 0 does every stage and writes; the others wait until it comes to a stage that all take part in. What it tells them
goes through the launcher's own store, where waiting has no limit: reading a corpus may take an hour.
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
    """Makes this process' GPU, by its rank on the machine, the one that `cuda` means.

    Raises:
        RunError: the launcher is not one of the two.
    """
    if RANKS == 1:
        return
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RunError(f"WORLD_SIZE = {RANKS}, but the launcher is unknown. Use torchrun or accelerate launch.")
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def tell(word: str = "") -> None:
    """Rank 0 says a word to the others, each of which must `hear` it."""
    if RANKS > 1:
        _store().set(_next_key(), word)


def hear() -> str:
    """The word that rank 0 says next, once it does."""
    key = _next_key()
    while not _store().check([key]):
        time.sleep(_POLL_SECONDS)
    return _store().get(key).decode()


@contextmanager
def rank_0_first() -> Iterator[None]:
    """The other ranks enter once rank 0 has left."""
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
