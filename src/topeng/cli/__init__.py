"""The command `topeng`: what it takes, and how it ends. What it does stands in `commands`."""

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
    """Runs one command; returns the exit status: 0, 1 with the error in one line, or 128 and the signal's number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the locale has no such character
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
