"""The one decoding loop: a canvas, committed block by block, from left to right.

Shapes: B rows, of which R are still open; P prompt positions, T positions, S positions of a block, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from topeng.errors import GenerationError
from topeng.generate.cache import BlockCache
from topeng.generate.canvas import Canvas, blank_canvas
from topeng.generate.policies import Prediction, choose
from topeng.generate.sampling import draw, guide, penalise_repetition
from topeng.generate.settings import Settings


@torch.no_grad()
def denoise(model: Any, canvas: Canvas, settings: Settings, row_ids: Sequence[int] | None = None) -> Iterator[Canvas]:
    """Fills a canvas in place, and yields it after each forward pass.

    A step predicts the masked positions of the current block and commits those that the policy chooses. What is
    committed stays. A row whose block is full sits out until the next; one that is done leaves.

    Args:
        model: `logits` aligned with the input; `config.mask_token_id` is its mask.
        row_ids: an identity of each row, from which its noise is made; its place in the batch without it.

    Raises:
        GenerationError: the canvas exceeds the model's context, or a suppressed token its vocabulary.
    """
    _check(model, canvas, settings)
    length = canvas.tokens.shape[1]
    ids = list(range(len(canvas.tokens)) if row_ids is None else row_ids)
    for start in range(canvas.prompt_length, length, settings.block_length):
        yield from _denoise_block(
            model, canvas, slice(start, min(start + settings.block_length, length)), settings, ids
        )


def generate_ids(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    settings: Settings,
    row_ids: Sequence[int] | None = None,
) -> Tensor:
    """Answers to a batch of prompts.

    Args:
        model: `logits` aligned with the input; `config.mask_token_id` is its mask.
        input_ids: [B, P], padded on the left.
        attention_mask: [B, P], 0 on padding; None where there is none.
        row_ids: as in `denoise`.

    Returns:
        [B, P + max_new_tokens]: the prompts and their answers, on the model's device.

    Raises:
        GenerationError: prompt and answer exceed the context, or a prompt holds a mask.
    """
    device = next(model.parameters()).device
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    canvas = blank_canvas(input_ids.to(device), mask.to(device), settings.max_new_tokens, model.config.mask_token_id)
    for _ in denoise(model, canvas, settings, row_ids):
        pass
    return _end_tokens_only_after_the_end(model, canvas) if settings.stop_at_end else canvas.tokens


def _check(model: Any, canvas: Canvas, settings: Settings) -> None:
    length, context = canvas.tokens.shape[1], model.config.max_position_embeddings
    if length > context:
        raise GenerationError(
            f"a prompt of {canvas.prompt_length} tokens and {length - canvas.prompt_length} new ones exceed the "
            f"model's context of {context}: shorten one of them"
        )
    for token in settings.suppressed_tokens:
        if not 0 <= token < model.config.vocab_size:
            raise GenerationError(
                f"suppressed_tokens has {token}, which is no token: they go from 0 to {model.config.vocab_size - 1}"
            )


def _denoise_block(
    model: Any, canvas: Canvas, block: slice, settings: Settings, row_ids: list[int]
) -> Iterator[Canvas]:
    rows = canvas.masked[:, block].any(dim=1).nonzero().squeeze(1)
    total = canvas.masked[:, block].sum(dim=1)
    visible = _visible(canvas, block, settings.window)
    cache = BlockCache(settings.cache, settings.refresh_interval, block, visible.shape[1], visible.device)
    ends = end_tokens(model)
    for step in count():
        open_rows = canvas.masked[rows, block].any(dim=1)
        if not open_rows.all():
            cache.keep_rows(open_rows.repeat(2) if settings.cfg_scale else open_rows)
            rows = rows[open_rows]
        if len(rows) == 0:
            return
        logits = _logits(model, canvas, rows, block, visible[rows], cache, settings)
        ids, at = [row_ids[row] for row in rows.tolist()], block.start - canvas.prompt_length + step
        tokens = draw(logits, settings.temperature, settings.top_p, settings.seed, at, ids)
        probabilities = logits.softmax(dim=-1)
        confidence = probabilities.gather(2, tokens[..., None]).squeeze(2)
        share = total[rows] // settings.steps_per_block + (step < total[rows] % settings.steps_per_block)
        prediction = Prediction(probabilities, confidence, canvas.masked[rows, block], share, at, ids)
        canvas.commit(rows, block, choose(prediction, settings), tokens, confidence)
        if settings.stop_at_end:
            canvas.close_ended(ends, model.config.eos_token_id)
        yield canvas


def _visible(canvas: Canvas, block: slice, window: int | None) -> Tensor:
    """bool [B, width]: all but padding and, with a window, the masks that stand further than it behind the block."""
    if window is None:
        return canvas.attention_mask
    far = torch.arange(canvas.tokens.shape[1], device=canvas.tokens.device) >= block.stop + window
    visible = canvas.attention_mask & ~(canvas.masked & far)
    return visible[:, : int(visible.any(dim=0).nonzero().max()) + 1]


def _logits(
    model: Any, canvas: Canvas, rows: Tensor, block: slice, visible: Tensor, cache: BlockCache, settings: Settings
) -> Tensor:
    """[R, S, V] in fp32, -inf where a token may not be committed."""
    tokens, mask_token_id = canvas.tokens[rows, : visible.shape[1]], model.config.mask_token_id
    if settings.cfg_scale:
        prompt = torch.arange(tokens.shape[1], device=tokens.device) < canvas.prompt_length
        tokens, visible = torch.cat([tokens, tokens.masked_fill(prompt, mask_token_id)]), visible.repeat(2, 1)
    logits = cache.block_logits(model, tokens, visible)
    if settings.cfg_scale:
        logits = guide(logits, settings.cfg_scale)
    logits = logits.float()
    if settings.repetition_penalty != 1:
        logits = penalise_repetition(logits, _seen(model, canvas, rows, logits.shape[-1]), settings.repetition_penalty)
    logits[..., [mask_token_id, *settings.suppressed_tokens]] = -torch.inf
    too_early = max(0, canvas.prompt_length + settings.min_new_tokens - block.start)
    logits[:, :too_early, end_tokens(model)] = -torch.inf
    return logits


def _seen(model: Any, canvas: Canvas, rows: Tensor, vocabulary: int) -> Tensor:
    """bool [R, V]: what the answers have already, end tokens apart: those may stand side by side."""
    answer = canvas.tokens[rows, canvas.prompt_length :].masked_fill(
        canvas.masked[rows, canvas.prompt_length :], model.config.mask_token_id
    )
    seen = torch.zeros(len(rows), vocabulary, dtype=torch.bool, device=answer.device).scatter_(1, answer, True)
    seen[:, end_tokens(model)] = False
    return seen


def end_tokens(model: Any) -> Tensor:
    """Those of the model's generation config, where `topeng.load` puts the end of turn beside the end of text."""
    ends = model.generation_config.eos_token_id
    return torch.tensor(ends if isinstance(ends, list) else [ends], device=next(model.parameters()).device)


def _end_tokens_only_after_the_end(model: Any, canvas: Canvas) -> Tensor:
    """[B, T]: what a block has committed behind a row's first end token becomes EOS."""
    is_end = torch.isin(canvas.tokens, end_tokens(model))
    is_end[:, : canvas.prompt_length] = False
    after = (is_end.cumsum(dim=1) - is_end.long()) > 0
    return canvas.tokens.masked_fill(after, model.config.eos_token_id)
