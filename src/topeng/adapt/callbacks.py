"""Callbacks of a training, which stop it cleanly, keep its log complete, and show its progress."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from topeng.errors import Stopped
from topeng.system.memory import in_gib, memory_in_use, peak_at_work
from topeng.system.stop import SIGNALS, handling, stop


class StopInOrder(TrainerCallback):
    """Stops a training after the current step, with a checkpoint, when a signal arrives. A second one stops it at once.

    If there are several ranks, all stop at the step at which the first of them got the signal.
    """

    def __init__(self) -> None:
        self._signal = 0

    @contextmanager
    def listening(self) -> Iterator["StopInOrder"]:
        """Holds signals back until a step ends."""
        with handling(self._note, *SIGNALS, signal.SIGINT):
            yield self

    def _note(self, number: int, frame: Any) -> None:
        if self._signal:
            stop(number)
        self._signal = number

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if distributed.is_available() and distributed.is_initialized():
            asked = torch.tensor(self._signal, device=args.device)
            distributed.all_reduce(asked, distributed.ReduceOp.MAX)
            self._signal = int(asked)
        if self._signal:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """
        Raises:
            Stopped: a signal was held back.
        """
        if self._signal:
            raise Stopped(self._signal)


class LossWindow(TrainerCallback, ExportableState):
    """Saves the losses since the last log in a checkpoint, so that the log of a resumed training is the same."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def state(self) -> dict[str, float]:
        """The state in `trainer_state.json`."""
        total, logged = (getattr(self._trainer, name, 0) for name in ("_tr_loss", "_globalstep_last_logged"))
        return {"sum": float(total), "logged": logged}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = state.stateful_callbacks.get("LossWindow")
        if kept and state.global_step:
            self._trainer._tr_loss += kept["sum"]
            self._trainer._globalstep_last_logged = kept["logged"]


def progress_text(logged: Mapping[str, float]) -> str:
    """The latest figures for a progress line: losses, learning rates if there are two, speed and memory."""
    named = {"loss": "loss", "eval_loss": "held-out"}
    words = [f"{label} {logged[key]:.3f}" for key, label in named.items() if key in logged]
    words += [f"rate {key[-1]} {logged[key]:.1e}" for key in logged if key.startswith("learning_rate_")]
    if "tokens_per_second" in logged:
        words.append(f"{logged['tokens_per_second']:,.0f} tokens/s")
    peak, on_gpu = peak_at_work()
    memory = f"{in_gib(peak)} at most" if on_gpu else in_gib(memory_in_use())
    return "  ".join([*words, memory])
