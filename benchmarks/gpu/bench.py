"""What a part is given: the device, the shape, the time left, and where its figures go."""

import gc
import io
import os
import statistics
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ledger import Ledger, Record

from topeng.cli import main as topeng

GIB = 2**30


class NotBuilt(Exception):
    """What a part measures is not in this copy of Topeng yet."""


@dataclass(frozen=True)
class Bench:
    """One part of a run.

    Attributes:
        part: its name in the ledger.
        device: `cuda` or `cpu`.
        small: tiny shapes, which try the script on a CPU.
        scratch: a folder that the parts of a run share; weights that one part has written serve the next.
        deadline: when the part's process is ended, by `time.time()`.
    """

    ledger: Ledger
    part: str
    device: str
    small: bool
    scratch: Path
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.time()

    def record(self, name: str, values: Record) -> None:
        """Keeps a figure, and prints it."""
        self.ledger.figure(self.part, name, values)
        print(f"{self.part}: {name}: {values}", flush=True)

    def attempt(self, name: str, measure: Callable[[], Record], seconds: float = 0) -> Record | None:
        """Measures and records; a measurement that fails leaves its error, and the part goes on.

        Args:
            seconds: that it takes at least; with fewer left it is not begun.
        """
        if self.seconds_left < seconds:
            self.record(name, {"error": f"not begun: {self.seconds_left:.0f} s were left, it needs {seconds:.0f} s"})
            return None
        try:
            values = measure()
        except Exception as error:  # of any kind: the other measurements are worth their time
            traceback.print_exc()
            self.record(name, {"error": error_text(error)})
            return None
        finally:
            self.free_memory()
        self.record(name, values)
        return values

    def synchronise(self) -> None:
        """Waits until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def free_memory(self) -> None:
        """Gives back what is no longer used, and begins to take the peak anew."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """The most that torch has held of the GPU's memory since `free_memory`; unknown on a CPU."""
        return torch.cuda.max_memory_allocated() / GIB if self.device == "cuda" else None

    def seconds_of(self, work: Callable[[], Any], times: int = 3, warm_up: int = 1) -> float:
        """The median of some repetitions, after one or more that are not counted."""
        for _ in range(warm_up):
            work()
        seconds = []
        for _ in range(times):
            self.synchronise()
            began = time.perf_counter()
            work()
            self.synchronise()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    def product_speed(self) -> float:
        """Operations per second of a plain bf16 matrix product on random data: what all else is held to."""
        size = 8192 if self.device == "cuda" else 256
        left, right = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * size**3 / self.seconds_of(lambda: left @ right, times=10, warm_up=3)


def seconds_of_command(*arguments: Any) -> float:
    """Of a command of `topeng`.

    Raises:
        RuntimeError: it failed, with the last line that it wrote to stderr.
    """
    said, began = io.StringIO(), time.perf_counter()
    with redirect_stderr(said):
        code = topeng([str(one) for one in arguments])
    if code:
        raise RuntimeError(said.getvalue().strip().splitlines()[-1])
    return time.perf_counter() - began


def logged(logs: Path, name: str) -> list[float]:
    """What TensorBoard's logger has written of a figure of a training, line by line."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logs))
    events.Reload()
    return [event.value for event in events.Scalars(f"train/{name}")]


def error_text(error: BaseException) -> str:
    """An error and where it was raised, short enough for a page."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {text} ({os.path.basename(place.filename)}:{place.lineno})"
