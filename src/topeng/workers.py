"""Stages that don't depend on each other, side by side: each in a process of its own, of a fixed number of threads.

What a stage leaves depends neither on how many run beside it nor on the machine's cores: its threads are the recipe's.
A worker ends with its parent: a run that is killed leaves nothing behind that still writes.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from topeng.errors import RunError
from topeng.memory import peak_memory, reset_peak_memory
from topeng.stop import SIGNALS, handling, stop

Work = Callable[[str, Path], None]
"""Called in a worker with a stage's name and the folder to write into: a module's function, or a `partial` of one."""

PARENT_SECONDS = 0.2


class Workers:
    """Processes that do stages; made by `workers`."""

    def __init__(self, pool: ProcessPoolExecutor, work: Work, count: int) -> None:
        self._pool, self._work, self._count = pool, work, count

    def do(self, folders: Mapping[str, Path]) -> Iterator[tuple[str, float, int]]:
        """The name, the seconds and the peak memory in bytes of each stage, as it ends.

        Args:
            folders: by name of the stage, the folder that it writes into.

        Raises:
            RunError: a worker was killed.
            Whatever a stage raises, once those beside it have stopped in order.
        """
        waiting, running = list(folders), dict[Future, str]()
        try:
            while waiting or running:
                while waiting and len(running) < self._count:  # none is queued: a worker told to stop would begin it
                    name = waiting.pop(0)
                    running[self._pool.submit(_do, self._work, name, folders[name])] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), *future.result()
        except BrokenProcessPool as error:
            raise RunError(
                f"a process that worked on {', '.join(folders)} was killed, perhaps for want of memory: run the same "
                "command again, with a higher `threads` for fewer at a time"
            ) from error


@contextmanager
def workers(work: Work, count: int, threads: int, prepare: Callable[[], None]) -> Iterator[Workers]:
    """Up to `count` processes of so many threads each, started when they are needed; all have ended afterwards.

    Args:
        prepare: called in each process before it works.
    """
    start = (threads, os.getpid(), prepare)
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_start, initargs=start)
    try:
        yield Workers(pool, work, count)
    except BaseException:
        for process in (pool._processes or {}).values():
            process.terminate()  # a training stops after its step, with a checkpoint
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(threads: int, parent: int, prepare: Callable[[], None]) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    for number in (signal.SIGINT, *SIGNALS):  # Ctrl-C is the parent's; killed while idle it holds a lock
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    prepare()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _do(work: Work, name: str, folder: Path) -> tuple[float, int]:
    started = time.monotonic()
    reset_peak_memory()
    with handling(stop, *SIGNALS):
        work(name, folder)
    return time.monotonic() - started, peak_memory()
