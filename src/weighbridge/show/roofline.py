"""Is it bound by bandwidth or by arithmetic? A roofline (Williams, Waterman, Patterson 2009) with the model's points.

The roof is what the makers specify: bandwidth times FLOPs per byte, up to the peak of each number format. A point is
what is predicted: the FLOPs of a pass over the bytes that it reads, and those FLOPs over the time that it takes. How
far it lies below the roof is what overhead and the engine cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.estimate import Estimate
from weighbridge.planning import Plan, Question
from weighbridge.predict import steps
from weighbridge.predict.demand import Demand, demand
from weighbridge.predict.steps import Rates
from weighbridge.show import chart, plans
from weighbridge.show.chart import LEFT, RIGHT, TOP, WIDTH, LogAxis, people, text, titled

HEIGHT, BOTTOM = 520, 448
CEILINGS = ("blue", "green", "orange", "grey")
ALONE = Rates(bytes_per_s=1.0, flops_per_s=1.0, link_bytes_per_s=1.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """A pass of the model: FLOPs per byte, and FLOP/s with its interval."""

    label: str
    intensity: float
    flops_per_s: float
    low: float
    high: float


def marks(plan: Plan, question: Question) -> list[Mark]:
    """Prefill, decoding alone, and decoding as many as are asked for; none where the speed is unknown."""
    architecture = plan.inspection.architecture
    assert architecture is not None
    need = demand(architecture)
    alone = question.ask(batch=1, concurrency=None)
    found = [_prefill(plan, need), _decode(alone, need, "decoding, batch 1")]
    sequences = plan.service.sequences
    if sequences > 1:
        many = f"{sequences} clients" if plan.service.concurrency else f"batch {sequences}"
        found.append(_decode(plan, need, f"decoding, {many}"))
    return [mark for mark in found if mark is not None]


def _decode(plan: Plan, need: Demand, label: str) -> Mark | None:
    fast, service, stored = plan.speed, plan.service, plan.weights
    if not fast.tpot_s.value or not fast.output_tok_s.value:
        return None
    running = fast.output_tok_s.value * fast.tpot_s.value
    context = service.prompt_tokens + service.output_tokens / 2
    flops = running * (need.flops_per_token + need.attention_flops(context))
    cache = float(steps.cache_bytes(need, context, 1, service.cache_bytes_per_element))
    read = stored.dense_bytes + stored.expert_bytes * float(steps.touched_share(need, running)) + running * cache
    return _mark(label, flops, read, fast.tpot_s)


def _prefill(plan: Plan, need: Demand) -> Mark | None:
    service, stored = plan.service, plan.weights
    rate = plan.speed.prefill_tok_s
    if not rate.value or not rate.low or not rate.high:
        return None
    prompt = service.prompt_tokens
    flops = float(steps.prefill_flops(need, ALONE, prompt))
    chunk = min(prompt, service.runtime.batched_tokens)
    passes = math.ceil(prompt / chunk)
    read = passes * (stored.dense_bytes + stored.expert_bytes * float(steps.touched_share(need, chunk)))
    seconds = Estimate(prompt / rate.value, prompt / rate.high, prompt / rate.low, "s", rate.basis)
    return _mark(f"a prompt of {prompt:,}", flops, read, seconds)


def _mark(label: str, flops: float, read: float, seconds: Estimate) -> Mark:
    assert seconds.value and seconds.low and seconds.high
    return Mark(label, flops / read, flops / seconds.value, flops / seconds.high, flops / seconds.low)


def ceilings(plan: Plan) -> list[tuple[str, float]]:
    """The peaks of the machine, those of one height together, the highest first."""
    found: dict[float, list[str]] = {}
    for name, rate in plan.machine.device.flops_per_s.items():
        near = next((height for height in found if abs(height / rate - 1) < 0.02), rate)
        found.setdefault(near, []).append(name)
    return [(", ".join(names), rate * plan.machine.devices) for rate, names in sorted(found.items(), reverse=True)]


def svg(plan: Plan, found: Sequence[Mark]) -> str:
    """The picture; it says so where bandwidth or arithmetic of the device is unknown."""
    device, roofs = plan.machine.device, ceilings(plan)
    heading = "Roofline" + (f": bound by {plan.speed.bound_by}" if plan.speed.bound_by else "")
    caption = f"{plans.title(plan)} · lines: dense peaks as specified; points: predicted, 90% intervals"
    if device.memory_bytes_per_s is None or not roofs:
        missing = "bandwidth" if device.memory_bytes_per_s is None else "rate of arithmetic"
        words = f"the {missing} of {device.title} is unknown: there is no roof to draw"
        return chart.picture(heading, plans.title(plan), 110, [text(8, 84, words)])
    slope = device.memory_bytes_per_s * plan.machine.devices
    top, lowest = roofs[0][1], roofs[-1][1]
    ends = [lowest / slope / 4, top / slope * 4, *(mark.intensity for mark in found)]
    across = LogAxis.of(ends, LEFT, WIDTH - RIGHT, 2.0)
    heights = [top, *(value for mark in found for value in (mark.low, mark.high))]
    if not found:
        heights.append(slope * across.low)
    up = LogAxis.of(heights, BOTTOM, TOP + 16, 2.2)
    drawn = chart.grid(across, up, "FLOPs per byte read", "FLOP/s", "", "")
    start = max(across.low, up.low / slope)
    bandwidth = chart.line(across.at(start), up.at(start * slope), across.at(top / slope), up.at(top), "w-edge", 2)
    drawn.append(titled(f"bandwidth: {people(slope, 'B/s')}, specified", bandwidth))
    taken: list[tuple[float, float, float]] = []
    for place, (name, rate) in enumerate(roofs):
        hue = CEILINGS[place % len(CEILINGS)]
        words = f"{name}: {people(rate, 'FLOP/s')}"
        y = up.at(rate)
        drawn.append(titled(f"peak of {words}, specified",
                            chart.line(across.at(rate / slope), y, across.end, y, f"w-s-{hue}", 2)))  # fmt: skip
        line = chart.free_line(taken, across.end - chart.LETTER * len(words), across.end, y - 6, 4)
        drawn.append(text(across.end - 4, line, words, f"w-f-{hue} w-halo", "end"))
    drawn += _names(found, across, up)
    words = f"memory bandwidth: {people(slope, 'B/s')}"
    drawn += chart.legend([(chart.line(0, 0, 16, 0, "w-edge", 2), words),
                           ('<circle class="w-f-red" cx="8" r="5"/>', "predicted")], LEFT, HEIGHT - 14)  # fmt: skip
    return chart.picture(heading, caption, HEIGHT, drawn)


def _names(found: Sequence[Mark], across: LogAxis, up: LogAxis) -> list[str]:
    drawn, taken = [], list[tuple[float, float, float]]()
    for mark in found:
        x, y = across.at(mark.intensity), up.at(mark.flops_per_s)
        low, high = up.at(mark.low), up.at(mark.high)
        title = (f"{mark.label}: {mark.intensity:.3g} FLOPs per byte, {people(mark.flops_per_s, 'FLOP/s')} "
                 f"({people(mark.low, 'FLOP/s')} to {people(mark.high, 'FLOP/s')}, modelled)")  # fmt: skip
        drawn.append(titled(title, chart.line(x, low, x, high, "w-s-red", 2),
                            chart.line(x - 5, low, x + 5, low, "w-s-red", 2),
                            chart.line(x - 5, high, x + 5, high, "w-s-red", 2),
                            f'<circle class="w-f-red" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'))  # fmt: skip
        width = chart.LETTER * len(mark.label)
        left = x + 12 if x + 12 + width < across.end else x - 12 - width
        line = chart.free_line(taken, left, left + width, y + 18, 8)
        drawn.append(text(left, line, mark.label, "w-ink w-halo"))
    return drawn
