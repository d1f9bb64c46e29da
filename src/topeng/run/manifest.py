"""The manifest of a run folder: which stages are done, with which inputs and versions, and their outputs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topeng.errors import RunError

MANIFEST = "manifest.json"
FORMAT = 2
"""Format of the manifest. Each format computes fingerprints in a different way."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a run, or returns that of a new run if there is no file.

    Raises:
        RunError: it cannot be read, or is not a manifest.
    """
    if not path.exists():
        return {"format": FORMAT, "stages": {}, "inputs": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not JSON ({error}). Remove it to run all stages again.") from error
    if not _is_manifest(manifest):
        raise RunError(f"{path} is not the manifest of a run. Remove it to run all stages again.")
    if manifest.get("format", 1) != FORMAT:
        raise RunError(
            f"{path.parent} was made by another version of Topeng, {_version_of(manifest)}. Use that version to "
            "continue the run, or choose another --run-dir. `topeng compare` can still read its scores."
        )
    return manifest


def _version_of(manifest: Mapping[str, Any]) -> str:
    known = manifest.get("versions")
    return str(known.get("topeng")) if isinstance(known, dict) else "unknown"


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
