"""How did models grow? A picture: parameters on a logarithmic scale over the date of release.

A filled disc is counted, a ring is stated by the developer, a dashed bar is a claimed range. Models that were the
largest when they came out carry their name. The SVG has no script and no outside reference, and colours for light and
dark ground.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from weighbridge.estimate import Basis, Estimate
from weighbridge.growth import Point
from weighbridge.units import format_count

WIDTH, HEIGHT = 960, 560
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 64, 56
_MARKS = {Basis.EXACT: "counted", Basis.SPECIFIED: "stated", Basis.ASSUMED: "claimed"}


def svg(points: Sequence[Point]) -> str:
    """The picture of these points as one SVG document."""
    spans = [_span(point) for point in points]
    years = [point.released for point in points]
    first, last = (years[0].year, years[-1].year + 1) if years else (2012, 2026)
    low = math.floor(math.log10(min((span[0] for span in spans), default=1e6)))
    high = math.ceil(math.log10(max((span[1] for span in spans), default=1e12)))
    high = max(high, low + 1)

    def x(day: datetime.date) -> float:
        start, end = datetime.date(first, 1, 1), datetime.date(last, 1, 1)
        return LEFT + (day - start).days / (end - start).days * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    step = max(1, (last - first) // 10)
    grid = [
        f'<line class="w-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(10.0**e):.1f}" y2="{y(10.0**e):.1f}"/>'
        f'<text class="w-soft" x="{LEFT - 8}" y="{y(10.0**e) + 4:.1f}" text-anchor="end">{format_count(10**e)}</text>'
        for e in range(low, high + 1)
    ]
    grid += [
        f'<text class="w-soft" x="{x(datetime.date(year, 1, 1)):.1f}" y="{HEIGHT - BOTTOM + 20}" '
        f'text-anchor="middle">{year}</text>'
        for year in range(first, last + 1, step)
    ]
    drawn = [_mark(point, x(point.released), y(span[0]), y(span[1])) for point, span in zip(points, spans, strict=True)]
    heading = f"Parameters of {len(points)} models over time"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(heading)}" font-family="system-ui, sans-serif" font-size="13">',
        "<style>.w-ink{fill:#1a1a1a}.w-soft{fill:#555}.w-ground{fill:#fff}.w-line{stroke:#ddd}"
        ".w-name{paint-order:stroke;stroke:#fff;stroke-width:4px}.w-exact{fill:#0072b2;fill-opacity:.75}.w-specified{fill:none;stroke:#b35900;stroke-width:2}"
        ".w-assumed{stroke:#a0307a;stroke-width:3;stroke-dasharray:4 3}"
        "@media (prefers-color-scheme:dark){.w-ink{fill:#f2f2f2}.w-soft{fill:#b5b5b5}.w-ground{fill:#16181c}"
        ".w-line{stroke:#3a3d44}.w-name{stroke:#16181c}.w-exact{fill:#56b4e9}.w-specified{stroke:#e69f00}.w-assumed{stroke:#e78ac3}}</style>",
        f'<rect class="w-ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="w-ink" x="8" y="26" font-size="20" font-weight="600">{escape(heading)}</text>',
        '<text class="w-soft" x="8" y="48">logarithmic scale; named: the largest of its time</text>',
        *grid,
        *_names(points, [x(point.released) for point in points], [y(span[1]) for span in spans]),
        *drawn,
        *_legend({_basis(point) for point in points}),
        "</svg>",
    ])  # fmt: skip


def _content(point: Point) -> Estimate:
    assert isinstance(point.parameters.content, Estimate)
    return point.parameters.content


def _basis(point: Point) -> Basis:
    return _content(point).basis


def _span(point: Point) -> tuple[float, float]:
    content = _content(point)
    assert content.low is not None
    assert content.high is not None
    return content.low, content.high


def _mark(point: Point, x: float, bottom: float, top: float) -> str:
    basis = _basis(point)
    low, high = _span(point)
    size = f"{low:,.0f}" + (f" to {high:,.0f}" if high > low else "")
    title = f"{point.model.title}, {point.released}: {size} parameters ({_MARKS[basis]})"
    return f"<g><title>{escape(title)}</title>{_shape(basis, x, bottom, top)}</g>"


def _shape(basis: Basis, x: float, bottom: float, top: float) -> str:
    if basis is Basis.ASSUMED:
        return f'<line class="w-assumed" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom + 6:.1f}" y2="{top - 6:.1f}"/>'
    return f'<circle class="w-{basis.value}" cx="{x:.1f}" cy="{(bottom + top) / 2:.1f}" r="4"/>'


def _names(points: Sequence[Point], across: Sequence[float], up: Sequence[float]) -> list[str]:
    """The names of the records, to the left of their marks, where nothing larger came before them."""
    placed: list[tuple[float, float, float]] = []
    drawn = []
    for point, x, y in sorted(zip(points, across, up, strict=True), key=lambda item: -item[2]):
        if not point.is_record:
            continue
        text, right, line = point.model.title, x - 9, y + 4
        left = right - 7.2 * len(text)
        while any(abs(line - other) < 14 and left < end and right > start for start, end, other in placed):
            line -= 7
        placed.append((left, right, line))
        drawn.append(f'<text class="w-ink w-name" x="{right:.1f}" y="{line:.1f}" font-size="12" '
                     f'text-anchor="end">{escape(text)}</text>')  # fmt: skip
    return drawn


def _legend(bases: set[Basis]) -> list[str]:
    marks, x, y = [], LEFT, HEIGHT - 16
    for basis in (basis for basis in _MARKS if basis in bases):
        marks.append(_shape(basis, x + 6, y, y))
        marks.append(f'<text class="w-ink" x="{x + 18}" y="{y + 4}">{_MARKS[basis]}</text>')
        x += 96
    return marks
