"""How does a run's standing with dated rules read on a terminal? What it takes, the table, and what each rule is."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.errors import printable
from weighbridge.estimate import Estimate
from weighbridge.predict.thresholds import ENDS, Rule, Standing
from weighbridge.regulation import Report
from weighbridge.show.tables import bold, table
from weighbridge.units import format_count

UNITS = {"training_flop": "FLOP", "parameters": "parameters", "modification_share": "of the original"}


def threshold_lines(found: Report) -> Iterator[str]:
    """The report of `weigh thresholds`."""
    yield bold(printable(f"rules on {found.on}: {found.source}"))
    if found.parameters is not None:
        yield f"{found.parameters:,} parameters"
    if found.flops is not None:
        yield f"{_flops(found.flops)} FLOP ({found.flops.basis.value}): {found.flops.note}"
    if found.original_flops is not None:
        yield f"{_flops(found.original_flops)} FLOP before, in the model that it changes"
    yield ""
    rows = [(one.rule.name, _limit(one.rule), one.verdict, _times(one), _state(one)) for one in found.standings]
    yield from table("where it stands", ("rule", "threshold", "it is", "times it", "on that day"), rows, right=(3,))
    for one in found.standings:
        if one.verdict not in ("above", "undecided") or one.state in ENDS:
            continue
        rule = one.rule
        yield printable(f"{rule.name} ({rule.jurisdiction}, {rule.binds}): {rule.title}")
        yield from (f"  {line}" for line in (rule.condition, rule.note, f"{rule.source}: {rule.url}") if line)
    yield from (f"note: {printable(note)}" for note in found.notes)


def _flops(flops: Estimate) -> str:
    if flops.value is None or flops.low is None or flops.high is None:
        return "unknown"
    bounds = "" if flops.low == flops.high else f" ({_power(flops.low)} to {_power(flops.high)})"
    return f"{_power(flops.value)}{bounds}"


def _power(number: float) -> str:
    """Three digits that count, and the power of ten as laws are quoted: 1e25."""
    return f"{number:.3g}".replace("e+", "e")


def _limit(rule: Rule) -> str:
    value = format_count(int(rule.value)) if rule.quantity == "parameters" else _power(rule.value)
    return f"{'>' if rule.comparison == 'above' else '>='} {value} {UNITS[rule.quantity]}"


def _times(one: Standing) -> str:
    return "" if one.ratio is None or one.ratio.value is None else f"{one.ratio.value:.3g}"


def _state(one: Standing) -> str:
    rule, state = one.rule, one.state
    if state == "applies":
        return f"applies since {rule.applies_from}"
    if state == "adopted":
        return f"adopted, applies from {rule.applies_from}"
    return f"to come: made {rule.made}" if state == "to come" else f"{state} {rule.ended}"
