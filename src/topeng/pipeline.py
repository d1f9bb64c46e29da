"""A run, from a corpus to a report: the page to read first.

    corpus, source ──> base ──> train/METHOD ──> evaluate/MODEL ──> compare ──> report

Each stage says what it leaves, which options it depends on, and what it reads; `run` does those that are not
finished. Heavy imports are the stages' own.
"""

import glob
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from topeng.recipe import Recipe, as_dict
from topeng.run import Stage, write_atomically


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
        _corpus(recipe, options, console),
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
        ModelError: it cannot be reached, is of no known family, or its tokenizer lacks the chat format's tokens.
    """
    if recipe.base.model is None:
        return
    from topeng.models import load_config, load_tokenizer
    from topeng.text.chat import special_tokens

    load_config(recipe.base.model, recipe.base.revision)
    special_tokens(load_tokenizer(recipe.base.model, recipe.base.revision))


def _corpus(recipe: Recipe, options: dict[str, Any], console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.corpus.build import build_corpus

        build_corpus(recipe.corpus, recipe.seed, folder, console)

    depends = {"seed": recipe.seed, "corpus": options["corpus"]}
    return Stage("corpus", ["corpus"], depends, work, inputs=_inputs(recipe.corpus.files))


def _source(recipe: Recipe, options: dict[str, Any], console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.corpus.build import build_source

        build_source(recipe.source, recipe.seed, folder, console)

    held_out = [recipe.source.held_out] if recipe.source.held_out else []
    inputs = [*_inputs(recipe.source.files), *held_out]
    return Stage("source", ["source"], {"seed": recipe.seed, "source": options["source"]}, work, inputs=inputs)


def _base(recipe: Recipe, options: dict[str, Any], run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.adapt.train import pretrain_base

        pretrain_base(recipe, run, folder, console)

    depends = {"seed": recipe.seed, "tiny": options["base"]["tiny"], "device": options["base"]["device"]}
    depends |= {"text": options["text"], "block_length": recipe.generate.block_length}
    depends |= {name: options["train"][name] for name in ("warmup_fraction", "max_grad_norm")}
    return Stage("base", ["base"], depends, work, after=["source"])


def _train(recipe: Recipe, options: dict[str, Any], method: str, run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.adapt.train import train_adapter

        train_adapter(recipe, method, run, folder, console)

    adapter, train = dict(options["adapter"]), dict(options["train"])
    del adapter["methods"], train["save_steps"]
    if method != "lora+":
        del adapter["loraplus_lr_ratio"]
    train["learning_rate"] = train.pop("learning_rates").get(method, train["learning_rate"])
    depends = {"seed": recipe.seed, "adapter": adapter, "train": train, "text": options["text"]}
    depends |= {"base": _model_options(options), "block_length": recipe.generate.block_length}
    after, inputs = _model_sources(recipe)
    return Stage(f"train/{method}", [f"adapters/{method}"], depends, work, ["corpus", *after], inputs)


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

    depends = {"seed": recipe.seed, "evaluate": options["evaluate"], "generate": options["generate"]}
    depends |= {"base": _model_options(options), "max_length": recipe.text.max_length}
    after, inputs = _model_sources(recipe)
    trained = [] if name == "base" else [f"train/{name}"]
    return Stage(
        f"evaluate/{name}", [f"evaluate/{name}"], depends, work, ["corpus", "source", *after, *trained], inputs
    )


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

    after = [
        "corpus",
        *(f"train/{method}" for method in recipe.adapter.methods),
        *(f"evaluate/{name}" for name in models),
    ]
    return Stage("report", ["report.html"], options, work, [*after, "compare"])


def _inputs(files: list[str]) -> list[str]:
    """Local files behind paths and globs; what matches nothing stands for itself, and ingest says so."""
    return [match for name in files for match in sorted(glob.glob(name, recursive=True)) or [name]]


def _model_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options["base"].items() if name != "tiny"}


def _model_sources(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The stage or the input that the base model comes from."""
    return ([], [recipe.base.model]) if recipe.base.model else (["base"], [])
