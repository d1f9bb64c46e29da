"""The run folder: finished stages are kept, interrupted ones continue, and changed ones run again.

A stage writes into its own folder in `.work/`. When it ends, its outputs are moved to their places, and the manifest is
replaced in one step. Only the manifest says whether a stage is finished.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from topeng.errors import RunError
from topeng.kecil import locate
from topeng.options import results
from topeng.run.manifest import MANIFEST, read_manifest
from topeng.system import ranks
from topeng.system.files import digest, failed_write, move, state_of, write_atomically
from topeng.system.memory import in_gib, measured
from topeng.system.progress import clock
from topeng.system.versions import versions
from topeng.system.workers import Workers

WORK, SKIP = "work", "skip"
FINISHED = "finished"


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: name, such as `train/lora`.
        outputs: files or folders that it writes, relative to the run folder.
        options: the part of the recipe that it depends on: a slice (a dataclass), or plain values by name.
        work: called with the folder to write `outputs` into, and called again with the same folder after a kill.
        reads: outputs of earlier stages that it reads.
        inputs: files or folders outside the run that it reads. A name that is not a path is used as it is.
        together: whether all ranks of the run take part. Only rank 0 writes the outputs.
        apart: whether a worker may run it next to stages whose outputs it does not read.
        does: short description that is shown while it runs.
        version: raised if the same options and inputs now give other results.
    """

    name: str
    outputs: Sequence[str]
    options: Any
    work: Callable[[Path], None]
    reads: Sequence[str] = ()
    inputs: Sequence[str] = field(default=())
    together: bool = False
    apart: bool = False
    does: str = ""
    version: int = 1

    @property
    def title(self) -> str:
        return f"{self.name}: {self.does}" if self.does else self.name


class RunFolder:
    """The folder of one run, with its resolved recipe, its manifest, and the outputs of its stages."""

    def __init__(self, path: str | Path) -> None:
        """Opens or creates the folder.

        Raises:
            RunError: it cannot be written, or its manifest cannot be read.
        """
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot create the run folder {path}: {error.strerror}. Choose another with --run-dir."
            ) from error
        self.manifest = read_manifest(self.path / MANIFEST)

    @contextmanager
    def locked(self) -> Iterator["RunFolder"]:
        """Locks the folder for this process.

        Raises:
            RunError: another process holds it, or it cannot be written.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"another process is using {self.path}. Wait for it to finish, or choose another --run-dir."
            ) from error
        except OSError as error:
            raise RunError(f"cannot write to the run folder {self.path}: {error.strerror}") from error
        try:
            self.manifest = read_manifest(self.path / MANIFEST)  # as the previous process left it
            yield self
        finally:
            lock.release()

    def finished(self, stage: Stage) -> bool:
        """Whether the stage is done with the same options and inputs, and its outputs are unchanged."""
        return self._outlook(stage, {}) == FINISHED

    def outlook(self, stages: Sequence[Stage]) -> dict[str, str]:
        """What a run will do with each stage, by name: nothing (`finished`), run it, or run it again and why."""
        found: dict[str, str] = {}
        redone: dict[str, str] = {}
        for stage in stages:
            found[stage.name] = self._outlook(stage, redone)
            if found[stage.name] != FINISHED:
                redone |= dict.fromkeys(stage.outputs, stage.name)
        return found

    def _outlook(self, stage: Stage, redone: Mapping[str, str]) -> str:
        """
        Args:
            redone: outputs that earlier stages will write again, with the name of the stage.
        """
        before = next((redone[output] for output in stage.reads if output in redone), None)
        entry = self.manifest["stages"].get(stage.name, {})
        if entry.get("status") != "done":
            begun = before is None and self._begun(stage, self.fingerprint(stage))
            return "to do, continues from its checkpoint" if begun else "to do"
        if entry["fingerprint"] != self.fingerprint(stage):
            own = entry["fingerprint"] != self.fingerprint(stage, entry.get("reads"))
            if own or not before:
                return f"runs again, because {'its options or inputs' if own else 'the outputs it reads'} changed"
        if not all(self._in_place(entry, output) for output in stage.outputs):
            return "runs again, because its outputs were changed or removed"
        return f"runs again, unless {before} gives the same result" if before else FINISHED

    def _begun(self, stage: Stage, fingerprint: str) -> bool:
        """Whether the work folder of a stage has an unfinished attempt with the same fingerprint."""
        known = self._work_folder(stage) / ".fingerprint"
        return known.exists() and known.read_text(encoding="utf-8") == fingerprint

    def _in_place(self, entry: dict[str, Any], output: str) -> bool:
        """Whether an output is unchanged, judged by size and time, or by content if its times differ, as in a copy."""
        state, known = state_of(self.path / output), entry.setdefault("state", {})
        if known.get(output) != state:
            if digest(self.path / output) != entry["outputs"].get(output):
                return False
            known[output] = state
        return True

    def _reads(self, stage: Stage) -> dict[str, str | None]:
        """Digests of the outputs of earlier stages that a stage reads."""
        outputs: dict[str, str] = {}
        for entry in self.manifest["stages"].values():
            outputs |= entry["outputs"]
        return {output: outputs.get(output) for output in stage.reads}

    def fingerprint(self, stage: Stage, reads: Mapping[str, str | None] | None = None) -> str:
        """A digest of everything that a stage depends on. `reads` replaces the digests of earlier outputs."""
        depends = {
            "version": stage.version,
            "options": results(stage.options) if is_dataclass(stage.options) else stage.options,
            "reads": self._reads(stage) if reads is None else reads,
            "inputs": {name: self._input_digest(name) for name in stage.inputs},
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def run(
        self,
        stages: Sequence[Stage],
        recipe: str,
        seed: int,
        console: Console,
        workers: Workers | None = None,
    ) -> None:
        """Runs the stages that are not finished, in order.

        Args:
            recipe: the resolved recipe, which is kept as `recipe.yaml`.
            workers: processes that run independent stages side by side. Without them, everything runs here.
        """
        with _storage("the run"):
            write_atomically(self.path / "recipe.yaml", recipe)
        self.manifest |= {"versions": versions(), "seed": seed}
        began = time.monotonic()
        labels = {one.name: f"[{number}/{len(stages)}] {one.title}" for number, one in enumerate(stages, start=1)}
        for group in _side_by_side(stages) if workers else ([stage] for stage in stages):
            to_do = []
            for stage in group:
                if self.finished(stage):
                    console.print(f"{labels[stage.name]}: already done", style="dim", highlight=False)
                    _tell_ranks(stage, SKIP)
                    _discard(self._work_folder(stage))
                else:
                    console.print(labels[stage.name], style="bold", highlight=False)
                    to_do.append(stage)
            for stage, seconds, peak in self._do(to_do, workers):
                size = in_gib(peak)
                name = f"{stage.name} " if len(to_do) > 1 else ""
                took = f"  {name}done in {seconds:.1f} s, {clock(time.monotonic() - began)} so far, peak memory {size}"
                console.print(took, style="dim", highlight=False)

    def follow(self, stages: Sequence[Stage]) -> None:
        """Takes part in the stages that all ranks share, on ranks other than 0, when rank 0 reaches them."""
        for stage in stages:
            if stage.together and ranks.hear() == WORK:
                stage.work(self._work_folder(stage))

    def _work_folder(self, stage: Stage) -> Path:
        return self.path / ".work" / stage.name.replace("/", "-")

    def _do(self, stages: Sequence[Stage], workers: Workers | None) -> Iterator[tuple[Stage, float, int]]:
        """Runs independent stages. Yields each when it ends, with its seconds and peak memory in bytes."""
        by_name = {stage.name: stage for stage in stages}
        fingerprints = {stage.name: self._begin(stage) for stage in stages}
        folders = {stage.name: self._work_folder(stage) for stage in stages}
        apart = workers if all(stage.apart for stage in stages) else None
        with _storage(" and ".join(by_name)):
            for name, seconds, peak in apart.do(folders) if apart else self._do_here(stages):
                self._end(by_name[name], fingerprints[name], seconds, peak)
                yield by_name[name], seconds, peak

    def _do_here(self, stages: Sequence[Stage]) -> Iterator[tuple[str, float, int]]:
        """Runs stages in this process, with the interface of `Workers.do`."""
        for stage in stages:
            _tell_ranks(stage, WORK)
            yield stage.name, *measured(partial(stage.work, self._work_folder(stage)))

    def _begin(self, stage: Stage) -> str:
        """Creates the work folder of a stage, unless an earlier attempt left one, and returns its fingerprint."""
        fingerprint, work = self.fingerprint(stage), self._work_folder(stage)
        with _storage(stage.name):
            if not self._begun(stage, fingerprint):
                _discard(work)
                work.mkdir(parents=True, exist_ok=True)
                write_atomically(work / ".fingerprint", fingerprint)
        return fingerprint

    def _end(self, stage: Stage, fingerprint: str, seconds: float, peak: int) -> None:
        """Moves the outputs of a stage to their final places, and records it as done."""
        work = self._work_folder(stage)
        entry = {
            "status": "done",
            "fingerprint": fingerprint,
            "reads": self._reads(stage),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 2),
            "peak_memory_bytes": peak,
            "versions": self.manifest["versions"],
            "outputs": {output: digest(work / output) for output in stage.outputs},
            "state": {output: state_of(work / output) for output in stage.outputs},
        }
        self._record(stage.name, None)  # neither old nor new outputs are valid while they are replaced
        for output in stage.outputs:
            move(work / output, self.path / output)
        self._record(stage.name, entry)
        _discard(work)

    def _record(self, name: str, entry: dict[str, Any] | None) -> None:
        stages = {other: kept for other, kept in self.manifest["stages"].items() if other != name}
        self.manifest["stages"] = stages | ({name: entry} if entry else {})
        write_atomically(self.path / MANIFEST, json.dumps(self.manifest, indent=1))

    def _input_digest(self, name: str) -> str:
        """The digest of a file or folder, remembered until its sizes or times change. A model id is used as it is."""
        path = Path(locate(name))
        if not path.exists():
            return name
        state = state_of(path)
        known = self.manifest["inputs"].get(name)
        if known is None or known["state"] != state:
            known = {"sha256": digest(path), "state": state}
            self.manifest["inputs"][name] = known
        return known["sha256"]


@contextmanager
def _storage(doing: str) -> Iterator[None]:
    """
    Raises:
        RunError: a file cannot be written or read, because of a full disk, missing permissions or a disk error.
    """
    try:
        yield
    except Exception as error:
        text = failed_write(error)
        if text is None:
            raise
        raise RunError(f"{doing} stopped: {text}. Finished work was kept: run the same command again.") from error


def _discard(work: Path) -> None:
    """Removes a work folder. If a kill interrupts this, the rest is not used again."""
    (work / ".fingerprint").unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _side_by_side(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Groups neighbouring stages that workers may run at the same time. All others form groups of one."""
    group: list[Stage] = []
    for stage in stages:
        reads_one = any(output in stage.reads for other in group for output in other.outputs)
        if group and (not (stage.apart and group[-1].apart) or reads_one):
            yield group
            group = []
        group.append(stage)
    if group:
        yield group


def _tell_ranks(stage: Stage, word: str) -> None:
    if stage.together:
        ranks.tell(word)
