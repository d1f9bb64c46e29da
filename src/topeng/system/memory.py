"""The memory that this process uses."""

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
    """Resets the peak, on Linux and on GPUs. Elsewhere the peak is that of the process so far."""
    if gpu := _gpu():
        gpu.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Peak memory of the process since the last reset, in bytes."""
    return _memory("VmHWM:")


def peak_at_work() -> tuple[int, bool]:
    """Peak memory since the last reset, in bytes, of the GPU if this process uses one, and whether it does."""
    gpu = _gpu()
    return (gpu.max_memory_allocated(), True) if gpu else (peak_memory(), False)


def _gpu() -> Any:
    """`torch.cuda` if this process uses it. An idle GPU does not matter for work on the CPU."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def measured(work: Callable[[], None]) -> tuple[float, int]:
    """Runs some work, and returns its seconds and peak memory in bytes."""
    reset_peak_memory()
    started = time.monotonic()
    work()
    return time.monotonic() - started, peak_memory()


def memory_in_use() -> int:
    """Memory of the process in bytes or, if the system does not tell, its peak."""
    return _memory("VmRSS:")


def _memory(field: str) -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split(field)[1].split()[0])
    except (OSError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
