"""Where the corpus stages do their work: in this process, or on Ray.

A stage passes a function and items to `map`, and both engines call the same function. A function writes large results
to files in the run folder, completely or not at all (`whole_file`), and returns small ones. Therefore a task that dies
can simply be repeated, and one engine can continue in the folder of the other.
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
    """Where `map` runs.

    Attributes:
        local: whether functions run in this process, one after another.
        threads: number of threads that a function may use.
    """

    local: bool
    threads: int

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yields results in the order of the items, which are consumed as they are needed.

        Args:
            function: a function at the top level of a module, or `functools.partial` of one.

        Raises:
            CorpusError: a task raised it, or the cluster was lost.
        """
        ...


class Native:
    """Runs in this process. An item is consumed when the previous one is done."""

    local, threads = True, THREADS

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


NATIVE = Native()


def in_order(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """`map` with threads, for use inside a mapped function. Items are only consumed as threads become free."""
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(function, item) for item in islice(rest, threads + 1))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, item) for item in islice(rest, 1))


@contextmanager
def open_engine(options: EngineOptions, folder: Path) -> Iterator[Engine]:
    """Opens the engine that the options name. A local cluster is started, and shut down at the end.

    Args:
        folder: where functions write. Every node must see it under the same path.

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
    """A temporary name to write a file under. The file is renamed at the end, so that it is complete or absent.

    The name is unique, because a task may be repeated while a lost node is still writing.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Removes temporary files of writers that were killed."""
    for path in folder.rglob("*.partial"):
        path.unlink(missing_ok=True)
