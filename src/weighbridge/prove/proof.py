"""What do all metrics together say of a candidate?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.errors import ConfigError, UnitError
from weighbridge.prove import samples
from weighbridge.prove.comparison import Comparison, Pairs, Rule, Verdict, compare, overall
from weighbridge.prove.cost import Cost, per_correct
from weighbridge.prove.metrics import METRICS
from weighbridge.prove.scores import Flip
from weighbridge.prove.slices import slices_of


@dataclass(frozen=True, slots=True)
class Proof:
    """A base and a candidate on the same data: the verdict and what it rests on."""

    base: str
    candidate: str
    metrics: tuple[Comparison, ...]
    verdict: Verdict
    reason: str
    rule: Rule
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    flipped: tuple[Flip, ...] = ()
    seconds: tuple[float | None, float | None] = (None, None)
    cost: Cost | None = None

    def priced(self, usd_per_request: tuple[float, float]) -> Proof:
        """With what a right answer costs.

        Raises:
            UnitError: when no metric is a share of right answers, or a price is none.
        """
        right = next((one for one in self.metrics if one.p_value is not None), None)
        if right is None:
            names = ", ".join(one.name for one in self.metrics)
            raise UnitError(
                f"prices for {names}", "a metric of right answers, such as accuracy", "leave the prices out"
            )
        return replace(self, cost=per_correct(right, usd_per_request))

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh prove --json`."""
        return {
            "base": self.base, "candidate": self.candidate, "metrics": [found.to_json() for found in self.metrics],
            "verdict": self.verdict, "reason": self.reason, "seed": self.rule.seed, "keep": self.rule.keep,
            "sequential": self.rule.sequential, "settings": dict(self.settings), "notes": list(self.notes),
            "cost_per_correct": None if self.cost is None else self.cost.to_json(),
            "flipped": [flip.to_json() for flip in self.flipped],
            "seconds_per_example": {"base": self.seconds[0], "candidate": self.seconds[1]},
        }  # fmt: skip


def of_logs(
    base: Path, candidate: Path, rule: Rule, *, metrics: Sequence[str] = (), fields: Sequence[str] = ()
) -> Proof:  # fmt: skip
    """The proof from two logs of lm-evaluation-harness, which runs no model.

    Args:
        base: its `samples_*.jsonl`.
        candidate: the same of the candidate.
        rule: what a verdict needs.
        metrics: names of the logs; all that are known without them.
        fields: fields of the questions, each of whose values is a slice, or rules.

    Raises:
        WeighbridgeError: when the logs cannot be read or paired, or scipy is not installed.
    """
    need_scipy()
    found = samples.pair(base, candidate, tuple(metrics))
    comparisons = []
    several = sum(pairs.metric.is_share for pairs in found.pairs.values()) > 1
    for name, pairs in found.pairs.items():
        slices = slices_of(found.documents[name], fields)
        comparisons.append(_named(compare(pairs, rule, slices, is_asked=bool(metrics)), name))
        if pairs.metric.is_share:
            comparisons.append(_named(compare(flips(pairs), rule, slices), f"flips of {name}" if several else "flips"))
    verdict, reason = overall(comparisons)
    notes = list(found.notes)
    if found.left_out:
        notes.append(f"{found.left_out:,} lines have no partner in the other log and are left out")
    settings = {"base_sha256": _digest(base), "candidate_sha256": _digest(candidate), "slices": list(fields),
                "metrics": list(metrics)}  # fmt: skip
    return Proof(str(base), str(candidate), tuple(comparisons), verdict, reason, rule, tuple(notes), settings)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def need_scipy() -> None:
    """Raises ConfigError when scipy is not installed."""
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise ConfigError("scipy is not installed, which intervals need", "the extra `prove`",
                          "run: pip install 'weighbridge[prove]'") from error  # fmt: skip


def flips(pairs: Pairs) -> Pairs:
    """From right and wrong answers to how many changed, either way: 0 of the base, 1 of the candidate where it did."""
    changed = pairs.base.copy()
    changed[:, 0] = np.abs(pairs.candidate[:, 0] - pairs.base[:, 0])
    still = pairs.base.copy()
    still[:, 0] = 0.0
    return Pairs(METRICS["flips"], still, changed, pairs.clusters)


def _named(found: Comparison, name: str) -> Comparison:
    return replace(found, name=name)
