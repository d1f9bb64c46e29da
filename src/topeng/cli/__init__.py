"""The command `topeng`: it parses arguments and turns errors and signals into an exit status."""

import io
import os
import signal
import sys
from collections.abc import Sequence

from topeng.cli.arguments import parser
from topeng.errors import Stopped, TopengError
from topeng.system.stop import SIGNALS, handling, stop

NO_MEMORY = ("can't allocate memory", "out of memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 1 after a one-line error, or 128 plus a signal's number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # characters that the locale cannot encode
    arguments_of = parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        arguments_of.print_help()
        return 0
    known, rest = arguments_of.parse_known_args(arguments)
    try:
        with handling(stop, *SIGNALS):
            return known.command(known, rest)
    except TopengError as error:
        return _failed(str(error))
    except BrokenPipeError:  # of `topeng options | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # of what is written outside a run folder
        return _failed(f"{error}. Check this path, or choose another.")
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        return _failed(f"out of memory ({error}). Try a smaller model, rank, batch or canvas.")
    except KeyboardInterrupt:
        return _stopped(signal.SIGINT)
    except Stopped as stopped:
        return _stopped(stopped.signal)


def _failed(message: str) -> int:
    """Prints an error as one line, even if a name in it contains line breaks."""
    print(f"topeng: {' '.join(message.splitlines())}", file=sys.stderr)
    return 1


def _stopped(number: int) -> int:
    """Prints that a signal stopped the command, and returns the exit status that shells use for it."""
    print(f"topeng: stopped by {signal.Signals(number).name}. Run the same command again to continue.", file=sys.stderr)
    return 128 + number
