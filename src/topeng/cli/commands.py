"""What each command of `topeng` does, given its arguments and the remaining options.

Heavy modules are only imported by the commands that need them.
"""

import argparse
import difflib
import gc
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topeng.cli.output import Output, print_paths
from topeng.errors import GenerationError, RecipeError

if TYPE_CHECKING:
    from topeng.generate import Settings


def generate(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    settings = decoding_settings(known, rest)
    from topeng.text.rows import read_prompts

    prompts = [*known.prompt, *(read_prompts(known.file) if known.file else [])]
    if not prompts:
        raise GenerationError("no prompt was given. Write one after the model, or name a file of prompts (--file F).")
    prepare_libraries(output.verbose)
    from rich.console import Console

    from topeng import load
    from topeng.generate.answer import empty_cause
    from topeng.generate.job import answer_prompts

    source = {name: getattr(known, name) for name in ("model", "adapter", "template", "system")}
    loaded = load(known.model, known.adapter)
    records = answer_prompts(loaded, prompts, settings, source, known.out, Console(stderr=True, quiet=output.quiet))
    empty = sum(not record["answer"].strip() for record in records)
    if empty:
        print(f"topeng: {empty} of {len(records)} answers are empty: {empty_cause(settings)}", file=sys.stderr)
    if known.html:
        from topeng.generate.animation import write_animation

        write_animation(known.html, records, source | {"preset": known.preset}, settings, known.language)
    written = [path for path in (known.out, known.html) if path]

    def text(_: Any) -> None:
        for line in [] if known.out else [record["answer"] for record in records]:
            print(line)
        print_paths(written)

    output.result(lambda: {"answers": records, "written": written}, text)
    return 0


def chat(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    settings = decoding_settings(known, rest)
    prepare_libraries(output.verbose)
    from rich.console import Console

    from topeng.generate.settings import checkpoint_settings

    check_turns(known.turns)
    turns = checkpoint_settings(known.model).get("turns") if known.turns is None else known.turns
    with Console(stderr=True, quiet=output.quiet).status(f"loading {known.model}"):
        from topeng.cli.conversation import Chat

        chat = Chat(known.model, known.adapter, settings, system=known.system, turns=turns)
    chat.talk()
    return 0


def check_turns(turns: int | None) -> None:
    """
    Raises:
        GenerationError: the number is negative.
    """
    if turns is not None and turns < 0:
        raise GenerationError(f"--turns = {turns} must be 0 or more")


def serve(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    settings = decoding_settings(known, rest)
    check_turns(known.turns)
    if missing := [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        how = f"{sys.executable} -m pip install 'topeng[serve]'"
        raise GenerationError(f"`topeng serve` needs {' and '.join(missing)}. Install them with {how}.")
    prepare_libraries(output.verbose)
    from topeng.serve.command import serve

    serve(known, settings, output.quiet, output.verbose)
    return 0


def lm_eval(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    prepare_libraries(output.verbose)
    from topeng.evaluate.harness import run_harness

    run_harness(rest, known.preset)
    return 0


def decoding_settings(known: argparse.Namespace, rest: Sequence[str]) -> "Settings":
    """The settings of a preset, overridden by those of the checkpoint, overridden by options.

    Raises:
        RecipeError: the preset or an option is unknown, or a value breaks a rule.
    """
    from topeng import recipe as recipes
    from topeng.generate.settings import PRESETS, Settings, checkpoint_settings, preset_values

    if known.preset not in PRESETS:
        raise RecipeError(f"--preset = {known.preset!r} must be one of {', '.join(PRESETS)}")
    values: dict[str, Any] = {"generate": preset_values(known.preset, checkpoint_settings(known.model))}
    names = {one.name for one in fields(Settings)}
    for name, value in parse_overrides(rest).items():
        if name not in names:
            raise RecipeError(_unknown(name, known.command.__name__))
        recipes.set_option(values, f"generate.{name}", value)
    return recipes.parse(values).generate


def _unknown(name: str, command: str) -> str:
    """The message about an unknown option, with the closest option of the command."""
    from topeng.cli import arguments
    from topeng.cli.completion import words_of

    offered = words_of(command, arguments.commands_of(arguments.parser())[command])
    near = difflib.get_close_matches(f"--{name}", offered, n=1)
    hint = f": did you mean '{near[0]}'?" if near else f". `topeng {command} --help` lists its options."
    return f"unknown option '--{name}'{hint}"


def export(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    refuse(rest)
    prepare_libraries(output.verbose)
    from topeng.adapt.export import export as write

    write(known.source, known.out, known.format, base=known.base, names=known.names, precision=known.precision)
    output.written(known.out)
    return 0


def convert(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    refuse(rest)
    prepare_libraries(output.verbose)
    from topeng.adapt.convert import convert as write

    write(known.source, known.out, known.shift)
    output.written(known.out)
    return 0


def push(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    refuse(rest)
    from topeng.adapt.push import list_files, push_folder

    files = list_files(Path(known.folder), known.name)
    if not output.json:
        for name, size in files:  # printed before an upload, which may take long
            print(f"{size / 1e6:10,.1f} MB  {name}")
    told, uploaded = f"Nothing was uploaded. These are the files that {known.name} would contain.", None
    if not known.dry_run:
        prepare_libraries(output.verbose)
        uploaded = push_folder(Path(known.folder), known.name, known.private)
        told = f"uploaded: {uploaded}"
    output.result(lambda: {"files": dict(files), "uploaded": uploaded}, lambda _: print(told))
    return 0


def options(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    refuse(rest)
    from topeng.options import meant
    from topeng.recipe import declared

    every = declared()
    sections = list(dict.fromkeys(one.section or one.name for one in every))
    if known.section and known.section not in sections:
        raise RecipeError(f"{known.section!r} is not a section of a recipe: {meant(known.section, sections)}")
    shown = [one for one in every if not known.section or f"{one.name}.".startswith(f"{known.section}.")]

    def text(_: Any) -> None:
        for one in shown:
            print(f"--{one.name} {one.default_text}\n    {one.text}")

    output.result(lambda: {"options": shown}, text)
    return 0


def completion(known: argparse.Namespace, rest: list[str], output: Output) -> int:
    refuse(rest)
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


def refuse(rest: Sequence[str]) -> None:
    if rest:
        raise RecipeError(f"unexpected argument {rest[0]!r}")


def prepare_libraries(verbose: bool = False) -> None:
    """Configures libraries before they are imported. Unless `verbose`, their own messages are suppressed.

    Threads of torch do not spin while they wait for each other. Next to one busy process, a tiny model trains 2 to 24
    times as fast this way (alone on two cores, a tenth slower).

    Garbage is collected after every 10,000th new object instead of every 700th. Imports make hundreds of thousands of
    permanent objects, and take 5.5 s of CPU time this way instead of 6.5 s.
    """
    gc.set_threshold(10_000)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DAFT_SHOW_QUERY_ID", "0")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")  # to stderr
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_info()
        return
    warnings.filterwarnings("ignore", module=r"umap|numba|sklearn|peft|transformers|sentence_transformers")
    for name in ("daft_local_execution", "sentence_transformers"):  # errors are also raised
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
