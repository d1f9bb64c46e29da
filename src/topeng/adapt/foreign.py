"""Adapters that others have trained: in the official code's names, or on a base that their start had changed.

What comes out is a plain adapter for the plain base in our names: nothing of the base is changed to load it.
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
"""Starts that take from the base what they give to the adapter, and that the base's weights alone decide."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

Weights = dict[str, Tensor]
Layer = Callable[[str], Any]
"""A copy of a module of the base, by its name."""


def to_plain(model: Any, config: Any, weights: Weights, layer: Layer | None = None) -> tuple[Any, Weights]:
    """An adapter, as it was read, as one that peft puts on the plain base.

    Args:
        model: the base, which stays as it is.
        config: `adapter_config.json`; of another kind than LoRA it is returned as it is.
        weights: `adapter_model.safetensors`.
        layer: where the model has its shape alone, what reads a module with its weights.

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
    """The modules that a LoRA's weights are of, and the rank of each."""
    parts = {name: name.removeprefix(PREFIX).partition(".lora_") for name in weights}
    return {parts[name][0]: len(w) for name, w in weights.items() if parts[name][2].startswith(("A.", "embedding_A"))}


def _alpha(config: Any, module: str) -> float:
    return config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)


def _renamed(model: Any, config: Any, weights: Weights) -> tuple[Any, Weights]:
    """In our names. Which modules and of what rank, the weights say: patterns of the official names need no reading."""
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
    """Without the embeddings as they are in the base, which peft saves beside an adapter of one of them."""
    saved = tuple(config.modules_to_save or ())
    kept = {}
    for name, weight in weights.items():
        module = name.removeprefix(PREFIX).removesuffix(".weight").removesuffix(".base_layer")
        if ".lora_" in name or not name.endswith(".weight") or module.endswith(saved):
            kept[name] = weight
        elif not torch.equal(layer(module).weight.bfloat16().cpu(), weight.bfloat16()):  # what was read is on the CPU
            raise AdapterError(
                f"the adapter contains a {module} that differs from the base's. Use the base that it was trained on."
            )
    return kept


def _exactly(module: str) -> str:
    """A pattern of peft's for one module alone: it lets others end in a name."""
    return f"^{re.escape(module)}$"


@torch.no_grad()
def _difference(layer: Layer, config: Any, weights: Weights, start: str) -> tuple[Any, Weights]:
    """s (B A - B0 A0) as a LoRA of twice the rank, A0 and B0 the start that peft computes from each weight."""
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
    """What `base.json` says beside an adapter's weights: of which base it is, and how it looks where not full.

    Args:
        known: the fingerprint of the base; that of the model without it.
    """
    looks = attention_of(model.config)
    return json.dumps({"fingerprint": known or fingerprint(model)} | (looks if looks["attention_block"] else {}))


def adapter_attention(path: Path) -> dict[str, Any] | None:
    """How the model of an adapter's folder looks, as arguments of `attend`; None: as its base does.

    Raises:
        AdapterError: what the folder says of it is damaged.
    """
    record = _record(path)
    return {name: record[name] for name in ATTENTION} if record.get("attention_block") else None


def _record(path: Path) -> dict[str, Any]:
    """What an adapter's folder says of its base: nothing, where peft alone wrote it."""
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
    """Fails where a folder says that its adapter was trained on another base.

    Another base of the same shape takes an adapter without a word; peft's own folders do not say which it was.

    Raises:
        AdapterError: it was, or what the folder says of its base is damaged.
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
    """The base under an adapter, as it was before: peft's `unload` keeps what `modules_to_save` trained."""
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
