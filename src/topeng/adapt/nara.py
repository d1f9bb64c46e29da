"""NaRA (arXiv 2605.29716): a LoRA whose update depends on the share of masks, W + s B C(t) A.

C(t) = I + eta F(e(t)), with one small network F for all layers. Its last layer is zero at first, so the start is that
of LoRA. The shape of F, eta, the Fourier features e(t), and a common C for all layers come from the paper and its
released code. Here, each row has its own t, while the released code has one per batch, and s is alpha / r as in LoRA.

t is the share of masks in the answer of a row, without the prompt. In training and scoring it is that of the response,
and in decoding that of the visible part of the canvas. Callers pass it as `noise_level`. If they do not, the row counts
as a text without a prompt.

peft runs it as a variant of its LoRA, and saves the network by the name of the adapter with what all layers share.
Shapes: B rows, T positions, D inputs of a layer, r rank, E features.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import Tensor, nn
from torch.nn import functional

from topeng.errors import AdapterError
from topeng.system.files import read_object

CORES = "lora_core"
"""Attribute of peft's `LoraModel` for the networks. peft saves and loads such containers by adapter name."""
KIND = "NARA"
"""`peft_type` in adapter_config.json. Otherwise plain peft would load the folder as a LoRA without the network."""


@dataclass
class NaraConfig(peft.LoraConfig):
    """Options of LoRA and of the network, with the defaults of the released code.

    Attributes:
        core_scale: eta.
        core_features: E, sines and cosines of t, half of each.
        core_frequency: standard deviation of their angular frequencies, which are drawn once and saved.
        core_hidden: widths of the two hidden layers.
    """

    core_scale: float = 0.1
    core_features: int = 64
    core_frequency: float = 16.0
    core_hidden: tuple[int, int] = (256, 512)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"peft_type": KIND}


def is_nara(folder: Path) -> bool:
    """Whether the folder of an adapter contains a NaRA.

    Raises:
        AdapterError: its adapter_config.json cannot be read.
    """
    return read_options(folder).get("peft_type") == KIND


def config_of(folder: Path, options: dict[str, Any]) -> Any:
    """The peft config of an adapter of any kind.

    Args:
        options: options that `read_options` found in the folder.
    """
    if options.get("peft_type") != KIND:
        return peft.PeftConfig.from_pretrained(str(folder))
    known = {field.name for field in dataclasses.fields(NaraConfig)} - {"peft_type", "runtime_config"}
    return NaraConfig(**{name: value for name, value in options.items() if name in known})


def read_options(folder: Path) -> dict[str, Any]:
    """The content of an adapter's `adapter_config.json`.

    Raises:
        AdapterError: it cannot be read.
    """
    return read_object(folder / "adapter_config.json", AdapterError, "adapter")


class Core(nn.Module):
    """The network F, which maps the share of masks of each row to eta F(e(t)), [B, r, r].

    Its weights are not in submodules, because peft expects the name of an adapter before the last part of a key.
    """

    frequencies: Tensor

    def __init__(self, config: NaraConfig) -> None:
        super().__init__()
        self.rank, self.scale = config.r, config.core_scale
        self.register_buffer("frequencies", torch.randn(config.core_features // 2) * config.core_frequency)
        narrow, wide = config.core_hidden
        self.weight_1, self.bias_1 = _linear(config.core_features, narrow)
        self.weight_2, self.bias_2 = _linear(narrow, wide)
        self.weight_3, self.bias_3 = _linear(wide, config.r**2)
        nn.init.zeros_(self.weight_3)
        self.difference: Tensor | None = None  # C - I of the current pass, [B, r, r]
        self.hook: Any = None

    def forward(self, noise_level: Tensor) -> Tensor:
        device = self.frequencies.device
        angles = noise_level.to(device, torch.float32)[:, None] * self.frequencies.float()
        inner = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.weight_1.dtype)  # [B, E]
        with torch.autocast(device.type, enabled=False):  # it is small, and every layer depends on it
            inner = functional.silu(functional.linear(inner, self.weight_1, self.bias_1))
            inner = functional.silu(functional.linear(inner, self.weight_2, self.bias_2))
            inner = functional.linear(inner, self.weight_3, self.bias_3)
            return self.scale * inner.view(-1, self.rank, self.rank)

    def before_pass(self, base: Any, args: tuple, given: dict[str, Any]) -> None:
        """A hook that computes C for the layers of this pass, and for those that its backward pass recomputes."""
        noise_level = given.get("noise_level")
        if noise_level is None:
            noise_level = _masked_share(base.config.mask_token_id, args, given)
        self.difference = self(noise_level)


def _linear(inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    weight = nn.Parameter(torch.empty(outputs, inputs))
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return weight, nn.Parameter(torch.zeros(outputs))


def _masked_share(mask_token_id: int, args: tuple, given: dict[str, Any]) -> Tensor:
    """The share of masks [B] among all visible tokens."""
    input_ids, attended = given.get("input_ids", args[0] if args else None), given.get("attention_mask")
    past = given.get("past_key_values")
    if input_ids is None or (past is not None and past.get_seq_length()):
        raise AdapterError(
            "this adapter's update depends on the share of masks, which this pass does not show: it has no input_ids, "
            "or a part of them alone. Give it as noise_level, one number from 0 to 1 for each row."
        )
    looked_at = torch.ones_like(input_ids) if attended is None or attended.dim() != 2 else attended
    looked_at = looked_at.bool()
    return ((input_ids == mask_token_id) & looked_at).sum(dim=1) / looked_at.sum(dim=1).clamp(min=1)


class NoiseAware(LoraVariant):
    """The interface of peft for a layer with NaRA."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def forward(self, module: Any, *, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Adds the update for x [B, T, D] to the result of the layer without an adapter."""
        assert self.core.difference is not None, "the layer has been called without its model"
        inner = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))  # [B, T, r]
        # the identity is added separately, because C in bf16 would round small values next to 1 away
        inner = torch.baddbmm(inner, inner, self.core.difference.mT.to(inner.dtype))
        return result + module.lora_B[active_adapter](inner) * module.scaling[active_adapter]

    def supports_lora_conversion(self) -> bool:
        return False

    def merge_safe(self, module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        raise AdapterError(NOT_ADDED)

    merge_unsafe = unmerge = merge_safe


NOT_ADDED = (
    "a NaRA has another update for each share of masks, so that no single one can be added to the base's weights. "
    "Keep it as an adapter (--adapter, --format adapter), or train a method such as lora"
)


def attach_core(adapted: Any, name: str) -> None:
    """Turns an adapter that peft has put on a base into a NaRA, if its options say so."""
    config = adapted.peft_config[name]
    if not isinstance(config, NaraConfig):
        return
    base, shared = adapted.get_base_model(), adapted.base_model
    core = Core(config).to(base.device).requires_grad_(not config.inference_mode)
    if not hasattr(shared, CORES):
        shared.add_module(CORES, nn.ModuleDict())
    getattr(shared, CORES)[name] = core
    core.hook = base.register_forward_pre_hook(core.before_pass, with_kwargs=True)
    for layer in base.modules():
        if isinstance(layer, LoraLayer) and name in layer.lora_A:
            layer.lora_variant[name] = NoiseAware(core)


def detach_core(layer: Any) -> None:
    """Removes the hook of a NaRA from its base, if the removed layer belongs to one."""
    for variant in getattr(layer, "lora_variant", {}).values():
        if isinstance(variant, NoiseAware):
            variant.core.hook.remove()
