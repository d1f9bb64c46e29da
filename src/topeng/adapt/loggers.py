"""Loggers of a training: those of transformers, with a place to write to.

They write to `logs/METHOD` of the run, which is not the output of a stage, because it contains times and is kept on a
resume.
"""

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from topeng.errors import RunError

INSTALL = {"tensorboard": "tensorboard", "wandb": "'topeng[track]'", "trackio": "'topeng[track]'"}


def check_loggers(names: Sequence[str]) -> None:
    """Checks before a training that a chosen logger is available.

    Raises:
        RunError: it is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise RunError(
                f"train.report_to names {name}, which is not installed. Install it with pip install {INSTALL[name]}, "
                "or leave it out (--train.report_to '[]' uses no logger)."
            )


@contextmanager
def logging_to(
    names: Sequence[str], folder: Path, args: TrainingArguments, step: int
) -> Iterator[list[TrainerCallback]]:
    """The callbacks of a training's loggers, which are closed at the end. Only the first of several ranks has any.

    Args:
        folder: `logs/METHOD` of a run. The project gets the name of the run, and the training that of the method.
        args: arguments of the training, which get these names.
        step: the step to continue from. 0 removes the logs of an earlier training.
    """
    if args.process_index or not names:  # a trial has no logs, and keeps existing ones
        yield []
        return
    if step == 0:
        shutil.rmtree(folder, ignore_errors=True)
    args.project, args.run_name = folder.parent.parent.resolve().name, folder.name
    makers = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    try:
        yield [makers[name](folder, args, step) for name in names]
    finally:
        if "wandb" in names:
            import wandb

            wandb.finish()


def _tensorboard(folder: Path, args: Any, step: int) -> TrainerCallback:
    from torch.utils.tensorboard import SummaryWriter

    # Hides what a killed training logged after its last checkpoint.
    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=step + 1 if step else None))


def _wandb(folder: Path, args: Any, step: int) -> TrainerCallback:
    """Weights & Biases, offline unless the user has logged in. `wandb sync` uploads its files later."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    settings = wandb.Settings(silent=True)
    wandb.init(project=args.project, name=args.run_name, dir=str(folder), mode=mode, settings=settings)
    return WandbCallback()


def _trackio(folder: Path, args: Any, step: int) -> TrainerCallback:
    """Trackio, in its own local database, which `trackio show` displays."""
    return TrackioCallback()
