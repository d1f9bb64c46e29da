import importlib.util
import json
import signal

import pytest

from topeng.adapt.loggers import check_loggers
from topeng.errors import RunError, Stopped


def installed(name):
    return importlib.util.find_spec(name) is not None


def scalars(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def logged(folder, key):
    entries = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(entry["step"], pytest.approx(entry[key])) for entry in entries if key in entry]


def test_tensorboard_has_what_the_log_has_after_a_stop_too(training, signals, tmp_path):
    training = training.changed("train", report_to=["tensorboard"], save_steps=4).changed("adapter", methods=["lora+"])
    with pytest.raises(Stopped):
        training.train(tmp_path / "work", signals(7, signal.SIGTERM))
    folder = training.train(tmp_path / "work")
    events = training.run / "logs" / "lora+"
    assert len(list(events.iterdir())) == 2
    for tag, key in {
        "train/loss": "loss",
        "eval/loss": "eval_loss",
        "train/learning_rate_B": "learning_rate_B",
    }.items():
        assert scalars(events, tag) == logged(folder, key), tag
    assert not list(folder.glob("**/events*"))


def test_a_training_from_its_start_removes_earlier_logs(training, tmp_path):
    training = training.changed("train", report_to=["tensorboard"])
    for work in ("one", "two"):
        training.train(tmp_path / work)
    assert len(list((training.run / "logs" / "lora").iterdir())) == 1


def test_a_trial_leaves_the_logs_of_a_training(training, tmp_path):
    training.changed("train", report_to=["tensorboard"]).train(tmp_path / "one")
    kept = list((training.run / "logs" / "lora").iterdir())
    training.changed("train", report_to=[]).train(tmp_path / "trial")
    assert list((training.run / "logs" / "lora").iterdir()) == kept != []


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_logger_that_is_not_installed_is_named(name):
    if installed(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(
        RunError, match=rf"train\.report_to names {name}, which is not installed. Install it with pip install 'topeng\["
    ):
        check_loggers(["tensorboard", name])


@pytest.mark.skipif(not installed("trackio"), reason="needs trackio")
def test_trackio_keeps_the_losses(training, tmp_path, monkeypatch):
    import trackio
    from trackio import utils
    from trackio.sqlite_storage import SQLiteStorage

    for module in (trackio, utils, importlib.import_module("trackio.sqlite_storage")):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    folder = training.changed("train", report_to=["trackio"]).train(tmp_path / "work")
    found = [entry for entry in SQLiteStorage.get_logs("run", "lora") if "train/loss" in entry]
    assert [(entry["train/global_step"], entry["train/loss"]) for entry in found] == logged(folder, "loss")


@pytest.mark.skipif(not installed("wandb"), reason="needs wandb")
def test_wandb_is_offline_without_a_login(training, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    training.changed("train", report_to=["wandb"]).train(tmp_path / "work")
    (kept,) = (training.run / "logs" / "lora" / "wandb").glob("offline-run-*")
    assert list(kept.glob("*.wandb"))
