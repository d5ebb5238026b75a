"""Which claims are right, which are wrong, and what is right instead? Every claim by the first rule that knows it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.claims.claim import Answer, Claim, Finding, Interval, Verdict
from weighbridge.claims.contradiction import Contradiction, contradictions
from weighbridge.claims.facts import Facts, facts
from weighbridge.claims.judge import judge
from weighbridge.claims.kind import mismatch
from weighbridge.claims.parse import readings
from weighbridge.claims.quantity import told
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


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of all claims of a document, or of several."""

    findings: tuple[Finding, ...]
    contradictions: tuple[Contradiction, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether any claim is wrong, or contradicts another."""
        return bool(self.contradictions) or any(one.verdict.is_wrong for one in self.findings)

    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        return {verdict.value: sum(one.verdict is verdict for one in self.findings) for verdict in Verdict}

    def to_json(self) -> dict[str, Any]:
        """The document of the JSON contract."""
        return {"claims": [one.to_json() for one in self.findings],
                "contradictions": [one.to_json() for one in self.contradictions],
                "verdicts": self.counts()}  # fmt: skip


def check(claims: Iterable[Claim]) -> Report:
    """Judges claims, each beside those before it in its section, and finds where they contradict each other.

    A claim that nothing else settles and that another contradicts is internally inconsistent. Statements that are all
    right contradict nothing: BERT has 110 and 340 million parameters, base and large.

    Example:
        >>> report = check([Claim("Llama 2 70B: KV cache of 80 GB for 4,096 tokens", "kv_cache", "80 GB")])
        >>> report.findings[0].verdict.value, report.findings[0].computed
        ('wrong', '1.342 GB')
    """
    found: list[Finding] = []
    stated: list[Facts] = []
    sections: dict[tuple[str, str], list[Facts]] = {}
    for claim in claims:
        before = sections.setdefault((claim.article, _section(claim.section)), [])
        above = tuple(replace(one, before=()) for one in before[-MOST_BEFORE:])
        finding, said = _reading(claim, above)
        before.append(said[0])
        stated += said if claim.is_row else said[:1]
        if len(said) > 1 and not claim.is_row and finding.verdict is not Verdict.UNVERIFIABLE:
            stated.append(said[-1])
        found.append(finding)
    right = {_key(one.claim) for one in found if one.verdict.is_right}
    apart = [one for one in contradictions(stated) if not right.issuperset(one.statements)]
    against = {statement: one for one in apart for statement in one.statements}
    judged = [_beside(one, against.get(_key(one.claim))) for one in found]
    return Report(tuple(judged), tuple(apart))


def _key(claim: Claim) -> tuple[str, str]:
    return claim.name or claim.quote, claim.quote


def _beside(finding: Finding, contradiction: Contradiction | None) -> Finding:
    if contradiction is None or finding.verdict is not Verdict.UNVERIFIABLE:
        return finding
    told = f"{contradiction.quantity}: {' and '.join(contradiction.values)} are both stated"
    return replace(finding, verdict=Verdict.INCONSISTENT, steps=(*finding.steps, told), settles="")


_OF_ALL = ("conversion", "product", "fits", "devices", "storage", "serving memory", "cache", "speed")
"""Rules that look at the other numbers of a sentence too, or can take them for conditions."""


def _reading(claim: Claim, above: tuple[Facts, ...]) -> tuple[Finding, list[Facts]]:
    """The finding of a claim and what it says, by the first reading of it that a rule settles."""
    said: list[Facts] = []
    found: list[Finding] = []
    if claim.is_row:
        above = ()
    units: set[tuple[str, bool]] = set()
    for one in readings(claim):
        stated = facts(one, above)
        finding = _find(stated)
        unit = (stated.claimed[0].unit, stated.claimed[0].is_share) if stated.claimed else ("", False)
        is_part = one.is_read and unit in units  # one of several numbers: which of them is meant, nobody says
        units.add(unit)
        if is_part and not (finding.rule in _OF_ALL and (finding.verdict.is_right or finding.rule == "conversion")):
            continue
        said.append(stated)
        found.append(finding)
        if finding.verdict is not Verdict.UNVERIFIABLE:
            break
    if claim.is_row:
        said = [facts(one, above) for one in readings(claim)]
    if not said:
        said = [facts(replace(claim, is_read=not claim.claimed), above)]
        found = [_find(said[0]) if not claim.is_row else _unknown(said[0], "a number with a unit")]
    best = next((one for one in reversed(found) if one.verdict is not Verdict.UNVERIFIABLE), found[0])
    return best, said


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
        if answer is not None and all(math.isfinite(one.low + one.high) for one in answer.computed):
            verdict = judge(said.claimed, answer)
            if verdict is Verdict.WRONG and claim.is_read and (answer.is_weak or _is_denied(said, answer)):
                continue
            computed = "; ".join(_computed(one) for one in answer.computed)
            basis = weakest(one.basis for one in answer.computed) if answer.computed else None
            settles = "conditions that narrow the interval" if verdict is Verdict.UNVERIFIABLE else ""
            sources = tuple(dict.fromkeys(filter(None, answer.sources)))
            return Finding(claim, verdict, _stated(said), computed, answer.steps, sources, answer.rule, basis,
                           settles)  # fmt: skip
    if claim.kind in UNCHECKED:
        return _unknown(said, "a measurement of the same thing, with its conditions")
    hidden = undisclosed(subjects(said))
    if hidden is not None:
        known = f"{hidden.title}: {hidden.model.known_size}" if hidden.model else hidden.title
        return replace(_unknown(said, "a statement of its developer", hidden.source), steps=(known,))
    other = next(filter(None, (mismatch(claim.kind, quantity) for quantity in said.claimed)), "")
    return _unknown(said, other or "a source, or the quantities that it follows from")


_NOT = re.compile(r"\b(?:not|no|never|cannot|nor|neither|without|instead of|rather than|wrong|false|myth)\b|n't\b")


def _is_denied(said: Facts, answer: Answer) -> bool:
    """Whether a sentence may deny its number. Whether something fits is asked with the denial in mind."""
    return answer.rule != "fits" and _NOT.search(said.claim.quote.lower()) is not None


def _unknown(said: Facts, settles: str, source: str = "") -> Finding:
    return Finding(
        said.claim, Verdict.UNVERIFIABLE, _stated(said), sources=(source,) if source else (), settles=settles
    )


def _stated(said: Facts) -> str:
    return said.claim.claimed or "; ".join(q.text for q in said.claimed)


def _computed(one: Interval) -> str:
    bound = {"least": "at least ", "most": "at most "}.get(one.is_bound, "")
    ends = dict.fromkeys(
        (one.low,) if one.is_bound == "least" else (one.high,) if one.is_bound else (one.low, one.high)
    )
    return bound + " to ".join(told(end, one.unit) for end in ends)
