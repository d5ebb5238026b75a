"""How large a model is worth training when it will serve many tokens?

For a wanted loss, the model and its tokens that take the least operations over a life: 6 N D for training and 2 N for
each served token (Sardana et al. 2023, equation 2). At D_served = 0 that is the optimum of training alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.scaling_laws.forms import Law
from weighbridge.predict.scaling_laws.laws import DEFAULT, find_law
from weighbridge.predict.scaling_laws.optimum import FORWARD_FLOPS_PER_PARAMETER, flops_for_loss, outside

MOST_TOKENS_PER_PARAMETER = 10_000.0
"""The longest runs that Sardana et al. trained; laws say nothing of longer ones."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Served:
    """The best model for a loss and a number of served tokens, beside that of training alone."""

    law: Law
    loss: float
    served_tokens: float
    parameters: float
    tokens: float
    training_flops: float
    served_flops: float
    plain_parameters: float
    plain_tokens: float
    plain_flops: float
    notes: tuple[str, ...]

    @property
    def saved(self) -> float:
        """The share of all operations that the smaller model saves."""
        return 1.0 - (self.training_flops + self.served_flops) / self.plain_flops

    def to_json(self) -> dict[str, Any]:
        """The part `served` of `weigh scaling optimum`."""
        basis = Basis.ASSUMED if self.notes else Basis.MODELLED
        note = "no interval: the law's own constants"

        def number(value: float, unit: str) -> dict[str, Any]:
            return Estimate(value, value, value, unit, basis, note).to_json()

        return {
            "law": self.law.name, "loss": self.loss, "served_tokens": self.served_tokens,
            "parameters": number(self.parameters, "parameters"), "tokens": number(self.tokens, "tokens"),
            "tokens_per_parameter": self.tokens / self.parameters,
            "training_flops": self.training_flops, "served_flops": self.served_flops,
            "training_alone": {"parameters": self.plain_parameters, "tokens": self.plain_tokens,
                               "all_flops": self.plain_flops},
            "saved": self.saved, "notes": list(self.notes),
        }  # fmt: skip


def served_optimum(loss: float, served_tokens: float, law: Law | str = DEFAULT) -> Served:
    """The model that reaches a loss and then serves so many tokens with the least operations in all.

    Raises:
        UnitError: when the law gives no loss, or none of its models reaches this one.
        UnknownNameError: for a law that is not known.

    Example:
        >>> found = served_optimum(2.0239, 2e12, "chinchilla-3")
        >>> round(found.plain_parameters / 1e9), round(found.parameters / 1e9, 1)
        (13, 7.1)
    """
    law = find_law(law) if isinstance(law, str) else law
    if not (math.isfinite(served_tokens) and 0 <= served_tokens <= 1e20):
        raise UnitError(f"{served_tokens:g} served tokens", "a number from 0 to 1e20", "correct it")
    least = flops_for_loss(law, loss)
    if least is None:
        read = f"a loss of {loss:g} by the law {law.name}"
        raise UnitError(read, "one that its models reach", "name a higher loss, or a law that gives losses")
    plain, text = law.optimal_parameters(least), law.optimal_tokens(least)

    def whole(log: float) -> float:
        tokens = law.tokens_at(loss, math.exp(log))
        if tokens is None:
            return math.inf
        return math.exp(log) * law.active_share * (6.0 * tokens + FORWARD_FLOPS_PER_PARAMETER * served_tokens)

    size = math.exp(_least(whole, _smallest(law, loss, plain), math.log(plain * 1.001)))
    tokens = law.tokens_at(loss, size)
    assert tokens is not None
    served = FORWARD_FLOPS_PER_PARAMETER * law.active_share
    notes = [outside(law, size, tokens)]
    if tokens / size > MOST_TOKENS_PER_PARAMETER:
        notes.append(f"{tokens / size:,.0f} tokens a parameter: no one trained so long")
    return Served(law, loss, served_tokens, size, tokens, law.training_flops(size, tokens),
                  served * size * served_tokens, plain, text, least + served * plain * served_tokens,
                  tuple(filter(None, notes)))  # fmt: skip


def _smallest(law: Law, loss: float, plain: float) -> float:
    """The logarithm of the smallest model that reaches a loss with any number of tokens."""
    low, high = math.log(1.0), math.log(plain)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if law.tokens_at(loss, math.exp(middle)) is None else (low, middle)
    return high


def _least(function: Any, low: float, high: float) -> float:
    """Where a function with one valley is least, by golden section."""
    one, two = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    first, second = function(one), function(two)
    for _ in range(120):
        if first <= second:
            high, two, second = two, one, first
            one = high - GOLDEN * (high - low)
            first = function(one)
        else:
            low, one, first = one, two, second
            two = low + GOLDEN * (high - low)
            second = function(two)
    return (low + high) / 2
