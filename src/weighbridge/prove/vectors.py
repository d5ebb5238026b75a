"""What do vectors of texts say? Cosines, nearest neighbours, and how well a query finds what is relevant to it.

Rankings: the discounted gain of the first ten over that of the best order (Järvelin and Kekäläinen 2002, gains are the
grades themselves, as in trec_eval), and the share of what is relevant that is among the first ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from weighbridge.prove.engines.model import Rows

FIRST = 10
"""How many passages of a ranking count."""


def unit(rows: Rows) -> NDArray[np.float64]:
    """Rows of length 1; a row of nothing stays one."""
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-300))


def cosines(first: Rows, second: Rows) -> NDArray[np.float64]:
    """The cosine of each row with the row beside it; exactly 1 for equal ones.

    Example:
        >>> rows = np.array([[1.0, 0.0], [3.0, 4.0]], dtype=np.float32)
        >>> cosines(rows, np.array([[1.0, 0.0], [4.0, 3.0]], dtype=np.float32)).round(6).tolist()
        [1.0, 0.96]
    """
    found = np.clip((unit(first) * unit(second)).sum(axis=1), -1.0, 1.0)
    return np.asarray(np.where((first == second).all(axis=1), 1.0, found))


def nearest(rows: Rows) -> NDArray[np.int64]:
    """The place of the most similar other row, by cosine.

    Example:
        >>> nearest(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=np.float32)).tolist()
        [1, 0, 1]
    """
    wide = unit(rows)
    found = np.empty(len(wide), dtype=np.int64)
    for start in range(0, len(wide), 1024):
        like = wide[start : start + 1024] @ wide.T
        like[np.arange(len(like)), start + np.arange(len(like))] = -np.inf
        found[start : start + 1024] = like.argmax(axis=1)
    return found


def ranking(query: Rows, passages: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    """The names of the first ten passages for a query, of equals the first; rows of `passages` are of length 1."""
    like = passages @ unit(query[None])[0]
    return [names[place] for place in np.argsort(-like, kind="stable")[:FIRST]]


def grades_of(relevant: Sequence[str | int] | Mapping[str, float]) -> dict[str, float]:
    """The grade of each relevant passage.

    Example:
        >>> grades_of(["a", 7]), grades_of({"a": 2, "b": 0})
        ({'a': 1.0, '7': 1.0}, {'a': 2.0})
    """
    if isinstance(relevant, Mapping):
        return {str(name): float(grade) for name, grade in relevant.items() if grade > 0}
    return {str(name): 1.0 for name in relevant}


def ndcg(found: Sequence[str], grades: Mapping[str, float]) -> float:
    """The discounted gain of a ranking over the best possible.

    Example:
        >>> round(ndcg(["a", "b", "c"], {"b": 1.0, "c": 1.0}), 4)
        0.6934
    """
    discounts = 1 / np.log2(np.arange(2, FIRST + 2))
    gained = np.array([grades.get(name, 0.0) for name in found[:FIRST]])
    best = np.array(sorted(grades.values(), reverse=True)[:FIRST])
    return float((gained * discounts[: len(gained)]).sum() / (best * discounts[: len(best)]).sum())


def recall(found: Sequence[str], grades: Mapping[str, float]) -> float:
    """The share of the relevant passages that is found.

    Example:
        >>> recall(["a", "b"], {"b": 1.0, "c": 1.0})
        0.5
    """
    return sum(name in grades for name in found[:FIRST]) / len(grades)
