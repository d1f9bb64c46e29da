"""The command `topeng`. Everything heavy is imported by the command that needs it."""

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topeng import __version__
from topeng.errors import GenerationError, RecipeError, Stopped, TopengError
from topeng.stop import SIGNALS, handling, stop

if TYPE_CHECKING:
    from topeng.generate import Settings

NO_MEMORY = ("can't allocate memory", "out of memory")
STAGE_COMMANDS = {  # command -> the last stage it does, by the start of its name
    "run": ("report", "all stages of a recipe"),
    "corpus": ("source", "read, sample, split and select the rows; or `verify DIR`, `diff DIR DIR`"),
    "base": ("base", "pretrain a tiny base, where the recipe names no model"),
    "train": ("train/", "train an adapter for each method"),
    "evaluate": ("evaluate/", "score the base and each adapter"),
    "compare": ("compare", "compare the scores of a recipe's methods; or of runs and adapters: RUN_OR_ADAPTER…"),
    "report": ("report", "write the page"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 with the error in one line, or 128 and the signal's number."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    try:
        with handling(stop, *SIGNALS):
            return known.command(known, rest)
    except TopengError as error:
        return _failed(str(error))
    except BrokenPipeError:  # of `topeng options | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # of what is written outside a run folder
        return _failed(f"{error}: choose another place, or mend this one")
    except (MemoryError, RuntimeError) as error:  # torch says so by the second
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        return _failed(f"the memory is full ({error}): smaller models, ranks, batches or canvases need less")
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT)
    except Stopped as stopped:
        return _stopped(stopped.signal)


def _failed(message: str) -> int:
    """Says so in one line, whatever a name in it holds."""
    print(f"topeng: {' '.join(message.splitlines())}", file=sys.stderr)
    return 1


def _stopped(number: int) -> int:
    """Says so, and returns the status that shells give a process that a signal has ended."""
    print(f"topeng: stopped by {signal.Signals(number).name}; the same command goes on from here", file=sys.stderr)
    return 128 + number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="topeng", description="Adapt masked diffusion language models to a language.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"topeng {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", "a small run on made-up text: nothing is downloaded", _run)
    demo.set_defaults(recipe=None, last="report")
    _add_run_options(demo)
    for name, (last, text) in STAGE_COMMANDS.items():
        command = _command(commands, name, text, {"corpus": _corpus, "compare": _compare}.get(name, _run))
        command.add_argument("recipe", metavar="RECIPE", help="a YAML file")
        if name == "corpus":
            command.add_argument("folders", nargs="*", metavar="DIR", help="of `verify` and `diff`: finished corpora")
        if name == "compare":
            command.usage = "topeng compare RECIPE [--run-dir DIR] | RUN_OR_ADAPTER… [--out F]"
            command.add_argument(
                "folders", nargs="*", metavar="RUN_OR_ADAPTER", help="scored before, in place of a recipe"
            )
            command.add_argument("--out", type=Path, metavar="F", help="of folders: write the figures as JSON")
        if name == "train":
            instead = command.add_mutually_exclusive_group()
            instead.add_argument(
                "--sweep", action="store_true", help="try learning rates on the validation rows instead"
            )
            instead.add_argument("--plan", action="store_true", help="print the plan, time a few steps, and stop")
        command.set_defaults(last=last)
        _add_run_options(command)

    generate = _command(commands, "generate", "answer prompts", _generate)
    generate.add_argument("model", help="a checkpoint folder or a model id")
    generate.add_argument("prompt", nargs="*", help="prompts")
    generate.add_argument(
        "--file", type=Path, metavar="F", help="prompts: lines of text, or .jsonl or .parquet with `input`"
    )
    generate.add_argument("--out", type=Path, metavar="F", help="write JSON Lines; a stopped command goes on there")
    generate.add_argument("--html", type=Path, metavar="F", help="write a page that shows how the answers came to be")
    generate.add_argument("--template", help="of every answer, with gaps: 'Namanya {4}.' has one of four tokens")
    _add_decoding_options(generate)

    chat = _command(commands, "chat", "talk with a model and watch it answer", _chat)
    chat.add_argument("model", help="a checkpoint folder or a model id")
    _add_decoding_options(chat)

    harness = _command(commands, "lm-eval", "tasks of lm-evaluation-harness", _lm_eval)
    harness.add_argument("--preset", help="tasks by one name: indonesian")
    harness.usage = "topeng lm-eval [--preset NAME] [run] --model_args pretrained=MODEL,… [--tasks T …] [ARGUMENT …]"
    harness.epilog = (
        "All else is the harness's own command line: `lm-eval run --help`, `topeng lm-eval ls tasks`. model_args: "
        "pretrained, adapter, revision, dtype, device, draws, replicates, seed, batch_tokens, preset, and any decoding "
        "setting (`topeng options`, generate.…). docs/harness.md says how each kind of task is scored."
    )

    export = _command(commands, "export", "merge an adapter into its base, in the official layout", _export)
    export.add_argument("model", help="the base: a checkpoint folder or a model id")
    export.add_argument("adapter", help="an adapter folder")
    export.add_argument("out", help="the folder to write")

    _command(commands, "options", "every option of a recipe, with default, unit and source", _options)
    return parser


def _command(commands: Any, name: str, text: str, function: Callable) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(command=function)
    return command


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run-dir", metavar="DIR", help="the run folder (runs/NAME of the recipe without it)")
    command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    command.epilog = "Any option can be overridden: --adapter.rank 32. `topeng options` lists them."


def _add_decoding_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--adapter", help="an adapter folder")
    command.add_argument("--preset", default="reference", help="reference, quality or fast (%(default)s)")
    command.epilog = "Any setting can be overridden: --max_new_tokens 64. `topeng options` lists them (generate.…)."


def _run(known: argparse.Namespace, rest: list[str]) -> int:
    from topeng import recipe as recipes

    overrides = parse_overrides(rest)
    path = known.recipe or str(resources.files("topeng") / "recipes" / "tiny.yaml")
    recipe = recipes.load(path, overrides)
    folder = Path(known.run_dir or Path("runs") / ("demo" if known.recipe is None else Path(path).stem))
    _quiet()
    from rich.console import Console

    from topeng import ranks
    from topeng.checks import check
    from topeng.pipeline import stages_until
    from topeng.run import RunFolder

    ranks.use_own_gpu()
    console = Console(quiet=ranks.RANK > 0)
    sweep, plan = (getattr(known, flag, False) for flag in ("sweep", "plan"))
    planned = stages_until(recipe, "sweep" if sweep else known.last, folder, console)
    if known.dry_run or plan:
        from topeng.plan import print_plan, print_trial

        print_plan(recipe, planned, folder, console)
        if plan:
            print_trial(recipe, folder, console)
        return 0
    check(recipe, planned)
    if ranks.RANK > 0:
        RunFolder(folder).follow(planned)
        return 0
    with RunFolder(folder).locked() as run:
        run.run(planned, recipes.dump(recipe), recipe.seed, console)
    if sweep:
        from topeng.adapt.sweep import print_sweep

        print_sweep(folder / "sweep.json", console)
    if (folder / "scores.json").exists() and known.last in ("compare", "report"):
        _print_comparison(folder, console)
    console.print(f"The run folder is {folder}", highlight=False, soft_wrap=True)
    if known.last == "report":
        console.print(f"The report is {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def _corpus(known: argparse.Namespace, rest: list[str]) -> int:
    folders = [Path(folder) for folder in known.folders]
    if (known.recipe, len(folders)) == ("verify", 1):
        _refuse(rest)
        from topeng.corpus.audit import print_checks

        return print_checks(folders[0])
    if (known.recipe, len(folders)) == ("diff", 2):
        _refuse(rest)
        from topeng.corpus.audit import print_difference

        return print_difference(*folders)
    if known.recipe in ("verify", "diff") or folders:
        raise RecipeError("`topeng corpus` takes RECIPE, `verify DIR`, or `diff DIR DIR`")
    return _run(known, rest)


def _compare(known: argparse.Namespace, rest: list[str]) -> int:
    folders = [Path(folder) for folder in (known.recipe, *known.folders)]
    if not known.folders and not folders[0].is_dir():
        return _run(known, rest)
    overrides = parse_overrides(rest)
    encoder = overrides.pop("evaluate.bertscore_model", None)
    if overrides or known.run_dir or known.dry_run:
        raise RecipeError("of runs and adapters, `topeng compare` takes --out and --evaluate.bertscore_model alone")
    _quiet()
    import json

    from rich.console import Console

    from topeng.evaluate.compare import compare_models
    from topeng.report.table import print_comparison
    from topeng.run import write_atomically

    scores = compare_models(folders, encoder)
    print_comparison(scores, Console())
    if known.out:
        write_atomically(known.out, json.dumps(scores, indent=1))
    return 0


def _print_comparison(folder: Path, console: Any) -> None:
    import json

    from topeng.report.table import print_comparison

    print_comparison(json.loads((folder / "scores.json").read_text()), console)


def _generate(known: argparse.Namespace, rest: list[str]) -> int:
    settings = decoding_settings(known.preset, parse_overrides(rest))
    from topeng.text.rows import read_prompts

    prompts = [*known.prompt, *(read_prompts(known.file) if known.file else [])]
    if not prompts:
        raise GenerationError("there is no prompt: give one, or a file of them (--file F)")
    _quiet()
    from rich.console import Console

    from topeng.generate.job import answer_prompts

    source = {"model": known.model, "adapter": known.adapter, "template": known.template}
    records, tokenizer = answer_prompts(prompts, settings, source, known.out, Console(stderr=True))
    if known.html:
        from topeng.generate.animation import write_animation

        write_animation(known.html, records, tokenizer, f"Answers of {Path(known.model).name}")
    if not known.out:
        for record in records:
            print(record["answer"])
    for path in filter(None, (known.out, known.html)):
        print(f"written: {path}")
    return 0


def _chat(known: argparse.Namespace, rest: list[str]) -> int:
    settings = decoding_settings(known.preset, parse_overrides(rest))
    _quiet()
    from rich.console import Console

    with Console(stderr=True).status(f"loading {known.model}"):
        from topeng.chat import Chat

        chat = Chat(known.model, known.adapter, settings)
    chat.talk()
    return 0


def _lm_eval(known: argparse.Namespace, rest: list[str]) -> int:
    _quiet()
    from topeng.evaluate.harness import run_harness

    run_harness(rest, known.preset)
    return 0


def decoding_settings(preset: str, overrides: dict[str, str]) -> "Settings":
    """A preset with overrides.

    Raises:
        RecipeError: the preset or a setting is unknown, or a value breaks a rule.
    """
    from topeng import recipe as recipes
    from topeng.generate.settings import PRESETS

    if preset not in PRESETS:
        raise RecipeError(f"--preset = {preset!r} must be one of {', '.join(PRESETS)}")
    values: dict[str, Any] = {"generate": dict(PRESETS[preset])}
    for name, value in overrides.items():
        recipes.set_option(values, f"generate.{name}", value)
    return recipes.parse(values).generate


def _export(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    _quiet()
    from topeng.adapt.export import export_merged

    export_merged(known.model, known.adapter, Path(known.out))
    print(f"the adapted model is in {known.out}")
    return 0


def _options(known: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    from topeng.recipe import describe

    for name, default, text in describe():
        print(f"--{name} {default}\n    {text}")
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
            raise RecipeError(f"unexpected argument {name!r}: options are written --name VALUE")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise RecipeError(f"{name} needs a value: {name} VALUE")
            value = rest.pop(0)
        overrides[name[2:]] = value
    return overrides


def _refuse(rest: Sequence[str]) -> None:
    if rest:
        raise RecipeError(f"unexpected argument {rest[0]!r}")


def _quiet() -> None:
    """What libraries say of themselves is not what a user asked for."""
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


if __name__ == "__main__":
    sys.exit(main())
