"""How many parameters has a convolution? kernel x in/groups x out, plus one bias an output channel."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution(Block):
    """A convolution over any number of axes; depthwise when `groups` equals the input channels.

    Example:
        >>> Convolution(kernel=(7, 7), in_channels=3, out_channels=64).parameters
        9408
        >>> Convolution(kernel=(3, 3), in_channels=64, out_channels=64, groups=64).parameters
        576
    """

    kernel: tuple[int, ...]
    in_channels: int
    out_channels: int
    groups: int = 1
    bias: bool = False
    positions: int = 1
    component: Component = Component.OTHER

    def weights(self) -> tuple[Weight, ...]:
        """`weight` of shape `(out, in / groups, *kernel)` and `bias` (out,)."""
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel)
        weight = Weight(name="weight", shape=shape, role="convolution", component=self.component,
                        positions=self.positions)  # fmt: skip
        bias = Weight(name="bias", shape=(self.out_channels,), role="convolution", component=self.component,
                      use=Use.ELEMENTWISE)  # fmt: skip
        return (weight, bias) if self.bias else (weight,)
