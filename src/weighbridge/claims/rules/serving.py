"""Serving: how fast can tokens come, and how slow; what no device can beat is evidence too."""

from __future__ import annotations

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.facts import Facts
from weighbridge.claims.measure import NOTHING
from weighbridge.claims.rules.subject import subjects
from weighbridge.errors import WeighbridgeError
from weighbridge.estimate import Basis
from weighbridge.hardware.device import Device
from weighbridge.inspection import Inspection
from weighbridge.planning import fit

MOST_TOKENS = 1e7
"""Of an answer: more are of a training."""
LEAST_SHARE = 0.2
"""Of the bound of memory, which engines reach at the least with one sequence on a device that is made for it."""


def speed(facts: Facts) -> Answer | None:
    """Tokens a second of one sequence, or seconds for so many: each token reads all active weights once."""
    if facts.claim.kind not in ("", "latency", "throughput") or len(facts.claimed) != 1:
        return None
    claimed = facts.claimed[0]
    is_rate = claimed.unit in ("token / second", NOTHING) and (
        facts.claim.kind == "throughput" or claimed.unit == "token / second"
    )
    tokens = facts.tokens[0].value if facts.tokens else 0.0
    if tokens > MOST_TOKENS:
        return None
    if not is_rate and (claimed.unit != "second" or not tokens):
        return None
    if facts.has("batch", "concurren", "users", "clients", "train", "throughput", "aggregate", "in all"):
        return None
    found = [one for one in subjects(facts) if one.size]
    if not found:
        return None
    one = found[0]
    size = facts.sizes[0].value if facts.sizes else one.active
    bandwidth, count, told, device = _bandwidth(facts)
    if bandwidth is None or size is None:
        return None
    wide = min(facts.bits, default=16) / 8
    weights = next((q.value for q in facts.given if q.unit == "byte"), size * wide)
    floor = weights / (bandwidth * count)
    step = f"{weights / 1e9:,.1f} GB a token at {bandwidth * count / 1e9:,.0f} GB/s of {told}: {1e3 * floor:,.3g} ms"
    if is_rate:
        most = 1 / floor
        steps = (step, f"no more than {most:,.1f} tokens/s of one sequence")
        if claimed.low > most * 1.05:
            return Answer("speed", (Interval(0, most, claimed.unit, Basis.MODELLED, "most"),), steps, (one.source,))
        least_rate = LEAST_SHARE * most / count  # engines that split the layers use one device at a time
        return Answer("speed", (Interval(least_rate, most, claimed.unit, Basis.MODELLED),), steps, (one.source,),
                      Verdict.CONFIRMED if least_rate <= claimed.low and claimed.high <= most else None)  # fmt: skip
    least = floor * tokens
    steps = (step, f"no less than {least:,.3g} s for {tokens:,.0f} tokens")
    room = (device.memory_bytes or 0) * count if device is not None else weights
    if room < weights:
        steps = (step, f"{steps[1]}, and they do not fit {room / 1e9:,.0f} GB")
    if claimed.high < least * 0.95:
        return Answer("speed", (Interval(least, least, "second", Basis.MODELLED, "least"),), steps, (one.source,))
    longest = _longest(one.shaped(), device, count, tokens)
    if longest is None:
        return None
    return Answer("speed", (Interval(least, longest, "second", Basis.MODELLED),), steps, (one.source,))


def _bandwidth(facts: Facts) -> tuple[float | None, int, str, Device | None]:
    stated = [q.value for q in (*facts.given, *facts.said) if q.unit == "byte / second"]
    if stated:
        return min(stated), 1, "the memory as stated", None
    if len(facts.devices) != 1:
        return None, 1, "", None
    device, count = facts.devices[0]
    return device.memory_bytes_per_s, count, device.title, device


def _longest(source: Inspection, device: Device | None, count: int, tokens: float) -> float | None:
    if device is None:
        return None
    try:
        plan = fit(source, device, devices=count, output_tokens=max(2, int(tokens)), weights="bf16",
                   alternatives=False)  # fmt: skip
    except WeighbridgeError:
        return None
    high = plan.speed.tpot_s.high
    return None if high is None else high * tokens


RULES = (speed,)
