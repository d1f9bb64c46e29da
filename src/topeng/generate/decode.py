"""The one decoding loop: a canvas of masks after the prompt, committed block by block.

Shapes: B rows, P prompt positions, T = P + max_new_tokens, S positions of a block, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topeng.diffusion.noise import Use, row_generator
from topeng.errors import GenerationError
from topeng.generate.settings import Settings


@dataclass
class Canvas:
    """What a generation has so far.

    Attributes:
        tokens: [B, T], the prompt (padded on the left) and its answer; masks where nothing is committed.
        attention_mask: [B, T].
        prompt_length: P.
        forward_passes: of the model, so far.
    """

    tokens: Tensor
    attention_mask: Tensor
    prompt_length: int
    forward_passes: int = 0


def blank_canvas(input_ids: Tensor, attention_mask: Tensor, new_tokens: int, mask_token_id: int) -> Canvas:
    """A canvas of `new_tokens` masks after each prompt.

    Raises:
        GenerationError: a mask token stands in a prompt.
    """
    if (input_ids == mask_token_id).any():
        raise GenerationError(f"the prompt holds the mask token ({mask_token_id}): only the answer may be masked")
    answer = torch.full((len(input_ids), new_tokens), mask_token_id, device=input_ids.device)
    return Canvas(
        torch.cat([input_ids, answer], dim=1),
        torch.cat([attention_mask, torch.ones_like(answer)], dim=1).to(attention_mask.dtype),
        input_ids.shape[1],
    )


@torch.no_grad()
def denoise(model: Any, canvas: Canvas, settings: Settings) -> Iterator[Canvas]:
    """Fills a canvas in place, and yields it after each step.

    A step predicts every masked position of the current block and commits the k most confident predictions, k being
    the block's masks over its steps, the remainder going to the first steps (LLaDA, arXiv 2502.09992, algorithm 5).
    """
    mask_token_id, end_tokens = model.config.mask_token_id, _end_tokens(model)
    generators = _row_generators(canvas.tokens, settings)
    for start in range(canvas.prompt_length, canvas.tokens.shape[1], settings.block_length):
        block = slice(start, start + settings.block_length)
        for count in _commits(canvas.tokens[:, block] == mask_token_id, settings.steps_per_block):
            logits = _block_logits(model, canvas, block, settings.cfg_scale)
            logits[..., mask_token_id] = -torch.inf  # a mask is no answer
            noisy = _add_gumbel_noise(logits, settings.temperature, generators)
            tokens = noisy.argmax(dim=-1)  # [B, S]
            confidence = logits.softmax(dim=-1).gather(2, tokens[..., None]).squeeze(2)
            masked = canvas.tokens[:, block] == mask_token_id
            chosen = _top_k(confidence.masked_fill(~masked, -torch.inf), count) & masked
            canvas.tokens[:, block] = torch.where(chosen, tokens, canvas.tokens[:, block])
            yield canvas
        if settings.stop_at_end and _all_ended(canvas.tokens[:, canvas.prompt_length : block.stop], end_tokens):
            canvas.tokens[:, block.stop :] = model.config.eos_token_id
            return


def generate_ids(model: Any, input_ids: Tensor, attention_mask: Tensor | None, settings: Settings) -> Tensor:
    """Answers to a batch of prompts.

    Args:
        model: `logits` aligned with the input; `config.mask_token_id` is its mask.
        input_ids: [B, P], padded on the left.
        attention_mask: [B, P], 0 on padding; None where there is none.

    Returns:
        [B, P + max_new_tokens]: the prompts and their canvases, on the model's device.

    Raises:
        GenerationError: prompt and answer exceed the context, or a prompt holds a mask.
    """
    context = model.config.max_position_embeddings
    if input_ids.shape[1] + settings.max_new_tokens > context:
        raise GenerationError(
            f"a prompt of {input_ids.shape[1]} tokens and max_new_tokens = {settings.max_new_tokens} exceed "
            f"the model's context of {context}: shorten one of them"
        )
    device = next(model.parameters()).device
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    canvas = blank_canvas(input_ids.to(device), mask.to(device), settings.max_new_tokens, model.config.mask_token_id)
    for _ in denoise(model, canvas, settings):
        pass
    return canvas.tokens


def pad_left(prompts: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Prompts of unequal length as `input_ids` and `attention_mask`, both [B, P]."""
    longest = max(len(prompt) for prompt in prompts)
    input_ids = [[pad_token_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    attention_mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(input_ids), torch.tensor(attention_mask)


def _commits(masked: Tensor, steps: int) -> Iterator[Tensor]:
    """[B] tokens to commit at each step."""
    total = masked.sum(dim=1)
    for step in range(steps):
        yield total // steps + (step < total % steps)


def _block_logits(model: Any, canvas: Canvas, block: slice, cfg_scale: float) -> Tensor:
    """[B, S, V]; with guidance u + (s + 1)(c - u), the prompt being masked in u."""
    tokens, attention_mask = canvas.tokens, canvas.attention_mask
    if cfg_scale > 0:
        unconditional = tokens.clone()
        unconditional[:, : canvas.prompt_length] = model.config.mask_token_id
        tokens, attention_mask = torch.cat([tokens, unconditional]), torch.cat([attention_mask, attention_mask])
    where = torch.zeros_like(tokens, dtype=torch.bool)
    where[:, block] = True
    logits = model(input_ids=tokens, attention_mask=attention_mask, head_positions=where).logits
    canvas.forward_passes += 1
    logits = logits.view(len(tokens), -1, logits.shape[-1])
    if cfg_scale > 0:
        conditional, unconditional = logits.chunk(2)
        logits = unconditional + (cfg_scale + 1) * (conditional - unconditional)
    return logits.float()


def _add_gumbel_noise(logits: Tensor, temperature: float, generators: list[torch.Generator]) -> Tensor:
    """exp(logits) / (-log u)^T in float64: low precision lifts likelihood and harms quality (arXiv 2409.02908)."""
    if temperature == 0:
        return logits
    noise = [
        torch.rand(row.shape, dtype=torch.float64, device=row.device, generator=generator)
        for row, generator in zip(logits, generators, strict=True)
    ]
    return logits.double() - temperature * torch.log(-torch.log(torch.stack(noise)))


def _top_k(confidence: Tensor, count: Tensor) -> Tensor:
    """bool [B, S]: the `count` [B] most confident of each row, ties to the lowest index."""
    order = confidence.sort(dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return rank < count[:, None]


def _row_generators(tokens: Tensor, settings: Settings) -> list[torch.Generator]:
    seeds = [row_generator(Use.DECODING, settings.seed, 0, row).integers(2**32) for row in range(len(tokens))]
    return [torch.Generator(tokens.device).manual_seed(int(seed)) for seed in seeds]


def _end_tokens(model: Any) -> Tensor:
    """Those of the model's generation config, where `topeng.load` puts the end of turn beside the end of text."""
    ends = model.generation_config.eos_token_id
    return torch.tensor(ends if isinstance(ends, list) else [ends])


def _all_ended(answers: Tensor, end_tokens: Tensor) -> bool:
    return bool(torch.isin(answers, end_tokens.to(answers.device)).any(dim=1).all())
