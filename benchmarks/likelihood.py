"""The likelihood bound: coverage, pairing, cost against the reference's estimator; and answers in batches.

    python benchmarks/likelihood.py                                # coverage; all parts where RUN is there
    python benchmarks/likelihood.py RUN --part cost                # RUN is a run of recipes/compare-kecil.yaml

coverage   intervals of `monte_carlo_error` against the exact bound: a tiny random model, answers of 3 to 10 tokens
pairing    two adapters: the variance of their difference with shared and with independent masks
cost       seconds and variance at several draws, against LLaDA's `get_log_likelihood.py` as it stands: 128 draws a row
           in batches of 16 copies of that row, full logits
precision  the bound and its seconds with weights in bf16 against fp32, on the same masks
answers    LLaDA's sampler (one row, whole canvas, full logits, one token a pass), then `answers` of topeng by steps

Test rows of RUN, answers of 8 tokens and more; the models are its adapters, merged. Variants run in one process on one
thread, in turn, group by group; seconds are the processor's. `benchmarks/likelihood.json` keeps the figures by part.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from torch.nn.functional import cross_entropy

import topeng
from topeng.adapt.base_settings import TinyOptions
from topeng.adapt.tiny import new_model, tiny_config
from topeng.diffusion import monte_carlo_error, response_nll
from topeng.evaluate.text_metrics import chrf
from topeng.generate import Settings
from topeng.generate.answer import Prompt, answers, to_messages
from topeng.generate.settings import PRESETS
from topeng.text.chat import decode_answer, encode_prompt
from topeng.text.rows import read_rows
from topeng.text.tokens import Example, tokenize_rows

HERE = Path(__file__).parent
MASK, EOS = 2, 1
MAX_LENGTH = 128
BATCH_TOKENS = 2048  # of a pass: as many as the reference's have
REFERENCE_DRAWS, REFERENCE_BATCH = 128, 16
NEW_TOKENS = 64
GROUP = 10  # rows after which it is the next variant's turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=HERE.parent / "runs" / "compare-kecil")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="all without it, or what can be done without RUN"
    )
    parser.add_argument("--base", type=Path, default=HERE.parents[1] / "shared" / "models" / "kecil-en")
    parser.add_argument("--rows", type=int, default=30, help="of each language")
    parser.add_argument("--repetitions", type=int, default=200, help="of coverage")
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--out", type=Path, default=HERE / "likelihood.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.part or (PARTS if options.run.exists() else ["coverage"]):
        figures = PARTS[part](options)
        print(f"{part}\n{json.dumps(figures, indent=1)}", flush=True)
        known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
        options.out.write_text(json.dumps(known | {part: machine() | figures}, indent=1) + "\n", encoding="utf-8")


def coverage(options: argparse.Namespace) -> dict[str, Any]:
    """How often the 95 % interval holds the exact mean, at several numbers of rows, draws and replicates."""
    model = tiny_model()
    kinds = [Example(row, [0, 9, *range(20, 23 + row)], 2) for row in range(8)]  # answers of 3 to 10 tokens
    exact = float((response_nll(model, kinds, 2**10, 0)[:, 0] / lengths(kinds)).mean())
    count, found = options.repetitions, {}
    for copies, draws, replicates in ((1, 4, 2), (1, 8, 4), (1, 16, 2), (1, 16, 4), (5, 4, 2), (5, 16, 2)):
        repeated = [replace(row, row_id=row_id) for row_id, row in enumerate(kinds * copies * count)]
        nats = response_nll(model, repeated, draws, 0, replicates) / lengths(repeated)[:, None]
        errors = [monte_carlo_error(part) for part in np.split(nats, count)]
        spread = np.std([error["mean"] for error in errors], ddof=1)
        away = np.mean([error["mean"] for error in errors]) - exact
        estimated = np.sqrt(np.mean([error["standard_error"] ** 2 for error in errors]))
        found[f"{len(kinds) * copies} rows, {draws} draws, {replicates} replicates"] = {
            "covered": float(np.mean([error["low"] <= exact <= error["high"] for error in errors])),
            "mean_less_exact_in_standard_errors": float(away / spread * np.sqrt(count)),
            "standard_error": float(estimated),
            "standard_error_over_spread": float(estimated / spread),
            "degrees_of_freedom": statistics.median(error["degrees_of_freedom"] for error in errors),
        }
    return {"repetitions": count, "exact_nats_per_token": exact, "designs": found}


def pairing(options: argparse.Namespace) -> dict[str, Any]:
    """Variance of one adapter less another, over replicates of eight draws: two methods, and two seeds of one."""
    replicates, found = 6, {}
    for language in LANGUAGES:
        rows = some_rows(options, language)
        nats = {
            name: response_nll(adapted(options, name), rows, 8 * replicates, 0, replicates, BATCH_TOKENS)
            / lengths(rows)[:, None]
            for name in ("lora-seed-1", "lora-seed-2", "pissa-seed-1")
        }
        for other in ("pissa-seed-1", "lora-seed-2"):
            first, second = nats["lora-seed-1"], nats[other]
            shared = (first - second).var(axis=1, ddof=1)
            independent = first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)
            found[f"{language}, lora-seed-1 less {other}"] = {
                "rows": len(rows),
                "difference_nats_per_token": float((first - second).mean()),
                "variance_of_a_row": float(shared.mean()),
                "shared_over_independent": float(shared.sum() / independent.sum()),
                "shared_over_independent_quartiles_of_rows": np.quantile(shared / independent, (0.25, 0.5, 0.75))
                .round(3)
                .tolist(),
            }
    return found


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and Monte Carlo error in nats per token: the reference with 128 draws, and ours in two replicates."""
    model, many = adapted(options, "lora-seed-1"), 6  # so many replicates: to know the variance well
    found = {}
    for language in LANGUAGES:
        rows = some_rows(options, language)
        response_nll(model, rows[:2], 16, 0)  # warm-up
        seconds: dict[int, float] = dict.fromkeys((0, 8, 16, 32), 0.0)  # by draws; the reference's is 0
        nats: dict[int, list[np.ndarray]] = {draws: [] for draws in seconds}
        for group in groups(rows):
            for draws in seconds:
                begun = time.process_time()
                if draws:
                    each = response_nll(model, group, draws // 2 * many, 0, many, BATCH_TOKENS)
                else:
                    each = np.stack([reference_nll(model, row) for row in group])
                taken = time.process_time() - begun
                seconds[draws] += taken / (many / 2) if draws else taken
                nats[draws].append(each / lengths(group)[:, None])
        estimates = {draws: np.concatenate(parts) for draws, parts in nats.items()}  # [R, M] each
        of_a_replicate = {draws: each.var(axis=1, ddof=1).mean() for draws, each in estimates.items()}
        variance = {d: of_a_replicate[d] / (2 if d else REFERENCE_DRAWS / REFERENCE_BATCH) / len(rows) for d in seconds}
        found[language] = {"rows": len(rows), "tokens_a_row": statistics.mean(len(row.input_ids) for row in rows)} | {
            f"topeng, {draws} draws" if draws else f"reference, {REFERENCE_DRAWS} draws": {
                "nats_per_token": float(estimates[draws].mean()),
                "seconds": seconds[draws],
                "standard_error": float(np.sqrt(variance[draws])),
                "times_as_fast_a_pass": seconds[0] / REFERENCE_DRAWS / (seconds[draws] / (draws or REFERENCE_DRAWS)),
                "times_as_cheap_at_equal_error": float(seconds[0] * variance[0] / seconds[draws] / variance[draws]),
            }
            for draws in seconds
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


def precision(options: argparse.Namespace) -> dict[str, Any]:
    """The bound and a difference of adapters in bf16 less that in fp32, row by row, on the same 16 masks."""
    found = {}
    for language in LANGUAGES:
        rows, nats, seconds = some_rows(options, language), {}, {}
        for name in ("lora-seed-1", "pissa-seed-1"):
            for dtype in (torch.float32, torch.bfloat16):
                model = adapted(options, name).to(dtype)
                response_nll(model, rows[:2], 16, 0)  # warm-up
                begun = time.process_time()
                nats[name, dtype] = response_nll(model, rows, 16, 0, 1, BATCH_TOKENS)[:, 0] / lengths(rows)
                seconds[dtype] = seconds.get(dtype, 0.0) + time.process_time() - begun
        bias = nats["lora-seed-1", torch.bfloat16] - nats["lora-seed-1", torch.float32]
        differences = {dtype: nats["lora-seed-1", dtype] - nats["pissa-seed-1", dtype] for dtype in seconds}
        moved = differences[torch.bfloat16] - differences[torch.float32]
        found[language] = {
            "rows": len(rows),
            "times_as_fast": seconds[torch.float32] / seconds[torch.bfloat16],
            "bound": moments(nats["lora-seed-1", torch.float32]),
            "bound_moved": moments(bias),
            "difference": moments(differences[torch.float32]),
            "difference_moved": moments(moved),
        }
    return found


def answering(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each way to answer target questions, group by group: each variant has its turn in a group."""
    model, tokenizer = adapted(options, "lora-seed-1"), load(options)[1]
    asked = read_rows(options.run / LANGUAGES["target"])[: options.answers]

    def ours(settings: Settings, batch_tokens: int = 8192) -> Callable[[list[str]], list[str]]:
        def ask(some: list[str]) -> list[str]:
            prompts = [encode_prompt(tokenizer, to_messages(question), MAX_LENGTH) for question in some]
            found = answers(model, tokenizer, list(map(Prompt, some, prompts)), settings, batch_tokens)
            return [answer.answer for answer in sorted(found, key=lambda answer: answer.index)]

        return ask

    variants: dict[str, Callable[[list[str]], list[str]]] = {
        "reference": lambda some: [reference_answer(model, tokenizer, question) for question in some],
        "head on the block, stop_at_end": ours(Settings(NEW_TOKENS, stop_at_end=True), 1),
        "and batches": ours(Settings(NEW_TOKENS, stop_at_end=True)),
        "quality": ours(Settings(NEW_TOKENS, **PRESETS["quality"])),
        "fast": ours(Settings(NEW_TOKENS, **PRESETS["fast"])),
    }
    seconds = dict.fromkeys(variants, 0.0)
    texts: dict[str, list[str]] = {name: [] for name in variants}
    for group in groups(asked, 2 * GROUP):
        for name, ask in variants.items():
            begun = time.process_time()
            texts[name] += ask([row["input"] for row in group])
            seconds[name] += time.process_time() - begun
    return {"answers": len(asked), "batch": 2 * GROUP} | {
        name: {
            "seconds": seconds[name],
            "times_as_fast": seconds["reference"] / seconds[name],
            "same_answer": statistics.mean(a == b for a, b in zip(found, texts["reference"], strict=True)),
            "chrf": chrf(found, [row["output"] for row in asked]),
        }
        for name, found in texts.items()
    }


@torch.no_grad()
def reference_answer(model: Any, tokenizer: Any, question: str) -> str:
    """LLaDA's `generate.py`, greedy: blocks of 32, one token a pass, logits of the whole canvas in each."""
    prompt = encode_prompt(tokenizer, to_messages(question), MAX_LENGTH)
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
    tiny = TinyOptions(vocab_size=400, hidden_size=64, layers=2)
    model = new_model(tiny_config(tiny, context=64), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.eval()


def load(options: argparse.Namespace, adapter: str | None = None) -> tuple[Any, Any]:
    return topeng.load(options.base, adapter and options.run / "adapters" / adapter, "float32", "cpu")


def adapted(options: argparse.Namespace, adapter: str) -> Any:
    return load(options, adapter)[0].merge_and_unload().eval()


def some_rows(options: argparse.Namespace, language: str) -> list[Example]:
    """Test rows in an order drawn at random, tokenized."""
    rows = read_rows(options.run / LANGUAGES[language])
    order = np.random.default_rng(0).permutation(len(rows))
    examples, _ = tokenize_rows(load(options)[1], [rows[place] for place in order], MAX_LENGTH)
    return [row for row in examples if row.response_length >= 8][: options.rows]


def groups(rows: Sequence[Any], size: int = GROUP) -> list[Sequence[Any]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def lengths(rows: Sequence[Example]) -> np.ndarray:
    return np.array([row.response_length for row in rows])


def moments(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "standard_deviation": float(values.std(ddof=1))}


LANGUAGES = {"target": "corpus/test.parquet", "source": "source/test.parquet"}
PARTS = {"coverage": coverage, "pairing": pairing, "cost": cost, "precision": precision, "answers": answering}

if __name__ == "__main__":
    main()
