"""Options and weights of an adapter for plain peft, with our names or those of the official code."""

import copy
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import peft
from peft import get_peft_model_state_dict
from torch import Tensor

from topeng.adapt.foreign import PREFIX
from topeng.adapt.nara import CORES, NaraConfig
from topeng.errors import ExportError

NAMES = ("native", "official")
LAYER = re.compile(r"\.(\d+)\.")


def named(adapted: Any, official: Mapping[str, str], names: str) -> tuple[Any, dict[str, Tensor]]:
    """The options and weights of an adapter on its base.

    Args:
        official: the official names of the base's weights, by our names.
        names: `native`, or `official` for use with the remote code.

    Raises:
        ExportError: this kind of adapter does not support official names.
    """
    config = copy.deepcopy(adapted.peft_config["default"])
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    lora, nara = config.peft_type == peft.PeftType.LORA, isinstance(config, NaraConfig)
    if names == "official" and (not lora or nara or config.trainable_token_indices):
        what = "trainable_token_indices" if lora and not nara else f"the kind {config.to_dict()['peft_type']}"
        raise ExportError(f"the adapter has {what}, which can only be written under native names. Leave --names out.")
    if not lora:
        return config, weights
    modules = {name.removesuffix(".weight"): theirs.removesuffix(".weight") for name, theirs in official.items()}
    new = modules if names == "official" else {name: name for name in modules}
    layers = {
        name: module
        for name, module in adapted.get_base_model().named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }
    config.target_modules = targets({new[name] for name in layers}, new.values())
    config.rank_pattern = _apart({new[name]: layer.r["default"] for name, layer in layers.items()}, config.r)
    alphas = {new[name]: layer.lora_alpha["default"] for name, layer in layers.items()}
    config.alpha_pattern = _apart(alphas, config.lora_alpha)
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    if config.modules_to_save:
        saved = {_module(name) for name in weights if ".lora_" not in name}
        config.modules_to_save = sorted(new[module] for module in saved)
    return config, {name if CORES in name else _renamed(name, new): weight for name, weight in weights.items()}


def targets(wanted: Collection[str], every: Collection[str]) -> list[str] | str:
    """Modules as `target_modules` of peft: their last names if these are unambiguous, or a short expression."""
    last = sorted({name.rpartition(".")[2] for name in wanted})
    if {name for name in every if name.rpartition(".")[2] in last} == set(wanted):
        return last
    return expression(wanted, every)


def expression(wanted: Collection[str], every: Collection[str]) -> str:
    """A short expression: modules that occur in the same layers are combined, and `\\d+` stands for all layers."""
    layers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in every:
        if found := LAYER.search(name):
            layers[name[: found.start()], name[found.end() :]].add(found[1])
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for stem, tail in sorted(layers):
        has = sorted((n for n in layers[stem, tail] if f"{stem}.{n}.{tail}" in wanted), key=int)
        if has:
            numbers = r"\d+" if len(has) == len(layers[stem, tail]) else _either(has)
            alike[stem, numbers].append(tail)
    parts = [rf"{re.escape(stem)}\.{numbers}\.{_either(tails)}" for (stem, numbers), tails in alike.items()]
    return _either([*parts, *sorted(re.escape(name) for name in wanted if not LAYER.search(name))], escaped=True)


def _either(words: list[str], escaped: bool = False) -> str:
    words = words if escaped else [re.escape(word) for word in words]
    return words[0] if len(words) == 1 else f"({'|'.join(words)})"


def _apart(values: Mapping[str, Any], usual: Any) -> dict[str, Any]:
    """Modules with an unusual value, as patterns of peft."""
    others = sorted({value for value in values.values() if value != usual})
    named = {other: [name for name in values if values[name] == other] for other in others}
    # Without ^ peft would match the expression at the end of other names.
    return {f"^{expression(names, values)}$": other for other, names in named.items()}


def _module(weight: str) -> str:
    """The module that a weight of an adapter belongs to."""
    name = weight.removeprefix(PREFIX)
    return name.partition(".lora_")[0] if ".lora_" in name else name.rpartition(".")[0]


def _renamed(weight: str, new: Mapping[str, str]) -> str:
    module = _module(weight)
    return PREFIX + new[module] + weight.removeprefix(PREFIX + module)
