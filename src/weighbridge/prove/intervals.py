"""How sure is a difference between two models that answered the same examples?

What a metric counts is summed for each cluster: an example, or a document with several. Every effect (a difference, a
ratio) is a function of the sums over all clusters, so that clusters can be drawn again with all that they hold.

- `bootstrap`: bias-corrected and accelerated intervals over clusters (Efron 1987, "Better bootstrap confidence
  intervals"), with tails moved out for few clusters (Hesterberg 2015, "What teachers should know about the bootstrap",
  section 5: the expanded percentile). With few clusters, beyond `MOST_CLUSTERS` and where the correction breaks down,
  the standard error of the jackknife times Student's t.
- `paired_shares`: right and wrong answers. The score intervals (Wilson 1927) of the answers won and of those lost are
  joined as variances are (the square-and-add of Newcombe 1998, "Improved confidence intervals for the difference
  between binomial proportions based on paired data", on the two shares that differ). His method 10 joins the shares of
  right answers: where nothing changed and half is right it called 12 of 100 losses of a margin equivalent. An interval
  that the exact test of McNemar contradicts is widened to no difference; clusters shrink the number of examples by
  their design effect, which is known with as many degrees of freedom as there are clusters, less one (Student's t).
- `anytime`: valid however often it is looked at while data arrive (Waudby-Smith and others 2021, "Time-uniform central
  limit theory and asymptotic confidence sequences", theorem 2.2).
- `mcnemar`: the exact test on answers that changed (McNemar 1947; binomial).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""One row for each cluster, one column for each sum."""
Effect = Callable[[Any], Any]
"""From sums, of one set of clusters or of many along the first axis, to a number each."""

RESAMPLES = 4000
MOST_CLUSTERS = 4000
"""Beyond so many clusters the central limit does what drawing them again would do, at a thousandth of the cost."""
FEWEST_DRAWN = 10
"""With fewer clusters there are too few ways to draw them: the jackknife and Student's t are used as well."""
CHUNK = 2_000_000
"""Numbers that are drawn at once."""
FEWEST_CHANGED = 10
"""With fewer answers that changed an interval has to agree with the exact test."""
FIRST_LOOK = 30
LOOKS_TIGHTEST_AT = 500
"""Clusters at which the interval for many looks is the least wider than that for one."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """An effect between two bounds, and its standard error."""

    value: float
    low: float
    high: float
    error: float


def t_quantile(share: float, freedom: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy import stats

    return float(stats.t.ppf(share, freedom))


def jackknife(counts: Counts, effect: Effect) -> NDArray[np.float64]:
    """The effect without each cluster in turn."""
    return np.asarray(effect(counts.sum(axis=0) - counts), dtype=np.float64)


def bootstrap(counts: Counts, effects: Sequence[Effect], confidence: float, seed: int) -> list[Interval]:
    """Intervals of effects by drawing clusters again; of infinite width with fewer than two clusters.

    Example:
        >>> sums = np.array([[1.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
        >>> found, = bootstrap(sums, [lambda sums: sums[..., 1] - sums[..., 0]], 0.95, seed=0)
        >>> found.value, found.low < 2.0 < found.high
        (2.0, True)
    """
    clusters = len(counts)
    if not np.isfinite(counts).all():  # a probability of nothing
        whole = counts.sum(axis=0)
        return [Interval(float(effect(whole)), -math.inf, math.inf, math.inf) for effect in effects]
    drawn = _drawn(counts, seed) if 2 <= clusters <= MOST_CLUSTERS else None
    return [_interval(counts, effect, drawn, confidence) for effect in effects]


def _interval(counts: Counts, effect: Effect, sums: Counts | None, confidence: float) -> Interval:
    clusters = len(counts)
    value = float(effect(counts.sum(axis=0)))
    if clusters < 2 or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf, math.inf)
    without = jackknife(counts, effect)
    if not np.isfinite(without).all():  # it has no value without one of the clusters
        return Interval(value, -math.inf, math.inf, math.inf)
    centred = without.mean() - without
    squares = float((centred**2).sum())
    error = math.sqrt((clusters - 1) / clusters * squares)
    if error == 0.0:
        return Interval(value, value, value, 0.0)
    t = t_quantile((1 + confidence) / 2, clusters - 1)
    plain = Interval(value, value - t * error, value + t * error, error)
    if sums is None:
        return plain
    drawn = np.asarray(effect(sums), dtype=np.float64)
    drawn = np.sort(drawn[np.isfinite(drawn)])
    if not len(drawn):
        return Interval(value, -math.inf, math.inf, error)
    if clusters < FEWEST_DRAWN:
        return plain
    below = ((drawn < value).sum() + 0.5 * (drawn == value).sum()) / len(drawn)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn)))
    acceleration = float((centred**3).sum()) / (6 * squares**1.5)
    z = -math.sqrt(clusters / (clusters - 1)) * t
    bounds = []
    for side in (z, -z):
        turn = 1 - acceleration * (bias + side)
        if turn <= 0:  # the correction has no meaning so far out
            return plain
        bounds.append(float(np.quantile(drawn, _NORMAL.cdf(bias + (bias + side) / turn))))
    found = Interval(value, bounds[0], bounds[1], error)
    return found if found.low <= value <= found.high else plain


def _drawn(counts: Counts, seed: int) -> Counts:
    """The sums over as many clusters, drawn with replacement, once for each resample."""
    generator, clusters = np.random.default_rng(seed), len(counts)
    each = max(1, CHUNK // clusters)
    parts = []
    for start in range(0, RESAMPLES, each):
        size = min(each, RESAMPLES - start)
        places = generator.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        parts.append(np.bincount(places.ravel(), minlength=size * clusters).reshape(size, clusters) @ counts)
    return np.concatenate(parts)


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """The score interval of one proportion (Wilson 1927).

    Example:
        >>> [round(bound, 4) for bound in wilson(0.0, 10, 1.96)]
        [0.0, 0.2775]
    """
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def paired_shares(base: Counts, candidate: Counts, clusters: NDArray[np.int64], confidence: float) -> Interval:
    """An interval of the difference in the share of right answers, candidate minus base.

    Args:
        base: 1 for a right answer, 0 for a wrong one, for each example.
        candidate: the same of the other model.
        clusters: the number of the cluster of each example, from 0.
        confidence: of the interval.

    Example:
        >>> right = np.array([1.0] * 36 + [0.0] * 14)
        >>> other = np.array([1.0] * 20 + [0.0] * 30)
        >>> found = paired_shares(right, other, np.arange(50), 0.95)
        >>> round(found.value, 3), found.high < 0
        (-0.32, True)
    """
    n = len(base)
    difference = candidate - base
    value = float(difference.mean())
    each = np.bincount(clusters, weights=difference - value)
    many = len(each)
    if many < 2 <= n:  # one cluster of several examples: how clusters differ is not to be seen
        return Interval(value, -1.0, 1.0, math.inf)
    independent = float(((difference - value) ** 2).sum())
    together = float((each**2).sum()) * (many / max(1, many - 1)) * ((n - 1) / n)
    effect = max(1.0, together / independent) if independent else n / many
    size = n / effect
    z = _NORMAL.inv_cdf((1 + confidence) / 2) if many == n else t_quantile((1 + confidence) / 2, many - 1)
    won, lost = float((candidate * (1 - base)).mean()), float((base * (1 - candidate)).mean())
    low_won, high_won = wilson(won, size, z)
    low_lost, high_lost = wilson(lost, size, z)
    spread = math.sqrt(won * (1 - won) * lost * (1 - lost))
    apart = won * lost / spread if spread else 0.0  # answers that are won cannot be lost: minus the correlation
    down, up = (
        math.sqrt(one * one + other * other + 2 * apart * one * other)
        for one, other in ((won - low_won, high_lost - lost), (high_won - won, lost - low_lost))
    )
    low, high = value - down, value + up
    changed = round((won + lost) * n)
    if many == n and changed < FEWEST_CHANGED and mcnemar(round(lost * n), round(won * n)) > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    error = math.sqrt(independent / n / max(1.0, size - 1))
    return Interval(value, max(-1.0, low), min(1.0, high), error)


def unchanged(clusters: int, confidence: float) -> float:
    """How large a share may have changed when none of so many did: what the rule of three says of 95%.

    Example:
        >>> round(unchanged(10, 0.95), 3), round(unchanged(1000, 0.95), 4)
        (0.308, 0.0037)
    """
    return float(1 - ((1 - confidence) / 2) ** (1 / max(1, clusters)))


def anytime(value: float, error: float, clusters: int, confidence: float) -> Interval:
    """An interval that holds at all times at once while clusters keep coming, from a
    standard error.

    It rests on the central limit, so that nothing is said before `FIRST_LOOK` clusters.

    Example:
        >>> found = anytime(0.0, 0.1, 100, 0.95)
        >>> 0.196 < found.high < 0.4, anytime(0.0, 0.1, 10, 0.95).high
        (True, inf)
    """
    alpha = 1 - confidence
    rho = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / LOOKS_TIGHTEST_AT
    n = max(1, clusters)
    if n < FIRST_LOOK or not math.isfinite(value) or not math.isfinite(error):
        return Interval(value, -math.inf, math.inf, error)
    half = error * math.sqrt(2 * (n * rho + 1) / (n * rho) * math.log(math.sqrt(n * rho + 1) / alpha))
    return Interval(value, value - half, value + half, error)


def mcnemar(only_base: int, only_candidate: int) -> float:
    """The exact p-value of as uneven a split of the answers that changed, when both directions are as likely.

    Example:
        >>> mcnemar(0, 0), round(mcnemar(1, 9), 4)
        (1.0, 0.0215)
    """
    changed = only_base + only_candidate
    if not changed:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(only_base, changed, 0.5).pvalue)


def power_of(distance: float, error: float, clusters: int, confidence: float, power: float = 0.8) -> int | None:
    """Clusters with which an effect at this distance from the nearest bound would be told from it; None at the bound.

    The standard error is taken to shrink with the square root of the number of clusters.
    """
    if distance <= 0 or not math.isfinite(error) or not error:
        return None
    z = _NORMAL.inv_cdf((1 + confidence) / 2) + _NORMAL.inv_cdf(power)
    return max(clusters + 1, math.ceil(clusters * (z * error / distance) ** 2))
