"""One function over items, in this process or on Ray: the same results, whatever dies."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import psutil
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tasks import dies, dies_once, fails, square

from topeng.corpus import stages
from topeng.corpus.engine import NATIVE, open_engine, whole_file
from topeng.corpus.ingest import ingest
from topeng.corpus.schema import DRAWN, EMBEDDED, INGESTED
from topeng.corpus.settings import CorpusOptions, Embedding, Seeded
from topeng.corpus.synthetic import write_target
from topeng.errors import CorpusError
from topeng.options import results
from topeng.recipe import parse
from topeng.run import pipeline
from topeng.system.files import digest

ON_RAY = CorpusOptions(engine="ray")


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))  # the workers import us
        with open_engine(ON_RAY, tmp_path_factory.mktemp("ray")) as engine:
            yield engine


@pytest.fixture(scope="module")
def threads(tmp_path_factory):
    """The driver in its process, and threads for Ray."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(Path(__file__).parent / "threads")
            engine = stack.enter_context(open_engine(ON_RAY, tmp_path_factory.mktemp("threads")))
        yield engine


@pytest.fixture(params=["threads", pytest.param("ray", marks=pytest.mark.slow)])
def engine(request):
    return request.getfixturevalue(request.param)


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), whole_file(tmp_path / "a") as partial_name:
        partial_name.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with whole_file(tmp_path / "a") as partial_name:
        partial_name.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_natively_an_item_is_taken_when_the_one_before_is_done():
    taken = []
    for result in NATIVE.map(square, (taken.append(number) or number for number in range(3))):
        assert result == taken[-1] ** 2


def test_results_come_in_the_order_of_items_though_the_first_ends_last(engine):
    assert list(engine.map(partial(square, slow=0), range(20))) == [number**2 for number in range(20)]


def test_no_more_items_are_taken_than_are_at_work(engine):
    taken = []
    results = engine.map(square, (taken.append(number) or number for number in range(1000)))
    assert next(results) == 0 and len(taken) < 100
    assert list(engine.map(square, [3])) == [9]  # what was given up does not answer the next


def test_what_a_user_can_mend_comes_back_as_it_was_raised(engine):
    with pytest.raises(CorpusError, match=r"^a rule$"):
        list(engine.map(partial(fails, error=CorpusError("a rule")), range(4)))
    with pytest.raises(OSError, match="No space left"):
        list(engine.map(partial(fails, error=OSError(28, "No space left on device")), range(4)))
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        list(engine.map(partial(fails, error=KeyError("a bug")), range(4)))
    assert list(engine.map(square, [3])) == [9]


def test_without_ray_the_package_to_install_is_named(tmp_path):
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from pathlib import Path; from topeng.corpus.engine import open_engine\n"
        "from topeng.errors import CorpusError; from topeng.corpus.settings import CorpusOptions, Seeded\n"
        "with open_engine(CorpusOptions(), Path(sys.argv[1])) as engine: print(list(engine.map(abs, [-1])))\n"
        "try: open_engine(CorpusOptions(engine='ray'), Path(sys.argv[1])).__enter__()\n"
        "except CorpusError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True).stdout
    assert out.startswith("[1]\ncorpus.engine = ray needs Ray. Run pip install 'topeng[ray]'")


def test_no_stage_depends_on_the_engine(tmp_path):
    recipes = [parse({"corpus": options}) for options in ({}, {"engine": "ray", "ray_address": "auto"})]
    one, other = (pipeline.stages(recipe, tmp_path, Console()) for recipe in recipes)
    assert [results(stage.options) for stage in one[:4]] == [results(stage.options) for stage in other[:4]]


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    if not find_spec("ray"):
        pytest.skip("needs Ray")
    opened = open_engine(CorpusOptions(engine="ray", ray_address="127.0.0.1:1"), tmp_path)
    with pytest.raises(CorpusError, match=r"cannot use the Ray cluster at 127\.0\.0\.1:1: .*refused"):
        opened.__enter__()


@pytest.mark.slow
def test_a_task_whose_worker_dies_is_done_again(ray, tmp_path):
    assert list(ray.map(dies_once, [tmp_path / "a", tmp_path / "b"])) == ["a", "b"]


@pytest.mark.slow
def test_a_task_that_always_kills_its_worker_is_given_up(ray):
    with pytest.raises(
        CorpusError, match=r"^the Ray cluster was lost: a task was tried 6 times \(WorkerCrashedError\)\. "
    ):
        list(ray.map(dies, [0]))


OPTIONS = CorpusOptions(sample_fraction=0.3, test_rows=30, validation_rows=10)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for shard in range(8):
        write_target(folder / f"{shard}.parquet", 2_000, shard)
    rows = pq.read_table(folder / "7.parquet").to_pylist()
    (folder / "7.parquet").unlink()
    (folder / "7.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # counted by reading
    return [str(folder / "*")]


def made(files, folder, options, at=()):
    """What ingest and draw leave, as digests; `at` has what is called when that many parts of the hashes are there."""
    events = dict(at)

    def watch(label, done, total):
        parts = len(list((folder / "corpus" / "ingested" / "hashes").glob("*.parquet")))
        for number in [number for number in events if number <= parts]:
            events.pop(number)()

    folder.mkdir(exist_ok=True)
    with open_engine(options, folder) as engine:
        ingest(files, folder / INGESTED, watch, engine)
    assert not events
    stages.draw_corpus(Seeded(options, 42), folder, folder, Console(quiet=True))
    stages.embed_corpus(Embedding(options, 42), folder, folder, Console(quiet=True))
    return [digest(folder / name) for name in (INGESTED, DRAWN, EMBEDDED)]


@pytest.fixture(scope="module")
def native(files, tmp_path_factory):
    return made(files, tmp_path_factory.mktemp("native"), OPTIONS)


@pytest.mark.slow
def test_two_workers_leave_what_this_process_leaves(files, native, tmp_path):
    assert made(files, tmp_path, replace(OPTIONS, engine="ray")) == native


@pytest.fixture
def cluster(monkeypatch):
    """A head without CPUs, and two nodes with one each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def kill_a_busy_worker():
    workers = [process.pid for process in psutil.process_iter() if process.name().startswith("ray::")]
    while True:
        for pid in workers:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_run"):
                os.kill(pid, signal.SIGKILL)
                return


@pytest.mark.slow
def test_a_worker_and_then_a_node_that_die_change_nothing(files, native, cluster, tmp_path):
    killer = Thread(target=kill_a_busy_worker)
    at = {1: killer.start, 4: lambda: cluster.remove_node(cluster.nodes[0], allow_graceful=False)}
    assert made(files, tmp_path, replace(OPTIONS, engine="ray", ray_address=cluster.address), at) == native
    assert not killer.is_alive()


@pytest.mark.slow
def test_a_cluster_that_is_lost_is_one_error_and_this_process_goes_on(files, native, cluster, tmp_path):
    options = replace(OPTIONS, engine="ray", ray_address=cluster.address)
    nodes = [*cluster.nodes, cluster.head_node]
    at = {2: lambda: [cluster.remove_node(node, allow_graceful=False) for node in nodes]}
    with pytest.raises(
        CorpusError, match=r"^the Ray cluster was lost: .*--corpus.engine native to continue without Ray\.$"
    ):
        made(files, tmp_path, options, at)
    parts = {path.name: path.stat().st_mtime_ns for path in (tmp_path / INGESTED / "rows").glob("*.parquet")}
    assert len(parts) == 8
    assert made(files, tmp_path, OPTIONS) == native
    assert parts == {path.name: path.stat().st_mtime_ns for path in (tmp_path / INGESTED / "rows").glob("*.parquet")}
