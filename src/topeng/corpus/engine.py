"""Where the corpus stages do their work: in this process, or on Ray.

A stage hands `map` a function and items; either engine calls the same function on them. What is big a function writes
to files in the run folder, whole or not at all (`whole_file`); what it returns is small. So a task that dies is done
again, and one engine can continue from the folder of the other.
"""

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from topeng.corpus.settings import EngineOptions

THREADS = 2


class Engine(Protocol):
    """What `map` runs on.

    Attributes:
        local: whether functions run in this process, one after the other.
        threads: how many a function may use.
    """

    local: bool
    threads: int

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of items, which are taken as they are needed.

        Args:
            function: at the top of a module, or `functools.partial` of such a one.

        Raises:
            CorpusError: a task raised it, or the cluster is lost.
        """
        ...


class Native:
    """This process: an item is taken when the one before is done."""

    local, threads = True, THREADS

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


NATIVE = Native()


def in_order(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """`map` on threads, inside a function that an engine maps; no more items are at hand than they need."""
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(function, item) for item in islice(rest, threads + 1))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in islice(rest, 1))


@contextmanager
def open_engine(options: EngineOptions, folder: Path) -> Iterator[Engine]:
    """The engine that the options name; a local cluster is started, and shut down at the end.

    Args:
        folder: where functions write; every node must see it under the same path.

    Raises:
        CorpusError: Ray is not installed, the cluster cannot be reached, or a node does not see the folder.
    """
    if options.engine == "native":
        yield NATIVE
        return
    from topeng.corpus.ray_engine import open_ray

    with open_ray(options.ray_address, folder) as engine:
        yield engine


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write a file under, which then gets its own: it is there whole or not at all.

    The name is nobody else's, as a task may be done again while a lost node is still at it.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Removes what was killed before its file was whole."""
    for path in folder.rglob("*.partial"):
        path.unlink(missing_ok=True)
