"""Which size suits a budget by each scaling law, what loss does a run reach, and which law do own runs follow?

Also: what more parameters gain, by which power cost grows with size, and whether there is text for so many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighbridge import run_log
from weighbridge.errors import FormatError, UnitError
from weighbridge.estimate import Estimate
from weighbridge.predict.disputed import Dispute, find_dispute
from weighbridge.predict.scaling_laws.cost_growth import CostGrowth, cost_growth, parse_cost
from weighbridge.predict.scaling_laws.forms import Additive, Law
from weighbridge.predict.scaling_laws.gains import Gain, gains
from weighbridge.predict.scaling_laws.hyperparameters import batch_tokens, learning_rate
from weighbridge.predict.scaling_laws.laws import DEFAULT, find_law, laws
from weighbridge.predict.scaling_laws.optimum import RULE, Optimum, Verdict, optimum, predicted_loss, verdict
from weighbridge.predict.scaling_laws.repetition import Repeated, effective_tokens, repeated_loss, repeated_optimum
from weighbridge.predict.scaling_laws.served import Served, served_optimum
from weighbridge.predict.scaling_laws.supply import Need, need, supply

if TYPE_CHECKING:
    from weighbridge.predict.scaling_laws.law_fit import LawFit, Progress

USUAL_TIMES = (2.0, 3.0, 10.0)
"""How many times the parameters, where nothing is said."""
LEAST_EXPONENT = 1e-6
"""Below it a loss hardly falls: no split of compute is the best."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What each law says of a budget, a model or a data set; `asked` is what was given."""

    asked: dict[str, float]
    optima: tuple[Optimum, ...]
    served: Served | None
    repeated: Repeated | None
    notes: tuple[str, ...]

    @property
    def middle_tokens(self) -> float:
        """The tokens of the law in the middle."""
        found = sorted(one.tokens.value or 0.0 for one in self.optima)
        return found[len(found) // 2]

    def between(self, name: str) -> tuple[float, float]:
        """The least and the most of `parameters`, `tokens` or `flops` among the laws."""
        found = [getattr(one, name).value for one in self.optima]
        return min(found), max(found)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh scaling optimum`."""
        spans = {name: dict(zip(("least", "most"), self.between(name), strict=True))
                 for name in ("flops", "parameters", "tokens")}  # fmt: skip
        flops = self.optima[0].flops.value
        assert flops is not None
        return {
            "asked": self.asked, "laws": [one.to_json() for one in self.optima], "between": spans,
            "served": None if self.served is None else self.served.to_json(),
            "repeated": None if self.repeated is None else self.repeated.to_json(),
            "supply": supply().to_json(self.middle_tokens),
            "hyperparameters": {"batch_tokens": batch_tokens(flops).to_json(),
                                "learning_rate": learning_rate(flops).to_json()},
            "notes": list(self.notes),
        }  # fmt: skip


def size(
    *, flops: float | None = None, parameters: float | None = None, tokens: float | None = None,
    names: Sequence[str] = (), served_tokens: float | None = None, unique_tokens: float | None = None,
) -> Sizing:  # fmt: skip
    """What the laws say of one of: a budget of operations, a model, a data set.

    Args:
        flops: operations of training.
        parameters: of the model.
        tokens: of the run.
        names: the laws; without any, all.
        served_tokens: adds the model that reaches the same loss and serves so many with the least operations in all.
        unique_tokens: adds the model and the epochs that suit the budget where there are only so many tokens.

    Raises:
        UnitError: unless exactly one of the first three is given, or for numbers that no run has.
        UnknownNameError: for a law that is not known.
    """
    chosen = _chosen(names)
    found = tuple(optimum(law, flops=flops, parameters=parameters, tokens=tokens) for law in chosen)
    asked = {name: value for name, value in (("flops", flops), ("parameters", parameters), ("tokens", tokens),
                                             ("served_tokens", served_tokens), ("unique_tokens", unique_tokens))
             if value is not None}  # fmt: skip
    law = _with_constants(chosen)
    plain = optimum(law, flops=flops, parameters=parameters, tokens=tokens)
    served = repeated = None
    if served_tokens is not None:
        assert plain.loss.value is not None
        served = served_optimum(plain.loss.value, served_tokens, law)
    if unique_tokens is not None:
        assert plain.flops.value is not None
        repeated = repeated_optimum(plain.flops.value, unique_tokens)
    return Sizing(asked, found, served, repeated, _disagreement(found))


def _chosen(names: Sequence[str]) -> list[Law]:
    """The laws of some names, each once; all without any."""
    return list({law.name: law for law in map(find_law, names)}.values()) or list(laws().values())


def _with_constants(chosen: Sequence[Law]) -> Law:
    """The first law that gives losses in a sum, or the usual one."""
    return next((law for law in chosen if isinstance(law, Additive) and len(chosen) == 1), find_law(DEFAULT))


def _disagreement(found: tuple[Optimum, ...]) -> tuple[str, ...]:
    """How far apart the laws of dense models are."""
    dense = [one for one in found if one.law.active_share == 1.0]
    if len(dense) < 2:
        return ()
    ratios = sorted((one.tokens_per_parameter, one.law.name) for one in dense)
    (low, first), (high, last) = ratios[0], ratios[-1]
    return (f"the laws of dense models ask for {low:.3g} ({first}) to {high:.3g} ({last}) tokens a parameter",)


@dataclass(frozen=True, slots=True)
class Losses:
    """What each law says of one run."""

    parameters: float
    tokens: float
    unique_tokens: float | None
    losses: tuple[tuple[Law, Estimate], ...]
    verdicts: tuple[Verdict, ...]
    repeated: float | None

    @property
    def verdict(self) -> Verdict:
        """That by 20 tokens a parameter, or by the first law that was named."""
        return self.verdicts[0]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh scaling loss`."""
        repeated = None
        if self.repeated is not None and self.unique_tokens is not None:
            epochs = max(1.0, self.tokens / self.unique_tokens)
            repeated = {"unique_tokens": self.unique_tokens, "epochs": epochs, "loss": self.repeated,
                        "effective_tokens": effective_tokens(min(self.tokens, self.unique_tokens), epochs)}  # fmt: skip
        return {
            "parameters": self.parameters, "tokens": self.tokens,
            "flops": 6.0 * self.parameters * self.tokens, "verdict": self.verdict.to_json(),
            "laws": [{"law": law.name, "counts": law.counts, "loss": loss.to_json(), "verdict": one.word,
                      "optimal_tokens": one.optimal_tokens.to_json()}
                     for (law, loss), one in zip(self.losses, self.verdicts[1:], strict=True)],
            "repeated": repeated, "supply": supply().to_json(self.tokens),
        }  # fmt: skip


def losses(
    parameters: float, tokens: float, names: Sequence[str] = (), unique_tokens: float | None = None
) -> Losses:  # fmt: skip
    """The loss of a run by each law, and whether its tokens suit its size.

    Raises:
        UnitError: for numbers that no run has.
        UnknownNameError: for a law that is not known.
    """
    chosen = _chosen(names)
    first = verdict(parameters, tokens, chosen[0] if names else RULE)
    repeated = None
    if unique_tokens is not None:
        if not 1 <= unique_tokens <= 1e20:
            raise UnitError(f"{unique_tokens:g} unique tokens", "a number from 1 to 1e20", "correct it")
        repeated = repeated_loss(parameters, tokens, unique_tokens)
    return Losses(parameters, tokens, unique_tokens,
                  tuple((law, predicted_loss(law, parameters, tokens)) for law in chosen),
                  (first, *(verdict(parameters, tokens, law) for law in chosen)), repeated)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fitted:
    """The law of own runs, what it predicts, and the runs."""

    source: str
    law: LawFit
    log: run_log.RunLog
    predictions: tuple[tuple[dict[str, float], Estimate], ...]

    @property
    def far_lines(self) -> tuple[int, ...]:
        """Lines of runs that lie far from the law."""
        return tuple(self.log.lines[place] for place in self.law.far)

    def as_law(self) -> Additive | None:
        """The law in the form of the published ones; None where the loss does not fall with parameters and tokens."""
        value = {name: one.value or 0.0 for name, one in self.law.constants.items()}
        if self.law.variables != ("parameters", "tokens") or min(value["alpha"], value["beta"]) < LEAST_EXPONENT:
            return None
        return Additive(name="own", title="law of these runs", year=0, counts="as in the file", source=self.source,
                        url="", floor=value.get("E", 0.0), a=value["A"], alpha=value["alpha"], b=value["B"],
                        beta=value["beta"])  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh scaling fit`."""
        return {
            "source": self.source, **self.law.to_json(), "far": list(self.far_lines),
            "predictions": [{**at, "loss": loss.to_json()} for at, loss in self.predictions],
        }  # fmt: skip


def fit_runs(
    path: str | Path, predict: Sequence[tuple[float, float]] = (), *, floor: bool = True, bootstrap: int = 400,
    seed: int = 0, delta: float = 1e-3, progress: Progress | None = None,
) -> Fitted:  # fmt: skip
    """The law that the runs of a file follow.

    Args:
        path: a table in CSV, as `run_log.read` takes.
        predict: parameters and tokens of runs to come.
        floor: whether the law has a loss that nothing goes below.
        bootstrap: how many times runs are drawn anew for the intervals: at least 20, or 0 for no intervals.
        seed: of these draws.
        delta: of Huber's loss.
        progress: is told how many resamples are done, of how many.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when it is no table of runs.
        UnitError: for too few runs, or numbers that no run has.
    """
    from weighbridge.predict.scaling_laws.law_fit import fit_law

    for parameters, tokens in predict:
        if not (1 <= parameters <= 1e20 and 1 <= tokens <= 1e20):
            read = f"a run of {parameters:g} parameters and {tokens:g} tokens"
            raise UnitError(read, "numbers from 1 to 1e20", "correct it")
    log = run_log.read(path)
    if not log.lines:
        raise FormatError(f"{Path(path).name} has no runs", "a line for each run", "add them")
    law = fit_law(log.runs, floor=floor, bootstrap=bootstrap, seed=seed, delta=delta, progress=progress)
    wanted = [{"parameters": n, "tokens": d, "flops": 6.0 * n * d} for n, d in predict]
    return Fitted(str(path), law, log, tuple((at, law.predict(**at)) for at in wanted))


@dataclass(frozen=True, slots=True)
class Gains:
    """What each law says of more parameters."""

    parameters: float
    gains: tuple[Gain, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh scaling gain`."""
        return {"parameters": self.parameters, "gains": [one.to_json() for one in self.gains]}


def size_gains(parameters: float, times: Sequence[float] = (), names: Sequence[str] = ()) -> Gains:
    """By how much the loss falls with more parameters, by each law that gives losses, or by those that are named.

    Raises:
        UnitError: for a size that no model has, or times that are no more.
        UnknownNameError: for a law that is not known.

    Example:
        >>> round(size_gains(70e9, [10], ["kaplan"]).gains[0].share.value, 3)
        0.161
    """
    chosen = [law for law in _chosen(names) if names or law.loss_with_plenty(1e9) is not None]
    return Gains(parameters, gains(parameters, times or USUAL_TIMES, chosen))


def growth_of_cost(costs: Sequence[str], names: Sequence[str] = ()) -> CostGrowth:
    """By which power of its size the cost of a model grows, beside what each law gives.

    Args:
        costs: as `parse_cost` takes them, `175B=4.6M` or `540B=15M-20M`.
        names: the laws; without any, all.

    Raises:
        UnitError: for what is no cost, fewer than two, or two of one size.
        UnknownNameError: for a law that is not known.

    Example:
        >>> round(growth_of_cost(["175B=4.6M", "540B=15M-20M"], ["twenty"]).laws[0][1], 6)
        2.0
    """
    return cost_growth([parse_cost(one) for one in costs], _chosen(names))


@dataclass(frozen=True, slots=True)
class DataSupply:
    """Whether there is text for so many tokens: what is asked first, then what claimed synthetic shares would leave."""

    tokens: float
    needs: tuple[Need, ...]
    disputes: tuple[Dispute, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh scaling supply`."""
        return {
            "tokens": self.tokens, "supply": supply().to_json(self.tokens),
            "needs": [one.to_json() for one in self.needs], "disputes": [one.to_json() for one in self.disputes],
        }  # fmt: skip


def data_supply(tokens: float, synthetic: tuple[float, float] | None = None) -> DataSupply:
    """A token budget beside the stock of public text.

    Args:
        tokens: of the run, each as often as it is read.
        synthetic: the share that is synthetic, its least and most; without it none is, and what would be left by
            published shares stands beside it.

    Raises:
        UnitError: for no number of tokens, or shares that are none from 0 to 1.

    Example:
        >>> [one.verdict for one in data_supply(15e12).needs]
        ['within', 'within', 'within', 'within']
    """
    shares, years = find_dispute("synthetic-share"), find_dispute("data-exhaustion")
    needs = [need(tokens, synthetic or (0.0, 0.0))]
    if synthetic is None:
        needs += [need(tokens, (one.low, one.high), one.basis) for one in shares.answers
                  if one.low is not None and one.high is not None]  # fmt: skip
    return DataSupply(tokens, tuple(needs), (years, shares))
