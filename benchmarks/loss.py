"""A training step with the vocabulary head on masked positions, in chunks, against full logits and the plain oracle.

Both variants in one process, in turn, several rounds, medians; prints ratios and writes `benchmarks/loss.json`.
The loss is the same to rounding: that is checked first.

    python benchmarks/loss.py [--rounds 5] [--vocab 32000]
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from topeng.diffusion import forward_process, loss_weights, sft_loss
from topeng.models import LLaDAConfig, LLaDAModelLM

ROWS, LENGTH, PROMPT = 4, 256, 85


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab", type=int, default=32_000)
    options = parser.parse_args()
    torch.manual_seed(0)
    shape = {"d_model": 256, "mlp_hidden_size": 704, "n_layers": 4, "n_heads": 4, "n_kv_heads": 4}
    config = LLaDAConfig(
        vocab_size=options.vocab, embedding_size=options.vocab, mask_token_id=2, pad_token_id=1, **shape
    )
    model = LLaDAModelLM(config)
    model.get_output_embeddings().weight.requires_grad_(False)  # as under PEFT
    variants = {"full logits": full_logits, "masked head": masked_head}
    losses = {name: step(model, 0).item() for name, step in variants.items()}
    assert abs(losses["full logits"] - losses["masked head"]) < 1e-4 * losses["full logits"], losses
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(1, options.rounds + 1):
        for name, step in variants.items():
            started = time.perf_counter()
            step(model, turn).backward()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["full logits"] / medians["masked head"]
    for name, median in medians.items():
        print(f"{name:<12} {median * 1e3:7.0f} ms a step, {ROWS * LENGTH / median:7.0f} tokens/s")
    print(f"masked head is {ratio:.2f} x as fast, at {options.vocab:,} tokens of vocabulary")
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "vocabulary": options.vocab,
        "median_seconds": medians,
        "ratio": ratio,
    }
    (Path(__file__).parent / "loss.json").write_text(json.dumps(report, indent=1) + "\n")


def batch(step: int) -> tuple[torch.Tensor, ...]:
    clean = torch.randint(3, 1000, (ROWS, LENGTH), generator=torch.Generator().manual_seed(step))
    response = (torch.arange(LENGTH) >= PROMPT).expand(ROWS, LENGTH)
    masked, p = forward_process(response, 0, step, torch.arange(ROWS))
    return clean, masked, p, torch.full((ROWS,), LENGTH - PROMPT)


def full_logits(model: LLaDAModelLM, step: int) -> torch.Tensor:
    clean, masked, p, length = batch(step)
    return sft_loss(model(input_ids=clean.masked_fill(masked, 2)).logits, clean, masked, p, length)


def masked_head(model: LLaDAModelLM, step: int) -> torch.Tensor:
    clean, masked, p, length = batch(step)
    weights = loss_weights(masked, p, length, ROWS)
    noisy = clean.masked_fill(masked, 2)
    return model(input_ids=noisy, head_positions=masked, targets=clean[masked], weights=weights).loss


if __name__ == "__main__":
    main()
