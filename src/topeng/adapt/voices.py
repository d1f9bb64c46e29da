"""Several named adapters on one base. Loading one changes neither the others nor the base."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from topeng import load
from topeng.adapt.loading import load_adapters
from topeng.adapt.methods import adapter_layers
from topeng.errors import AdapterError
from topeng.generate.row import BASE, Voice
from topeng.models import is_checkpoint
from topeng.models.attention import attention_of

BASE_NAME = "base"
"""Name of the base among voices."""


def named_folders(values: Sequence[str]) -> dict[str, Path]:
    """Adapter folders by name.

    Args:
        values: `NAME=FOLDER`, an adapter folder, which is named by its last part, or a run folder for all its methods.

    Raises:
        AdapterError: there is no such folder, or a name is given twice.
    """
    found: dict[str, Path] = {}
    for value in values:
        for name, folder in _folders(value).items():
            if name in found or name == BASE_NAME:
                raise AdapterError(f"two models would be named {name!r}. Give one of them another name, NAME={folder}.")
            found[name] = folder
    return found


def _folders(value: str) -> dict[str, Path]:
    name, equals, path = value.partition("=")
    folder = Path(path if equals else value)
    if not folder.is_dir():
        raise AdapterError(f"there is no adapter folder {folder}. Write NAME=FOLDER, or name a run folder.")
    if equals:
        return {name: folder}
    if not (folder / "adapters").is_dir():
        return {folder.resolve().name: folder}
    kinds = sorted(one for one in (folder / "adapters").iterdir() if (one / "adapter_config.json").is_file())
    whole = sorted(one for one in (folder / "adapters").iterdir() if is_checkpoint(one))
    if not kinds + whole:
        raise AdapterError(f"{folder}/adapters contains no adapter. Train one first with `topeng train`.")
    return {one.name: one for one in kinds + whole}


def load_voices(base: Any, folders: Mapping[str, Path]) -> dict[str, Voice]:
    """The base and its adapters by name. A whole model (of method `full`) is loaded next to the base, in its precision.

    Raises:
        ModelError, AdapterError: one cannot be loaded, or does not fit the base.
    """
    dtype, device = base.dtype, base.device
    whole = {
        name: Voice(load(folder, dtype=dtype, device=device)[0])
        for name, folder in folders.items()
        if is_checkpoint(folder)
    }
    # names in peft may not contain dots
    inside = {name: f"adapter{place}" for place, name in enumerate(folders) if name not in whole}
    if not inside:
        return {BASE_NAME: Voice(base)} | whole
    looks = attention_of(base.config)
    adapted = load_adapters(base, {inside[name]: folders[name] for name in inside})
    if attention_of(adapted.config) != looks:
        raise AdapterError(
            f"{', '.join(inside)}: trained with another objective than the base, which therefore cannot answer beside "
            "it. Export it (`topeng export ADAPTER OUT`), and serve that."
        )
    mixing = {name: _mixes(adapted, own) for name, own in inside.items()}
    voices = {BASE_NAME: Voice(adapted, BASE, any(mixing.values()))}
    voices |= {name: Voice(adapted, own, mixing[name]) for name, own in inside.items()}
    return {name: (voices | whole)[name] for name in (BASE_NAME, *folders)}


def _mixes(adapted: Any, name: str) -> bool:
    """Whether peft can run an adapter with others in one batch: LoRA without variants such as DoRA, and without its own
    head, which sees masked positions instead of rows."""
    if isinstance(adapted.get_output_embeddings(), BaseTunerLayer | AuxiliaryTrainingWrapper):
        return False
    if adapted.peft_config[name].peft_type != peft.PeftType.LORA:
        return False
    return not any(name in layer.lora_variant for layer in adapter_layers(adapted))
