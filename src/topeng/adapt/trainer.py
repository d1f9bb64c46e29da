"""`transformers.Trainer` with the diffusion loss. The steps, the noise, the loss and the held-out loss are ours.

    step ──> rows (a shuffle) ──> forward passes of similar length ──> noise ──> loss on masked positions

The rows and noise of a step are functions of (seed, step). They depend neither on the division into forward passes, nor
on ranks, nor on resuming.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.trainer import TRAINER_STATE_NAME

from topeng.adapt.methods import autocast_inputs, group_rates
from topeng.adapt.usage import Usage, figures
from topeng.diffusion import MASKED, Objective, Step, copies, distinct_rows, opened, response_nll
from topeng.errors import DivergenceError, TopengError
from topeng.models import is_checkpoint, load_model
from topeng.models.attention import annealed
from topeng.text.batches import PASS_TOKENS, collate, cut_by_tokens, step_rows, steps_in_epoch
from topeng.text.tokens import Example

COMPLETE = "complete"
"""A file that only complete checkpoints have."""
HELD_OUT_DRAWS = 4
"""Draws of the likelihood bound per row. Few are enough, because all steps, methods, seeds and runs share the noise."""
HELD_OUT_SEED = 0
LAUNCHES, OPERATIONS = 6e-3, 3e14
"""For a GPU: seconds to launch the kernels of a layer in a pass, and operations per second (an H200 with bf16,
docs/training.md)."""


Forward = Callable[[Any, dict[str, Tensor]], Any]


def own_output(model: Any, inputs: dict[str, Tensor]) -> Any:
    return model(**inputs)


@dataclass(frozen=True)
class Batching:
    """How steps are made. The options of the same names explain more.

    Attributes:
        batch_rows: rows of a step, over all ranks and including copies.
        batch_tokens: largest size of a forward pass, including padding.
        noise: kind of noise.
        fill: whether a forward pass is padded with supervised end tokens.
        objective: training objective.
        anneal_steps: number of steps in which attention is opened from causal to that of the objective, or None.
        forward: returns a model's output for the arguments of a forward pass.
    """

    batch_rows: int
    batch_tokens: int
    noise: str
    fill: bool
    objective: Objective = MASKED
    anneal_steps: int | None = None
    forward: Forward = own_output


class DiffusionTrainer(Trainer):
    """Minimises an objective's loss over the rows of each step. Shapes: B rows, T positions, N trained positions."""

    loss_is_scaled_for_ga = True  # by the number of rows of the step instead of labels

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        examples: Sequence[Example],
        held_out: Sequence[Example],
        batching: Batching,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """
        Args:
            examples: training rows.
            held_out: rows whose likelihood bound is computed with fixed noise at every evaluation.
        """
        self._eos = model.config.eos_token_id
        self._batching, self._copies = batching, copies(batching.noise)
        self._distinct_rows = distinct_rows(batching.batch_rows, batching.noise)
        self.usage = Usage()
        super().__init__(
            model=model,
            args=args,
            train_dataset=list(examples),
            eval_dataset=list(held_out),
            optimizers=(optimizer, None),
            callbacks=[self.usage],
        )
        self.remove_callback(PrinterCallback)
        self._pass_tokens = pass_tokens(self.model)  # which is on its device now

    def fit(self, checkpoint: Path | None) -> None:
        """Trains to the end, from a complete checkpoint if there is one."""
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            if state.global_step >= state.max_steps:  # killed after its last step; `train` would make one more
                self._load_from_checkpoint(str(checkpoint))
                self.state = state
                return
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads a whole model by its official names, which Trainer would ignore, and continue without weights."""
        if not is_checkpoint(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        weights = load_model(resume_from_checkpoint, self.model.dtype, "cpu").state_dict()
        (model or self.model).load_state_dict(weights)

    def get_train_dataloader(self) -> DataLoader:
        """Counts the steps of an epoch. `get_batch_samples` returns their rows."""
        return DataLoader(range(steps_in_epoch(len(self.train_dataset), self._distinct_rows)))  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, None]:
        """The rows of a step, over all ranks, as one item, which `training_step` divides."""
        next(epoch_iterator)
        rows = step_rows(len(self.train_dataset), self._distinct_rows, self.args.seed, self.state.global_step)
        return [[self.train_dataset[row] for row in rows]], None

    @property
    def fills(self) -> bool:
        """Whether end tokens fill a forward pass and are trained on."""
        return self._batching.fill

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Computes the gradient of the step's loss, pass by pass. Returns this rank's part of it times the ranks.

        Args:
            inputs: rows of the step.

        Raises:
            DivergenceError: the loss is not finite.
        """
        started = time.perf_counter()
        model.train()
        rows = [example for example in inputs for _ in range(self._copies)]
        lengths = [len(example.input_ids) * self._batching.objective.sequences for example in rows]
        ranks = self.accelerator.num_processes
        cut = cut_by_tokens(lengths, self._batching.batch_tokens, ranks, self._pass_tokens)
        passes = cut[self.accelerator.process_index :: ranks]
        losses = []
        with autocast_inputs(model, self.args.bf16):
            for places in passes:
                with nullcontext() if places is passes[-1] else self.accelerator.no_sync(model):
                    loss = self._pass_loss(model, self._noisy_pass(rows, places))
                    self.accelerator.backward(loss)
                losses.append(loss.detach())
        self._check(torch.stack(losses), [[rows[place].row_id for place in places] for places in passes])
        self.usage.add_seconds(time.perf_counter() - started)
        return torch.stack(losses).sum()

    def _check(self, losses: Tensor, row_ids: Sequence[Sequence[int]]) -> None:
        """Raises on every rank if the loss of any is not finite. Otherwise ranks would wait for each other."""
        finite = torch.isfinite(losses)
        if self.accelerator.gather(finite.all()[None]).all():
            return
        found = [(loss, ids) for loss, ids in zip(losses.tolist(), row_ids, strict=True) if not np.isfinite(loss)]
        which = f"{found[0][0]}, rows {list(found[0][1])}" if found else "not finite on another rank"
        raise DivergenceError(
            f"at step {self.state.global_step + 1} the loss is {which}. Lower train.learning_rate, or inspect "
            "these rows."
        )

    def _pass_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """The part of a forward pass in the step's `sft_loss`, in nats."""
        output = self._batching.forward(model, inputs)
        self.usage.add_losses(output.token_nll * inputs["weights"], inputs["targets"] == self._eos)
        return output.loss * self.accelerator.num_processes  # undoes the mean over ranks of DDP and FSDP

    def floating_point_ops(self, inputs: Any) -> int:
        """Operations are not counted. transformers counts 6 per weight and token, but most weights are frozen here."""
        return 0

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the rates of A and B if they differ, and the usage of the passes since the last line."""
        if "learning_rate" in logs:
            logs |= group_rates(self.optimizer, logs["learning_rate"])
        if "loss" in logs:
            logs |= figures(self.accelerator.gather(self.usage.totals().to(self.args.device)[None]))
            self.usage.reset()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The held-out loss: the likelihood bound in nats per token, with noise that only depends on the row.

        Every rank scores all rows, because ranks of a sharded model must run the same forward passes.

        Raises:
            DivergenceError: the loss is not finite.
        """
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        loss = held_out_loss(model, self.eval_dataset)
        metrics = {"eval_loss": float(loss.mean())}
        step = self.state.global_step  # at step 0, the first training step will name its rows
        if step and not np.isfinite(metrics["eval_loss"]):
            raise DivergenceError(f"at step {step} the held-out loss is not finite. Lower train.learning_rate.")
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _noisy_pass(self, rows: Sequence[Example], places: Sequence[int]) -> dict[str, Tensor]:
        """The arguments of the model for some rows of a step, or for an empty pass without weight if there are none."""
        taken = list(places) or [0]
        batch = collate([rows[place] for place in taken], self._eos, self._batching.fill)
        response = batch["response_mask"]
        step = Step(self._batching.noise, self.args.seed, self.state.global_step, torch.tensor(taken), len(rows))
        if places:
            ends = int((response & (batch["input_ids"] == self._eos)).sum())
            own = sum(len(rows[place].input_ids) for place in taken)
            self.usage.add_pass(response.numel(), response.numel() - own, int(response.sum()), ends)
        inputs = self._batching.objective.training_pass(batch, step, self.model.config)
        inputs["weights"] = inputs["weights"] * bool(places)
        if self.state.global_step < (self._batching.anneal_steps or 0):
            inputs["attention_mask"] = self._annealed(batch, inputs)
        return self._prepare_inputs(inputs)

    def _annealed(self, batch: dict[str, Tensor], inputs: dict[str, Any]) -> Tensor:
        """The attention mask [B, 1, T, T], opened as far as it should be at this step."""
        step, seen = self.state.global_step, inputs["attention_mask"]
        share = step / (self._batching.anneal_steps or 1)
        pairs = opened(batch["attention_mask"], self.args.seed, step, batch["row_ids"], share)
        row = torch.arange(batch["input_ids"].shape[1]).expand(len(seen), -1)
        return annealed(seen, inputs.get("position_ids", row), pairs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / COMPLETE).touch()


def held_out_loss(model: Any, examples: Sequence[Example]) -> np.ndarray:
    """The likelihood of each row, or its bound, divided by the response length: [R] nats per token, which are
    comparable between runs with the same objective."""
    nll = response_nll(model, examples, HELD_OUT_DRAWS, HELD_OUT_SEED)[:, 0]
    return nll / np.array([example.response_length for example in examples])


def pass_tokens(model: Any) -> float:
    """Fixed cost of a forward pass and its gradient, in tokens.

    A GPU could compute this many tokens while the kernels of a pass are launched: 1,800 for a model of 8 B parameters,
    and 100,000 for one of 135 M.
    """
    if model.device.type == "cpu":
        return PASS_TOKENS
    return LAUNCHES * model.config.num_hidden_layers * OPERATIONS / (4 * model.num_parameters())


def compile_layers(model: Any, folder: Path) -> None:
    """Compiles each layer of the decoder separately, for passes of any length.

    Args:
        folder: folder for compiled code, which is emptied first. A kill can leave an incomplete file, with which
            torch's own cache would fail from then on.

    Raises:
        TopengError: this machine cannot compile.
    """
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    try:
        torch.compile(torch.neg)(torch.ones(8, device=next(model.parameters()).device))
    except RuntimeError as error:
        raise TopengError(
            f"train.compile = true, but torch cannot compile here ({str(error).strip().splitlines()[0]}). Install a "
            "C++ compiler (g++), and Triton on a GPU, or leave the option out."
        ) from error
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):  # transformers' mark of a decoder layer
            layer.compile(dynamic=True)


class Progress(TrainerCallback):
    """Reports each step and its logged values."""

    def __init__(self, tell: Callable[[int, int, dict[str, float]], None]) -> None:
        """
        Args:
            tell: called with the step, the number of steps, and the logged values.
        """
        self._tell = tell

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self._tell(state.global_step, state.max_steps, logs or {})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell(state.global_step, state.max_steps, {})


def last_checkpoint(path: Path) -> Path | None:
    """The newest complete checkpoint."""
    whole = [file.parent for file in path.glob(f"checkpoint-*/{COMPLETE}")]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
