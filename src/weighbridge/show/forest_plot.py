"""Where does each interval lie, seen from no difference and from what may be lost? A forest plot, drawn or as text.

Metrics have other units, so each has a scale of its own, shared by its slices. A loss is always to the left: the scale
of a metric of which less is better is mirrored. Where a share is to be kept, the ratio of candidate and base is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weighbridge.errors import printable
from weighbridge.prove.comparison import Comparison, Rule, Verdict
from weighbridge.prove.intervals import Interval
from weighbridge.show import chart
from weighbridge.show.chart import TOP, WIDTH, line, shortened, text, titled
from weighbridge.show.proofs import VERDICTS, number

HUES: dict[Verdict, str] = {"better": "green", "equivalent": "blue", "worse": "red", "undecided": "orange"}
LEFT, RIGHT, NUMBERS, ROW = 262, 600, 616, 26
COLUMNS, MOST_LABEL = 41, 40
REACH = 3
"""How far slices may widen the scale of their metric on each side, in widths of it; beyond there are arrows."""
CAPTION = "A loss lies to the left. Shaded: what may be lost. Each metric has its own scale; arrows go on beyond it."


@dataclass(frozen=True, slots=True)
class Row:
    """An interval with places from 0 to 1 on the scale of its metric; `value` is None where it has no place."""

    label: str
    numbers: str
    verdict: Verdict
    confidence: float
    low: float
    value: float | None
    high: float
    goes_on: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Group:
    """A metric and its slices on one scale; `bound` is what may be lost at most, without words where nothing may be."""

    rows: tuple[Row, ...]
    scale: str
    neutral: float
    neutral_words: str
    bound: float
    bound_words: str


def group(one: Comparison, rule: Rule) -> Group:
    """A metric and its slices on the scale that the verdict is about.

    Example:
        >>> accuracy = Interval(-0.01, -0.03, 0.01, 0.01)
        >>> found = Comparison(name="accuracy", base=0.8, candidate=0.79, delta=accuracy, ratio=accuracy, n=500,
        ...                    clusters=500, confidence=0.95, margin=0.02, verdict="undecided", reason="")
        >>> found = group(found, Rule(margin=0.02))
        >>> found.rows[0].numbers, found.scale, found.bound < found.neutral
        ('-0.01 (-0.03 to 0.01)', 'difference', True)
    """
    parts = [(one.name, one), *((f"  {name}", part) for name, part in one.slices.items())]
    intervals = [part.delta if rule.keep is None else part.ratio for _, part in parts]
    neutral = 0.0 if rule.keep is None else 1.0
    less = not one.higher_is_better
    side = -1 if less else 1
    bound, bound_words = -side * (one.margin or 0.0), f"margin {one.margin:g}" if one.margin else ""
    if rule.keep is not None:
        bound, bound_words = rule.keep**side, f"keep {rule.keep:g}" + (f" (up to {1 / rule.keep:.4g})" if less else "")

    def turned(found: Interval) -> tuple[float, float]:
        low, high = sorted((side * found.low, side * found.high))
        return (low, high) if low <= high else (-math.inf, math.inf)  # no number bounds as little as infinity

    ends = [(side * found.value, *turned(found)) for found in intervals]
    near = [end for end in (side * neutral, side * bound, *ends[0]) if math.isfinite(end)]
    far = near + [end for some in ends[1:] for end in some if math.isfinite(end)]
    room = REACH * (max(near) - min(near))
    left, right = max(min(near) - room, min(far)), min(max(near) + room, max(far))
    width = 1.1 * ((right - left) or 1.0)
    left = (left + right - width) / 2

    def place(end: float) -> float:
        return min(1.0, max(0.0, (end - left) / width))

    rows = []
    for (label, part), found in zip(parts, intervals, strict=True):
        (low, high), value = turned(found), side * found.value
        rows.append(Row(printable(label), f"{number(found.value)} ({interval_words(found)})", part.verdict,
                        part.confidence, place(low), place(value) if left <= value <= left + width else None,
                        place(high), (low < left, high > left + width)))  # fmt: skip
    scale = ("difference" if rule.keep is None else "ratio") + (", mirrored: less is better" if less else "")
    return Group(tuple(rows), scale, place(side * neutral), f"{neutral:g}", place(side * bound), bound_words)


def interval_words(found: Interval) -> str:
    """Both bounds in words.

    Example:
        >>> interval_words(Interval(0, -0.5, math.inf, 1)), interval_words(Interval(0, -math.inf, math.inf, 1))
        ('-0.5 to unbounded', 'unbounded')
    """
    is_bounded = math.isfinite(found.low) or math.isfinite(found.high)
    return f"{number(found.low)} to {number(found.high)}" if is_bounded else "unbounded"


def svg(groups: Sequence[Group], title: str) -> str:
    """The picture of these metrics.

    Example:
        >>> "no metric decides" in svg([], "Intervals at 95%")
        True
    """
    if not groups:
        return chart.picture(title, CAPTION, 110, [text(8, 84, "nothing to draw: no metric decides")])
    drawn = [text(LEFT, TOP + 12, "◀ loss", "w-soft"), text(RIGHT, TOP + 12, "gain ▶", "w-soft", "end")]
    y = TOP + 24.0
    for one in groups:
        neutral, bound, end = _x(one.neutral), _x(one.bound), y + ROW * len(one.rows)
        if one.bound_words:
            zone = f'<rect class="w-f-grey w-band" x="{bound:.1f}" y="{y:.1f}" width="{neutral - bound:.1f}" '
            drawn.append(titled(one.bound_words, f'{zone}height="{end - y:.1f}"/>',
                                line(bound, y, bound, end + 5, "w-s-grey", 1.5, "4 3")))  # fmt: skip
            drawn.append(text(bound + 3, end + 18, one.bound_words, "w-soft", "end"))
        drawn.append(line(neutral, y, neutral, end + 5, "w-edge", 1.5))
        start = max(neutral - 3, bound + 12) if one.bound_words else neutral - 3
        drawn.append(text(start, end + 18, one.neutral_words, "w-soft"))
        drawn.append(text(NUMBERS, end + 18, one.scale, "w-soft"))
        drawn += [_row(row, y + ROW * (place + 0.5), is_slice=place > 0) for place, row in enumerate(one.rows)]
        y = end + 42
    return chart.picture(title, CAPTION, y, drawn)


def lines(groups: Sequence[Group]) -> Iterator[str]:
    r"""The same as text: `!` is no difference, `:` what may be lost at most, `<` and `>` go on beyond the scale.

    Example:
        >>> row = Row("accuracy", "0.1 (0 to 0.2)", "undecided", 0.95, 0.5, 0.6, 0.7, (False, False))
        >>> print(*lines([Group((row,), "difference", 0.5, "0", 0.25, "margin 0.25")]), sep="\n")
        accuracy            :         |---o---|              0.1 (0 to 0.2)  undecided
                            :         !                      difference; ! 0, : margin 0.25
    """
    rows = [row for one in groups for row in one.rows]
    width = min(MOST_LABEL, max((len(row.label) for row in rows), default=0))
    most = max((len(row.numbers) for row in rows), default=0)
    for one in groups:
        marks = {_column(one.bound): ":", _column(one.neutral): "!"}
        for row in one.rows:
            low, high = _column(row.low), _column(row.high)
            shown = dict.fromkeys(range(low, high + 1), "-") | marks
            shown |= {low: "<" if row.goes_on[0] else "|", high: ">" if row.goes_on[1] else "|"}
            if row.value is not None:
                shown[_column(row.value)] = "o"
            label = row.label if len(row.label) <= width else row.label[: width - 1] + "…"
            yield f"{label:<{width}}  {_strip(shown)}  {row.numbers:<{most}}  {VERDICTS[row.verdict]}"
        words = f"! {one.neutral_words}" + (f", : {one.bound_words}" if one.bound_words else "")
        yield f"{'':<{width}}  {_strip(marks)}  {one.scale}; {words}"


def _row(row: Row, y: float, *, is_slice: bool) -> str:
    hue, low, high = HUES[row.verdict], _x(row.low), _x(row.high)
    ink, start = ("w-soft", 28) if is_slice else ("w-ink", 8)
    drawn = [line(low, y, high, y, f"w-s-{hue}", 2 if is_slice else 3)]
    for x, goes_on, way in ((low, row.goes_on[0], 10), (high, row.goes_on[1], -10)):
        points = f"{x:.1f},{y:.1f} {x + way:.1f},{y - 6:.1f} {x + way:.1f},{y + 6:.1f}"
        arrow = f'<polygon class="w-f-{hue}" points="{points}"/>'
        drawn.append(arrow if goes_on else line(x, y - 5, x, y + 5, f"w-s-{hue}", 2))
    if row.value is not None:
        drawn.append(f'<circle class="w-f-{hue}" cx="{_x(row.value):.1f}" cy="{y:.1f}" r="{4 if is_slice else 5.5}"/>')
    label, verdict = row.label.strip(), VERDICTS[row.verdict]
    drawn.append(text(start, y + 4, shortened(label, LEFT - 10 - start), ink))
    drawn.append(text(NUMBERS, y + 4, row.numbers, ink))
    drawn.append(text(WIDTH - 8, y + 4, verdict, f"w-f-{hue}", "end"))
    return titled(f"{label}: {row.numbers} at {100 * row.confidence:.4g}%, {verdict}", *drawn)


def _x(place: float) -> float:
    return LEFT + place * (RIGHT - LEFT)


def _column(place: float) -> int:
    return round(place * (COLUMNS - 1))


def _strip(shown: dict[int, str]) -> str:
    return "".join(shown.get(column, " ") for column in range(COLUMNS))
