"""Counters and percentiles in Prometheus' text format."""

import threading
from collections import Counter, deque
from collections.abc import Callable

QUANTILES = (0.5, 0.9, 0.95, 0.99)
WINDOW = 1024
"""Number of latest values that percentiles are computed from."""


class Metrics:
    """Metrics. The threads of decoder and server write them, and `/metrics` reads them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.sums: Counter[str] = Counter()
        self.latest: dict[str, deque[float]] = {}
        self.gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        with self.lock:
            self.counts[name, ",".join(f'{label}="{value}"' for label, value in labels.items())] += amount

    def observe(self, name: str, seconds: float) -> None:
        with self.lock:
            self.latest.setdefault(name, deque(maxlen=WINDOW)).append(seconds)
            self.sums[f"{name}_sum"] += seconds  # type: ignore[assignment]
            self.sums[f"{name}_count"] += 1

    def mean(self, name: str) -> float:
        """The mean of the latest values, or 0 if there are none."""
        with self.lock:
            values = self.latest.get(name, ())
            return sum(values) / len(values) if values else 0.0

    def text(self) -> str:
        with self.lock:
            lines = []
            for name in sorted({name for name, _ in self.counts}):
                lines.append(f"# TYPE {name} counter")
                own = sorted((labels, value) for (other, labels), value in self.counts.items() if other == name)
                lines += [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in own]
            for name, value in self.gauges.items():
                lines += [f"# TYPE {name} gauge", f"{name} {value()}"]
            for name, values in self.latest.items():
                ordered = sorted(values)
                lines.append(f"# TYPE {name} summary")
                for quantile in QUANTILES:
                    at = ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
                    lines.append(f'{name}{{quantile="{quantile}"}} {at:.6f}')
                lines += [f"{name}{end} {self.sums[name + end]:.6f}" for end in ("_sum", "_count")]
        return "\n".join(lines) + "\n"
