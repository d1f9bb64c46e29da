"""Distillation of a converted base from a frozen copy with causal attention, which predicts the masked tokens.

OPDLM (arXiv 2606.06712) distils text that the student wrote. Here the text is that of the rows.
Shapes: B rows, T positions, N masked positions, V tokens of the vocabulary.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topeng.errors import ModelError
from topeng.models.attention import attend
from topeng.models.masked_lm import MaskedLMOutput


@dataclass(frozen=True)
class Distillation:
    """
    Attributes:
        teacher: a causal model that predicts the next token.
        weight: share of the loss that is cross-entropy with the distributions of the teacher instead of the tokens.
    """

    teacher: Any
    weight: float

    def __call__(self, model: Any, inputs: dict[str, Tensor]) -> MaskedLMOutput:
        """The result of `model(**inputs)`, but with the combined loss. `token_nll` only counts the tokens.

        Args:
            inputs: arguments from a masked `training_pass`.
        """
        targets, masked, visible = inputs["targets"], inputs["head_positions"], inputs["attention_mask"]
        noisy = {name: value for name, value in inputs.items() if name not in ("targets", "weights")}
        log_p = torch.log_softmax(model(**noisy).logits.float(), dim=-1)  # [N, V]
        token_nll = -log_p.gather(1, targets[:, None])[:, 0]
        with torch.no_grad():
            clean = inputs["input_ids"].masked_scatter(masked, targets)
            logits = self.teacher(input_ids=clean, attention_mask=visible, head_positions=masked).logits
            expected = torch.softmax(logits.float(), dim=-1)
        soft = -(expected * log_p).sum(dim=-1)
        loss = ((1 - self.weight) * token_nll + self.weight * soft) * inputs["weights"]
        return MaskedLMOutput(loss=loss.sum(), token_nll=token_nll)


def teacher_of(model: Any) -> Any:
    """A frozen copy of a converted model with causal attention, as before its conversion.

    Raises:
        ModelError: the model does not predict the next token, as a causal model does.
    """
    if not model.config.predicts_next:
        raise ModelError(
            "base.tiny.distillation_weight needs a base that still predicts the next token, but each position of "
            "this one predicts its own. Convert a causal model with base.shift: true, or leave the option out."
        )
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    attend(teacher, attention_block=1, predicts_next=True)
    return teacher
