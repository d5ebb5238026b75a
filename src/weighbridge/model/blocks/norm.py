"""How many parameters has a normalisation? One scale a channel, and one shift where it has a bias."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Block):
    """LayerNorm (scale and bias), RMSNorm (scale only) or batch normalisation (with running statistics, as buffers).

    With `heads` each of so many heads has scales of its own, stored (heads, width).

    Example:
        >>> Norm(width=768).parameters, Norm(width=768, bias=False).parameters
        (1536, 768)
        >>> Norm(width=128, bias=False, heads=96).parameters
        12288
        >>> [w.name for w in Norm(width=64, running_statistics=True).weights() if w.kind is Kind.BUFFER]
        ['running_mean', 'running_var', 'num_batches_tracked']
    """

    width: int
    bias: bool = True
    running_statistics: bool = False
    heads: int | None = None
    role: str = "norm"
    component: Component = Component.NORM

    def weights(self) -> tuple[Weight, ...]:
        """`weight` and `bias` (width,) or (heads, width); batch statistics are buffers, never parameters."""
        names = ["weight", "bias"] if self.bias else ["weight"]
        shape = (self.width,) if self.heads is None else (self.heads, self.width)
        learned = [Weight(name=name, shape=shape, role=self.role, component=self.component, use=Use.ELEMENTWISE)
                   for name in names]  # fmt: skip
        shapes = {"running_mean": (self.width,), "running_var": (self.width,), "num_batches_tracked": ()}
        buffers = [Weight(name=name, shape=shape, role=self.role, component=self.component, use=Use.ELEMENTWISE,
                          kind=Kind.BUFFER) for name, shape in shapes.items()]  # fmt: skip
        return (*learned, *(buffers if self.running_statistics else ()))
