"""The common part of all families: a vocabulary head that only runs at the requested positions.

Shapes: B rows, T positions, N head positions, D width, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutputWithPast

from topeng.errors import ModelError
from topeng.models.attention import block_causal

CHUNK_ELEMENTS = 2**24
"""Number of logits in memory at once: 64 MiB in fp32, or 132 positions with LLaDA's vocabulary."""


@dataclass
class MaskedLMOutput(CausalLMOutputWithPast):
    """Output with `token_nll` [N], the cross-entropy in nats at each head position, if targets were given."""

    token_nll: Tensor | None = None


def chunks(positions: int, vocabulary: int) -> Iterator[slice]:
    """Divides positions into chunks with at most `CHUNK_ELEMENTS` logits."""
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    for start in range(0, positions, rows):
        yield slice(start, start + rows)


def _dtype_of_products(weight: Tensor) -> torch.dtype:
    """The precision in which a weight is multiplied: that of autocast if it is active, or the weight's own."""
    kind = weight.device.type
    active = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if active else weight.dtype


class WeightedCrossEntropy(torch.autograd.Function):
    """Weighted cross-entropy of `hidden @ weight.T`, one chunk of positions at a time.

    The gradient is computed in the forward pass while the logits of a chunk are in memory, as in Liger-Kernel (arXiv
    2410.10989). With a frozen head this takes two products with the vocabulary; recomputing logits would take three.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and nats [N] in fp32, of hidden [N, D], weight [V, D], targets and weights [N]."""
        need_hidden, need_weight, *_ = ctx.needs_input_grad
        hidden_grad = torch.zeros_like(hidden) if need_hidden else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        token_nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        head = weight.to(_dtype_of_products(weight))  # autocast would cast the whole weight for each chunk
        for chunk in chunks(len(targets), len(weight)):
            logits = functional.linear(hidden[chunk], head).float()
            log_p = torch.log_softmax(logits, dim=-1, out=logits)
            where = targets[chunk, None]
            token_nll[chunk] = -log_p.gather(1, where).squeeze(1)
            if hidden_grad is None and weight_grad is None:
                continue
            logits_grad = log_p.exp_().scatter_add_(1, where, torch.full_like(where, -1, dtype=log_p.dtype))
            logits_grad, factor = logits_grad.to(hidden.dtype), weights[chunk, None]
            if hidden_grad is not None:
                hidden_grad[chunk] = (logits_grad @ head) * factor
            if weight_grad is not None:
                weight_grad += logits_grad.T @ (hidden[chunk] * factor).to(hidden.dtype)
        ctx.grads = hidden_grad, None if weight_grad is None else weight_grad.to(weight.dtype)
        ctx.mark_non_differentiable(token_nll)
        return (token_nll * weights).sum(), token_nll

    @staticmethod
    def backward(ctx: Any, loss_grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if grad is None else grad * loss_grad for grad in ctx.grads), None, None


class Bidirectional:
    """Mixin before a `transformers` config, for bidirectional attention and the official name in `architectures`.

    Attributes:
        shifted: whether a position predicts the next token, if config.json does not say (`predicts_next`).
        block: `attention_block` of `models.attention`, if config.json does not say.
        mask: id of the mask token, if config.json does not say and the vocabulary contains it.
        official: the family's names of options, and our names.
        fixed: options for which the network only supports one value.
    """

    architecture: ClassVar[str]
    shifted: ClassVar[bool] = False
    block: ClassVar[int | None] = None
    mask: ClassVar[int | None] = None
    official: ClassVar[dict[str, str]] = {}
    fixed: ClassVar[dict[str, Any]] = {}

    def __post_init__(self, **options: Any) -> None:
        for name, value in self.fixed.items():
            if options.get(name, value) != value:
                raise ModelError(
                    f"config.json has {name} = {options[name]!r}, but Topeng's network for {self.architecture} has "
                    f"{value!r}. A checkpoint with another value cannot be loaded."
                )
        for name, ours in self.official.items():
            if name in options:
                setattr(self, ours, options.pop(name))
        mask_token_id = options.pop("mask_token_id", None)
        self.predicts_next = bool(options.pop("predicts_next", self.shifted))
        self.attention_block = options.pop("attention_block", vars(self).get("attention_block", self.block))
        super().__post_init__(**options)  # type: ignore[misc]
        if mask_token_id is None and self.mask is not None and self.mask < self.vocab_size:  # type: ignore[attr-defined]
            mask_token_id = self.mask
        self.mask_token_id, self.is_causal, self.architectures = mask_token_id, False, [self.architecture]

    def to_dict(self) -> dict[str, Any]:
        options = super().to_dict()  # type: ignore[misc]
        options.pop("is_causal", None)
        if self.predicts_next == self.shifted:
            options.pop("predicts_next", None)
        if self.attention_block == self.block and "attention_block" not in self.official.values():
            options.pop("attention_block", None)
        for name, ours in self.official.items():
            options[name] = options.pop(ours, None)
        # where the official code expects them; otherwise it would use its own defaults
        if rope := options.pop("rope_parameters", None):
            names = ("rope_theta", "partial_rotary_factor")
            options |= {name: rope[name] for name in names if name in rope}
            scaling = {name: value for name, value in rope.items() if name not in names}
            options["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else scaling
        return options


def _attention(input_ids: Tensor | None, visible: Tensor | None, positions: Tensor | None, block: int) -> Tensor:
    """The mask [B, 1, T, T] of block-causal attention, for a pass over whole rows."""
    assert input_ids is not None
    visible = torch.ones_like(input_ids) if visible is None else visible
    positions = visible.cumsum(dim=1).sub(1).clamp(min=0) if positions is None else positions
    return block_causal(visible.bool(), positions, positions, block)


class VocabularyHead(nn.Linear):
    """The head, D -> V. It can also compute the loss, so that a wrapper such as FSDP has gathered its weight by then.

    Rows beyond `vocab_size` are padding, and belong to no token.
    """

    vocab_size: int

    def forward(self, hidden: Tensor, targets: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Logits or, with targets and weights [N], the weighted loss of hidden [N, D] and nats [N]."""
        if targets is None:
            return super().forward(hidden)
        weight = self.weight if torch.is_grad_enabled() else self.weight.detach()
        return WeightedCrossEntropy.apply(hidden, weight[: self.vocab_size], targets, weights)


class MaskedLMHead:
    """Mixin before a causal-LM class of `transformers`, whose config makes its attention bidirectional.

    If a config has `embedding_size`, embedding and head have this many rows. Logits only cover the vocabulary.

    Attributes:
        official_names: patterns of official names of weights, and our names.
        predicts_next: whether the network predicts the next position. Logits are then moved to the position that they
            are about.
        one_to_one: whether each weight of a checkpoint corresponds to one of the network.
        fused: endings of official names of weights that contain the rows of several of the network's weights.
    """

    official_names: ClassVar[list[tuple[str, str]]] = []
    one_to_one: ClassVar[bool] = True
    fused: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, config: Any) -> None:
        vocab_size, config.vocab_size = config.vocab_size, getattr(config, "embedding_size", config.vocab_size)
        super().__init__(config)  # type: ignore[call-arg]
        self.vocab_size = config.vocab_size = vocab_size
        self.predicts_next = getattr(config, "predicts_next", False)
        # Padding is the end token, whose embedding must be trained.
        self.get_input_embeddings().padding_idx = None  # type: ignore[attr-defined]
        head = self.get_output_embeddings()  # type: ignore[attr-defined]
        head.__class__, head.vocab_size = VocabularyHead, vocab_size

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        head_positions: Tensor | None = None,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        noise_level: Tensor | None = None,
        moved: bool = True,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits aligned with the input, or the weighted loss at some positions.

        The loss is computed inside `forward`, so that wrappers of PEFT, DDP and FSDP need not know about the head.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 1 where a token is visible. Padding may be on either side.
            head_positions: bool [B, T], where the vocabulary head runs, by default everywhere.
            targets: [N] token ids at the head positions, row by row. If given, no logits are returned.
            weights: [N] factor of each position in the loss, by default 1.
            noise_level: [B], the share of masks in the answer of each row, for adapters that depend on it.
            moved: whether logits are at the position that they are about. Otherwise `head_positions` are the positions
                that predict, which differ if a position predicts the next token.

        Returns:
            `logits` [B, T, V], or [N, V] with `head_positions`. With `targets`, `loss` = sum of `weights * token_nll`
            and `token_nll` [N] instead.
        """
        kwargs.setdefault("use_cache", kwargs.get("past_key_values") is not None)  # else all keys and values are kept
        block = getattr(self.config, "attention_block", None)  # type: ignore[attr-defined]
        if block and (attention_mask is None or attention_mask.ndim == 2):
            attention_mask = _attention(input_ids, attention_mask, kwargs.get("position_ids"), block)
        if targets is None and not (self.predicts_next and moved):
            kwargs |= {} if head_positions is None else {"logits_to_keep": head_positions}
            output = super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)  # type: ignore[misc]
            output.logits = output.logits[..., : self.vocab_size]
            return output
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state  # type: ignore[attr-defined]
        if self.predicts_next and moved:
            hidden = torch.cat([hidden[:, :1], hidden[:, :-1]], dim=1)
        if targets is None:
            logits = self.lm_head(hidden if head_positions is None else hidden[head_positions])  # type: ignore[attr-defined]
            return MaskedLMOutput(logits=logits[..., : self.vocab_size])
        hidden = hidden.flatten(0, 1) if head_positions is None else hidden[head_positions]  # [N, D]
        weights = torch.ones(targets.shape, device=hidden.device) if weights is None else weights
        if isinstance(self.lm_head, VocabularyHead):  # type: ignore[attr-defined]
            loss, token_nll = self.lm_head(hidden, targets, weights)  # type: ignore[attr-defined]
            return MaskedLMOutput(loss=loss, token_nll=token_nll)
        token_nll = self._adapted_nll(hidden, targets)
        return MaskedLMOutput(loss=(token_nll * weights).sum(), token_nll=token_nll)

    def _adapted_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Nats [N] with a head that has its own adapter, as adapters that were trained elsewhere may."""
        nll = hidden.new_zeros(len(targets), dtype=torch.float32)
        for chunk in chunks(len(targets), self.vocab_size):
            logits = self.lm_head(hidden[chunk])[:, : self.vocab_size]  # type: ignore[attr-defined]
            nll[chunk] = functional.cross_entropy(logits.float(), targets[chunk], reduction="none")
        return nll
