"""The commands of a run: `run` and its single stages, `status`, `corpus` and `compare`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topeng.cli.commands import parse_overrides, prepare_libraries, refuse
from topeng.cli.output import Output
from topeng.errors import RecipeError

if TYPE_CHECKING:
    from topeng.recipe import Recipe
    from topeng.run.folder import Stage
    from topeng.system.workers import Workers


def run(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    from topeng import recipe as recipes

    overrides = parse_overrides(rest)
    path = known.recipe or str(resources.files("topeng") / "recipes" / "tiny.yaml")
    recipe = recipes.load(path, overrides)
    folder = Path(known.run_dir or Path("runs") / ("demo" if known.recipe is None else Path(path).stem))
    prepare_libraries(output.verbose)
    from topeng.run.checks import check
    from topeng.run.folder import RunFolder
    from topeng.run.pipeline import stages_for
    from topeng.system import ranks

    ranks.use_own_gpu()
    output = replace(output, quiet=output.quiet or ranks.RANK > 0)
    console = output.progress()
    sweep, plan = (getattr(known, flag, False) for flag in ("sweep", "plan"))
    wanted = "sweep" if sweep else known.last
    planned = stages_for(recipe, wanted, folder, console)
    if known.dry_run or plan:
        if ranks.RANK == 0:
            _plan(recipe, planned, folder, plan, output)
        return 0
    check(recipe, planned)
    if ranks.RANK > 0:
        RunFolder(folder).follow(planned)
        return 0
    text = recipes.dump(recipe)
    with RunFolder(folder).locked() as locked, _workers(recipe, text, folder, wanted, output) as side_by_side:
        locked.run(planned, text, recipe.seed, console, side_by_side)
    _write_results(folder, wanted, output)
    return 0


def _plan(recipe: "Recipe", planned: list["Stage"], folder: Path, trial: bool, output: Output) -> None:
    """Prints what a run will do and need. With `trial`, a few steps are timed."""
    from topeng.run.plan import plan_of, print_plan
    from topeng.run.trial import print_trial, trial_of
    from topeng.run.verdict import print_verdict, verdict_of

    plan = plan_of(recipe, planned, folder)
    timed = trial_of(recipe, folder) if trial else None
    verdict = verdict_of(recipe, folder, plan["training"]["steps"])

    def text(console: Any) -> None:
        print_plan(plan, console)
        if timed:
            print_trial(timed, console)
        print_verdict(verdict, console)

    output.result(lambda: {**plan, "trial": timed, "verdict": verdict}, text)


@contextmanager
def _workers(recipe: "Recipe", text: str, folder: Path, wanted: str, output: Output) -> Iterator["Workers | None"]:
    """Processes for stages that run side by side, or None if `threads` is not set or there are several ranks."""
    from topeng.system import ranks

    if recipe.threads is None or ranks.RANKS > 1:
        yield None
        return
    from topeng.run.pipeline import do_apart
    from topeng.system.workers import workers

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work = partial(do_apart, text, folder, wanted, output.shown)
    prepare = partial(prepare_libraries, output.verbose)
    with workers(work, max(1, cores // recipe.threads), recipe.threads, prepare) as started:
        yield started


def _write_results(folder: Path, last: str, output: Output) -> None:
    """Prints the results of a run, and where they are."""
    from topeng.run.results import results_of

    def text(console: Any) -> None:
        if last == "sweep":
            from topeng.adapt.sweep import print_sweep

            print_sweep(folder / "sweep.json", console)
        if last in ("compare", "report"):
            from topeng.report.ending import print_ending

            print_ending(folder, console)
            return
        console.print(f"The run folder is {folder}", highlight=False, soft_wrap=True)

    output.result(lambda: results_of(folder, last), text)


def status(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    from rich.console import Console

    from topeng import recipe as recipes
    from topeng.run.pipeline import stages_for
    from topeng.run.status import open_run, print_status, status_of

    path = Path(known.folder)
    folder = open_run(path)
    recipe = recipes.load(known.recipe or path / "recipe.yaml", parse_overrides(rest))
    found = status_of(folder, stages_for(recipe, "report", path, Console(quiet=True)))
    output.result(lambda: found, partial(print_status, found))
    return 0


def corpus(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    folders = [Path(folder) for folder in known.folders]
    if (known.recipe, len(folders)) == ("verify", 1):
        refuse(rest)
        from topeng.corpus.audit import print_checks, verify

        checks = verify(folders[0])
        output.result(lambda: {"checks": checks}, lambda _: print_checks(checks))
        return int(any(check.problems for check in checks))
    if (known.recipe, len(folders)) == ("diff", 2):
        refuse(rest)
        from topeng.corpus.audit import diff, print_difference

        found = diff(*folders)
        output.result(lambda: asdict(found), lambda _: print_difference(folders[0], folders[1], found))
        return 0
    if known.recipe == "check" and folders:
        return _check_corpus([str(name) for name in folders], parse_overrides(rest), output)
    if known.recipe in ("verify", "diff", "check") or folders:
        raise RecipeError("`topeng corpus` takes RECIPE, `check FILE…`, `verify DIR`, or `diff DIR DIR`")
    return run(known, rest, output)


def _check_corpus(names: list[str], overrides: dict[str, str], output: Output) -> int:
    """`topeng corpus check`. Lengths are in tokens of the named base or of `kecil`, or in words if there is neither."""
    from topeng import kecil
    from topeng import recipe as recipes
    from topeng.corpus.check import check_files, print_files
    from topeng.corpus.readers import reading

    values: dict[str, Any] = {}
    for name, value in overrides.items():
        recipes.set_option(values, name, value)
    recipe = recipes.parse(values)
    how, languages = reading(recipe.corpus, "corpus"), recipe.corpus.languages
    base = recipe.base.model or (kecil.NAME if kecil.FOLDER.exists() else None)
    if base is None:
        checked = check_files(names, how, languages, lambda text: len(text.split()), "words", None)
    else:
        count, unit = _count_tokens(base, recipe.base.revision, output), f"tokens of {Path(base).name}"
        checked = check_files(names, how, languages, count, unit, recipe.text.max_length)
    output.result(lambda: {"files": checked}, partial(print_files, checked))
    return int(not all(one["usable"] for one in checked))


def _count_tokens(base: str, revision: str | None, output: Output) -> Callable[[str], int]:
    """A function that counts the tokens of a text. The tokenizer is only loaded if there is a text to count."""

    @cache
    def encode() -> Callable[[str], list[int]]:
        prepare_libraries(output.verbose)
        from topeng.models import load_tokenizer
        from topeng.text.chat import encode_text

        return partial(encode_text, load_tokenizer(base, revision))

    return lambda text: len(encode()(text))


def compare(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    folders = [Path(folder) for folder in (known.recipe, *known.folders)]
    if not known.folders and folders[0].is_file():
        return run(known, rest, output)
    overrides = parse_overrides(rest)
    encoder, device = (overrides.pop(name, None) for name in ("evaluate.bertscore_model", "base.device"))
    if overrides or known.run_dir or known.dry_run:
        raise RecipeError(
            "`topeng compare` of runs and adapters takes only --out, --evaluate.bertscore_model and --base.device"
        )
    prepare_libraries(output.verbose)
    import json

    from topeng.evaluate.compare import compare_models
    from topeng.report.table import print_comparison
    from topeng.run.results import scored_models
    from topeng.system.files import write_atomically

    models: list[Path] = []
    for folder in folders:
        scored, others = scored_models(folder)
        models += scored
        for name in others:
            print(
                f"topeng: {name} was left out, because {folder / 'recipe.yaml'} no longer names it. To compare it, add "
                f"{folder / 'adapters' / name}.",
                file=sys.stderr,
            )
    scores = compare_models(models, encoder, device)
    output.result(lambda: scores, partial(print_comparison, scores))
    if known.out:
        write_atomically(known.out, json.dumps(scores, indent=1))
    return 0
