"""What does a number mean to someone who has never met it? A plain sentence beside it, with a picture.

The pictures are computed: a graphics card of 24 GB, a phone of 8 GB, a reader of 238 words a minute, an LED lamp, a
car. Words of the field in these sentences are those of the glossary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from weighbridge.estimate import Estimate
from weighbridge.inspection import Inspection
from weighbridge.planning import Plan
from weighbridge.predict.equivalents import pictured
from weighbridge.training import TrainingPlan
from weighbridge.units import format_bytes, format_count, format_energy, format_mass, format_seconds

CARD_BYTES = 24 * 2**30
"""Memory of a large consumer's graphics card."""
PHONE_BYTES = 8 * 2**30
"""Memory of a usual phone."""
READING_TOK_S = 238 / 60 * 4 / 3
"""How fast people read, in tokens a second: 238 words a minute (Brysbaert 2019, doi:10.1016/j.jml.2019.104047), at four
tokens for three words."""
PAGE_TOKENS = 300 * 4 / 3
"""Tokens of a printed page of 300 words."""


def size_line(size: float) -> str:
    """A number of bytes beside cards and phones.

    Example:
        >>> size_line(137_953_296_384)
        '137.95 GB (128.48 GiB): 6 graphics cards of 24 GB hold it'
        >>> size_line(269_030_016)
        '269.03 MB (256.57 MiB): a phone with 8 GB of memory holds it 31 times'
    """
    told = format_bytes(round(size))
    if size > CARD_BYTES:
        return f"{told}: {math.ceil(size / CARD_BYTES):,} graphics cards of 24 GB hold it"
    if size > PHONE_BYTES:
        return f"{told}: one graphics card of 24 GB holds it, a phone with 8 GB does not"
    times = int(PHONE_BYTES // max(size, 1))
    return f"{told}: a phone with 8 GB of memory holds it" + ("" if times < 2 else f" {times:,} times")


def speed_line(tok_s: float) -> str:
    """Tokens a second beside how fast people read.

    Example:
        >>> speed_line(53)
        '53 tokens a second: 10 times as fast as people read'
    """
    times = tok_s / READING_TOK_S
    if times >= 1.5:
        return f"{tok_s:,.3g} tokens a second: {times:,.2g} times as fast as people read"
    if times > 0.67:
        return f"{tok_s:,.3g} tokens a second: about as fast as people read"
    return f"{tok_s:,.3g} tokens a second: slower than people read"


def inspection_lines(inspection: Inspection) -> Iterator[str]:
    """What `weigh inspect --plain` adds."""
    counts = inspection.parameters
    yield f"{format_count(counts.total)} parameters: so many numbers has training set"
    if counts.active_per_token < counts.total:
        share = counts.active_per_token / counts.total
        yield f"{share:.0%} of them work on each token; all of them have to be in memory"
    sizes = inspection.bytes_by_encoding
    for name in ("fp16", "q4_k_m"):
        if name in sizes:
            bits = {"fp16": "at 16 bits a number", "q4_k_m": "packed into about 4 bits"}[name]
            yield f"its file {bits} takes {size_line(sizes[name])}"
    state = inspection.state_json()["kv_bytes_per_token"].get("bf16") if inspection.state is not None else None
    if state:
        yield f"to remember one page of text while it answers takes {size_line(state * PAGE_TOKENS)}"
    if inspection.longest_context:
        pages = inspection.longest_context / PAGE_TOKENS
        yield f"it can look at {inspection.longest_context:,} tokens together, about {pages:,.0f} pages"


def plan_lines(plan: Plan) -> Iterator[str]:
    """What `weigh fit --plain` adds."""
    total = plan.memory.total_bytes.value
    if total is not None:
        yield f"it needs {size_line(total)}"
    if plan.memory.fits is not None:
        verdict = "it fits" if plan.memory.fits else "it does not fit: take more devices, fewer bits or a smaller model"
        count = f"{plan.machine.devices} x " if plan.machine.devices > 1 else ""
        yield f"{verdict} ({count}{plan.machine.device.title})"
    speed = plan.speed
    if speed.decode_tok_s.value is not None:
        yield f"each user is written to at {speed_line(speed.decode_tok_s.value)}"
    if speed.ttft_s.value is not None:
        yield f"the first word of an answer comes after {format_seconds(speed.ttft_s.value)}"


def training_lines(plan: TrainingPlan) -> Iterator[str]:
    """What `weigh train --plain` adds."""
    yield f"it reads {format_count(plan.tokens)} tokens, about {plan.tokens / PAGE_TOKENS:,.0f} pages"
    days = plan.hours.days
    if days.value is not None and days.low is not None and days.high is not None:
        yield f"the run takes {_between(days, 86_400.0)}"
    if plan.cost_usd.low is not None and plan.cost_usd.high is not None:
        yield f"it costs {plan.cost_usd.low:,.0f} to {plan.cost_usd.high:,.0f} dollars"
    used = plan.energy
    if used.facility_kwh.value is not None:
        kwh, carbon = used.facility_kwh.times(3.6e6), used.carbon_kg.times(1000)
        lamp = next((one for one in pictured(kwh, carbon) if one["name"] == "lamp_hours"), None)
        years = "" if lamp is None or lamp["count"]["value"] is None else (
            f": an LED lamp would burn for {lamp['count']['value'] / 8766:,.0f} years")  # fmt: skip
        yield f"it takes {format_energy(kwh.value or 0.0)}{years}"
        if carbon.value is not None:
            cars = next(one for one in pictured(kwh, carbon) if one["name"] == "car_years")
            count = cars["count"]["value"]
            yield f"that emits {format_mass(carbon.value)} of CO2, as {count:,.3g} cars do in a year"


def _between(found: Estimate, scale: float) -> str:
    low, high = format_seconds((found.low or 0) * scale), format_seconds((found.high or 0) * scale)
    return low if low == high else f"{low} to {high}"
