"""How much load does one replica bear, at most and within limits, and how many replicas does a load take?

Each is found by simulating a sample of the load at one rate after another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from weighbridge.estimate import Basis, Estimate
from weighbridge.load_engine import Engine
from weighbridge.predict.traffic import Traffic
from weighbridge.service_level import Limit, keeps

PROBED = 4_000
"""Requests for each rate that a search looks at."""
WINDOWS = 10
"""Stretches of a longer load that stand for the whole of it."""
WARM_UP = 0.1
"""The share of the first requests that are left out where a load is a sample of one that goes on."""
HEADROOM = 0.8
"""The share of what a machine can bear at most that it is given where no limits are named."""


def sample_of(traffic: Traffic, seed: int, *, is_poisson: bool = False) -> Traffic:
    """As many requests as a search looks at: stretches of a load, or all of it again and again when there are too few.

    The time between them is theirs, each stretch at the same rate, or that of a Poisson process where they all come at
    once, or are of clients.
    """
    if len(traffic) > PROBED:
        traffic = stretches(traffic, PROBED)
        each = np.diff(traffic.arrival_s, prepend=0.0).reshape(WINDOWS, -1)
        gaps = (each / np.maximum(each.mean(axis=1, keepdims=True), 1e-9)).ravel()
    else:
        gaps = np.resize(np.diff(traffic.arrival_s), PROBED) if len(traffic) > 1 else np.zeros(PROBED)
    chosen = np.resize(np.arange(len(traffic)), PROBED)
    if is_poisson or not gaps.sum() > 0:
        gaps = np.random.default_rng(seed).exponential(1.0, PROBED)
    return replace(traffic.picked(chosen), arrival_s=np.cumsum(gaps), lasts_s=0.0)


def highest_rate(traffic: Traffic) -> float:
    """Requests a second in the busiest whole hour of a log; on average where it is shorter."""
    hours = int(traffic.duration_s // 3600)
    counts = np.bincount((traffic.arrival_s // 3600).astype(int), minlength=1)[:hours]
    return max(traffic.rate, float(counts.max()) / 3600 if hours else 0.0)


def factors(built: Engine) -> tuple[float, float, float]:
    """How many times as long steps take: in the middle, at the slow and at the fast bound."""
    low, high = built.spread["tpot"]
    return 1.0, high, low


def between(middle: float, slow: float, fast: float) -> Estimate:
    """Requests a second, from simulations with steps in the middle and at both bounds."""
    return Estimate(middle, min(slow, middle), max(fast, middle), "request/s", Basis.MODELLED)


def bearable_rate(built: Engine, sample: Traffic, factor: float) -> float:
    """Requests a second that one replica ends when there are always more: the middle half of a burst."""
    burst = replace(sample, arrival_s=np.zeros(len(sample)), lasts_s=0.0)
    finish = np.sort(built.run(burst, factor).finish_s)
    quarter = len(finish) // 4
    return 2 * quarter / float(finish[3 * quarter] - finish[quarter])


def rate_within(
    built: Engine, sample: Traffic, limits: Sequence[Limit], percent: float, factor: float, most: float
) -> float:
    """The most requests a second with which one replica keeps all limits; 0 when even a lonely request breaks one."""

    def holds(rate: float) -> bool:
        outcome = built.run(sample.at_rate(rate), factor)
        return keeps(outcome.after(int(WARM_UP * len(sample))), limits, percent)

    low, high = most / 2**12, 1.2 * most
    if not holds(low):
        return 0.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return min(low, most)


def replicas_for(rate: float, bearable: Estimate, capacity: Estimate | None) -> int | None:
    """How many replicas a rate takes: within the limits, or else at `HEADROOM` of what they bear at most."""
    most = HEADROOM * (bearable.value or 0.0) if capacity is None else capacity.value
    return math.ceil(rate / most) if most else None


def stretches(traffic: Traffic, requests: int) -> Traffic:
    """So many requests of a longer load, in `WINDOWS` stretches that are evenly apart, one after another."""
    each = requests // WINDOWS
    begins = np.linspace(0, len(traffic) - each, WINDOWS).astype(int)
    chosen = (begins[:, None] + np.arange(each)).ravel()
    gaps = np.diff(traffic.arrival_s, prepend=0.0)[chosen]
    return replace(traffic.picked(chosen), arrival_s=np.cumsum(gaps), lasts_s=0.0)
