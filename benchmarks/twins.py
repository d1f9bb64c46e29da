"""Masked diffusion and its autoregressive twin on the demo's base: a run of the demo, facts asked both ways, speed.

    python benchmarks/twins.py demo|facts|speed [--methods lora full] [--seeds 1 2 3] [--work runs/twins]

`demo` is `topeng run recipes/tiny.yaml` by each objective, over seeds. `facts` trains on made-up facts, of which half
are asked from one side alone. Both go on after a kill. `speed` decodes by both of the demo's models in turn, in one
process. Each writes its own part of the JSON. Figures are means over seeds with a 95 % interval (t).
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from objectives import interval, keep, people_and_towns, share_right
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

import topeng
from topeng.adapt.settings import ObjectiveName, without_seed
from topeng.adapt.train import train_adapter
from topeng.evaluate.compare import compare_models
from topeng.generate.answer import answers
from topeng.generate.canvas import pad_left
from topeng.generate.settings import Settings
from topeng.kecil import FOLDER
from topeng.recipe import parse, slices
from topeng.text.chat import encode_prompt
from topeng.text.rows import read_rows

ROOT = Path(__file__).resolve().parents[1]
OBJECTIVES: tuple[ObjectiveName, ...] = ("masked", "autoregressive")
RATES = {"masked": 0.001, "autoregressive": 0.004}
"""The demo's, and the best of 0.001, 0.002, 0.004 and 0.008 in 120 steps of LoRA."""
TRAINED = 300
"""Optimiser steps of 8 rows, half of the demo's."""
FACTS, ANSWER, BATCH = 20, 16, 8
"""Facts, tokens on the canvas of an answer, and rows of a step."""
FACT_TRAININGS: dict[str, tuple[ObjectiveName, int, float]] = {
    "masked": ("masked", 250, RATES["masked"]),
    "masked-longer": ("masked", 600, RATES["autoregressive"]),
    "autoregressive": ("autoregressive", 250, RATES["autoregressive"]),
}
"""Objective, steps and rate: in 250 steps each row is seen 40 times."""
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked, one token a pass": ("masked", {}),
    "masked, one token a pass, prefix cache": ("masked", {"cache": "prefix"}),
    "masked, all confident tokens": ("masked", {"policy": "threshold"}),
    "masked, all confident tokens, prefix cache": ("masked", {"policy": "threshold", "cache": "prefix"}),
    "autoregressive": ("autoregressive", {"cache": "prefix"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--methods", nargs="+", default=["lora", "full"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "twins")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("objectives.json"))
    options = parser.parse_args()
    keep(options.out, options.part, PARTS[options.part](options.work, options.methods, options.seeds))


def demo(work: Path, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    for objective in OBJECTIVES:
        if not (work / objective).exists() and (work / OBJECTIVES[0]).exists():  # the same rows, and scores of the base
            shutil.copytree(work / OBJECTIVES[0], work / objective)
        run(work / objective, objective, methods, seeds)
    return {objective: scored(work / objective) for objective in OBJECTIVES}


def run(folder: Path, objective: str, methods: Sequence[str], seeds: Sequence[int]) -> None:
    changes = {
        **{"adapter.methods": list(methods), "train.objectives": [objective], "train.seeds": list(seeds)},
        **{"train.learning_rate": RATES[objective], "train.steps": TRAINED},
        **{"train.batch_tokens": 2048, "train.report_to": []},
    }
    topeng_("run", folder, {name: json.dumps(value) for name, value in changes.items()})


def topeng_(command: str, folder: Path, changes: dict[str, str]) -> None:
    named = [text for name, value in changes.items() for text in (f"--{name}", value)]
    line = [sys.executable, "-m", "topeng", command, "recipes/tiny.yaml", "--run-dir", str(folder), *named]
    subprocess.run(line, cwd=ROOT, check=True)


def scored(folder: Path) -> dict[str, Any]:
    """Of each training over its seeds, and of the base: figures of both languages."""
    trainings: dict[str, list[dict[str, float]]] = {}
    for adapter in sorted((folder / "adapters").iterdir()):
        models = compare_models([adapter])["models"]
        base, (adapted,) = models.pop("base"), models.values()
        trainings["base"] = [figures_of(base)]
        trainings.setdefault(without_seed(adapter.name), []).append(figures_of(adapted))
    return {name: over_seeds(each) for name, each in trainings.items()}


def figures_of(model: dict[str, Any]) -> dict[str, float]:
    found = {}
    for language in ("target", "source"):
        answers_ = model["answers"][language]
        found[f"{language} bits per byte"] = model[language]["bits_per_byte"]["mean"]
        found |= {f"{language} {figure}": answers_[figure] for figure in ("exact_match", "f1", "chrf")}
    return found


def over_seeds(each: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {key: interval([one[key] for one in each]) for key in each[0]}


def facts(work: Path, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Share of right answers to facts that were trained so, and to those trained in the other direction alone."""
    found = {}
    for method in methods:
        for training in FACT_TRAININGS:
            each = [fact_answers(work / f"facts-{seed}", method, training, seed) for seed in seeds]
            found[f"{method}, {training}"] = over_seeds(each)
            print(method, training, each, flush=True)
    return found


def fact_answers(run: Path, method: str, training: str, seed: int) -> dict[str, float]:
    objective, steps, rate = FACT_TRAININGS[training]
    told = people_and_towns(seed)[:FACTS]
    statements = [("Tell me who lives where.", f"{person} lives in {town}.") for person, town in told]
    forward = [(f"Where does {person} live?", f"{town}.") for person, town in told]
    backward = [(f"Who lives in {town}?", f"{person}.") for person, town in told]
    half = FACTS // 2
    write_rows(run / "corpus" / "train.parquet", statements + forward + backward[:half])
    write_rows(run / "corpus" / "validation.parquet", forward[:half])
    recipe = parse(
        {
            "base": {"model": "kecil"},
            "text": {"max_length": 64, "eos": "block"},
            "generate": {"block_length": ANSWER, "max_new_tokens": ANSWER},
            "adapter": {"rank": 32, "alpha": 64, "methods": [method]},
            "train": {
                "steps": steps,
                "batch_rows": BATCH,
                "eval_steps": steps,
                "learning_rate": rate,
                "report_to": [],
            },
        }
    )
    name, asked = f"{method}-{training}", slices.adapting(recipe, method, seed, objective)
    if not (run / "adapters" / name).exists():
        (run / f"work-{name}").mkdir(exist_ok=True)
        train_adapter(asked, name, run, run / f"work-{name}", Console())
        (run / "adapters").mkdir(exist_ok=True)
        (run / f"work-{name}" / "adapters" / name).rename(run / "adapters" / name)
    model, tokenizer = topeng.load(FOLDER, run / "adapters" / name)
    how = Settings(max_new_tokens=ANSWER, block_length=ANSWER, stop_at_end=True)
    asked_of = {
        "as they were trained": forward,
        "reversed, trained": backward[:half],
        "reversed, of facts trained the other way": backward[half:],
    }
    return {name: share_right(model, tokenizer, rows, how) for name, rows in asked_of.items()}


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = [{"row_id": place, "input": asked, "output": answer} for place, (asked, answer) in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(table), path)


def speed(
    work: Path, methods: Sequence[str], seeds: Sequence[int], rounds: int = 3, questions: int = 48
) -> dict[str, Any]:
    """Tokens of answers per CPU second on the demo's test rows, one and 16 at a time; each way in turn.

    Run it with OMP_NUM_THREADS=1.
    """
    models = {}
    for objective in OBJECTIVES:
        kind = "" if objective == "masked" else f"-{objective}"
        adapter = work / objective / "adapters" / f"{methods[0]}{kind}-seed-{seeds[0]}"
        model, tokenizer = topeng.load(FOLDER, adapter)
        models[objective] = merged(model), tokenizer
    asked = [row["input"] for row in read_rows(work / OBJECTIVES[0] / "corpus" / "test.parquet")]
    ways: dict[str, Callable[[Sequence[str]], int]] = {
        way: topeng_way(*models[name], Settings(max_new_tokens=32, stop_at_end=True, **settings))
        for way, (name, settings) in WAYS.items()
    }
    ways["autoregressive, transformers' generate"] = transformers_way(*models["autoregressive"])
    found: dict[str, Any] = {}
    for batch, some in ((1, asked[: questions // 3]), (16, asked[:questions])):
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(rounds + 1):  # the first warms up
            for way, answer in ways.items():
                began = time.process_time()  # of one thread: what else the machine does is not counted
                tokens = sum(answer(some[first : first + batch]) for first in range(0, len(some), batch))
                if turn:
                    speeds[way].append(tokens / (time.process_time() - began))
        found[f"batch {batch}"] = {
            way: {"median": statistics.median(each), "all": each, "to the twin": ratio(each, speeds["autoregressive"])}
            for way, each in speeds.items()
        }
        print(batch, {way: round(statistics.median(each)) for way, each in speeds.items()}, flush=True)
    return found | {"questions": questions, "rounds": rounds, "threads": torch.get_num_threads()}


def merged(model: Any) -> Any:
    """Without the products of an adapter beside those of the network, which cost time."""
    if not hasattr(model, "merge_and_unload"):
        return model
    ends, network = model.generation_config, model.merge_and_unload()
    network.generation_config = ends
    return network


def ratio(each: Sequence[float], twin: Sequence[float]) -> float:
    """The median over rounds: what else the machine does in a round slows both."""
    return statistics.median(one / other for one, other in zip(each, twin, strict=True))


def topeng_way(model: Any, tokenizer: Any, how: Settings) -> Callable[[Sequence[str]], int]:
    """Answers questions side by side, and counts the tokens of the answers with one end each."""

    def answer(asked: Sequence[str]) -> int:
        return sum(len(one.token_ids) + 1 for one in answers(model, tokenizer, asked, how, batch_tokens=10**9))

    return answer


def transformers_way(model: Any, tokenizer: Any) -> Callable[[Sequence[str]], int]:
    """The same weights as a plain causal Llama, decoded by transformers with its own cache."""
    ours = model.config
    names = [
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "rope_parameters", "max_position_embeddings"),
    ]
    config = LlamaConfig(**{name: getattr(ours, name) for name in names})
    plain = LlamaForCausalLM(config).eval()
    plain.load_state_dict(model.state_dict())
    ends = model.generation_config.eos_token_id

    def answer(asked: Sequence[str]) -> int:
        prompts = [encode_prompt(tokenizer, [{"role": "user", "content": one}]) for one in asked]
        ids, mask = pad_left(prompts, ours.eos_token_id)
        options = {"max_new_tokens": 32, "do_sample": False, "eos_token_id": ends, "pad_token_id": ours.eos_token_id}
        with torch.no_grad():
            rows = plain.generate(input_ids=ids, attention_mask=mask, **options)[:, ids.shape[1] :].tolist()
        return sum(min(next(until_end(row, ends), 32) + 1, 33) for row in rows)

    return answer


def until_end(row: Sequence[int], ends: Sequence[int]) -> Iterator[int]:
    return (place for place, token in enumerate(row) if token in ends)


PARTS: dict[str, Callable[[Path, Sequence[str], Sequence[int]], dict[str, Any]]] = {
    part.__name__: part for part in (demo, facts, speed)
}

if __name__ == "__main__":
    main()
