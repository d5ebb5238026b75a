"""What does a right answer cost? The price of a request over the share of right answers.

A model that is cheaper by the request can be dearer by the right answer: of n requests a share a is right, and the
others are paid for as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.prove.comparison import Comparison


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars for a right answer of both models by one metric, and candidate over base with its interval."""

    metric: str
    usd_per_request: tuple[float, float]
    base_usd: float
    candidate_usd: float
    ratio: float
    low: float
    high: float

    @property
    def turns(self) -> bool:
        """Whether the model that is cheaper by the request is the dearer one by the right answer."""
        first, second = self.usd_per_request
        return bool((first - second) * (1.0 if self.base_usd > self.candidate_usd else -1.0) < 0) and (
            self.base_usd != self.candidate_usd)  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The part `cost_per_correct`; what is not finite is null."""

        def plain(number: float) -> float | None:
            return number if math.isfinite(number) else None

        return {"metric": self.metric, "usd_per_request": list(self.usd_per_request), "base_usd": plain(self.base_usd),
                "candidate_usd": plain(self.candidate_usd), "ratio": plain(self.ratio),
                "ratio_interval": [plain(self.low), plain(self.high)], "ranking_flips": self.turns}  # fmt: skip


def per_correct(found: Comparison, usd_per_request: tuple[float, float]) -> Cost:
    """What a right answer costs, by the share of right answers in a comparison.

    Args:
        found: of a metric that is a share of right answers.
        usd_per_request: of the base and of the candidate.

    Raises:
        UnitError: when a price is none.

    Example:
        >>> import numpy as np
        >>> from weighbridge.prove.comparison import Pairs, Rule, compare
        >>> from weighbridge.prove.metrics import METRICS
        >>> base = np.array([[1.0, 1.0]] * 90 + [[0.0, 1.0]] * 10)
        >>> candidate = np.array([[1.0, 1.0]] * 30 + [[0.0, 1.0]] * 70)
        >>> pairs = Pairs(METRICS["accuracy"], base, candidate, np.arange(100))
        >>> cost = per_correct(compare(pairs, Rule()), (0.002, 0.001))
        >>> round(cost.base_usd, 5), round(cost.candidate_usd, 5), cost.turns
        (0.00222, 0.00333, True)
    """
    first, second = usd_per_request
    if not all(0 < price < math.inf for price in usd_per_request):
        raise UnitError(f"prices of {first} and {second} US dollars", "two numbers above 0", "correct them")

    def over(price: float, share: float) -> float:
        return price / share if share > 0 else math.inf

    base, candidate = over(first, found.base), over(second, found.candidate)
    if not found.base > 0:  # against what has no price nothing can be set
        return Cost(found.name, usd_per_request, base, candidate, math.nan, math.nan, math.nan)
    ratio, low, high = (over(second / first, share) for share in (found.ratio.value, found.ratio.high, found.ratio.low))
    return Cost(found.name, usd_per_request, base, candidate, ratio, low, high)
