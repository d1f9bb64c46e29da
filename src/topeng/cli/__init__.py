"""The command `topeng`: parses arguments, and turns errors and signals into an exit status."""

import io
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from topeng.cli.arguments import JSON_COMMANDS, UsageError, parser
from topeng.cli.output import Output, failure_json
from topeng.errors import RecipeError, Stopped, TopengError
from topeng.system.stop import SIGNALS, handling, stop

NO_MEMORY = ("can't allocate memory", "out of memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 1 after a one-line error, or 128 plus a signal's number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for characters that the locale cannot encode
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        parser().print_help()
        return 0
    try:
        known, rest = parse(given)
    except UsageError as error:
        if "--json" in given:
            print(failure_json("UsageError", str(error)))
        ArgumentParser.error(error.parser, str(error))  # prints the usage, and exits with 2
    output = Output.of(known)
    if known.called != "lm-eval" and "--json" in rest:  # given to a command that does not have it
        output = replace(output, json=True)
    try:
        with handling(stop, *SIGNALS):
            _check_json(known.called, output.json)
            return known.command(known, rest, output)
    except TopengError as error:
        return _failed(output, error, str(error))
    except BrokenPipeError:  # as in `topeng options | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # about a file that is written outside a run folder
        return _failed(output, error, f"{error}. Check this path, or choose another.")
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        return _failed(output, error, f"out of memory ({error}). Try a smaller model, rank, batch or canvas.")
    except KeyboardInterrupt as error:
        return _stopped(output, error, signal.SIGINT)
    except Stopped as stopped:
        return _stopped(output, stopped, stopped.signal)


def parse(given: Sequence[str]) -> tuple[Namespace, list[str]]:
    """The arguments of a command, and the remaining options, which belong to a recipe or to decoding.

    Arguments of which a command takes any number, such as prompts, may be mixed with options. argparse only accepts
    them in one place.

    Raises:
        UsageError: the command does not accept the arguments.
    """
    known, rest = parser().parse_known_args(given)
    several = getattr(known, "several", None)
    if several is None:
        return known, rest
    options, words = list[str](), iter(rest)
    for word in words:
        if word == "--":
            getattr(known, several).extend(words)
        elif not word.startswith("--"):
            getattr(known, several).append(word)
        else:
            options += [word] if "=" in word else [word, *islice(words, 1)]
    return known, options


def _check_json(command: str, wanted: bool) -> None:
    """
    Raises:
        RecipeError: `--json` was given to a command whose result is not data.
    """
    if wanted and command not in JSON_COMMANDS:
        raise RecipeError(f"`topeng {command}` has no result to write as JSON. Leave out --json.")


def _failed(output: Output, error: BaseException, message: str) -> int:
    """Prints an error as one line, even if a name in it contains line breaks."""
    message = " ".join(message.splitlines())
    output.failure(error, message)
    print(f"topeng: {message}", file=sys.stderr)
    return 1


def _stopped(output: Output, error: BaseException, number: int) -> int:
    """Prints that a signal stopped the command, and returns the exit status that shells use for it."""
    message = f"stopped by {signal.Signals(number).name}. Run the same command again to continue."
    output.failure(error, message)
    print(f"topeng: {message}", file=sys.stderr)
    return 128 + number
