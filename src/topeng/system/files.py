"""Files that are written completely or not at all, and digests that identify their content."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from topeng.errors import TopengError

NOT_WRITTEN = ("I/O error", "iostream error", "PytorchStreamWriter", "inline_container.cc", "(os error ")
"""Messages of safetensors, tokenizers and torch about a full disk, whose errors are not `OSError`s."""


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder with their names."""
    total = hashlib.sha256()
    for file in files_in(path):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path)} {content}\n".encode())
    return total.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Writes a file completely or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def read_object(file: Path, error: type[TopengError], what: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        error: error to raise if there is none.
        what: what the file belongs to and the user should copy again.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise error(f"{file} is not JSON ({reason}). Copy the {what} again.") from reason
    if not isinstance(values, dict):
        raise error(f"{file} must be a JSON object. Copy the {what} again.")
    return values


def move(source: Path, target: Path) -> None:
    """Moves a file or folder to the place of another, after syncing it to the disk."""
    for file in files_in(source):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def files_in(path: Path) -> list[Path]:
    """The file itself, or the files of a folder in order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def state_of(path: Path) -> list[list[Any]]:
    """Names, sizes and times of files, which change when their content does."""
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files_in(path)]


def failed_write(error: Exception) -> str | None:
    """The message of an error about a file that cannot be written or read, or None for other errors."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, OSError) or any(words in text for words in NOT_WRITTEN) else None
