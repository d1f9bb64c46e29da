"""The rows of a step, its division into forward passes, and examples as padded tensors.

Shapes: B rows, T positions.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from topeng.text.tokens import Example

PASS_TOKENS = 256
"""Fixed cost of a pass on a CPU, in tokens."""


def steps_in_epoch(rows: int, batch_rows: int) -> int:
    """Number of steps of an epoch. The last step may have fewer rows."""
    return -(-rows // batch_rows)


def step_rows(rows: int, batch_rows: int, seed: int, step: int) -> list[int]:
    """The rows of a step, in the order of a shuffle that is a function of (seed, epoch).

    Args:
        rows: number of all rows.
        batch_rows: number of rows in a step.
        step: number of the step, from 0, over all epochs.
    """
    epoch, place = divmod(step, steps_in_epoch(rows, batch_rows))
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)
    return order[place * batch_rows : (place + 1) * batch_rows].tolist()


def cut_by_tokens(
    lengths: Sequence[int], batch_tokens: int, multiple_of: int = 1, pass_tokens: float = PASS_TOKENS
) -> list[list[int]]:
    """Divides a step into forward passes of rows of similar length, with the fewest tokens including fixed costs.

    Args:
        lengths: lengths of the step's rows, in tokens.
        batch_tokens: largest number of padded tokens in a pass. A longer row gets its own pass.
        multiple_of: number of ranks, which divides the number of passes. The largest passes are halved, and if there
            are too few rows, empty passes are added.
        pass_tokens: fixed cost of a pass, in tokens.

    Returns:
        The rows of each pass, as places in `lengths`. The longest rows come first.
    """
    places = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    longest, begins = np.array(lengths)[places], np.arange(len(places))
    # For the first rows, in the best division: tokens, and the start of the last pass.
    cost, start = np.zeros(len(places) + 1), [0]
    for end in range(1, len(places) + 1):
        padded = (end - begins[:end]) * longest[:end]
        allowed = (padded <= batch_tokens) | (begins[:end] == end - 1)
        costs = np.where(allowed, cost[:end] + padded + pass_tokens, np.inf)
        start.append(int(costs.argmin()))
        cost[end] = costs[start[end]]
    passes: list[list[int]] = []
    end = len(places)
    while end:
        passes.insert(0, places[start[end] : end])
        end = start[end]
    while len(passes) % multiple_of and max(map(len, passes)) > 1:
        largest = max(range(len(passes)), key=lambda index: len(passes[index]))
        half = -(-len(passes[largest]) // 2)
        passes[largest : largest + 1] = [passes[largest][:half], passes[largest][half:]]
    return passes + [[] for _ in range(-len(passes) % multiple_of)]


def passes_of(
    lengths: Sequence[int], batch_tokens: int, heads: Sequence[int] | None = None, most_heads: int = 0
) -> Iterator[list[int]]:
    """Divides rows that are scored into forward passes, the longest first, so that there is little padding.

    Args:
        lengths: lengths of the rows, in tokens.
        batch_tokens: largest number of padded tokens in a pass. A longer row gets its own pass.
        heads: number of positions of each row whose logits are kept. A pass has at most `most_heads` of them, but at
            least one row.

    Yields:
        The rows of each pass, as places in `lengths`.
    """
    order, start = sorted(range(len(lengths)), key=lambda place: -lengths[place]), 0
    while start < len(order):
        rows = order[start : start + max(1, batch_tokens // max(1, lengths[order[start]]))]
        if heads is not None:
            kept = sum(total <= most_heads for total in accumulate(heads[row] for row in rows))
            rows = rows[: max(1, kept)]
        yield rows
        start += len(rows)


def collate(examples: Sequence[Example], eos_token_id: int, fill: bool = False) -> dict[str, Tensor]:
    """A batch, padded on the right with the end token.

    Args:
        eos_token_id: the end token, which is also the padding.
        fill: make the padding up to the longest row part of the response, visible and supervised, as in the reference.
            The loss of a row then depends on the other rows of the batch.

    Returns:
        `input_ids`, `attention_mask`, bool `response_mask` [B, T]; `response_length`, `row_ids` (of the noise) [B].
    """
    longest = max(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), longest), eos_token_id)
    for row, example in enumerate(examples):
        input_ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
    lengths = torch.tensor([longest if fill else len(example.input_ids) for example in examples])[:, None]
    prompts = torch.tensor([example.prompt_length for example in examples])[:, None]
    positions = torch.arange(longest)[None, :]
    return {
        "input_ids": input_ids,
        "attention_mask": (positions < lengths).long(),
        "response_mask": (positions >= prompts) & (positions < lengths),
        "response_length": (lengths - prompts).squeeze(1),
        "row_ids": torch.tensor([example.noise_id for example in examples]),
    }
