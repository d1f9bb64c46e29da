"""Signals that ask a run to stop: Ctrl-C, SIGTERM (Slurm's time limit) and SIGUSR1 (Slurm's warning before it)."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from topeng.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def handling(handler: Callable[[int, Any], None], *signals: int) -> Iterator[None]:
    """Installs a handler for signals in the main thread, and restores the previous ones at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def stop(number: int, frame: Any = None) -> None:
    """Stops at once, as Ctrl-C does.

    Raises:
        Stopped: always.
    """
    raise Stopped(number)
