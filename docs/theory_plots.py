"""The figures of docs/theory.md, drawn from numbers that Topeng's own functions gave.

    python docs/theory_plots.py --measure --model MODEL --rows ROWS    docs/theory_plots.json
    python docs/theory_plots.py                                        docs/theory-*.svg, from these numbers

MODEL is a LLaDA checkpoint's folder, ROWS a Parquet file of rows in its language; the numbers that are there are
kecil-en's, on English rows that it was not trained on. `--only NAME` takes one figure.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "topeng", "font.size": 9, "axes.spines.top": False}
matplotlib.rcParams |= {"axes.spines.right": False, "legend.frameon": False}

import numpy as np  # noqa: E402
import torch  # noqa: E402
from matplotlib import pyplot  # noqa: E402

HERE = Path(__file__).resolve().parent
NUMBERS = HERE / "theory_plots.json"
SEED = 42
QUESTION = "How do I cook rice?"
BLUE, ORANGE, GREY = "#3f6fb5", "#d9772b", "#8f9299"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="compute the numbers")
    parser.add_argument("--model", help="a checkpoint folder")
    parser.add_argument("--rows", type=Path, help="Parquet, with row_id, input, output")
    parser.add_argument("--only", choices=FIGURES, help="one figure")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the figures")
    options = parser.parse_args()
    if options.measure and not (options.model and options.rows):
        parser.error("--measure needs --model and --rows")
    names = [options.only] if options.only else list(FIGURES)
    numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    if options.measure:
        for name in names:
            numbers[name] = rounded(FIGURES[name][0](options.model, options.rows))
        NUMBERS.write_text(json.dumps(numbers, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        return
    for name in names:
        figure = FIGURES[name][1](numbers[name])
        figure.savefig(options.out / f"theory-{name}.svg", metadata={"Date": None})
        pyplot.close(figure)


def rounded(value: Any) -> Any:
    """Four significant digits are more than a figure shows."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def examples(model: Any, tokenizer: Any, rows: Path, count: int, most: int) -> list[Any]:
    """The first `count` rows of at most `most` tokens with an answer of 16 or more."""
    from topeng.text.rows import read_rows
    from topeng.text.tokens import tokenize_rows

    found, _ = tokenize_rows(tokenizer, read_rows(rows), model.config.max_position_embeddings)
    return [row for row in found if len(row.input_ids) <= most and row.response_length >= 16][:count]


def measure_noise(model: str, rows: Path) -> dict[str, Any]:
    """Share of a response of 24 tokens that is masked, and the weight that a row has in the loss, by its level."""
    from topeng.diffusion import loss_weights, training_noise

    count, length = 96, 24
    response, ids, places = torch.ones(count, length, dtype=torch.bool), torch.arange(count), torch.arange(count)
    found = {}
    for noise in ("independent", "stratified"):
        masked, p = training_noise(noise, response, SEED, 0, ids, places, count)
        weights = loss_weights(masked, p, torch.full((count,), length), rows=1)
        row = torch.zeros(count).index_add(0, masked.nonzero()[:, 0], weights)
        found[noise] = {"p": p.tolist(), "masked": (masked.sum(1) / length).tolist(), "weight": row.tolist()}
    return found


def draw_noise(numbers: dict[str, Any]) -> Any:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    for name, colour in (("independent", ORANGE), ("stratified", BLUE)):
        of = numbers[name]
        left.scatter(of["p"], of["masked"], s=9, color=colour, label=name, alpha=0.8, linewidths=0)
        right.scatter(of["p"], of["weight"], s=9, color=colour, label=name, alpha=0.8, linewidths=0)
    left.set(xlabel="masking probability p", ylabel="share of 24 tokens masked")
    right.set(xlabel="masking probability p", ylabel="sum of a row's weights, 1/(pL) each", ylim=(-0.1, 3))
    left.legend()
    return figure


def measure_ratio(model: str, rows: Path) -> dict[str, Any]:
    """Mean cross-entropy of a masked token, by the share of the response that is masked."""
    from topeng import load
    from topeng.diffusion.likelihood import masked_nll
    from topeng.diffusion.noise import Use, row_generator
    from topeng.text.batches import collate

    loaded, tokenizer = load(model, dtype="float32")
    held = examples(loaded, tokenizer, rows, count=24, most=96)
    batch = collate(held, loaded.config.eos_token_id)
    shares, nats = [0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0], []
    for share in shares:
        masked = torch.zeros_like(batch["response_mask"])
        for place, row in enumerate(held):
            order = row_generator(Use.LIKELIHOOD, SEED, 0, row.row_id).permutation(row.response_length)
            masked[place, row.prompt_length + order[: max(1, round(share * row.response_length))]] = True
        nll = masked_nll(loaded, batch["input_ids"], batch["attention_mask"], masked, loaded.config.mask_token_id)
        total = np.zeros(len(held))
        np.add.at(total, masked.nonzero()[:, 0].numpy(), nll)
        nats.append((total / masked.sum(1).numpy()).tolist())
    return {"shares": shares, "nats": nats}


def draw_ratio(numbers: dict[str, Any]) -> Any:
    nats = np.array(numbers["nats"])
    mean, error = nats.mean(axis=1), 1.96 * nats.std(axis=1, ddof=1) / np.sqrt(nats.shape[1])
    figure, axis = pyplot.subplots(figsize=(5.6, 3), layout="constrained")
    axis.fill_between(numbers["shares"], mean, color=BLUE, alpha=0.12, linewidth=0)
    axis.errorbar(numbers["shares"], mean, error, color=BLUE, marker="o", markersize=4, capsize=2)
    axis.set(xlabel="share of the answer that is masked, l / L", ylabel="nats a masked token", xlim=(0, 1.02), ylim=0)
    axis.text(0.5, mean.min() * 0.45, "this area is the bound, in nats per token", ha="center", color=BLUE)
    return figure


def measure_estimators(model: str, rows: Path) -> dict[str, Any]:
    """One row's bound in nats per token by 512 draws of each form."""
    from topeng import load
    from topeng.diffusion import forward_process
    from topeng.diffusion.likelihood import masked_nll
    from topeng.diffusion.noise import Use, row_generator
    from topeng.text.batches import collate

    draws = 512
    loaded, tokenizer = load(model, dtype="float32")
    row = examples(loaded, tokenizer, rows, count=1, most=96)[0]
    length = row.response_length
    batch = collate([row] * draws, loaded.config.eos_token_id)
    by_t, p = forward_process(batch["response_mask"], SEED, 0, torch.arange(draws))
    noise = row_generator(Use.LIKELIHOOD, SEED, 0, row.row_id)
    counts = 1 + np.floor(length * noise.random(draws)).astype(int)
    ranks = noise.random((draws, length)).argsort(axis=1).argsort(axis=1)
    by_l = torch.zeros_like(batch["response_mask"])
    by_l[:, row.prompt_length :] = torch.from_numpy(ranks < counts[:, None])
    found: dict[str, Any] = {"length": length}
    for name, masked, weight in (("t", by_t, 1 / p.numpy()), ("l", by_l, length / counts)):
        total = np.zeros(draws)
        for start in range(0, draws, 64):
            part = slice(start, start + 64)
            ids, seen, hidden = (tensor[part] for tensor in (batch["input_ids"], batch["attention_mask"], masked))
            nll = masked_nll(loaded, ids, seen, hidden, loaded.config.mask_token_id)
            np.add.at(total, start + hidden.nonzero()[:, 0].numpy(), nll)
        found[name] = (weight * total / length).tolist()
    return found


def draw_estimators(numbers: dict[str, Any]) -> Any:
    figure, axis = pyplot.subplots(figsize=(5.6, 3), layout="constrained")
    most = 20.0
    bins = np.linspace(0, most, 41)
    for name, label, colour in (("t", "probability t, weight 1/t", ORANGE), ("l", "exact count l, weight L/l", BLUE)):
        values = np.array(numbers[name])
        label += f": {values.mean():.2f} ± {values.std(ddof=1):.2f}"
        axis.hist(values.clip(max=most), bins, color=colour, alpha=0.55, label=label)
    axis.set(xlabel=f"one draw of the bound, nats per token (above {most:.0f}: at {most:.0f})", ylabel="of 512 draws")
    axis.legend()
    return figure


def measure_pissa(model: str, rows: Path) -> dict[str, Any]:
    """Singular values of one matrix, of what PiSSA takes from it, and of what it leaves frozen."""
    from topeng.adapt.methods import adapter_layers, add_adapter
    from topeng.adapt.settings import AdapterOptions
    from topeng.models import load_model

    options = AdapterOptions(rank=16, alpha=32, target_modules=["layers.3.mlp.gate_proj"])
    base = load_model(model, dtype="float32", device="cpu")
    before = base.get_submodule("model.layers.3.mlp.gate_proj").weight.detach().clone()
    (layer,) = adapter_layers(add_adapter(base, "pissa", options, SEED))
    matrices = {"W": before, "sBA": layer.get_delta_weight("default"), "rest": layer.get_base_layer().weight}
    return {name: torch.linalg.svdvals(matrix.detach()).tolist() for name, matrix in matrices.items()}


def draw_pissa(numbers: dict[str, Any]) -> Any:
    figure, axis = pyplot.subplots(figsize=(5.6, 3), layout="constrained")
    rank = 16
    order = np.arange(1, len(numbers["W"]) + 1)
    taken = np.array(numbers["sBA"][:rank])
    share = (taken**2).sum() / (np.array(numbers["W"]) ** 2).sum()
    axis.plot(order, numbers["W"], color=GREY, linewidth=4, alpha=0.5, label="W")
    axis.plot(order[:rank], taken, color=ORANGE, label=f"s B A, which trains: {share:.0%} of the squares' sum")
    axis.plot(order[:-rank] + rank, numbers["rest"][:-rank], color=BLUE, label="what stays frozen, moved by 16 places")
    axis.set(xlabel="singular values, by size", ylabel="size", ylim=0)
    axis.legend()
    return figure


def measure_rates(model: str, rows: Path) -> dict[str, Any]:
    """How far A and B have moved from their start after each step, root mean square of an entry."""
    from topeng import load
    from topeng.adapt.methods import add_adapter, create_optimizer
    from topeng.adapt.settings import METHODS, AdapterOptions
    from topeng.diffusion import loss_weights, training_noise
    from topeng.text.batches import collate

    options = AdapterOptions(rank=16, alpha=32)
    found: dict[str, Any] = {}
    for method in ("lora", "lora+"):
        base, tokenizer = load(model, dtype="float32")
        held = examples(base, tokenizer, rows, count=8, most=96)
        batch = collate(held, base.config.eos_token_id)
        adapted = add_adapter(base, method, options, SEED)
        optimizer = create_optimizer(adapted, method, options, METHODS[method].learning_rate, weight_decay=0.0)
        parts = {part: [w for n, w in adapted.named_parameters() if f"lora_{part}" in n] for part in "AB"}
        start = {part: torch.cat([w.detach().flatten().clone() for w in of]) for part, of in parts.items()}
        moved: dict[str, list[float]] = {"A": [0.0], "B": [0.0]}
        for step in range(12):
            response, ids = batch["response_mask"], batch["row_ids"]
            masked, p = training_noise("stratified", response, SEED, step, ids, torch.arange(len(ids)), len(ids))
            adapted(
                input_ids=batch["input_ids"].masked_fill(masked, base.config.mask_token_id),
                attention_mask=batch["attention_mask"],
                head_positions=masked,
                targets=batch["input_ids"][masked],
                weights=loss_weights(masked, p, batch["response_length"], len(ids)),
            ).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            for part, of in parts.items():
                now = torch.cat([weight.detach().flatten() for weight in of])
                moved[part].append(float((now - start[part]).square().mean().sqrt()))
        found[method] = moved
    return found


def draw_rates(numbers: dict[str, Any]) -> Any:
    figure, axis = pyplot.subplots(figsize=(5.6, 3), layout="constrained")
    for method, colour in (("lora", ORANGE), ("lora+", BLUE)):
        for part, style in (("A", "--"), ("B", "-")):
            moved = [distance or np.nan for distance in numbers[method][part][1:]]  # A rests at the first
            axis.plot(moved, style, color=colour, label=f"{part} of {method}")
    axis.set(xlabel="step", ylabel="distance from the start", yscale="log")
    axis.set_xticks(range(0, 12, 2), [str(step + 1) for step in range(0, 12, 2)])
    axis.legend(ncols=2)
    return figure


def measure_order(model: str, rows: Path) -> dict[str, Any]:
    """When each token of one answer was committed, and how sure the model was, by two policies."""
    from topeng import load
    from topeng.generate.canvas import blank_canvas
    from topeng.generate.decode import denoise
    from topeng.generate.settings import PRESETS, Settings
    from topeng.text.chat import encode_prompt

    loaded, tokenizer = load(model, dtype="float32")
    prompt = torch.tensor([encode_prompt(tokenizer, [{"role": "user", "content": QUESTION}])])
    changes = {"max_new_tokens": 32, "min_new_tokens": 28, "stop_at_end": False}
    found: dict[str, Any] = {}
    for preset in ("reference", "quality"):
        canvas = blank_canvas(prompt, torch.ones_like(prompt), 32, loaded.config.mask_token_id)
        for _ in denoise(loaded, canvas, Settings(**PRESETS[preset] | changes)):
            pass
        answer = slice(prompt.shape[1], None)
        found[preset] = {
            "tokens": [tokenizer.decode([token]) for token in canvas.tokens[0, answer].tolist()],
            "committed_at": canvas.committed_at[0, answer].tolist(),
            "confidence": canvas.confidence[0, answer].tolist(),
        }
    return found


def draw_order(numbers: dict[str, Any]) -> Any:
    figure, axes = pyplot.subplots(2, 1, figsize=(7.2, 5), layout="constrained")
    titles = {"reference": "top_k, one token a pass", "quality": "threshold 0.12"}
    for axis, (preset, title) in zip(axes, titles.items(), strict=True):
        of = numbers[preset]
        places, at = np.arange(len(of["tokens"])), np.array(of["committed_at"])
        order = np.argsort(at, kind="stable")
        axis.plot(places[order], at[order], color=GREY, linewidth=0.4, alpha=0.6)
        axis.scatter(places, at, s=12 + 60 * np.array(of["confidence"]), color=BLUE, zorder=2, linewidths=0)
        words = [word.strip().replace("<|", "").replace("|>", "") or "·" for word in of["tokens"]]
        axis.set_xticks(places, words, rotation=90, fontsize=7)
        axis.set(ylabel="forward pass", title=f"{title}: {at.max()} passes")
        axis.title.set_size(9)
        axis.invert_yaxis()
    return figure


FIGURES: dict[str, tuple[Callable[[str, Path], dict[str, Any]], Callable[[dict[str, Any]], Any]]] = {
    "noise": (measure_noise, draw_noise),
    "ratio": (measure_ratio, draw_ratio),
    "estimators": (measure_estimators, draw_estimators),
    "pissa": (measure_pissa, draw_pissa),
    "rates": (measure_rates, draw_rates),
    "order": (measure_order, draw_order),
}

if __name__ == "__main__":
    main()
