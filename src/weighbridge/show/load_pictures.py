"""How long do users wait over the load, what does it cost, how does it go over the day, and how do waits spread?

Lines over the load are of one replica, each point a simulation of its own (`load_curve.curve`) with steps in the middle
of their interval. What one replica has to do, and what it can, stands above them with its 90% interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weighbridge.estimate import Estimate
from weighbridge.load_curve import Point, knee
from weighbridge.loading import Load
from weighbridge.show import chart, loads
from weighbridge.show.chart import LEFT, RIGHT, TOP, WIDTH, Axis, LinearAxis, line, people, text, titled
from weighbridge.show.plans import amount, figure, title
from weighbridge.units import format_seconds

HUES = {"e2e_s": "blue", "ttft_s": "green", "tpot_s": "orange"}
DASHES = ("", "9 4", "2 4")
ROW, PLOT, LEGEND = 22, 330, 22
BEYOND = 1.5
"""A load of more than so many times what one replica bears, at the high bound, is off the right edge."""
STEPS = 200
"""Parts of a cumulative curve."""
HOUR_STEPS = (1, 2, 3, 6, 12, 24, 48, 120, 240, 480)
"""Hours between two marks of an axis."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A load of one replica that is marked: requests a second."""

    name: str
    style: str
    dash: str
    low: float
    value: float
    high: float
    words: str


def marks(found: Load, points: Sequence[Point]) -> list[Mark]:
    """What one replica has to do, where waits begin to grow, and what it bears."""

    def known(name: str, style: str, dash: str, value: float) -> Mark:
        return Mark(name, style, dash, value, value, value, f"{name}: {figure(value)}")

    def unsure(name: str, style: str, dash: str, one: Estimate) -> Mark:
        assert one.value is not None and one.low is not None and one.high is not None
        return Mark(name, style, dash, one.low, one.value, one.high, f"{name}: {amount(one)}")

    hours, bend = found.hours(), knee(points)
    every = [known("load of one replica", "w-edge", "", found.rate_of_one)]
    if len(hours) > 1:
        most = max(hour["requests_per_s"] for hour in hours) / found.replicas
        every.append(known("in its busiest hour", "w-edge", "2 3", most))
    if bend is not None:
        every.append(known("knee", "w-s-grey", "6 4", bend))
    if found.capacity is not None:
        every.append(unsure("within the limits", "w-s-purple", "6 4", found.capacity))
    return [*every, unsure("at most", "w-s-red", "6 4", found.bearable)]


def latency_svg(found: Load, points: Sequence[Point]) -> str:
    """Percentiles of the first token and of the whole answer over the load of one replica, with the limits."""
    limited = {f"{limit.name}_s" for limit in found.limits}
    names = [name for name in HUES if name != "tpot_s" or name in limited]
    percents = [f"p{percent:g}" for percent in sorted({50, found.percent, 99})]
    lines = [
        (name, percent, known)
        for name in names
        for percent in percents
        if (known := [(p.requests_per_s, p.seconds[name][percent]) for p in points if percent in p.seconds[name]])
    ]
    now = {name: found.latency[name][f"p{found.percent:g}"] for name in names}
    every = [y for _, _, known in lines for _, y in known] + [limit.seconds for limit in found.limits]
    every += [y for one in now.values() for y in (one.value, one.low, one.high) if y]
    marked = marks(found, points)
    across, top = _across(found, marked), TOP + ROW * len(marked) + 26.0
    up = chart.axis_of(every, top + PLOT, top)
    drawn = chart.grid(across, up, "requests/s of one replica", "seconds", "request/s", "s")
    drawn += _strip(marked, across, up)
    for name, percent, known in lines:
        label = f"{loads.MEASURES[name]}, {percent}"
        style = f'class="w-s-{HUES[name]}" stroke-width="2" stroke-dasharray="{DASHES[percents.index(percent)]}"'
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in known)
        drawn.append(titled(label, f'<polyline {style} points="{path}"/>'))
        drawn += [titled(f"{label} at {figure(x)} requests/s: {people(y, 's')}",
                         f'<circle class="w-f-{HUES[name]}" cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="2.5"/>')
                  for x, y in known]  # fmt: skip
    drawn += _limits(found, up, across)
    x = across.at(found.rate_of_one)
    aside = 14.0 if x + 14 * (len(now) + 1) < across.end else -14.0
    for name, one in now.items():
        x += aside
        if one.value and one.low and one.high:
            words = f"{loads.MEASURES[name]}, p{found.percent:g}, as simulated: {amount(one)} s"
            drawn.append(_whisker(words, HUES[name], x, up.at(one.value), up.at(one.low), up.at(one.high)))
    entries = [(line(0, 0, 16, 0, f"w-s-{HUES[name]}", 3, DASHES[percents.index(percent)]),
                f"{loads.MEASURES[name]}, {percent}") for name, percent, _ in lines]  # fmt: skip
    entries.append((line(8, -7, 8, 7, "w-edge", 2) + '<circle class="w-ink" cx="8" r="4"/>',
                    f"p{found.percent:g} as simulated, 90% interval"))  # fmt: skip
    foot = top + PLOT + 68
    caption = "curves: one replica, steps in the middle of their interval; knee: 5% take over twice as long as alone"
    return chart.picture("Latency over load", caption, foot + 2 * LEGEND + 14,
                         [*drawn, *chart.legend(entries, LEFT, foot)])  # fmt: skip


def cost_svg(found: Load, points: Sequence[Point]) -> str:
    """Money for a million tokens of answers over the load of one replica; it says so where no price is known."""
    heading, caption = "Cost over load", title(found.engine.plan)
    known = [(point.requests_per_s, point.usd_per_million_output_tokens) for point in points]
    now = found.cost()["usd_per_million_output_tokens"].value
    if now is None:
        return chart.picture(heading, caption, 110, [text(8, 84, f"nothing to draw: {found.usd_per_hour.note}")])
    shown = [(x, y) for x, y in known if y is not None]
    marked = marks(found, points)
    across, top = _across(found, marked), TOP + ROW * len(marked) + 26.0
    up = chart.axis_of([now, *(y for _, y in shown)], top + PLOT, top)
    drawn = chart.grid(across, up, "requests/s of one replica", "USD a million output tokens", "request/s", "USD")
    drawn += _strip(marked, across, up)
    path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in shown)
    drawn.append(titled("cost", f'<polyline class="w-s-blue" stroke-width="2.5" points="{path}"/>'))
    drawn += [titled(f"{figure(y)} USD a million output tokens at {figure(x)} requests/s",
                     f'<circle class="w-f-blue" cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="3.5"/>')
              for x, y in shown]  # fmt: skip
    drawn.append(titled(f"as simulated: {figure(now)} USD a million output tokens",
                        f'<circle class="w-s-blue" cx="{across.at(found.rate_of_one):.1f}" cy="{up.at(now):.1f}" '
                        'r="8" stroke-width="2.5"/>'))  # fmt: skip
    entries = [(line(0, 0, 16, 0, "w-s-blue", 3), "one replica"),
               ('<circle class="w-s-blue" cx="8" r="6" stroke-width="2"/>', "all replicas, as simulated")]  # fmt: skip
    foot = top + PLOT + 68
    return chart.picture(heading, f"{caption} · {figure(found.usd_per_hour.value or 0.0)} USD an hour, specified",
                         foot + 14, [*drawn, *chart.legend(entries, LEFT, foot)])  # fmt: skip


def hours_svg(found: Load) -> str:
    """The rate and the replicas that it takes over time; empty for a load of one stretch."""
    hours = found.hours()
    if len(hours) < 2:
        return ""
    width = found.outcome.bin_s / 3600
    starts = [hour["start_s"] / 3600 for hour in hours]
    whole = width * len(hours)
    apart = next((step for step in HOUR_STEPS if whole / step <= 16), HOUR_STEPS[-1])
    needed = [hour["replicas_needed"] for hour in hours]
    rates = [hour["requests_per_s"] for hour in hours]
    across = LinearAxis(starts[0], starts[0] + whole, LEFT, WIDTH - RIGHT)
    height, first = 150, TOP + 24.0
    second = first + height + 56
    drawn = []
    panels = [(first, "requests/s", "blue", rates, 0.0)]
    if None not in needed:
        panels.append((second, "replicas needed", "green", needed, float(found.replicas)))
    for top, name, hue, values, least in panels:
        up = LinearAxis(0.0, 1.1 * max(*values, least), top + height, top)
        for value in up.ticks(26):
            if name == "requests/s" or value == int(value):
                drawn.append(line(LEFT, up.at(value), WIDTH - RIGHT, up.at(value), "w-line"))
                drawn.append(text(LEFT - 8, up.at(value) + 4, f"{value:,.6g}", "w-soft", "end"))
        drawn += _bars(name, hue, starts, values, across, up)
        drawn.append(text(8, top - 10, name))
    if len(panels) == 2:
        y = up.at(found.replicas)
        words = f"simulated with {found.replicas:,}"
        drawn.append(titled(words, line(LEFT, y, WIDTH - RIGHT, y, "w-s-red", 2, "6 4")))
        drawn.append(text(WIDTH - RIGHT, second - 10, words, "w-f-red", "end"))
    else:
        drawn.append(text(8, second, "replicas needed: no number keeps the limits"))
    bottom = panels[-1][0] + height
    for hour in range(apart * math.ceil(across.low / apart), math.floor(across.high) + 1, apart):
        drawn.append(text(across.at(hour), bottom + 20, f"{hour:,}", "w-soft", "middle"))
    drawn.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 42, "hours from the start", "w-ink", "middle"))
    bears = found.capacity or found.bearable
    what = "within the limits" if found.capacity else "at most"
    caption = f"replicas for the mean of each stretch; one bears {amount(bears)} requests/s {what}"
    return chart.picture("Over time", caption, max(bottom + 56, second + 20), drawn)


def spread_svg(found: Load) -> str:
    """The share of requests that have their first token, and their whole answer, within a time."""
    share = np.linspace(0.0, 100.0, STEPS + 1)
    curves = {name: np.percentile(found.outcome.measure(name), share) for name in ("ttft_s", "e2e_s")}
    bands = {name: [(float(key[1:]), one.low, one.high) for key, one in found.latency[name].items()
                    if key != "mean" and one.low and one.high] for name in curves}  # fmt: skip
    every = [float(x) for xs in curves.values() for x in (xs[0], xs[-1])]
    every += [x for band in bands.values() for _, low, high in band for x in (low, high)]
    every += [limit.seconds for limit in found.limits if f"{limit.name}_s" in curves]
    top = TOP + 26.0
    across, up = chart.axis_of(every, LEFT, WIDTH - RIGHT), LinearAxis(0.0, 106.0, top + PLOT, top)
    drawn = chart.grid(across, up, "seconds", "% of the requests have it", "s", "%")
    entries = []
    for name, xs in curves.items():
        low = [f"{across.at(low):.1f},{up.at(y):.1f}" for y, low, _ in bands[name]]
        high = [f"{across.at(high):.1f},{up.at(y):.1f}" for y, _, high in bands[name]]
        drawn.append(
            titled(
                f"{loads.MEASURES[name]}: 90% interval",
                f'<polygon class="w-f-{HUES[name]} w-band" points="{" ".join([*low, *high[::-1]])}"/>',
            )
        )
        path = " ".join(f"{across.at(float(x)):.1f},{up.at(float(y)):.1f}" for x, y in zip(xs, share, strict=True))
        drawn.append(titled(loads.MEASURES[name], f'<polyline class="w-s-{HUES[name]}" stroke-width="2.5" '
                                                  f'points="{path}"/>'))  # fmt: skip
        for percent in loads.percents(found):
            one = found.latency[name][percent]
            if one.value:
                dot = f'cx="{across.at(one.value):.1f}" cy="{up.at(float(percent[1:])):.1f}" r="4"'
                drawn.append(titled(f"{loads.MEASURES[name]}, {percent}: {amount(one)} s",
                                    f'<circle class="w-f-{HUES[name]}" {dot}/>'))  # fmt: skip
        entries.append((line(0, 0, 16, 0, f"w-s-{HUES[name]}", 3), loads.MEASURES[name]))
    taken: list[tuple[float, float, float]] = []
    for limit in found.limits:
        hue = HUES[f"{limit.name}_s"]
        if f"{limit.name}_s" not in curves:
            continue
        x, words = across.at(limit.seconds), f"limit: {format_seconds(limit.seconds)}"
        wide = chart.LETTER * len(words)
        side = -1 if x - wide > LEFT else 1
        y = chart.free_line(taken, min(x, x + side * wide), max(x, x + side * wide), up.start - 10, -18)
        drawn.append(
            titled(
                f"{loads.MEASURES[f'{limit.name}_s']}, {words} for {found.percent:g}%",
                line(x, up.start, x, up.at(found.percent), f"w-s-{hue}", 2, "6 4"),
                line(x - 6, up.at(found.percent), x + 6, up.at(found.percent), f"w-s-{hue}", 2),
            )
        )
        drawn.append(text(x + 6 * side, y, words, f"w-f-{hue} w-halo", "end" if side < 0 else "start"))
    foot = top + PLOT + 68
    entries.append(('<rect class="w-f-grey w-band" y="-7" width="16" height="14"/>', "90% intervals from p50 on"))
    return chart.picture("How waits spread", f"{title(found.engine.plan)} · {len(found.outcome):,} requests",
                         foot + 14, [*drawn, *chart.legend(entries, LEFT, foot)])  # fmt: skip


def _across(found: Load, marked: Sequence[Mark]) -> LinearAxis:
    """Loads of one replica, up to all that is marked; a load far beyond what it bears is off the right edge."""
    bound = BEYOND * max(mark.high for mark in marked if mark.low < mark.high or mark.name == "at most")
    return LinearAxis(0.0, 1.04 * max(mark.high for mark in marked if mark.high <= bound), LEFT, WIDTH - RIGHT)


def _strip(marked: Sequence[Mark], across: LinearAxis, up: Axis) -> list[str]:
    """Each mark in a row of its own above the plot, with its interval and its words, and a line down through it."""
    drawn, over, y = list[str](), list[str](), TOP + 4.0
    for mark in marked:
        style = mark.style.replace("w-s-", "w-f-").replace("w-edge", "w-ink")
        if mark.value > across.high:
            over.append(text(across.end, y + 4, f"{mark.words}, beyond the right edge", style, "end"))
            y += ROW
            continue
        left, x, right = (across.at(value) for value in (mark.low, mark.value, mark.high))
        parts = [line(x, y, x, up.start, mark.style, 1.5, mark.dash),
                 f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>']  # fmt: skip
        if left < right:
            parts += [line(left, y, right, y, mark.style, 2), line(left, y - 5, left, y + 5, mark.style, 2),
                      line(right, y - 5, right, y + 5, mark.style, 2)]  # fmt: skip
        drawn.append(titled(mark.words, *parts))
        width = chart.LETTER * len(mark.words) + 12
        if right + width < WIDTH:
            over.append(text(right + 10, y + 4, mark.words, f"{style} w-halo"))
        elif left - width > 0:
            over.append(text(left - 10, y + 4, mark.words, f"{style} w-halo", "end"))
        else:
            over.append(text((left + right) / 2, y + 4, mark.words, f"{style} w-halo", "middle"))
        y += ROW
    return [*drawn, *over]


def _limits(found: Load, up: Axis, across: LinearAxis) -> list[str]:
    """A line at the height of each limit, with words at its right end."""
    drawn, taken = [], list[tuple[float, float, float]]()
    for limit in found.limits:
        name = f"{limit.name}_s"
        words = f"{loads.MEASURES[name]} up to {format_seconds(limit.seconds)} for {found.percent:g}%"
        at = up.at(limit.seconds)
        y = chart.free_line(taken, across.end - chart.LETTER * len(words), across.end, at - 6, -6)
        drawn.append(
            titled(f"limit: {words}", line(across.start, at, across.end, at, f"w-s-{HUES[name]}", 1.5, "14 4"))
        )
        drawn.append(text(across.end - 4, y, words, f"w-f-{HUES[name]} w-halo", "end"))
    return drawn


def _whisker(words: str, hue: str, x: float, y: float, low: float, high: float) -> str:
    return titled(words, line(x, low, x, high, f"w-s-{hue}", 2), line(x - 4, low, x + 4, low, f"w-s-{hue}", 2),
                  line(x - 4, high, x + 4, high, f"w-s-{hue}", 2),
                  f'<circle class="w-f-{hue}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')  # fmt: skip


def _bars(
    name: str, hue: str, starts: Sequence[float], values: Sequence[float], across: LinearAxis, up: LinearAxis
) -> list[str]:  # fmt: skip
    width = across.at(starts[1]) - across.at(starts[0])
    gap = 1.0 if width > 4 else 0.0
    drawn = []
    for start, value in zip(starts, values, strict=True):
        x, y = across.at(start), up.at(value)
        box = f'x="{x:.1f}" y="{y:.1f}" width="{width - gap:.1f}" height="{up.start - y:.1f}"'
        drawn.append(titled(f"{name} from hour {start:g}: {figure(value)}", f'<rect class="w-f-{hue}" {box}/>'))
    return drawn
