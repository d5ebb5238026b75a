"""What is data worth that is read again, and which model suits data that cannot grow?

U unique tokens, read R times more, are worth D' = U + U R* (1 - exp(-R / R*)) fresh ones; parameters beyond those that
suit U lose value likewise (Muennighoff et al. 2023, section 3 and Appendix A). R* is 15.4 for data and 5.3 for
parameters: four epochs are nearly as good as fresh data, and after some sixteen further ones hardly count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.predict.scaling_laws.forms import FLOPS_PER_PARAMETER, Additive
from weighbridge.predict.scaling_laws.laws import additive_law

LAW = "muennighoff"
MOST_EPOCHS = 500.0
"""The most of the runs behind the law."""
NEARLY_FRESH, HARDLY = 4.0, 16.0


def effective_tokens(unique_tokens: float, epochs: float, repeated: float = 15.387756) -> float:
    """How many fresh tokens so many epochs of unique ones are worth.

    Raises:
        UnitError: for no tokens, less than one epoch, or more than a million.

    Example:
        >>> round(effective_tokens(1.0, 4.0), 2), effective_tokens(100.0, 1.0)
        (3.73, 100.0)
    """
    if not (unique_tokens > 0 and math.isfinite(unique_tokens) and 1.0 <= epochs <= 1e6):
        read = f"{unique_tokens:g} unique tokens in {epochs:g} epochs"
        raise UnitError(read, "more than 0 tokens and 1 to 1e6 epochs", "correct them")
    return unique_tokens * (1.0 + repeated * -math.expm1(-(epochs - 1.0) / repeated))


def worth_of_last(epochs: float, repeated: float = 15.387756) -> float:
    """What a token of the last of so many epochs is worth of a fresh one.

    Example:
        >>> round(worth_of_last(4.0), 2), round(worth_of_last(17.0), 2)
        (0.82, 0.35)
    """
    return math.exp(-(epochs - 1.0) / repeated)


def repeated_loss(parameters: float, tokens: float, unique_tokens: float) -> float:
    """The loss of a run that reads its unique tokens as often as its tokens ask for, in nats a token of C4.

    Example:
        >>> fresh, four = repeated_loss(1e9, 20e9, 20e9), repeated_loss(1e9, 20e9, 5e9)
        >>> round(four - fresh, 3)
        0.033
    """
    law = additive_law(LAW)
    unique = min(tokens, unique_tokens)
    return _loss(law, parameters, unique, tokens / unique)


def _loss(law: Additive, parameters: float, unique: float, epochs: float) -> float:
    assert law.repeated_tokens is not None and law.repeated_parameters is not None
    suits = min(law.optimal_parameters(law.flops_for_tokens(unique)), parameters)
    beyond = parameters / suits - 1.0
    size = suits * (1.0 + law.repeated_parameters * -math.expm1(-beyond / law.repeated_parameters))
    return law.loss(size, effective_tokens(unique, epochs, law.repeated_tokens))


@dataclass(frozen=True, slots=True)
class Repeated:
    """The best split of a budget over a model and epochs of so many unique tokens."""

    unique_tokens: float
    flops: float
    parameters: float
    tokens: float
    effective_tokens: float
    loss: float
    fresh_loss: float
    notes: tuple[str, ...]

    @property
    def epochs(self) -> float:
        """How often the data is read."""
        return self.tokens / min(self.tokens, self.unique_tokens)

    def to_json(self) -> dict[str, Any]:
        """The part `repeated` of `weigh scaling optimum`."""
        return {
            "law": LAW, "unique_tokens": self.unique_tokens, "flops": self.flops, "parameters": self.parameters,
            "tokens": self.tokens, "epochs": self.epochs, "effective_tokens": self.effective_tokens,
            "worth_of_last_epoch": worth_of_last(self.epochs), "loss": self.loss, "fresh_loss": self.fresh_loss,
            "notes": list(self.notes),
        }  # fmt: skip


def repeated_optimum(flops: float, unique_tokens: float) -> Repeated:
    """The model and the epochs that suit a budget where only so many unique tokens exist.

    Raises:
        UnitError: for no budget or no tokens.

    Example:
        >>> found = repeated_optimum(1e21, 10e9)
        >>> 4 < found.epochs < 8
        True
    """
    if not (flops > 0 and math.isfinite(flops) and 1.0 <= unique_tokens <= 1e20):
        read = f"{flops:g} operations and {unique_tokens:g} unique tokens"
        raise UnitError(read, "some operations and 1 to 1e20 tokens", "correct them")
    law = additive_law(LAW)
    fresh = law.optimal_tokens(flops)
    fresh_loss = law.loss(law.optimal_parameters(flops), fresh)
    best, tokens = fresh_loss, fresh
    if fresh > unique_tokens:
        ratio = min(1e3 * fresh / unique_tokens, 1e6)
        grid = [unique_tokens * ratio ** (i / 2000) for i in range(2001)]
        best, tokens = min(
            (_loss(law, flops / (FLOPS_PER_PARAMETER * one), unique_tokens, one / unique_tokens), one)
            for one in grid
        )  # fmt: skip
    unique = min(tokens, unique_tokens)
    epochs = tokens / unique
    notes = []
    if epochs > HARDLY:
        notes.append(f"after about {HARDLY:.0f} epochs further ones hardly count: find data rather than compute")
    elif epochs > NEARLY_FRESH:
        notes.append(f"beyond {NEARLY_FRESH:.0f} epochs a repeated token is worth less and less of a fresh one")
    if epochs > MOST_EPOCHS:
        notes.append(f"no run behind the law reads its data more than {MOST_EPOCHS:.0f} times")
    assert law.repeated_tokens is not None
    return Repeated(unique_tokens, flops, flops / (FLOPS_PER_PARAMETER * tokens), tokens,
                    effective_tokens(unique, epochs, law.repeated_tokens), best, fresh_loss, tuple(notes))  # fmt: skip
