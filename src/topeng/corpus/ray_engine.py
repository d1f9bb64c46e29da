"""The corpus stages on Ray: one task per item, which is repeated if a worker or a node dies.

Ray ends the process of its driver when a cluster is lost for good, and writes to its terminal. Therefore the driver is
a separate process, with which this one communicates through a pipe:

    stage ── calls ──> driver ── tasks ──> workers ── files ──> the run folder
          <── results, in order ──
"""

import importlib.util
import multiprocessing
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from topeng.errors import CorpusError, TopengError

RETRIES = 5
"""How often a task is repeated after its worker or node died."""
AHEAD = 2
"""Tasks per CPU that are submitted at a time: one that runs and one that waits."""
PATIENCE = 60
"""Seconds after which a cluster without a CPU counts as lost. Ray waits as long for a lost head node."""


class Ray:
    """A cluster, used through its driver."""

    local, threads = False, 1

    def __init__(self, pipe: Connection, width: int) -> None:
        self._pipe, self._width, self._calls = pipe, width, 0

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        self._calls += 1
        call, rest = self._calls, iter(items)
        waiting = sum(self._send(call, function, item) for item in islice(rest, self._width))
        while waiting:
            of, result, error = _receive(self._pipe)
            if of != call:
                continue  # the result of a call that was abandoned
            waiting -= 1
            if error:
                raise error
            waiting += sum(self._send(call, function, item) for item in islice(rest, 1))
            yield result

    def _send(self, call: int, function: Callable[[Any], Any], item: Any) -> int:
        try:
            self._pipe.send((call, function, item))
        except OSError as error:
            raise _gone() from error
        return 1


@contextmanager
def open_ray(address: str | None, folder: Path) -> Iterator[Ray]:
    """Opens a driver on a cluster, or on a local one that is started and shut down at the end.

    Raises:
        CorpusError: Ray is not installed, the cluster cannot be reached, or a node does not see the folder.
    """
    if importlib.util.find_spec("ray") is None:
        raise CorpusError(
            "corpus.engine = ray needs Ray. Run pip install 'topeng[ray]', or choose --corpus.engine native."
        )
    folder.mkdir(parents=True, exist_ok=True)
    pipe, end = multiprocessing.Pipe()
    driver = multiprocessing.get_context("spawn").Process(target=_drive, args=(end, address, folder.resolve()))
    driver.start()
    end.close()
    try:
        width, error = _receive(pipe)
        if error:
            raise error
        yield Ray(pipe, width)
    finally:
        pipe.close()  # the driver ends when the pipe is closed
        driver.join(timeout=15)
        if driver.is_alive():
            driver.kill()


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError) as error:
        raise _gone() from error


def _gone(why: str = "its head node is gone") -> CorpusError:
    return CorpusError(
        f"the Ray cluster was lost: {why}. Finished work was kept: run the same command again, or add "
        "--corpus.engine native to continue without Ray."
    )


def _drive(pipe: Connection, address: str | None, folder: Path) -> None:
    """The driver: submits the tasks that arrive through the pipe, and returns results in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its client gets it too, and closes the pipe
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        cpus = _connect(address, folder)
    except CorpusError as error:
        pipe.send((0, error))
        return
    pipe.send((AHEAD * cpus, None))
    tasks: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_answer, args=(pipe, tasks), daemon=True).start()
    import ray

    run = ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
    while True:
        try:
            call, function, item = pipe.recv()
        except (EOFError, OSError):
            break
        tasks.put((call, run.remote(function, item)))
    ray.shutdown()


def _connect(address: str | None, folder: Path) -> int:
    """Joins the cluster, or starts one; checks that its nodes share the folder; returns its CPUs."""
    try:
        _reach(address or "local")
        import ray

        ray.init(address=address or "local", include_dashboard=None if address else False, log_to_driver=False)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        blind = _nodes_that_do_not_see(folder)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError or RayError
        line = (str(error).strip() or type(error).__name__).splitlines()[-1]
        where = f"cannot use the Ray cluster at {address}" if address else "cannot start Ray on this machine"
        raise CorpusError(f"{where}: {line}. Fix it, or choose --corpus.engine native.") from error
    if blind:
        raise CorpusError(
            f"the Ray node {', '.join(blind)} does not see {folder}. Put the run folder on a file system that all "
            "nodes share, under the same path."
        )
    if not cpus:
        raise CorpusError(f"the Ray cluster at {address} has no CPU. Add a node, or choose --corpus.engine native.")
    return cpus


def _reach(address: str) -> None:
    """Raises OSError if nobody listens at the address. Ray would retry for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _nodes_that_do_not_see(folder: Path) -> list[str]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = folder / f"probe-{uuid.uuid4().hex}"
    probe.touch()
    sees, blind = ray.remote(num_cpus=0)(_sees), []
    tasks = []
    for node in ray.nodes():
        if node["Alive"]:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            tasks.append((node["NodeManagerHostname"], sees.options(scheduling_strategy=place).remote(str(probe))))
    try:
        for name, task in tasks:
            with suppress(ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):  # it has just died
                if not ray.get(task, timeout=PATIENCE):
                    blind.append(name)
    finally:
        probe.unlink()
    return blind


def _sees(path: str) -> bool:
    return os.path.exists(path)


def _answer(pipe: Connection, tasks: "SimpleQueue[Any]") -> None:
    """Returns (call, result, error) of each task, in order."""
    import ray

    while True:
        call, task = tasks.get()
        try:
            while not ray.wait([task], timeout=PATIENCE)[0]:
                if ray.cluster_resources().get("CPU", 0) < 1:
                    raise _gone("it has no CPU left")
            result, error = ray.get(task)
        except CorpusError as lost:
            result, error = None, lost
        except ray.exceptions.RayError as death:
            given_up = _gone(f"a task was tried {RETRIES + 1} times ({type(death).__name__})")
            bug = isinstance(death, ray.exceptions.RayTaskError)
            result, error = None, RuntimeError(str(death)) if bug else given_up
        except Exception as other:  # the waiting process must be told
            result, error = None, RuntimeError(f"{type(other).__name__}: {other}")
        try:
            pipe.send((call, result, error))
        except OSError:
            return


def _run(function: Callable[[Any], Any], item: Any) -> tuple[Any, Exception | None]:
    """Runs in a task, and returns the result or an error that the user can fix."""
    _one_thread()
    try:
        return function(item), None
    except (TopengError, OSError) as error:
        return None, error


@lru_cache
def _one_thread() -> None:
    """Keeps Daft from using Ray as its engine and from taking all CPUs."""
    import daft
    import pyarrow

    daft.set_runner_native(num_threads=1)
    pyarrow.set_cpu_count(1)
