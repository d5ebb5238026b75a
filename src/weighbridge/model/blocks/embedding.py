"""How many parameters has a lookup table? One row of numbers for each entry."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Block):
    """A table of `rows` vectors of `width` numbers: tokens, positions, token types. `tied_to` names another's storage.

    Example:
        >>> Embedding(rows=50257, width=12288).parameters
        617558016
    """

    rows: int
    width: int
    role: str = "token_embedding"
    tied_to: str | None = None

    def weights(self) -> tuple[Weight, ...]:
        """`weight` (rows, width)."""
        return (Weight(name="weight", shape=(self.rows, self.width), role=self.role, component=Component.EMBEDDING,
                       use=Use.LOOKUP, tied_to=self.tied_to),)  # fmt: skip
