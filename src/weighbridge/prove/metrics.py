"""What is counted, and what is made of the sums?

A metric keeps a few sums for each example; its value is a function of the sums over all examples. So perplexity is that
of all tokens together and not a mean over texts, F1 is that of all answers, and every metric can be drawn again by
clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: the names of its sums, and its value from them.

    `value` takes sums along the last axis. `is_share` says that an example counts 1 or 0 of 1, so that the exact tests
    on answers apply. `is_count` says that examples are counted: that none differs does not mean that none would.
    `is_distance` says that it only tells how far two models are apart: it decides where it is asked for, with a margin.
    """

    name: str
    sums: tuple[str, ...]
    value: Callable[[Any], Any]
    higher_is_better: bool
    is_share: bool = False
    is_distance: bool = False
    is_count: bool = False


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


def _mean(name: str, *, is_share: bool = False) -> Metric:
    return Metric(name, ("sum", "examples"), _ratio, higher_is_better=True, is_share=is_share, is_count=is_share)


def _distance(name: str, of: str, *, higher_is_better: bool = False) -> Metric:
    return Metric(name, ("sum", of), _ratio, higher_is_better, is_distance=True)


def _perplexity(name: str, of: str) -> Metric:
    return Metric(name, ("log_likelihood", of), _exp_of_minus, higher_is_better=False)


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in (
    *(_mean(name, is_share=True) for name in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")),
    *(_perplexity(name, of) for name, of in (("perplexity", "tokens"), ("word_perplexity", "words"),
                                             ("byte_perplexity", "bytes"))),
    Metric("bits_per_byte", ("log_likelihood", "bytes"), _bits, higher_is_better=False),
    Metric("f1", ("true_positives", "false_positives", "false_negatives"), _f1, higher_is_better=True, is_count=True),
    Metric("flips", ("sum", "examples"), _ratio, higher_is_better=False, is_distance=True, is_count=True),
    _distance("kl_divergence", "tokens"),
    _distance("top1_agreement", "tokens", higher_is_better=True),
)})  # fmt: skip
"""By name. `acc` and its kin are what lm-evaluation-harness calls the share of right answers by likelihood: plain, by
characters, by bytes, and against the answer alone."""


F1_OF_EACH = _mean("f1")
"""The mean of an F1 of each example, as tasks with answers in words have it."""
