"""`topeng lm-eval`: the command line of lm-evaluation-harness, with Topeng's models registered.

The harness has no entry point for other models. `harness_model`, which is only imported here, registers ours.
"""

import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from topeng.errors import HarnessError, RecipeError, TopengError

PRESETS = {
    "indonesian": (
        "belebele_ind_Latn",
        "global_mmlu_id",
        "m_mmlu_id",
        "include_base_44_indonesian",
        "arc_id",
        "copal_id_standard",
        "copal_id_colloquial",
        "xcopa_id",
    ),
    "id": (
        "id_copal_standard",
        "id_copal_colloquial",
        "id_xcopa",
        "id_indonli_lay",
        "id_indonli_expert",
        "id_nusax_sentiment",
        "id_global_mmlu_lite",
        "id_nusax_to_english",
        "id_nusax_to_indonesian",
    ),
}
"""Tasks of each preset, those of the harness and Topeng's. docs/harness.md says what each measures."""
OUR_TASKS = Path(__file__).parent / "tasks"
"""Topeng's own tasks (evaluate/indonesian.py)."""


def run_harness(arguments: Sequence[str], preset: str | None = None) -> None:
    """Passes arguments to the harness's own command line.

    Args:
        arguments: arguments of `lm-eval`. `run` and `--model topeng` may be left out.
        preset: name of a set of tasks.

    Raises:
        HarnessError: the harness is not installed, or does not support the request.
        TopengError: a model argument is wrong, or the model cannot be loaded.
    """
    arguments = complete(arguments, preset)
    if importlib.util.find_spec("lm_eval") is None:
        raise HarnessError("lm-evaluation-harness is not installed. Install it with pip install 'topeng[eval]'.")
    import lm_eval.models  # noqa: F401  (registers the harness's models, which must happen before ours)
    from lm_eval.__main__ import cli_evaluate

    import topeng.evaluate.harness_model  # noqa: F401  (registers the model)

    try:
        with _argv(["lm-eval", *arguments]):
            cli_evaluate()
    except TopengError:
        raise
    except (ValueError, OSError, ImportError) as error:
        logging.getLogger("lm_eval").debug("what lies behind the error", exc_info=True)
        raise HarnessError(f"lm-evaluation-harness: {' '.join(str(error).split())}") from error


def complete(arguments: Sequence[str], preset: str | None = None) -> list[str]:
    """Adds the arguments that may be left out.

    Raises:
        RecipeError: the preset is unknown, or tasks are named too.
    """
    arguments = list(arguments)
    if arguments[:1] in (["ls"], ["validate"]):
        return [*arguments, *_our_tasks(arguments)]
    rest = arguments[1:] if arguments[:1] == ["run"] else arguments
    names = {argument.partition("=")[0] for argument in rest}
    added = _our_tasks(rest)
    if not names & {"--model", "-M", "--config", "-C"}:
        added += ["--model", "topeng"]
    if preset is not None:
        if preset not in PRESETS:
            raise RecipeError(f"--preset = {preset!r} must be one of {', '.join(PRESETS)}")
        if names & {"--tasks", "-t"}:
            raise RecipeError(f"--preset {preset} and --tasks both name tasks. Leave one of them out.")
        added += ["--tasks", ",".join(PRESETS[preset])]
    return ["run", *added, *rest]


def _our_tasks(arguments: Sequence[str]) -> list[str]:
    """The arguments for Topeng's tasks, unless a folder of tasks is given, because the harness only accepts one."""
    names = {argument.partition("=")[0] for argument in arguments}
    return [] if names & {"--include_path", "--config", "-C"} else ["--include_path", str(OUR_TASKS)]


@contextmanager
def _argv(arguments: list[str]) -> Iterator[None]:
    """Sets `sys.argv`, which the harness reads."""
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before
