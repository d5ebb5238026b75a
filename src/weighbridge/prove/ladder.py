"""Which is the smallest candidate that is still good enough? Tried from the smallest, and stopped at the first.

Each try is a chance to pass by luck: the intervals of k candidates are those of a confidence of 1 - (1 - confidence) /
k, so that they hold for all of them together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from weighbridge.errors import SourceError
from weighbridge.prove.comparison import Rule
from weighbridge.prove.engines import is_address
from weighbridge.prove.plan import Plan, Tell
from weighbridge.prove.proof import Proof
from weighbridge.prove.runs import of_models


def size_of(candidate: str) -> int | None:
    """Bytes of a file, or of the weights in a folder; None of an address."""
    path = Path(candidate)
    if path.is_file():
        return path.stat().st_size
    if not path.is_dir():
        return None
    return sum(one.stat().st_size for one in path.rglob("*.safetensors"))


def stricter(rule: Rule, tries: int) -> Rule:
    """The rule for each of so many tries, of which together no more may pass by luck.

    Example:
        >>> round(stricter(Rule(confidence=0.95), 5).confidence, 6)
        0.99
    """
    return replace(rule, confidence=1 - (1 - rule.confidence) / tries)


def climb(base: str, candidates: Sequence[str], plan: Plan, rule: Rule, tell: Tell | None = None) -> Proof:
    """The proof of the smallest candidate that is equivalent or better, or else of the last one.

    Candidates without a size, such as addresses, come last in the order in which they were given. `settings` has the
    `ladder`: each that was tried, with its bytes, its verdict and the reason, and those that were not.
    """
    for one in candidates:
        if not is_address(one) and not Path(one).exists():
            raise SourceError(f"{one} does not exist", "a file, a folder or an address", "check the name")
    sizes = {one: size_of(one) for one in candidates}
    order = sorted(dict.fromkeys(candidates), key=lambda one: (sizes[one] is None, sizes[one] or 0))
    each = stricter(rule, len(order))
    tried: list[dict[str, object]] = []
    found: Proof | None = None
    for one in order:
        if found is not None and found.verdict in ("better", "equivalent"):
            tried.append({"candidate": one, "bytes": sizes[one], "verdict": None, "reason": "not tried"})
            continue
        found = of_models(base, one, plan, each, tell)
        tried.append({"candidate": one, "bytes": sizes[one], "verdict": found.verdict, "reason": found.reason})
    assert found is not None
    if found.verdict not in ("better", "equivalent"):
        found = replace(
            found, reason=f"none of {len(order)} candidates passes; the last, {found.candidate}: {found.reason}"
        )
    return replace(found, settings={**found.settings, "ladder": tried})
