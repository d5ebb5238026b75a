"""How is a tensor worked through in pieces, so that memory is bounded by a number and not by the model?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from weighbridge.compress.codecs import Values

MEMORY_BYTES = 1 << 30
"""What the blocks in work may take together, where nothing else is asked."""
LEAST_BLOCK_BYTES, MOST_BLOCK_BYTES = 1 << 20, 4 << 20
"""Of a block in work: smaller ones are slow; larger ones leave the processor's cache and are slower again."""
T = TypeVar("T")


def block_bytes(memory_bytes: int, jobs: int) -> int:
    """What one block may take, when so many are in work and as many wait to be written.

    Example:
        >>> block_bytes(1 << 30, 16) >> 20, block_bytes(1, 1) >> 20
        (4, 1)
    """
    return min(max(LEAST_BLOCK_BYTES, memory_bytes // (2 * jobs)), MOST_BLOCK_BYTES)


def in_order(work: Callable[[int], T], items: Sequence[int], pool: ThreadPoolExecutor, jobs: int) -> Iterator[T]:
    """Results in the order of the items, no more than `jobs` of them in work.

    Example:
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(in_order(lambda number: number * number, range(4), pool, 2))
        [0, 1, 4, 9]
    """
    waiting = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= jobs:
            yield waiting.pop(0).result()
    for one in waiting:
        yield one.result()


def squares(rows: Values) -> float:
    """The sum of the squares: of a row in fp32 where that reaches, of all rows in fp64."""
    with np.errstate(over="ignore", under="ignore"):
        found = float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
    return found if 1e-20 < found < np.inf else float(np.square(rows, dtype=np.float64).sum())
