"""The loss at LLaDA-8B's vocabulary, forward and backward: our head in chunks, Liger's fused one, and full logits."""

from collections.abc import Callable

import shapes
import torch
from bench import Bench
from ledger import Record
from torch import Tensor
from torch.nn import functional

from topeng.models import masked_lm

POSITIONS = 1365
"""Masked ones of a pass of 4,096 tokens: two thirds are answers, of which half are masked in the mean."""
CHUNKS = (2**24, 2**26, 2**28)
"""Of logits at once; the first is what `masked_lm` takes."""

Loss = Callable[[Tensor], Tensor]


def head(bench: Bench) -> None:
    shape = shapes.config(bench.small)
    torch.manual_seed(0)
    weight = torch.randn(shape.vocab_size, shape.hidden_size, device=bench.device, dtype=torch.bfloat16) * 0.02
    hidden = torch.randn(POSITIONS, shape.hidden_size, device=bench.device, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(0, shape.vocab_size, (POSITIONS,), device=bench.device)
    weights = torch.rand(POSITIONS, device=bench.device)

    def ours(states: Tensor) -> Tensor:
        return masked_lm.WeightedCrossEntropy.apply(states, weight, targets, weights)[0]

    def full(states: Tensor) -> Tensor:
        return (functional.cross_entropy((states @ weight.T).float(), targets, reduction="none") * weights).sum()

    bench.attempt("off full logits, relative", lambda: differences(ours, full, hidden))
    for elements in CHUNKS:
        masked_lm.CHUNK_ELEMENTS = elements
        bench.attempt(f"topeng, {elements:,} logits at once", lambda: timed(bench, ours, hidden))
    bench.attempt("full logits", lambda: timed(bench, full, hidden))
    if bench.device == "cpu":
        bench.record("Liger", {"skipped": "its kernels run on a GPU alone"})
        return
    bench.attempt("Liger", lambda: timed(bench, liger(weight, targets), hidden))


def liger(weight: Tensor, targets: Tensor) -> Loss:
    """Its loss is a plain sum: it has no weight for each position, which ours must have. Time and memory compare."""
    from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

    fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda states: fused(weight, states, targets)


def differences(ours: Loss, full: Loss, hidden: Tensor) -> Record:
    """Of loss and gradient, both in bf16: where a kernel for so many classes goes wrong, it is seen here."""
    losses = [loss(hidden) for loss in (ours, full)]
    gradients = [torch.autograd.grad(loss, hidden)[0].float() for loss in losses]
    off = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    return {"loss": abs(losses[0].item() / losses[1].item() - 1), "gradient": float(off)}


def timed(bench: Bench, loss: Loss, hidden: Tensor) -> Record:
    def once() -> None:
        hidden.grad = None
        loss(hidden).backward()

    once()
    bench.free_memory()
    before = bench.peak_gib()
    seconds = bench.seconds_of(once, times=5, warm_up=0)
    memory = bench.peak_gib()
    added = {} if memory is None or before is None else {"memory_added_gib": memory - before}
    return {"milliseconds": 1000 * seconds} | added
