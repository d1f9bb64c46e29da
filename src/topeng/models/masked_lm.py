"""What all families share: a vocabulary head that runs only where it is asked to.

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
"""Logits in memory at once: 64 MiB in fp32, 132 positions of LLaDA's vocabulary."""


@dataclass
class MaskedLMOutput(CausalLMOutputWithPast):
    """`token_nll` [N]: cross-entropy in nats at each head position, where targets were given."""

    token_nll: Tensor | None = None


def chunks(positions: int, vocabulary: int) -> Iterator[slice]:
    """Some positions at a time, so that their logits are at most `CHUNK_ELEMENTS`."""
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    for start in range(0, positions, rows):
        yield slice(start, start + rows)


def _dtype_of_products(weight: Tensor) -> torch.dtype:
    """What autocast multiplies a weight in, where it is active; the weight's own precision elsewhere."""
    kind = weight.device.type
    active = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if active else weight.dtype


class WeightedCrossEntropy(torch.autograd.Function):
    """Weighted cross-entropy of `hidden @ weight.T`, a chunk of positions at a time.

    Its gradient is taken in the forward pass, while a chunk's logits are at hand (as Liger-Kernel does, arXiv
    2410.10989): two products with the vocabulary under a frozen head, where recomputed logits would take three.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Of hidden [N, D], weight [V, D], targets and weights [N]: the loss, and [N] nats (fp32)."""
        need_hidden, need_weight, *_ = ctx.needs_input_grad
        hidden_grad = torch.zeros_like(hidden) if need_hidden else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        token_nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        head = weight.to(_dtype_of_products(weight))  # once: autocast would cast all of it for each chunk
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
    """Mixed in before a `transformers` config: attention looks both ways; `architectures` keeps its official name.

    Attributes:
        shifted: whether a position predicts the next token, where config.json does not say (`predicts_next`).
        block: `attention_block` of `models.attention`, where config.json does not say.
        mask: the mask token's id, where config.json does not say and the vocabulary goes so far.
        official: the family's own names of options, and those that the config has here.
        fixed: options with one value that the network can have.
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
        # Where the official code looks for them: it would take its own default else.
        if rope := options.pop("rope_parameters", None):
            names = ("rope_theta", "partial_rotary_factor")
            options |= {name: rope[name] for name in names if name in rope}
            scaling = {name: value for name, value in rope.items() if name not in names}
            options["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else scaling
        return options


def _attention(input_ids: Tensor | None, visible: Tensor | None, positions: Tensor | None, block: int) -> Tensor:
    """[B, 1, T, T] of block-causal attention, for a pass over whole rows."""
    assert input_ids is not None
    visible = torch.ones_like(input_ids) if visible is None else visible
    positions = visible.cumsum(dim=1).sub(1).clamp(min=0) if positions is None else positions
    return block_causal(visible.bool(), positions, positions, block)


class VocabularyHead(nn.Linear):
    """The head, D -> V, which can go on to the loss: what wraps it (FSDP) then has its weight whole when it is used.

    Its rows beyond `vocab_size` are padding, and no token's.
    """

    vocab_size: int

    def forward(self, hidden: Tensor, targets: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Logits; or with targets and weights [N] the weighted loss of hidden [N, D], and [N] nats."""
        if targets is None:
            return super().forward(hidden)
        weight = self.weight if torch.is_grad_enabled() else self.weight.detach()
        return WeightedCrossEntropy.apply(hidden, weight[: self.vocab_size], targets, weights)


class MaskedLMHead:
    """Mixed in before a `transformers` causal-LM class whose attention is made bidirectional by its config.

    Where a config has an `embedding_size`, embedding and head have so many rows; logits are of the vocabulary alone.

    Attributes:
        official_names: patterns of the official code's names of weights, and the names that the network has here.
        predicts_next: the network predicts the next position; logits are moved to the position that they are of.
        one_to_one: each weight of a checkpoint is one of the network's, under some name.
        fused: endings of official names of weights that are several of the network's, whose rows follow one another.
    """

    official_names: ClassVar[list[tuple[str, str]]] = []
    one_to_one: ClassVar[bool] = True
    fused: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, config: Any) -> None:
        vocab_size, config.vocab_size = config.vocab_size, getattr(config, "embedding_size", config.vocab_size)
        super().__init__(config)  # type: ignore[call-arg]
        self.vocab_size = config.vocab_size = vocab_size
        self.predicts_next = getattr(config, "predicts_next", False)
        # Padding is the end token, which is a word too: its embedding must learn.
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

        The loss is computed inside `forward`, so that PEFT, DDP and FSDP wrappers need no knowledge of the head.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 1 where a token may be looked at; padding may be on either side.
            head_positions: bool [B, T], where the vocabulary head runs (everywhere without it).
            targets: [N] token ids at the head positions, row by row; then no logits are returned.
            weights: [N] factor of each position in the loss; ones without it.
            noise_level: [B], the share of masks in what each row answers; adapters that depend on it read it.
            moved: logits are at the position that they are of. Else `head_positions` are those that predict, which is
                another where a position predicts the next one.

        Returns:
            `logits` [B, T, V], or [N, V] with `head_positions`; with `targets` instead
            `loss` = sum of `weights * token_nll`, and `token_nll` [N].
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
        """[N] nats under a head that carries an adapter of its own, as one that was trained elsewhere may."""
        nll = hidden.new_zeros(len(targets), dtype=torch.float32)
        for chunk in chunks(len(targets), self.vocab_size):
            logits = self.lm_head(hidden[chunk])[:, : self.vocab_size]  # type: ignore[attr-defined]
            nll[chunk] = functional.cross_entropy(logits.float(), targets[chunk], reduction="none")
        return nll
