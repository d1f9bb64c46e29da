"""Those of Ray's calls that the driver makes, done in threads of its process: what is ours is tested without a cluster.

It stands in a folder of its own, and is found as `ray` where that folder is put first.
"""

import sys
from concurrent import futures
from types import SimpleNamespace

from topeng.corpus.ray_engine import _one_thread

POOL = futures.ThreadPoolExecutor(2)


class RayError(Exception):
    """Of the cluster."""


class RayTaskError(RayError):
    """Of a task's own code."""


exceptions = SimpleNamespace(
    RayError=RayError, RayTaskError=RayTaskError, TaskUnschedulableError=RayError, NodeDiedError=RayError
)
sys.modules["ray.util.scheduling_strategies"] = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda *_, **__: None)


class Function:
    def __init__(self, function):
        self.function = function

    def options(self, **_):
        return self

    def remote(self, *arguments):
        return POOL.submit(self.function, *arguments)


def remote(**_):
    return Function


def init(**_):
    _one_thread()  # for all of this process at once, where Ray's workers do it each for itself


def shutdown():
    POOL.shutdown()


def cluster_resources():
    return {"CPU": 2}


def nodes():
    return [{"Alive": True, "NodeID": "one", "NodeManagerHostname": "here"}]


def wait(tasks, timeout):
    return futures.wait(tasks, timeout)


def get(task, timeout=None):
    try:
        return task.result(timeout)
    except Exception as error:
        raise RayTaskError(f"{type(error).__name__}: {error}") from error
