"""Maps the weights in the files of a checkpoint, by their official names, to the weights of the network.

Usually one weight corresponds to one. For a mixture of experts, files have a weight per expert, and the network has one
for all experts. Files of LLaDA2.x have a single weight for queries, keys and values.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from transformers.core_model_loading import WeightRenaming, apply_renamings

EXPERTS_IN, EXPERTS_OUT = "experts.gate_up_proj", "experts.down_proj"
"""Endings of names of the network's weights for all experts: [E, 2I, D] and [E, D, I]."""


class Stored(NamedTuple):
    """A weight in the files of a checkpoint.

    Attributes:
        parts: names of the network's weights whose rows it contains, one after another, or none if it is a part of one.
        rows: number of rows of each part, if there are several.
    """

    shape: tuple[int, ...]
    parts: tuple[str, ...]
    rows: tuple[int, ...] = ()


def layout(model: Any) -> dict[str, Stored]:
    """The weights by official name. A head that is tied to the embedding is included."""
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    back = [WeightRenaming(*names).reverse_transform() for names in reversed(type(model).official_names)]
    found: dict[str, Stored] = {}
    for name, shape in shapes.items():
        if name.endswith((EXPERTS_IN, EXPERTS_OUT)):
            found |= _experts(name, shape)
            continue
        whole = next(_fused(type(model).fused, name), None)
        if whole is None:
            found[apply_renamings(name, back)] = Stored(shape, (name,))
        else:
            official, parts = whole
            rows = tuple(shapes[part][0] for part in parts)
            found[official] = Stored((sum(rows), *shape[1:]), parts, rows)
    return found


def _experts(name: str, shape: tuple[int, ...]) -> dict[str, Stored]:
    count, rows, columns = shape
    prefix = name.removesuffix(EXPERTS_IN).removesuffix(EXPERTS_OUT)
    if name.endswith(EXPERTS_IN):
        own = {"gate_proj": (rows // 2, columns), "up_proj": (rows // 2, columns)}
    else:
        own = {"down_proj": (rows, columns)}
    return {
        f"{prefix}experts.{expert}.{part}.weight": Stored(of_part, ())
        for expert in range(count)
        for part, of_part in own.items()
    }


def _fused(fused: dict[str, list[str]], name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The official weight that contains a weight of the network, and all its parts."""
    for official, endings in fused.items():
        for ending in endings:
            if name.endswith(ending):
                prefix = name.removesuffix(ending)
                yield prefix + official, tuple(prefix + one for one in endings)
