"""Law: at what size or how much arithmetic a rule begins, and whether it is in force."""

from __future__ import annotations

import re

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.facts import Facts
from weighbridge.claims.quantity import is_size
from weighbridge.estimate import Basis
from weighbridge.predict.thresholds import Rule, rules

_PLACES = (
    ("European Union", r"\beu\b|european|ai act"), ("United States", r"\bus\b|u\.s\.|american|executive order|federal"),
    ("California", r"california|sb[- ]?(?:53|1047)"), ("New York", r"new york|raise act"), ("Illinois", r"illinois"),
    ("South Korea", r"korea"),
)  # fmt: skip
_TOLERANCE = 0.05
_IN_FORCE = r"in force|currently|today|still|now requires|must now"
"""Words that say that a rule holds on the day of reading: of one that has ended that is wrong."""


def threshold(facts: Facts) -> Answer | None:
    """A threshold that a law is said to have, against the dated table of rules."""
    if facts.claim.kind not in ("", "regulation") or len(facts.claimed) != 1:
        return None
    claimed = facts.claimed[0]
    place = next((name for name, pattern in _PLACES if re.search(pattern, facts.text)), None)
    if place is None or not (is_size(claimed) or claimed.unit == "FLOP" or claimed.low >= 1e20):
        return None
    if facts.claim.kind == "" and not re.search(
        r"threshold|above|over|report|dut|require|oblig|rule|law|act\b|order", facts.text
    ):
        return None
    if facts.claim.is_read and claimed.relation not in (">", ">=") and not facts.has("threshold"):
        return None
    known = [rule for rule in rules() if rule.jurisdiction == place]
    if not known:
        return None
    quantity = "parameters" if is_size(claimed) else "training_flop"
    like = [rule for rule in known if rule.quantity == quantity]
    steps = tuple(map(_told, like or known))
    sources = tuple(dict.fromkeys(rule.source for rule in like or known))
    equal = [rule for rule in like if abs(rule.value / claimed.value - 1) < _TOLERANCE]
    if any(rule.ended is None for rule in equal) or (equal and not re.search(_IN_FORCE, facts.text)):
        verdict = Verdict.CONFIRMED
    else:
        verdict = Verdict.WRONG
    computed = tuple(Interval(rule.value, rule.value, claimed.unit, Basis.SPECIFIED) for rule in like)
    return Answer("threshold", computed, steps, sources, verdict)


def _told(rule: Rule) -> str:
    at = rule.parameters_at_20
    size = f", about {at / 1e9:,.0f}B parameters at 20 tokens each" if at else ""
    ended = f", {rule.ended_as} on {rule.ended.isoformat()}" if rule.ended else ""
    return f"{rule.title}: {rule.comparison} {rule.value:.3g} {rule.quantity.replace('_', ' ')}{size}{ended}"


RULES = (threshold,)
