"""The run folder: what was finished stays, what was killed goes on, what changed is done again.

A stage writes into a folder of its own under `.work/`; when it ends, its outputs are moved to their places and
the manifest is replaced in one step. A stage counts as finished only by the manifest.
"""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from topeng import ranks
from topeng.errors import RunError
from topeng.kecil import locate
from topeng.memory import measured
from topeng.progress import clock
from topeng.workers import Workers

MANIFEST = "manifest.json"
WORK, SKIP = "work", "skip"
FINISHED = "finished"
NOT_WRITTEN = ("I/O error", "iostream error", "PytorchStreamWriter", "inline_container.cc", "(os error ")
"""What safetensors, tokenizers and torch say where the disk is full: theirs are no `OSError`s."""
PACKAGES = ("topeng", "torch", "transformers", "peft", "accelerate", "daft", "scikit-learn", "umap-learn", "sacrebleu")


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: such as `train/lora`.
        outputs: files or folders that it leaves, relative to the run folder.
        options: what of the recipe it depends on, as plain values.
        work: called with the folder to write `outputs` into; called again on the same folder after a kill.
        reads: what it reads of earlier stages' outputs.
        inputs: files or folders from outside the run that it reads; a name that is no path stands for itself.
        together: all ranks of the run take part; rank 0 alone writes the outputs.
        apart: a worker may do it, beside others that it doesn't read from.
        does: what it does, for a person who waits.
    """

    name: str
    outputs: Sequence[str]
    options: Mapping[str, Any]
    work: Callable[[Path], None]
    reads: Sequence[str] = ()
    inputs: Sequence[str] = field(default=())
    together: bool = False
    apart: bool = False
    does: str = ""

    @property
    def title(self) -> str:
        return f"{self.name}: {self.does}" if self.does else self.name


class RunFolder:
    """A folder that holds one run: its resolved recipe, its manifest, and what its stages leave."""

    def __init__(self, path: str | Path) -> None:
        """Opens or makes the folder.

        Raises:
            RunError: it cannot be written, or its manifest cannot be read.
        """
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make the run folder {path}: {error.strerror}; choose another with --run-dir"
            ) from error
        self.manifest = _read_manifest(self.path / MANIFEST)

    @contextmanager
    def locked(self) -> Iterator["RunFolder"]:
        """Holds the folder for this process.

        Raises:
            RunError: another process holds it, or it cannot be written.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"another process is at work in {self.path}: wait for it, or choose another --run-dir"
            ) from error
        except OSError as error:
            raise RunError(f"cannot write to the run folder {self.path}: {error.strerror}") from error
        try:
            self.manifest = _read_manifest(self.path / MANIFEST)  # as whoever held the folder has left it
            yield self
        finally:
            lock.release()

    def finished(self, stage: Stage) -> bool:
        """Whether the manifest has the stage as done, from the same options and inputs, with its outputs in place."""
        return self._outlook(stage, {}) == FINISHED

    def outlook(self, stages: Sequence[Stage]) -> dict[str, str]:
        """What a run will do of each stage, by name: `finished` (nothing), or to do, or to be redone and why."""
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
            redone: outputs that will be made anew before, with the stage that does.
        """
        before = next((redone[output] for output in stage.reads if output in redone), None)
        entry = self.manifest["stages"].get(stage.name, {})
        if entry.get("status") != "done":
            begun = before is None and self._begun(stage, self.fingerprint(stage))
            return "to do, from where it was stopped" if begun else "to do"
        if entry["fingerprint"] != self.fingerprint(stage):
            own = entry["fingerprint"] != self.fingerprint(stage, entry.get("reads"))
            if own or not before:
                return f"to be redone, because {'its options or inputs' if own else 'what it reads'} changed"
        if not all(self._in_place(entry, output) for output in stage.outputs):
            return "to be redone, because its outputs are not as it left them"
        return f"to be redone, unless {before} comes out as before" if before else FINISHED

    def _begun(self, stage: Stage, fingerprint: str) -> bool:
        """Whether its work folder holds the beginnings of this very work."""
        known = self._work_folder(stage) / ".fingerprint"
        return known.exists() and known.read_text(encoding="utf-8") == fingerprint

    def _in_place(self, entry: dict[str, Any], output: str) -> bool:
        """Whether an output is what its stage left: by sizes and times, or by content where a copy has other times."""
        state, known = _state(self.path / output), entry.setdefault("state", {})
        if known.get(output) != state:
            if digest(self.path / output) != entry["outputs"].get(output):
                return False
            known[output] = state
        return True

    def _reads(self, stage: Stage) -> dict[str, str | None]:
        """Digests of what the stage reads of earlier ones."""
        outputs: dict[str, str] = {}
        for entry in self.manifest["stages"].values():
            outputs |= entry["outputs"]
        return {output: outputs.get(output) for output in stage.reads}

    def fingerprint(self, stage: Stage, reads: Mapping[str, str | None] | None = None) -> str:
        """A digest of all that the stage depends on: of what earlier stages have left, or of other `reads`."""
        depends = {
            "options": stage.options,
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
        """Does the stages that are not finished, in order; leaves those that are.

        Args:
            recipe: the resolved recipe, kept as `recipe.yaml`.
            workers: that do stages which may be done apart, side by side; without them all is done here.
        """
        with _storage("the run"):
            write_atomically(self.path / "recipe.yaml", recipe)
        self.manifest |= {"versions": _versions(), "seed": seed}
        began = time.monotonic()
        labels = {one.name: f"[{number}/{len(stages)}] {one.title}" for number, one in enumerate(stages, start=1)}
        for group in _side_by_side(stages) if workers else ([stage] for stage in stages):
            to_do = []
            for stage in group:
                if self.finished(stage):
                    console.print(f"{labels[stage.name]}: finished before", style="dim", highlight=False)
                    _tell_ranks(stage, SKIP)
                    _discard(self._work_folder(stage))
                else:
                    console.print(labels[stage.name], style="bold", highlight=False)
                    to_do.append(stage)
            for stage, seconds, peak in self._do(to_do, workers):
                size = f"{peak / 2**30:.1f} GiB"
                name = f"{stage.name} " if len(to_do) > 1 else ""
                took = f"  {name}done in {seconds:.1f} s, {clock(time.monotonic() - began)} so far, peak memory {size}"
                console.print(took, style="dim", highlight=False)

    def follow(self, stages: Sequence[Stage]) -> None:
        """What ranks other than 0 do: their part of the stages that all ranks share, when rank 0 comes to them."""
        for stage in stages:
            if stage.together and ranks.hear() == WORK:
                stage.work(self._work_folder(stage))

    def _work_folder(self, stage: Stage) -> Path:
        return self.path / ".work" / stage.name.replace("/", "-")

    def _do(self, stages: Sequence[Stage], workers: Workers | None) -> Iterator[tuple[Stage, float, int]]:
        """Does stages that don't depend on each other; each as it ends, with seconds and its peak memory in bytes."""
        by_name = {stage.name: stage for stage in stages}
        fingerprints = {stage.name: self._begin(stage) for stage in stages}
        folders = {stage.name: self._work_folder(stage) for stage in stages}
        apart = workers if all(stage.apart for stage in stages) else None
        with _storage(" and ".join(by_name)):
            for name, seconds, peak in apart.do(folders) if apart else self._do_here(stages):
                self._end(by_name[name], fingerprints[name], seconds, peak)
                yield by_name[name], seconds, peak

    def _do_here(self, stages: Sequence[Stage]) -> Iterator[tuple[str, float, int]]:
        """In this process, as `Workers.do` does in others."""
        for stage in stages:
            _tell_ranks(stage, WORK)
            yield stage.name, *measured(partial(stage.work, self._work_folder(stage)))

    def _begin(self, stage: Stage) -> str:
        """Makes its work folder, unless an earlier start of the same left one; returns its fingerprint."""
        fingerprint, work = self.fingerprint(stage), self._work_folder(stage)
        with _storage(stage.name):
            if not self._begun(stage, fingerprint):
                _discard(work)
                work.mkdir(parents=True, exist_ok=True)
                write_atomically(work / ".fingerprint", fingerprint)
        return fingerprint

    def _end(self, stage: Stage, fingerprint: str, seconds: float, peak: int) -> None:
        """Moves its outputs to their places, and records it as done."""
        work = self._work_folder(stage)
        entry = {
            "status": "done",
            "fingerprint": fingerprint,
            "reads": self._reads(stage),
            "seconds": round(seconds, 2),
            "peak_memory_bytes": peak,
            "versions": self.manifest["versions"],
            "outputs": {output: digest(work / output) for output in stage.outputs},
            "state": {output: _state(work / output) for output in stage.outputs},
        }
        self._record(stage.name, None)  # while outputs are replaced, neither the old nor the new ones count
        for output in stage.outputs:
            move(work / output, self.path / output)
        self._record(stage.name, entry)
        _discard(work)

    def _record(self, name: str, entry: dict[str, Any] | None) -> None:
        stages = {other: kept for other, kept in self.manifest["stages"].items() if other != name}
        self.manifest["stages"] = stages | ({name: entry} if entry else {})
        write_atomically(self.path / MANIFEST, json.dumps(self.manifest, indent=1))

    def _input_digest(self, name: str) -> str:
        """Of a file or folder, remembered while its sizes and times stay the same; a model id stands for itself."""
        path = Path(locate(name))
        if not path.exists():
            return name
        state = _state(path)
        known = self.manifest["inputs"].get(name)
        if known is None or known["state"] != state:
            known = {"sha256": digest(path), "state": state}
            self.manifest["inputs"][name] = known
        return known["sha256"]


def _read_manifest(path: Path) -> dict[str, Any]:
    """
    Raises:
        RunError: it cannot be read, or is not what a run leaves.
    """
    if not path.exists():
        return {"stages": {}, "inputs": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not JSON ({error}): remove it, and the stages are done again") from error
    if not _is_manifest(manifest):
        raise RunError(f"{path} is not what a run leaves: remove it, and the stages are done again")
    return manifest


def _is_manifest(value: Any) -> bool:
    """Whether a value has the form that `_record` writes."""

    def sections(value: Any, keys: set[str]) -> bool:
        return isinstance(value, dict) and value.keys() >= keys

    return (
        sections(value, {"stages", "inputs"})
        and all(isinstance(value[name], dict) for name in ("stages", "inputs"))
        and all(sections(stage, {"status", "fingerprint", "outputs"}) for stage in value["stages"].values())
        and all(isinstance(stage["outputs"], dict) for stage in value["stages"].values())
        and all(sections(known, {"sha256", "state"}) for known in value["inputs"].values())
    )


@contextmanager
def _storage(doing: str) -> Iterator[None]:
    """
    Raises:
        RunError: a file cannot be written or read, for want of room, of a right, or of the disk.
    """
    try:
        yield
    except Exception as error:
        text = failed_write(error)
        if text is None:
            raise
        raise RunError(f"{doing} stopped: {text}; what was finished stays, run the same command again") from error


def failed_write(error: Exception) -> str | None:
    """What an error says of a file that cannot be written or read; None of another kind of error."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, OSError) or any(words in text for words in NOT_WRITTEN) else None


def _discard(work: Path) -> None:
    """Removes a work folder; one that a kill leaves half is not taken up again."""
    (work / ".fingerprint").unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _side_by_side(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Neighbours that may be done apart and don't read from each other together, all others one by one."""
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


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names."""
    total = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path)} {content}\n".encode())
    return total.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def move(source: Path, target: Path) -> None:
    """Puts a file or folder in another's place, once all of it is on the disk."""
    for file in _files(source):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _state(path: Path) -> list[list[Any]]:
    """Names, sizes and times: files whose content changes have another state."""
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in _files(path)]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
