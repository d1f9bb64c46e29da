"""Decoding: presets against `reference`, the curve of quality against speed, and a forward pass with each cache.

    python benchmarks/generation.py                                       # a forward pass, random weights
    python benchmarks/generation.py --presets NAME --model M --rows R     # R: .parquet or .jsonl, `input` and `output`
    python benchmarks/generation.py --curve NAME --model M --rows R       # policies by their number
    python benchmarks/generation.py --caches NAME --model M --rows R      # how far caches and windows drift
    python benchmarks/generation.py --draw docs/generation-curve.svg      # what --curve has measured

Variants run in one process, in turn, group by group of prompts; figures are medians over groups. Every group is written
to `benchmarks/generation.jsonl` when it is done, and a command that was stopped goes on from there.
On a GPU the forward pass has LLaDA-8B's shape; on a CPU a small one.
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

import topeng
from topeng.generate import Settings
from topeng.generate.answer import Answer, Prompt, answers, to_messages
from topeng.generate.cache import Passes
from topeng.generate.canvas import infilling_canvas
from topeng.generate.row import Row, Voice
from topeng.generate.settings import PRESETS
from topeng.models import LLaDAConfig, LLaDAModelLM
from topeng.text.chat import encode_prompt

HERE = Path(__file__).parent
KEPT = HERE / "generation.jsonl"
CURVES: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "threshold": ("quality", "threshold", (0.1, 0.12, 0.2)),
    "factor": ("quality", "factor", (3.0, 4.0)),
    "entropy_bound": ("quality", "entropy_bound", (3.0, 6.0, 10.0, 16.0)),
    "fast: threshold": ("fast", "threshold", (0.1, 0.12)),
    "fast: entropy_bound": ("fast", "entropy_bound", (10.0, 16.0, 24.0)),
}
SMALL = {"d_model": 256, "mlp_hidden_size": 704, "n_layers": 4, "n_heads": 4, "vocab_size": 8192}
SMALL |= {"mask_token_id": 2, "eos_token_id": 1, "pad_token_id": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in VARIANTS:
        parser.add_argument(f"--{kind}", metavar="NAME", help="NAME is kept with the figures")
    parser.add_argument("--draw", type=Path, metavar="SVG", help="draw what --curve has measured")
    parser.add_argument("--forward", action="store_true", help="measure a forward pass (so without any of these)")
    parser.add_argument("--model", help="a checkpoint folder")
    parser.add_argument("--rows", type=Path, help="prompts and references")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--skip", type=int, default=0, help="rows, shuffled, before the first prompt")
    parser.add_argument("--dtype", help="of the weights (the checkpoint's without it)")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--group", type=int, default=16, help="prompts that each variant answers in its turn")
    options = parser.parse_args()
    asked = [(kind, name) for kind in VARIANTS if (name := getattr(options, kind))]
    for kind, name in asked:
        measure(f"{kind} {name}", VARIANTS[kind](options.new_tokens), options)
        summarise(f"{kind} {name}", options)
    if options.draw:
        draw(options.draw)
    elif not asked:
        forward_passes()


def preset_variants(new_tokens: int) -> dict[str, Settings]:
    return {name: Settings(max_new_tokens=new_tokens, **changes) for name, changes in PRESETS.items()}


def curve_variants(new_tokens: int) -> dict[str, Settings]:
    """Policies by their number, and `fast`'s cache and window with them."""
    presets = preset_variants(new_tokens)
    return {"reference": presets["reference"]} | {
        f"{curve} {value}": replace(presets[preset], policy=policy, **{policy: value})
        for curve, (preset, policy, values) in CURVES.items()
        for value in values
    }


def cache_variants(new_tokens: int) -> dict[str, Settings]:
    reference = preset_variants(new_tokens)["reference"]
    changes: dict[str, dict[str, Any]] = {
        "prefix": {"cache": "prefix"},
        "prefix, every 8": {"cache": "prefix", "refresh_interval": 8},
        "dual": {"cache": "dual"},
        "dual, every 8": {"cache": "dual", "refresh_interval": 8},
        "window 32": {"window": 32},
        "window 0": {"window": 0},
    }
    return {"reference": reference} | {name: replace(reference, **change) for name, change in changes.items()}


def filled_variants(new_tokens: int) -> dict[str, Settings]:
    """The presets against LLaDA's sampler to the letter, which fills its canvas after the answer's end too."""
    return {"filled": Settings(max_new_tokens=new_tokens)} | preset_variants(new_tokens)


VARIANTS = {"presets": preset_variants, "filled": filled_variants, "curve": curve_variants, "caches": cache_variants}


def measure(name: str, variants: dict[str, Settings], options: argparse.Namespace) -> None:
    """Answers `options.prompts` prompts with each variant in turn, a group at a time."""
    model, tokenizer = topeng.load(options.model, dtype=options.dtype)
    rows = shuffled(read_rows(options.rows))[options.skip :][: options.prompts]
    done = {line["group"] for line in kept(name, options)}
    for group in range(0, len(rows), options.group):
        if group in done:
            continue
        now, lines = rows[group : group + options.group], []
        for variant, settings in variants.items():
            seconds, found = answer_group(model, tokenizer, [row["input"] for row in now], settings, options.batch)
            lines.append({"variant": variant, "seconds": seconds, "answers": [asdict(answer) for answer in found]})
        record = {"name": name, "new_tokens": options.new_tokens, "batch": options.batch, "group": group}
        record |= {"references": [row["output"] for row in now], "variants": lines}
        record["setup"] = setup() | {"dtype": str(model.dtype).removeprefix("torch.")}
        with KEPT.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        print(f"{name}: {group + len(now)} of {len(rows)} prompts", flush=True)


def answer_group(
    model: Any, tokenizer: Any, prompts: Sequence[str], settings: Settings, batch: int
) -> tuple[float, list[Answer]]:
    """Seconds, and the answers in order."""
    found: list[Answer] = []
    started = time.perf_counter()
    for first in range(0, len(prompts), batch):
        part = prompts[first : first + batch]
        room = model.config.max_position_embeddings - settings.max_new_tokens
        asked = [encode_prompt(tokenizer, to_messages(prompt), room) for prompt in part]
        some = answers(model, tokenizer, list(map(Prompt, part, asked)), settings, batch_tokens=10**9)
        found += sorted(some, key=lambda answer: answer.index)
    return time.perf_counter() - started, found


def kept(name: str, options: argparse.Namespace) -> list[dict]:
    """The groups of this measurement that are done."""
    lines = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []
    wanted = (name, options.new_tokens, options.batch)
    return [line for line in lines if (line["name"], line["new_tokens"], line["batch"]) == wanted]


def summarise(name: str, options: argparse.Namespace) -> None:
    """Prints the figures of each variant, and writes them to `benchmarks/generation.json`."""
    groups = kept(name, options)[: -(-options.prompts // options.group)]
    references = [text for group in groups for text in group["references"]]
    base = figures(groups, 0)
    report = {}
    print(f"{name}, {options.new_tokens} new tokens, batch {options.batch}, {len(references)} prompts")
    for place, line in enumerate(groups[0]["variants"]):
        own = figures(groups, place)
        difference = [a - b for a, b in zip(scores(own, references), scores(base, references), strict=True)]
        report[line["variant"]] = {
            "tokens_per_second": round(statistics.median(own["speed"]), 1),
            "speedup": round(statistics.median(a / b for a, b in zip(own["speed"], base["speed"], strict=True)), 2),
            "answers_speedup": round(
                statistics.median(b / a for a, b in zip(own["seconds"], base["seconds"], strict=True)), 2
            ),
            "forward_passes": round(statistics.mean(own["passes"]), 1),
            "tokens": round(statistics.mean(own["tokens"]), 1),
            "tokens_per_pass": round(sum(own["tokens"]) / sum(own["passes"]), 2),
            "chrf": round(statistics.mean(scores(own, references)), 2),
            "chrf_difference": round(statistics.mean(difference), 2),
            "chrf_interval": round(1.96 * statistics.stdev(difference) / len(difference) ** 0.5, 2),
            "agreement": round(statistics.mean(a == b for a, b in zip(own["texts"], base["texts"], strict=True)), 3),
            "confident": {t: round(statistics.mean(c >= t for c in own["confidence"]), 3) for t in (0.5, 0.9)},
        }
        print(f"  {line['variant']:<14}", json.dumps(report[line["variant"]]))
    path = HERE / "generation.json"
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    key = f"{name}, {options.new_tokens} new tokens, batch {options.batch}"
    whole[key] = {"prompts": len(references), "setup": groups[-1]["setup"], "variants": report}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def figures(groups: list[dict], place: int) -> dict[str, list]:
    """Of one variant: `seconds` and `speed` (tokens a second) by group, the rest by prompt or token."""
    lines = [group["variants"][place] for group in groups]
    each = [answer for line in lines for answer in line["answers"]]
    return {
        "seconds": [line["seconds"] for line in lines],
        "speed": [sum(len(a["token_ids"]) for a in line["answers"]) / line["seconds"] for line in lines],
        "passes": [answer["forward_passes"] for answer in each],
        "tokens": [len(answer["token_ids"]) for answer in each],
        "texts": [answer["answer"] for answer in each],
        "confidence": [value for answer in each for value in answer["confidence"]] or [0.0],
    }


def scores(own: dict[str, list], references: Sequence[str]) -> list[float]:
    """chrF++ of each answer, 0 to 100."""
    from sacrebleu.metrics import CHRF

    metric = CHRF(word_order=2, eps_smoothing=True)
    return [metric.sentence_score(a, [b]).score for a, b in zip(own["texts"], references, strict=True)]


def draw(path: Path) -> None:
    """Quality against tokens a forward pass, by policy."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"], matplotlib.rcParams["svg.hashsalt"] = "none", "topeng"
    from matplotlib import pyplot

    measured = json.loads((HERE / "generation.json").read_text(encoding="utf-8"))
    curves = {key: value for key, value in measured.items() if key.startswith("curve ")}
    figure, axes = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 3.4), layout="constrained", squeeze=False)
    for axis, (key, curve) in zip(axes[0], curves.items(), strict=True):
        slowest = curve["variants"]["reference"]["tokens_per_pass"]
        for name, marker in zip(CURVES, "osD^v", strict=True):
            points = {label: of for label, of in curve["variants"].items() if label.startswith(f"{name} ")}
            x = [of["tokens_per_pass"] / slowest for of in points.values()]
            y, errors = zip(*((of["chrf_difference"], of["chrf_interval"]) for of in points.values()), strict=True)
            axis.errorbar(x, y, errors, marker=marker, markersize=4, linewidth=1, elinewidth=0.4, label=name)
            for label, place in zip(points, zip(x, y, strict=True), strict=True):
                value = f"{float(label.split()[-1]):g}"
                axis.annotate(value, place, textcoords="offset points", xytext=(3, 4), fontsize=7)
        axis.axhline(0, color="grey", linewidth=0.6)
        axis.set(
            title=key.removeprefix("curve "),
            xlabel="tokens a forward pass, reference = 1",
            ylabel="chrF++ less reference",
        )
        axis.title.set_size(9)
    axes[0][0].legend(frameon=False, fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    print(f"written: {path}")


def forward_passes(rounds: int = 5) -> None:
    """A whole pass and a pass with each cache, at random weights: milliseconds, bytes kept a token, and the bound."""
    cuda = torch.cuda.is_available()
    config = LLaDAConfig(**({} if cuda else SMALL))
    torch.set_default_dtype(torch.bfloat16 if cuda else torch.float32)
    with torch.device("cuda" if cuda else "cpu"):
        model = LLaDAModelLM(config).eval()
        arithmetic, traffic = reach()
    print(f"within reach here: {arithmetic / 1e12:.2f} TFLOP/s in a matrix product, {traffic / 1e9:.0f} GB/s in a copy")
    for length in (512, 1024) if cuda else (128, 256):
        for batch in (1, 16) if cuda else (1, 4):
            print(f"{length} tokens, batch {batch}")
            for kind, (seconds, computed) in time_caches(model, batch, length, rounds).items():
                flops, moved, per_token = work(model, batch, length, computed)
                bounds = {"arithmetic": flops / arithmetic, "memory": moved / traffic}
                bound = max(bounds, key=lambda name: bounds[name])
                print(
                    f"  {kind:<7}{seconds * 1e3:8.1f} ms, {0 if kind == 'none' else per_token:>9,} bytes a token kept, "
                    f"bound by {bound}, of which it reaches {bounds[bound] / seconds:.0%}"
                )


@torch.no_grad()
def time_caches(model: Any, batch: int, length: int, rounds: int) -> dict[str, tuple[float, int]]:
    """Of each cache: median seconds of a pass in the middle block of 32, and the positions that it computes."""
    tokens = torch.randint(3, model.config.vocab_size, (batch, length), device="cpu")
    tokens[:, length // 2 :] = model.config.mask_token_id
    canvas = infilling_canvas(tokens, torch.ones_like(tokens), length // 2, model.config.mask_token_id)
    views, passes = {}, {kind: Passes() for kind in ("none", "prefix", "dual")}
    for kind in passes:
        settings = Settings(max_new_tokens=length // 2, cache=kind)
        views[kind] = [Row(canvas, place, Voice(model), settings).views[0] for place in range(batch)]
    seconds: dict[str, list[float]] = {kind: [] for kind in passes}
    for turn in range(rounds + 2):  # the first fills the cache, the second warms up
        for kind, own in passes.items():
            spent = timed(lambda own=own, kind=kind: own.logits(model, views[kind]))
            if turn > 1:
                seconds[kind].append(spent)
    return {
        kind: (statistics.median(times), length - len(views[kind][0].kept_columns)) for kind, times in seconds.items()
    }


def work(model: Any, batch: int, length: int, computed: int) -> tuple[float, float, int]:
    """Of a pass: floating-point operations, bytes that must be moved (weights and cache, once), bytes kept a token."""
    config, element = model.config, next(model.parameters()).element_size()
    body = sum(parameter.numel() for parameter in model.model.layers.parameters())
    head = model.lm_head.weight.numel()
    attention = 4 * config.num_hidden_layers * config.hidden_size * batch * computed * length
    flops = 2 * batch * (computed * body + 32 * head) + attention
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * element
    return flops, (body + head) * element + batch * (length - computed) * per_token, per_token


def reach(size: int = 4096) -> tuple[float, float]:
    """Operations a second of a square matrix product, and bytes a second of a copy: the best of five."""
    matrix = torch.randn(size // (1 if torch.cuda.is_available() else 4), size)
    product = min(timed(lambda: matrix @ matrix.T) for _ in range(5))
    source, target = torch.zeros(2, 2**28 // matrix.element_size())
    copy = min(timed(lambda: target.copy_(source)) for _ in range(5))
    return 2 * matrix.shape[0] ** 2 * size / product, 2 * 2**28 / copy


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes, on the device too."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    started = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - started


def read_rows(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["input", "output"]).to_pylist()


def shuffled(rows: list[dict]) -> list[dict]:
    """In an order of its own, always the same: a run folder's rows go by subset."""
    rows = list(rows)
    random.Random(0).shuffle(rows)
    return rows


def setup() -> dict[str, str]:
    versions: Iterable[Any] = (torch, transformers, peft)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine} | {m.__name__: m.__version__ for m in versions}


if __name__ == "__main__":
    main()
