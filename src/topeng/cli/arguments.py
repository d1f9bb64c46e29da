"""The arguments of each command of `topeng`. What the commands do is in `commands`."""

import argparse
import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from topeng import __version__
from topeng.cli import commands, runs
from topeng.cli.output import JSON, QUIET, VERBOSE

STAGE_COMMANDS = {  # command -> prefix of the names of its stages, and its help
    "run": ("report", "Run every stage of a recipe."),
    "corpus": (
        "corpus",
        "Read, sample, split and select the rows. Also: `check FILE…`, `verify DIR` and `diff DIR DIR`.",
    ),
    "base": ("base", "Pretrain the base model, if the recipe names none. It may be converted from a causal one."),
    "train": ("train/", "Train an adapter with each method."),
    "evaluate": ("evaluate/", "Score the base and each adapter."),
    "compare": ("compare", "Compare the scores of a recipe's methods, or of several runs and adapters."),
    "report": ("report", "Write the report, an HTML page."),
}

JSON_COMMANDS = {"demo", *STAGE_COMMANDS, "status", "generate", "export", "convert", "push", "options"}
"""Commands whose result is data, which `--json` writes."""

MODEL = "A checkpoint folder, a model id, or kecil, the model that comes with Topeng."
SYSTEM = "System message for conversations that have none."
TURNS = "Number of earlier turns that the model sees (default: the checkpoint's setting, or all)."
PRESET = "Decoding preset: reference, quality or fast (default: %(default)s)."
ANY_OPTION = "Every option of the recipe can be overridden, such as --adapter.rank 32. `topeng options` lists them."
ANY_SETTING = (
    "Every decoding setting can be overridden, such as --max_new_tokens 64. `topeng options generate` lists them."
)


UNKNOWN_COMMAND = re.compile(r"argument COMMAND: invalid choice: '(.*?)'")
MISSING = {
    "COMMAND": "no command was given. `topeng --help` lists them.",
    "RECIPE": "no recipe was given. It is a YAML file, such as recipes/small.yaml of a clone. `topeng demo` runs a "
    "small example without one.",
    "MODEL": "no model was given. It is a checkpoint folder, a model id on the Hub, or kecil, the model that comes "
    "with Topeng.",
}
"""Messages about missing arguments, instead of argparse's."""


class UsageError(Exception):
    """Arguments that a command does not accept."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """Raises errors about arguments instead of printing them, because they may be wanted as JSON."""

    def error(self, message: str) -> NoReturn:
        if unknown := UNKNOWN_COMMAND.match(message):
            near = difflib.get_close_matches(unknown[1], commands_of(self), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ". `topeng --help` lists the commands."
            message = f"unknown command {unknown[1]!r}{hint}"
        missing = message.removeprefix("the following arguments are required: ")
        raise UsageError(self, MISSING.get(missing, message))


def parser() -> Parser:
    top = Parser(
        prog="topeng",
        description="Adapt masked diffusion language models to a language.",
        allow_abbrev=False,
        add_help=False,
    )
    _add_help(top)
    top.add_argument(
        "--version", action="version", version=f"topeng {__version__}", help="Show the version of Topeng and exit."
    )
    _add_output(top, True)
    parsers = top.add_subparsers(required=True, metavar="COMMAND")
    demo = _add(parsers, "demo", "Run a small example on synthetic text. Nothing is downloaded.", runs.run)
    demo.set_defaults(recipe=None, last="report")
    _add_run_options(demo)
    for name, (last, text) in STAGE_COMMANDS.items():
        _add_stage_command(parsers, name, last, text)
    status = _add(parsers, "status", "Show which stages of a run are done and which would run again.", runs.status)
    status.add_argument("folder", metavar="RUN", help="The run folder.")
    status.add_argument("recipe", nargs="?", metavar="RECIPE", help="Recipe to compare it with (default: its own).")
    status.epilog = ANY_OPTION
    _add_generate(parsers)
    chat = _add(parsers, "chat", "Chat with a model and watch it denoise its answers.", commands.chat)
    chat.add_argument("model", metavar="MODEL", help=MODEL)
    chat.add_argument("--turns", type=int, metavar="N", help=TURNS)
    _add_decoding_options(chat)
    _add_serve(parsers)
    _add_lm_eval(parsers)
    _add_export(parsers)
    options = _add(
        parsers, "options", "List every option of a recipe, with its default, unit and source.", commands.options
    )
    options.add_argument(
        "section", nargs="?", metavar="SECTION", help="List only this section of the recipe, such as `train`."
    )
    completion = _add(
        parsers, "completion", "Print a script that completes commands and options in a shell.", commands.completion
    )
    completion.add_argument("shell", choices=("bash", "zsh"), help='Then run: eval "$(topeng completion bash)".')
    return top


def commands_of(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    (found,) = (action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return found


def _add(parsers: Any, name: str, text: str, function: Callable) -> argparse.ArgumentParser:
    command = parsers.add_parser(name, help=text, description=text, allow_abbrev=False, add_help=False)
    _add_help(command)
    if name != "lm-eval":  # its other arguments are the harness's
        _add_output(command, name in JSON_COMMANDS)
    command.set_defaults(command=function, called=name)
    return command


def _add_output(command: argparse.ArgumentParser, data: bool) -> None:
    """Options that can be given before or after the command. Therefore they have no default, which would override."""
    flags = {"--json": JSON} if data else {}
    for flag, text in {**flags, "--quiet": QUIET, "--verbose": VERBOSE}.items():
        command.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)


def _add_help(command: argparse.ArgumentParser) -> None:
    command.add_argument("-h", "--help", action="help", help="Show this message and exit.")


def _add_stage_command(parsers: Any, name: str, last: str, text: str) -> None:
    function = {"corpus": runs.corpus, "compare": runs.compare}.get(name, runs.run)
    command = _add(parsers, name, text, function)
    command.add_argument("recipe", metavar="RECIPE", help="The recipe, a YAML file.")
    if name == "corpus":
        command.add_argument(
            "folders", nargs="*", metavar="DIR", help="Files to `check`, or finished corpora to `verify` or `diff`."
        )
    if name == "compare":
        command.usage = "topeng compare RECIPE [--run-dir DIR] | RUN_OR_ADAPTER… [--out F]"
        command.add_argument(
            "folders",
            nargs="*",
            metavar="RUN_OR_ADAPTER",
            help="Run or adapter that was scored before, instead of a recipe.",
        )
        command.add_argument("--out", type=Path, metavar="F", help="Write the scores of these folders to F as JSON.")
    if name in ("corpus", "compare"):
        command.set_defaults(several="folders")
    if name == "train":
        instead = command.add_mutually_exclusive_group()
        instead.add_argument(
            "--sweep",
            action="store_true",
            help="Instead of training, try several learning rates on the validation rows.",
        )
        instead.add_argument("--plan", action="store_true", help="Print the plan, time a few steps, and stop.")
    command.set_defaults(last=last)
    _add_run_options(command)


def _add_generate(parsers: Any) -> None:
    generate = _add(parsers, "generate", "Answer prompts.", commands.generate)
    generate.add_argument("model", metavar="MODEL", help=MODEL)
    generate.add_argument("prompt", nargs="*", metavar="PROMPT", help="Prompts to answer.")
    generate.set_defaults(several="prompt")
    generate.add_argument(
        "--file",
        type=Path,
        metavar="F",
        help="File of prompts: .txt with one per line, or rows with an `input` in any format that a corpus may have.",
    )
    generate.add_argument(
        "--out",
        type=Path,
        metavar="F",
        help="Write JSON Lines to F. If the command is interrupted, running it again continues where it stopped.",
    )
    generate.add_argument(
        "--html", type=Path, metavar="F", help="Write a page to F that shows each answer being denoised."
    )
    generate.add_argument(
        "--language", choices=("en", "id"), default="en", help="Language of that page (default: %(default)s)."
    )
    generate.add_argument(
        "--template", help="Text that every answer follows, with gaps to fill: 'Namanya {4}.' has a gap of four tokens."
    )
    _add_decoding_options(generate)


def _add_serve(parsers: Any) -> None:
    text = "Serve a model over an OpenAI-compatible API, with a page that shows the denoising."
    serve = _add(parsers, "serve", text, commands.serve)
    serve.add_argument("model", metavar="MODEL", help=MODEL)
    serve.add_argument(
        "--adapters",
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help="Adapter folders to serve by name, or a run folder for all its adapters.",
    )
    serve.add_argument("--dtype", help="Precision of the weights, such as float32 (default: the checkpoint's).")
    serve.add_argument("--device", help="Device to run on, such as cpu or cuda:1 (default: a GPU if there is one).")
    serve.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
    serve.add_argument("--port", type=int, default=8000, help="Port to listen on (default: %(default)s).")
    serve.add_argument(
        "--api-key",
        nargs="+",
        default=[],
        metavar="KEY",
        help="Keys that clients may use, besides those in TOPENG_API_KEY.",
    )
    serve.add_argument("--insecure", action="store_true", help="Accept requests from other machines without a key.")
    serve.add_argument(
        "--cors", nargs="+", default=[], metavar="ORIGIN", help="Sites whose pages may call the server from a browser."
    )
    serve.add_argument(
        "--queue", type=int, default=256, help="Largest number of answers waiting in the queue (default: %(default)s)."
    )
    serve.add_argument(
        "--batch-tokens", type=int, default=8192, help="Largest forward pass, in tokens (default: %(default)s)."
    )
    serve.add_argument("--max-body", type=int, default=2**20, help="Largest request, in bytes (default: %(default)s).")
    serve.add_argument(
        "--time-limit",
        type=float,
        default=600.0,
        help="Longest time for one answer, in seconds (default: %(default)g).",
    )
    serve.add_argument("--system", metavar="TEXT", help=SYSTEM)
    serve.add_argument("--turns", type=int, metavar="N", help=TURNS)
    serve.add_argument("--preset", default="reference", help=PRESET)
    serve.epilog = ANY_SETTING


def _add_lm_eval(parsers: Any) -> None:
    harness = _add(parsers, "lm-eval", "Run tasks of lm-evaluation-harness on a model.", commands.lm_eval)
    harness.add_argument(
        "--preset",
        help="Name of a set of tasks: indonesian (the harness's own, from the Hub) or id (Topeng's, also local).",
    )
    harness.usage = "topeng lm-eval [--preset NAME] [run] --model_args pretrained=MODEL,… [--tasks T …] [ARGUMENT …]"
    harness.epilog = (
        "All other arguments are the harness's own: see `lm-eval run --help` and `topeng lm-eval ls tasks`. model_args "
        "takes pretrained, adapter, revision, dtype, device, draws, replicates, seed, batch_tokens, preset, and any "
        "decoding setting (`topeng options generate`). docs/harness.md explains how each kind of task is scored."
    )


def _add_export(parsers: Any) -> None:
    export = _add(
        parsers, "export", "Export a model or an adapter to a format that other software reads.", commands.export
    )
    export.add_argument("source", metavar="SOURCE", help="An adapter folder, a checkpoint folder, or a model id.")
    export.add_argument("out", metavar="OUT", help="The folder to write. It must not exist yet.")
    export.add_argument(
        "--format",
        default="merged",
        metavar="F",
        help="Format: merged (default, a checkpoint in the official layout), adapter (peft), or gguf (llama.cpp).",
    )
    export.add_argument("--base", metavar="MODEL", help="Base of the adapter, if its folder does not name one.")
    export.add_argument(
        "--names",
        default="native",
        metavar="N",
        help="Naming of an adapter's modules: native (default), or official (as in the model's remote code).",
    )
    export.add_argument(
        "--precision",
        metavar="P",
        help="Precision: bf16 (default), f32 (merged, gguf), f16 or q8_0 (gguf). An adapter keeps its own.",
    )
    convert = _add(
        parsers,
        "convert",
        "Turn a causal model into a base for masked diffusion, to pretrain further.",
        commands.convert,
    )
    convert.add_argument("source", metavar="SOURCE", help="A checkpoint folder, a model id, or a GGUF file.")
    convert.add_argument("out", metavar="OUT", help="The folder to write. It must not exist yet.")
    convert.add_argument(
        "--no-shift",
        dest="shift",
        action="store_false",
        help="Let each position predict its own token (default: the next one, as the causal model has learnt).",
    )
    push = _add(parsers, "push", "Upload an exported folder to the Hub, with its model card.", commands.push)
    push.add_argument("folder", metavar="FOLDER", help="A folder that `topeng export` wrote.")
    push.add_argument("name", metavar="NAME", help="Name of the repository: USER/MODEL.")
    push.add_argument("--private", action="store_true", help="Make the repository private, if it is new.")
    push.add_argument("--dry-run", action="store_true", help="List the files and their sizes, and stop.")


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run-dir", metavar="DIR", help="The run folder (default: runs/ and the recipe's name).")
    command.add_argument("--dry-run", action="store_true", help="Print the plan and stop.")
    command.epilog = ANY_OPTION


def _add_decoding_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--adapter", metavar="DIR", help="An adapter folder.")
    command.add_argument("--system", metavar="TEXT", help=SYSTEM)
    command.add_argument("--preset", default="reference", help=PRESET)
    command.epilog = ANY_SETTING
