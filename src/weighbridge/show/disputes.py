"""How do answers that contradict each other read on a terminal? Side by side, with sources, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from weighbridge.predict.disputed import Answer, Dispute
from weighbridge.show.tables import table
from weighbridge.units import format_count


def number(value: float, unit: str) -> str:
    """A number of a question, in its unit.

    Example:
        >>> number(6e10, "parameters"), number(0.15, "share"), number(2026, "year"), number(5000, "USD")
        ('60B', '15%', '2026', '5,000')
    """
    if unit == "share":
        return f"{value:.0%}"
    return format_count(round(value)) if unit == "parameters" else str(value) if unit == "year" else f"{value:,.0f}"


def between(low: float | None, high: float | None, unit: str) -> str:
    """From the least to the most, as far as they are named.

    Example:
        >>> between(1e12, None, "parameters"), between(None, 2026, "year"), between(None, None, "year")
        ('1T or more', '2026 or before', 'none')
    """
    if low is None and high is None:
        return "none"
    if high is None or low is None:
        end = number(low if high is None else high, unit)  # type: ignore[arg-type]  # one of them is named
        return f"{end} or {'more' if high is None else 'before' if unit == 'year' else 'less'}"
    return number(low, unit) if low == high else f"{number(low, unit)} to {number(high, unit)}"


def said(answer: Answer, unit: str) -> str:
    """What one publication says."""
    return between(answer.low, answer.high, unit)


def shared(dispute: Dispute) -> str:
    """What all answers with numbers allow, in words."""
    if dispute.common is None:
        return "no value lies in all of them"
    low, high = dispute.common
    if low == high:
        return f"they meet at {number(low, dispute.unit)} alone"
    return f"only {between(low, high, dispute.unit)} lies in all of them"


def dispute_lines(found: Iterable[Dispute]) -> Iterator[str]:
    """Every question with its answers."""
    for dispute in found:
        rows = [(said(one, dispute.unit), one.basis, one.checked.isoformat(), one.of, one.source)
                for one in dispute.answers]  # fmt: skip
        unit = f", {dispute.unit}" if dispute.unit == "USD" else ""
        title = f"{dispute.name}: {dispute.title}{unit}; {shared(dispute)}"
        yield from table(title, ("said", "basis", "read", "of", "source"), rows, right=())
