"""Which claims are right, which are wrong, and what is right instead? Every claim by the first rule that knows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from weighbridge.claims.claim import Answer, Claim, Finding, Interval, Verdict
from weighbridge.claims.facts import Facts, facts
from weighbridge.claims.judge import judge
from weighbridge.claims.rules import arithmetic, bytes, counts, formulas, law, serving, training
from weighbridge.claims.rules.subject import subjects, undisclosed
from weighbridge.errors import WeighbridgeError
from weighbridge.estimate import weakest

MOST_BEFORE = 12
"""Statements of a section that one may take from what it leaves out itself."""
RULES: tuple[Callable[[Facts], Answer | None], ...] = (
    *law.RULES, *formulas.RULES, *counts.RULES, *bytes.RULES, *serving.RULES, *training.RULES, *arithmetic.RULES,
)  # fmt: skip
OF_ANY = (*formulas.RULES, arithmetic.equation, arithmetic.total)
"""Rules that need to know nothing of what the numbers are of."""
UNCHECKED = frozenset({"benchmark", "quantization_quality", "moe_efficiency", "scaling_law", "other"})
"""Kinds that only measurements could settle."""


def check(claims: Iterable[Claim]) -> list[Finding]:
    """Judges claims, each beside those before it in its section.

    Example:
        >>> found = check([Claim("Llama 2 70B: KV cache of 80 GB for 4,096 tokens", "kv_cache", "80 GB")])
        >>> found[0].verdict.value, found[0].computed
        ('wrong', '1.342 GB')
    """
    found: list[Finding] = []
    sections: dict[tuple[str, str], list[Facts]] = {}
    for claim in claims:
        before = sections.setdefault((claim.article, _section(claim.section)), [])
        said = facts(claim, tuple(replace(one, before=()) for one in before[-MOST_BEFORE:]))
        before.append(said)
        found.append(_find(said))
    return found


def _section(name: str) -> str:
    """What a section is called without the title of its parts: `S10 Memory` belongs to `S10`."""
    match = re.match(r"(?:[A-Z]{1,2}\d+|\d+)\b", name)
    return match[0] if match else name


def _find(said: Facts) -> Finding:
    claim = said.claim
    for rule in OF_ANY if claim.kind in UNCHECKED else RULES:
        try:
            answer = rule(said)
        except (WeighbridgeError, ArithmeticError):
            continue
        if answer is not None:
            verdict = judge(said.claimed, answer)
            computed = ", ".join(_told(one) for one in answer.computed)
            basis = weakest(one.basis for one in answer.computed) if answer.computed else None
            return Finding(claim, verdict, _stated(said), computed, answer.steps, answer.sources, answer.rule, basis,
                           "" if verdict is not Verdict.UNVERIFIABLE else "conditions that narrow the interval")  # fmt: skip
    if claim.kind in UNCHECKED:
        return _unknown(said, "a measurement of the same thing, with its conditions")
    hidden = undisclosed(subjects(said))
    if hidden is not None:
        return _unknown(said, f"{hidden.title}'s developer has disclosed no size", hidden.source)
    return _unknown(said, "a source, or the quantities that it follows from")


def _unknown(said: Facts, settles: str, source: str = "") -> Finding:
    return Finding(said.claim, Verdict.UNVERIFIABLE, _stated(said), sources=(source,) if source else (), settles=settles)


def _stated(said: Facts) -> str:
    return said.claim.claimed or "; ".join(q.text for q in said.claimed)


_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def _told(one: Interval) -> str:
    return f"{one.low:.6g}..{one.high:.6g} {one.unit}"
