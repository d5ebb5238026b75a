"""How many parameters has a learned array that belongs to no layer? The product of its shape.

A class token, a table of positions with a batch axis, the probe of a pooling head, a lone temperature.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Array(Block):
    """One learned tensor of any shape.

    Example:
        >>> Array(name="position_embeddings", shape=(1, 197, 768)).parameters, Array(name="scale", shape=()).parameters
        (151296, 1)
    """

    name: str
    shape: tuple[int, ...]
    role: str = "array"
    component: Component = Component.OTHER
    use: Use = Use.ELEMENTWISE
    kind: Kind = Kind.PARAMETER

    def weights(self) -> tuple[Weight, ...]:
        """One tensor of the given name and shape."""
        return (Weight(name=self.name, shape=self.shape, role=self.role, component=self.component, use=self.use,
                       kind=self.kind),)  # fmt: skip
