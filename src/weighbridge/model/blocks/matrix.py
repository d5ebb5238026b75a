"""How many parameters has a lone learned tensor that multiplies? As many as it has elements."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix(Block):
    """A learned tensor under a name of its own, without the `weight` of a dense layer.

    Example:
        >>> Matrix(name="mm_input_projection_weight", shape=(1152, 2560)).parameters
        2949120
    """

    name: str
    shape: tuple[int, ...]
    role: str = "matrix"
    component: Component = Component.OTHER
    use: Use = Use.MATMUL

    def weights(self) -> tuple[Weight, ...]:
        """One tensor of the given name and shape."""
        return (Weight(name=self.name, shape=self.shape, role=self.role, component=self.component, use=self.use),)
