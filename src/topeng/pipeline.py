"""A run, from a corpus to a report: the page to read first.

    corpus/*, source ──> base ──> train/METHOD ──> likelihood/MODEL, evaluate/MODEL ──> compare ──> report

Each stage says what it leaves, which options it depends on, and what it reads; `run` does those that are not
finished. Heavy imports are the stages' own.
"""

import gc
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from topeng import kecil
from topeng.adapt.settings import METHODS, Training
from topeng.corpus.files import local_files
from topeng.corpus.settings import READING_OPTIONS
from topeng.errors import RecipeError
from topeng.recipe import Recipe, parse
from topeng.run import Stage, write_atomically

SOURCE_ROWS = ["source/train.parquet", "source/test.parquet", "source/plain.parquet"]
CORPUS_FILES = [
    *("train.parquet", "validation.parquet", "test.parquet", "decisions.parquet", "umap.parquet"),
    *("funnel.json", "clusters.json", "overlap.json", "corpus.json", "README.md"),
]
TRAINING_ROWS = ["corpus/train.parquet", "corpus/validation.parquet"]
MAP_FILES = ["corpus/umap.parquet", "corpus/clusters.json"]
EMBED_OPTIONS = {"embedder", "embedder_revision", "embedding_tokens", "embedding_dtype", "lower_case"}
SELECT_OPTIONS = {"clusters", "selection", "train_rows", "umap_rows", "licences"}
"""Of the corpus, those that the draw does not depend on."""
LIKELIHOOD_OPTIONS = ("draws", "replicates")
"""Of the evaluation, those that a likelihood depends on."""
BASE_TRAINING = ("batch_tokens", "noise", "precision", "compile", "warmup_fraction", "max_grad_norm")
"""Of the training options, those that a tiny base is pretrained by as well."""

DOES = {  # the start of a stage's name -> what it does, for a person who waits
    "corpus/ingest": "read the rows",
    "corpus/draw": "filter and draw rows, hold out those of validation and test",
    "corpus/embed": "turn rows into vectors, to tell what they are about",
    "corpus/select": "choose the rows to train on",
    "corpus/map": "draw the map of the rows",
    "source": "rows of the language that the base knows",
    "base": "pretrain a tiny base",
    "train/": "train this adapter",
    "sweep/": "try this learning rate",
    "sweep": "gather the trials",
    "likelihood/": "score held-out rows",
    "evaluate/": "answer some of the held-out rows",
    "compare": "compare the scores",
    "report": "write the report and the model cards",
}


def stages(recipe: Recipe, run: Path, console: Console) -> list[Stage]:
    """The stages of a recipe, in order.

    Args:
        run: the run folder, from which stages read what earlier ones left.
    """
    options = recipe.results
    base = [] if recipe.base.model else [_base(recipe, options, run, console)]
    train = [_train(recipe, options, training, run, console) for training in recipe.trainings]
    models = ["base", *(training.name for training in recipe.trainings)]
    evaluate = [_evaluate(recipe, options, training, run, console) for training in (None, *recipe.trainings)]
    return [
        *_corpus(recipe, options, run, console),
        _map(recipe, run),
        _source(recipe, options, console),
        *base,
        *train,
        *chain(*zip(*evaluate, strict=True)),  # likelihoods, then answers: those of one kind may be done side by side
        _compare(recipe, models, run),
        _report(recipe, options, models, run, console),
    ]


def stages_for(recipe: Recipe, wanted: str, run: Path, console: Console) -> list[Stage]:
    """The stages whose name starts with `wanted`, and all that these read; for `corpus`, the source's rows too; for
    `sweep`, those of a search for learning rates.

    Raises:
        RecipeError: the recipe has none.
    """
    planned = (sweep_stages if wanted == "sweep" else stages)(recipe, run, console)
    starts = ("corpus/", "source") if wanted == "corpus" else wanted
    needed, reads = list[Stage](), set[str]()
    for stage in reversed(planned):  # a stage reads of earlier ones alone
        if stage.name.startswith(starts) or reads & set(stage.outputs):
            needed.insert(0, stage)
            reads |= set(stage.reads)
    if not needed:
        raise RecipeError(f"the recipe has no stage `{wanted}`: it names base.model = {recipe.base.model}")
    return [replace(stage, does=_does(stage.name)) for stage in needed]


def do_apart(recipe: str, run: Path, wanted: str, name: str, folder: Path) -> None:
    """What a worker does: the work of one stage, told in plain lines.

    Args:
        recipe: as YAML, every option resolved.
        wanted: as of `stages_for`.
        name: of the stage.
        folder: to write into.
    """
    console = Console(force_terminal=False, soft_wrap=True)
    planned = stages_for(parse(yaml.safe_load(recipe)), wanted, run, console)
    next(stage for stage in planned if stage.name == name).work(folder)


def _does(name: str) -> str:
    return next((words for start, words in DOES.items() if name.startswith(start)), "")


def sweep_stages(recipe: Recipe, run: Path, console: Console) -> list[Stage]:
    """The stages of a search for learning rates: up to the base, a stage a trial, and what they come to."""
    from topeng.adapt.sweep import trials

    before = [stage for stage in stages(recipe, run, console) if stage.name.startswith(("corpus", "source", "base"))]
    tried = {name: _trial(trial, name, run, console) for name, trial in trials(recipe).items()}
    return [*before, *tried.values(), _sweep(list(tried), run)]


def _corpus(recipe: Recipe, options: dict[str, Any], run: Path, console: Console) -> list[Stage]:
    """Four stages: reading millions of rows and embedding thousands need not be done again for another selection."""

    def ingest(folder: Path) -> None:
        from topeng.corpus.build import ingest_corpus

        ingest_corpus(recipe.corpus, recipe.seed, folder, console)

    def draw(folder: Path) -> None:
        from topeng.corpus.build import draw_corpus

        draw_corpus(recipe.corpus, recipe.seed, run, folder, console)

    def embed(folder: Path) -> None:
        from topeng.corpus.build import embed_corpus

        embed_corpus(recipe.corpus, recipe.seed, run, folder, console)

    def select(folder: Path) -> None:
        from topeng.corpus.select import select_corpus

        select_corpus(recipe.corpus, recipe.seed, run, folder, console)

    corpus = options["corpus"]
    source = {name: corpus[name] for name in (*READING_OPTIONS, "digest", "expected_rows")}
    if not recipe.corpus.files:
        source |= {"synthetic_rows": recipe.corpus.synthetic_rows, "seed": recipe.seed}
    drawing = {name: value for name, value in corpus.items() if name not in EMBED_OPTIONS | SELECT_OPTIONS}
    embedding = {name: corpus[name] for name in sorted(EMBED_OPTIONS)}
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
            "corpus/embed",
            ["corpus/embedded"],
            {"seed": recipe.seed, "corpus": embedding},
            embed,
            ["corpus/drawn"],
            [recipe.corpus.embedder],
        ),
        Stage(
            "corpus/select",
            [f"corpus/{name}" for name in CORPUS_FILES],
            {"seed": recipe.seed, "corpus": corpus},
            select,
            ["corpus/ingested", "corpus/drawn", "corpus/embedded"],
        ),
    ]


def _map(recipe: Recipe, run: Path) -> Stage:
    def work(folder: Path) -> None:
        from topeng.report.map import write_map

        (folder / "corpus").mkdir(exist_ok=True)
        write_map(run / "corpus", folder / "corpus" / "map.html", page.title, page.language)

    page = recipe.report
    depends = {"title": page.title, "language": page.language}
    return Stage("corpus/map", ["corpus/map.html"], depends, work, MAP_FILES)


def _source(recipe: Recipe, options: dict[str, Any], console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.corpus.build import build_source

        build_source(source, recipe.seed, folder, console)

    source = recipe.source
    if recipe.base.model == kecil.NAME and not source.files:
        source = replace(source, files=[str(kecil.HELD_OUT)])
    held_out = [source.held_out] if source.held_out else []
    inputs = [*_inputs([*source.files, *source.plain_files]), *held_out]
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

    depends = {"seed": recipe.seed, "tiny": options["base"]["tiny"]}
    depends |= {"text": _text_options(recipe, options), "context": recipe.context}
    depends |= {name: value for name, value in options["train"].items() if name in BASE_TRAINING}
    return Stage("base", ["base"], depends, work, SOURCE_ROWS, together=True)


def _train(recipe: Recipe, options: dict[str, Any], training: Training, run: Path, console: Console) -> Stage:
    seeded, method, name = replace(recipe, seed=training.seed), training.method, training.name

    def work(folder: Path) -> None:
        from topeng.adapt.train import train_adapter

        train_adapter(seeded, method, run, folder, console, name=name)
        _free_memory()

    depends = _training_options(seeded, options, method)
    base, inputs = _model_sources(recipe)
    reads = [*TRAINING_ROWS, *base]
    return Stage(f"train/{name}", [f"adapters/{name}"], depends, work, reads, inputs, together=True, apart=True)


def _trial(recipe: Recipe, name: str, run: Path, console: Console) -> Stage:
    """A short training, of which its held-out loss stays."""

    def work(folder: Path) -> None:
        from topeng.adapt.sweep import run_trial

        run_trial(recipe, run, folder, folder / "sweep" / f"{name}.json", console)
        _free_memory()

    (method,) = recipe.adapter.methods
    depends = _training_options(recipe, recipe.results, method)
    base, inputs = _model_sources(recipe)
    reads = [*TRAINING_ROWS, *base]
    return Stage(f"sweep/{name}", [f"sweep/{name}.json"], depends, work, reads, inputs, together=True, apart=True)


def _sweep(names: list[str], run: Path) -> Stage:
    def work(folder: Path) -> None:
        found = [json.loads((run / "sweep" / f"{name}.json").read_text(encoding="utf-8")) for name in names]
        write_atomically(folder / "sweep.json", json.dumps(found, indent=1))

    return Stage("sweep", ["sweep.json"], {"trials": names}, work, [f"sweep/{name}.json" for name in names])


def _evaluate(
    recipe: Recipe, options: dict[str, Any], training: Training | None, run: Path, console: Console
) -> list[Stage]:
    """Two stages: a kill while answers are generated, or other settings of them, cost no likelihoods."""
    name = training.name if training else "base"

    def load_model() -> tuple[Any, Any]:
        from topeng import load
        from topeng.adapt.train import base_path

        adapter, base = run / "adapters" / name if training else None, recipe.base
        return load(base_path(recipe, run), adapter, base.dtype, base.device, base.revision)

    def score(folder: Path) -> None:
        from topeng.evaluate.scores import score_model

        score_model(recipe, name, *load_model(), run, folder, console)
        _free_memory()

    def answer(folder: Path) -> None:
        from topeng.evaluate.scores import evaluate_model

        evaluate_model(recipe, training, trained_by, *load_model(), run, folder, console)
        _free_memory()

    trained_by = _training_options(recipe, options, training.method) if training else {}
    measured = recipe.evaluate.measured
    depends = {"seed": recipe.seed, "base": _model_options(options), "text": recipe.text.asked}
    scoring = depends | {option: measured[option] for option in LIKELIHOOD_OPTIONS}
    answering = depends | {"evaluate": measured, "generate": options["generate"], "languages": recipe.corpus.languages}
    base, inputs = _model_sources(recipe)
    trained = [f"adapters/{name}"] if training else []
    reads = ["corpus/test.parquet", "source/test.parquet", *base, *trained]
    likelihood = f"likelihood/{name}"
    return [
        Stage(likelihood, [likelihood], scoring, score, reads, inputs, apart=True),
        Stage(f"evaluate/{name}", [f"evaluate/{name}"], answering, answer, [*reads, likelihood], inputs, apart=True),
    ]


def _compare(recipe: Recipe, models: list[str], run: Path) -> Stage:
    encoder, scored = recipe.evaluate.bertscore_model, [f"evaluate/{name}" for name in models]

    def work(folder: Path) -> None:
        from topeng.evaluate.compare import compare_models

        scores = compare_models([run / name for name in scored], encoder)
        write_atomically(folder / "scores.json", json.dumps(scores, indent=1))

    return Stage("compare", ["scores.json"], {"bertscore_model": encoder}, work, scored, [encoder] if encoder else [])


def _report(recipe: Recipe, options: dict[str, Any], models: list[str], run: Path, console: Console) -> Stage:
    def work(folder: Path) -> None:
        from topeng.report.model_card import write_cards
        from topeng.report.page import write_report

        page = recipe.report
        write_report(run, folder / "report.html", page.title, page.answers, page.language)
        write_cards(run, folder / "cards", page.title, page.licence)

    reads = ["corpus/funnel.json", *MAP_FILES, "corpus/map.html", "corpus/overlap.json", "scores.json"]
    reads += [f"adapters/{name}" for name in models if name != "base"] + [f"evaluate/{name}" for name in models]
    return Stage("report", ["report.html", "cards"], options, work, reads)


def _free_memory() -> None:
    """A trainer and its model hold each other; the next stage loads a base of its own.

    What is left is here to stay: a training collects garbage twice, each time for 0.3 s if it looks through all of it.
    """
    import torch

    gc.collect()
    gc.freeze()
    torch.cuda.empty_cache()


def _inputs(files: list[str]) -> list[str]:
    """Local files behind paths, globs and folders; what matches nothing stands for itself, and ingest says so."""
    return [match for name in files for match in local_files(name) or [name]]


def _training_options(recipe: Recipe, options: dict[str, Any], method: str) -> dict[str, Any]:
    """What a method's training depends on: not what is another method's."""
    adapter, train = dict(options["adapter"]), dict(options["train"])
    for name in ("learning_rates", "seeds"):
        del train[name]
    train["learning_rate"] = recipe.train.rate(method)
    del adapter["methods"]
    if not METHODS[method].rate_of_b:
        del adapter["loraplus_lr_ratio"]
    shared = {"seed": recipe.seed, "train": train, "text": _text_options(recipe, options)}
    return shared | {"base": _model_options(options)} | ({} if METHODS[method].full else {"adapter": adapter})


def _text_options(recipe: Recipe, options: dict[str, Any]) -> dict[str, Any]:
    """The decoding block's length is a text option where end tokens fill it."""
    block = {"block_length": recipe.generate.block_length} if recipe.text.eos == "block" else {}
    return options["text"] | block


def _model_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options["base"].items() if name != "tiny"}


def _model_sources(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The output or the input that the base model comes from."""
    return ([], [recipe.base.model]) if recipe.base.model else (["base"], [])
