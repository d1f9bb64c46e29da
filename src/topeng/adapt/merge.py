"""Adds an adapter to a checkpoint one weight at a time, so that the base is never completely in memory.

The network has shapes but no weights. peft puts the adapter on it, and computes the sum for the one weight in memory.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from topeng.adapt.loading import load_adapter
from topeng.errors import AdapterError, ModelError, in_one_line
from topeng.models import FAMILIES, fingerprint, load_config, native_name, official_names
from topeng.models.attention import attention_of
from topeng.models.layout import layout
from topeng.models.shards import StoredWeights


class BaseWeights:
    """The weights of a checkpoint of a known family, which are those that its config.json requires."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ModelError: the folder does not contain a complete checkpoint of a known family.
        """
        self.config = load_config(folder)
        self.stored = StoredWeights(folder)
        self.model = skeleton(self.config)
        self.official = official_names(self.model)
        self.layout = layout(self.model)
        embedding, head = (self.official[f"{name}.weight"] for name in end_names(self.model))
        tied = {head} if self.config.tie_word_embeddings else set()
        self._stored_as = {self._official(name): name for name in self.stored.shapes}
        wanted = self.layout.keys() - tied
        for kind, names in {
            "missing": wanted - self._stored_as.keys(),
            "left over": self._stored_as.keys() - self.layout.keys(),
            "of another shape": {n for n in wanted & self._stored_as.keys() if self._shape(n) != self.layout[n].shape},
        }.items():
            if names:
                first = min(native_name(self.model, name) for name in names)
                raise ModelError(
                    f"the weights of {folder} do not match its config.json: {len(names)} {kind}, the first is {first}. "
                    "Both must come from the same checkpoint."
                )
        self.shapes = {name: self._shape(name) for name in self._stored_as if name in wanted}
        if tied:
            self._stored_as[head] = self._stored_as[embedding]
        self._place_of = {part: name for name, stored in self.layout.items() for part in stored.parts}

    def read(self, name: str) -> Tensor:
        return self.stored.read(self._stored_as[self._official(name)])

    def native(self, name: str) -> Tensor:
        """A weight by our name. If several are stored as one, its rows of the stored weight."""
        whole = self._place_of[name]
        stored = self.layout[whole]
        return self.read(whole).split(stored.rows)[stored.parts.index(name)] if stored.rows else self.read(whole)

    def _official(self, name: str) -> str:
        """The official name of a weight, which may also be stored under our name."""
        return self.official.get(native_name(self.model, name), name)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.stored.shapes[self._stored_as[name]]


class MergedWeights:
    """The weights of a checkpoint with an adapter's updates added in fp32.

    A head that is tied to the embedding becomes a separate weight if the adapter only changes one of them.
    """

    def __init__(self, base: BaseWeights, adapter: Path) -> None:
        """
        Raises:
            AdapterError: the adapter belongs to another base, or cannot be added to it.
        """
        self._base = base
        self.config, self.official = copy.deepcopy(base.config), base.official
        self.adapted = self._adapted(adapter)
        for name, value in attention_of(self.adapted.config).items():
            setattr(self.config, name, value)
        self._changed = {
            name: module
            for name, module in self.adapted.get_base_model().named_modules()
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        }
        self._check()
        self.shapes = dict(base.shapes)
        ends = end_names(base.model)
        if self.config.tie_word_embeddings and any(name in self._changed for name in ends):
            embedding, head = (base.official[f"{name}.weight"] for name in ends)
            self.shapes[head] = self.shapes[embedding]
            self.config.tie_word_embeddings = False

    def read(self, name: str) -> Tensor:
        """One weight, in fp32 if the adapter changes it.

        Raises:
            AdapterError: the update of the adapter cannot be added.
        """
        parts = self._base.layout[name].parts
        changed = [self._changed_by(part) for part in parts]
        if not any(changed):
            return self._base.read(name)
        weights = [self._base.native(part).float() for part in parts]
        return torch.cat(
            [
                _merged(part, module, weight) if module else weight
                for part, module, weight in zip(parts, changed, weights, strict=True)
            ]
        )

    def in_parts(self) -> list[str]:
        """Official names of weights with several parts that the adapter updates."""
        changed = [name for name, stored in self._base.layout.items() if any(map(self._changed_by, stored.parts))]
        return [name for name in changed if self._base.layout[name].rows]

    def _changed_by(self, name: str) -> Any:
        """The adapter's module that changes a weight of the network, or None if it is unchanged."""
        module = self._changed.get(name.rpartition(".")[0])
        only_matrices = name.endswith(".bias") and isinstance(module, BaseTunerLayer)
        return None if only_matrices else module

    def _check(self) -> None:
        """
        Raises:
            AdapterError: the adapter changes something that is not a separate weight in the checkpoint.
        """
        experts = {name.rsplit(".", 3)[0] for name, stored in self._base.layout.items() if not stored.parts}
        if lost := self._changed.keys() & experts:
            raise AdapterError(
                f"the adapter changes {min(lost)}, of which a checkpoint has a weight for each expert, so that its "
                "update cannot be added to them. Load it as an adapter, or train one that leaves the experts alone."
            )

    def _adapted(self, adapter: Path) -> Any:
        model, embedding = self._base.model, self._base.model.get_input_embeddings()
        shape = embedding.weight
        embedding.weight = _parameter(self._base.native(f"{end_names(model)[0]}.weight"))  # identifies the base
        try:
            self.fingerprint = fingerprint(model)
            return load_adapter(model, adapter, self._layer)
        finally:
            embedding.weight = shape

    def _layer(self, module: str) -> nn.Module:
        layer = copy.copy(self._base.model.get_submodule(module))
        layer._parameters = {"weight": _parameter(self._base.native(f"{module}.weight"))}
        return layer


def skeleton(config: Any) -> Any:
    """A network whose weights have shapes but take no memory, while those of an adapter may be real.

    The weights are not on the meta device, because peft would move an adapter there too.
    """
    with torch.device("meta"):
        model = FAMILIES[config.model_type](config).eval()
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, _parameter(torch.zeros(()).expand(weight.shape)))
    return model


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def end_names(model: Any) -> tuple[str, str]:
    """The names of the embedding and of the head."""
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    first, last = (next(name for name, module in model.named_modules() if module is end) for end in ends)
    return first, last


@torch.no_grad()
def _merged(name: str, module: Any, weight: Tensor) -> Tensor:
    """A weight [out, in] in fp32, as in its adapted module."""
    for parameter in module.parameters():
        parameter.data = parameter.data.float()  # the weight of the base has no memory, and is in fp32
    helper = isinstance(module, AuxiliaryTrainingWrapper)
    plain = module.original_module if helper else module.get_base_layer()
    shape, plain.weight = plain.weight, _parameter(weight)
    try:
        if helper:
            return module.unload_and_optionally_merge_module(True, safe_merge=True, adapter_names=None).weight.detach()
        module.merge(safe_merge=True)
        return plain.weight.detach()
    except Exception as error:  # errors differ between peft's kinds of adapters
        raise AdapterError(
            f"the adapter's update of {name} cannot be added to the base ({in_one_line(error)})"
        ) from error
    finally:
        plain.weight = shape
