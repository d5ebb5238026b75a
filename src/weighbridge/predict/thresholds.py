"""Which rules does a training run come under? Operations and parameters against the dated table `thresholds.toml`.

Laws measure training in operations: about 6 x parameters x tokens (Kaplan et al. 2020), as a number above which duties
begin. A rule has a state on each day: it is to come, adopted, applied, or over. An estimate whose interval holds the
threshold decides nothing. The table is data with its sources, and no legal advice.
"""

from __future__ import annotations

import datetime
import functools
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.estimate import Estimate
from weighbridge.predict.bill import over

FILE = Path(__file__).parent / "thresholds.toml"
QUANTITIES = ("training_flop", "modification_share", "parameters")
ENDS = ("revoked", "vetoed", "withdrawn")
TOKENS_PER_PARAMETER = 20
"""The ratio of Hoffmann et al. 2022, at which a threshold of operations is told as a number of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what it measures, from where on it holds, and when.

    `comparison` is `above` or `at least`; `binds` is `threshold`, `presumption` or `indication`. `condition` says for
    which models it holds, `counts` what is added up.
    """

    name: str
    title: str
    jurisdiction: str
    quantity: str
    comparison: str
    value: float
    binds: str
    made: datetime.date
    counts: str
    condition: str
    source: str
    url: str
    checked: datetime.date
    note: str
    applies_from: datetime.date | None = None
    ended: datetime.date | None = None
    ended_as: str | None = None

    def __post_init__(self) -> None:
        assert self.quantity in QUANTITIES and self.comparison in ("above", "at least"), self
        assert self.binds in ("threshold", "presumption", "indication"), self
        assert (self.ended is None) == (self.ended_as is None), self
        assert self.ended_as is None or self.ended_as in ENDS, self

    def state(self, on: datetime.date) -> str:
        """`to come`, `adopted` (duties begin later), `applies`, or how it ended.

        Example:
            >>> order = next(rule for rule in rules() if rule.name == "us-executive-order")
            >>> [order.state(datetime.date(year, 1, 1)) for year in (2023, 2024, 2025, 2026)]
            ['to come', 'adopted', 'applies', 'revoked']
        """
        if self.ended is not None and on >= self.ended:
            assert self.ended_as is not None
            return self.ended_as
        if on < self.made:
            return "to come"
        return "applies" if self.applies_from is not None and on >= self.applies_from else "adopted"

    def verdict(self, quantity: Estimate | None) -> str:
        """`above` (it comes under the rule), `below`, `undecided` where the interval holds both, or `unknown`."""
        if quantity is None or quantity.low is None or quantity.high is None:
            return "unknown"
        if self._reached(quantity.low):
            return "above"
        return "undecided" if self._reached(quantity.high) else "below"

    def _reached(self, quantity: float) -> bool:
        return quantity >= self.value if self.comparison == "at least" else quantity > self.value

    @property
    def parameters_at_20(self) -> float | None:
        """Parameters of a model that reaches it at 20 tokens a parameter: the root of operations / 120."""
        if self.quantity != "training_flop":
            return None
        return math.sqrt(self.value / (6 * TOKENS_PER_PARAMETER))

    def tokens(self, parameters: float) -> float | None:
        """Tokens with which a model of so many parameters reaches it: operations / (6 x parameters)."""
        return self.value / (6 * parameters) if self.quantity == "training_flop" else None


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the file."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Rule(name=name, **facts) for name, facts in tables.items())


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands with one rule on a day. `quantity` is what the rule measures of it; None is unknown."""

    rule: Rule
    quantity: Estimate | None
    on: datetime.date
    parameters: float | None = None

    @property
    def state(self) -> str:
        """That of the rule on the day."""
        return self.rule.state(self.on)

    @property
    def verdict(self) -> str:
        """`above`, `below`, `undecided` or `unknown`."""
        return self.rule.verdict(self.quantity)

    @property
    def ratio(self) -> Estimate | None:
        """What the rule measures over its threshold; None where it is unknown."""
        if self.quantity is None or self.quantity.value is None:
            return None
        found = self.quantity.times(1 / self.rule.value)
        return Estimate(found.value, found.low, found.high, "", found.basis, found.note)

    def to_json(self) -> dict[str, Any]:
        """One entry of `rules` in the document of `weigh thresholds`."""
        rule = self.rule
        tokens = None if self.parameters is None else rule.tokens(self.parameters)
        return {
            "name": rule.name, "title": rule.title, "jurisdiction": rule.jurisdiction, "quantity": rule.quantity,
            "comparison": rule.comparison, "value": rule.value, "binds": rule.binds, "state": self.state,
            "verdict": self.verdict, "ratio": None if self.ratio is None else self.ratio.to_json(),
            "made": rule.made.isoformat(), "applies_from": _day(rule.applies_from), "ended": _day(rule.ended),
            "counts": rule.counts, "condition": rule.condition, "tokens_to_reach": tokens,
            "parameters_at_20_tokens": rule.parameters_at_20, "source": rule.source, "url": rule.url,
            "checked": rule.checked.isoformat(), "note": rule.note,
        }  # fmt: skip


def _day(date: datetime.date | None) -> str | None:
    return None if date is None else date.isoformat()


def standings(
    on: datetime.date,
    flops: Estimate | None = None,
    parameters: int | None = None,
    original_flops: Estimate | None = None,
) -> Iterator[Standing]:
    """Where a run stands with every rule on a day.

    Args:
        on: the day.
        flops: operations of the run.
        parameters: of the model, frozen ones included.
        original_flops: operations that trained the model which the run changes; they count with those of the run.

    Example:
        >>> found = {one.rule.name: one.verdict for one in standings(
        ...     datetime.date(2026, 11, 23), Estimate.exact(314 * 10**21, "FLOP"))}
        >>> found["eu-general-purpose"], found["eu-systemic-risk"], found["eu-modifier"]
        ('above', 'below', 'unknown')
    """
    together, share = flops, None
    if flops is not None and original_flops is not None:
        together = Estimate.sum([flops, original_flops])
        share = over(flops, original_flops, "")
    measured = {
        "training_flop": together,
        "modification_share": share,
        "parameters": None if parameters is None else Estimate.exact(parameters, "parameters"),
    }
    for rule in rules():
        yield Standing(rule, measured[rule.quantity], on, parameters)
