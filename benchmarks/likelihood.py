"""The likelihood bound: coverage, pairing, cost against the reference's estimator; and answers in batches.

    python benchmarks/likelihood.py                            # all parts
    python benchmarks/likelihood.py --part cost --rows 4       # one of coverage, pairing, cost, answers; fewer rows
    python benchmarks/likelihood.py --minutes 0.1              # answers: so long, some rows after the others

coverage  intervals of `monte_carlo_error` against the exact bound: a tiny random model, answers of 3 to 10 tokens
pairing   two adapters: the variance of their difference with shared and with independent masks
cost      seconds times variance, against LLaDA's `get_log_likelihood.py` as it stands: 128 draws a row in batches of
          copies of that row, full logits; of the mean over these rows, and of the mean over all rows like them
answers   LLaDA's sampler (one row, whole canvas, full logits, one token a pass), then `topeng.generate.answer` by steps

Real rows of SHARED with answers of 8 to 64 tokens; the model is kecil-en, adapted by a short LoRA training where target
rows are scored. Variants run in one process, in turn. `benchmarks/likelihood.json` keeps the figures by part.
"""

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from machine import machine
from torch.nn.functional import cross_entropy
from transformers import TrainingArguments

from topeng.adapt import methods
from topeng.adapt.tiny import new_model, tiny_config
from topeng.adapt.trainer import Batching, DiffusionTrainer, Progress
from topeng.diffusion import monte_carlo_error, response_nll
from topeng.generate import Settings
from topeng.generate.answer import answers
from topeng.models import load_model, load_tokenizer
from topeng.recipe import AdapterOptions, TinyOptions
from topeng.text.chat import decode_answer, encode_prompt
from topeng.text.tokens import Example, tokenize_rows

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"
MASK, EOS = 2, 1
DRAWS, REPLICATES = 4, 2
REFERENCE_DRAWS, REFERENCE_BATCH = 128, 16
NEW_TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="all without it")
    parser.add_argument("--shared", type=Path, default=SHARED, help="a folder with data/ and models/")
    parser.add_argument("--rows", type=int, default=12, help="of pairing and cost")
    parser.add_argument("--repetitions", type=int, default=200, help="of coverage")
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=4, help="until when another group of answers is begun")
    parser.add_argument("--out", type=Path, default=HERE / "likelihood.json")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for part in options.part or PARTS:
        figures = PARTS[part](options)
        print(f"{part}\n{json.dumps(figures, indent=1)}", flush=True)
        known = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.write_text(json.dumps(known | {part: machine() | figures}, indent=1) + "\n")


def coverage(options: argparse.Namespace) -> dict[str, Any]:
    """How often the 95 % interval holds the exact mean, at several draws and replicates."""
    model = tiny_model()
    rows = [Example(row, [0, 9, *range(20, 23 + row)], 2) for row in range(8)]  # answers of 3 to 10 tokens
    exact = float((response_nll(model, rows, MASK, EOS, 2**10, 0)[:, 0] / lengths(rows)).mean())
    count, found = options.repetitions, {}
    for draws, replicates in ((4, 2), (8, 2), (8, 4), (16, 4)):
        repeated = [replace(row, row_id=len(rows) * k + row.row_id) for k in range(count) for row in rows]
        nats = response_nll(model, repeated, MASK, EOS, draws, 0, replicates) / lengths(repeated)[:, None]
        errors = [monte_carlo_error(part) for part in np.split(nats, count)]
        means = [error["mean"] for error in errors]
        found[f"{draws} draws, {replicates} replicates"] = {
            "covered": float(np.mean([error["low"] <= exact <= error["high"] for error in errors])),
            "mean_less_exact_in_standard_errors": float(
                (np.mean(means) - exact) / np.std(means, ddof=1) * np.sqrt(count)
            ),
            "standard_error_over_spread": float(
                np.sqrt(np.mean([error["standard_error"] ** 2 for error in errors])) / np.std(means, ddof=1)
            ),
            "degrees_of_freedom": statistics.median(error["degrees_of_freedom"] for error in errors),
        }
    return {"rows": len(rows), "repetitions": count, "exact_nats_per_token": exact, "designs": found}


def pairing(options: argparse.Namespace) -> dict[str, Any]:
    """Variance of LoRA less PiSSA, over replicates of four draws each: target and source rows."""
    adapted, other, found = adapted_model(options.shared, "lora"), adapted_model(options.shared, "pissa"), {}
    for language in ("target", "source"):
        rows = some_rows(options.shared, language, options.rows)
        replicates = 16
        first, second = (
            response_nll(model, rows, MASK, EOS, 4 * replicates, 0, replicates) / lengths(rows)[:, None]
            for model in (adapted, other)
        )
        shared = (first - second).var(axis=1, ddof=1)
        independent = (first - np.roll(second, 1, axis=1)).var(axis=1, ddof=1)
        found[language] = {
            "rows": len(rows),
            "difference_nats_per_token": float((first - second).mean()),
            "shared_over_independent": float(shared.sum() / independent.sum()),
            "shared_over_independent, rows": sorted(np.round(shared / independent, 3).tolist()),
        }
    return found


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and variance of the mean nats a token, and their product, of the reference's estimator over ours."""
    model, found = load_base(options.shared), {}
    for language in ("source", "target"):
        rows = some_rows(options.shared, language, options.rows)
        started = time.perf_counter()
        reference = np.stack([reference_nll(model, row) for row in rows]) / lengths(rows)[:, None]
        middle = time.perf_counter()
        response_nll(model, rows, MASK, EOS, DRAWS, 0, REPLICATES)
        seconds = {"reference": middle - started, "topeng": time.perf_counter() - middle}
        many = 16 * REPLICATES  # as many draws as the reference's: only to know the variance well
        nats = response_nll(model, rows, MASK, EOS, many * DRAWS // REPLICATES, 0, many) / lengths(rows)[:, None]
        variance = {
            "reference": reference.var(axis=1, ddof=1).sum() / reference.shape[1] / len(rows) ** 2,
            "topeng": nats.var(axis=1, ddof=1).sum() / REPLICATES / len(rows) ** 2,
        }
        between = float(nats.mean(axis=1).var(ddof=1))
        of_all = {name: (between + value * len(rows)) * seconds[name] for name, value in variance.items()}
        tokens = sum(len(row.input_ids) for row in rows)
        draws = {"reference": REFERENCE_DRAWS, "topeng": DRAWS}
        a_pass = {name: seconds[name] / draws[name] / tokens for name in seconds}
        a_draw = {name: variance[name] * draws[name] for name in seconds}
        found[language] = {
            "rows": len(rows),
            "nats_per_token": {"reference": float(reference.mean()), "topeng": float(nats.mean())},
            "seconds": seconds,
            "standard_error": {name: float(np.sqrt(value)) for name, value in variance.items()},
            "times_as_fast_a_pass": a_pass["reference"] / a_pass["topeng"],
            "times_less_variance_at_as_many_passes": float(a_draw["reference"] / a_draw["topeng"]),
            "times_as_cheap_at_equal_error": float(
                seconds["reference"] * variance["reference"] / seconds["topeng"] / variance["topeng"]
            ),
            "variance_between_rows": between,
            "times_as_cheap_at_equal_error_of_all_rows": of_all["reference"] / of_all["topeng"],
        }
    return found


@torch.no_grad()
def reference_nll(model: Any, row: Example) -> np.ndarray:
    """LLaDA's `get_log_likelihood.py`: the estimate in nats of each batch of 16 draws, [8]."""
    random, length = np.random.default_rng(row.row_id), row.response_length
    ids = torch.tensor([row.input_ids] * REFERENCE_BATCH)
    found = []
    for _ in range(REFERENCE_DRAWS // REFERENCE_BATCH):
        start = random.integers(1, length + 1)
        counts = np.round(start + np.arange(REFERENCE_BATCH) * length / REFERENCE_BATCH).astype(int)
        counts = (counts - 1) % length + 1
        ranks = random.random((REFERENCE_BATCH, length)).argsort(axis=1).argsort(axis=1)
        masked = torch.zeros_like(ids, dtype=torch.bool)
        masked[:, row.prompt_length :] = torch.from_numpy(ranks < counts[:, None])
        logits = model(input_ids=ids.masked_fill(masked, MASK)).logits
        nll = cross_entropy(logits[masked], ids[masked], reduction="none").double()
        weight = torch.from_numpy(length / counts)[:, None].expand_as(masked)[masked]
        found.append(float((nll * weight).sum() / REFERENCE_BATCH))
    return np.array(found)


def answering(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each way to answer target questions, group by group: each variant has its turn in a group."""
    tokenizer, model = load_tokenizer(options.shared / "models" / "kecil-en"), adapted_model(options.shared, "lora")
    questions = [row["input"] for row in raw_rows(options.shared, "target")[: options.answers]]
    whole = Settings(max_new_tokens=NEW_TOKENS)
    stop = replace(whole, stop_at_end=True)

    def ours(settings: Settings, batch_tokens: int) -> Callable[[list[str]], list[str]]:
        def ask(some: list[str]) -> list[str]:
            found = sorted(answers(model, tokenizer, some, settings, 256, batch_tokens), key=lambda a: a.index)
            return [answer.answer for answer in found]

        return ask

    variants: dict[str, Callable[[list[str]], list[str]]] = {
        "reference": lambda some: [reference_answer(model, tokenizer, question) for question in some],
        "head on the block": ours(whole, 1),
        "and stop_at_end": ours(stop, 1),
        "and batches": ours(stop, 8192),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    texts: dict[str, list[str]] = {name: [] for name in variants}
    started, size = time.monotonic(), min(25, options.answers)
    for first in range(0, len(questions), size):
        if first and time.monotonic() - started > 60 * options.minutes:
            break
        for name, ask in variants.items():
            begun = time.perf_counter()
            texts[name] += ask(questions[first : first + size])
            seconds[name].append(time.perf_counter() - begun)
    total = {name: sum(values) for name, values in seconds.items()}
    return {
        "answers": len(texts["reference"]),
        "batch": size,
        "seconds": total,
        "times_as_fast": {name: total["reference"] / value for name, value in total.items()},
        "same_answer": {
            name: statistics.mean(a == b for a, b in zip(found, texts["reference"], strict=True))
            for name, found in texts.items()
        },
    }


@torch.no_grad()
def reference_answer(model: Any, tokenizer: Any, question: str) -> str:
    """LLaDA's `generate.py`, greedy: blocks of 32, one token a pass, logits of the whole canvas in each."""
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": question}], max_tokens=256)
    canvas = torch.tensor([prompt + [MASK] * NEW_TOKENS])
    for start in range(len(prompt), canvas.shape[1], 32):
        for _ in range(32):
            logits = model(input_ids=canvas).logits
            logits[..., MASK] = -torch.inf
            tokens = logits.argmax(dim=-1)
            confidence = logits.softmax(dim=-1).gather(2, tokens[..., None]).squeeze(2)
            open_places = (canvas == MASK) & (torch.arange(canvas.shape[1]) < start + 32)
            place = confidence.masked_fill(~open_places, -torch.inf).argmax()
            canvas[0, place] = tokens[0, place]
    return decode_answer(tokenizer, canvas[0, len(prompt) :].tolist())


def tiny_model() -> Any:
    """Random weights large enough that predictions differ."""
    tiny = TinyOptions(vocab_size=400, hidden_size=32, intermediate_size=64, layers=2, heads=4)
    model = new_model(tiny_config(tiny, context=64), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.eval()


def load_base(shared: Path) -> Any:
    return load_model(shared / "models" / "kecil-en", "float32").eval()


@functools.cache
def adapted_model(shared: Path, method: str) -> Any:
    """After 20 steps (r = 16) on 16 target rows each, which no part scores."""
    model = methods.add_adapter(load_base(shared), method, AdapterOptions(rank=16), seed=0)
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=20,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        label_names=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    optimizer = methods.create_optimizer(model, method, AdapterOptions(rank=16), 1e-3, 0.0)
    batching = Batching(16, 1024, "stratified", fill=False)
    rows = some_rows(shared, "target", 1320)[-320:]
    DiffusionTrainer(model, args, rows, [], batching, optimizer, Progress(lambda *_: None)).fit(None)
    return model.merge_and_unload().eval()


def some_rows(shared: Path, language: str, count: int) -> list[Example]:
    """Rows with short answers, tokenized; source rows are those that kecil-en was not trained on."""
    tokenizer = load_tokenizer(shared / "models" / "kecil-en")
    examples, _ = tokenize_rows(tokenizer, raw_rows(shared, language), 512)
    short = [row for row in examples if 8 <= row.response_length <= 64 and len(row.input_ids) <= 160]
    return short[:count]


def raw_rows(shared: Path, language: str) -> list[dict]:
    """Rows in an order drawn at random: 4,000 of the target, all held-out ones of the source."""
    name, random = {"target": "indonesian", "source": "english"}[language], np.random.default_rng(0)
    rows = pq.read_table(shared / "data" / f"{name}.parquet", columns=["input", "output"]).to_pylist()
    if language == "source":
        held_out = json.loads((shared / "models" / "kecil-en" / "held_out.json").read_text())["rows"]
        places = random.permutation(held_out)
    else:
        places = random.choice(len(rows), 4000, replace=False)
    return [rows[place] | {"row_id": int(place)} for place in places]


def lengths(rows: Sequence[Example]) -> np.ndarray:
    return np.array([row.response_length for row in rows])


PARTS = {"coverage": coverage, "pairing": pairing, "cost": cost, "answers": answering}

if __name__ == "__main__":
    main()
