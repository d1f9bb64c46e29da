"""Finds and opens files of rows: paths, globs, folders and addresses, plain or compressed."""

import glob
import gzip
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from topeng.errors import CorpusError

COMPRESSED = (".gz", ".zst")
TABLES = (".parquet", ".arrow")
TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
ENDINGS = (*TABLES, *TEXTS)
"""Endings of files that contain rows. Text formats may be compressed."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")
ASIDE = (".md", ".yaml", ".yml", ".lock", "")
"""Endings of files without rows that accompany data in a folder."""
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""Files that `datasets.save_to_disk` writes next to its `.arrow` files, and above the folders of several splits."""


def resolve(files: Sequence[str], option: str | None = "corpus.files") -> list[str]:
    """The files that paths, globs, folders and addresses stand for. Those of a glob are sorted by name.

    Args:
        option: option that names them, for messages.

    Raises:
        CorpusError: one of them matches nothing, or is a folder in which it is not clear what to read.
    """
    found: list[str] = []
    for name in files:
        matches = _remote(name) if is_address(name) else local_files(name)
        if not matches:
            where = f"{option}: " if option else ""
            raise CorpusError(f"{where}nothing matches {name}. Give a path, a glob, a folder or an hf:// address.")
        found += matches
    return found


def local_files(name: str) -> list[str]:
    """The local files that a path, a glob or a folder names, sorted; an empty list if nothing matches."""
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return _in_folder(path)
    if os.path.exists(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True))
    if "**" in path:
        return [match for match in matches if os.path.isfile(match)]
    return [file for match in matches for file in (_in_folder(match) if os.path.isdir(match) else [match])]


def is_address(name: str) -> bool:
    return "://" in name


def ending(name: str) -> str:
    """`.csv` of `DATA.CSV.gz`."""
    path = PurePosixPath(name.partition("?")[0].lower() if is_address(name) else name.lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading bytes. Compression is detected from its content, not from its name.

    Raises:
        CorpusError: it is text in UTF-16.
    """
    with open(os.path.expanduser(name), "rb") as file:
        magic = file.peek(4)[:4]
        if magic.startswith(GZIP):
            with gzip.open(file) as stream:
                yield io.BufferedReader(stream, 2**20)
        elif magic == ZSTD:
            import pyarrow as pa

            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
                yield io.BufferedReader(stream, 2**20)
        elif ending(name) not in TABLES and UTF16.match(magic):
            raise CorpusError(f"{name} is UTF-16 instead of UTF-8. {_conversion(name, 'UTF-16')}")
        else:
            yield file


@contextmanager
def at_hand(name: str) -> Iterator[str]:
    """A temporary local copy of the file at an address. A local path is used as it is.

    Raises:
        CorpusError: the address cannot be reached.
    """
    if not is_address(name):
        yield name
        return
    import daft

    with tempfile.TemporaryDirectory(prefix="topeng-") as folder:
        copy = os.path.join(folder, PurePosixPath(name.partition("?")[0]).name)
        try:
            with daft.File(name).open() as remote, open(copy, "wb") as file:
                shutil.copyfileobj(remote, file, 2**20)
        except Exception as error:  # Daft's own errors have no common class below Exception
            raise CorpusError(unreadable(name, error)) from error
        yield copy


def not_utf8(name: str) -> CorpusError:
    """An error that names the first line that is not UTF-8."""
    with opened(name) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                odd = line[error.start : error.start + 1]
                return CorpusError(
                    f"{name}, line {number}: the byte 0x{odd.hex()} is not UTF-8, but perhaps Windows-1252. "
                    f"{_conversion(name, 'WINDOWS-1252')}"
                )
    return CorpusError(f"{name} is not UTF-8. {_conversion(name, 'WINDOWS-1252')}")


def unreadable(name: str, error: Exception) -> str:
    """An error about a file that a library cannot read, in one line with its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if is_address(name):
        return f"cannot reach {name} ({lines[-1][:120]}). Download it, and point --corpus.files to the local copy."
    reason = error.strerror if isinstance(error, OSError) and error.strerror else lines[0]
    return f"cannot read {name}: {reason[:200]}"


def _conversion(name: str, encoding: str) -> str:
    return f"Convert it, for example with `iconv -f {encoding} -t UTF-8 {Path(name).name} > utf8-{Path(name).name}`."


def _in_folder(folder: str) -> list[str]:
    """The files of a folder that contain rows, if they are all of the same kind.

    Raises:
        CorpusError: it contains several splits, several kinds of files, or no rows.
    """
    if os.path.exists(os.path.join(folder, SAVED_SPLITS)):
        splits = sorted(path.parent.name for path in Path(folder).glob(f"*/{SAVED}"))
        named = ", ".join(os.path.join(folder, split) for split in splits)
        raise CorpusError(f"{folder} contains several splits, saved by `datasets`. Name those to read: {named}")
    if os.path.exists(os.path.join(folder, SAVED)):
        state: dict[str, Any] = json.loads(Path(folder, SAVED).read_text(encoding="utf-8"))
        return [os.path.join(folder, entry["filename"]) for entry in state["_data_files"]]
    there = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and not path.name.startswith((".", "_"))]
    kinds = sorted({ending(path.name) for path in there} - set(ASIDE))
    if len(kinds) == 1 and kinds[0] in ENDINGS:
        return [str(path) for path in there if ending(path.name) == kinds[0]]
    globs = ", ".join(f"{folder}/*{kind}" for kind in kinds if kind in ENDINGS) or f"{folder}/**/*.parquet"
    held = f"files of {', '.join(kinds)}" if kinds else "no data files of its own"
    raise CorpusError(f"{folder} is a folder with {held}. Name the files to read by a glob, such as {globs}")


def _remote(name: str) -> list[str]:
    if "*" not in name:
        return [name]
    import daft

    try:
        return sorted(daft.from_glob_path(name).to_pydict()["path"])
    except Exception as error:  # Daft's own errors have no common class below Exception
        raise CorpusError(unreadable(name, error)) from error
