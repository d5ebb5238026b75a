"""Which product of the numbers at hand is what was claimed? That whose units come out right: dimensional analysis.

1,720,320 h x 400 W is energy; 140 billion tokens over 1.3 tokens a word are words. Each number is multiplied by,
divided by or left out; those that the statement itself gives as its inputs have all to be used, and what it takes
beside them is as little as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.claims.claim import Interval
from weighbridge.claims.measure import dimensions
from weighbridge.estimate import Basis, weakest

MOST_PARTS = 10


@dataclass(frozen=True, slots=True)
class Part:
    """A number at hand, with what it is called, and whether it has to be used, or can only be divided by."""

    low: float
    high: float
    unit: str
    text: str
    is_required: bool = False
    basis: Basis = Basis.SPECIFIED
    source: str = ""
    is_divisor: bool = False


@dataclass(frozen=True, slots=True)
class Solution:
    """A product of powers of the parts: `powers` are 1 and -1, in the order of `parts`."""

    interval: Interval
    parts: tuple[Part, ...]
    powers: tuple[int, ...]

    @property
    def step(self) -> str:
        """The product in words."""
        over = [part.text for part, power in zip(self.parts, self.powers, strict=True) if power > 0]
        under = [part.text for part, power in zip(self.parts, self.powers, strict=True) if power < 0]
        return " x ".join(over or ["1"]) + "".join(f" / {text}" for text in under)


def solve(unit: str, parts: Sequence[Part]) -> tuple[Solution, ...]:
    """The products of parts whose unit is the wanted one, those of the fewest parts.

    Every required part is used; none is where more than `MOST_PARTS` are given.

    Example:
        >>> parts = [Part(3600, 3600, "second", "1 h", True), Part(400, 400, "joule / second", "400 W", True)]
        >>> found = solve("joule", parts)[0]
        >>> found.interval.low, found.step
        (1440000.0, '1 h x 400 W')
    """
    parts = list(parts)[:MOST_PARTS]
    wanted = dict(dimensions(unit))
    found: list[tuple[tuple[int, Part], ...]] = []

    def search(place: int, used: tuple[tuple[int, Part], ...], left: dict[str, float]) -> None:
        if place == len(parts):
            if used and not any(left.values()):
                found.append(used)
            return
        part = parts[place]
        powers = (-1,) if part.is_divisor else (1, -1) if dimensions(part.unit) else (1,)
        for power in powers if part.is_required else (0, *powers):
            changed = dict(left)
            for name, amount in dimensions(part.unit) if power else ():
                changed[name] = changed.get(name, 0.0) - power * amount
            search(place + 1, (*used, (power, part)) if power else used, changed)

    search(0, (), wanted)
    fewest = min(map(len, found), default=0)
    return tuple(_solution(used, unit) for used in found if len(used) == fewest)


def _solution(used: tuple[tuple[int, Part], ...], unit: str) -> Solution:
    low = high = 1.0
    for power, part in used:
        ends = (part.low, part.high) if power > 0 else (_over(part.high), _over(part.low))
        low, high = low * ends[0], high * ends[1]
    basis = weakest(part.basis for _, part in used)
    return Solution(Interval(low, high, unit, basis), tuple(p for _, p in used), tuple(power for power, _ in used))


def _over(number: float) -> float:
    return 1 / number if number else float("inf")
