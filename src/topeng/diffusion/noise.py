"""Noise as a function of (seed, step, row), which is never drawn from a global generator.

Therefore the noise of a row does not depend on its batch, its rank, or where a run was resumed.
"""

from collections.abc import Iterable
from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """Uses of the noise, which must not share draws."""

    TRAINING = 0
    LIKELIHOOD = 1
    DECODING = 2
    COMMITTING = 3
    STRATA = 4
    BEGINNING = 5
    OPENING = 6


def row_generator(use: Use, seed: int, step: int, row: int) -> np.random.Generator:
    """The generator of one row at one step (Philox, a counter-based generator: Salmon et al., SC 2011)."""
    return np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, use, row]))


def uniforms(use: Use, seed: int, step: int, rows: Iterable[int], count: int) -> np.ndarray:
    """Draws [rows, count] from U(0, 1) in fp64. The first draws of a row do not depend on `count`."""
    return np.stack([row_generator(use, seed, step, row).random(count) for row in rows])
