"""Forward passes for rows at different positions, and their cached keys and values.

Attention is bidirectional, so a token that is committed in a block changes the keys and values of all other positions.
Cached ones (Fast-dLLM, arXiv 2505.22618) are exact in the pass that computes them, and become less exact with every
token that is committed afterwards.

Shapes: R views of rows, W visible positions, K cached ones, Q others, N active ones, V vocabulary, L layers, H heads,
D width of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from topeng.generate.row import View
from topeng.models.attention import block_causal


class Passes:
    """The forward passes of one step: one for views without a valid cache, and one for the others."""

    def __init__(self) -> None:
        self.group: tuple[list[Tensor], DynamicCache] | None = None

    def logits(self, model: Any, views: Sequence[View], **adapters: Any) -> list[Tensor]:
        """The logits [N, V] at the masked positions of the block of each view's row.

        Args:
            adapters: `adapter_names` of peft, with a name for each view, if adapters are mixed.
        """
        for view in views:
            if view.kept is not None and view.age == view.row.settings.refresh_interval:
                view.kept = None
        whole = [place for place, view in enumerate(views) if view.kept is None]
        rest = [place for place, view in enumerate(views) if view.kept is not None]
        self.group = self.group if rest else None
        found: dict[int, Tensor] = {}
        for run, places in ((self._whole, whole), (self._rest, rest)):
            if places:
                own = {name: [names[place] for place in places] for name, names in adapters.items()}
                now = [views[place] for place in places]
                counts = [int(view.row.active().sum()) for view in now]
                found |= dict(zip(places, run(model, now, own).split(counts), strict=True))
        return [found[place] for place in range(len(views))]

    def _whole(self, model: Any, views: Sequence[View], adapters: dict[str, Any]) -> Tensor:
        """Computes all visible positions of each row, and caches those that its settings ask for."""
        columns = [torch.arange(view.inputs) for view in views]
        to_keep = [view.columns_to_keep() for view in views]
        past = DynamicCache() if any(map(len, to_keep)) else None
        logits = _forward(model, views, columns, [_NOTHING] * len(views), past, adapters)
        if past is not None:
            for place, (view, kept) in enumerate(zip(views, to_keep, strict=True)):
                if len(kept):
                    on_device = kept.to(logits.device)
                    layers = [torch.stack([layer.keys[place], layer.values[place]]) for layer in past.layers]
                    view.kept, view.kept_columns, view.age = torch.stack(layers)[..., on_device, :], kept, 1
        return logits

    def _rest(self, model: Any, views: Sequence[View], adapters: dict[str, Any]) -> Tensor:
        """Computes the positions of each row that are not cached. Padded caches are reused for the same rows."""
        kept = [view.kept for view in views if view.kept is not None]
        if self.group is None or len(kept) != len(self.group[0]) or any(map(_differ, kept, self.group[0])):
            self.group = kept, DynamicCache(_padded(kept).unbind(0))
        past = self.group[1]
        columns = [_others(view) for view in views]
        logits = _forward(model, views, columns, [view.kept_columns for view in views], past, adapters)
        longest = max(map(len, columns))
        for place, (view, own) in enumerate(zip(views, columns, strict=True)):
            view.age += 1
            _keep_finished(view, own, past, place, longest)
        past.crop(-longest)
        return logits


def _keep_finished(view: View, own: Tensor, past: DynamicCache, place: int, longest: int) -> None:
    """Caches finished blocks of a pass, if the model only looks back, because they do not change any more."""
    to_keep = view.columns_to_keep()
    if not view.row.looks.block or len(to_keep) == len(view.kept_columns):
        return
    new = slice(-longest, len(to_keep) - len(view.kept_columns) - longest or None)
    layers = [torch.stack([layer.keys[place, :, new], layer.values[place, :, new]]) for layer in past.layers]
    assert view.kept is not None and int(own[0]) == len(view.kept_columns)
    view.kept, view.kept_columns = torch.cat([view.kept, torch.stack(layers)], dim=-2), to_keep


_NOTHING = torch.zeros(0, dtype=torch.long)


def _differ(one: Tensor, other: Tensor) -> bool:
    return one is not other


def _others(view: View) -> Tensor:
    """Columns that are not cached."""
    others = torch.ones_like(view.row.visible[: view.inputs])
    others[view.kept_columns] = False
    return others.nonzero().squeeze(1)


def _padded(kept: Sequence[Tensor]) -> Tensor:
    """Caches padded to [L, 2, R, H, K, D], so that a layer can be unbound to its keys and values."""
    layers, two, heads, _, width = kept[0].shape
    together = kept[0].new_zeros(layers, two, len(kept), heads, max(one.shape[3] for one in kept), width)
    for place, one in enumerate(kept):
        together[:, :, place, :, : one.shape[3]] = one
    return together


def _forward(
    model: Any,
    views: Sequence[View],
    columns: Sequence[Tensor],
    kept: Sequence[Tensor],
    past: DynamicCache | None,
    adapters: dict[str, Any],
) -> Tensor:
    """The logits [N, V] at the active positions of all views, one view after another. Short views are padded."""
    device, config, looks = next(model.parameters()).device, model.config, views[0].row.looks
    keys, queries = max(map(len, kept)), max(map(len, columns))
    input_ids = torch.full((len(views), queries), config.eos_token_id)
    position_ids = torch.zeros_like(input_ids)
    key_ids = torch.zeros(len(views), keys + queries, dtype=torch.long)
    visible = torch.zeros(len(views), keys + queries, dtype=torch.bool)
    active = torch.zeros(len(views), queries, dtype=torch.bool)
    for place, (view, own, before) in enumerate(zip(views, columns, kept, strict=True)):
        row, length = view.row, len(own)
        input_ids[place, :length], position_ids[place, :length] = view.tokens(config.mask_token_id)[own], own
        visible[place, : len(before)] = row.visible[before]
        visible[place, keys : keys + length] = row.visible[own]
        key_ids[place, : len(before)], key_ids[place, keys : keys + length] = before, own
        predicted = torch.zeros(len(row.tokens) + 1, dtype=torch.bool)
        predicted[row.block] = row.active()
        active[place, :length] = predicted[own + int(looks.next)]
    attention = block_causal(visible, position_ids, key_ids, looks.block) if looks.block else visible
    return model(
        input_ids=input_ids.to(device),
        attention_mask=attention.to(device),
        position_ids=position_ids.to(device),
        past_key_values=past,
        use_cache=past is not None,
        head_positions=active.to(device),
        noise_level=torch.tensor([view.row.noise_level for view in views], device=device),
        **({"moved": False} if looks.next else {}),
        **adapters,
    ).logits
