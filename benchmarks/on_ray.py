"""The corpus stages natively, on Ray, and while a worker and then a node is killed: seconds, and the rows selected."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from ray.cluster_utils import Cluster
from rich.console import Console

from topeng.corpus.schema import INGESTED
from topeng.corpus.select import select_corpus
from topeng.corpus.settings import CorpusOptions, Embedding, Seeded, ingesting

SEED = 42
WORKER_AT, NODE_AT = 6, 12  # parts that are hashed when it is killed


def compare(options: CorpusOptions, folder: Path, digest: Callable[[Path], str]) -> dict[str, dict[str, Any]]:
    """By engine: seconds of each stage, and the digest of the train rows."""
    on_ray = replace(options, engine="ray")
    found = {"native": _run(options, folder / "native", digest)}
    for name, killing in (("Ray, two nodes of a CPU", False), ("Ray, a worker and then a node killed", True)):
        with _two_nodes() as cluster:
            killed: list[str] = []
            deaths = Thread(target=_kill, args=(cluster, folder / "ray" / INGESTED / "hashes", killed))
            shutil.rmtree(folder / "ray", ignore_errors=True)
            if killing:
                deaths.start()
            found[name] = _run(replace(on_ray, ray_address=cluster.address), folder / "ray", digest)
            assert killed == (["worker", "node"] if killing else [])
    assert len({facts["digest"] for facts in found.values()}) == 1, found
    return found


def _run(options: CorpusOptions, folder: Path, digest: Callable[[Path], str]) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    quiet, seconds = Console(quiet=True), {}
    stages = {
        "ingest": lambda: stages.ingest_corpus(ingesting(options, SEED), folder, quiet),
        "draw": lambda: stages.draw_corpus(Seeded(options, SEED), folder, folder, quiet),
        "embed": lambda: stages.embed_corpus(Embedding(options, SEED), folder, folder, quiet),
        "select": lambda: select_corpus(Seeded(options, SEED), folder, folder, quiet),
    }
    for name, stage in stages.items():
        started = time.perf_counter()
        stage()
        seconds[name] = round(time.perf_counter() - started, 1)
    return {"seconds": seconds, "digest": digest(folder)}


@contextmanager
def _two_nodes() -> Iterator[Cluster]:
    """A head without CPUs, and two nodes with one each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.last = [cluster.add_node(num_cpus=1) for _ in range(2)][-1]
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def _kill(cluster: Cluster, hashes: Path, killed: list[str]) -> None:
    """A worker at work, when some parts are hashed; later one of the nodes."""
    _wait(hashes, WORKER_AT)
    workers = [process.pid for process in psutil.process_iter() if process.name().startswith("ray::")]
    busy: list[int] = []
    while not busy:
        busy = [pid for pid in workers if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_run")]
    os.kill(busy[0], signal.SIGKILL)
    killed.append("worker")
    _wait(hashes, NODE_AT)
    cluster.remove_node(cluster.last, allow_graceful=False)
    killed.append("node")


def _wait(folder: Path, parts: int) -> None:
    while len(list(folder.glob("*.parquet"))) < parts:
        time.sleep(0.02)
