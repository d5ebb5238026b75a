"""How many parameters has a convolution with weight normalisation? Its kernel, a length for each place of it, a bias.

The kernel v is stored beside lengths g: w = g * v / |v|, with the norm taken over all axes but the last, so that there
is one length for each place (Salimans and Kingma 2016; wav2vec 2.0 normalises its positional convolution so).
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalisedConvolution(Block):
    """A convolution over one axis from `channels` to `channels`.

    Example:
        >>> NormalisedConvolution(kernel=128, channels=768, groups=16).parameters
        4719488
    """

    kernel: int
    channels: int
    groups: int = 1
    component: Component = Component.OTHER

    def weights(self) -> tuple[Weight, ...]:
        """`bias` (channels,), `weight_g` (1, 1, kernel), `weight_v` (channels, channels / groups, kernel)."""
        shape = (self.channels, self.channels // self.groups, self.kernel)
        return (
            Weight(name="bias", shape=(self.channels,), role="convolution", component=self.component,
                   use=Use.ELEMENTWISE),
            Weight(name="weight_g", shape=(1, 1, self.kernel), role="convolution_length", component=self.component,
                   use=Use.ELEMENTWISE),
            Weight(name="weight_v", shape=shape, role="convolution", component=self.component),
        )  # fmt: skip
