"""What each command of `topeng` does, given its own arguments and the remaining options. Heavy modules are imported
only by the commands that need them.
"""

import argparse
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topeng.errors import GenerationError, RecipeError

if TYPE_CHECKING:
    from topeng.generate import Settings
    from topeng.recipe import Recipe
    from topeng.system.workers import Workers


def run(known: argparse.Namespace, rest: list[str]) -> int:
    from topeng import recipe as recipes

    overrides = parse_overrides(rest)
    path = known.recipe or str(resources.files("topeng") / "recipes" / "tiny.yaml")
    recipe = recipes.load(path, overrides)
    folder = Path(known.run_dir or Path("runs") / ("demo" if known.recipe is None else Path(path).stem))
    prepare_libraries()
    from rich.console import Console

    from topeng.run.checks import check
    from topeng.run.folder import RunFolder
    from topeng.run.pipeline import stages_for
    from topeng.system import ranks

    ranks.use_own_gpu()
    console = Console(quiet=ranks.RANK > 0)
    sweep, plan = (getattr(known, flag, False) for flag in ("sweep", "plan"))
    wanted = "sweep" if sweep else known.last
    planned = stages_for(recipe, wanted, folder, console)
    if known.dry_run or plan:
        from topeng.run.plan import print_plan, print_trial
        from topeng.run.verdict import print_verdict

        print_plan(recipe, planned, folder, console)
        if plan:
            print_trial(recipe, folder, console)
        print_verdict(recipe, folder, console)
        return 0
    check(recipe, planned)
    if ranks.RANK > 0:
        RunFolder(folder).follow(planned)
        return 0
    text = recipes.dump(recipe)
    with RunFolder(folder).locked() as locked, _workers(recipe, text, folder, wanted) as side_by_side:
        locked.run(planned, text, recipe.seed, console, side_by_side)
    _print_results(folder, wanted, console)
    return 0


@contextmanager
def _workers(recipe: "Recipe", text: str, folder: Path, wanted: str) -> Iterator["Workers | None"]:
    """Processes for stages that are done side by side; none where `threads` asks for none, or ranks work."""
    from topeng.system import ranks

    if recipe.threads is None or ranks.RANKS > 1:
        yield None
        return
    from topeng.run.pipeline import do_apart
    from topeng.system.workers import workers

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work, count = partial(do_apart, text, folder, wanted), max(1, cores // recipe.threads)
    with workers(work, count, recipe.threads, prepare_libraries) as started:
        yield started


def _print_results(folder: Path, last: str, console: Any) -> None:
    """What a run has come to, and where it is."""
    if last == "sweep":
        from topeng.adapt.sweep import print_sweep

        print_sweep(folder / "sweep.json", console)
    if last in ("compare", "report"):
        from topeng.report.ending import print_ending

        print_ending(folder, console)
        return
    console.print(f"The run folder is {folder}", highlight=False, soft_wrap=True)


def status(known: argparse.Namespace, rest: list[str]) -> int:
    from rich.console import Console

    from topeng import recipe as recipes
    from topeng.run.pipeline import stages_for
    from topeng.run.status import open_run, print_status

    path = Path(known.folder)
    folder = open_run(path)
    recipe = recipes.load(known.recipe or path / "recipe.yaml", parse_overrides(rest))
    print_status(folder, stages_for(recipe, "report", path, Console(quiet=True)), Console())
    return 0


def corpus(known: argparse.Namespace, rest: list[str]) -> int:
    folders = [Path(folder) for folder in known.folders]
    if (known.recipe, len(folders)) == ("verify", 1):
        _refuse(rest)
        from topeng.corpus.audit import print_checks

        return print_checks(folders[0])
    if (known.recipe, len(folders)) == ("diff", 2):
        _refuse(rest)
        from topeng.corpus.audit import print_difference

        return print_difference(*folders)
    if known.recipe == "check" and folders:
        return _check_corpus([str(name) for name in folders], parse_overrides(rest))
    if known.recipe in ("verify", "diff", "check") or folders:
        raise RecipeError("`topeng corpus` takes RECIPE, `check FILE…`, `verify DIR`, or `diff DIR DIR`")
    return run(known, rest)


def _check_corpus(names: list[str], overrides: dict[str, str]) -> int:
    """`topeng corpus check`: lengths are tokens of the base that is named or comes with the package, or else words."""
    from topeng import kecil
    from topeng import recipe as recipes
    from topeng.corpus.check import check_files
    from topeng.corpus.readers import reading

    values: dict[str, Any] = {}
    for name, value in overrides.items():
        recipes.set_option(values, name, value)
    recipe = recipes.parse(values)
    how, languages = reading(recipe.corpus, "corpus"), recipe.corpus.languages
    base = recipe.base.model or (kecil.NAME if kecil.FOLDER.exists() else None)
    if base is None:
        return check_files(names, how, languages, lambda text: len(text.split()), "words", None)
    prepare_libraries()
    from topeng.models import load_tokenizer
    from topeng.text.chat import encode_text

    tokenizer, unit = load_tokenizer(base, recipe.base.revision), f"tokens of {Path(base).name}"
    return check_files(
        names, how, languages, lambda text: len(encode_text(tokenizer, text)), unit, recipe.text.max_length
    )


def compare(known: argparse.Namespace, rest: list[str]) -> int:
    folders = [Path(folder) for folder in (known.recipe, *known.folders)]
    if not known.folders and not folders[0].is_dir():
        return run(known, rest)
    overrides = parse_overrides(rest)
    encoder = overrides.pop("evaluate.bertscore_model", None)
    if overrides or known.run_dir or known.dry_run:
        raise RecipeError("`topeng compare` of runs and adapters takes only --out and --evaluate.bertscore_model")
    prepare_libraries()
    import json

    from rich.console import Console

    from topeng.evaluate.compare import compare_models
    from topeng.report.table import print_comparison
    from topeng.system.files import write_atomically

    scores = compare_models(folders, encoder)
    print_comparison(scores, Console())
    if known.out:
        write_atomically(known.out, json.dumps(scores, indent=1))
    return 0


def generate(known: argparse.Namespace, rest: list[str]) -> int:
    settings = decoding_settings(known.preset, parse_overrides(rest), known.model)
    from topeng.text.rows import read_prompts

    prompts = [*known.prompt, *(read_prompts(known.file) if known.file else [])]
    if not prompts:
        raise GenerationError("no prompt was given. Write one after the model, or name a file of prompts (--file F).")
    prepare_libraries()
    from rich.console import Console

    from topeng import load
    from topeng.generate.answer import empty_cause
    from topeng.generate.job import answer_prompts

    source = {name: getattr(known, name) for name in ("model", "adapter", "template", "system")}
    loaded = load(known.model, known.adapter)
    records = answer_prompts(loaded, prompts, settings, source, known.out, Console(stderr=True))
    if not known.out:
        for record in records:
            print(record["answer"])
    empty = sum(not record["answer"].strip() for record in records)
    if empty:
        print(f"topeng: {empty} of {len(records)} answers are empty: {empty_cause(settings)}", file=sys.stderr)
    if known.html:
        from topeng.generate.animation import write_animation

        write_animation(known.html, records, source | {"preset": known.preset}, settings, known.language)
    for path in filter(None, (known.out, known.html)):
        print(f"written: {path}")
    return 0


def chat(known: argparse.Namespace, rest: list[str]) -> int:
    settings = decoding_settings(known.preset, parse_overrides(rest), known.model)
    prepare_libraries()
    from rich.console import Console

    from topeng.generate.settings import checkpoint_settings

    check_turns(known.turns)
    turns = checkpoint_settings(known.model).get("turns") if known.turns is None else known.turns
    with Console(stderr=True).status(f"loading {known.model}"):
        from topeng.cli.conversation import Chat

        chat = Chat(known.model, known.adapter, settings, system=known.system, turns=turns)
    chat.talk()
    return 0


def check_turns(turns: int | None) -> None:
    """
    Raises:
        GenerationError: fewer than none are asked for.
    """
    if turns is not None and turns < 0:
        raise GenerationError(f"--turns = {turns} must be 0 or more")


def serve(known: argparse.Namespace, rest: list[str]) -> int:
    settings = decoding_settings(known.preset, parse_overrides(rest), known.model)
    check_turns(known.turns)
    if missing := [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise GenerationError(f"`topeng serve` needs {' and '.join(missing)}: pip install 'topeng[serve]'")
    prepare_libraries()
    from topeng.serve.command import serve

    serve(known, settings)
    return 0


def lm_eval(known: argparse.Namespace, rest: list[str]) -> int:
    prepare_libraries()
    from topeng.evaluate.harness import run_harness

    run_harness(rest, known.preset)
    return 0


def decoding_settings(preset: str, overrides: dict[str, str], model: str) -> "Settings":
    """A preset, what a model's checkpoint asks for, and overrides: each has its way over those before.

    Raises:
        RecipeError: the preset or a setting is unknown, or a value breaks a rule.
    """
    from topeng import recipe as recipes
    from topeng.generate.settings import PRESETS, checkpoint_settings, preset_values

    if preset not in PRESETS:
        raise RecipeError(f"--preset = {preset!r} must be one of {', '.join(PRESETS)}")
    values: dict[str, Any] = {"generate": preset_values(preset, checkpoint_settings(model))}
    for name, value in overrides.items():
        recipes.set_option(values, f"generate.{name}", value)
    return recipes.parse(values).generate


def export(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    prepare_libraries()
    from topeng.adapt.export import export as write

    write(known.source, known.out, known.format, base=known.base, names=known.names, precision=known.precision)
    print(f"written: {known.out}")
    return 0


def convert(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    prepare_libraries()
    from topeng.adapt.convert import convert as write

    write(known.source, known.out, known.shift)
    print(f"written: {known.out}")
    return 0


def push(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    from topeng.adapt.push import list_files, push_folder

    for name, size in list_files(Path(known.folder), known.name):
        print(f"{size / 1e6:10,.1f} MB  {name}")
    if known.dry_run:
        print(f"Nothing was uploaded. These are the files that {known.name} would contain.")
        return 0
    prepare_libraries()
    print(f"uploaded: {push_folder(Path(known.folder), known.name, known.private)}")
    return 0


def options(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    from topeng.options import meant
    from topeng.recipe import describe

    listed = describe()
    sections = list(dict.fromkeys(name.rpartition(".")[0] or name for name, _, _ in listed))
    if known.section and known.section not in sections:
        raise RecipeError(f"{known.section!r} is not a section of a recipe: {meant(known.section, sections)}")
    for name, default, text in listed:
        if known.section and not f"{name}.".startswith(f"{known.section}."):
            continue
        print(f"--{name} {default}\n    {text}")
    return 0


def completion(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    from topeng.cli import arguments
    from topeng.cli.completion import script

    print(script(known.shell, arguments.parser()), end="")
    return 0


def parse_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`--a.b VALUE` and `--a.b=VALUE`, as they were written.

    Raises:
        RecipeError: an argument has no name, or an option no value.
    """
    overrides, rest = {}, list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise RecipeError(f"unexpected argument {name!r}. Options are written --name VALUE.")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"{name} needs a value. Write {name} VALUE.")
            value = rest.pop(0)
        overrides[name[2:]] = value
    return overrides


def _refuse(rest: Sequence[str]) -> None:
    if rest:
        raise RecipeError(f"unexpected argument {rest[0]!r}")


def prepare_libraries() -> None:
    """Called before they are imported: what they say of themselves is not what a user asked for.

    Nor do torch's threads spin while they wait for one another, some of them without a core: next to one busy process a
    tiny model trains 2 to 24 times as fast without (alone on two cores a tenth slower).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DAFT_SHOW_QUERY_ID", "0")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    warnings.filterwarnings("ignore", module=r"umap|numba|sklearn|peft|transformers|sentence_transformers")
    for name in ("daft_local_execution", "sentence_transformers"):  # an error is raised too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
