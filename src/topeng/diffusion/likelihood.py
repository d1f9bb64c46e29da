"""A Monte Carlo bound on the negative log-likelihood of answers (LLaDA, arXiv 2502.09992, eq. 6).

A draw masks exactly l of the L tokens of a response, l uniform on 1..L, and multiplies their cross-entropy by L / l. If
a response has few masks, all are evaluated and weighted by their probabilities. Otherwise the masks of a replicate are
stratified by l and balanced over tokens, which does not change the mean. Replicates are independent, and their spread
gives the Monte Carlo error (docs/evaluation-likelihood.md).
Shapes: R rows, M replicates, K masks of a row, L response tokens, N masked positions.
"""

from collections.abc import Sequence
from itertools import product
from math import comb
from typing import Any

import numpy as np
import torch

from topeng.diffusion.noise import Use, row_generator
from topeng.diffusion.objective import Scoring
from topeng.errors import TopengError
from topeng.text.batches import collate, passes_of
from topeng.text.tokens import Example

STRATA = 1.5
"""The k-th of n strata of l / L ends at (k / n) ** STRATA, so that masks with few tokens, which vary most, are drawn
more often. Neyman allocation for a variance of 1 / l would give 2. Less is better, because the last strata become too
wide (measured)."""


def draw_masks(
    response_length: int, draws: int, seed: int, row_id: int, replicates: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The masks of a row and their weights, bool [K, L] and fp64 [K], which are the same for every model.

    If there are at most `draws` masks, 2^L - 1, all are returned, and the sum of weight times masked nats is the bound.
    Otherwise there are `draws` masks, replicate by replicate, and this sum over a replicate is its estimate.

    Raises:
        TopengError: `draws` cannot be divided evenly among the replicates.
    """
    if draws < 1 or replicates < 1 or draws % replicates:
        raise TopengError(
            f"draws = {draws} must be a multiple of replicates = {replicates}, both at least 1. Use "
            f"{max(replicates, 1) * -(-max(draws, 1) // max(replicates, 1))} draws."
        )
    if _are_few(response_length, draws):
        masks = np.array(list(product((False, True), repeat=response_length))[1:])
        return masks, np.array([1 / (count * comb(response_length, count)) for count in masks.sum(axis=1).tolist()])
    noise = row_generator(Use.LIKELIHOOD, seed, 0, row_id)
    parts = [_balanced_masks(response_length, draws // replicates, noise) for _ in range(replicates)]
    masks, weights = zip(*parts, strict=True)
    return np.concatenate(masks), np.concatenate(weights)


def _balanced_masks(response_length: int, draws: int, noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The masks of a replicate, fewest tokens first. Each masks the tokens with the least weight so far.

    This balances hard and easy tokens. Ties are broken at random, so that no token is preferred, and every mask with
    the same count is equally likely.
    """
    edges = (np.arange(draws + 1) / draws) ** STRATA
    counts = 1 + np.floor(response_length * noise.uniform(edges[:-1], edges[1:])).astype(int)
    weights = np.diff(edges) * response_length / counts
    masks, load = np.zeros((draws, response_length), dtype=bool), np.zeros(response_length)
    for mask, count, weight in zip(masks, counts, weights, strict=True):
        mask[np.lexsort((noise.random(response_length), load))[:count]] = True
        load += weight * mask
    return masks, weights


def response_nll(model: Any, examples: Sequence[Example], how: Scoring) -> np.ndarray:
    """Estimates the upper bound of each response's negative log-likelihood, in nats: fp64 [R, M].

    Each column is an unbiased estimate, independent of the others. If all masks of a short response are evaluated, its
    columns are equal and exact.

    Raises:
        TopengError: `how.draws` is not a multiple of `how.replicates`.
    """
    designs = [
        draw_masks(example.response_length, how.draws, how.seed, example.row_id, how.replicates) for example in examples
    ]
    nats = [np.zeros(len(weights)) for _, weights in designs]  # of each mask
    jobs = [(row, mask) for row, (_, weights) in enumerate(designs) for mask in range(len(weights))]
    done = 0
    for places in passes_of([len(examples[row].input_ids) for row, _ in jobs], how.batch_tokens):
        batch = [jobs[place] for place in places]
        rows = collate([examples[row] for row, _ in batch], model.config.eos_token_id)
        masks = [designs[row][0][mask] for row, mask in batch]
        masked = torch.zeros_like(rows["response_mask"])
        masked[rows["response_mask"]] = torch.from_numpy(np.concatenate(masks))
        share = masked.sum(dim=1) / rows["response_length"]
        token_nll = masked_nll(
            model, rows["input_ids"], rows["attention_mask"], masked, model.config.mask_token_id, share
        )
        ends = np.cumsum([mask.sum() for mask in masks])[:-1]
        for (row, mask), values in zip(batch, np.split(token_nll, ends), strict=True):
            nats[row][mask] = values.sum()
        done += len(batch)
        how.progress(done, len(jobs))
    estimates = [
        np.full(how.replicates, weights @ sums)
        if _are_few(masks.shape[1], how.draws)
        else (weights * sums).reshape(how.replicates, -1).sum(axis=1)
        for (masks, weights), sums in zip(designs, nats, strict=True)
    ]
    return np.array(estimates).reshape(len(examples), how.replicates)


def _are_few(response_length: int, draws: int) -> bool:
    """Whether all masks of a response are evaluated."""
    return 2**response_length - 1 <= draws


def monte_carlo_error(estimates: np.ndarray) -> dict[str, float]:
    """The mean over the rows, and its Monte Carlo error for these rows.

    The degrees of freedom of the t interval follow Welch and Satterthwaite (Biometrics Bulletin 2, 1946), because rows
    differ in variance.

    Args:
        estimates: [R, M], such as nats per token. Replicates are independent, and M is at least 2.

    Returns:
        `mean`, `standard_error`, `low` and `high` (95 %), `degrees_of_freedom` (infinite if all rows are exact).

    Raises:
        TopengError: there are fewer than two replicates.
    """
    from scipy import stats

    rows, replicates = estimates.shape
    if replicates < 2:
        raise TopengError(f"a Monte Carlo error needs at least 2 replicates, not {replicates}. Raise replicates.")
    variances = estimates.var(axis=1, ddof=1) / replicates / rows**2  # what each row adds to that of the mean
    mean, total = float(estimates.mean()), float(variances.sum())
    degrees = (replicates - 1) * total**2 / float((variances**2).sum()) if total else np.inf
    half = float(stats.t.ppf(0.975, degrees)) * np.sqrt(total)
    return {
        "mean": mean,
        "standard_error": float(np.sqrt(total)),
        "low": mean - half,
        "high": mean + half,
        "degrees_of_freedom": degrees,
    }


@torch.no_grad()
def masked_nll(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    masked: torch.Tensor,
    mask_token_id: int,
    noise_level: torch.Tensor | None = None,
) -> np.ndarray:
    """Cross-entropy of the masked tokens, row by row, in nats: [N] fp64.

    Args:
        noise_level: [B], the share of masks in each response, for adapters that depend on it.
    """
    device = next(model.parameters()).device
    output = model(
        input_ids=input_ids.masked_fill(masked, mask_token_id).to(device),
        attention_mask=attention_mask.to(device),
        head_positions=masked.to(device),
        targets=input_ids[masked].to(device),
        noise_level=None if noise_level is None else noise_level.to(device),
    )
    return output.token_nll.double().cpu().numpy()
