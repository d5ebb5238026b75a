"""How does it go with more at once, and with longer contexts? Lines over batch and over context, with 90% bands.

Each point is a plan of its own: the same question asked again with another batch or another prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weighbridge.estimate import Estimate
from weighbridge.planning import Plan, Question
from weighbridge.show import chart, plans
from weighbridge.show.chart import LEFT, RIGHT, TOP, WIDTH, LogAxis, people, text, titled

HEIGHT, BOTTOM = 480, 408
POINTS = 16
MOST_BATCH, MOST_CONTEXT, LEAST_CONTEXT = 256, 131_072, 256


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over another: the name, the hue, and its points."""

    name: str
    hue: str
    unit: str
    points: tuple[tuple[float, Estimate], ...]

    @property
    def known(self) -> list[tuple[float, float, float, float]]:
        """Place, value, low and high of the points whose value is known."""
        return [(x, e.value, e.low, e.high) for x, e in self.points if e.value and e.low and e.high]


def sweep(low: int, high: int, points: int = POINTS) -> list[int]:
    """Whole numbers from one to another in equal ratios, each once.

    Example:
        >>> sweep(1, 256)
        [1, 2, 3, 4, 6, 9, 13, 19, 28, 40, 58, 84, 122, 177, 256]
    """
    ratio = (high / low) ** (1 / (points - 1))
    return sorted({round(low * ratio**place) for place in range(points)})


def over_batch(plan: Plan, question: Question) -> list[tuple[int, Plan]]:
    """The plan at batches from 1 on, or numbers of clients where those were asked for."""
    key = "concurrency" if plan.service.concurrency else "batch"
    most = max(MOST_BATCH, 2 * plan.service.sequences)
    return [(batch, question.ask(None, **{key: batch})) for batch in sweep(1, most)]


def over_context(plan: Plan, question: Question) -> list[tuple[int, Plan]]:
    """The plan with prompts that grow, up to what the model was made for, or to what is asked if that is more."""
    service = plan.service
    known = plan.inspection.hyperparameters
    most = (known.optional_count("max_positions") if known else None) or MOST_CONTEXT
    least = max(LEAST_CONTEXT, 2 * service.output_tokens)
    most = max(most, least * 8, service.context_tokens)
    return [(context, question.ask(prompt_tokens=context - service.output_tokens, context_tokens=context))
            for context in sweep(least, most)]  # fmt: skip


def throughput_svg(plan: Plan, found: Sequence[tuple[int, Plan]]) -> str:
    """Tokens a second of the machine and of one sequence over the batch."""
    clients = plan.service.concurrency is not None
    curves = [
        _curve("the whole machine", "blue", "token/s", found, lambda p: p.speed.output_tok_s),
        _curve("one sequence", "orange", "token/s", found, lambda p: p.speed.decode_tok_s),
    ]
    asked = [(plan.service.sequences, e) for e in (plan.speed.output_tok_s, plan.speed.decode_tok_s)]
    limit = None if plan.memory.max_batch is None else (plan.memory.max_batch, "largest batch that fits")
    what = "clients" if clients else "sequences decoded together"
    return _svg(f"Throughput over {'clients' if clients else 'batch'}", plan, curves, what, "token/s", "", asked, limit)


def latency_svg(plan: Plan, found: Sequence[tuple[int, Plan]]) -> str:
    """Time to the first token and between tokens over the context."""
    curves = [
        _curve("time to first token", "green", "s", found, lambda p: p.speed.ttft_s),
        _curve("time per output token", "orange", "s", found, lambda p: p.speed.tpot_s),
    ]
    service = plan.service
    asked = [(service.prompt_tokens + service.output_tokens, e) for e in (plan.speed.ttft_s, plan.speed.tpot_s)]
    limit = (
        None if plan.memory.max_context is None else (plan.memory.max_context, plans.context_word(plan) + " that fits")
    )
    what = f"tokens of prompt and answer (an answer of {service.output_tokens:,})"
    return _svg("Latency over context", plan, curves, what, "seconds", "s", asked, limit)


def _curve(
    name: str, hue: str, unit: str, found: Sequence[tuple[int, Plan]], read: Callable[[Plan], Estimate]
) -> Curve:  # fmt: skip
    return Curve(name, hue, unit, tuple((float(x), read(plan)) for x, plan in found))


def _svg(
    heading: str, plan: Plan, curves: Sequence[Curve], x_label: str, y_label: str, y_unit: str,
    asked: Sequence[tuple[int, Estimate]], limit: tuple[int, str] | None,
) -> str:  # fmt: skip
    known = [point for curve in curves for point in curve.known]
    missing = " · it does not fit: speeds as if there were room" if plan.memory.fits is False else ""
    caption = f"{plans.title(plan)} · bands are 90% intervals{missing}"
    if not known:
        why = next(e.note for curve in curves for _, e in curve.points)
        return chart.picture(heading, plans.title(plan), 110, [text(8, 84, f"nothing to draw: {why}")])
    places = [point[0] for point in known]
    across = LogAxis(min(places), max(places), LEFT, WIDTH - RIGHT)
    up = LogAxis.of([value for point in known for value in point[2:]], BOTTOM, TOP + 16, 1.25)
    drawn = chart.grid(across, up, x_label, y_label, "", y_unit)
    drawn += [_band(curve, across, up) for curve in curves]
    if limit is not None:
        drawn += _limit(limit, across, up)
    for curve in curves:
        drawn += _line(curve, across, up)
    for (x, estimate), curve in zip(asked, curves, strict=True):
        if estimate.value and across.low <= x <= across.high:
            title = f"as asked: {people(estimate.value, curve.unit)} at {x:,}"
            drawn.append(titled(title, f'<circle class="w-s-{curve.hue}" cx="{across.at(x):.1f}" '
                                       f'cy="{up.at(estimate.value):.1f}" r="8" stroke-width="2.5"/>'))  # fmt: skip
    marks = [(chart.line(0, 0, 16, 0, f"w-s-{curve.hue}", 3), curve.name) for curve in curves if curve.known]
    marks.append(('<circle class="w-edge" cx="8" r="6" fill="none" stroke-width="2"/>', "as asked"))
    return chart.picture(heading, caption, HEIGHT, [*drawn, *chart.legend(marks, LEFT, HEIGHT - 14)])


def _band(curve: Curve, across: LogAxis, up: LogAxis) -> str:
    lower = [f"{across.at(x):.1f},{up.at(low):.1f}" for x, _, low, _ in curve.known]
    upper = [f"{across.at(x):.1f},{up.at(high):.1f}" for x, _, _, high in curve.known]
    points = " ".join([*lower, *reversed(upper)])
    return titled(f"{curve.name}: 90% interval", f'<polygon class="w-f-{curve.hue} w-band" points="{points}"/>')


def _line(curve: Curve, across: LogAxis, up: LogAxis) -> list[str]:
    places = [(across.at(x), up.at(value)) for x, value, _, _ in curve.known]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = [titled(curve.name, f'<polyline class="w-s-{curve.hue}" stroke-width="2.5" points="{path}"/>')]
    for (x, value, low, high), (left, y) in zip(curve.known, places, strict=True):
        title = (f"{curve.name} at {x:,.0f}: {people(value, curve.unit)} "
                 f"({people(low, curve.unit)} to {people(high, curve.unit)}, modelled)")  # fmt: skip
        drawn.append(titled(title, f'<circle class="w-f-{curve.hue}" cx="{left:.1f}" cy="{y:.1f}" r="3.5"/>'))
    return drawn


def _limit(limit: tuple[int, str], across: LogAxis, up: LogAxis) -> list[str]:
    """The line beyond which memory ends; words alone where it lies outside the picture."""
    value, name = limit
    words = f"{name}: {value:,}"
    if value > across.high:
        return [text(across.end, up.end - 8, f"{words}, beyond the right edge", "w-soft", "end")]
    if value < across.low:
        return [text(across.end, up.end - 8, words, "w-f-red", "end")]
    x = across.at(value)
    side = "end" if x > (across.start + across.end) / 2 else "start"
    return [titled(words, chart.line(x, up.start, x, up.end, "w-s-red", 2, "6 4")),
            text(x + (-6 if side == "end" else 6), up.end - 8, words, "w-f-red", side)]  # fmt: skip
