"""Stages that don't depend on each other, side by side: each in a process of its own, of a fixed number of threads.

The output of a stage depends neither on how many run next to it nor on the machine's cores: the recipe sets threads.
A worker ends with its parent, so that nothing still writes after a run was killed.
"""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from topeng.errors import RunError, Stopped
from topeng.system.memory import measured
from topeng.system.stop import SIGNALS, handling, stop

Work = Callable[[str, Path], None]
"""Called in a worker with a stage's name and the folder to write into: a module's function, or a `partial` of one."""

PARENT_SECONDS = 0.2


class Workers:
    """Processes that do stages; made by `workers`.

    Each hears from a pipe of its own, without the locks of a pool's queue: one that is killed, idle or not, neither
    holds up the others nor has them stopped twice.
    """

    def __init__(self, work: Work, count: int, threads: int, prepare: Callable[[], None]) -> None:
        self._work, self._count, self._start = work, count, (threads, os.getpid(), prepare)
        self._idle: list[Connection] = []
        self._all: dict[Connection, SpawnProcess] = {}

    def do(self, folders: Mapping[str, Path]) -> Iterator[tuple[str, float, int]]:
        """The name, the seconds and the peak memory in bytes of each stage, as it ends.

        Args:
            folders: by name of the stage, the folder that it writes into.

        Raises:
            RunError: a worker was killed.
            Whatever a stage raises, after the other stages have stopped cleanly.
        """
        waiting, busy = list(folders.items()), dict[Connection, str]()
        while waiting or busy:
            while waiting and len(busy) < self._count:
                worker = self._idle.pop() if self._idle else self._new()
                busy[worker] = waiting[0][0]
                with _killed(busy[worker]):
                    worker.send((self._work, *waiting.pop(0)))
            ready = wait(list(busy))
            for worker in [one for one in busy if one in ready]:
                name = busy.pop(worker)
                with _killed(name):
                    result = worker.recv()
                if isinstance(result, BaseException):
                    raise result
                self._idle.append(worker)
                yield name, *result

    def _new(self) -> Connection:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, *self._start))
        process.start()
        theirs.close()
        self._all[ours] = process
        return ours

    def stop(self) -> None:
        """Asks each to stop: a training does after its step, with a checkpoint, if asked once."""
        for process in self._all.values():
            process.terminate()

    def end(self) -> None:
        """Waits until all have ended."""
        for connection in self._all:
            connection.close()
        for process in self._all.values():
            process.join()


@contextmanager
def workers(work: Work, count: int, threads: int, prepare: Callable[[], None]) -> Iterator[Workers]:
    """Up to `count` processes of so many threads each, started when they are needed; all have ended afterwards.

    Args:
        prepare: called in each process before it works.
    """
    started = Workers(work, count, threads, prepare)
    try:
        try:
            yield started
        except BaseException:
            started.stop()
            raise
        finally:
            started.end()
    except BaseException:
        started.stop()  # asked again while they were ending: at once; those that have ended hear nothing
        raise


@contextmanager
def _killed(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise RunError(
            f"the process that worked on {name} was killed, perhaps because memory ran out. Run the same command "
            "again; a higher `threads` runs fewer processes at a time."
        ) from error


def _serve(connection: Connection, threads: int, parent: int, prepare: Callable[[], None]) -> None:
    """Does what it hears, until it is asked to stop or nobody is there to hear from."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Ctrl-C is the parent's: it stops its workers in order. Blocked, not ignored: a training would listen to it again,
    # and take the parent's word for a second signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    prepare()
    while True:
        try:
            work, name, folder = connection.recv()
        except EOFError:
            return
        result = _do(work, name, folder)
        try:
            connection.send(result)
        except OSError:  # the parent has ended its part
            return
        if isinstance(result, Stopped):
            return


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _do(work: Work, name: str, folder: Path) -> tuple[float, int] | BaseException:
    try:
        with handling(stop, *SIGNALS):
            return measured(partial(work, name, folder))
    except BaseException as error:
        error.add_note("".join(traceback.format_exception(error)))  # the parent's own says nothing of where
        return error.with_traceback(None)
