"""Which model and how many tokens suit a budget, a model or a data set? And is a planned run too short or too long?

Intervals are 90%. Of a law with a published spread of its constants they follow from it; of any other they are the
spread between the published laws of dense models at that budget, 1.645 standard deviations of the logarithm.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.scaling_laws.forms import FLOPS_PER_PARAMETER, Additive, Law, Ratio, solve
from weighbridge.predict.scaling_laws.laws import DEFAULT, find_law
from weighbridge.units import format_count

Z_90 = 1.645
DENSE = ("chinchilla-1", "chinchilla-2", "chinchilla-corrected", "muennighoff", "deepseek", "llama-3")
"""Those whose disagreement is the interval of a law without one of its own."""
ASSUMED_LOSS_ERROR = 0.05
"""Half of the interval of a loss whose law says nothing of its errors, or not beyond its runs."""
FORWARD_FLOPS_PER_PARAMETER = 2.0
RULE = "twenty"
"""What verdicts rest on where no law is named: its interval holds the three approaches at the size of Chinchilla."""
RANGES = {"flops": ("operations", 1e6, 1e34), "parameters": ("parameters", 1e2, 1e16), "tokens": ("tokens", 1e2, 1e18)}
"""What is taken: far beyond what anyone trains, on both sides."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best split of a budget by one law, and the loss that it reaches; `notes` say what it rests on."""

    law: Law
    flops: Estimate
    parameters: Estimate
    tokens: Estimate
    loss: Estimate
    notes: tuple[str, ...]

    @property
    def tokens_per_parameter(self) -> float:
        """D / N."""
        assert self.tokens.value is not None and self.parameters.value is not None
        return self.tokens.value / self.parameters.value

    def to_json(self) -> dict[str, Any]:
        """One entry of `weigh scaling optimum`."""
        return {
            "law": self.law.name, "counts": self.law.counts, "flops": self.flops.to_json(),
            "parameters": self.parameters.to_json(), "tokens": self.tokens.to_json(),
            "tokens_per_parameter": self.tokens_per_parameter, "loss": self.loss.to_json(), "notes": list(self.notes),
        }  # fmt: skip


def optimum(
    law: Law | str, *, flops: float | None = None, parameters: float | None = None, tokens: float | None = None
) -> Optimum:
    """The model and the tokens that suit one of: a budget of operations, a model, a data set.

    Raises:
        UnitError: unless exactly one is given, and it is above 0.
        UnknownNameError: for a law that is not known.

    Example:
        >>> found = optimum("twenty", parameters=70e9)
        >>> round(found.tokens.value / 1e12, 3)
        1.4
    """
    law = find_law(law) if isinstance(law, str) else law
    given = {name: value for name, value in (("flops", flops), ("parameters", parameters), ("tokens", tokens))
             if value is not None}  # fmt: skip
    if len(given) != 1:
        raise UnitError(f"{len(given)} of operations, parameters and tokens", "exactly one", "give one of them")
    name, value = next(iter(given.items()))
    _check(name, value)
    budget = (value if name == "flops" else law.flops_for_parameters(value) if name == "parameters"
              else law.flops_for_tokens(value))  # fmt: skip
    size, text = law.optimal_parameters(budget), law.optimal_tokens(budget)
    down, up, how = _width(law, budget)
    exponent = _exponent(law, budget)
    note = outside(law, size, text, budget)
    basis = Basis.ASSUMED if note or isinstance(law, Ratio) else Basis.MODELLED

    def around(value: float, unit: str, fixed: bool, low: float, high: float) -> Estimate:
        if fixed:
            return Estimate(value, value, value, unit, Basis.EXACT, "as given")
        return Estimate(value, value * math.exp(-low), value * math.exp(high), unit, basis, how)

    if name == "flops":
        n, d, c = (down, up), (up, down), (0.0, 0.0)
    elif name == "parameters":  # a law that asks for larger models at a budget gives this one a smaller budget
        n, d, c = (0.0, 0.0), (up / exponent, down / exponent), (up / exponent, down / exponent)
    else:
        n = c = (down / (1 - exponent), up / (1 - exponent))
        d = (0.0, 0.0)
    notes = tuple(filter(None, (law.note, note)))
    return Optimum(
        law, around(budget, "FLOP", name == "flops", *c), around(size, "parameters", name == "parameters", *n),
        around(text, "tokens", name == "tokens", *d), _loss(law, size, text), notes,
    )  # fmt: skip


def _check(name: str, value: float) -> None:
    what, least, most = RANGES[name]
    if not (math.isfinite(value) and least <= float(value) <= most):
        raise UnitError(f"{value:g} {what}", f"a number from {least:g} to {most:g}", "correct it")


def _width(law: Law, flops: float) -> tuple[float, float, str]:
    """How far the logarithm of the best N may be below and above at a budget, and where that is from."""
    if isinstance(law, Ratio):
        low, high = (0.5 * math.log(law.high_tokens_per_parameter / law.tokens_per_parameter),
                     0.5 * math.log(law.tokens_per_parameter / law.low_tokens_per_parameter))  # fmt: skip
        return low, high, "a rule of thumb; the interval is that of the approaches behind it"
    if isinstance(law, Additive) and law.covariance is not None:
        both = Z_90 * math.sqrt(_variance(law, _gradient_of_optimum(law, flops)))
        return both, both, "the spread of the law's constants over resampled runs"
    both = Z_90 * statistics.stdev(math.log(find_law(name).optimal_parameters(flops)) for name in DENSE)
    return both, both, "no interval is published: the spread between published laws at this budget"


def _exponent(law: Law, flops: float) -> float:
    """How the best N grows with the budget there."""
    return math.log(law.optimal_parameters(flops * 1.1) / law.optimal_parameters(flops / 1.1)) / math.log(1.21)


def _variance(law: Additive, gradient: tuple[float, ...]) -> float:
    assert law.covariance is not None
    return sum(one * other * law.covariance[i][j]
               for i, one in enumerate(gradient) for j, other in enumerate(gradient))  # fmt: skip


def _gradient_of_optimum(law: Additive, flops: float) -> tuple[float, ...]:
    """Of the logarithm of the best N by (log A, log B, log E, alpha, beta)."""
    total = law.alpha + law.beta
    log_g, log_c = math.log(law.balance), math.log(flops / (FLOPS_PER_PARAMETER * law.active_share))
    return (1 / total, -1 / total, 0.0,
            (1 / law.alpha - log_g) / total - law.beta * log_c / total**2,
            (-1 / law.beta - log_g) / total + law.alpha * log_c / total**2)  # fmt: skip


def outside(law: Law, parameters: float, tokens: float, flops: float | None = None) -> str:
    """How far outside of the runs behind a law something lies; empty when inside.

    Example:
        >>> outside(find_law("kaplan"), 70e9, 1e9)
        'parameters are 46.7 times those of the largest run behind it'
    """
    said = []
    for what, value, runs in (("parameters", parameters, law.runs_parameters), ("tokens", tokens, law.runs_tokens),
                              ("operations", flops, law.runs_flops)):  # fmt: skip
        if runs is None or value is None:
            continue
        if value > runs[1] * 1.001:
            said.append(f"{what} are {value / runs[1]:,.3g} times those of the largest run behind it")
        elif value < runs[0] * 0.999:
            said.append(f"{what} are {value / runs[0]:,.2g} of those of the smallest run behind it")
    return "; ".join(said)


def predicted_loss(law: Law | str, parameters: float, tokens: float) -> Estimate:
    """The loss of a run by a law, in nats a token of its own text and tokenizer; unknown where it gives none.

    Raises:
        UnitError: for numbers that no run has.
        UnknownNameError: for a law that is not known.

    Example:
        >>> round(predicted_loss("chinchilla-corrected", 70e9, 1.4e12).value, 3)
        1.974
    """
    law = find_law(law) if isinstance(law, str) else law
    _check("parameters", parameters)
    _check("tokens", tokens)
    return _loss(law, parameters, tokens)


def _loss(law: Law, parameters: float, tokens: float) -> Estimate:
    loss = law.loss(parameters, tokens)
    if loss is None:
        return Estimate(None, None, None, "nats/token", Basis.MODELLED, "the law splits budgets and gives no loss")
    note = outside(law, parameters, tokens)
    basis = Basis.ASSUMED if note else Basis.MODELLED
    if isinstance(law, Additive) and law.covariance is not None:
        size, text = law.a / parameters**law.alpha, law.b / tokens**law.beta
        gradient = (size, text, law.floor, -size * math.log(parameters), -text * math.log(tokens))
        width = Z_90 * math.hypot(math.sqrt(_variance(law, gradient)), loss * (law.relative_error or 0.0))
    elif isinstance(law, Additive) and not note and law.relative_error is not None:
        width = Z_90 * law.relative_error * loss
    elif isinstance(law, Additive) and not note and law.rmse is not None:
        width = Z_90 * law.rmse
    else:
        width, basis = ASSUMED_LOSS_ERROR * loss, Basis.ASSUMED
        note = "; ".join(filter(None, (note, "no errors are published for it: 5% assumed")))
    return Estimate(loss, loss - width, loss + width, "nats/token", basis, note)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run has too few or too many tokens for its size, by one law.

    `optimal_tokens` are those that suit the model, `optimal_parameters` the model that suits the tokens; `word` is
    `undertrained`, `optimal` or `overtrained`. Overtrained is no fault: a smaller model serves for less.
    `pays_from_tokens` are the served tokens from which on it has paid for the longer training.
    """

    law: Law
    loss_law: Law
    parameters: float
    tokens: float
    optimal_tokens: Estimate
    optimal_parameters: Estimate
    predicted_loss: Estimate
    word: str
    advice: str
    pays_from_tokens: float | None

    @property
    def tokens_per_parameter(self) -> float:
        """D / N."""
        return self.tokens / self.parameters

    def to_json(self) -> dict[str, Any]:
        """The part `chinchilla` of `weigh train`, and of `weigh scaling loss`."""
        return {
            "law": self.law.name, "loss_law": self.loss_law.name, "tokens_per_parameter": self.tokens_per_parameter,
            "optimal_tokens": self.optimal_tokens.to_json(), "optimal_parameters": self.optimal_parameters.to_json(),
            "verdict": self.word, "predicted_loss": self.predicted_loss.to_json(), "advice": self.advice,
            "pays_from_tokens": self.pays_from_tokens,
        }  # fmt: skip


def verdict(parameters: float, tokens: float, law: Law | str = RULE, loss_law: Law | str = DEFAULT) -> Verdict:
    """Whether a run has too few or too many tokens for its size: outside the interval of those that suit it.

    Args:
        parameters: what the laws count, all parameters by default; of a mixture of experts those of one token.
        tokens: those of the run, each as often as it is read.
        law: the one to go by.
        loss_law: what the loss is predicted by, and from how many served tokens on a smaller model pays.

    Raises:
        UnitError: for numbers that no run has.
        UnknownNameError: for a law that is not known.

    Example:
        >>> verdict(175e9, 300e9).word, verdict(70e9, 2e12).word, verdict(70e9, 1.4e12).word
        ('undertrained', 'overtrained', 'optimal')
    """
    law, by = (find_law(one) if isinstance(one, str) else one for one in (law, loss_law))
    _check("tokens", tokens)
    suits = optimum(law, parameters=parameters)
    fits = optimum(law, tokens=tokens).parameters
    assert suits.tokens.low is not None and suits.tokens.high is not None and suits.tokens.value is not None
    word = ("undertrained" if tokens < suits.tokens.low else "overtrained" if tokens > suits.tokens.high
            else "optimal")  # fmt: skip
    pays = None
    flops = law.training_flops(parameters, tokens)
    if word == "undertrained":
        better, more = law.optimal_parameters(flops), law.optimal_tokens(flops)
        advice = f"the same compute on {_people(better)} parameters and {_people(more)} tokens reaches a lower loss"
    elif word == "overtrained":
        pays = _pays_from(by, parameters, tokens)
        advice = "more tokens than training alone would spend: sensible for a model that serves"
        if pays is not None:
            advice += f", from about {_people(pays)} served tokens on"
    else:
        advice = f"within what the law gives for its size, {_people(suits.tokens.value)} tokens"
    loss = predicted_loss(by, parameters, tokens)
    return Verdict(law, by, parameters, tokens, suits.tokens, fits, loss, word, advice, pays)


def _people(number: float | None) -> str:
    assert number is not None
    return format_count(float(f"{number:.2g}").__round__())


def flops_for_loss(law: Law, loss: float) -> float | None:
    """The least operations that reach a loss; None where none do, or the law gives no loss."""

    def reached(flops: float) -> float:
        found = law.loss(law.optimal_parameters(flops), law.optimal_tokens(flops))
        return math.inf if found is None else -found

    flops = solve(reached, -loss)
    found = law.loss(law.optimal_parameters(flops), law.optimal_tokens(flops))
    return flops if found is not None and math.isclose(found, loss, rel_tol=1e-6) else None


def _pays_from(law: Law, parameters: float, tokens: float) -> float | None:
    """From how many served tokens on a model has paid for being smaller than the optimum of its loss."""
    loss = law.loss(parameters, tokens)
    least = None if loss is None else flops_for_loss(law, loss)
    if least is None:
        return None
    larger = law.optimal_parameters(least)
    saved = FORWARD_FLOPS_PER_PARAMETER * law.active_share * (larger - parameters)
    return (law.training_flops(parameters, tokens) - least) / saved if saved > 0 else None


def optima(
    names: tuple[str, ...] = (), *, flops: float | None = None, parameters: float | None = None,
    tokens: float | None = None,
) -> Iterator[Optimum]:  # fmt: skip
    """What each of some laws, or of all, says."""
    from weighbridge.predict.scaling_laws.laws import laws

    for name in names or laws():
        yield optimum(name, flops=flops, parameters=parameters, tokens=tokens)
