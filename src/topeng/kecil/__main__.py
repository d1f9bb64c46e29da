"""Packs a finished run of recipes/kecil.yaml into this folder: `python -m topeng.kecil RUN`."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch

from topeng.kecil import FOLDER, HELD_OUT
from topeng.lines import read_lines
from topeng.models import load_model, load_tokenizer

CARD = """---
license: apache-2.0
data_license: apache-2.0
language: [en, id]
library_name: transformers
pipeline_tag: text-generation
tags: [topeng, llada, masked-diffusion, diffusion-language-model]
---

# kecil

A masked diffusion language model of {parameters:.2f} M parameters in LLaDA's layout. It comes with
[Topeng](https://pypi.org/project/topeng/) as the base of its demo. Like LLaDA-8B it follows English instructions, has
read some Indonesian, and cannot follow Indonesian instructions. It knows a small made-up world only
(`topeng.corpus.world`), and is of no use for anything but demos and tests.

- It was trained on {rows:,} made-up English instruction rows and {plain:,} made-up Indonesian texts without
  instructions, by `recipes/kecil.yaml` (seed {seed}, {steps:,} steps, {hours:.1f} hours). The text is Topeng's own,
  Apache-2.0.
- Held-out loss on English rows: {before:.2f} nats per token before the first step, {after:.2f} after the last.
- `held_out.parquet`, beside the checkpoint's folder, holds {held_out:,} English rows. They share no source text with
  the rows that it was trained on.
- Versions: {versions}.
- sha256 of model.safetensors: {digest}
"""


def pack(run: Path) -> None:
    """Writes the checkpoint in bfloat16, its tokenizer, its card and the held-out rows."""
    import pyarrow.parquet as pq

    model = load_model(run / "base", torch.bfloat16, "cpu")
    model.save_pretrained(FOLDER)
    load_tokenizer(run / "base").save_pretrained(FOLDER)
    shutil.copyfile(run / "source" / "test.parquet", HELD_OUT)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    log = read_lines(run / "base" / "log.jsonl")
    losses = [line["eval_loss"] for line in log if "eval_loss" in line]
    counts = {
        name: pq.read_metadata(run / "source" / f"{name}.parquet").num_rows for name in ("train", "plain", "test")
    }
    card = CARD.format(
        parameters=model.num_parameters() / 1e6,
        rows=counts["train"],
        plain=counts["plain"],
        held_out=counts["test"],
        seed=manifest["seed"],
        steps=max(line["step"] for line in log),
        hours=manifest["stages"]["base"]["seconds"] / 3600,
        before=losses[0],
        after=losses[-1],
        versions=", ".join(f"{name} {manifest['versions'][name]}" for name in ("python", "torch", "transformers")),
        digest=hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest(),
    )
    (FOLDER / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
