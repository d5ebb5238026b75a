"""How do latency and cost of one replica change with its load?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weighbridge.load_search import WARM_UP, sample_of
from weighbridge.loading import PERCENTS, Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One replica at one rate: percentiles of each measure in seconds, and what a million tokens of answers cost."""

    requests_per_s: float
    seconds: Mapping[str, Mapping[str, float]]
    usd_per_million_output_tokens: float | None


def curve(found: Load, points: int = 14) -> list[Point]:
    """Latency and cost of one replica over its load, up to what it bears at most."""
    most = found.bearable.value or 0.0
    sample = sample_of(found.traffic, found.seed, is_poisson=bool(found.clients))
    hour, done = found.usd_per_hour.value, []
    for share in np.linspace(0.05, 0.98, points):
        outcome = found.engine.run(sample.at_rate(most * float(share))).after(int(WARM_UP * len(sample)))
        seconds = {name: {f"p{percent:g}": value for percent in sorted({*PERCENTS, found.percent})
                          if (value := outcome.percentile(name, percent)) is not None}
                   for name in ("ttft_s", "tpot_s", "e2e_s")}  # fmt: skip
        usd = None if hour is None else hour / found.replicas / 3600 / outcome.output_tokens_per_s * 1e6
        done.append(Point(requests_per_s=most * float(share), seconds=seconds, usd_per_million_output_tokens=usd))
    return done


def knee(points: Sequence[Point]) -> float | None:
    """The rate from which one in twenty requests takes over twice as long as on a machine that is all but idle."""
    alone = points[0].seconds["e2e_s"]["p95"]
    return next((point.requests_per_s for point in points if point.seconds["e2e_s"]["p95"] > 2 * alone), None)
