"""`transformers.Trainer` with the diffusion loss: ours are the noise, the loss, the batches and the held-out loss."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from topeng.adapt.methods import group_rates
from topeng.diffusion import forward_process, loss_weights, response_nll
from topeng.errors import DivergenceError
from topeng.models import is_checkpoint, load_model
from topeng.text.batches import collate
from topeng.text.tokens import Example

COMPLETE = "complete"
"""A file that a checkpoint has once all of it is written."""
HELD_OUT_DRAWS = 4
"""Of the likelihood bound, a row: few, since the same noise serves every step, method and run."""


class DiffusionTrainer(Trainer):
    """Minimises `sft_loss` over the global batch. Shapes: B rows, T positions, N masked positions."""

    loss_is_scaled_for_ga = True  # by the rows of the global batch, not by its labels

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        examples: Sequence[Example],
        held_out: Sequence[Example],
        fill: bool,
        optimizer: torch.optim.Optimizer,
        progress: TrainerCallback,
    ) -> None:
        """
        Args:
            examples: to train on.
            held_out: rows whose likelihood bound is taken on fixed noise, at every evaluation.
            fill: the EOS policy pads a batch with supervised end tokens.
        """
        self._tokens = {"mask": model.config.mask_token_id, "eos": model.config.eos_token_id}
        super().__init__(
            model=model,
            args=args,
            train_dataset=list(examples),
            eval_dataset=list(held_out),
            data_collator=partial(collate, eos_token_id=self._tokens["eos"], fill=fill),
            optimizers=(optimizer, None),
            callbacks=[progress],
        )
        self.remove_callback(PrinterCallback)

    def fit(self, checkpoint: Path | None) -> None:
        """Trains to the end, from a whole checkpoint where there is one."""
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            if state.global_step >= state.max_steps:  # killed after its last step: `train` would take one more
                self._load_from_checkpoint(str(checkpoint))
                self.state = state
                return
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """A whole model's checkpoint has the official names, of which Trainer would read none, and go on regardless."""
        if not is_checkpoint(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        weights = load_model(resume_from_checkpoint, self.model.dtype, "cpu").state_dict()
        (model or self.model).load_state_dict(weights)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of a step, and the rows that they hold, over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(len(batch["row_ids"]) for batch in batches), device=device)
        return batches, self.accelerator.gather(rows).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share of the global batch's `sft_loss`, in nats."""
        masked, p = forward_process(inputs["response_mask"], self.args.seed, self.state.global_step, inputs["row_ids"])
        output = model(
            input_ids=inputs["input_ids"].masked_fill(masked, self._tokens["mask"]),
            attention_mask=inputs["attention_mask"],
            head_positions=masked,
            targets=inputs["input_ids"][masked],
            weights=loss_weights(masked, p, inputs["response_length"], num_items_in_batch),
        )
        if not torch.isfinite(output.loss):
            raise DivergenceError(
                f"the loss is {output.loss.item()} at step {self.state.global_step + 1}, rows "
                f"{inputs['row_ids'].tolist()}: lower train.learning_rate, or look at these rows"
            )
        return output.loss * self.accelerator.num_processes  # undoes DDP's mean over ranks

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, with the learning rates of A and B where each has its own."""
        if "learning_rate" in logs:
            logs |= group_rates(self.optimizer, logs["learning_rate"])
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The held-out loss: the likelihood bound in nats a token, on noise that depends on the seed and the row."""
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        loss = held_out_loss(model, self.eval_dataset, self._tokens["mask"], self._tokens["eos"], self.args.seed)
        metrics = {"eval_loss": float(loss.mean())}
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def held_out_loss(model: Any, examples: Sequence[Example], mask: int, eos: int, seed: int) -> np.ndarray:
    """Of each row, the likelihood bound over its response length, [R] nats a token: comparable between runs."""
    nll = response_nll(model, examples, mask, eos, HELD_OUT_DRAWS, seed)
    return nll / np.array([example.response_length for example in examples])


class Progress(TrainerCallback):
    """Tells each step and what was logged of it, and marks whole checkpoints."""

    def __init__(self, tell: Callable[[int, int, dict[str, float]], None]) -> None:
        """
        Args:
            tell: called with the step, all steps, and what was logged.
        """
        self._tell = tell

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self._tell(state.global_step, state.max_steps, logs or {})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell(state.global_step, state.max_steps, {})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def last_checkpoint(path: Path) -> Path | None:
    """The newest checkpoint that is whole."""
    whole = [file.parent for file in path.glob(f"checkpoint-*/{COMPLETE}")]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
