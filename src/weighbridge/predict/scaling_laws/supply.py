"""How much public text is there, and how much of it would a run read?

The effective stock of Villalobos et al. 2024: text of the web that people wrote, adjusted for its quality and for being
read several times. Their projection has the largest training sets reach it between 2026 and 2032, in the middle 2028.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate

FILE = Path(__file__).parent / "supply.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """The effective stock of public text, and the years in which training sets are projected to reach it."""

    tokens: float
    low_tokens: float
    high_tokens: float
    years: tuple[int, int]
    median_year: int
    published: int
    source: str
    url: str

    @property
    def estimate(self) -> Estimate:
        """The stock with its 90% interval."""
        return Estimate(self.tokens, self.low_tokens, self.high_tokens, "tokens", Basis.MODELLED, self.source)

    def share(self, tokens: float) -> Estimate:
        """The share of it that so many tokens are.

        Raises:
            UnitError: for no number of tokens.

        Example:
            >>> found = supply().share(15e12)
            >>> found.low, found.value, found.high
            (0.015, 0.05, 0.15)
        """
        if not 0 <= tokens <= 1e20:
            raise UnitError(f"{tokens:g} tokens", "a number from 0 to 1e20", "correct it")
        return Estimate(tokens / self.tokens, tokens / self.high_tokens, tokens / self.low_tokens, "", Basis.MODELLED,
                        "of the effective stock of public text")  # fmt: skip

    def to_json(self, tokens: float) -> dict[str, Any]:
        """The part `supply` of `weigh scaling optimum` and `weigh scaling loss`."""
        return {"tokens": self.estimate.to_json(), "share": self.share(tokens).to_json(), "years": list(self.years),
                "median_year": self.median_year, "source": self.source, "url": self.url}  # fmt: skip


@functools.cache
def supply() -> Supply:
    """What is known of it."""
    facts = tomllib.loads(FILE.read_text(encoding="utf-8"))["public_text"]
    return Supply(**{**facts, "years": tuple(facts["years"])})
