"""The state of one answer while it is decoded. Shapes: T positions, S positions of a block."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from topeng.errors import GenerationError
from topeng.generate.canvas import Canvas
from topeng.generate.settings import Settings


@dataclass(frozen=True)
class Voice:
    """The model that answers: the plain base, or one of its loaded adapters.

    Attributes:
        adapter: its name in peft, or `__base__` for the base among several adapters.
        mixes: whether rows of other adapters may share its passes (peft's `adapter_names`).
    """

    model: Any
    adapter: str | None = None
    mixes: bool = True


BASE = "__base__"
"""Name that peft gives to the base among several adapters."""


class Row:
    """A row of a canvas, without the padding before it. Steps fill it in place.

    Attributes:
        tokens, masked, committed_at, confidence: [T], views of the canvas.
        attended: bool [T], false on padding.
        prompt_length: where blocks begin.
        noise_id: seeds its noise, together with the seed of its settings.
        block: the block that is being filled.
        step: step of the block, from 0.
        visible: bool [W], the positions that are visible from this block, up to the last one.
        looks: which positions its model attends to.
        alternatives: ids and probabilities of the `top` likeliest tokens when a token was committed, by its place.
    """

    def __init__(
        self, canvas: Canvas, place: int, voice: Voice, settings: Settings, noise_id: int = 0, top: int = 0
    ) -> None:
        """
        Raises:
            GenerationError: the row exceeds the model's context, or a suppressed token is not in its vocabulary.
        """
        start = int(canvas.attention_mask[place].int().argmax())
        self.tokens, self.masked = canvas.tokens[place, start:], canvas.masked[place, start:]
        self.committed_at, self.confidence = canvas.committed_at[place, start:], canvas.confidence[place, start:]
        self.attended, self.prompt_length = canvas.attention_mask[place, start:], canvas.prompt_length - start
        self.passes = canvas.passes[place]
        self.voice, self.settings, self.noise_id, self.top = voice, settings, noise_id, top
        self.looks = looks_of(voice.model)
        self.ends = torch.isin(torch.arange(voice.model.config.vocab_size), end_tokens(voice.model))
        self.alternatives: dict[int, list[tuple[int, float]]] = {}
        self._check()
        self.views = [View(self), View(self, unconditional=True)] if settings.cfg_scale else [View(self)]
        self.block, self.step, self.visible, self._total = slice(0, 0), 0, self.attended, 0
        self.open_block()

    def _check(self) -> None:
        config, length = self.voice.model.config, len(self.tokens)
        if length > config.max_position_embeddings:
            raise GenerationError(
                f"a prompt of {self.prompt_length} tokens and {length - self.prompt_length} new tokens exceed the "
                f"model's context of {config.max_position_embeddings}. Shorten the prompt, or lower max_new_tokens."
            )
        if self.looks.next and bool(self.masked[0]):
            raise GenerationError(
                "this model predicts each token from the one before. Begin with a token that is given."
            )
        for token in self.settings.suppressed_tokens:
            if not 0 <= token < config.vocab_size:
                raise GenerationError(
                    f"suppressed_tokens has {token}, which is not a token id. Ids are 0 to {config.vocab_size - 1}."
                )

    @property
    def done(self) -> bool:
        return self.block.start == len(self.tokens)

    @property
    def noise_step(self) -> int:
        first = 0 if self.looks.block else self.prompt_length
        return self.block.start - first + self.step

    @property
    def share(self) -> int:
        """Masks of the block divided by its steps. The first steps get the remainder."""
        steps = self.settings.steps_per_block
        if self.looks.block and self.settings.steps is not None:
            steps = max(1, self.settings.steps * self.looks.block // self.settings.max_new_tokens)
        elif self.looks.block:
            steps = self._total
        return self._total // steps + (self.step < self._total % steps)

    @property
    def noise_level(self) -> float:
        """The share of masks in the visible part of the answer, which is all of it without a window."""
        seen = self.visible[self.prompt_length :]
        return int((self.masked[self.prompt_length : len(self.visible)] & seen).sum()) / int(seen.sum())

    def active(self) -> Tensor:
        """bool [S]: the positions of the block that are still masked."""
        return self.masked[self.block]

    def open_block(self) -> None:
        """Moves to the first block with masks, or past the end if there is none."""
        masked = self.masked.nonzero()
        if not len(masked):
            self.block = slice(len(self.tokens), len(self.tokens))
            self.close()
            return
        length = self.looks.block or self.settings.block_length
        first = 0 if self.looks.block else self.prompt_length
        start = first + (int(masked[0]) - first) // length * length
        self.block, self.step = slice(start, min(start + length, len(self.tokens))), 0
        self._total = int(self.active().sum())
        self.visible = self._visible()
        for view in self.views:
            if not self.looks.block:  # otherwise the cache of finished blocks stays valid
                view.kept = None

    def close(self) -> None:
        """Frees the caches of a finished row at once, instead of when Python next collects cycles."""
        self.views = []

    def commit(self, chosen: Tensor, tokens: Tensor, confidence: Tensor) -> None:
        """Ends a step: commits `tokens` [N] at the `chosen` places [N] of the block."""
        where = chosen + self.block.start
        self.passes += 1
        self.step += 1
        self.tokens[where], self.confidence[where], self.committed_at[where] = tokens, confidence, self.passes
        self.masked[where] = False
        if self.settings.stop_at_end:
            self._close_ended()
        if not self.active().any():
            self.open_block()

    def _close_ended(self) -> None:
        """Fills the row with EOS if nothing is masked before an end token, because its text is then final."""
        answer, masked = self.tokens[self.prompt_length :], self.masked[self.prompt_length :]
        if (self.ends[answer] & (masked.cumsum(dim=0) == 0)).any():
            answer[masked] = self.voice.model.config.eos_token_id
            masked[:] = False

    def _visible(self) -> Tensor:
        """All positions except padding and, with a window, masks that are further than it after the block."""
        if self.looks.block:
            return self.attended[: self.block.stop]
        if self.settings.window is None:
            return self.attended
        far = torch.arange(len(self.tokens)) >= self.block.stop + self.settings.window
        visible = self.attended & ~(self.masked & far)
        return visible[: int(visible.nonzero().max()) + 1]


class Looks(NamedTuple):
    """Which positions a model attends to (`models.attention`).

    Attributes:
        block: length of the blocks between which attention is causal, so that finished ones can be cached exactly. 0 if
            the model attends to all positions.
        next: whether a position predicts the next token.
    """

    block: int
    next: bool


def looks_of(model: Any) -> Looks:
    return Looks(getattr(model.config, "attention_block", None) or 0, bool(getattr(model, "predicts_next", False)))


@dataclass(eq=False)
class View:
    """The part of a row that a model sees: all of it or, for guidance, only its answer.

    Attributes:
        kept: keys and values [L, 2, H, K, D] of `kept_columns` from some step of the block, or None.
    """

    row: Row
    unconditional: bool = False
    kept: Tensor | None = None
    kept_columns: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    age: int = 0

    def tokens(self, mask_token_id: int) -> Tensor:
        """[W]."""
        tokens = self.row.tokens[: len(self.row.visible)]
        if self.unconditional:
            tokens = tokens.clone()
            tokens[: self.row.prompt_length] = mask_token_id
        return tokens

    @property
    def inputs(self) -> int:
        """Number of columns that a pass needs. A token that only itself would attend to can be left out."""
        return len(self.row.visible) - (self.row.looks == Looks(1, True))

    def columns_to_keep(self) -> Tensor:
        """Columns whose keys and values the row's cache keeps, or none without a cache.

        The position that predicts the first token of the block is computed in each step, like those of the block.
        Blocks of one token only have one step.
        """
        columns, looks = torch.arange(len(self.row.visible)), self.row.looks
        before, after = self.row.block.start - (looks.next and looks.block != 1), self.row.block.stop
        if looks.block:
            return columns[: max(0, before)]
        kept = {"none": columns < 0, "prefix": columns < before, "dual": (columns < before) | (columns >= after)}
        return columns[kept[self.row.settings.cache]]


def end_tokens(model: Any) -> Tensor:
    """The end tokens in the model's generation config, to which `topeng.load` adds the end of turn."""
    ends = model.generation_config.eos_token_id
    return torch.tensor(ends if isinstance(ends, list) else [ends])
