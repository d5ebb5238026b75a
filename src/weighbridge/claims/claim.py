"""What is a claim, what is found about it, and in which words is it judged?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from weighbridge.claims.measure import NOTHING
from weighbridge.estimate import Basis


class Verdict(Enum):
    """What a claim is, in the words of the JSON contract."""

    CONFIRMED = "confirmed"
    CLOSE = "approximately right (<=5%)"
    NEAR = "approximately right (<=25%)"
    WRONG = "wrong"
    INCONSISTENT = "internally inconsistent"
    UNVERIFIABLE = "not verifiable"

    @property
    def is_right(self) -> bool:
        """Whether it confirms, exactly or within a bound."""
        return self in (Verdict.CONFIRMED, Verdict.CLOSE, Verdict.NEAR)

    @property
    def is_wrong(self) -> bool:
        """Whether the answer is no."""
        return self in (Verdict.WRONG, Verdict.INCONSISTENT)


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement with a number about something.

    Args:
        quote: the sentence.
        kind: one of the kinds of the contract, as `kv_cache`; empty where it has to be found from the words.
        claimed: the number as it was written; empty where it has to be found in the sentence.
        inputs: what else the statement rests on.
        name: its identifier, as `C250`.
        article: the document.
        section: where in it.
        line: of a file.
        is_read: whether kind and number were found in the sentence, and may have been misread.
        is_row: whether it is a row of an article's table.
        about: the part of the sentence that says what of the thing the number is, as the header of its column.
    """

    quote: str
    kind: str = ""
    claimed: str = ""
    inputs: str = ""
    name: str = ""
    article: str = ""
    section: str = ""
    line: int = 0
    is_read: bool = False
    is_row: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """What was worked out: from `low` to `high` in a base unit, equal where it is one number.

    `is_bound` says that it is no value but a limit: `least` where nothing can be below, `most` where nothing can be
    above.
    """

    low: float
    high: float
    unit: str = NOTHING
    basis: Basis = Basis.EXACT
    is_bound: str = ""

    @property
    def value(self) -> float:
        """Its middle."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule found: for each claimed number what it should be, or one number for all, with the steps to it.

    `verdict` is given where the rule itself decides, as where a model does not fit. `conventions` says that each of
    `computed` is another way to count the one claimed number, and any may be meant. `is_weak` says that the number of a
    sentence may well be of something else: then it can be confirmed, and not refuted.
    """

    rule: str
    computed: tuple[Interval, ...]
    steps: tuple[str, ...]
    sources: tuple[str, ...] = ()
    verdict: Verdict | None = None
    conventions: bool = False
    is_whole: bool = False
    is_weak: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim with its verdict and what it rests on. `settles` says what would settle it where nothing here does."""

    claim: Claim
    verdict: Verdict
    claimed: str
    computed: str = ""
    steps: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    rule: str = ""
    basis: Basis | None = None
    settles: str = ""

    def to_json(self) -> Mapping[str, Any]:
        """One entry of `claims` in the JSON contract."""
        return {
            "id": self.claim.name, "quote": self.claim.quote, "line": self.claim.line or None,
            "article": self.claim.article, "section": self.claim.section, "kind": self.claim.kind,
            "verdict": self.verdict.value, "claimed": self.claimed, "computed": self.computed,
            "derivation": "; ".join(self.steps), "steps": list(self.steps), "sources": list(self.sources),
            "rule": self.rule, "basis": None if self.basis is None else self.basis.value, "settles": self.settles,
        }  # fmt: skip
