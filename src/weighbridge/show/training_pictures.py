"""How do the memory and the cost of training look? Parts of each device over the stages of ZeRO; cost against size."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from weighbridge.errors import printable
from weighbridge.show import chart, iso_loss, plans, report, trainings
from weighbridge.show.chart import LEFT, RIGHT, TOP, WIDTH, LogAxis, line, text, titled
from weighbridge.training import TrainingPlan
from weighbridge.training_points import SizePoint, StagePoint, sizes, stages
from weighbridge.units import format_count

ROW, BAR, EDGE = 58, 24, 8
PARTS = {"weights": "blue", "gradients": "purple", "optimizer": "orange", "activations": "green", "overhead": "grey"}
ROOM = 1.25
"""How much of the picture is beyond the memory of a device, at least."""
MOST_TIMES = 20
"""Where more is needed than so many times a device has, its box would be a line: larger bars are cut there."""
HEIGHT = 460


def page(plan: TrainingPlan) -> str:
    """The plan as one self-contained HTML page."""
    heads = ("quantity", "value", "basis")
    memory = [row[:3] for row in trainings.memory_rows(plan)]
    found = plan.chinchilla
    layouts = trainings.layout_rows(plan.layouts)
    parts = [
        f'<h2>{escape(plan.title)}</h2><p class="soft">{escape(trainings.run_words(plan))}<br>'
        f"{escape(trainings.layout_words(plan))}</p>",
        memory_svg(plan),
        report.table(f"Memory of each device: {plans.VERDICTS[plan.memory.fits]}", ("part", "bytes", "basis"), memory),
        report.table("Compute", heads, trainings.compute_rows(plan)),
        report.table("Time, money, energy", heads, trainings.cost_rows(plan)),
        report.items(list(trainings.origin_rows(plan))),
    ]
    if plan.project is not None:
        rows = trainings.project_rows(plan.project)
        parts.append(report.table(f"The {trainings.PROJECT}", ("item", "USD", "basis"), rows))
    parts.append(cost_svg(plan, list(sizes(plan))))
    if plan.run.method.name == "full" and found is not None:
        marks = [iso_loss.Mark(found.parameters, found.tokens, plan.source)]
        drawn = iso_loss.svg(found.loss_law, marks, "Loss over size and tokens", plan.title, "this plan")
        parts += [*(f"<p>{escape(words)}</p>" for words in trainings.data_lines(plan)), drawn]
    if layouts:
        parts.append(report.table("Layouts", trainings.LAYOUT_HEADS, layouts))
    parts.append(report.items(plan.notes))
    return report.document(plan.title, f'<div class="weighbridge"><style>{report.STYLE}</style>{"".join(parts)}</div>')


def memory_svg(plan: TrainingPlan) -> str:
    """What each device holds at the stages of ZeRO, against its memory. All bars have one scale."""
    found = stages(plan)
    capacity = plan.memory.capacity_bytes or 0
    needed = max(one.memory.per_device_bytes.high or 0.0 for one in found)
    most = max(ROOM * capacity, 1.05 * needed)
    scale = (WIDTH - 2 * EDGE) / (min(most, MOST_TIMES * capacity) if capacity else most)
    drawn = [part for place, one in enumerate(found) for part in _row(one, TOP + 20 + place * ROW, scale, capacity)]
    bottom = TOP + 20 + len(found) * ROW
    marks = [(f'<rect class="w-f-{hue}" y="-7" width="14" height="14"/>', name) for name, hue in PARTS.items()]
    marks.append(('<rect class="w-room" y="-7" width="14" height="14"/>', "memory of a device"))
    marks.append((line(0, 0, 16, 0, "w-edge", 2) + line(0, -5, 0, 5, "w-edge", 2) + line(16, -5, 16, 5, "w-edge", 2),
                  "needed, 90% interval"))  # fmt: skip
    heading = "Memory of each device, by stage of ZeRO"
    return chart.picture(heading, plan.title, bottom + 50, [*drawn, *chart.legend(marks, EDGE, bottom + 12)])


def _row(one: StagePoint, top: float, scale: float, capacity: int) -> list[str]:
    total, y, end = one.memory.per_device_bytes, top + 22, WIDTH - EDGE
    of = f"of {plans.size(total.exact(capacity, 'B'))}" if capacity else "of an unknown memory"
    verdict = {True: "fits", False: "does not fit", None: "unknown"}[one.memory.fits]
    right = f"{plans.size(total)} {of}: {verdict}"
    label = chart.shortened(printable(one.label), WIDTH - 4 * EDGE - chart.LETTER * len(right))
    style = "w-f-red" if one.memory.fits is False else "w-soft"
    drawn = [text(EDGE, top + 14, label), text(end, top + 14, right, style, "end")]
    if capacity:
        width = min(capacity * scale, end - EDGE)
        box = f'<rect class="w-room" x="{EDGE}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
        drawn.append(titled(f"memory of a device: {capacity:,} B", box))
    x = float(EDGE)
    beyond = sum(part.value or 0.0 for part in one.memory.parts().values()) - (total.value or 0.0)
    for name, size in one.memory.parts().items():
        shown = (size.value or 0.0) - (max(0.0, beyond) if name == "gradients" else 0.0)
        width = min(max(0.0, shown) * scale, end - x)
        bar = (f'<rect class="w-f-{PARTS[name]}" x="{x:.2f}" y="{y + 3}" width="{width:.2f}" '
               f'height="{BAR - 6}"/>')  # fmt: skip
        later = ", not there yet at the peak" if name == "gradients" and beyond > 1 else ""
        drawn.append(titled(f"{name}: {plans.size(size)}, {size.basis.value}{later}", bar))
        x += width
    if total.low is not None and total.high is not None and total.high * scale < end:
        low, high, middle = EDGE + total.low * scale, EDGE + total.high * scale, y + BAR / 2
        whisker = [("w-gap", 4.0), ("w-edge", 1.5)]
        drawn.append(titled(f"needed: {plans.size(total)}, {total.basis.value}", *(
            line(low, middle, high, middle, style, width) + line(low, middle - 5, low, middle + 5, style, width)
            + line(high, middle - 5, high, middle + 5, style, width) for style, width in whisker)))  # fmt: skip
    return drawn


def cost_svg(plan: TrainingPlan, sizes: Sequence[SizePoint]) -> str:
    """What training costs against the number of parameters: at 20 tokens each, and at the tokens of the plan."""
    known = [one for one in sizes if one.cost_usd.value]
    if not known:
        words = plan.cost_usd.note or "no price is known"
        return chart.picture("Cost against size", plan.title, TOP + 40, [text(EDGE, TOP + 12, words)])
    values = [bound for one in known for bound in (one.cost_usd.low, one.cost_usd.high) if bound]
    across = LogAxis.of([one.parameters for one in known], LEFT + 20, WIDTH - RIGHT - 10, 1.3)
    up = LogAxis.of(values, HEIGHT, TOP + 20)
    drawn = iso_loss.counted_grid(across, up, "parameters", "USD")
    for rule, hue in (("20 tokens a parameter", "blue"), ("the tokens of this plan", "orange")):
        line_of = [one for one in known if one.rule == rule]
        if not line_of:
            continue
        above = [(across.at(one.parameters), up.at(one.cost_usd.high or 0)) for one in line_of]
        below = [(across.at(one.parameters), up.at(one.cost_usd.low or 0)) for one in reversed(line_of)]
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*above, *below))
        drawn.append(f'<polygon class="w-f-{hue} w-band" points="{band}"/>')
        middle = " ".join(f"{across.at(o.parameters):.1f},{up.at(o.cost_usd.value or 0):.1f}" for o in line_of)
        drawn.append(f'<polyline class="w-s-{hue}" stroke-width="2" points="{middle}"/>')
        for one in line_of:
            x, y = across.at(one.parameters), up.at(one.cost_usd.value or 0)
            title = (f"{format_count(one.parameters)} parameters, {format_count(one.tokens)} tokens: "
                     f"{plans.amount(one.cost_usd)} USD")  # fmt: skip
            drawn.append(titled(title, f'<circle class="w-f-{hue}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'))
    own = plan.parameters, plan.cost_usd
    if own[1].value:
        x, y = across.at(own[0]), up.at(own[1].value)
        drawn.append(titled(f"this plan: {plans.amount(own[1])} USD",
                            f'<circle class="w-f-red" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'))  # fmt: skip
    hues = {"20 tokens a parameter": "blue", "the tokens of this plan": "orange", "this plan": "red"}
    marks = [(f'<rect class="w-f-{hue}" y="-7" width="14" height="14"/>', name) for name, hue in hues.items()]
    return chart.picture("Cost against size", f"{plan.title}; bands are 90% intervals", HEIGHT + 90,
                         [*drawn, *chart.legend(marks, EDGE, HEIGHT + 68)])  # fmt: skip
