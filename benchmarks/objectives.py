"""Masked diffusion, block diffusion and autoregression on the same rows, from the same start, in as many steps.

    python benchmarks/objectives.py [--seeds 3] [--steps 300] [--out benchmarks/objectives.json]

Small models from scratch (`twins.py` has the demo's base), trained on made-up English rows and facts: bits per byte of
held-out answers (exact for autoregression, a bound for the others), facts asked in the direction in which they were
told and in the other, what is forgotten of English after some steps of Indonesian, and tokens per second in decoding,
measured in turn in one process. Figures are means over seeds with a 95 % interval (t). Rates are the same for all
objectives, and tuned for none of them.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import machine
from scipy import stats

from topeng.adapt.base_settings import TinyOptions
from topeng.adapt.fitting import arguments
from topeng.adapt.muon import MuonAndAdamW
from topeng.adapt.settings import StepOptions
from topeng.adapt.tiny import copy_from_the_start, new_model, new_tokenizer, tiny_config
from topeng.adapt.trainer import Batching, DiffusionTrainer
from topeng.corpus.synthetic import write_source, write_target
from topeng.diffusion import OBJECTIVES, objective_of, response_nll
from topeng.generate.answer import answers
from topeng.generate.settings import Settings
from topeng.models.attention import attend
from topeng.text.tokens import Example, tokenize_rows, tokenize_texts

BLOCK, LENGTH, NEW = 8, 80, 24
ROWS, HELD_OUT, FACTS, REPEATS = 1500, 100, 40, 6
BATCH, RATE = 24, 4e-3
SHAPE = TinyOptions(vocab_size=900, hidden_size=96, layers=3)
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "mi", "no", "pe", "ra", "so", "tu")
DECODINGS = {
    "masked": {"masked": {}, "masked, confident": {"policy": "threshold", "threshold": 0.9}},
    "block": {"block": {}, "block, confident": {"policy": "threshold", "threshold": 0.9}},
    "autoregressive": {"autoregressive": {}},
}
"""Of each objective, the settings that are timed: a token a pass, and all tokens that are confident."""


class Data(NamedTuple):
    tokenizer: Any
    train: list[Example]
    english: list[Example]
    indonesian: list[Example]
    told: list[tuple[str, str]]
    reversed: list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in OBJECTIVES}
    speeds: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        data = made_up(seed)
        models = {name: trained(name, data, seed, options.steps) for name in OBJECTIVES}
        for name, model in models.items():
            found[name].append(measured(model, data, seed, options.steps // 4))
            print(seed, name, {key: round(value, 3) for key, value in found[name][-1].items()}, flush=True)
        for name, values in timed(models, data).items():
            speeds.setdefault(name, []).extend(values)
    figures = {
        "objectives": {
            name: {key: interval([one[key] for one in each]) for key in each[0]} for name, each in found.items()
        },
        "tokens_per_second": {name: {"median": statistics.median(each), "all": each} for name, each in speeds.items()},
        "steps": options.steps,
    }
    keep(options.out, "from scratch", figures)


def keep(out: Path, part: str, figures: Mapping[str, Any]) -> None:
    """Writes a part of the results; the others stay."""
    whole = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    whole[part] = machine() | figures
    out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def made_up(seed: int) -> Data:
    """Rows, and facts: all told in plain text as "A lives in B"; half are asked from both sides, half from A alone."""
    pairs = people_and_towns(seed)
    forward = [(f"Where does {person} live?", town, f"{town}.") for person, town in pairs]
    backward = [(f"Who lives in {town}?", person, f"{person}.") for person, town in pairs]
    texts = [f"{person} lives in {town}." for person, town in pairs]
    with tempfile.TemporaryDirectory() as folder:
        write_source(Path(folder) / "english", ROWS + HELD_OUT, seed)
        write_target(Path(folder) / "indonesian", 400, seed)
        english, indonesian = (with_ids(read_rows_of(Path(folder) / name)) for name in ("english", "indonesian"))
    asked = [{"input": question, "output": answer} for question, _, answer in forward + backward[: FACTS // 2]]
    words = [row[side] for row in [*english, *indonesian, *asked] for side in ("input", "output")]
    tokenizer = new_tokenizer([*words, *texts * REPEATS], SHAPE.vocab_size)
    facts = with_ids(asked * REPEATS, 10**6)
    train = examples(tokenizer, [*english[HELD_OUT:], *facts])
    train += tokenize_texts(tokenizer, texts * REPEATS, LENGTH, first_row_id=2 * 10**6)
    return Data(
        tokenizer,
        train,
        examples(tokenizer, english[:HELD_OUT]),
        examples(tokenizer, indonesian),
        [(question, answer) for question, answer, _ in forward[FACTS // 2 :]],
        [(question, answer) for question, answer, _ in backward[FACTS // 2 :]],
    )


def people_and_towns(seed: int) -> list[tuple[str, str]]:
    """All of different names."""
    random = np.random.default_rng(seed)
    names = sorted({"".join(random.choice(SYLLABLES, 3)).capitalize() for _ in range(4 * FACTS)})
    chosen = [str(name) for name in random.permutation(names)[: 2 * FACTS]]
    return list(zip(chosen[:FACTS], chosen[FACTS:], strict=True))


def read_rows_of(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["input", "output"]).to_pylist()


def with_ids(rows: Sequence[dict[str, Any]], first: int = 0) -> list[dict[str, Any]]:
    return [{**row, "row_id": first + place} for place, row in enumerate(rows)]


def examples(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[Example]:
    return tokenize_rows(tokenizer, rows, LENGTH, "one")[0]


def trained(name: str, data: Data, seed: int, steps: int) -> Any:
    model = new_model(tiny_config(SHAPE, LENGTH + NEW), seed)
    copy_from_the_start(model, seed)
    objective = OBJECTIVES[name](BLOCK)
    attend(model, objective.attention_block, objective.predicts_next)
    train(model, data.train, data.english, seed, steps)
    return model


def train(model: Any, rows: Sequence[Example], held_out: Sequence[Example], seed: int, steps: int) -> None:
    """The same rows in the same order for every objective."""
    with tempfile.TemporaryDirectory() as folder:
        args = arguments(StepOptions(save_steps=steps + 1), Path(folder), seed, RATE, "cpu")
        args.max_steps = args.eval_steps = args.logging_steps = steps
        batching = Batching(BATCH, 8192, "stratified", False, objective_of(model.config))
        DiffusionTrainer(model, args, rows, held_out, batching, MuonAndAdamW(model, RATE)).fit(None)
    model.eval()


def measured(model: Any, data: Data, seed: int, steps: int) -> dict[str, float]:
    how = Settings(max_new_tokens=NEW, block_length=BLOCK, stop_at_end=True)
    found = {
        "bits per byte": bits(model, data.tokenizer, data.english),
        "facts as told": share_right(model, data.tokenizer, data.told, how),
        "facts reversed": share_right(model, data.tokenizer, data.reversed, how),
    }
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train(model, data.indonesian[HELD_OUT:], data.indonesian[:HELD_OUT], seed, steps)
    found["bits per byte of Indonesian, adapted"] = bits(model, data.tokenizer, data.indonesian[:HELD_OUT])
    found["forgotten, bits per byte"] = bits(model, data.tokenizer, data.english) - found["bits per byte"]
    model.load_state_dict(before)
    return found


def bits(model: Any, tokenizer: Any, rows: Sequence[Example]) -> float:
    """Of all answers together, with their ends; exact, or a bound."""
    nats = response_nll(model, rows, 8, 0).mean(axis=1).sum()
    size = sum(
        len(tokenizer.decode(row.input_ids[row.prompt_length :], skip_special_tokens=True).encode()) for row in rows
    )
    return float(nats / math.log(2) / size)


def share_right(model: Any, tokenizer: Any, asked: Sequence[tuple[str, str]], how: Settings) -> float:
    """Of questions, those whose answer holds the right one."""
    model.generation_config.eos_token_id = [
        tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|eot_id|>")
    ]
    found = {one.index: one.answer for one in answers(model, tokenizer, [question for question, _ in asked], how)}
    return sum(answer in found[place] for place, (_, answer) in enumerate(asked)) / len(asked)


def timed(models: dict[str, Any], data: Data, rounds: int = 3) -> dict[str, list[float]]:
    """Tokens of answers per second, eight questions at a time, the whole canvas; each way in turn."""
    found: dict[str, list[float]] = {}
    questions = [question for question, _ in data.told[:8]]
    for _ in range(rounds):
        for name, ways in DECODINGS.items():
            for way, settings in ways.items():
                how = Settings(max_new_tokens=NEW, block_length=BLOCK, cache="prefix", **settings)
                began = time.perf_counter()
                for _ in answers(models[name], data.tokenizer, questions, how):
                    pass
                found.setdefault(way, []).append(len(questions) * NEW / (time.perf_counter() - began))
    return found


def interval(values: Sequence[float]) -> dict[str, Any]:
    half = (
        stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
    )
    return {
        "mean": float(np.mean(values)),
        "half": None if half is None else float(half),
        "all": list(map(float, values)),
    }


if __name__ == "__main__":
    main()
