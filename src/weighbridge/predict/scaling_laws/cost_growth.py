"""By which power of its size does the cost of a model grow? From costs that are listed, and by the laws of training.

    between two models  = ln(cost / cost) / ln(size / size)
    that suits the size = ln(C / C) / ln(size / size), C being the operations that a law gives each size

With 20 tokens a parameter C = 120 N^2, and the power is 2; with the same tokens for both it is 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.bill import MOST_USD
from weighbridge.predict.scaling_laws.forms import Law
from weighbridge.predict.training.money import cost_exponent
from weighbridge.units import parse_count


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model of a size cost to train, as somebody states."""

    parameters: int
    usd: Estimate


@dataclass(frozen=True, slots=True)
class CostGrowth:
    """Costs from the smallest model to the largest, the power between each two, and that of laws between the ends."""

    costs: tuple[Cost, ...]
    steps: tuple[tuple[Cost, Cost, Estimate], ...]
    laws: tuple[tuple[Law, float], ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh scaling exponent`."""
        return {
            "costs": [{"parameters": one.parameters, "usd": one.usd.to_json()} for one in self.costs],
            "exponents": [{"from": small.parameters, "to": large.parameters, "exponent": exponent.to_json()}
                          for small, large, exponent in self.steps],
            "laws": [{"law": law.name, "exponent": exponent} for law, exponent in self.laws],
        }  # fmt: skip


def parse_cost(text: str) -> Cost:
    """A size and its cost in USD: `175B=4.6M`, or with the least and the most, `540B=15M-20M`.

    Raises:
        UnitError: for anything else.

    Example:
        >>> found = parse_cost("540B=15M-20M")
        >>> found.parameters, found.usd.low, found.usd.high
        (540000000000, 15000000, 20000000)
    """
    size, equals, usd = text[:100].partition("=")
    if not equals:
        raise UnitError(f"the cost {text[:100]!r}", "SIZE=USD or SIZE=USD-USD, such as 540B=15M-20M", "write it so")
    least, _, most = usd.partition("-")
    low = parse_count(least)
    high = parse_count(most) if most else low
    if not 0 < low <= high <= MOST_USD:
        expected = f"USD above 0, up to {MOST_USD:g}, the smaller number first"
        raise UnitError(f"the cost {text[:100]!r}", expected, "correct it")
    return Cost(parse_count(size), Estimate((low + high) / 2, low, high, "USD", Basis.SPECIFIED, "as given"))


def cost_growth(costs: Sequence[Cost], laws: Sequence[Law]) -> CostGrowth:
    """How cost grows from each size to the next, and from the smallest to the largest where there are more than two.

    Raises:
        UnitError: for fewer than two sizes, or two costs of one.

    Example:
        >>> found = cost_growth([parse_cost("175B=4.6M"), parse_cost("540B=15M-20M")], [])
        >>> [round(one, 2) for one in (found.steps[0][2].low, found.steps[0][2].high)]
        [1.05, 1.3]
    """
    if len(costs) < 2:
        raise UnitError(f"{len(costs)} cost", "two or more, each of another size", "add one, such as 540B=15M-20M")
    ordered = tuple(sorted(costs, key=lambda one: one.parameters))
    pairs = list(itertools.pairwise(ordered))
    if len(ordered) > 2:
        pairs.append((ordered[0], ordered[-1]))
    steps = tuple((small, large, cost_exponent((small.parameters, small.usd), (large.parameters, large.usd)))
                  for small, large in pairs)  # fmt: skip
    return CostGrowth(ordered, steps, tuple((law, _of_law(law, ordered[0], ordered[-1])) for law in laws))


def _of_law(law: Law, small: Cost, large: Cost) -> float:
    """The power by which the operations grow that suit each size."""
    flops = law.flops_for_parameters(large.parameters) / law.flops_for_parameters(small.parameters)
    return math.log(flops) / math.log(large.parameters / small.parameters)
