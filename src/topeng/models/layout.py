"""What the files of a checkpoint hold by the official code's names, and which of the network's weights that is.

Mostly a weight of the one is a weight of the other. A mixture of experts has a file's weight for each expert where the
network has one for all, and LLaDA2.x's files have queries, keys and values as one.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from transformers.core_model_loading import WeightRenaming, apply_renamings

EXPERTS_IN, EXPERTS_OUT = "experts.gate_up_proj", "experts.down_proj"
"""Endings of the network's weights of all experts: [E, 2I, D] and [E, D, I]."""


class Stored(NamedTuple):
    """A weight of a checkpoint's files.

    Attributes:
        parts: names of the network's weights whose rows it has, one after another; none where it is a part of one.
        rows: of each part, where there are several.
    """

    shape: tuple[int, ...]
    parts: tuple[str, ...]
    rows: tuple[int, ...] = ()


def layout(model: Any) -> dict[str, Stored]:
    """By official name. A head that is tied to the embedding is there like any other."""
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
    """The official weight that one of the network's is a part of, and all its parts."""
    for official, endings in fused.items():
        for ending in endings:
            if name.endswith(ending):
                prefix = name.removesuffix(ending)
                yield prefix + official, tuple(prefix + one for one in endings)
