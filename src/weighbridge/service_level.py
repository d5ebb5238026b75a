"""What is promised to the users of a service? Limits of time, and how many percent of the requests keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.errors import UnitError
from weighbridge.predict.load import Outcome
from weighbridge.units import parse_seconds

LIMITS = ("ttft", "tpot", "e2e")
"""Time to the first token, per output token, and of the whole answer."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A promise: so many percent of the requests stay below."""

    name: str
    seconds: float


def limits(text: str) -> list[Limit]:
    """Limits from text such as `ttft=2s,tpot=50ms`.

    Raises:
        UnitError: when one is none.

    Example:
        >>> limits("ttft=2s,tpot=50ms")
        [Limit(name='ttft', seconds=2.0), Limit(name='tpot', seconds=0.05)]
    """
    found: dict[str, Limit] = {}
    for part in text.split(","):
        name, _, seconds = part.strip().partition("=")
        read = f"the limit {part.strip()[:100]!r}"
        if name not in LIMITS or name in found:
            raise UnitError(read, f"each of {', '.join(LIMITS)} once, as ttft=2s", "write it so")
        found[name] = Limit(name, parse_seconds(seconds))
        if found[name].seconds <= 0:
            raise UnitError(read, "more than no time", "correct it")
    return list(found.values())


def keeps(outcome: Outcome, limits: Sequence[Limit], percent: float) -> bool:
    """Whether so many percent of the requests keep all limits."""
    found = [outcome.percentile(f"{limit.name}_s", percent) for limit in limits]
    return all(one is None or one <= limit.seconds for one, limit in zip(found, limits, strict=True))
