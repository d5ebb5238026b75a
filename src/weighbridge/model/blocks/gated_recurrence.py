"""How many parameters has a real-gated linear recurrent unit, and what does it keep?

RecurrentGemma (De et al. 2024; Botev et al. 2024), with d the width, l the recurrent width and h blocks: 2*d*l in, l*k
for a causal depthwise convolution of kernel k, two gates of h blocks of (l/h)*(l/h), a decay of l, l*d out, biases
throughout. State, as transformers keeps it: l numbers of the recurrence and the last k-1 inputs a channel.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.blocks.state_space import mixer_convolution, mixer_vector
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedRecurrence(Block):
    """The recurrent block around an RG-LRU.

    Example:
        >>> GatedRecurrence(hidden_size=2560, recurrent_size=2560, num_blocks=10).parameters
        20999680
    """

    hidden_size: int
    recurrent_size: int
    num_blocks: int
    conv_kernel: int = 4

    def weights(self) -> tuple[Weight, ...]:
        """Two projections in, one out, the convolution, and the unit's decay and gates (blocks, width, width)."""
        d, inner, ssm = self.hidden_size, self.recurrent_size, Component.SSM
        width = inner // self.num_blocks
        return (
            *(weight for name in ("linear_y", "linear_x")
              for weight in projection(name, d, inner, role="ssm_in", component=ssm, bias=True)),
            *projection("linear_out", inner, d, role="ssm_output", component=ssm, bias=True),
            *mixer_convolution("conv_1d", inner, self.conv_kernel, bias=True),
            mixer_vector("rg_lru.recurrent_param", (inner,), "ssm_a"),
            *(weight for gate in ("input", "recurrent") for weight in (
                Weight(name=f"rg_lru.{gate}_gate_weight", shape=(self.num_blocks, width, width), role="ssm_gate",
                       component=ssm),
                mixer_vector(f"rg_lru.{gate}_gate_bias", (self.num_blocks, width), "ssm_gate"))),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """The recurrent state and the convolution's inputs, for each sequence."""
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=self.recurrent_size * self.conv_kernel),)
