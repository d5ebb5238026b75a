"""In how many directions does a matrix reach, judged by some of its rows and columns?

The singular values of a matrix, each divided by their sum, are shares; the exponential of their entropy is its
effective rank: 1 where one direction holds all, and the full rank where all are alike (Roy and Vetterli, "The
effective rank: a measure of effective dimensionality", EUSIPCO 2007). Those of a large matrix take longer than reading
it, so a sample of its rows and columns stands for it, drawn with a fixed seed. It sees no more directions than it has
rows or columns: compare matrices of one size with each other, and not the number with the matrix's own rank. A sample
of 128 by 128 random numbers of a normal distribution reaches into about 103.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.estimate import Basis, Estimate

MOST_LINES = 128
SEED = 0


class RankSample:
    """Picks sampled elements out of a matrix that is read once; `shape` is that of the sample."""

    def __init__(self, shape: tuple[int, int]) -> None:
        draw = random.Random(SEED)
        rows, columns = (np.sort(draw.sample(range(size), min(size, MOST_LINES))) for size in shape)
        self.shape = rows.size, columns.size
        self._places = (rows[:, None] * shape[1] + columns).reshape(-1)
        self._found = np.zeros(self._places.size)

    def add(self, at: int, elements: NDArray[Any], numbers: Callable[[NDArray[Any]], NDArray[np.float64]]) -> None:
        """Takes the sampled ones of the elements from place `at` on; `numbers` makes numbers of what is stored."""
        first, last = np.searchsorted(self._places, (at, at + elements.size))
        if last > first:
            self._found[first:last] = numbers(elements[self._places[first:last] - at])

    def effective_rank(self) -> Estimate | None:
        """The effective rank of the sample; None where it has a NaN or an infinity."""
        note = f"of a sample of {self.shape[0]} rows and {self.shape[1]} columns, seed {SEED}"
        if not np.isfinite(self._found).all():
            return None
        largest = np.abs(self._found).max()
        rank = 0.0 if largest == 0 else _entropy_rank((self._found / largest).reshape(self.shape))
        return Estimate(rank, rank, rank, "directions", Basis.MEASURED, note)


def _entropy_rank(matrix: NDArray[np.float64]) -> float:
    """The exponential of the entropy of the shares of the singular values.

    Example:
        >>> round(_entropy_rank(np.eye(5)), 9), round(_entropy_rank(np.ones((3, 4))), 9)
        (5.0, 1.0)
    """
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
