"""What this process holds of the machine's memory."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GIB = 2**30


def in_gib(size: float, digits: int = 1) -> str:
    """Bytes for people."""
    return f"{size / GIB:.{digits}f} GiB"


def reset_peak_memory() -> None:
    """On Linux and on GPUs the peak is reset for each stage; elsewhere it is that of the process so far."""
    if gpu := _gpu():
        gpu.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """The most bytes that the process has held since the last reset."""
    return _memory("VmHWM:")


def peak_at_work() -> tuple[int, bool]:
    """The most bytes that were held since the last reset: of a GPU where this process uses one; and whether it does."""
    gpu = _gpu()
    return (gpu.max_memory_allocated(), True) if gpu else (peak_memory(), False)


def _gpu() -> Any:
    """`torch.cuda` where this process has begun to use it: an idle GPU has no part in work on the CPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def measured(work: Callable[[], None]) -> tuple[float, int]:
    """The seconds that some work took, and the most bytes that the process held meanwhile."""
    reset_peak_memory()
    started = time.monotonic()
    work()
    return time.monotonic() - started, peak_memory()


def memory_in_use() -> int:
    """The bytes that the process holds; where that cannot be told, the most it has held."""
    return _memory("VmRSS:")


def _memory(field: str) -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split(field)[1].split()[0])
    except (OSError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
