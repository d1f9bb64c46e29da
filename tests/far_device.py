"""A device that is none, to see on a CPU what would fail on a GPU.

A `Far` tensor says that it is on the device `lazy:0`, which torch knows of and has no memory on; its values are on the
CPU. As on a GPU, an operation refuses tensors of two devices, but for numbers and indices, and nothing is read as
numpy. Within `far_device()` factories take `device="lazy"` too. Autograd runs as on a CPU: of all devices without one,
`lazy` is one that its engine gives no thread of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)
CROSSING = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten._index_put_impl_.default}


class Far(torch.Tensor):
    """A tensor on the device, by the one on the CPU that holds its values."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> "Far":
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), near.stride(), near.storage_offset(), dtype=near.dtype, device=DEVICE
        )
        far.near = near
        return far

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        """A GPU's tensor has it too; torch refuses it to subclasses."""
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    some_far = any(isinstance(tensor, Far) for tensor in tensors)
    some_near = any(not isinstance(tensor, Far) and tensor.ndim for tensor in tensors)
    indexed = func in INDEXING and isinstance(args[0], Far)
    if some_far and some_near and func not in CROSSING and not indexed:
        raise RuntimeError(f"{func}: expected all tensors on one device, but found at least two, lazy and cpu")
    wanted = kwargs.get("device")
    to_far = torch.device(wanted).type == DEVICE.type if wanted is not None else some_far
    if func is torch.ops.aten.copy_.default:
        to_far = isinstance(args[0], Far)
    near_kwargs = kwargs | ({"device": torch.device("cpu")} if wanted is not None else {})
    near = func(*tree_map(_near, args), **tree_map(_near, near_kwargs))
    if not to_far:
        return near
    far = tree_map(lambda value: Far(value) if isinstance(value, torch.Tensor) else value, near)
    return return_and_correct_aliasing(func, args, kwargs, far) if some_far else far


def _near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def far_device() -> Iterator[None]:
    """Within it tensors can be made on the device."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(…, device=…)` then goes through `to`
    try:
        with _Mode():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def move(model: nn.Module) -> nn.Module:
    """Puts a model's weights and buffers on the device, in place."""
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                module._parameters[name] = nn.Parameter(Far(weight.data), weight.requires_grad)
        for name, buffer in list(module._buffers.items()):
            module._buffers[name] = None if buffer is None else Far(buffer)
    return model
