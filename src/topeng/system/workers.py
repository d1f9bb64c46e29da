"""Runs independent stages side by side, each in its own process with a fixed number of threads.

The recipe sets the number of threads, so the output of a stage depends neither on how many run next to it nor on the
cores of the machine. A worker ends with its parent, so that nothing is written after a run was killed.
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
"""Called in a worker with the name of a stage and the folder to write: a module-level function, or a `partial`."""

PARENT_SECONDS = 0.2


class Workers:
    """Processes that run stages, made by `workers`.

    Each has its own pipe instead of the queue of a pool with its locks. Therefore a process that is killed, idle or
    not, neither blocks the others nor causes them to be stopped twice.
    """

    def __init__(self, work: Work, count: int, threads: int, prepare: Callable[[], None]) -> None:
        self._work, self._count, self._start = work, count, (threads, os.getpid(), prepare)
        self._idle: list[Connection] = []
        self._all: dict[Connection, SpawnProcess] = {}

    def do(self, folders: Mapping[str, Path]) -> Iterator[tuple[str, float, int]]:
        """Runs stages, and yields the name, seconds and peak memory in bytes of each when it ends.

        Args:
            folders: the folder that each stage writes, by the name of the stage.

        Raises:
            RunError: a worker was killed.
            Errors of a stage are raised after the other stages have stopped cleanly.
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
        """Asks each worker to stop. A training stops after its step, with a checkpoint, if it is asked once."""
        for process in self._all.values():
            process.terminate()

    def end(self) -> None:
        """Waits until all workers have ended."""
        for connection in self._all:
            connection.close()
        for process in self._all.values():
            process.join()


@contextmanager
def workers(work: Work, count: int, threads: int, prepare: Callable[[], None]) -> Iterator[Workers]:
    """Up to `count` processes with `threads` threads each. They start when needed, and have ended afterwards.

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
        started.stop()  # a second request while they end stops them at once; those that have ended ignore it
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
    """Runs the stages that it is sent, until it is asked to stop or its parent is gone."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # The parent handles Ctrl-C and stops its workers in order. Blocked, not ignored: a training would handle it again,
    # and treat the parent's request as a second signal.
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
        except OSError:  # the parent has closed its end
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
        error.add_note("".join(traceback.format_exception(error)))  # the parent's traceback does not say where
        return error.with_traceback(None)
