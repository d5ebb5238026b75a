"""How many parameters has a gated short convolution, and what does it keep?

LFM2 (Liquid AI 2025) puts it in place of attention in most layers: 3*d*d in (two gates and the input), d*k for a causal
depthwise convolution of kernel k, d*d out. State, as the caches of transformers keep it: the last k inputs a channel.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.blocks.state_space import mixer_convolution
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConvolution(Block):
    """A double-gated short convolution.

    Example:
        >>> ShortConvolution(hidden_size=1024, conv_kernel=3).parameters
        4197376
    """

    hidden_size: int
    conv_kernel: int
    bias: bool = False

    def weights(self) -> tuple[Weight, ...]:
        """`conv` (hidden, 1, kernel), `in_proj` (3 hidden, hidden), `out_proj` (hidden, hidden)."""
        d, ssm = self.hidden_size, Component.SSM
        return (
            *mixer_convolution("conv", d, self.conv_kernel, self.bias),
            *projection("in_proj", d, 3 * d, role="ssm_in", component=ssm, bias=self.bias),
            *projection("out_proj", d, d, role="ssm_output", component=ssm, bias=self.bias),
        )

    def states(self) -> tuple[State, ...]:
        """The convolution's inputs, for each sequence."""
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=self.hidden_size * self.conv_kernel),)
