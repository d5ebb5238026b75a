"""By how much does perplexity grow? What was expected before beside what was measured, on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.compress.shrink import Shrunk
from weighbridge.show import chart, shrinking
from weighbridge.show.chart import TOP, line, text, titled

LEFT, RIGHT, NUMBERS, ROW = 230, 660, 680, 30
REACH = 3
"""How far an interval may widen the scale beyond what is known best, in widths of that; beyond there are arrows."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A growth of perplexity as a share, with its interval."""

    label: str
    hue: str
    value: float
    low: float
    high: float

    @property
    def words(self) -> tuple[str, str, str]:
        """The value and both ends."""
        value, low, high = map(shrinking.growth_words, (self.value, self.low, self.high))
        return value, low, high


def growths(found: Shrunk) -> list[Growth]:
    """What was expected and what was measured, as far as either is known."""
    expected, measured, known = found.expected, shrinking.perplexity(found), []
    if expected.value is not None and expected.low is not None and expected.high is not None:
        value, low, high = map(shrinking.growth, (expected.value, expected.low, expected.high))
        known.append(Growth("expected before, 90%", "orange", value, low, high))
    if measured is not None:
        ratio = measured.ratio
        label = f"measured, {100 * measured.confidence:.4g}%"
        low, high = (
            -math.inf if math.isnan(ratio.low) else ratio.low,
            math.inf if math.isnan(ratio.high) else ratio.high,
        )
        known.append(Growth(label, "blue", ratio.value - 1, low - 1, high - 1))
    return [one for one in known if math.isfinite(one.value)]


def svg(known: Sequence[Growth], title: str) -> str:
    """The picture of these; intervals go on beyond the scale as arrows.

    Args:
        known: at least one; the interval of the last is drawn whole, unless it is absurd.
        title: stands above it.

    Returns:
        One SVG document.

    Example:
        >>> "no known bound" in svg([Growth("expected before, 90%", "orange", 0.1, 0.01, 1e6)], "Growth")
        True
    """
    ends = [end for one in known for end in (one.low, one.value, one.high)]
    best, most = known[-1], shrinking.MOST_GROWTH
    near = [0.0, *(min(one.value, most) for one in known), *(end for end in (best.low, best.high) if abs(end) < most)]
    room = REACH * (max(near) - min(near)) or 0.01
    low, high = max(min(near) - room, min(*ends, 0.0)), min(max(near) + room, max(*ends, 0.0))
    width = 1.06 * ((high - low) or 0.01)
    low = (low + high - width) / 2

    def x(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, (share - low) / width))

    bottom = TOP + ROW * len(known)
    drawn = []
    for tick in _ticks(low, low + width):
        drawn.append(line(x(tick), TOP - 4, x(tick), bottom, "w-edge" if tick == 0 else "w-line"))
        drawn.append(text(x(tick), bottom + 16, f"{100 * tick:+g}%" if tick else "0", "w-soft", "middle"))
    for place, one in enumerate(known):
        y, hue = TOP + ROW * (place + 0.5), one.hue
        marks = [line(x(one.low), y, x(one.high), y, f"w-s-{hue}", 3)]
        for end, goes_on, way in ((one.low, one.low < low, 10), (one.high, one.high > low + width, -10)):
            points = f"{x(end):.1f},{y:.1f} {x(end) + way:.1f},{y - 6:.1f} {x(end) + way:.1f},{y + 6:.1f}"
            arrow = f'<polygon class="w-f-{hue}" points="{points}"/>'
            marks.append(arrow if goes_on else line(x(end), y - 5, x(end), y + 5, f"w-s-{hue}", 2))
        if low <= one.value <= low + width:
            marks.append(f'<circle class="w-f-{hue}" cx="{x(one.value):.1f}" cy="{y:.1f}" r="5.5"/>')
        said = "{} ({} to {})".format(*one.words)
        drawn.append(titled(f"{one.label}: {said}", text(8, y + 4, one.label), *marks, text(NUMBERS, y + 4, said)))
    caption = "A loss lies to the right: perplexity after over before, less one. Arrows go on beyond the scale."
    return chart.picture(title, caption, bottom + 28, drawn)


def _ticks(low: float, high: float) -> list[float]:
    """Round shares, five or so."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * unit for digit in (1, 2, 5, 10) if digit * unit >= rough)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
