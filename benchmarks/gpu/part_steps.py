"""A training step of LLaDA-8B's shape: ours against the same `Trainer` with full logits, and what each option does."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import shapes
from bench import Bench
from ledger import Record
from training import adapt, equal_rows, stepper

from topeng.adapt.trainer import Batching, compile_layers
from topeng.text.tokens import Example

PASS_ROWS = 8
Step = Callable[[int], float]


def steps(bench: Bench) -> None:
    """Both variants on the same adapted model, in turn; then options of ours, one after the other."""
    adapted, product = adapt(shapes.random_model(bench)), bench.product_speed()
    equal, real = rows(bench)

    def make(variant: str, examples: Sequence[Example]) -> Step:
        batching = Batching(PASS_ROWS, sum(map(length_of, longest(examples))), "stratified", fill=False)
        return stepper(variant, adapted, examples, batching)

    ours = make("topeng bfloat16", equal)
    for name, examples in (("equal lengths", equal), ("real lengths", real)):
        pair = {variant: make(variant, examples) for variant in ("topeng bfloat16", "full logits bfloat16")}
        in_turn(bench, pair, name, examples, product)
    adapted.activation_checkpointing_enable()
    in_turn(bench, {"topeng bfloat16, activations recomputed": ours}, "equal lengths", equal, product)
    adapted.activation_checkpointing_disable()
    compile_layers(adapted, Path(tempfile.mkdtemp()))
    in_turn(bench, {"topeng bfloat16, compiled": ours}, "equal lengths", equal, product)


def rows(bench: Bench) -> tuple[list[Example], list[Example]]:
    """Rows of 512 tokens, and rows whose lengths are spread as the corpus' are (median 120), a third of each prompt."""
    count, most = (16, 64) if bench.small else (64, 512)
    equal = equal_rows(count, 1000)
    lengths = np.random.default_rng(1).lognormal(4.9, 0.8, count).clip(24, most).astype(int)
    return [cut(row, most) for row in equal], [cut(row, int(n)) for row, n in zip(equal, lengths, strict=True)]


def cut(row: Example, length: int) -> Example:
    return Example(row.row_id, row.input_ids[:length], length // 3)


def length_of(row: Example) -> int:
    return len(row.input_ids)


def longest(examples: Sequence[Example]) -> list[Example]:
    """As many as a pass may have."""
    return sorted(examples, key=length_of)[-PASS_ROWS:]


def in_turn(bench: Bench, variants: dict[str, Step], name: str, examples: Sequence[Example], product: float) -> None:
    """Times variants on the same steps, one after the other in each round; a variant that fails leaves the others."""
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float | None] = {}
    for variant, step in variants.items():
        bench.free_memory()
        try:
            step(0)
        except Exception as error:  # such as of memory
            bench.record(f"{variant}, {name}", {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"})
            continue
        seconds[variant], memory[variant] = [], bench.peak_gib()
    for number in range(1, 3 if bench.small else 6):
        for variant in seconds:
            began = time.perf_counter()
            variants[variant](number)  # reads its loss, and so waits for the device
            bench.synchronise()
            seconds[variant].append(time.perf_counter() - began)
    for variant, taken in seconds.items():
        bench.record(f"{variant}, {name}", figures(bench, taken, examples, memory[variant], product))


def figures(
    bench: Bench, taken: list[float], examples: Sequence[Example], memory: float | None, product: float
) -> Record:
    """Speed in tokens of the rows, padding not counted."""
    tokens = PASS_ROWS * statistics.mean(map(length_of, examples))
    masked = PASS_ROWS * statistics.mean(row.response_length for row in examples) / 2
    median = statistics.median(taken)
    operations = shapes.useful_operations(shapes.config(bench.small), tokens, masked)
    return {
        "tokens_per_second": tokens / median,
        "share_of_a_matrix_product": operations / median / product,
        "milliseconds": 1000 * median,
        "slowest_over_fastest": max(taken) / min(taken),
    } | ({} if memory is None else {"peak_memory_gib": memory})
