"""Loads one or several saved adapters onto their base for inference."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from safetensors import SafetensorError
from safetensors.torch import load_file

from topeng.adapt.foreign import Layer, adapter_attention, check_base, remove_adapter, to_plain
from topeng.adapt.methods import WEIGHTS
from topeng.adapt.nara import attach_core, config_of, read_options
from topeng.errors import AdapterError, in_one_line
from topeng.models.attention import attend, attention_of


def load_adapter(model: Any, path: str | Path, layer: Layer | None = None) -> Any:
    """Puts a saved adapter on its base for inference. It may come from Topeng, or from peft, also with official code.

    The weights of the base do not change, and `remove_adapter` restores the base.

    Args:
        layer: reads a module with its weights, if the base has no weights.

    Raises:
        AdapterError: the folder contains no adapter, or one that was trained on another base or on a base that cannot
            be rebuilt. The base is unchanged.
    """
    return load_adapters(model, {"default": Path(path)}, layer)


def load_adapters(model: Any, folders: Mapping[str, Path], layer: Layer | None = None) -> Any:
    """Loads several adapters like `load_adapter`, by their names in peft. The first one is active."""
    looks = _common_attention(model, folders)
    read = {}
    for name, path in folders.items():  # checked on the plain base, before an adapter is added
        if not path.is_dir():
            raise AdapterError(f"there is no adapter folder {path}")
        for file in ("adapter_config.json", WEIGHTS):
            if not (path / file).is_file():
                hint = f". The adapters of this run are in {path / 'adapters'}." if (path / "adapters").is_dir() else ""
                raise AdapterError(f"{path} is not an adapter folder: it has no {file}{hint}")
        check_base(model, path)
        options = read_options(path)
        with _explained(model, path):
            config = config_of(path, options)
            read[name] = to_plain(model, config, _weights(path / WEIGHTS), layer)
    adapted = model
    for name, (config, weights) in read.items():
        with _explained(model, folders[name]):
            adapted = _put(adapted, name, config, weights)
    if looks:
        adapted.get_base_model().looked_before = attention_of(adapted.config)  # for `remove_adapter`
        attend(adapted, **looks)
    return adapted.eval()


def _common_attention(model: Any, folders: Mapping[str, Path]) -> dict[str, Any] | None:
    """The attention of the adapters, as arguments of `attend`, or None if it is that of their base.

    Raises:
        AdapterError: their attention differs, so that they cannot share a base.
    """
    own = attention_of(model.config)
    found = {name: adapter_attention(path) or own for name, path in folders.items()}
    if len({str(looks) for looks in found.values()}) > 1:
        raise AdapterError(
            f"the adapters {', '.join(found)} were trained with other objectives, so they do not attend to the same "
            "positions. Load one of them at a time."
        )
    looks = next(iter(found.values()))
    return None if looks == own else looks


@contextmanager
def _explained(model: Any, path: Path) -> Iterator[None]:
    """Adds the folder of the adapter to errors of loading, and restores the base."""
    try:
        yield
    except AdapterError as error:
        raise AdapterError(f"{path}: {error}") from error
    except Exception as error:  # a bad folder may fail anywhere in peft
        remove_adapter(model)
        raise AdapterError(
            f"the adapter in {path} does not fit this base ({in_one_line(error)}). Use the base that it was trained "
            "on, or copy the adapter again."
        ) from error


def _weights(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"its weights cannot be read ({in_one_line(error)}). Copy the adapter again.") from error


def _put(model: Any, name: str, config: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Loads an adapter onto a base, alone or with others.

    Raises:
        ValueError: weights are missing or left over.
    """
    config.inference_mode = True
    if isinstance(model, peft.PeftModel):
        model.add_adapter(name, config)
    else:
        model = peft.PeftModel(model, config, adapter_name=name)
    attach_core(model, name)
    found = peft.set_peft_model_state_dict(model, weights, adapter_name=name)
    if left := found.unexpected_keys:
        raise ValueError(f"the base has no place for {len(left)} of its weights, the first is {left[0]}")
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    if missing := [key for key in found.missing_keys if prefix in key and f".{name}." in f"{key}."]:
        raise ValueError(f"{len(missing)} of its weights are missing, the first is {missing[0]}")
    return model
