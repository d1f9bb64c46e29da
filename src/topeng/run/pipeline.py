"""A run, from a corpus to a report: the page to read first.

    corpus/*, source ──> base/convert, base ──> train/METHOD ──> likelihood/MODEL, evaluate/MODEL ──> compare ──> report

Each stage declares its outputs, its slice of the recipe and what it reads. The run folder runs the stages that are not
finished. Heavy modules are imported inside the stages.
"""

import gc
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from topeng.adapt.settings import CONVERTED, Adapting, Training
from topeng.corpus.files import local_files
from topeng.errors import RecipeError
from topeng.recipe import Recipe, parse, slices
from topeng.run.folder import Stage
from topeng.system.files import write_atomically

SOURCE_ROWS = ["source/train.parquet", "source/test.parquet", "source/plain.parquet"]
CORPUS_FILES = [
    *("train.parquet", "validation.parquet", "test.parquet", "decisions.parquet", "umap.parquet"),
    *("funnel.json", "clusters.json", "overlap.json", "corpus.json", "README.md"),
]
TRAINING_ROWS = ["corpus/train.parquet", "corpus/validation.parquet"]
MAP_FILES = ["corpus/umap.parquet", "corpus/clusters.json"]
DOES = {  # prefix of the name of a stage -> description that is shown while it runs
    "corpus/ingest": "read the rows",
    "corpus/draw": "filter and sample rows, hold out validation and test rows",
    "corpus/embed": "turn rows into vectors",
    "corpus/select": "select the training rows",
    "corpus/map": "draw the map of the rows",
    "source": "read rows of the language that the base knows",
    "base/convert": "make a causal model one that fills masks",
    "base": "pretrain the base",
    "train/": "train this adapter",
    "sweep/": "try this learning rate",
    "sweep": "collect the trials",
    "likelihood/": "score held-out rows",
    "evaluate/": "answer some of the held-out rows",
    "compare": "compare the scores",
    "report": "write the report and the model cards",
}


def stages(recipe: Recipe, run: Path, console: Console) -> list[Stage]:
    """The stages of a recipe, in order.

    Args:
        run: the run folder, from which stages read the outputs of earlier ones.
    """
    base = [] if recipe.base.model else [*_convert(recipe), _base(recipe, run, console)]
    train = [_train(recipe, training, run, console) for training in recipe.trainings]
    models = ["base", *(training.name for training in recipe.trainings)]
    evaluate = [_evaluate(recipe, training, run, console) for training in (None, *recipe.trainings)]
    return [
        *_corpus(recipe, run, console),
        _map(recipe, run),
        _source(recipe, console),
        *base,
        *train,
        *chain(*zip(*evaluate, strict=True)),  # likelihoods, then answers: those of one kind may run side by side
        _compare(recipe, models, run),
        _report(recipe, models, run),
    ]


def stages_for(recipe: Recipe, wanted: str, run: Path, console: Console) -> list[Stage]:
    """The stages whose names start with `wanted`, and all stages whose outputs they read.

    `corpus` includes the rows of the source, and `sweep` gives the stages of a search for learning rates.

    Raises:
        RecipeError: the recipe has no such stage.
    """
    planned = (sweep_stages if wanted == "sweep" else stages)(recipe, run, console)
    starts = ("corpus/", "source") if wanted == "corpus" else wanted
    needed, reads = list[Stage](), set[str]()
    for stage in reversed(planned):  # a stage only reads outputs of earlier ones
        if stage.name.startswith(starts) or reads & set(stage.outputs):
            needed.insert(0, stage)
            reads |= set(stage.reads)
    if not needed:
        raise RecipeError(f"the recipe has no stage `{wanted}`, because it sets base.model = {recipe.base.model}")
    return [replace(stage, does=_does(stage.name)) for stage in needed]


def do_apart(recipe: str, run: Path, wanted: str, shown: tuple[bool, bool], name: str, folder: Path) -> None:
    """Does the work of one stage in a worker process, with progress in plain lines.

    Args:
        recipe: the resolved recipe as YAML.
        wanted: as in `stages_for`.
        shown: whether progress is written to stderr, and whether it is suppressed.
        name: name of the stage.
        folder: folder to write into.
    """
    console = Console(force_terminal=False, soft_wrap=True, stderr=shown[0], quiet=shown[1])
    planned = stages_for(parse(yaml.safe_load(recipe)), wanted, run, console)
    next(stage for stage in planned if stage.name == name).work(folder)


def _does(name: str) -> str:
    return next((words for start, words in DOES.items() if name.startswith(start)), "")


def sweep_stages(recipe: Recipe, run: Path, console: Console) -> list[Stage]:
    """The stages of a search for learning rates: those up to the base, one stage per trial, and their results."""
    from topeng.adapt.sweep import trials

    before = [stage for stage in stages(recipe, run, console) if stage.name.startswith(("corpus", "source", "base"))]
    asked = [slices.adapting(recipe, method) for method in recipe.adapter.methods]
    tried = {name: _trial(recipe, one, name, run, console) for name, one in trials(asked, recipe.sweep).items()}
    return [*before, *tried.values(), _sweep(list(tried), run)]


def _corpus(recipe: Recipe, run: Path, console: Console) -> list[Stage]:
    """Four stages, so that another selection does not repeat reading millions of rows or embedding thousands."""
    ingesting, drawing = slices.ingesting(recipe), slices.drawing(recipe)
    embedding, selecting = slices.embedding(recipe), slices.selecting(recipe)

    def ingest(folder: Path) -> None:
        from topeng.corpus.stages import ingest_corpus

        ingest_corpus(ingesting, folder, console)

    def draw(folder: Path) -> None:
        from topeng.corpus.stages import draw_corpus

        draw_corpus(drawing, run, folder, console)

    def embed(folder: Path) -> None:
        from topeng.corpus.stages import embed_corpus

        embed_corpus(embedding, run, folder, console)

    def select(folder: Path) -> None:
        from topeng.corpus.select import select_corpus

        select_corpus(selecting, run, folder, console)

    files, benchmarks = _inputs(ingesting.corpus.files), _inputs(drawing.options.benchmarks)
    embedder, selected = [embedding.options.embedder], [f"corpus/{name}" for name in CORPUS_FILES]
    read = ["corpus/ingested", "corpus/drawn", "corpus/embedded"]
    return [
        Stage("corpus/ingest", ["corpus/ingested"], ingesting, ingest, inputs=files),
        Stage("corpus/draw", ["corpus/drawn"], drawing, draw, ["corpus/ingested"], benchmarks),
        Stage("corpus/embed", ["corpus/embedded"], embedding, embed, ["corpus/drawn"], embedder),
        Stage("corpus/select", selected, selecting, select, read),
    ]


def _map(recipe: Recipe, run: Path) -> Stage:
    page = slices.page(recipe)

    def work(folder: Path) -> None:
        from topeng.report.map import write_map

        (folder / "corpus").mkdir(exist_ok=True)
        write_map(run / "corpus", folder / "corpus" / "map.html", page.title, page.language)

    return Stage("corpus/map", ["corpus/map.html"], page, work, MAP_FILES)


def _source(recipe: Recipe, console: Console) -> Stage:
    asked = slices.source(recipe)

    def work(folder: Path) -> None:
        from topeng.corpus.stages import build_source

        build_source(asked, folder, console)

    options = asked.options
    held_out = [options.held_out] if options.held_out else []
    inputs = [*_inputs([*options.files, *options.plain_files, *asked.benchmarks]), *held_out]
    return Stage("source", [*SOURCE_ROWS, "source/funnel.json"], asked, work, inputs=inputs)


def _convert(recipe: Recipe) -> list[Stage]:
    """The stage that converts a causal model, if the recipe names one."""
    asked = slices.converting(recipe)
    if asked is None:
        return []

    def work(folder: Path) -> None:
        from topeng.adapt.convert import convert

        if not (folder / CONVERTED).exists():  # if it exists after a kill, it is complete
            convert(asked.convert, folder / CONVERTED, asked.shift, asked.revision)
        _free_memory()

    return [Stage("base/convert", [CONVERTED], asked, work, inputs=[asked.convert])]


def _base(recipe: Recipe, run: Path, console: Console) -> Stage:
    asked = slices.pretraining(recipe)

    def work(folder: Path) -> None:
        from topeng.adapt.pretrain import pretrain_base

        pretrain_base(asked, run, folder, console)

    start = [asked.tiny.start] if asked.tiny.start else []
    target = [] if asked.tiny.rows == "source" else TRAINING_ROWS
    reads = [*SOURCE_ROWS, *target, *([CONVERTED] if asked.converted else [])]
    return Stage("base", ["base"], asked, work, reads, start, together=True)


def _train(recipe: Recipe, training: Training, run: Path, console: Console) -> Stage:
    asked, name = slices.adapting(recipe, training.method, training.seed, training.objective), training.name

    def work(folder: Path) -> None:
        from topeng.adapt.train import train_adapter

        train_adapter(asked, name, run, folder, console)
        _free_memory()

    base, inputs = _model_sources(recipe)
    reads = [*TRAINING_ROWS, *base]
    return Stage(f"train/{name}", [f"adapters/{name}"], asked, work, reads, inputs, together=True, apart=True)


def _trial(recipe: Recipe, asked: Adapting, name: str, run: Path, console: Console) -> Stage:
    """A short training, of which only the held-out loss is kept."""

    def work(folder: Path) -> None:
        from topeng.adapt.sweep import run_trial

        run_trial(asked, run, folder, folder / "sweep" / f"{name}.json", console)
        _free_memory()

    base, inputs = _model_sources(recipe)
    reads = [*TRAINING_ROWS, *base]
    return Stage(f"sweep/{name}", [f"sweep/{name}.json"], asked, work, reads, inputs, together=True, apart=True)


def _sweep(names: list[str], run: Path) -> Stage:
    def work(folder: Path) -> None:
        found = [json.loads((run / "sweep" / f"{name}.json").read_text(encoding="utf-8")) for name in names]
        write_atomically(folder / "sweep.json", json.dumps(found, indent=1))

    return Stage("sweep", ["sweep.json"], {"trials": names}, work, [f"sweep/{name}.json" for name in names])


def _evaluate(recipe: Recipe, training: Training | None, run: Path, console: Console) -> list[Stage]:
    """Two stages, so that a kill while answers are generated, or other decoding settings, do not repeat likelihoods."""
    name, scoring = training.name if training else "base", slices.scoring(recipe)
    answering = slices.answering(recipe, training)

    def load_model() -> Any:
        from topeng import load
        from topeng.adapt.train import base_path
        from topeng.evaluate.scores import Model

        adapter, base = run / "adapters" / name if training else None, scoring.base
        return Model(*load(base_path(base, run), adapter, base.dtype, base.device, base.revision))

    def score(folder: Path) -> None:
        from topeng.evaluate.scores import score_model

        score_model(scoring, name, load_model(), run, folder, console)
        _free_memory()

    def answer(folder: Path) -> None:
        from topeng.evaluate.scores import evaluate_model

        evaluate_model(answering, name, load_model(), run, folder, console)
        _free_memory()

    base, inputs = _model_sources(recipe)
    trained = [f"adapters/{name}"] if training else []
    reads, likelihood = ["corpus/test.parquet", "source/test.parquet", *base, *trained], f"likelihood/{name}"
    return [
        Stage(likelihood, [likelihood], scoring, score, reads, inputs, apart=True),
        Stage(f"evaluate/{name}", [f"evaluate/{name}"], answering, answer, [*reads, likelihood], inputs, apart=True),
    ]


def _compare(recipe: Recipe, models: list[str], run: Path) -> Stage:
    encoder, scored = recipe.evaluate.bertscore_model, [f"evaluate/{name}" for name in models]

    def work(folder: Path) -> None:
        from topeng.evaluate.compare import compare_models

        scores = compare_models([run / name for name in scored], encoder, recipe.base.device)
        write_atomically(folder / "scores.json", json.dumps(scores, indent=1))

    return Stage("compare", ["scores.json"], {"bertscore_model": encoder}, work, scored, [encoder] if encoder else [])


def _report(recipe: Recipe, models: list[str], run: Path) -> Stage:
    page = recipe.report

    def work(folder: Path) -> None:
        from topeng.report.model_card import write_cards
        from topeng.report.page import write_report

        write_report(run, folder / "report.html", page.title, page.answers, page.language)
        write_cards(run, folder / "cards", page.title, page.licence)

    reads = ["corpus/funnel.json", *MAP_FILES, "corpus/map.html", "corpus/overlap.json", "scores.json"]
    reads += [f"adapters/{name}" for name in models if name != "base"] + [f"evaluate/{name}" for name in models]
    return Stage("report", ["report.html", "cards"], recipe, work, reads)


def _free_memory() -> None:
    """Frees a trainer and its model, which refer to each other, before the next stage loads a base.

    The remaining objects are permanent, so they are frozen. Otherwise a training would search them twice, 0.3 s each.
    """
    import torch

    gc.collect()
    gc.freeze()
    torch.cuda.empty_cache()


def _inputs(files: list[str]) -> list[str]:
    """The local files of paths, globs and folders. A name that matches nothing is kept, and ingest reports it."""
    return [match for name in files for match in local_files(name) or [name]]


def _model_sources(recipe: Recipe) -> tuple[list[str], list[str]]:
    """The output or the input that the base model comes from."""
    return ([], [recipe.base.model]) if recipe.base.model else (["base"], [])
