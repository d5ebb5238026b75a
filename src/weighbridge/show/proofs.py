"""How does a proof read on a terminal? The verdict first, then each metric with its interval, then the slices."""

from __future__ import annotations

import math
from collections.abc import Iterator

from weighbridge.errors import printable
from weighbridge.prove.comparison import Comparison
from weighbridge.prove.cost import Cost
from weighbridge.prove.proof import Proof
from weighbridge.prove.token_count import TokenCount
from weighbridge.show.tables import bold, table
from weighbridge.units import format_bytes

VERDICTS = {"better": "better", "equivalent": "equivalent", "worse": "WORSE", "undecided": "undecided"}


def number(value: float) -> str:
    """A number in four digits.

    Example:
        >>> number(0.123456), number(float("nan")), number(-0.0)
        ('0.1235', 'unknown', '0')
    """
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "unbounded"
    return f"{value + 0.0:.4g}"


def lines(found: Proof) -> Iterator[str]:
    """The report of `weigh prove`."""
    yield bold(f"{VERDICTS[found.verdict]}: {printable(found.reason)}")
    yield printable(f"base {found.base}, candidate {found.candidate}")
    yield ""
    heads = ("metric", "base", "candidate", "difference", "interval", "n", "verdict")
    share = f"{100 * found.rule.confidence:g}%"
    title = f"at {share}, whenever it is looked at" if found.rule.sequential else f"at {share}"
    yield from table(title, heads, [_row(one.name, one) for one in found.metrics], right=(1, 2, 3, 4, 5))
    for one in found.metrics:
        if one.slices and one.gates:
            part = next(iter(one.slices.values()))
            yield from table(f"{one.name} by slice, at {part.confidence:.2%} each so that {share} hold for all",
                             ("slice", *heads[1:]), [_row(name, part) for name, part in one.slices.items()],
                             right=(1, 2, 3, 4, 5))  # fmt: skip
    for one in found.metrics:
        if one.verdict == "undecided" and one.gates:
            more = f"; about {one.needed:,} examples would probably settle it" if one.needed else ""
            yield f"{one.name}: {one.reason}{more}"
    if found.flipped:
        lost = sum(flip.lost for flip in found.flipped)
        yield f"{len(found.flipped):,} answers flipped: {lost:,} lost, {len(found.flipped) - lost:,} won"
    if found.cost is not None:
        yield cost_line(found.cost)
    for side, seconds in zip(("base", "candidate"), found.seconds, strict=True):
        if seconds is not None:
            yield f"{side}: {number(seconds)} s an example here, now"
    for step in found.settings.get("ladder", ()):
        size = "" if step["bytes"] is None else f", {format_bytes(step['bytes'])}"
        did = f"tried {printable(step['candidate'])}{size}: {step['verdict']}"
        yield did if step["verdict"] else f"not needed: {printable(step['candidate'])}{size}"
    warned = dict.fromkeys(warning for one in found.metrics for warning in one.warnings)
    yield from (f"note: {printable(note)}" for note in (*warned, *found.notes))


def token_lines(found: TokenCount) -> Iterator[str]:
    """The report of `weigh tokens`: the pieces between bars, and what there are of each.

    Example:
        >>> from weighbridge.prove.token_count import TokenCount
        >>> list(token_lines(TokenCount("Hello world!", (1, 2, 3), ("Hello", " world", "!"))))[0]
        '3 tokens, 2 words: 1.5 tokens a word'
    """
    each = "" if found.per_word is None else f": {found.per_word:.3g} tokens a word"
    yield f"{len(found.ids):,} tokens, {found.words:,} words{each}"
    if found.pieces:
        yield "|" + "|".join(map(printable, found.pieces)) + "|"


def cost_line(cost: Cost) -> str:
    """What a right answer costs, in a sentence."""
    turned = ", though it is cheaper by the request" if cost.turns and cost.ratio > 1 else ""
    return (f"a right answer ({cost.metric}) costs {number(cost.base_usd)} USD with the base and "
            f"{number(cost.candidate_usd)} with the candidate, {number(cost.ratio)} times as much "
            f"({number(cost.low)} to {number(cost.high)}){turned}")  # fmt: skip


def _row(name: str, one: Comparison) -> tuple[str, ...]:
    interval = f"{number(one.delta.low)} to {number(one.delta.high)}"
    verdict = VERDICTS[one.verdict] if one.gates else "told only"
    return (printable(name), number(one.base), number(one.candidate), number(one.delta.value), interval,
            f"{one.n:,}", verdict)  # fmt: skip
