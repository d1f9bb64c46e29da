"""Exports a model or an adapter to a format for other software."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from transformers import GenerationConfig

from topeng.adapt.export_card import Source, card
from topeng.adapt.foreign import ITS_BASE, base_record
from topeng.adapt.merge import BaseWeights, MergedWeights
from topeng.adapt.methods import WEIGHTS, publish_config
from topeng.adapt.names import NAMES, named
from topeng.adapt.nara import NOT_ADDED, is_nara
from topeng.errors import AdapterError, ExportError, ModelError, TopengError
from topeng.models import (
    family_of,
    fetch_checkpoint,
    hub_id,
    is_checkpoint,
    load_tokenizer,
    read_options,
)
from topeng.models import gguf as gguf_files
from topeng.models.shards import SHARD_BYTES, StoredWeights, write_shards
from topeng.options import meant
from topeng.system.files import failed_write, move, write_atomically
from topeng.text.chat import check_tokens

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
PRECISIONS = {"merged": tuple(DTYPES), "adapter": (), "gguf": gguf_files.PRECISIONS}
"""The precisions of each format. An adapter keeps its own."""


@dataclass(frozen=True)
class How:
    names: str
    precision: str
    shard_bytes: int


def export(
    source: str | Path,
    out: str | Path,
    form: str = "merged",
    *,
    base: str | Path | None = None,
    names: str = "native",
    precision: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model or an adapter to a new folder, completely or not at all.

    Args:
        source: folder of an adapter or a checkpoint, or a model id.
        form: `merged`, a checkpoint in the official layout, with the adapter added in fp32; `adapter`, a plain peft
            folder; or `gguf`, a file for llama.cpp.
        base: base of an adapter, if its folder does not name one.
        names: names of an adapter's modules: `native`, or `official`, which fit the network of the remote code.
        precision: precision of the weights, which are rounded to the nearest value: `bf16`, for `merged` also `f32`,
            and for `gguf` also `f16`, `f32` and `q8_0`. An adapter keeps its own.
        shard_bytes: largest size of a file of a merged checkpoint.

    Raises:
        ExportError: the format is unknown, or does not support the source or an option, or the folder cannot be
            written.
        ModelError, AdapterError: the source is incomplete, or the adapter belongs to another base.
    """
    _check("--format", form, tuple(FORMATS))
    _check("--names", names, NAMES)
    if names != "native" and form != "adapter":
        raise ExportError(f"--names only applies to --format adapter, but this is --format {form}. Leave it out.")
    if precision and not PRECISIONS[form]:
        raise ExportError(f"--format {form} keeps the adapter's own precision. Leave --precision out.")
    if precision:
        _check("--precision", precision, PRECISIONS[form], f" for --format {form}")
    out = check_new(out)
    found = find_source(source, base)
    if form != "adapter" and found.adapter and is_nara(found.adapter):
        raise ExportError(f"--format {form} cannot have the adapter in {found.adapter}: {NOT_ADDED}.")
    with whole(out) as folder:
        facts = FORMATS[form](found, folder, How(names, precision or "bf16", shard_bytes), out.name)
        write_atomically(folder / "README.md", card(found, form, out.name, facts))


def find_source(source: str | Path, base: str | Path | None) -> Source:
    """
    Raises:
        ExportError: a folder contains neither a checkpoint nor an adapter, or a base is named for a checkpoint.
        AdapterError: the base of an adapter is not known.
        ModelError: the checkpoint cannot be reached.
    """
    folder = Path(source)
    if not (folder / "adapter_config.json").is_file():
        if folder.is_dir() and not is_checkpoint(folder):
            raise ExportError(
                f"{folder} has neither config.json nor adapter_config.json. It is not a checkpoint or an adapter, or "
                "was not copied completely."
            )
        if base:
            raise ExportError(f"{source} is a whole model, but --base only applies to an adapter. Leave it out.")
        return Source(fetch_checkpoint(source), hub_id(source), run=_run_of(folder))
    run, named_base = _run_of(folder), _named_base(folder)
    if base:
        model, revision = base, None
    elif run:
        options = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["base"]
        model, revision = options["model"] or run / "base", options["revision"]
    elif named_base:
        model, revision = named_base, None
    else:
        file = folder / "adapter_config.json"
        raise AdapterError(f"{file} does not name the base of the adapter. Name it with --base MODEL.")
    return Source(fetch_checkpoint(model, revision), hub_id(model) or hub_id(named_base), folder, run)


def _run_of(folder: Path) -> Path | None:
    run = folder.resolve().parent.parent
    return run if folder.resolve().parent.name == "adapters" and (run / "recipe.yaml").is_file() else None


def _named_base(adapter: Path) -> str | None:
    """The base that the folder of an adapter names."""
    file = adapter / "adapter_config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or None
    except (ValueError, AttributeError) as error:
        raise AdapterError(f"{file} is not a file that peft wrote ({error}). Copy the adapter again.") from error


def _check(name: str, value: str, known: tuple[str, ...], where: str = "") -> None:
    if value not in known:
        raise ExportError(f"{name} = {value!r} is unknown{where}: {meant(value, known)}")


def check_new(out: str | Path) -> Path:
    """
    Raises:
        ExportError: it exists already.
    """
    if Path(out).exists():
        raise ExportError(f"{out} exists already. Name a new folder.")
    return Path(out)


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A temporary folder that is moved to `out` when it is complete and on the disk. After an error it is removed."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        move(partial, out)
    except Exception as error:
        text = None if isinstance(error, TopengError) else failed_write(error)
        if text is None:
            raise
        raise ExportError(f"cannot write {out} ({text}). Nothing was written. Choose another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _weights(source: Source) -> BaseWeights | MergedWeights:
    base = BaseWeights(source.base)
    return MergedWeights(base, source.adapter) if source.adapter else base


def _write_merged(source: Source, folder: Path, how: How, name: str) -> dict[str, Any]:
    weights, tokenizer = _weights(source), load_tokenizer(source.base)
    config = weights.config
    special = check_tokens(str(source.hub or source.base), config, tokenizer)
    dtype = DTYPES[how.precision]
    config.dtype = dtype
    if code := getattr(config, "auto_map", None):  # the code is in the repository of the base
        config.auto_map = {kind: f"{source.hub}--{where.rpartition('--')[2]}" for kind, where in code.items()}
        if source.hub is None:
            del config.auto_map
    config.save_pretrained(folder)
    own = (source.base / "generation_config.json").is_file()
    generation = GenerationConfig.from_pretrained(source.base) if own else GenerationConfig.from_model_config(config)
    generation.eos_token_id = [special.eos, special.eot]
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_shards(weights, folder, dtype, how.shard_bytes)
    return {"precision": how.precision}


def _write_adapter(source: Source, folder: Path, how: How, name: str) -> dict[str, Any]:
    if source.adapter is None:
        raise ExportError(
            f"{source.hub or source.base} is a whole model without an adapter. Use --format merged or gguf."
        )
    merged = MergedWeights(BaseWeights(source.base), source.adapter)
    if how.names == "official" and (whole := merged.in_parts()):
        raise ExportError(
            f"the official code has {whole[0]} in one, but the adapter has an update for each of its parts. Leave "
            "--names out, or use --format merged."
        )
    config, weights = named(merged.adapted, merged.official, how.names)
    config.inference_mode = True
    save_file({key: weight.contiguous() for key, weight in weights.items()}, folder / WEIGHTS, {"format": "pt"})
    config.save_pretrained(str(folder))
    publish_config(folder, source.hub)
    write_atomically(folder / ITS_BASE, base_record(merged.adapted, merged.fingerprint))
    return {"names": how.names}


def _write_gguf(source: Source, folder: Path, how: How, name: str) -> dict[str, Any]:
    config = read_options(source.base)
    gguf_files.architecture(config)
    family = family_of(config)
    known = family is not None and family.one_to_one  # otherwise llama.cpp reads its own file
    if source.adapter and not known:
        raise ModelError(
            f"{source.base} belongs to a family whose adapters a GGUF file does not take. Use --format merged, and "
            "then --format gguf on the folder that it writes."
        )
    weights = _weights(source) if known else StoredWeights(source.base)
    if known and weights.config.attention_block:  # type: ignore[union-attr]
        raise ExportError(
            "llama.cpp's diffusion models look at all positions, but this one looks back only (attention_block = "
            f"{weights.config.attention_block}). Use --format merged."  # type: ignore[union-attr]
        )
    if known:
        config = weights.config.to_dict()  # type: ignore[union-attr]
    file = f"{name}-{how.precision.upper()}.gguf"
    tokenizer = load_tokenizer(source.base)
    try:
        gguf_files.write_gguf(weights, config, tokenizer, folder / file, how.precision, name)
    except OSError as error:  # on a full disk, the message of NumPy has two numbers but no reason
        raise error if error.errno else OSError(f"only a part of a weight was written: {error}") from error
    return {"precision": how.precision, "file": file}


FORMATS: dict[str, Callable[[Source, Path, How, str], dict[str, Any]]] = {
    "merged": _write_merged,
    "adapter": _write_adapter,
    "gguf": _write_gguf,
}
