"""How much public text is there, and how much of it would a run read?

The effective stock of Villalobos et al. 2024: text of the web that people wrote, adjusted for its quality and for being
read several times: epochs are not counted once more. Their projection has the largest training sets reach it between
2026 and 2032, in the middle 2028. What is synthetic takes nothing from it:

    human tokens = tokens x (1 - synthetic share)
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate, weakest

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The tokens of people that a run needs where a share of its own is synthetic, beside the stock of them.

    `basis` says what the share rests on: `specified` as given, or `claimed` by those who name no ground.
    """

    tokens: float
    synthetic: tuple[float, float]
    basis: str
    stock: Supply

    @property
    def human_tokens(self) -> Estimate:
        """Tokens that people wrote, each as often as it is read."""
        low, high = self.synthetic
        basis = Basis.SPECIFIED if self.basis == "specified" else Basis.ASSUMED
        return Estimate(self.tokens * (1 - (low + high) / 2), self.tokens * (1 - high), self.tokens * (1 - low),
                        "tokens", basis, "what is not synthetic")  # fmt: skip

    @property
    def share(self) -> Estimate:
        """The share of the stock that they are."""
        human = self.human_tokens
        assert human.value is not None and human.low is not None and human.high is not None
        least, middle, most = (self.stock.share(one) for one in (human.low, human.value, human.high))
        basis = weakest([human.basis, middle.basis])
        return Estimate(middle.value, least.low, most.high, "", basis, middle.note)

    @property
    def verdict(self) -> str:
        """`within` the stock, `beyond` it, or `undecided` where its interval holds them."""
        share = self.share
        assert share.low is not None and share.high is not None
        return "within" if share.high <= 1 else "beyond" if share.low > 1 else "undecided"

    def to_json(self) -> dict[str, Any]:
        """One entry of `needs` in `weigh scaling supply`."""
        return {
            "synthetic": dict(zip(("low", "high"), self.synthetic, strict=True)), "basis": self.basis,
            "human_tokens": self.human_tokens.to_json(), "share": self.share.to_json(), "verdict": self.verdict,
        }  # fmt: skip


def need(tokens: float, synthetic: tuple[float, float] = (0.0, 0.0), basis: str = "specified") -> Need:
    """What a run of so many tokens needs of the stock, where a share of them is synthetic.

    Raises:
        UnitError: for no number of tokens, or shares that are none from 0 to 1.

    Example:
        >>> need(15e12).verdict, need(400e12, (0.3, 0.5)).verdict, need(5e15, (0.3, 0.5)).verdict
        ('within', 'undecided', 'beyond')
    """
    low, high = synthetic
    if not 0 <= low <= high <= 1:
        raise UnitError(f"a synthetic share of {low:g} to {high:g}", "shares from 0 to 1", "correct them")
    supply().share(tokens)
    return Need(tokens=tokens, synthetic=synthetic, basis=basis, stock=supply())


@functools.cache
def supply() -> Supply:
    """What is known of it."""
    facts = tomllib.loads(FILE.read_text(encoding="utf-8"))["public_text"]
    return Supply(**{**facts, "years": tuple(facts["years"])})
