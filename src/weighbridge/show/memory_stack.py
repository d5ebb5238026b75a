"""Does it fit? Bars of weights, state, activations and overhead, each against the memory of a machine.

The machine that was asked for stands first, then the alternatives of its plan, then other devices of its class with
less and with more memory. All bars have one scale. A whisker is the 90% interval of what is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.errors import printable
from weighbridge.estimate import Estimate
from weighbridge.hardware import catalogue
from weighbridge.hardware.device import Device
from weighbridge.planning import Plan, Question
from weighbridge.predict.speed import device_class
from weighbridge.show import chart, plans
from weighbridge.show.chart import TOP, WIDTH, line, text, titled

ROW, BAR, EDGE = 58, 24, 8
ROOM = 1.25
"""How much of the picture is beyond the memory that was asked for; larger memories go off its right edge."""
PARTS = {"weights": "blue", "cache and state": "orange", "activations": "green", "overhead": "grey"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A plan with what tells it from the first."""

    label: str
    plan: Plan


def bars(plan: Plan, question: Question) -> list[Bar]:
    """The plan, its alternatives, and the same on devices with less and more memory."""
    count = f"{plan.machine.devices} x " if plan.machine.devices > 1 else ""
    return [
        Bar(f"{count}{plan.machine.device.title}, weights in {plan.weights.recipe}", plan),
        *(Bar(f"the same, {other.change}", other.plan) for other in plan.alternatives),
        *(Bar(f"{count}{device.title}", question.ask(device, weights=plan.weights.recipe,
                                                     runtime=plan.service.runtime.name))
          for device in neighbours(plan.machine.device)),
    ]  # fmt: skip


def neighbours(device: Device) -> list[Device]:
    """Devices of the same class with the next smaller and the next two larger memories, the fastest of each size.

    Example:
        >>> h100 = catalogue.find_device("h100-sxm")
        >>> [device.memory_bytes > h100.memory_bytes for device in neighbours(h100)]
        [False, True, True]
    """
    if device.memory_bytes is None:
        return []
    alike: dict[int, Device] = {}
    for other in catalogue.devices():
        size, rate = other.memory_bytes, other.memory_bytes_per_s
        if size is None or rate is None or (other.kind, device_class(other)) != (device.kind, device_class(device)):
            continue
        best = alike.get(size)
        if best is None or rate > (best.memory_bytes_per_s or 0.0):
            alike[size] = other
    smaller = [alike[size] for size in sorted(alike) if size < device.memory_bytes]
    larger = [alike[size] for size in sorted(alike) if size > device.memory_bytes]
    return [*smaller[-1:], *larger[:2]]


def svg(found: Sequence[Bar]) -> str:
    """The picture of these bars; the first is the plan that was asked for."""
    first = found[0].plan
    needed = [bar.plan.memory.total_bytes.high or 0 for bar in found]
    own = first.memory.capacity_bytes or 0
    scale = (WIDTH - 2 * EDGE) / max(ROOM * own, 1.05 * max(needed))
    drawn = [part for place, bar in enumerate(found) for part in _row(bar, TOP + 20 + place * ROW, scale)]
    bottom = TOP + 20 + len(found) * ROW
    marks = [(f'<rect class="w-f-{hue}" y="-7" width="14" height="14"/>', name) for name, hue in PARTS.items()]
    marks.append(('<rect class="w-room" y="-7" width="14" height="14"/>', "memory of the devices"))
    marks.append((line(0, 0, 16, 0, "w-edge", 2) + line(0, -5, 0, 5, "w-edge", 2) + line(16, -5, 16, 5, "w-edge", 2),
                  "needed, 90% interval"))  # fmt: skip
    if any(_takes_a_share(bar.plan) for bar in found):
        marks.append((line(8, -8, 8, 8, "w-s-red", 2, "4 2"), "reserved by the engine"))
    heading = f"Memory: {plans.VERDICTS[first.memory.fits]}"
    words = text(EDGE, 68, chart.shortened(plans.service_words(first), WIDTH), "w-soft")
    return chart.picture(heading, plans.title(first), bottom + 50,
                         [words, *drawn, *chart.legend(marks, EDGE, bottom + 12)])  # fmt: skip


def _takes_a_share(plan: Plan) -> bool:
    return plan.service.reserves is not None and plan.memory.reserved_bytes.value is not None


def _row(bar: Bar, top: float, scale: float) -> list[str]:
    memory, y = bar.plan.memory, top + 22
    total, capacity = memory.total_bytes, memory.capacity_bytes
    assert total.value is not None
    assert total.low is not None
    assert total.high is not None
    of = "of an unknown memory" if capacity is None else f"of {plans.size(Estimate.exact(capacity, 'B'))}"
    verdict = {True: "fits", False: "does not fit", None: "unknown"}[memory.fits]
    label = printable(bar.label)
    right = f"{plans.size(total)} {of}: {verdict}"
    shown = chart.shortened(label, WIDTH - 4 * EDGE - chart.LETTER * len(right))
    drawn = [text(EDGE, top + 14, shown),
             text(WIDTH - EDGE, top + 14, right, "w-f-red" if memory.fits is False else "w-soft", "end")]  # fmt: skip
    if capacity is not None:
        width = min(capacity * scale, WIDTH)
        box = f'<rect class="w-room" x="{EDGE}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
        drawn.append(titled(f"memory of {label}: {capacity:,} B", box))
    weights, state = memory.weights_bytes.value or 0, memory.state_bytes.value or 0
    held = {"weights": max(0, weights - memory.host_bytes), "cache and state":
            state - max(0, memory.host_bytes - weights), "activations": memory.activation_bytes.value or 0,
            "overhead": memory.overhead_bytes.value or 0}  # fmt: skip
    x = float(EDGE)
    for name, size in held.items():
        width = size * scale
        title = f"{name}: {size:,.0f} B" + (f", and {memory.host_bytes:,} B on the host"
                                            if name == "weights" and memory.host_bytes else "")  # fmt: skip
        drawn.append(titled(title, f'<rect class="w-f-{PARTS[name]}" x="{x:.2f}" y="{y + 3}" width="{width:.2f}" '
                                   f'height="{BAR - 6}"/>'))  # fmt: skip
        x += width
    low, high, middle = EDGE + total.low * scale, EDGE + total.high * scale, y + BAR / 2
    whisker = [("w-gap", 4.0), ("w-edge", 1.5)]
    drawn.append(titled(f"needed: {plans.size(total)}, {total.basis.value}", *(
        line(low, middle, high, middle, style, width) + line(low, middle - 5, low, middle + 5, style, width)
        + line(high, middle - 5, high, middle + 5, style, width) for style, width in whisker)))  # fmt: skip
    if _takes_a_share(bar.plan) and (memory.reserved_bytes.value or 0) * scale < WIDTH - EDGE:
        at = EDGE + (memory.reserved_bytes.value or 0) * scale
        note = f"reserved by the engine: {plans.size(memory.reserved_bytes)}, {memory.reserved_bytes.note}"
        drawn.append(titled(note, line(at, y - 2, at, y + BAR + 2, "w-s-red", 2, "4 2")))
    return drawn
