"""Reads and writes checkpoints one weight at a time, so that a whole model need not fit into memory."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from topeng.errors import ExportError, ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Largest size of a file of weights, as in the Hub's libraries."""


class Weights(Protocol):
    """The weights of a checkpoint by official name. Shapes are read at once, and each weight when it is requested."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def read(self, name: str) -> Tensor: ...


class StoredWeights:
    """The weights of a folder in their stored precision, in the order of its files."""

    def __init__(self, folder: str | Path) -> None:
        """
        Raises:
            ModelError: the folder has no safetensors, some that its index names are missing, or one is truncated.
        """
        self._folder = Path(folder)
        self._file_of: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._opened: tuple[str, Any] = ("", None)
        promised = self._promised()
        for file in sorted(set(promised.values())) if promised else [WEIGHTS]:
            opened = self._open(file)
            for name in opened.keys():  # noqa: SIM118
                self._file_of[name], self.shapes[name] = file, tuple(opened.get_slice(name).get_shape())
        if missing := promised.keys() - self._file_of.keys():
            raise ModelError(
                f"{self._folder / INDEX} names {len(missing)} weights that are not in its files, the first is "
                f"{min(missing)}. Copy the checkpoint again."
            )

    def read(self, name: str) -> Tensor:
        """One weight, which is in memory only while it is referenced."""
        return self._open(self._file_of[name]).get_tensor(name)

    def _promised(self) -> dict[str, str]:
        """The file of each weight according to the index of the folder, or nothing if there is no index."""
        file = self._folder / INDEX
        if not file.is_file():
            return {}
        try:
            return dict(json.loads(file.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} is not an index of weights. Copy the checkpoint again.") from error

    def _open(self, file: str) -> Any:
        """The reader of a file. Only one file is open at a time, so that at most one is in memory."""
        if self._opened[0] == file:
            return self._opened[1]
        path = self._folder / file
        if not path.is_file():
            raise ModelError(f"{self._folder} has no {file}. The checkpoint is incomplete: copy it again.")
        try:
            self._opened = file, safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path} ({error}). Copy the checkpoint again.") from error
        return self._opened[1]


def write_shards(weights: Weights, folder: Path, dtype: torch.dtype, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes weights as safetensors, rounded to the nearest value (ties to even), with at most one file in memory.

    Args:
        shard_bytes: largest size of a file. If there are more weights, several files and an index are written.

    Raises:
        ExportError: the disk has not enough space.
    """
    check_room(folder, dtype.itemsize * sum(math.prod(shape) for shape in weights.shapes.values()))
    with torch.device("meta"):
        empty = {name: torch.empty(shape, dtype=dtype) for name, shape in weights.shapes.items()}
    plan = split_torch_state_dict_into_shards(empty, max_shard_size=shard_bytes)
    for file, names in plan.filename_to_tensors.items():
        save_file({name: weights.read(name).to(dtype).contiguous() for name in names}, folder / file, {"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")


def check_room(folder: Path, size: int) -> None:
    """Checks the space on the disk before minutes of writing.

    Raises:
        ExportError: there is not enough space.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
        has, are = (f"{count / unit:.1f} {name}" for count in (free, size))
        raise ExportError(
            f"{folder.parent} has {has} of free space, but the weights need {are}. Choose another folder."
        )
