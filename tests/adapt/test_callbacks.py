import json
import signal
from types import SimpleNamespace

import pytest
from torch import distributed, multiprocessing

from topeng.adapt.callbacks import StopInOrder, progress_text
from topeng.adapt.trainer import last_checkpoint
from topeng.errors import Stopped
from topeng.system import files


@pytest.mark.parametrize("method", ["lora", "olora", "dora", "nara", "full"])
def test_a_stopped_training_goes_on_to_the_same_end(training, signals, tmp_path, method):
    """Stopped at step 5: amid a window of the log, and away from what `save_steps` saves."""
    training = training.changed("adapter", methods=[method]).changed("train", steps=8)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        training.train(tmp_path / "stopped", signals(5, signal.SIGTERM))
    assert stopped.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    assert last_checkpoint(tmp_path / "stopped" / "checkpoints").name == "checkpoint-5"
    again, calm = training.train(tmp_path / "stopped"), training.train(tmp_path / "calm")
    assert (again / "log.jsonl").read_text() == (calm / "log.jsonl").read_text()
    assert files.digest(again) == files.digest(calm)
    assert len((calm / "log.jsonl").read_text().splitlines()) == 4 + 2


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_other_signals_save_too(training, signals, tmp_path, number):
    with pytest.raises(Stopped) as stopped:
        training.train(tmp_path / "work", signals(3, number))
    assert stopped.value.signal == number
    assert last_checkpoint(tmp_path / "work" / "checkpoints").name == "checkpoint-3"


def test_a_second_signal_stops_at_once(training, signals, tmp_path):
    with pytest.raises(Stopped):
        training.train(tmp_path / "work", signals(3, signal.SIGINT, signal.SIGINT))
    assert last_checkpoint(tmp_path / "work" / "checkpoints") is None


def rank_that_is_asked(rank, folder):
    """Of two ranks the second gets a signal; both write what they would do."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    args, control = SimpleNamespace(device="cpu"), SimpleNamespace(should_save=False, should_training_stop=False)
    with StopInOrder().listening() as callback:
        callback.on_step_end(args, None, control)
        before = control.should_save
        if rank == 1:
            signal.raise_signal(signal.SIGUSR1)
        callback.on_step_end(args, None, control)
    (folder / str(rank)).write_text(f"{before} {control.should_save} {control.should_training_stop}")


@pytest.mark.slow
def test_ranks_stop_together(tmp_path):
    multiprocessing.spawn(rank_that_is_asked, (tmp_path,), nprocs=2)
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["False True True"] * 2


def test_the_log_names_the_rates_of_a_and_b(training, tmp_path):
    folder = training.changed("adapter", methods=["lora+"], loraplus_lr_ratio=4).train(tmp_path / "work")
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for entry in (entry for entry in logged if "loss" in entry):
        assert entry["learning_rate_A"] == entry["learning_rate"]
        assert entry["learning_rate_B"] == pytest.approx(4 * entry["learning_rate"])
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["learning_rate_A"], summary["learning_rate_B"]) == (0.01, 0.04)


def test_the_figures_of_a_progress_line():
    logged = {"loss": 3.14159, "learning_rate": 1e-4, "learning_rate_A": 1e-4, "learning_rate_B": 1.6e-3}
    line = progress_text(logged | {"eval_loss": 2.5, "tokens_per_second": 12345.6, "epoch": 0.1})
    assert line.startswith("loss 3.142  held-out 2.500  rate A 1.0e-04  rate B 1.6e-03  12,346 tokens/s  ")
    assert " GiB" in line
