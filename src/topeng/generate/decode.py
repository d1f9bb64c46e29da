"""The decoder: it fills rows block by block from left to right, each at its own pace.

Shapes: B rows of a canvas, R rows of a step, P prompt positions, T positions, S positions of a block, N masked
positions of the blocks, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from topeng.generate.cache import Passes
from topeng.generate.canvas import Canvas, blank_canvas
from topeng.generate.policies import Prediction, choose
from topeng.generate.row import BASE, Row, Voice, end_tokens
from topeng.generate.sampling import draw, guide, penalise_repetition
from topeng.generate.settings import Settings

ALIKE = (
    *("temperature", "top_p", "repetition_penalty", "suppressed_tokens", "min_new_tokens"),
    *("policy", "threshold", "factor", "entropy_bound"),
)
"""Settings that affect how tokens are chosen. Rows that share them are processed together."""


class Decoder:
    """Rows that are denoised together. They can join and leave between steps, and do not affect each other."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._passes: dict[Any, Passes] = {}

    def join(self, row: Row) -> None:
        """Adds a row, unless it has no masks and is therefore finished."""
        if not row.done:
            self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Removes an unfinished row for good."""
        self.rows.remove(row)
        row.close()

    @torch.no_grad()
    def step(self) -> list[Row]:
        """Runs one step of every row, and returns these rows. Finished rows are removed."""
        rows = self.rows
        alike: dict[Any, tuple[list[Row], list[Tensor]]] = {}
        for row, logits in self._logits(rows):
            key = id(row.voice.model), *(str(getattr(row.settings, name)) for name in ALIKE)
            members, theirs = alike.setdefault(key, ([], []))
            members.append(row)
            theirs.append(logits)
        for members, theirs in alike.values():
            _commit(members, torch.cat(theirs).float())
        self.rows = [row for row in rows if not row.done]
        self._passes = self._passes if self.rows else {}
        return rows

    def _logits(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Tensor]]:
        """Yields the logits [N, V] of each row. Rows whose adapters mix share a pass; other adapters have their own."""
        turns: dict[Any, list[Row]] = {}
        for row in rows:
            turn = id(row.voice.model), None if row.voice.mixes else row.voice.adapter
            turns.setdefault(turn, []).append(row)
        for turn, members in turns.items():
            views = [view for row in members for view in row.views]
            passes = self._passes.setdefault(turn, Passes())
            voice = members[0].voice
            with nullcontext() if voice.mixes else _taken(voice):
                found = iter(passes.logits(voice.model, views, **_names(views)))
            for row in members:
                logits = next(found)
                yield row, guide(logits, next(found), row.settings.cfg_scale) if row.settings.cfg_scale else logits


def denoise(model: Any, canvas: Canvas, settings: Settings, row_ids: Sequence[int] | None = None) -> Iterator[Canvas]:
    """Fills a canvas in place, and yields it after each step of its rows.

    A step predicts the masked positions in the current block of each row and commits those that the policy chooses.
    Committed tokens never change. A finished row is removed.

    Args:
        model: its `logits` are aligned with the input, and `config.mask_token_id` is its mask token.
        row_ids: number of each row, which seeds its noise; by default its position in the batch.

    Raises:
        GenerationError: the canvas exceeds the model's context, or a suppressed token is not in its vocabulary.
    """
    decoder = Decoder()
    for place, noise_id in enumerate(range(len(canvas.tokens)) if row_ids is None else row_ids):
        decoder.join(Row(canvas, place, Voice(model), settings, noise_id))
    while decoder.rows:
        decoder.step()
        canvas.forward_passes += 1
        yield canvas


def generate_ids(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    settings: Settings,
    row_ids: Sequence[int] | None = None,
) -> Tensor:
    """Generates an answer to each prompt of a batch.

    Args:
        model: its `logits` are aligned with the input, and `config.mask_token_id` is its mask token.
        input_ids: [B, P], padded on the left.
        attention_mask: [B, P], 0 on padding; None if there is no padding.
        row_ids: as in `denoise`.

    Returns:
        [B, P + max_new_tokens]: the prompts and their answers, on the model's device.

    Raises:
        GenerationError: prompt and answer exceed the context, or a prompt contains a mask token.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    canvas = blank_canvas(input_ids, mask, settings.max_new_tokens, model.config.mask_token_id)
    for _ in denoise(model, canvas, settings, row_ids):
        pass
    tokens = _end_tokens_only_after_the_end(model, canvas) if settings.stop_at_end else canvas.tokens
    return tokens.to(next(model.parameters()).device)


def _taken(voice: Voice) -> AbstractContextManager:
    """Activates only this adapter of the model."""
    if voice.adapter == BASE:
        return voice.model.disable_adapter()
    voice.model.set_adapter(voice.adapter)
    return nullcontext()


def _names(views: Iterable[Any]) -> dict[str, list[str]]:
    """The argument `adapter_names` of peft, if one of several adapters is named."""
    voices = [view.row.voice for view in views]
    if not any(voice.adapter and voice.mixes for voice in voices):
        return {}
    return {"adapter_names": [voice.adapter or BASE for voice in voices]}


def _commit(rows: list[Row], logits: Tensor) -> None:
    """Commits tokens in rows with the same settings, from the logits [N, V] of their masked positions, row by row."""
    settings, device = rows[0].settings, logits.device
    active = [row.active() for row in rows]
    places = [masked.nonzero().squeeze(1) for masked in active]
    noise = [(row.settings.seed, row.noise_step, row.noise_id) for row in rows]
    masked = torch.nn.utils.rnn.pad_sequence(active, batch_first=True)
    logits = _allowed(rows, places, logits)
    tokens = draw(logits, settings.temperature, settings.top_p, noise, active)
    probabilities = logits.softmax(dim=-1)
    confidence = probabilities.gather(1, tokens[:, None]).squeeze(1)
    share = torch.tensor([row.share for row in rows], device=device)
    on_device = masked.to(device)
    spread = torch.zeros(masked.shape, device=device).masked_scatter(on_device, confidence)
    chosen = choose(Prediction(probabilities, spread, on_device, share, noise), settings)[on_device].cpu()
    counts = list(map(len, places))
    parts = zip(
        rows, places, *(x.split(counts) for x in (chosen, tokens.cpu(), confidence.cpu(), probabilities)), strict=True
    )
    for row, own, mine, own_tokens, own_confidence, own_probabilities in parts:
        where = own[mine]
        if row.top:
            _note_alternatives(row, where + row.block.start, own_probabilities[mine.to(device)])
        row.commit(where, own_tokens[mine], own_confidence[mine])


def _note_alternatives(row: Row, where: Tensor, probabilities: Tensor) -> None:
    values, ids = (found.tolist() for found in probabilities.topk(row.top, dim=-1))
    for place, own, own_ids in zip(where.tolist(), values, ids, strict=True):
        row.alternatives[place] = list(zip(own_ids, own, strict=True))


def _allowed(rows: list[Row], places: list[Tensor], logits: Tensor) -> Tensor:
    """The logits [N, V], with -inf for tokens that may not be committed.

    Args:
        places: for each row, the places in its block that the logits belong to.
    """
    settings, ends, device = rows[0].settings, rows[0].ends.nonzero().squeeze(1), logits.device
    if settings.repetition_penalty != 1:
        seen = torch.stack([_seen(row) for row in rows]).to(device)  # [R, V], expanded to [N, V] on the device
        counts = torch.tensor(list(map(len, places)), device=device)
        seen = seen.repeat_interleave(counts, dim=0, output_size=len(logits))
        logits = penalise_repetition(logits, seen, settings.repetition_penalty)
    logits[:, [rows[0].voice.model.config.mask_token_id, *settings.suppressed_tokens]] = -torch.inf
    if settings.min_new_tokens:
        at = torch.cat([own + row.block.start - row.prompt_length for row, own in zip(rows, places, strict=True)])
        early = (at < settings.min_new_tokens).nonzero()
        logits[early.to(device), ends.to(device)] = -torch.inf
    return logits


def _seen(row: Row) -> Tensor:
    """bool [V]: tokens that the answer already contains, except end tokens, which may be repeated."""
    seen = torch.zeros_like(row.ends)
    seen[row.tokens[row.prompt_length :][~row.masked[row.prompt_length :]]] = True
    return seen & ~row.ends


def _end_tokens_only_after_the_end(model: Any, canvas: Canvas) -> Tensor:
    """The tokens [B, T], with EOS for everything that a block has committed after the first end token of a row."""
    is_end = torch.isin(canvas.tokens, end_tokens(model))
    is_end[:, : canvas.prompt_length] = False
    after = (is_end.cumsum(dim=1) - is_end.long()) > 0
    return canvas.tokens.masked_fill(after, model.config.eos_token_id)
