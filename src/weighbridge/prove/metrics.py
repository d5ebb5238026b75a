"""What is counted, and what is made of the sums?

A metric keeps a few sums for each example; its value is a function of the sums over all examples. So perplexity is that
of all tokens together and not a mean over texts, F1 is that of all answers, and every metric can be drawn again by
clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

SHARE, SIGNED = (0.0, 1.0), (-1.0, 1.0)
"""What shares, and correlations and cosines, can be."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: the names of its sums, and its value from them.

    `value` takes sums along the last axis. `is_share` says that an example counts 1 or 0 of 1, so that the exact tests
    on answers apply. `is_count` says that examples are counted: that none differs does not mean that none would.
    `is_distance` says that it only tells how far two models are apart: it decides where it is asked for, with a margin.
    `tells_only` says that another metric of the same answers decides: it does where it is asked for. `prepare` makes
    the sums of what is kept for each example, where that depends on which examples there are.
    """

    name: str
    sums: tuple[str, ...]
    value: Callable[[Any], Any]
    higher_is_better: bool
    is_share: bool = False
    is_distance: bool = False
    is_count: bool = False
    tells_only: bool = False
    prepare: Callable[[Any], Any] | None = None
    bounds: tuple[float, float] | None = None


def _ratio(sums: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def _exp_of_minus(sums: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.exp(-_ratio(sums))


def _bits(sums: Any) -> Any:
    return -_ratio(sums) / math.log(2)


def _f1(sums: Any) -> Any:
    true, false, missed = sums[..., 0], sums[..., 1], sums[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * true / (2 * true + false + missed)


def f1_sums(gold: Any, predicted: Any, positive: Any = 1) -> tuple[float, float, float]:
    """The sums of one example for `f1`: found rightly, found wrongly, missed.

    Example:
        >>> f1_sums(1, 0), f1_sums(1, 1), f1_sums(0, 1)
        ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    """
    is_gold, is_found = gold == positive, predicted == positive
    return float(is_gold and is_found), float(is_found and not is_gold), float(is_gold and not is_found)


BINS = 15
"""Of confidence, equally wide, for the calibration error."""


def calibration_sums(confidence: float, is_right: bool) -> tuple[float, ...]:
    """The sums of one answer for `calibration_error`: examples, confidence and right answers of each bin.

    Example:
        >>> sums = calibration_sums(0.95, True)
        >>> len(sums), sums[14], sums[29], sums[44]
        (45, 1.0, 0.95, 1.0)
    """
    found = [0.0] * (3 * BINS)
    place = min(BINS - 1, max(0, math.ceil(confidence * BINS) - 1))  # bins are open below, as Guo and others have them
    found[place], found[BINS + place], found[2 * BINS + place] = 1.0, confidence, float(is_right)
    return tuple(found)


def _calibration_error(sums: Any) -> Any:
    """Guo and others 2017, "On calibration of modern neural networks", equation 3."""
    apart = np.abs(sums[..., BINS : 2 * BINS] - sums[..., 2 * BINS :]).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return apart / sums[..., :BINS].sum(axis=-1)


def macro_f1(labels: int) -> Metric:
    """The mean of the F1 of each label that is in the answers or found, as scikit-learn's `average="macro"`.

    Its sums are, for each label, found rightly, found wrongly, and missed.
    """

    def value(sums: Any) -> Any:
        true, false, missed = (sums[..., part * labels : (part + 1) * labels] for part in range(3))
        each = 2 * true + false + missed
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(each > 0, 2 * true / each, 0.0).sum(axis=-1) / (each > 0).sum(axis=-1)

    names = tuple(f"{what}_{label}" for what in ("true", "false", "missed") for label in range(labels))
    return Metric("f1_macro", names, value, higher_is_better=True, is_count=True, bounds=SHARE)


def macro_f1_sums(label: int, predicted: int, labels: int) -> tuple[float, ...]:
    """The sums of one answer for `macro_f1`.

    Example:
        >>> macro_f1_sums(0, 1, 2), macro_f1_sums(1, 1, 2)
        ((0.0, 0.0, 0.0, 1.0, 1.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    """
    found = [0.0] * (3 * labels)
    if predicted == label:
        found[label] = 1.0
    else:
        found[2 * labels + label] = 1.0
        found[labels + predicted] = 1.0
    return tuple(found)


def _moments(pairs: Any) -> Any:
    """Of two numbers for each example: count, sums, squares and product, from their deviations from the mean."""
    x, y = (pairs - pairs.mean(axis=0)).T
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _rank_moments(pairs: Any) -> Any:
    return _moments(np.stack([_ranks(pairs[:, 0]), _ranks(pairs[:, 1])], axis=1))


def _ranks(values: Any) -> Any:
    """Places in order, equal values sharing theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _correlation(sums: Any) -> Any:
    n, x, y, xx, yy, xy = (sums[..., place] for place in range(6))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))


def _mean(name: str, *, is_share: bool = False, is_count: bool = False) -> Metric:
    return Metric(name, ("sum", "examples"), _ratio, higher_is_better=True, is_share=is_share,
                  is_count=is_share or is_count, bounds=SHARE)  # fmt: skip


def mean_of(name: str, *, higher_is_better: bool = True, is_count: bool = False) -> Metric:
    """The mean of a number of each example."""
    return Metric(name, ("sum", "examples"), _ratio, higher_is_better, is_count=is_count)


def _distance(
    name: str, of: str, bounds: tuple[float, float], *, higher_is_better: bool = True, is_count: bool = False
) -> Metric:  # fmt: skip
    return Metric(name, ("sum", of), _ratio, higher_is_better, is_distance=True, is_count=is_count, bounds=bounds)


def _perplexity(name: str, of: str) -> Metric:
    return Metric(name, ("log_likelihood", of), _exp_of_minus, higher_is_better=False)


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in (
    *(_mean(name, is_share=True) for name in ("accuracy", "exact_match", "pass_at_1")),
    *(_mean(name, is_share=True) for name in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")),
    *(_perplexity(name, of) for name, of in (("perplexity", "tokens"), ("word_perplexity", "words"),
                                             ("byte_perplexity", "bytes"))),
    Metric("bits_per_byte", ("log_likelihood", "bytes"), _bits, higher_is_better=False),
    Metric("f1", ("true_positives", "false_positives", "false_negatives"), _f1, higher_is_better=True, is_count=True,
           bounds=SHARE),
    Metric("calibration_error", tuple(f"{what}_{place}" for what in ("count", "confidence", "right")
                                      for place in range(BINS)),
           _calibration_error, higher_is_better=False, tells_only=True, bounds=SHARE),
    Metric("spearman", ("given", "found"), _correlation, higher_is_better=True, is_count=True,
           prepare=_rank_moments, bounds=SIGNED),
    Metric("pearson", ("given", "found"), _correlation, higher_is_better=True, tells_only=True, prepare=_moments,
           bounds=SIGNED),
    _mean("ndcg_at_10", is_count=True), _mean("recall_at_10", is_count=True),
    _distance("flips", "examples", SHARE, higher_is_better=False, is_count=True),
    _distance("kl_divergence", "tokens", (0.0, math.inf), higher_is_better=False),
    _distance("top1_agreement", "tokens", SHARE, is_count=True),
    _distance("cosine", "examples", SIGNED),
    _distance("neighbour_agreement", "examples", SHARE, is_count=True),
)})  # fmt: skip
"""By name. `acc` and its kin are what lm-evaluation-harness calls the share of right answers by likelihood: plain, by
characters, by bytes, and against the answer alone."""
F1_OF_EACH = _mean("f1")
"""The mean of an F1 of each example, as tasks with answers in words have it."""
TOLD = MappingProxyType({name: replace(metric, tells_only=True)
                         for name, metric in (("acc_norm", METRICS["acc_norm"]), ("f1", F1_OF_EACH),
                                              ("bits_per_byte", METRICS["bits_per_byte"]))})  # fmt: skip
"""Metrics beside another that decides: the same answers counted in another way."""
