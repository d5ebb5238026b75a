"""Is the candidate better, equivalent, worse, or is that undecided? One metric on paired examples, and its slices.

With a margin m and an interval of the difference turned so that more is better:

    better       its lower bound is above 0
    equivalent   its lower bound is at or above -m
    worse        its upper bound is below -m
    undecided    anything else, with the number of examples that would probably settle it

Without a margin m is 0: then a candidate is equivalent only when nothing differs. `keep` sets the bounds on the ratio
of candidate and base instead: 1 and `keep` in the place of 0 and -m, or 1 and 1 / `keep` where less is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import UnitError
from weighbridge.prove import intervals
from weighbridge.prove.intervals import Interval
from weighbridge.prove.metrics import Metric

Verdict = Literal["better", "equivalent", "worse", "undecided"]
ORDER: tuple[Verdict, ...] = ("worse", "undecided", "equivalent", "better")
"""From the weakest: the verdict on several metrics is the weakest of theirs."""
FEW_CLUSTERS = 30
"""Below it the interval of a skewed metric covered less than 93% of simulated pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a verdict needs: how sure, and how much may be lost, absolutely (`margin`) or as a share kept (`keep`)."""

    confidence: float = 0.95
    margin: float | None = None
    keep: float | None = None
    sequential: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence <= 0.9999:
            raise UnitError(f"the confidence is {self.confidence}", "a share from 0.5 to 0.9999", "correct it")
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise UnitError(f"the margin is {self.margin}", "a number of 0 or more", "correct it")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise UnitError(f"the share to keep is {self.keep}", "a share above 0 and up to 1", "correct it")
        if self.margin is not None and self.keep is not None:
            raise UnitError("a margin and a share to keep", "one of them", "leave one out")


@dataclass(frozen=True, slots=True)
class Pairs:
    """The sums of both models for the same examples, and the cluster of each example."""

    metric: Metric
    base: NDArray[np.float64]
    candidate: NDArray[np.float64]
    clusters: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Only these examples, clusters numbered anew."""
        _, clusters = np.unique(self.clusters[chosen], return_inverse=True)
        return Pairs(self.metric, self.base[chosen], self.candidate[chosen], clusters.astype(np.int64))

    @property
    def counts(self) -> NDArray[np.float64]:
        """The sums of each cluster: those of the base, then those of the candidate."""
        both = np.hstack([self.base, self.candidate])
        found = np.zeros((int(self.clusters.max()) + 1, both.shape[1]))
        np.add.at(found, self.clusters, both)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of two models on the same examples. `delta` is candidate minus base, `ratio` candidate over base.

    `p_value` is the exact test on answers that changed, for right and wrong answers that come alone. `needed` is how
    many examples would probably settle what is undecided. `slices` are the same for parts of the data, their confidence
    raised so that it holds for all of them together.
    """

    name: str
    base: float
    candidate: float
    delta: Interval
    ratio: Interval
    n: int
    clusters: int
    confidence: float
    margin: float | None
    verdict: Verdict
    reason: str
    needed: int | None = None
    p_value: float | None = None
    higher_is_better: bool = True
    gates: bool = True
    warnings: tuple[str, ...] = ()
    slices: Mapping[str, Comparison] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One entry of `metrics` in the JSON contract; a bound that is not finite is null."""

        def plain(number: float | None) -> float | None:
            return number if number is not None and math.isfinite(number) else None

        return {
            "name": self.name, "base": plain(self.base), "candidate": plain(self.candidate),
            "delta": plain(self.delta.value), "interval": [plain(self.delta.low), plain(self.delta.high)],
            "ratio": plain(self.ratio.value), "ratio_interval": [plain(self.ratio.low), plain(self.ratio.high)],
            "confidence": self.confidence, "n": self.n, "clusters": self.clusters, "margin": plain(self.margin),
            "verdict": self.verdict, "reason": self.reason, "examples_needed": self.needed, "p_value": self.p_value,
            "higher_is_better": self.higher_is_better, "gates": self.gates, "warnings": list(self.warnings),
            "slices": [{"slice": name, **part.to_json()} for name, part in self.slices.items()],
        }  # fmt: skip


def compare(
    pairs: Pairs, rule: Rule, slices: Mapping[str, NDArray[np.bool_]] | None = None, *, is_asked: bool = False
) -> Comparison:
    """One metric over all examples, and over each slice at a confidence that holds for all slices together.

    A distance decides only where it `is_asked` for, with what may be lost, and a metric that tells only where it is
    asked for.

    Example:
        >>> from weighbridge.prove.metrics import METRICS
        >>> right = np.array([[1.0, 1.0]] * 90 + [[0.0, 1.0]] * 10)
        >>> pairs = Pairs(METRICS["acc"], right, right[::-1], np.arange(100))
        >>> found = compare(pairs, Rule(margin=0.2))
        >>> found.delta.value, found.verdict
        (0.0, 'equivalent')
    """
    metric = pairs.metric
    gates = is_asked or not (metric.tells_only or metric.is_distance)
    if metric.is_distance and rule.margin is None:  # of a distance of 0 no share can be kept
        gates = gates and rule.keep is not None and metric.higher_is_better
    whole = _compare(pairs, rule, gates)
    if not slices:
        return whole
    alone = 1 - (1 - rule.confidence) / len(slices)
    parts = {name: _compare(pairs.where(chosen), replace(rule, confidence=alone), gates)
             for name, chosen in slices.items() if chosen.any()}  # fmt: skip
    return replace(whole, slices=parts)


def overall(comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """The verdict on all metrics that decide: the weakest, and worse when a slice is worse.

    A slice that is undecided does not weaken it: small slices always are.
    """
    deciding = [found for found in comparisons if found.gates]
    for found in deciding:
        if found.verdict != "worse" and (bad := [n for n, part in found.slices.items() if part.verdict == "worse"]):
            return "worse", f"{found.name} is worse where {', '.join(bad)}"
    if not deciding:
        return "undecided", "no metric decides: name one with --metric, and a --margin"
    weakest = min(deciding, key=lambda found: ORDER.index(found.verdict))
    return weakest.verdict, f"{weakest.name}: {weakest.reason}"


def _compare(pairs: Pairs, rule: Rule, gates: bool) -> Comparison:
    metric = pairs.metric
    if metric.prepare is not None:
        pairs = replace(pairs, base=metric.prepare(pairs.base), candidate=metric.prepare(pairs.candidate))
    counts = pairs.counts
    width, total = pairs.base.shape[1], counts.sum(axis=0)
    base, candidate = float(metric.value(total[:width])), float(metric.value(total[width:]))

    def difference(sums: Any) -> Any:
        return metric.value(sums[..., width:]) - metric.value(sums[..., :width])

    def quotient(sums: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return metric.value(sums[..., width:]) / metric.value(sums[..., :width])

    p_value = None
    if metric.is_share:
        delta = intervals.paired_shares(pairs.base[:, 0], pairs.candidate[:, 0], pairs.clusters, rule.confidence)
        ratio = _scaled(delta, base)
        lost = int(((pairs.base[:, 0] == 1) & (pairs.candidate[:, 0] == 0)).sum())
        won = int(((pairs.base[:, 0] == 0) & (pairs.candidate[:, 0] == 1)).sum())
        p_value = intervals.mcnemar(lost, won) if len(counts) == len(pairs.base) else None  # it knows no clusters
    else:
        delta, ratio = intervals.bootstrap(counts, (difference, quotient), rule.confidence, rule.seed)
        if metric.is_count and delta.error == 0.0:
            open_ = intervals.unchanged(len(counts), rule.confidence)
            delta = Interval(delta.value, delta.value - open_, delta.value + open_, 0.0)
            ratio = _scaled(delta, base)
    delta = _within(metric, base, delta)
    if rule.sequential:
        delta, ratio = (_at_any_time(found, len(counts), rule.confidence) for found in (delta, ratio))
    verdict, reason, needed = _decide(metric, base, delta, ratio, rule, len(counts))
    per_cluster = len(pairs.base) / len(counts)
    return Comparison(
        name=metric.name, base=base, candidate=candidate, delta=delta, ratio=ratio, n=len(pairs.base),
        clusters=len(counts), confidence=rule.confidence, margin=rule.margin, verdict=verdict, reason=reason,
        needed=None if needed is None else math.ceil(needed * per_cluster), p_value=p_value,
        higher_is_better=metric.higher_is_better, gates=gates,
        warnings=_warnings(metric, pairs, len(counts)),
    )  # fmt: skip


def _within(metric: Metric, base: float, delta: Interval) -> Interval:
    """An interval of a difference that the metric can have; the distance of a base from itself is what it is."""
    if metric.bounds is None or not math.isfinite(delta.value):
        return delta
    low, high = metric.bounds
    down, up = (low - base, high - base) if metric.is_distance else (low - high, high - low)
    return Interval(delta.value, max(delta.low, down), min(delta.high, up), delta.error)


def _at_any_time(found: Interval, clusters: int, confidence: float) -> Interval:
    """The interval for many looks; a standard error of nothing is taken from the interval for one."""
    half = max(found.high - found.value, found.value - found.low)
    error = max(found.error, half / NormalDist().inv_cdf((1 + confidence) / 2)) if found.error == 0.0 else found.error
    return intervals.anytime(found.value, error, clusters, confidence)


def _scaled(delta: Interval, base: float) -> Interval:
    """The ratio of candidate and base from their difference, the base being taken as it was found."""
    if not base:
        return Interval(math.nan, -math.inf, math.inf, math.inf)
    return Interval(1 + delta.value / base, 1 + delta.low / base, 1 + delta.high / base, delta.error / base)


def _decide(
    metric: Metric, base: float, delta: Interval, ratio: Interval, rule: Rule, clusters: int
) -> tuple[Verdict, str, int | None]:  # fmt: skip
    """The verdict, why, and how many clusters would probably settle it."""
    less_is_better = not metric.higher_is_better
    if rule.keep is None:
        found = _mirrored(delta) if less_is_better else delta
        neutral, bound, told = 0.0, -(rule.margin or 0.0), f"a loss of {rule.margin or 0:g}"
    else:
        found = _mirrored(ratio) if less_is_better else ratio
        neutral, bound = (-1.0, -1 / rule.keep) if less_is_better else (1.0, rule.keep)
        told = f"{rule.keep:g} of the base kept"
    if rule.keep is not None and not base > 0:
        return "undecided", f"the base is {base:.4g}, of which no share can be kept: name a --margin", None
    if less_is_better and delta.value == math.inf:
        return "worse", "the candidate gives no probability to what stands there", None
    if not math.isfinite(found.value):
        return "undecided", "the metric has no value on these examples", None
    if not math.isfinite(found.low):
        return "undecided", f"{clusters} examples or documents are too few to say anything", None
    if found.low > neutral:
        return "better", "all of the interval is better than no difference", None
    if found.low >= bound:
        return "equivalent", f"the interval lies within {told}", None
    if found.high < bound:
        return "worse", f"all of the interval lies beyond {told}", None
    if delta.value == 0.0 and found.error == 0.0 and rule.keep is None and rule.margin:  # the rule of three
        enough = math.ceil(math.log((1 - rule.confidence) / 2) / math.log1p(-min(rule.margin, 0.999)))
        return (
            "undecided",
            f"no answer changed, and {clusters:,} are too few to rule out {told}",
            max(enough, clusters + 1),
        )
    error = found.error
    if rule.sequential:
        error = (found.high - found.low) / 2 / NormalDist().inv_cdf((1 + rule.confidence) / 2)
    needed = intervals.power_of(abs(found.value - bound), error, clusters, rule.confidence)
    if found.high < neutral:
        return "undecided", f"there is a loss, and whether it lies within {told} is open", needed
    if not bound and rule.keep is None:
        return "undecided", "the interval reaches from a loss to a gain, and no --margin says what may be lost", needed
    return "undecided", f"the interval reaches from beyond {told} to no loss", needed


def _mirrored(found: Interval) -> Interval:
    """The same where more is better."""
    return Interval(-found.value, -found.high, -found.low, found.error)


def _warnings(metric: Metric, pairs: Pairs, clusters: int) -> tuple[str, ...]:
    found = []
    if clusters < FEW_CLUSTERS:
        what = "examples" if clusters == len(pairs.base) else "documents"
        found.append(f"only {clusters} {what}: intervals of skewed metrics are then too narrow")
    if metric.sums[0] == "true_positives" and (positives := pairs.base[:, (0, 2)].sum()) < FEW_CLUSTERS:
        found.append(f"only {positives:.0f} positive examples")
    return tuple(found)
