"""The record of a run on a GPU: `gpu.json`, and `gpu.txt` for people.

Both are replaced whole after every figure, so that a run that is cut off at any moment keeps all that it had measured.
One process writes at a time: `run.py` between parts, a part's process while it lasts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topeng.system.files import write_atomically

Record = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """What a folder holds of a run.

    A part has a `status`: `running` (a reader of the file sees that it was cut off), `done`, `incomplete` (some of its
    measurements failed), `failed`, `out of time` or `not built`; its `figures` by name, each with values or an `error`.
    """

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "gpu.json"

    def read(self) -> Record:
        """The record so far; an empty one before the first figure."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {"parts": {}}

    def start(self, **facts: Any) -> None:
        """Begins a new record with facts such as the machine and the options."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write({**facts, "parts": {}})

    def begin(self, part: str) -> None:
        self._change(part, {"status": "running", "figures": {}})

    def figure(self, part: str, name: str, values: Record) -> None:
        """Adds one measurement of a part, or the error that stands in its place."""
        figures = self.read()["parts"].get(part, {}).get("figures", {})
        self._change(part, {"figures": figures | {name: values}})

    def end(self, part: str, status: str, seconds: float, error: str = "") -> None:
        """Closes a part. One that ended by itself is `incomplete` where a measurement of it has an error."""
        figures = self.read()["parts"].get(part, {}).get("figures", {})
        if status == "done" and any("error" in values for values in figures.values()):
            status = "incomplete"
        changes = {"status": status, "seconds": round(seconds, 1), "figures": figures}
        self._change(part, changes | ({"error": error} if error else {}))

    def _change(self, part: str, changes: Record) -> None:
        record = self.read()
        record["parts"][part] = record["parts"].get(part, {}) | changes
        self.write(record)

    def write(self, record: Record) -> None:
        """Replaces the whole record, and the page."""
        write_atomically(self.path, json.dumps(record, indent=1))
        write_atomically(self.folder / "gpu.txt", page(record))


def page(record: Record) -> str:
    """The record as a page of text: a line for each part, and one for each of its figures."""
    facts = {name: value for name, value in record.items() if name != "parts"}
    lines = [f"{name}: {_value(value)}" for name, value in facts.items()]
    for name, part in record["parts"].items():
        took = f", {part['seconds']:.0f} s" if "seconds" in part else ""
        lines += ["", f"{name}: {part['status']}{took}"]
        if "error" in part:
            lines.append(f"  {part['error'].strip().splitlines()[-1]}")
        lines += [f"  {figure}: {_values(values)}" for figure, values in part["figures"].items()]
    return "\n".join(lines) + "\n"


def _values(values: Record) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _values(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return " ".join(str(value).split())
