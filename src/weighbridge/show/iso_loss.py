"""Where are losses equal, over parameters and tokens? Lines of equal loss, of equal compute, the best split, the runs.

A law of any form with losses is drawn; `svg` takes the runs of a plan as well as those of a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weighbridge.errors import UnitError
from weighbridge.predict.scaling_laws.forms import Law
from weighbridge.predict.scaling_laws.laws import DEFAULT, find_law
from weighbridge.scaling import Fitted, Losses, Sizing
from weighbridge.show import chart
from weighbridge.show.chart import LETTER, TOP, WIDTH, LogAxis, line, text, titled
from weighbridge.show.scaling import short

LEFT, RIGHT, BOTTOM, HEIGHT = 96, 40, 560, 640
ROOM = 6.0
"""How far the axes go beyond the runs."""
LEAST_DECADES = 3.0
SAMPLES = 60
CROWD = 60.0
"""Pixels between marks whose names would touch."""
MOST_LINES = 9


@dataclass(frozen=True, slots=True)
class Mark:
    """A run in the picture; `name` stands beside it where it is not empty."""

    parameters: float
    tokens: float
    name: str = ""
    title: str = ""
    hue: str = "green"


def svg(law: Law, marks: Sequence[Mark], heading: str, caption: str, what: str = "runs") -> str:
    """Lines of equal loss by a law, with runs.

    Args:
        law: one that gives losses.
        marks: the runs, at least one.
        heading: stands above.
        caption: stands below the heading.
        what: the marks are.

    Returns:
        One SVG document.

    Raises:
        UnitError: when the law gives no loss.
    """
    if law.loss(1e9, 1e10) is None:
        raise UnitError(f"the law {law.name} gives no loss", "one that does", f"draw it by {DEFAULT}")
    across = _axis([mark.parameters for mark in marks], LEFT, WIDTH - RIGHT)
    up = _axis([mark.tokens for mark in marks], BOTTOM, TOP + 40)
    drawn = counted_grid(across, up, "parameters", "tokens")
    drawn += _compute_lines(law, across, up)
    numbers: list[str] = []
    taken: list[tuple[float, float]] = []
    for level in _levels(law, across, up):
        drawn += _contour(law, level, across, up, numbers, taken)
    drawn += _best(law, across, up)
    drawn += numbers
    named = list(_names(marks, across, up))
    drawn += [part for part in named if part.startswith("<line")]
    drawn += [_mark(law, mark, across, up) for mark in marks]
    drawn += [part for part in named if not part.startswith("<line")]
    drawn += chart.legend(_entries(what), LEFT, TOP + 4)
    return chart.picture(heading, caption, HEIGHT, drawn)


def sizing_svg(found: Sizing) -> str:
    """What each law says of a budget, over the lines of equal loss of one."""
    law = next((one.law for one in found.optima if one.loss.value is not None), find_law(DEFAULT))
    law = find_law(DEFAULT) if len(found.optima) > 1 else law
    marks = [Mark(one.parameters.value or 1.0, one.tokens.value or 1.0, one.law.name, hue="green")
             for one in found.optima if one.law.active_share == law.active_share]  # fmt: skip
    if found.served is not None:
        marks.append(Mark(found.served.parameters, found.served.tokens, "with what it serves", hue="purple"))
    if found.repeated is not None:
        marks.append(Mark(found.repeated.parameters, found.repeated.tokens, "with repeated data", hue="red"))
    return svg(law, marks, "What suits it, by each law", f"lines of equal loss by {law.title}", "a law's answer")


def losses_svg(found: Losses) -> str:
    """A run among the lines of equal loss of the first law that gives any."""
    law = next((law for law, loss in found.losses if loss.value is not None), find_law(DEFAULT))
    law = find_law(DEFAULT) if len(found.losses) > 1 else law
    name = f"{short(found.parameters)} on {short(found.tokens)}"
    caption = f"lines of equal loss by {law.title}"
    return svg(law, [Mark(found.parameters, found.tokens, name)], f"{name} tokens: {found.verdict.word}", caption)


def fitted_svg(found: Fitted) -> str:
    """Own runs among the lines of equal loss of their law.

    Raises:
        UnitError: when the law rests on one quantity, or the loss does not fall with both.
    """
    law = found.as_law()
    if law is None:
        quantities = " and ".join(found.law.variables)
        read = (f"a law of {quantities} alone" if len(found.law.variables) == 1
                else f"a loss that does not fall with {quantities}")  # fmt: skip
        raise UnitError(read, "one that falls with parameters and tokens", "leave the picture out")
    runs = found.log.runs
    rows = zip(runs.quantity("parameters"), runs.quantity("tokens"), runs.loss, found.log.lines, strict=True)
    marks = [Mark(float(n), float(d), title=f"line {row}: loss {loss:.4f}") for n, d, loss, row in rows]
    marks += [Mark(at["parameters"], at["tokens"], f"{short(at['parameters'])} on {short(at['tokens'])}", hue="purple")
              for at, _ in found.predictions]  # fmt: skip
    return svg(law, marks, "The law of these runs", f"lines of equal loss, {len(runs.loss)} runs of {found.source}")


def _axis(values: Sequence[float], start: float, end: float) -> LogAxis:
    """An axis around some values, of at least some decades."""
    low, high = math.log10(min(values) / ROOM), math.log10(max(values) * ROOM)
    more = max(0.0, LEAST_DECADES - (high - low)) / 2
    return LogAxis(10 ** (low - more), 10 ** (high + more), start, end)


def counted_grid(across: LogAxis, up: LogAxis, x_label: str, y_label: str) -> list[str]:
    """Lines and names of two axes whose numbers are counts: 1B, 2T."""
    drawn = []
    for value in up.ticks(34):
        y = up.at(value)
        drawn += [
            line(across.start, y, across.end, y, "w-line"),
            text(across.start - 8, y + 4, short(value), "w-soft", "end"),
        ]
    for value in across.ticks(60):
        x = across.at(value)
        drawn += [line(x, up.start, x, up.end, "w-line"), text(x, up.start + 20, short(value), "w-soft", "middle")]
    drawn.append(text((across.start + across.end) / 2, up.start + 44, x_label, "w-ink", "middle"))
    drawn.append(text(8, up.end - 8, y_label, "w-ink"))
    return drawn


def _levels(law: Law, across: LogAxis, up: LogAxis) -> list[float]:
    """Round losses in the picture, the lower ones closer."""
    top, bottom = law.loss(across.low, up.low), law.loss(across.high, up.high)
    assert top is not None and bottom is not None
    for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        first = math.ceil(bottom / step)
        if (top - bottom) / step <= 2.5 * MOST_LINES:
            found = [round(step * (first + i), 6) for i in range(int((top - bottom) / step) + 1)]
            low, high = found[: MOST_LINES - 3], found[MOST_LINES - 3 :]
            return [*low, *high[:: max(1, math.ceil(len(high) / 3))]]
    return [round((top + bottom) / 2, 2)]


def _contour(
    law: Law, level: float, across: LogAxis, up: LogAxis, numbers: list[str], taken: list[tuple[float, float]]
) -> list[str]:
    """One line of equal loss; its number goes where it has met the best split, or else in its middle."""
    left, right = _size_at(law, level, up.high, across), _size_at(law, level, up.low, across)
    if right <= left:
        return []
    sizes = {left * (right / left) ** (i / SAMPLES) for i in range(SAMPLES + 1)}
    sizes |= {_size_at(law, level, up.low * (up.high / up.low) ** (i / SAMPLES), across) for i in range(SAMPLES + 1)}
    places = []
    for size in sorted(sizes):
        tokens = law.tokens_at(level, size)
        if tokens is not None and up.low / 1.01 <= tokens <= up.high * 1.01:
            places.append((size, across.at(size), up.at(tokens), tokens))
    if len(places) < 2:
        return []
    points = " ".join(f"{x:.1f},{y:.1f}" for _, x, y, _ in places)
    met = next((i for i, (size, _, _, tokens) in enumerate(places)
                if tokens <= law.optimal_tokens(law.flops_for_parameters(size))), 0)  # fmt: skip
    start = places[met][1] if met else places[len(places) // 2][1]
    beyond = next((place for place in places if place[1] >= start + 40), places[-1])
    if all(math.hypot(beyond[1] - x, beyond[2] - y) > 24 for x, y in taken):
        taken.append((beyond[1], beyond[2]))
        numbers.append(text(beyond[1], beyond[2] + 4, f"{level:g}", "w-f-blue w-halo", "middle", 12))
    return [titled(f"loss {level:g}", f'<polyline class="w-s-blue" points="{points}" stroke-width="1.4"/>')]


def _size_at(law: Law, level: float, tokens: float, across: LogAxis) -> float:
    """The parameters that reach a loss with so many tokens, within the axis."""
    low, high = math.log(across.low), math.log(across.high)
    for _ in range(50):
        middle = (low + high) / 2
        found = law.loss(math.exp(middle), tokens)
        assert found is not None
        low, high = (middle, high) if found > level else (low, middle)
    return math.exp((low + high) / 2)


def _compute_lines(law: Law, across: LogAxis, up: LogAxis) -> list[str]:
    """Lines of equal compute, of each second power of ten, with their exponent at the upper end."""
    low, high = (math.log10(law.training_flops(*ends)) for ends in ((across.low, up.low), (across.high, up.high)))
    drawn = []
    for power in range(math.ceil(low / 2) * 2, math.floor(high) + 1, 2):
        product = 10.0**power / law.training_flops(1.0, 1.0)
        left, right = max(across.low, product / up.high), min(across.high, product / up.low)
        if right / left < 1.5:
            continue
        x, y = across.at(left), up.at(product / left)
        drawn.append(line(x, y, across.at(right), up.at(product / right), "w-s-grey", 1, "3 5"))
        drawn.append(text(x + 4, y + 14, f"1e{power} FLOP", "w-soft w-halo", size=11))
    return drawn


def _best(law: Law, across: LogAxis, up: LogAxis) -> list[str]:
    places = []
    for i in range(SAMPLES + 1):
        size = across.low * (across.high / across.low) ** (i / SAMPLES)
        tokens = law.optimal_tokens(law.flops_for_parameters(size))
        if up.low <= tokens <= up.high:
            places.append(f"{across.at(size):.1f},{up.at(tokens):.1f}")
    if len(places) < 2:
        return []
    drawn = f'<polyline class="w-s-orange" points="{" ".join(places)}" stroke-width="2.5"/>'
    return [titled("the split of compute with the least loss", drawn)]


def _mark(law: Law, mark: Mark, across: LogAxis, up: LogAxis) -> str:
    """A run."""
    x, y = across.at(mark.parameters), up.at(mark.tokens)
    loss = law.loss(mark.parameters, mark.tokens)
    title = mark.title or (f"{mark.name}: {short(mark.parameters)} parameters, {short(mark.tokens)} tokens, "
                           f"loss {loss:.3f} by this law")  # fmt: skip
    radius = 5 if mark.name else 3
    circle = f'<circle class="w-f-{mark.hue} w-gap" cx="{x:.1f}" cy="{y:.1f}" r="{radius}" stroke-width="1"/>'
    return titled(title, circle)


def _names(marks: Sequence[Mark], across: LogAxis, up: LogAxis) -> Iterator[str]:
    """Names of marks: beside those that stand alone, in a column with lines to them where they crowd."""
    places = sorted(((across.at(mark.parameters), up.at(mark.tokens), mark.name) for mark in marks if mark.name),
                    reverse=True)  # fmt: skip
    crowd: list[tuple[float, float, str]] = []
    for place in places:
        if crowd and math.dist(crowd[-1][:2], place[:2]) > CROWD:
            yield from _column(crowd, across)
            crowd = []
        crowd.append(place)
    yield from _column(crowd, across)


def _column(crowd: Sequence[tuple[float, float, str]], across: LogAxis) -> Iterator[str]:
    """Names above each other, the rightmost mark's lowest, so that lines to them do not cross."""
    if not crowd:
        return
    is_one = len(crowd) == 1
    wide = max(LETTER * len(name) for _, _, name in crowd)
    start = crowd[0][0] + (10 if is_one else 40)
    if start + wide > across.end:
        start = crowd[-1][0] - wide - (10 if is_one else 40)
    height = math.inf
    for x, y, name in crowd:
        height = min(y, height - 17)
        if not is_one:
            yield line(x, y, start - 3 if start > x else start + wide, height, "w-edge", 0.6)
        yield text(start, height + 4, name, "w-ink w-halo", size=12)


def _entries(what: str) -> list[tuple[str, str]]:
    return [
        ('<path class="w-s-blue" d="M0 0h16" stroke-width="1.4"/>', "equal loss, nats a token"),
        ('<path class="w-s-grey" d="M0 0h16" stroke-dasharray="3 5"/>', "equal compute"),
        ('<path class="w-s-orange" d="M0 0h16" stroke-width="2.5"/>', "best split of compute"),
        ('<circle class="w-f-green" cx="8" cy="0" r="4"/>', what),
    ]
