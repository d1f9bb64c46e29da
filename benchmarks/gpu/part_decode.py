"""Decoding at LLaDA-8B's shape: milliseconds of a pass by cache, batch and length; tokens per second by preset."""

import statistics
import time
from itertools import islice
from typing import Any

import shapes
import torch
from bench import Bench
from ledger import Record

from topeng.generate import Settings
from topeng.generate.canvas import blank_canvas
from topeng.generate.decode import denoise
from topeng.generate.settings import PRESETS

PROMPT = 128
PASSES = 8
"""Of a block of 32: the first computes what a cache keeps, the others read it."""


def decode(bench: Bench) -> None:
    """Weights are random: how sure a model is, and so how many tokens a pass commits, is not seen here."""
    model = shapes.random_model(bench)
    lengths, batches = ((64,), (1, 2)) if bench.small else ((512, 1024), (1, 16))
    for length in lengths:
        for batch in batches:
            for cache in ("none", "prefix", "dual"):
                settings = Settings(max_new_tokens=length, cache=cache)
                name = f"cache {cache}, batch {batch}, {length} new tokens"
                bench.attempt(name, lambda b=batch, s=settings: passes(bench, model, b, s), seconds=2)
    for preset, changes in PRESETS.items():
        settings = Settings(max_new_tokens=lengths[0], **changes)
        bench.attempt(f"preset {preset}", lambda s=settings: preset_speed(bench, model, s), seconds=2)


def canvas_of(bench: Bench, model: Any, batch: int, settings: Settings) -> Any:
    ids = torch.randint(16, 1000, (batch, PROMPT), generator=torch.Generator().manual_seed(0)).to(bench.device)
    return blank_canvas(ids, torch.ones_like(ids), settings.max_new_tokens, model.config.mask_token_id)


def passes(bench: Bench, model: Any, batch: int, settings: Settings) -> Record:
    """The last block but one is decoded: what stands before it is what a prefix cache keeps."""
    timed_passes(bench, model, batch, settings, 2)  # kernels are chosen and loaded
    first, *later = timed_passes(bench, model, batch, settings, PASSES)
    memory = bench.peak_gib()
    return {
        "milliseconds_of_the_first_pass": 1000 * first,
        "milliseconds_of_a_later_pass": 1000 * statistics.median(later),
    } | ({} if memory is None else {"peak_memory_gib": memory})


def timed_passes(bench: Bench, model: Any, batch: int, settings: Settings, count: int) -> list[float]:
    canvas = canvas_of(bench, model, batch, settings)
    known = canvas.tokens.shape[1] - 2 * settings.block_length
    canvas.tokens[:, PROMPT:known], canvas.masked[:, PROMPT:known] = 20, False
    seconds = []
    bench.synchronise()
    began = time.perf_counter()
    for _ in islice(denoise(model, canvas, settings), count):
        bench.synchronise()
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return seconds


def preset_speed(bench: Bench, model: Any, settings: Settings) -> Record:
    """Of the first two blocks of an answer."""
    canvas = canvas_of(bench, model, 1, settings)
    before = int(canvas.masked.sum())
    bench.synchronise()
    began = time.perf_counter()
    count = sum(1 for _ in islice(denoise(model, canvas, settings), 2 * settings.block_length))
    bench.synchronise()
    seconds = time.perf_counter() - began
    tokens = before - int(canvas.masked.sum())
    return {"tokens_per_second": tokens / seconds, "tokens_per_pass": tokens / count}
