"""What rows gain from sharing forward passes on this machine, and what a batch changes about them.

    python benchmarks/batches.py                     # kecil, in float32 and in bfloat16
    python benchmarks/batches.py --model CHECKPOINT

For each precision and number of rows: milliseconds of processor time per row of a decoding step, and of the forward
pass in it, each the least of all steps, because other work on a machine only adds to it. `bound` is what a batch could
gain at most: a step of one row against the forward pass alone, per row of the largest batch. Then each row is decoded
alone and with all others, under `cache: prefix`: the largest difference between its logits, in a pass over all and in
one with kept keys and values, the answers that differ, and how far apart the two confidences were where they first do.
Writes JSON with `--out`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine

import topeng
from topeng.generate import Settings
from topeng.generate.answer import prompt_canvas
from topeng.generate.cache import Passes
from topeng.generate.decode import Decoder
from topeng.generate.row import Row, Voice
from topeng.text.chat import encode_prompt

QUESTIONS = ("What is rain?", "Name a colour.", "Siapa namamu?", "Tell me a story about a cat and a house by the sea.")
SETTINGS = Settings(max_new_tokens=64, block_length=32)
CACHED = Settings(max_new_tokens=64, block_length=32, cache="prefix")


class Timed:
    """Processor time of a model's forward passes."""

    def __init__(self, model: Any) -> None:
        self.seconds, self.forward, model.forward = 0.0, model.forward, self

    def __call__(self, *args: Any, **values: Any) -> Any:
        started = time.thread_time()
        output = self.forward(*args, **values)
        self.seconds += time.thread_time() - started
        return output


def rows(model: Any, tokenizer: Any, count: int, how: Settings = SETTINGS) -> list[Row]:
    made = []
    for place in range(count):
        question = f"{QUESTIONS[place % len(QUESTIONS)]} {place}"
        canvas = prompt_canvas(model, [encode_prompt(tokenizer, [{"role": "user", "content": question}])], how)
        made.append(Row(canvas, 0, Voice(model), how, place))
    return made


def decode(asked: Sequence[Row], timed: Timed) -> list[tuple[float, float]]:
    """Seconds per row of each step and of its forward pass."""
    decoder, taken = Decoder(), []
    for row in asked:
        decoder.join(row)
    while decoder.rows:
        count, timed.seconds, started = len(decoder.rows), 0.0, time.thread_time()
        decoder.step()
        taken.append(((time.thread_time() - started) / count, timed.seconds / count))
    return taken


@torch.no_grad()
def logits_apart(model: Any, some: Sequence[Row], others: Sequence[Row]) -> dict[str, float]:
    """The largest difference between the logits of rows in a batch and those of the same rows alone."""
    passes, own = Passes(), [Passes() for _ in others]
    apart = {}
    for kind in ("all", "kept"):  # the second pass takes what the first one has kept
        together = passes.logits(model, [row.views[0] for row in some])
        alone = [each.logits(model, row.views)[0] for each, row in zip(own, others, strict=True)]
        apart[kind] = max(float((one - other).abs().max()) for one, other in zip(together, alone, strict=True))
    return apart | {"largest_logit": max(float(one.abs().max()) for one in alone)}


def committed(row: Row, step: int) -> dict[tuple[int, int], float]:
    """Place and token -> confidence."""
    places = (row.committed_at == step).nonzero().flatten().tolist()
    return {(place, int(row.tokens[place])): float(row.confidence[place]) for place in places}


def first_difference(one: Row, other: Row) -> float | None:
    """How far apart the confidences of two rows are in the first step in which they commit otherwise."""
    for step in range(1, int(one.passes) + 1):
        mine, theirs = committed(one, step), committed(other, step)
        if mine.keys() != theirs.keys():
            return abs(max(mine.values()) - max(theirs.values()))
    return None


def measure(name: str, dtype: torch.dtype, counts: Sequence[int]) -> dict[str, Any]:
    model, tokenizer = topeng.load(name, dtype=dtype, device="cpu")
    timed, most = Timed(model), max(counts)
    steps = {count: decode(rows(model, tokenizer, count), timed) for count in counts}
    alone, together = (rows(model, tokenizer, most, CACHED) for _ in range(2))
    for row in alone:
        decode([row], timed)
    decode(together, timed)
    differ = [pair for pair in zip(alone, together, strict=True) if not torch.equal(pair[0].tokens, pair[1].tokens)]
    apart = sorted(gap for pair in differ if (gap := first_difference(*pair)) is not None)
    least = {count: [1000 * min(values) for values in zip(*taken, strict=True)] for count, taken in steps.items()}
    return {
        "ms_per_row": {
            count: {"step": round(step, 2), "forward": round(own, 2)} for count, (step, own) in least.items()
        },
        "gain": round(least[1][0] / least[most][0], 2),
        "bound": round(least[1][0] / least[most][1], 2),
        "logits_apart": logits_apart(model, *(rows(model, tokenizer, most, CACHED) for _ in range(2))),
        "answers_that_differ": f"{len(differ)} of {most}",
        "confidences_apart": [round(gap, 5) for gap in apart],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kecil")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16], help="from 1 on, the most last")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write JSON")
    known = parser.parse_args()
    torch.set_num_threads(known.threads)
    figures: dict[str, Any] = machine() | {"model": Path(known.model).name, "threads": known.threads}
    figures |= {str(dtype): measure(known.model, dtype, known.rows) for dtype in (torch.float32, torch.bfloat16)}
    print(json.dumps(figures, indent=1))
    if known.out:
        known.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
