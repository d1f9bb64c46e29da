"""Packs the base of a finished run (of several, the last) into the package: `python tools/pack_kecil.py RUN…`."""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from topeng.corpus.overlap import overlap
from topeng.corpus.source_text import TemplateText
from topeng.kecil import FOLDER, HELD_OUT
from topeng.models import load_model, load_tokenizer
from topeng.recipe import load
from topeng.system.lines import read_lines

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

It was trained on text that Topeng makes up itself (Apache-2.0): English instruction rows, and Indonesian texts without
instructions, in some of which somebody asks and is answered.

{stages}

- Held-out loss on English rows: {before:.2f} nats per token before the first step, {after:.2f} after the last.
- `held_out.parquet`, beside the checkpoint's folder, holds {held_out:,} English rows that were held out of the last
  stage: they share no source text with what it trained on. {known:,} of them share over half of their 8-grams,
  template text apart, with rows of an earlier stage.
- Versions: {versions}.
- sha256 of model.safetensors: {digest}
"""


STAGE = (
    "- `recipes/{recipe}`: {rows:,} English rows and {plain:,} Indonesian texts, of which {steps:,} steps of "
    "{batch_rows} saw {epochs:.1f} epochs (seed {seed}, {hours:.1f} hours)"
)


def pack(runs: Sequence[Path]) -> None:
    """Writes the checkpoint in bfloat16, its tokenizer, its card and the held-out rows.

    Args:
        runs: of the pretraining, one after the other; the last one's base and held-out rows are packed.
    """
    last = runs[-1]
    model = load_model(last / "base", torch.bfloat16, "cpu")
    length = load(last / "recipe.yaml").generate.block_length
    model.generation_config.max_new_tokens = model.generation_config.block_length = length
    model.generation_config.turns = 0  # it was trained on single questions
    model.save_pretrained(FOLDER)
    load_tokenizer(last / "base").save_pretrained(FOLDER)
    shutil.copyfile(last / "source" / "test.parquet", HELD_OUT)
    versions = _manifest(last)["versions"]
    card = CARD.format(
        parameters=model.num_parameters() / 1e6,
        stages="\n".join(map(_stage, runs)),
        held_out=_rows(last, "test"),
        known=_known(last, runs[:-1]),
        before=_losses(runs[0])[0],
        after=_losses(last)[-1],
        versions=", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "transformers")),
        digest=hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest(),
    )
    (FOLDER / "README.md").write_text(card, encoding="utf-8")


def _stage(run: Path) -> str:
    tiny, manifest = load(run / "recipe.yaml").base.tiny, _manifest(run)
    rows, plain = _rows(run, "train"), _rows(run, "plain")
    return STAGE.format(
        recipe=f"{run.name}.yaml",
        rows=rows,
        plain=plain,
        steps=tiny.steps,
        batch_rows=tiny.batch_rows,
        epochs=tiny.steps * tiny.batch_rows / (rows + plain),
        seed=manifest["seed"],
        hours=manifest["stages"]["base"]["seconds"] / 3600,
    )


def _known(last: Path, earlier: Sequence[Path]) -> int:
    """Held-out rows of which more than half stands in what earlier runs trained on."""
    if not earlier:
        return 0
    held_out = pq.read_table(last / "source" / "test.parquet")
    trained = pa.concat_tables([pq.read_table(run / "source" / "train.parquet") for run in earlier])
    found = overlap(held_out, trained, TemplateText.discover(trained), pairs=0)
    return sum(part["rows"] for part in found["rows_by_share"] if (part["above"] or 0) >= 0.5)


def _manifest(run: Path) -> Any:
    return json.loads((run / "manifest.json").read_text(encoding="utf-8"))


def _rows(run: Path, name: str) -> int:
    return pq.read_metadata(run / "source" / f"{name}.parquet").num_rows


def _losses(run: Path) -> list[float]:
    return [line["eval_loss"] for line in read_lines(run / "base" / "log.jsonl") if "eval_loss" in line]


if __name__ == "__main__":
    pack([Path(run) for run in sys.argv[1:]])
