"""One function over items, in this process or on Ray: the same results, whatever dies."""

import contextlib
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from topeng.corpus.engine import NATIVE, open_engine, remove_partials, whole_file
from topeng.errors import CorpusError
from topeng.recipe import CorpusOptions

ON_RAY = CorpusOptions(engine="ray")


def square(number, slow=-1):
    if number == slow:
        time.sleep(0.5)
    return number**2


def fails(number, error):
    if number == 2:
        raise error
    return number


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))  # the workers import us
        with open_engine(ON_RAY, tmp_path_factory.mktemp("ray")) as engine:
            yield engine


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), whole_file(tmp_path / "a") as partial_name:
        partial_name.write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / "a").exists()
    remove_partials(tmp_path)
    assert not list(tmp_path.iterdir())
    with whole_file(tmp_path / "a") as partial_name:
        partial_name.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_natively_an_item_is_taken_when_the_one_before_is_done():
    taken = []
    for result in NATIVE.map(square, (taken.append(number) or number for number in range(3))):
        assert result == taken[-1] ** 2


def test_results_come_in_the_order_of_items_though_the_first_ends_last(ray):
    assert list(ray.map(partial(square, slow=0), range(20))) == [number**2 for number in range(20)]


def test_no_more_items_are_taken_than_are_at_work(ray):
    taken = []
    results = ray.map(square, (taken.append(number) or number for number in range(1000)))
    assert next(results) == 0 and len(taken) < 100
    assert list(ray.map(square, [3])) == [9]  # what was given up does not answer the next


def test_what_a_user_can_mend_comes_back_as_it_was_raised(ray):
    with pytest.raises(CorpusError, match=r"^a rule$"):
        list(ray.map(partial(fails, error=CorpusError("a rule")), range(4)))
    with pytest.raises(OSError, match="No space left"):
        list(ray.map(partial(fails, error=OSError(28, "No space left on device")), range(4)))
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        list(ray.map(partial(fails, error=KeyError("a bug")), range(4)))
    assert list(ray.map(square, [3])) == [9]


def test_without_ray_the_package_to_install_is_named(tmp_path):
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from pathlib import Path; from topeng.corpus.engine import open_engine\n"
        "from topeng.errors import CorpusError; from topeng.recipe import CorpusOptions\n"
        "with open_engine(CorpusOptions(), Path(sys.argv[1])) as engine: print(list(engine.map(abs, [-1])))\n"
        "try: open_engine(CorpusOptions(engine='ray'), Path(sys.argv[1])).__enter__()\n"
        "except CorpusError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True).stdout
    assert out.startswith("[1]\ncorpus.engine = ray needs Ray: pip install 'topeng[ray]'")


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("ray")
    opened = open_engine(CorpusOptions(engine="ray", ray_address="127.0.0.1:1"), tmp_path)
    with pytest.raises(CorpusError, match=r"cannot use the Ray cluster at 127\.0\.0\.1:1: .*refused"):
        opened.__enter__()
