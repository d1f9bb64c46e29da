"""Adaptation methods: names, checks, and what each needs of `peft`.

lora    W + (alpha / r) B A, B = 0 at first (arXiv 2106.09685)
lora+   the same, B learning faster than A by a ratio (arXiv 2402.12354)
pissa   B A from W's r largest singular triplets, the residual frozen (arXiv 2404.02948)
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from torch import nn

from topeng.errors import AdapterError
from topeng.recipe import AdapterOptions
from topeng.run import write_atomically

LARGE_SHARE = 0.01
"""Trainable parameters above this share of the base are worth a warning: the point was to train few."""


@dataclass(frozen=True)
class Method:
    """Attributes:
    init_lora_weights: peft's name of the initialisation.
    changes_base: the initialisation takes from the base what it gives to the adapter.
    """

    init_lora_weights: bool | str = True
    changes_base: bool = False


METHODS = {
    "lora": Method(),
    "lora+": Method(),
    "pissa": Method(init_lora_weights="pissa_niter_16", changes_base=True),
}


def add_adapter(model: Any, method: str, options: AdapterOptions, seed: int) -> Any:
    """Puts a fresh, trainable adapter on a freshly loaded base, which it may change (PiSSA).

    Raises:
        AdapterError: `target_modules` matches nothing, or catches the vocabulary head.
    """
    targets = target_names(model, options.target_modules)
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets,
        init_lora_weights=METHODS[method].init_lora_weights,
    )
    with torch.random.fork_rng():  # peft draws from the global generator
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def restore_adapter(model: Any, method: str, options: AdapterOptions, seed: int, initial: Path) -> Any:
    """The adapter as it was before its first step, on a freshly loaded base, from the `initial` that was saved then.

    A PiSSA drawn anew need not be the same to the last bit: the residual is rebuilt from the initial A and B.
    """
    plain = "lora" if METHODS[method].changes_base else method
    adapted = add_adapter(model, plain, options, seed)
    peft.set_peft_model_state_dict(adapted, load_file(initial / "adapter_model.safetensors"))
    if METHODS[method].changes_base:
        adapted.peft_config["default"].init_lora_weights = METHODS[method].init_lora_weights
        with torch.no_grad():
            for layer in adapter_layers(adapted):
                layer.get_base_layer().weight -= layer.get_delta_weight("default")
    return adapted


def save_adapter(adapted: Any, method: str, path: Path, initial: Path, base: str | None = None) -> None:
    """Writes an adapter that works on the plain base: PiSSA's as its equal, a LoRA of twice the rank.

    Args:
        base: the model id or path that is written down; the same weights give the same files.
    """
    convert = {"path_initial_model_for_weight_conversion": str(initial)} if METHODS[method].changes_base else {}
    adapted.save_pretrained(str(path), **convert)
    (path / "README.md").unlink(missing_ok=True)  # peft's empty card, which names this machine's folders
    file = path / "adapter_config.json"
    config = json.loads(file.read_text())
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order differs from run to run
    config["base_model_name_or_path"] = base
    write_atomically(file, json.dumps(config, indent=2, sort_keys=True))


def load_adapter(model: Any, path: str | Path) -> Any:
    """A saved adapter on its base, for inference.

    Raises:
        AdapterError: the folder holds none, or one that was made for a base of another shape.
    """
    if not (Path(path) / "adapter_config.json").is_file():
        raise AdapterError(f"{path} holds no adapter: it has no adapter_config.json")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return peft.PeftModel.from_pretrained(model, str(path)).eval()
    except (RuntimeError, ValueError, UserWarning, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise AdapterError(f"the adapter in {path} does not fit this base: {reason}") from error


def create_optimizer(
    adapted: Any, method: str, options: AdapterOptions, learning_rate: float, weight_decay: float
) -> Any:
    """AdamW over the trainable parameters, in the method's groups."""
    if method == "lora+":
        return create_loraplus_optimizer(
            adapted,
            torch.optim.AdamW,
            lr=learning_rate,
            loraplus_lr_ratio=options.loraplus_lr_ratio,
            loraplus_weight_decay=weight_decay,
        )
    trainable = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=weight_decay)


def target_names(model: Any, target_modules: str | list[str]) -> list[str]:
    """Full names of the linear layers to adapt.

    Args:
        target_modules: `all-linear` (all but the vocabulary head), a regular expression over full names, or
            names of which one ends a full name.

    Raises:
        AdapterError: nothing matches, or the vocabulary head does.
    """
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if target_modules == "all-linear":
        return [name for name, module in linear.items() if module is not head]
    chosen = [
        name for name in linear if peft.tuners.tuners_utils.check_target_module_exists(_pattern(target_modules), name)
    ]
    if not chosen:
        endings = sorted({name.rpartition(".")[2] for name, module in linear.items() if module is not head})
        raise AdapterError(
            f"adapter.target_modules = {target_modules!r} matches no linear layer; their names end in "
            f"{', '.join(endings)}; `all-linear` takes them all"
        )
    if any(linear[name] is head for name in chosen):
        raise AdapterError(
            f"adapter.target_modules = {target_modules!r} catches the vocabulary head, whose update would be as large "
            "as the vocabulary: leave it out, or say `all-linear`"
        )
    return chosen


def _pattern(target_modules: str | list[str]) -> peft.LoraConfig:
    return peft.LoraConfig(target_modules=target_modules)


def adapter_layers(adapted: Any) -> list[Any]:
    """The layers that carry an update."""
    return [module for module in adapted.modules() if isinstance(module, peft.tuners.lora.LoraLayer)]


@torch.no_grad()
def probe_logits(model: Any, input_ids: list[int]) -> torch.Tensor:
    """Logits [1, T, V] of one row, in fp32: what an adapter must not move before its first step.

    In fp32 a PiSSA moves them by rounding alone (1e-5); in bf16 by some 0.01, its residual being rounded again.
    """
    return model(input_ids=torch.tensor([input_ids], device=next(model.parameters()).device)).logits.float()


def trainable_share(adapted: Any) -> tuple[int, int]:
    """Trainable parameters, and those of the base."""
    trainable = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    return trainable, sum(parameter.numel() for parameter in adapted.parameters()) - trainable
