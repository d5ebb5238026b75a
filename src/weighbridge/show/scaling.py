"""How do scaling laws read on a terminal? The laws, what they say of a budget or a run, and a law of own runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weighbridge.errors import printable
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.scaling_laws.cost_growth import CostGrowth
from weighbridge.predict.scaling_laws.forms import Law
from weighbridge.predict.scaling_laws.repetition import worth_of_last
from weighbridge.predict.scaling_laws.supply import supply
from weighbridge.scaling import DataSupply, Fitted, Gains, Losses, Sizing
from weighbridge.show.disputes import dispute_lines
from weighbridge.show.plans import basis
from weighbridge.show.tables import bold, table
from weighbridge.units import format_count


def short(number: float) -> str:
    """A count of parameters or tokens, three digits of it.

    Example:
        >>> short(72_248_702_500.4), short(1.4e12), short(0.25)
        ('72.2B', '1.4T', '0.25')
    """
    return format_count(round(float(f"{number:.3g}"))) if number >= 10 else f"{number:.3g}"


def _flops(number: float) -> str:
    return f"{number:.3g}"


def _ratio(number: float) -> str:
    """Three digits that count, in full above a thousand."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _share(number: float) -> str:
    """A share in percent, two digits of it."""
    return f"{float(f'{100 * number:.2g}'):,g}%"


def _flops_range(estimate: Estimate) -> str:
    """Operations with their interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    bounds = "" if estimate.basis is Basis.EXACT else f" ({_flops(estimate.low)} to {_flops(estimate.high)})"
    return f"{_flops(estimate.value)}{bounds}"


def _range(estimate: Estimate) -> str:
    """A count with its interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    if estimate.basis is Basis.EXACT or estimate.low == estimate.high:
        return short(estimate.value)
    return f"{short(estimate.value)} ({short(estimate.low)} to {short(estimate.high)})"


def _loss(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    half = ((estimate.high or 0.0) - (estimate.low or 0.0)) / 2
    return f"{estimate.value:.3f} ±{half:.3f}"


def law_lines(laws: Sequence[Law]) -> Iterator[str]:
    """The table of `weigh scaling laws`, and where each is from."""

    def runs(bounds: tuple[float, float] | None) -> str:
        return "-" if bounds is None else f"{short(bounds[0])} to {short(bounds[1])}"

    rows = [(law.name, str(law.year), "yes" if law.loss(1e9, 1e10) is not None else "no", runs(law.runs_parameters),
             runs(law.runs_tokens), law.counts) for law in laws]  # fmt: skip
    heads = ("law", "year", "loss", "parameters of its runs", "tokens of its runs", "N counts")
    yield from table("published scaling laws", heads, rows, right=(1,))
    for law in laws:
        yield f"{law.name}: {law.source} ({law.url})" + (f"; {law.note}" if law.note else "")


def sizing_lines(found: Sizing) -> Iterator[str]:
    """The report of `weigh scaling optimum`."""
    rows = [(one.law.name, _flops_range(one.flops), _range(one.parameters), _range(one.tokens),
             _ratio(one.tokens_per_parameter), _loss(one.loss), one.tokens.basis.value if "tokens" not in found.asked
             else one.parameters.basis.value) for one in found.optima]  # fmt: skip
    heads = ("law", "FLOPs", "parameters", "tokens", "tokens a parameter", "loss, nats", "basis")
    yield from table("what suits it, by each law (90% intervals)", heads, rows, right=(1, 2, 3, 4, 5))
    yield from (f"note: {note}" for note in found.notes)
    if found.served is not None:
        served = found.served
        yield ""
        yield bold(f"for {short(served.served_tokens)} served tokens at the same loss of {served.loss:.3f}, "
                   f"by {served.law.name}")  # fmt: skip
        yield (f"{short(served.parameters)} parameters on {short(served.tokens)} tokens "
               f"({_ratio(served.tokens / served.parameters)} a parameter) instead of "
               f"{short(served.plain_parameters)} on {short(served.plain_tokens)}: {served.saved:.0%} fewer "
               "operations in all")  # fmt: skip
        yield from (f"note: {note}" for note in served.notes)
    if found.repeated is not None:
        again = found.repeated
        yield ""
        yield bold(f"with {short(again.unique_tokens)} unique tokens and {_flops(again.flops)} FLOPs, by muennighoff")
        last = f"the last {worth_of_last(again.epochs):.0%} of a fresh one"
        yield (f"{short(again.parameters)} parameters on {short(again.tokens)} tokens: {again.epochs:.3g} epochs, "
               f"worth {short(again.effective_tokens)} fresh tokens, {last}")  # fmt: skip
        yield f"loss {again.loss:.3f}, and {again.fresh_loss:.3f} with as much fresh data as suits the budget"
        yield from (f"note: {note}" for note in again.notes)
    yield ""
    yield _supply_line(found.middle_tokens)


def _supply_line(tokens: float) -> str:
    share, stock = supply().share(tokens), supply()
    assert share.value is not None and share.low is not None and share.high is not None
    told = f"{_share(share.value)} ({_share(share.low)} to {_share(share.high)}) of the effective stock of public text"
    return (f"{short(tokens)} tokens are {told}, which training sets are projected to reach between {stock.years[0]} "
            f"and {stock.years[1]} (Villalobos et al. {stock.published})")  # fmt: skip


def loss_lines(found: Losses) -> Iterator[str]:
    """The report of `weigh scaling loss`."""
    told = found.verdict
    yield bold(f"{short(found.parameters)} parameters on {short(found.tokens)} tokens: {told.word}")
    flops = _flops(6 * found.parameters * found.tokens)
    yield f"{_ratio(told.tokens_per_parameter)} tokens a parameter, {flops} FLOPs; {told.advice}"
    yield f"these tokens suit a model of {short(told.optimal_parameters.value or 0.0)} (by {told.law.name})"
    yield ""
    rows = [(law.name, _loss(loss), loss.basis.value if loss.value is not None else "-", _range(one.optimal_tokens),
             one.word) for (law, loss), one in zip(found.losses, found.verdicts[1:], strict=True)]  # fmt: skip
    heads = ("law", "loss, nats a token", "basis", "tokens that suit the model", "these are")
    yield from table("by each law (90% intervals)", heads, rows, right=(1, 3))
    if found.repeated is not None and found.unique_tokens is not None:
        epochs = max(1.0, found.tokens / found.unique_tokens)
        unique = f"{short(found.unique_tokens)} unique tokens"
        yield f"read {epochs:.3g} times, {unique} give a loss of {found.repeated:.3f} (muennighoff)"
    yield _supply_line(found.tokens)


def gain_lines(found: Gains) -> Iterator[str]:
    """The report of `weigh scaling gain`."""
    rows = [(one.law.name, f"{one.times:g} x", _share_range(one.share), basis(one.share), one.law.counts)
            for one in found.gains]  # fmt: skip
    title = f"by how much the loss of {short(found.parameters)} parameters falls with more, given enough text"
    yield from table(title, ("law", "parameters", "gain", "basis", "N counts"), rows, right=(1, 2))
    yield "intervals: from the least to the most of the laws that give losses; Kaplan's has no floor that stays"


def _share_range(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return f"unknown: {estimate.note}"
    bounds = "" if estimate.low == estimate.high else f" ({estimate.low:.1%} to {estimate.high:.1%})"
    return f"{estimate.value:.1%}{bounds}"


def growth_lines(found: CostGrowth) -> Iterator[str]:
    """The report of `weigh scaling exponent`."""
    rows = [(f"{short(small.parameters)} to {short(large.parameters)}",
             f"{_ratio(large.parameters / small.parameters)}x", _power(exponent), exponent.basis.value)
            for small, large, exponent in found.steps]  # fmt: skip
    heads = ("sizes", "larger", "cost grows by size to the power of", "basis")
    yield from table("cost as listed", heads, rows, right=(1, 2))
    ends = f"{short(found.costs[0].parameters)} to {short(found.costs[-1].parameters)}"
    laws = [(law.name, f"{exponent:.2f}") for law, exponent in found.laws]
    yield from table(f"operations that suit the size, {ends}", ("law", "power"), laws, right=(1,))
    yield "with the same tokens for both sizes operations grow by the power of 1"


def _power(estimate: Estimate) -> str:
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    bounds = "" if estimate.low == estimate.high else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return f"{estimate.value:.2f}{bounds}"


def supply_lines(found: DataSupply) -> Iterator[str]:
    """The report of `weigh scaling supply`."""
    stock = supply()
    yield bold(f"{short(found.tokens)} tokens beside {_range(stock.estimate)} of public text that people wrote")
    rows = []
    for one in found.needs:
        low, high = one.synthetic
        synthetic = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
        rows.append((synthetic, one.basis, _range(one.human_tokens), _share_range(one.share), one.verdict,
                     one.share.basis.value))  # fmt: skip
    heads = ("synthetic", "that share is", "tokens of people", "of the stock", "", "basis")
    yield from table("what has to be written by people", heads, rows, right=(0, 2, 3))
    yield _supply_line(found.tokens)
    yield f"the stock counts that text is read several times: epochs enlarge it no further ({stock.source})"
    yield ""
    yield from dispute_lines(found.disputes)


def fitted_lines(found: Fitted) -> Iterator[str]:
    """The report of `weigh scaling fit`."""
    law = found.law
    names = {"parameters": "A / N^alpha", "tokens": "B / D^beta", "flops": "A / C^alpha"}
    form = " + ".join((["E"] if law.has_floor else []) + [names[name] for name in law.variables])
    yield bold(f"L = {form} over {len(law.residuals)} runs of {printable(found.source)}")
    yield ""
    rows = [(name, f"{one.value:.4g}", "-" if not len(law.samples) else f"{one.low:.4g} to {one.high:.4g}",
             "undecided" if name in law.undecided else "") for name, one in law.constants.items()]  # fmt: skip
    told = f"90% intervals of {len(law.samples)} resamples, seed {law.seed}" if len(law.samples) else "no resamples"
    yield from table(f"constants ({told})", ("", "value", "interval", ""), rows)
    if found.predictions:
        shown = [(short(at["parameters"]), short(at["tokens"]), f"{loss.value:#.5g}",
                  "-" if not len(law.samples) else f"{loss.low:#.5g} to {loss.high:#.5g}", loss.basis.value)
                 for at, loss in found.predictions]  # fmt: skip
        heads = ("parameters", "tokens", "loss", "interval of one run", "basis")
        yield from table("runs to come", heads, shown, right=(0, 1, 2, 3))
    yield from (f"undecided: {name}, {why}" for name, why in law.undecided.items())
    yield from (f"note: {note}" for note in law.notes)
    if found.far_lines:
        lines = ", ".join(map(str, found.far_lines[:10])) + (" ..." if len(found.far_lines) > 10 else "")
        yield f"note: far from the law are the runs of line {lines}: look whether they ended well"
