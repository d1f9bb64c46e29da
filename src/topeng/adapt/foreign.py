"""Converts adapters that were trained elsewhere, with official names or on a base that their start had changed.

The result is a plain adapter for the plain base with our names, so the base need not be changed to load it.
"""

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from torch import Tensor

from topeng.adapt.nara import detach_core
from topeng.errors import AdapterError
from topeng.models import fingerprint, is_base, native_name
from topeng.models.attention import ATTENTION, attend, attention_of

ITS_BASE = "base.json"
PREFIX = "base_model.model."
REBUILT = ("pissa", "olora")
"""Initialisations that move a part of the base into the adapter, and only depend on the weights of the base."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

Weights = dict[str, Tensor]
Layer = Callable[[str], Any]
"""Returns a copy of a module of the base, by its name."""


def to_plain(model: Any, config: Any, weights: Weights, layer: Layer | None = None) -> tuple[Any, Weights]:
    """Converts an adapter to one that peft can put on the plain base.

    Args:
        model: the base, which is not changed.
        config: content of `adapter_config.json`. Kinds other than LoRA are returned unchanged.
        weights: content of `adapter_model.safetensors`.
        layer: reads a module with its weights, if the model has no weights.

    Raises:
        AdapterError: the base that it was trained on cannot be rebuilt from the plain one.
    """
    if config.is_prompt_learning:
        raise AdapterError(
            f"the adapter is of the kind {config.peft_type.value}, which puts its own tokens before a prompt. Use an "
            "adapter of the layers, such as LoRA."
        )
    if config.peft_type != peft.PeftType.LORA:
        return config, weights
    _check_start(config)
    config = copy.deepcopy(config)
    if any(native_name(model, name.removeprefix(PREFIX)) != name.removeprefix(PREFIX) for name in weights):
        config, weights = _renamed(model, config, weights)
    start, config.init_lora_weights = config.init_lora_weights, True
    layer = layer or (lambda module: copy.deepcopy(model.get_submodule(module)))
    weights = _without_base(layer, config, weights)
    return _difference(layer, config, weights, start) if start in REBUILT else (config, weights)


def _check_start(config: Any) -> None:
    start = str(config.init_lora_weights).lower()
    if start.startswith(CHANGES_BASE) and start not in REBUILT:
        raise AdapterError(
            f"the adapter has init_lora_weights = {config.init_lora_weights!r}, which changed its base when it was "
            "initialised, and that base cannot be rebuilt. Where it was trained, save it as a plain LoRA: "
            "save_pretrained(…, path_initial_model_for_weight_conversion=FOLDER), where FOLDER holds the adapter "
            "before its first step."
        )
    for name in ("kasa_config", "layer_replication"):
        if getattr(config, name, None):
            raise AdapterError(f"the adapter has {name}, which changes the base itself. Merge it where it was trained.")


def _layers(weights: Weights) -> dict[str, int]:
    """The modules with LoRA weights, and their ranks."""
    parts = {name: name.removeprefix(PREFIX).partition(".lora_") for name in weights}
    return {parts[name][0]: len(w) for name, w in weights.items() if parts[name][2].startswith(("A.", "embedding_A"))}


def _alpha(config: Any, module: str) -> float:
    return config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)


def _renamed(model: Any, config: Any, weights: Weights) -> tuple[Any, Weights]:
    """The adapter with our names. Modules and ranks come from the weights; patterns of official names are ignored."""
    ranks = _layers(weights)
    native = {module: native_name(model, f"{module}.").removesuffix(".") for module in ranks}
    alphas = {module: _alpha(config, module) for module in ranks}
    config.target_modules = set(native.values())
    config.alpha_pattern = {_exactly(native[m]): alpha for m, alpha in alphas.items() if alpha != config.lora_alpha}
    config.rank_pattern = {_exactly(native[m]): rank for m, rank in ranks.items() if rank != config.r}
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    if config.modules_to_save:
        saved = {name.removeprefix(PREFIX).rpartition(".")[0] for name in weights if ".lora_" not in name}
        config.modules_to_save = sorted(native_name(model, f"{module}.").removesuffix(".") for module in saved)
    return config, {PREFIX + native_name(model, name.removeprefix(PREFIX)): w for name, w in weights.items()}


def _without_base(layer: Layer, config: Any, weights: Weights) -> Weights:
    """Removes unchanged embeddings, which peft saves with an adapter of one of them."""
    saved = tuple(config.modules_to_save or ())
    kept = {}
    for name, weight in weights.items():
        module = name.removeprefix(PREFIX).removesuffix(".weight").removesuffix(".base_layer")
        if ".lora_" in name or not name.endswith(".weight") or module.endswith(saved):
            kept[name] = weight
        elif not torch.equal(layer(module).weight.bfloat16().cpu(), weight.bfloat16()):  # loaded weights are on the CPU
            raise AdapterError(
                f"the adapter contains a {module} that differs from the base's. Use the base that it was trained on."
            )
    return kept


def _exactly(module: str) -> str:
    """A peft pattern that matches only one module, because peft also matches names by their endings."""
    return f"^{re.escape(module)}$"


@torch.no_grad()
def _difference(layer: Layer, config: Any, weights: Weights, start: str) -> tuple[Any, Weights]:
    """s (B A - B0 A0) as a LoRA of twice the rank, where peft computes the start A0 and B0 from each weight."""
    begun = copy.deepcopy(config)
    begun.init_lora_weights = start
    weights, growth = dict(weights), math.sqrt(2) if config.use_rslora else 2
    for module, rank in _layers(weights).items():
        first = Linear(layer(module), "default", begun, r=rank, lora_alpha=_alpha(config, module))
        a, b = (f"{PREFIX}{module}.lora_{side}.weight" for side in "AB")
        weights[a] = torch.cat([weights[a], first.lora_A["default"].weight.to(weights[a])])
        weights[b] = torch.cat([weights[b], -first.lora_B["default"].weight.to(weights[b])], dim=1) * growth
    config.r *= 2
    config.rank_pattern = {pattern: 2 * rank for pattern, rank in config.rank_pattern.items()}
    return config, weights


def base_record(model: Any, known: str | None = None) -> str:
    """The content of `base.json` for an adapter: which base it belongs to, and its attention if it is not full.

    Args:
        known: fingerprint of the base, by default that of the model.
    """
    looks = attention_of(model.config)
    return json.dumps({"fingerprint": known or fingerprint(model)} | (looks if looks["attention_block"] else {}))


def adapter_attention(path: Path) -> dict[str, Any] | None:
    """The attention of an adapter's model, as arguments of `attend`, or None if it is that of its base.

    Raises:
        AdapterError: its description in the folder is damaged.
    """
    record = _record(path)
    return {name: record[name] for name in ATTENTION} if record.get("attention_block") else None


def _record(path: Path) -> dict[str, Any]:
    """The description of the base in an adapter's folder, which is empty if peft wrote the folder."""
    file = path / ITS_BASE
    if not file.exists():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not {"fingerprint"} <= record.keys():
            raise ValueError("no fingerprint")
    except (ValueError, AttributeError) as error:
        raise AdapterError(f"{file} is not a file that Topeng wrote. Copy the adapter again.") from error
    return record


def check_base(model: Any, path: Path) -> None:
    """Checks whether an adapter was trained on another base, according to its folder.

    Another base of the same shape would accept the adapter silently. Folders that peft wrote do not identify the base.

    Raises:
        AdapterError: it was trained on another base, or the description of its base is damaged.
    """
    known = _record(path).get("fingerprint")
    try:
        same = known is None or is_base(model, known)
    except (ValueError, TypeError) as error:
        raise AdapterError(f"{path / ITS_BASE} is not a file that Topeng wrote. Copy the adapter again.") from error
    if not same:
        base = json.loads((path / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
        raise AdapterError(
            f"the adapter in {path} was trained on another base{f', {base}' if base else ''}, whose weights differ "
            "from this one's. Use the base that it was trained on."
        )


def remove_adapter(model: Any) -> Any:
    """Restores the base under an adapter. peft's `unload` would keep modules that `modules_to_save` has trained."""
    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    for module in list(base.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer):
                detach_core(child)
                setattr(module, name, child.get_base_layer())
            elif isinstance(child, AuxiliaryTrainingWrapper):
                setattr(module, name, child.original_module)
    if hasattr(base, "peft_config"):
        del base.peft_config
    if looked := base.__dict__.pop("looked_before", None):
        attend(base, **looked)
    return base
