"""What each command of `topeng` takes. What it does stands in `commands`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from topeng import __version__
from topeng.cli import commands

STAGE_COMMANDS = {  # command -> the stages it is for, by the start of their names
    "run": ("report", "all stages of a recipe"),
    "corpus": ("corpus", "read, sample, split and select the rows; or `check FILE…`, `verify DIR`, `diff DIR DIR`"),
    "base": ("base", "pretrain a tiny base, where the recipe names no model"),
    "train": ("train/", "train an adapter for each method"),
    "evaluate": ("evaluate/", "score the base and each adapter"),
    "compare": ("compare", "compare the scores of a recipe's methods; or of runs and adapters: RUN_OR_ADAPTER…"),
    "report": ("report", "write the page"),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="topeng", description="Adapt masked diffusion language models to a language.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"topeng {__version__}")
    parsers = top.add_subparsers(required=True, metavar="COMMAND")
    demo = _add(parsers, "demo", "a small run on made-up text: nothing is downloaded", commands.run)
    demo.set_defaults(recipe=None, last="report")
    _add_run_options(demo)
    for name, (last, text) in STAGE_COMMANDS.items():
        _add_stage_command(parsers, name, last, text)
    status = _add(parsers, "status", "what of a run is done, and what would be done again", commands.status)
    status.add_argument("folder", metavar="RUN", help="the run folder")
    status.add_argument("recipe", nargs="?", metavar="RECIPE", help="as if this were run there (default: its own)")
    status.epilog = "Any option can be overridden: --adapter.rank 32. `topeng options` lists them."
    _add_generate(parsers)
    chat = _add(parsers, "chat", "talk with a model and watch it answer", commands.chat)
    chat.add_argument("model", help="a checkpoint folder, a model id or kecil")
    chat.add_argument(
        "--turns", type=int, metavar="N", help="earlier turns that the model sees (default: the checkpoint's, or all)"
    )
    _add_decoding_options(chat)
    _add_serve(parsers)
    _add_lm_eval(parsers)
    _add_export(parsers)
    options = _add(parsers, "options", "every option of a recipe, with default, unit and source", commands.options)
    options.add_argument("section", nargs="?", metavar="SECTION", help="of the recipe, such as `train`: its alone")
    return top


def _add(parsers: Any, name: str, text: str, function: Callable) -> argparse.ArgumentParser:
    command = parsers.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(command=function)
    return command


def _add_stage_command(parsers: Any, name: str, last: str, text: str) -> None:
    function = {"corpus": commands.corpus, "compare": commands.compare}.get(name, commands.run)
    command = _add(parsers, name, text, function)
    command.add_argument("recipe", metavar="RECIPE", help="a YAML file")
    if name == "corpus":
        command.add_argument(
            "folders", nargs="*", metavar="DIR", help="files to `check`, or finished corpora to `verify` or `diff`"
        )
    if name == "compare":
        command.usage = "topeng compare RECIPE [--run-dir DIR] | RUN_OR_ADAPTER… [--out F]"
        command.add_argument("folders", nargs="*", metavar="RUN_OR_ADAPTER", help="scored before, in place of a recipe")
        command.add_argument("--out", type=Path, metavar="F", help="of folders: write the figures as JSON")
    if name == "train":
        instead = command.add_mutually_exclusive_group()
        instead.add_argument("--sweep", action="store_true", help="try learning rates on the validation rows instead")
        instead.add_argument("--plan", action="store_true", help="print the plan, time a few steps, and stop")
    command.set_defaults(last=last)
    _add_run_options(command)


def _add_generate(parsers: Any) -> None:
    generate = _add(parsers, "generate", "answer prompts", commands.generate)
    generate.add_argument("model", help="a checkpoint folder, a model id or kecil")
    generate.add_argument("prompt", nargs="*", help="prompts")
    generate.add_argument(
        "--file",
        type=Path,
        metavar="F",
        help="prompts: lines of text (.txt), or rows with `input` of any format of a corpus",
    )
    generate.add_argument("--out", type=Path, metavar="F", help="write JSON Lines; a stopped command goes on there")
    generate.add_argument("--html", type=Path, metavar="F", help="write a page that shows how the answers came to be")
    generate.add_argument("--language", choices=("en", "id"), default="en", help="language of that page (%(default)s)")
    generate.add_argument("--template", help="of every answer, with gaps: 'Namanya {4}.' has one of four tokens")
    _add_decoding_options(generate)


def _add_serve(parsers: Any) -> None:
    serve = _add(parsers, "serve", "answer OpenAI's clients, and show the denoising on a page", commands.serve)
    serve.add_argument("model", help="a checkpoint folder or a model id")
    serve.add_argument(
        "--adapters", nargs="+", default=[], metavar="NAME=DIR", help="adapter folders, or a run folder for all of its"
    )
    serve.add_argument("--dtype", help="precision of the weights, such as float32 (the checkpoint's without it)")
    serve.add_argument("--device", help="such as cpu or cuda:1 (a GPU where there is one)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen at (%(default)s)")
    serve.add_argument("--api-key", nargs="+", default=[], metavar="KEY", help="keys, beside those of TOPENG_API_KEY")
    serve.add_argument("--insecure", action="store_true", help="let other machines ask without a key")
    serve.add_argument("--cors", nargs="+", default=[], metavar="ORIGIN", help="sites whose pages may ask")
    serve.add_argument("--queue", type=int, default=256, help="answers that may wait (%(default)s)")
    serve.add_argument("--batch-tokens", type=int, default=8192, help="tokens of one forward pass (%(default)s)")
    serve.add_argument("--max-body", type=int, default=2**20, help="bytes of a request (%(default)s)")
    serve.add_argument("--time-limit", type=float, default=600.0, help="seconds of an answer (%(default)g)")
    serve.add_argument("--system", metavar="TEXT", help="a system message, before every conversation without one")
    serve.add_argument(
        "--turns", type=int, metavar="N", help="earlier turns that the model sees (default: the checkpoint's, or all)"
    )
    serve.add_argument("--preset", default="reference", help="reference, quality or fast (%(default)s)")
    serve.epilog = "Any setting can be overridden: --max_new_tokens 64. `topeng options` lists them (generate.…)."


def _add_lm_eval(parsers: Any) -> None:
    harness = _add(parsers, "lm-eval", "tasks of lm-evaluation-harness", commands.lm_eval)
    harness.add_argument("--preset", help="tasks by one name: indonesian")
    harness.usage = "topeng lm-eval [--preset NAME] [run] --model_args pretrained=MODEL,… [--tasks T …] [ARGUMENT …]"
    harness.epilog = (
        "All else is the harness's own command line: `lm-eval run --help`, `topeng lm-eval ls tasks`. model_args: "
        "pretrained, adapter, revision, dtype, device, draws, replicates, seed, batch_tokens, preset, and any decoding "
        "setting (`topeng options`, generate.…). docs/harness.md says how each kind of task is scored."
    )


def _add_export(parsers: Any) -> None:
    export = _add(parsers, "export", "write a model or an adapter in the form that others use", commands.export)
    export.add_argument("source", metavar="SOURCE", help="an adapter folder, a checkpoint folder, or a model id")
    export.add_argument("out", metavar="OUT", help="the folder to write; it must not exist")
    export.add_argument(
        "--format",
        default="merged",
        metavar="F",
        help="merged (a checkpoint in the official layout), adapter (plain peft), or gguf (llama.cpp); %(default)s",
    )
    export.add_argument("--base", metavar="MODEL", help="base of the adapter, where its folder does not name it")
    export.add_argument(
        "--names",
        default="native",
        metavar="N",
        help="of an adapter's modules: native, or official (the remote code's)",
    )
    export.add_argument(
        "--precision",
        metavar="P",
        help="bf16 without it; also f32 (merged), or f16, f32, q8_0 (gguf); an adapter keeps its own",
    )
    convert = _add(
        parsers, "convert", "make a causal model a base that fills masks, to pretrain further", commands.convert
    )
    convert.add_argument("source", metavar="SOURCE", help="a checkpoint folder, a model id, or a GGUF file")
    convert.add_argument("out", metavar="OUT", help="the folder to write; it must not exist")
    convert.add_argument(
        "--no-shift",
        dest="shift",
        action="store_false",
        help="a position predicts itself (without this: the next token, as the causal model has learnt to)",
    )
    push = _add(parsers, "push", "upload an exported folder to the Hub, with its card", commands.push)
    push.add_argument("folder", metavar="FOLDER", help="a folder that `topeng export` wrote")
    push.add_argument("name", metavar="NAME", help="of the repository: USER/MODEL")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--dry-run", action="store_true", help="list files and sizes, and stop")


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run-dir", metavar="DIR", help="the run folder (runs/NAME of the recipe without it)")
    command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    command.epilog = "Any option can be overridden: --adapter.rank 32. `topeng options` lists them."


def _add_decoding_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--adapter", help="an adapter folder")
    command.add_argument("--system", metavar="TEXT", help="a system message, before every conversation without one")
    command.add_argument("--preset", default="reference", help="reference, quality or fast (%(default)s)")
    command.epilog = "Any setting can be overridden: --max_new_tokens 64. `topeng options` lists them (generate.…)."
