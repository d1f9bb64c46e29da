"""`topeng push`: uploads an exported folder to the Hub, with a card that states its licences."""

import re
from pathlib import Path
from typing import Any

from topeng.adapt.export_card import NOT_STATED, licence_of, read_card
from topeng.errors import ExportError, in_one_line

NAME = re.compile(r"[\w.-]+/[\w.-]+")
WHOLE = ({"config.json", "*.safetensors"}, {"adapter_config.json", "adapter_model.safetensors"}, {"*.gguf"})
"""Files of which a folder must contain one: a checkpoint, an adapter, or a file for llama.cpp."""


def list_files(folder: Path, name: str) -> list[tuple[str, int]]:
    """The files of an upload and their sizes in bytes. Hidden files are not uploaded.

    Raises:
        ExportError: the folder is not an export, its card lacks a licence, or the name is not that of a repository.
    """
    if not NAME.fullmatch(name):
        raise ExportError(f"{name!r} is not the name of a repository. Write USER/MODEL.")
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder}. `topeng export` writes one.")
    if folder.suffix == ".partial" or not any(all(any(folder.glob(p)) for p in patterns) for patterns in WHOLE):
        raise ExportError(f"{folder} contains no complete model or adapter. `topeng export` writes such a folder.")
    _check_card(folder)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _hidden(file.relative_to(folder))]
    return [(str(file.relative_to(folder)), file.stat().st_size) for file in files]


def push_folder(folder: Path, name: str, private: bool) -> str:
    """Uploads a folder in one commit, and returns the address. A missing repository is created.

    Args:
        private: make a new repository private. An existing public one is refused.

    Raises:
        ExportError: as in `list_files`, or the Hub refuses.
    """
    files = [file for file, _ in list_files(folder, name)]
    from huggingface_hub import HfApi

    api = HfApi(library_name="topeng")
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        if private and not api.repo_info(name).private:
            raise ExportError(f"{name} already exists and is public. Make it private first, or choose another name.")
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=files, commit_message="Upload by topeng push"
        )
    except ExportError:
        raise
    except Exception as error:  # errors of the Hub, the connection or the login
        raise ExportError(
            f"cannot upload {folder} to {name} ({in_one_line(error, 200)}). `hf auth login` logs in to the Hub."
        ) from error
    return str(address)


def _check_card(folder: Path) -> None:
    """
    Raises:
        ExportError: a licence is not named.
    """
    file = folder / "README.md"
    if not file.is_file():
        raise ExportError(f"{folder} has no README.md, the model card. `topeng export` writes one.")
    front, _ = read_card(file)
    stated: dict[str, Any] = {"license": licence_of(front)}
    stated |= {name: front.get(name) or NOT_STATED for name in ("base_license", "data_license")}
    for name, value in stated.items():
        if value == NOT_STATED or (isinstance(value, dict) and NOT_STATED in value.values()):
            of = {"license": "these weights", "base_license": "the base", "data_license": "the training texts"}[name]
            raise ExportError(f"{file} does not state the licence of {of}. Add it as `{name}` to the front matter.")


def _hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)
