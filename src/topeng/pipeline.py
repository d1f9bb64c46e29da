"""A run, from a corpus to a report: the page to read first.

    corpus/*, source ──> base ──> train/METHOD ──> evaluate/MODEL ──> compare ──> report

Each stage says what it leaves, which options it depends on, and what it reads; `run` does those that are not
finished. Heavy imports are the stages' own.
"""

import gc
import glob
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from topeng.errors import ModelError
from topeng.recipe import Recipe, as_dict
from topeng.run import Stage, write_atomically

SOURCE_ROWS = ["source/train.parquet", "source/test.parquet"]
CORPUS_FILES = [
    *("train.parquet", "validation.parquet", "test.parquet", "decisions.parquet", "umap.parquet"),
    *("funnel.json", "clusters.json", "overlap.json", "corpus.json", "README.md"),
]
SELECT_OPTIONS = {"embedder", "embedding_tokens", "lower_case", "clusters", "train_rows", "umap_rows", "licences"}
"""Of the corpus, those that the draw does not depend on."""
BASE_TRAINING = ("batch_tokens", "noise", "precision", "warmup_fraction", "max_grad_norm")
"""Of the training options, those that a tiny base is pretrained by as well."""


def stages(recipe: Recipe, run: Path, console: Console) -> list[Stage]:
    """The stages of a recipe, in order.

    Args:
        run: the run folder, from which stages read what earlier ones left.
    """
    options = as_dict(recipe)
    base = [] if recipe.base.model else [_base(recipe, options, run, console)]
    train = [_train(recipe, options, method, run, console) for method in recipe.adapter.methods]
    models = ["base", *recipe.adapter.methods]
    evaluate = [_evaluate(recipe, options, name, run, console) for name in models]
    return [
        *_corpus(recipe, options, run, console),
        _source(recipe, options, console),
        *base,
        *train,
        *evaluate,
        _compare(models, run, console),
        _report(recipe, options, models, run, console),
    ]


def check_base(recipe: Recipe) -> None:
    """Fails before hours of work, not after them, where the named base cannot be used.

    Raises:
        ModelError: it cannot be reached, is of no known family, does not fit its tokenizer or the chat format, or its
            context is shorter than the recipe's rows.
    """
    if recipe.base.model is None:
        return
    from topeng.models import load_config, load_tokenizer
    from topeng.text.chat import special_tokens

    config = load_config(recipe.base.model, recipe.base.revision)
    special = special_tokens(load_tokenizer(recipe.base.model, recipe.base.revision))
    if (config.mask_token_id, config.eos_token_id) != (special.mask, special.eos):
        raise ModelError(
            f"{recipe.base.model}: config.json has mask_token_id = {config.mask_token_id} and eos_token_id = "
            f"{config.eos_token_id}, its tokenizer {special.mask} and {special.eos}: they belong to two models"
        )
    if recipe.context > config.max_position_embeddings:
        raise ModelError(
            f"text.max_length and generate.max_new_tokens are {recipe.context} together, beyond the context of "
            f"{recipe.base.model}, {config.max_position_embeddings}: lower one of them"
        )


def _corpus(recipe: Recipe, options: dict[str, Any], run: Path, console: Console) -> list[Stage]:
    """Three stages, as reading millions of rows takes minutes and need not be done again for another draw."""

    def ingest(folder: Path) -> None:
        from topeng.corpus.build import ingest_corpus

        ingest_corpus(recipe.corpus, recipe.seed, folder, console)

    def draw(folder: Path) -> None:
        from topeng.corpus.build import draw_corpus

        draw_corpus(recipe.corpus, recipe.seed, run, folder, console)

    def select(folder: Path) -> None:
        from topeng.corpus.build import select_corpus

        select_corpus(recipe.corpus, recipe.seed, run, folder, console)

    corpus = options["corpus"]
    source = {name: corpus[name] for name in ("files", "digest", "expected_rows")}
    if not recipe.corpus.files:
        source |= {"synthetic_rows": recipe.corpus.synthetic_rows, "seed": recipe.seed}
    drawing = {name: value for name, value in corpus.items() if name not in SELECT_OPTIONS}
    return [
        Stage("corpus/ingest", ["corpus/ingested"], source, ingest, inputs=_inputs(recipe.corpus.files)),
        Stage(
            "corpus/draw",
            ["corpus/drawn"],
            {"seed": recipe.seed, "corpus": drawing},
            draw,
            ["corpus/ingested"],
            _inputs(recipe.corpus.benchmarks),
        ),
        Stage(
            "corpus/select",
            [f"corpus/{name}" for name in CORPUS_FILES],
            {"seed": recipe.seed, "corpus": corpus},
            select,
            ["corpus/ingested", "corpus/drawn"],
            _inputs([recipe.corpus.embedder]),
        ),
    ]


def _source(recipe: Recipe, options: dict[str, Any], console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.corpus.build import build_source

        build_source(recipe.source, recipe.seed, folder, console)

    held_out = [recipe.source.held_out] if recipe.source.held_out else []
    inputs = [*_inputs(recipe.source.files), *held_out]
    return Stage(
        "source",
        [*SOURCE_ROWS, "source/funnel.json"],
        {"seed": recipe.seed, "source": options["source"]},
        work,
        inputs=inputs,
    )


def _base(recipe: Recipe, options: dict[str, Any], run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.adapt.train import pretrain_base

        pretrain_base(recipe, run, folder, console)

    depends = {"seed": recipe.seed, "tiny": options["base"]["tiny"], "device": options["base"]["device"]}
    depends |= {"text": _text_options(recipe, options), "context": recipe.context}
    depends |= {name: options["train"][name] for name in BASE_TRAINING}
    return Stage("base", ["base"], depends, work, SOURCE_ROWS, together=True)


def _train(recipe: Recipe, options: dict[str, Any], method: str, run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.adapt.train import train_adapter

        train_adapter(recipe, method, run, folder, console)
        _free_memory()

    adapter, train = dict(options["adapter"]), dict(options["train"])
    del adapter["methods"], train["save_steps"], train["gradient_checkpointing"]  # these change no result
    if method != "lora+":
        del adapter["loraplus_lr_ratio"]
    del train["learning_rates"]
    train["learning_rate"] = recipe.train.rate(method)
    depends = {"seed": recipe.seed, "adapter": adapter, "train": train, "text": _text_options(recipe, options)}
    depends |= {"base": _model_options(options)}
    base, inputs = _model_sources(recipe)
    reads = ["corpus/train.parquet", "corpus/validation.parquet", *base]
    return Stage(f"train/{method}", [f"adapters/{method}"], depends, work, reads, inputs, together=True)


def _evaluate(recipe: Recipe, options: dict[str, Any], name: str, run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng import load
        from topeng.adapt.train import base_path
        from topeng.evaluate.scores import evaluate_model

        adapter = None if name == "base" else run / "adapters" / name
        model, tokenizer = load(
            base_path(recipe, run), adapter, recipe.base.dtype, recipe.base.device, recipe.base.revision
        )
        evaluate_model(recipe, name, model, tokenizer, run, folder, console)
        del model
        _free_memory()

    depends = {"seed": recipe.seed, "evaluate": options["evaluate"], "generate": options["generate"]}
    depends |= {"base": _model_options(options), "max_length": recipe.text.max_length}
    base, inputs = _model_sources(recipe)
    trained = [] if name == "base" else [f"adapters/{name}"]
    reads = ["corpus/test.parquet", "source/test.parquet", *base, *trained]
    return Stage(f"evaluate/{name}", [f"evaluate/{name}"], depends, work, reads, inputs)


def _compare(models: list[str], run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.evaluate.compare import compare_models

        scores = compare_models(run / "evaluate", models)
        write_atomically(folder / "scores.json", json.dumps(scores, indent=1))

    return Stage("compare", ["scores.json"], {"models": models}, work, [f"evaluate/{name}" for name in models])


def _report(recipe: Recipe, options: dict[str, Any], models: list[str], run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.report.page import write_report

        write_report(run, folder / "report.html", recipe.report.title, recipe.report.answers)

    reads = ["corpus/funnel.json", "corpus/clusters.json", "corpus/umap.parquet", "corpus/overlap.json", "scores.json"]
    reads += [f"adapters/{method}" for method in recipe.adapter.methods] + [f"evaluate/{name}" for name in models]
    return Stage("report", ["report.html"], options, work, reads)


def _free_memory() -> None:
    """A trainer and its model hold each other; the next stage loads a base of its own."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _inputs(files: list[str]) -> list[str]:
    """Local files behind paths and globs; what matches nothing stands for itself, and ingest says so."""
    return [match for name in files for match in sorted(glob.glob(name, recursive=True)) or [name]]


def _text_options(recipe: Recipe, options: dict[str, Any]) -> dict[str, Any]:
    """The decoding block's length is a text option where end tokens fill it."""
    block = {"block_length": recipe.generate.block_length} if recipe.text.eos == "block" else {}
    return options["text"] | block


def _model_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options["base"].items() if name != "tiny"}


def _model_sources(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The output or the input that the base model comes from."""
    return ([], [recipe.base.model]) if recipe.base.model else (["base"], [])
