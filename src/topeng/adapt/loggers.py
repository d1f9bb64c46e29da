"""Loggers of a training: those of transformers, with a place to write to.

What they write lies in the run's `logs/METHOD`, which is no stage's output: it holds times, and survives a resume.
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
    """Fails before a training, not after it, where a chosen logger cannot be had.

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
    """The callbacks of a training's loggers, closed in the end; of several ranks the first alone has any.

    Args:
        folder: `logs/METHOD` of a run: the run's name is the project's, the method's the training's.
        args: of the training, whose names they become.
        step: the step to continue from; 0 removes the logs of an earlier training.
    """
    if args.process_index or not names:  # a trial has no logs of its own: those that are there stay
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

    # What a killed training logged beyond its last checkpoint is hidden.
    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=step + 1 if step else None))


def _wandb(folder: Path, args: Any, step: int) -> TrainerCallback:
    """Weights & Biases, offline unless the user has logged in: `wandb sync` sends it later."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    settings = wandb.Settings(silent=True)
    wandb.init(project=args.project, name=args.run_name, dir=str(folder), mode=mode, settings=settings)
    return WandbCallback()


def _trackio(folder: Path, args: Any, step: int) -> TrainerCallback:
    """Trackio, in its own local database: `trackio show` finds it there."""
    return TrackioCallback()
