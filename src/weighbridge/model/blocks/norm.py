"""How many parameters has a normalisation? One scale a channel, and one shift where it has a bias."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Block):
    """LayerNorm (scale and bias), RMSNorm (scale only) or batch normalisation (with running statistics, as buffers).

    Example:
        >>> Norm(width=768).parameters, Norm(width=768, bias=False).parameters
        (1536, 768)
        >>> [w.name for w in Norm(width=64, running_statistics=True).weights() if w.kind is Kind.BUFFER]
        ['running_mean', 'running_var', 'num_batches_tracked']
    """

    width: int
    bias: bool = True
    running_statistics: bool = False
    role: str = "norm"
    component: Component = Component.NORM

    def weights(self) -> tuple[Weight, ...]:
        """`weight` and `bias` (width,); batch statistics are buffers, never parameters."""
        names = ["weight", "bias"] if self.bias else ["weight"]
        learned = [Weight(name=name, shape=(self.width,), role=self.role, component=self.component, use=Use.ELEMENTWISE)
                   for name in names]  # fmt: skip
        shapes = {"running_mean": (self.width,), "running_var": (self.width,), "num_batches_tracked": ()}
        buffers = [Weight(name=name, shape=shape, role=self.role, component=self.component, use=Use.ELEMENTWISE,
                          kind=Kind.BUFFER) for name, shape in shapes.items()]  # fmt: skip
        return (*learned, *(buffers if self.running_statistics else ()))
