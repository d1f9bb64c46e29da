"""Adaptation methods on a base: how each uses `peft`, and how it is saved and resumed.

The table of methods is `adapt.settings.METHODS`.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from torch import nn
from transformers import BitsAndBytesConfig

from topeng.adapt.foreign import ITS_BASE, base_record
from topeng.adapt.nara import NaraConfig, NoiseAware, attach_core
from topeng.adapt.settings import METHODS, LoraOptions
from topeng.errors import AdapterError
from topeng.models import hub_id, load_model
from topeng.system.files import write_atomically

WEIGHTS = "adapter_model.safetensors"
LARGE_SHARE, SMALL_BASE = 0.01, 100_000_000
"""An adapter with a larger share of the base's parameters is worth a warning, because adapters should be small. A base
with fewer parameters than this is exempt, because any adapter is a large share of it."""


def is_large(trainable: int, total: int) -> bool:
    """Whether the size of an adapter is worth a warning. `full` training has no adapter."""
    return total >= SMALL_BASE and LARGE_SHARE * total < trainable < total


def check_method(method: str, device: str) -> None:
    """Checks that a method is available, before anything is loaded.

    Args:
        device: kind of the device to train on, such as `cpu`.

    Raises:
        AdapterError: a 4-bit base without a CUDA device or without bitsandbytes.
    """
    if not METHODS[method].quantized:
        return
    if device != "cuda":
        raise AdapterError(
            f"{method} keeps the base in 4 bits, which needs a CUDA device, but the device is {device}. "
            "Remove it from adapter.methods."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise AdapterError(f"{method} needs bitsandbytes. Install it with pip install 'topeng[gpu]'.")


def load_base(path: str, method: str, dtype: str = "float32", device: Any = None, revision: str | None = None) -> Any:
    """Loads the base for a method: in its precision, in 4 bits (NF4, arXiv 2305.14314), or in fp32 if it is trained.

    AdamW's steps are small compared with a weight, and bf16 would round most of them away.

    Raises:
        ModelError: the checkpoint cannot be loaded.
    """
    if METHODS[method].full:
        dtype = "float32"
    quantization = None
    if METHODS[method].quantized:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return load_model(path, dtype, device, revision, quantization)


def add_adapter(model: Any, method: str, options: LoraOptions | None, seed: int) -> Any:
    """Puts a new trainable adapter on a freshly loaded base, which it may change (PiSSA, OLoRA).

    For the method `full`, which has no options, the whole base becomes trainable.

    Raises:
        AdapterError: `target_modules` matches nothing or the vocabulary head, or the rank is too high for a start that
            is computed from the weights.
    """
    if METHODS[method].full or options is None:
        return model.requires_grad_(True)
    if METHODS[method].changes_base:
        names = target_names(model, options.target_modules)
        highest = min(min(model.get_submodule(name).weight.shape) for name in names)
        if options.rank > highest:
            raise AdapterError(
                f"adapter.rank = {options.rank} must be at most {highest} for {method}, the shorter side of the "
                "smallest adapted layer"
            )
    return _add(model, method, options, seed, METHODS[method].lora)


def _add(model: Any, method: str, options: LoraOptions, seed: int, lora: Mapping[str, Any]) -> Any:
    config = (NaraConfig if METHODS[method].noise_aware else peft.LoraConfig)(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=target_names(model, options.target_modules),
        **lora,
    )
    gpus = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):  # peft uses the global generators, and a decomposition that of its GPU
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(model, config)
        attach_core(adapted, "default")
    return adapted


def _add_shape(model: Any, method: str, options: LoraOptions, seed: int) -> Any:
    """The adapter of a method, without a start that is computed from the weights."""
    return _add(model, method, options, seed, {} if METHODS[method].changes_base else METHODS[method].lora)


def restore_adapter(model: Any, method: str, options: LoraOptions | None, seed: int, initial: Path) -> Any:
    """Restores the adapter before its first step on a freshly loaded base, from the saved `initial` weights.

    Repeating the start of PiSSA may not give the same bits, so the residual is rebuilt from the initial A and B.
    """
    if METHODS[method].full or options is None:  # it starts from the base, and a checkpoint has all weights
        return add_adapter(model, method, options, seed)
    adapted = _add_shape(model, method, options, seed)
    peft.set_peft_model_state_dict(adapted, load_file(initial / WEIGHTS))
    if METHODS[method].changes_base:
        adapted.peft_config["default"].init_lora_weights = METHODS[method].lora["init_lora_weights"]
        with torch.no_grad():
            for layer in adapter_layers(adapted):
                layer.get_base_layer().weight -= layer.get_delta_weight("default")
    return adapted


def count_parameters(model: Any, method: str, options: LoraOptions | None) -> tuple[int, int]:
    """Trainable parameters of a method, and those of the base, which may be on the meta device. It is modified."""
    if METHODS[method].full or options is None:
        return model.num_parameters(), model.num_parameters()
    return trainable_share(_add_shape(model, method, options, seed=0))


def save_adapter(adapted: Any, method: str, path: Path, initial: Path, base: str | None = None) -> None:
    """Writes an adapter for the plain base. PiSSA and OLoRA become an equivalent LoRA of twice the rank.

    For the method `full` it is a checkpoint in the family's official layout.

    Args:
        base: the base. Its model id is written to the folder, but not a local path, which is useless elsewhere.
    """
    if METHODS[method].full:
        adapted.save_pretrained(str(path))
        return
    convert = {"path_initial_model_for_weight_conversion": str(initial)} if METHODS[method].changes_base else {}
    adapted.save_pretrained(str(path), **convert)
    (path / "README.md").unlink(missing_ok=True)  # peft's empty card, which contains folder names of this machine
    publish_config(path, base)
    write_atomically(path / ITS_BASE, base_record(adapted))


def publish_config(path: Path, base: str | None) -> None:
    """Makes peft's `adapter_config.json` the same in every run, with a model id as the base or none."""
    file = path / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(config["target_modules"], str):
        config["target_modules"] = sorted(config["target_modules"])  # a set, whose order differs from run to run
    config["base_model_name_or_path"] = hub_id(base)
    write_atomically(file, json.dumps(config, indent=2, sort_keys=True))


def create_optimizer(
    adapted: Any, method: str, options: LoraOptions | None, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters, with named groups if A and B have different rates."""
    if options is None or not METHODS[method].rate_of_b:
        trainable = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=weight_decay)
    optimizer = create_loraplus_optimizer(
        adapted,
        torch.optim.AdamW,
        lr=learning_rate,
        loraplus_lr_ratio=options.loraplus_lr_ratio,
        loraplus_weight_decay=weight_decay,
    )
    optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
    of_a = {id(parameter) for name, parameter in adapted.named_parameters() if "lora_A" in name}
    for group in optimizer.param_groups:
        group["name"] = "A" if id(group["params"][0]) in of_a else "B"
    return optimizer


def group_rates(optimizer: torch.optim.Optimizer, learning_rate: float) -> dict[str, float]:
    """The learning rates of named groups by their names in the log, from that of the first group."""
    groups = [group for group in optimizer.param_groups if "name" in group]
    return {
        f"learning_rate_{group['name']}": learning_rate * (group["initial_lr"] / groups[0]["initial_lr"])
        for group in groups
    }


def target_names(model: Any, target_modules: str | list[str]) -> list[str]:
    """Full names of the linear layers to adapt.

    Args:
        target_modules: `all-linear` (all but the vocabulary head), a regular expression for full names, or a list of
            endings of full names.

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
            f"adapter.target_modules = {target_modules!r} matches no linear layer. Their names end in "
            f"{', '.join(endings)}; `all-linear` adapts them all."
        )
    if any(linear[name] is head for name in chosen):
        raise AdapterError(
            f"adapter.target_modules = {target_modules!r} matches the vocabulary head, whose update would be as large "
            "as the vocabulary. Leave it out, or use `all-linear`."
        )
    return chosen


def _pattern(target_modules: str | list[str]) -> peft.LoraConfig:
    return peft.LoraConfig(target_modules=target_modules)


@contextmanager
def autocast_inputs(adapted: Any, active: bool) -> Iterator[None]:
    """Leaves the casting of inputs to autocast in LoRA and NaRA.

    peft first casts the inputs of an adapter to the fp32 of A, and autocast casts them back. The numbers are the same,
    but each adapted layer makes one copy in fp32 and one in bf16, which is kept for the backward pass. DoRA computes
    the norm of the weights in the type of its inputs, and is not changed.
    """
    layers = [
        layer
        for layer in adapter_layers(adapted)
        if active and all(isinstance(variant, NoiseAware) for variant in layer.lora_variant.values())
    ]
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True


def adapter_layers(adapted: Any) -> list[Any]:
    """The layers that have an update."""
    return [module for module in adapted.modules() if isinstance(module, peft.tuners.lora.LoraLayer)]


@torch.no_grad()
def probe_logits(model: Any, input_ids: list[int]) -> torch.Tensor:
    """Logits [1, T, V] of one row in fp32, which an adapter must not change before its first step.

    In fp32, PiSSA only changes them by rounding (1e-5 of the largest). In bf16 it changes them by 0.6 % (kecil-en),
    because its residual is rounded again.
    """
    return model(input_ids=torch.tensor([input_ids], device=next(model.parameters()).device)).logits.float()


def trainable_share(adapted: Any) -> tuple[int, int]:
    """Numbers of trainable parameters and of those of the base."""
    if isinstance(adapted, peft.PeftModel):
        trainable, total = adapted.get_nb_trainable_parameters()  # counts both 4-bit weights of a byte
        return trainable, total - trainable
    return adapted.num_parameters(only_trainable=True), adapted.num_parameters()
