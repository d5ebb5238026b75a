"""One page for one plan: four pictures and the tables of `weigh fit`, with no outside reference."""

from __future__ import annotations

from html import escape

from weighbridge.planning import Plan, Question
from weighbridge.show import curves, memory_stack, plans, report, roofline


def memory_svg(plan: Plan, question: Question) -> str:
    """The memory stack of a plan, its alternatives and other devices."""
    return memory_stack.svg(memory_stack.bars(plan, question))


def page(plan: Plan, question: Question) -> str:
    """The plan as one self-contained HTML page."""
    heading = plans.title(plan)
    memory = [row[:3] for row in plans.memory_rows(plan)]
    costs, others = plans.cost_rows(plan), plans.other_rows(plan)
    parts = [
        f'<h2>{escape(heading)}</h2><p class="soft">{escape(plans.service_words(plan))}</p>',
        memory_svg(plan, question),
        report.table(f"Memory: {plans.VERDICTS[plan.memory.fits]}", ("part", "bytes", "basis"), memory),
        f"<p>{escape(plans.limit_words(plan))}</p>",
        report.table(plans.speed_title(plan).capitalize(), ("quantity", "value"), plans.speed_rows(plan)),
        roofline.svg(plan, roofline.marks(plan, question)),
        curves.throughput_svg(plan, curves.over_batch(plan, question)),
        curves.latency_svg(plan, curves.over_context(plan, question)),
        report.table("Cost and energy", ("quantity", "value", "basis"), costs) if costs else "",
        report.table("Otherwise", plans.OTHER_HEADS, others) if others else "",
        report.items(plan.notes),
    ]
    return report.document(heading, f'<div class="weighbridge"><style>{report.STYLE}</style>{"".join(parts)}</div>')
