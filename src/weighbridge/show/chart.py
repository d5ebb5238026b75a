"""What do the pictures of a plan share? Frame, colours for light and dark, axes, units for people.

The SVG has no script and no outside reference; each drawn part carries a `title`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from weighbridge.errors import printable

WIDTH = 960
LEFT, RIGHT, TOP = 84, 24, 72
LETTER = 7.3
"""About the width of a letter of 13 pixels."""

HUES = {"blue": ("#0072b2", "#56b4e9"), "orange": ("#b35900", "#e69f00"), "green": ("#00724f", "#2fc49a"),
        "grey": ("#6b6b6b", "#a8a8a8"), "red": ("#b3261e", "#ff8a80"), "purple": ("#a0307a", "#e78ac3")}  # fmt: skip
"""A hue on light and on dark ground, after the Okabe-Ito palette."""


def _style() -> str:
    plain = "".join(
        f".w-f-{name}{{fill:{pair[0]}}}.w-s-{name}{{stroke:{pair[0]};fill:none}}" for name, pair in HUES.items()
    )
    night = "".join(f".w-f-{name}{{fill:{pair[1]}}}.w-s-{name}{{stroke:{pair[1]}}}" for name, pair in HUES.items())
    return (
        "<style>.w-ink{fill:#1a1a1a}.w-soft{fill:#555}.w-ground{fill:#fff}.w-line{stroke:#ddd}.w-room{fill:#f0f0f0;"
        "stroke:#888}.w-edge{stroke:#1a1a1a}.w-halo{paint-order:stroke;stroke:#fff;stroke-width:4px;"
        f"stroke-linejoin:round}}.w-gap{{stroke:#fff}}.w-band{{fill-opacity:.18}}{plain}"
        "@media (prefers-color-scheme:dark){.w-ink{fill:#f2f2f2}.w-soft{fill:#b5b5b5}.w-ground{fill:#16181c}"
        ".w-line{stroke:#3a3d44}.w-room{fill:#23262c;stroke:#8a8f99}.w-edge{stroke:#f2f2f2}.w-halo{stroke:#16181c}"
        f".w-gap{{stroke:#16181c}}{night}}}</style>"
    )


STYLE = _style()


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic axis from one value to another, between two places in pixels."""

    low: float
    high: float
    start: float
    end: float

    @staticmethod
    def of(values: Iterable[float], start: float, end: float, room: float = 1.5) -> LogAxis:
        """The axis that holds these values with some room on both sides."""
        found = [value for value in values if value > 0 and math.isfinite(value)]
        return LogAxis(min(found) / room, max(found) * room, start, end)

    def at(self, value: float) -> float:
        """The place of a value; values outside are at the ends.

        Example:
            >>> LogAxis(1, 100, 0, 200).at(10), LogAxis(1, 100, 0, 200).at(1000)
            (100.0, 200.0)
        """
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + min(share, 1.0) * (self.end - self.start)

    def ticks(self, apart: float = 44) -> list[float]:
        """Round numbers on it, at least so many pixels apart: 1, 2 and 5 times powers of ten where there is room.

        Example:
            >>> LogAxis(1, 100, 0, 600).ticks()
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
        """
        exponents = range(math.floor(math.log10(self.low)) - 1, math.ceil(math.log10(self.high)) + 1)
        decade = abs(self.end - self.start) / math.log10(self.high / self.low)
        digits = (1, 2, 5) if 0.3 * decade >= apart else (1,)
        step = max(1, math.ceil(apart / decade))
        return [digit * 10.0**e for e in exponents if e % step == 0 for digit in digits
                if self.low * 0.999 <= digit * 10.0**e <= self.high * 1.001]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinearAxis:
    """An even axis from one value to another, between two places in pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value; values outside are at the ends.

        Example:
            >>> LinearAxis(0, 10, 0, 200).at(5), LinearAxis(0, 10, 0, 200).at(11)
            (100.0, 200.0)
        """
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, apart: float = 44) -> list[float]:
        """Round numbers on it, at least so many pixels apart: 1, 2 or 5 times a power of ten between two of them.

        Example:
            >>> LinearAxis(0, 1.2, 0, 400).ticks(60)
            [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
        """
        least = apart * (self.high - self.low) / abs(self.end - self.start)
        power = math.floor(math.log10(least))
        digit, power = next(((digit, power) for digit in (1, 2, 5) if digit * 10.0**power >= least), (1, power + 1))
        first, last = (math.floor(end / (digit * 10.0**power) + slack) for end, slack in
                       ((self.low, 0.999), (self.high, 0.001)))  # fmt: skip
        return [round(place * digit * 10.0**power, max(0, -power)) for place in range(first, last + 1)]


Axis = LogAxis | LinearAxis
UNPREFIXED = ("USD", "h", "%", "request/s")
"""Units that stand in the name of their axis: numbers on it are written out."""


def axis_of(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds these values: logarithmic where they span a power of ten, from 0 elsewhere.

    Example:
        >>> axis_of([1, 9], 0, 100), axis_of([1, 40], 0, 100).low
        (LinearAxis(low=0.0, high=9.72, start=0, end=100), 0.8)
    """
    if max(values) >= 10 * min(value for value in values if value > 0):
        return LogAxis.of(values, start, end, 1.25)
    return LinearAxis(0.0, 1.08 * max(values), start, end)


def people(value: float, unit: str = "") -> str:
    """A number for people, with a prefix before the unit; many seconds are written out.

    Example:
        >>> people(165.2e12, "FLOP/s"), people(0.0125, "s"), people(131072, "B"), people(2000, "s")
        ('165 TFLOP/s', '12.5 ms', '131 kB', '2,000 s')
    """
    if value == 0:
        return f"0 {unit}".rstrip()
    for scale, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""),
                        (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):  # fmt: skip
        if abs(value) >= scale * 0.9995 and not (unit == "s" and scale > 1):
            return f"{_short(value / scale)} {name}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(x: float, y: float, words: str, style: str = "w-ink", anchor: str = "start", size: int = 13) -> str:
    """A line of text."""
    side = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" font-size="{size}"{side}>{escape(words)}</text>'


def titled(title: str, *parts: str) -> str:
    """Drawn parts with the words that appear when a pointer rests on them."""
    return f"<g><title>{escape(printable(title))}</title>{''.join(parts)}</g>"


def line(x1: float, y1: float, x2: float, y2: float, style: str, width: float = 1, dash: str = "") -> str:
    """A straight line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke-width="{width:g}"{dashed}/>')  # fmt: skip


def shortened(words: str, width: float) -> str:
    """Words that fit into so many pixels; an ellipsis stands for what does not.

    Example:
        >>> shortened("a long name of a model", 90), shortened("short", 90)
        ('a long name…', 'short')
    """
    room = max(1, int(width / LETTER))
    return words if len(words) <= room else words[: room - 1].rstrip() + "…"


def picture(heading: str, caption: str, height: float, parts: Iterable[str]) -> str:
    """One SVG document with a heading and a caption above what is drawn."""
    heading, caption = printable(heading), shortened(printable(caption), WIDTH)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(heading, {chr(34): "&quot;"})}" font-family="system-ui, sans-serif" font-size="13">',
        STYLE,
        f'<rect class="w-ground" width="{WIDTH}" height="{height:.0f}"/>',
        f'<text class="w-ink" x="8" y="26" font-size="20" font-weight="600">{escape(heading)}</text>',
        text(8, 48, caption, "w-soft"),
        *parts,
        "</svg>",
    ])  # fmt: skip


def grid(across: Axis, up: Axis, x_label: str, y_label: str, x_unit: str, y_unit: str) -> list[str]:
    """Lines, numbers and names of two axes."""

    def words(value: float, unit: str) -> str:
        return f"{value:,.6g}" if unit in UNPREFIXED else people(value, unit)

    left, right, bottom, top = across.start, across.end, up.start, up.end
    drawn = []
    for value in up.ticks(26):
        y = up.at(value)
        drawn.append(line(left, y, right, y, "w-line"))
        drawn.append(text(left - 8, y + 4, words(value, y_unit), "w-soft", "end"))
    for value in across.ticks():
        x = across.at(value)
        drawn.append(line(x, bottom, x, top, "w-line"))
        drawn.append(text(x, bottom + 20, words(value, x_unit), "w-soft", "middle"))
    drawn.append(text((left + right) / 2, bottom + 42, x_label, "w-ink", "middle"))
    drawn.append(text(8, top - 8, y_label, "w-ink"))
    return drawn


def legend(entries: Sequence[tuple[str, str]], x: float, y: float) -> list[str]:
    """Marks with their names in a row, or two: each a drawn mark that begins at 0, 0 and is 16 wide, and a name."""
    drawn, start = [], x
    for mark, name in entries:
        if x > start and x + 24 + LETTER * len(name) > WIDTH:
            x, y = start, y + 22
        drawn.append(f'<g transform="translate({x:.0f} {y:.0f})">{mark}</g>' + text(x + 22, y + 4, name))
        x += 46 + LETTER * len(name)
    return drawn


def free_line(taken: list[tuple[float, float, float]], left: float, right: float, y: float, step: float) -> float:
    """The nearest height, in steps from `y`, at which a line of text overlaps none of those taken; it is taken then."""
    while any(abs(y - other) < 16 and left < end and right > start for start, end, other in taken):
        y += step
    taken.append((left, right, y))
    return y
