"""How many parameters has a lone learned vector? One an entry: an output bias, a class token, a layer scale."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector(Block):
    """A learned vector that is added or multiplied element by element.

    Example:
        >>> Vector(name="bias", width=30522).parameters
        30522
    """

    name: str
    width: int
    role: str = "vector"
    component: Component = Component.OTHER
    tied_to: str | None = None

    def weights(self) -> tuple[Weight, ...]:
        """One tensor (width,) of the given name."""
        return (Weight(name=self.name, shape=(self.width,), role=self.role, component=self.component,
                       use=Use.ELEMENTWISE, tied_to=self.tied_to),)  # fmt: skip
