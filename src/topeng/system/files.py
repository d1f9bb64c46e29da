"""Files that are written completely or not at all, and digests that identify their content."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from topeng.errors import TopengError

NOT_WRITTEN = ("I/O error", "iostream error", "PytorchStreamWriter", "inline_container.cc", "(os error ")
"""What safetensors, tokenizers and torch say where the disk is full: theirs are no `OSError`s."""


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names."""
    total = hashlib.sha256()
    for file in files_in(path):
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


def read_object(file: Path, error: type[TopengError], what: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        error: raised where it holds none.
        what: the file is of, which is to be copied again then.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as reason:
        raise error(f"{file} is not JSON ({reason}). Copy the {what} again.") from reason
    if not isinstance(values, dict):
        raise error(f"{file} must be a JSON object. Copy the {what} again.")
    return values


def move(source: Path, target: Path) -> None:
    """Puts a file or folder in another's place, once all of it is on the disk."""
    for file in files_in(source):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def files_in(path: Path) -> list[Path]:
    """The file itself, or a folder's files in order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def state_of(path: Path) -> list[list[Any]]:
    """Names, sizes and times: files whose content changes have another state."""
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files_in(path)]


def failed_write(error: Exception) -> str | None:
    """What an error says of a file that cannot be written or read; None of another kind of error."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, OSError) or any(words in text for words in NOT_WRITTEN) else None
