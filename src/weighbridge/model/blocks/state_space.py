"""How many parameters has a state-space mixer, and what does it keep?

Mamba (Gu and Dao 2023), with d the width, i the inner width, n the state size, r the rank of the time step and k the
kernel: 2*d*i in, i*k convolution, i*(r+2n) for time step, B and C, r*i+i for the time step, i*n for A, i for D and i*d
out. Mamba 2 (Dao and Gu 2024) has h heads with one A, one D and one time-step bias each, and g groups of B and C, which
pass the convolution too: d*(2i+2gn+h) in, (i+2gn)*k convolution, 3h, a gated norm of i, i*d out.

State, as the caches of transformers keep it: the last k inputs of the convolution for each of its channels, and i*n
numbers of the recurrence (h heads of i/h by n in Mamba 2). It does not grow with the context. The recurrence itself is
element-wise work, which is not counted with the multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


def mixer_vector(name: str, shape: tuple[int, ...], role: str, component: Component = Component.SSM) -> Weight:
    """A learned table of a mixer that acts element by element."""
    return Weight(name=name, shape=shape, role=role, component=component, use=Use.ELEMENTWISE)


def mixer_convolution(name: str, channels: int, kernel: int, bias: bool) -> tuple[Weight, ...]:
    """The causal depthwise convolution of a mixer: `weight` (channels, 1, kernel) and `bias` (channels,)."""
    weight = Weight(name=f"{name}.weight", shape=(channels, 1, kernel), role="ssm_convolution", component=Component.SSM)
    return (weight, mixer_vector(f"{name}.bias", (channels,), "ssm_convolution")) if bias else (weight,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba(Block):
    """The first Mamba mixer. With `norms` there are norms on time step, B and C (Jamba).

    With `heads` the mixer is split into so many that have their own projections of time step, B and C (Zamba): the same
    number of elements in tensors of another shape.

    Example:
        >>> Mamba(hidden_size=768, inner_size=1536, state_size=16, time_step_rank=48).parameters
        3770880
    """

    hidden_size: int
    inner_size: int
    state_size: int
    time_step_rank: int
    conv_kernel: int = 4
    bias: bool = False
    conv_bias: bool = True
    norms: tuple[str, ...] = ()
    heads: int | None = None

    def weights(self) -> tuple[Weight, ...]:
        """A and D, the convolution, the projections in, of the time step, and out."""
        inner, state, rank, ssm = self.inner_size, self.state_size, self.time_step_rank, Component.SSM
        if self.heads is None:
            split: tuple[int, ...] = (inner,)
            steps = (*projection("x_proj", inner, rank + 2 * state, role="ssm_x", component=ssm),
                     *projection("dt_proj", rank, inner, role="ssm_dt", component=ssm, bias=True))  # fmt: skip
        else:
            width = inner // self.heads
            split = (self.heads, width)
            steps = (
                Weight(name="x_proj_weight", shape=(self.heads, rank + 2 * state, width), role="ssm_x", component=ssm),
                Weight(name="dt_proj_weight", shape=(self.heads, width, rank), role="ssm_dt", component=ssm),
                mixer_vector("dt_proj_bias", split, "ssm_dt"),
            )
        return (
            mixer_vector("A_log", (*split, state), "ssm_a"),
            mixer_vector("D", split, "ssm_d"),
            *mixer_convolution("conv1d", inner, self.conv_kernel, self.conv_bias),
            *projection("in_proj", self.hidden_size, 2 * inner, role="ssm_in", component=ssm, bias=self.bias),
            *steps,
            *projection("out_proj", inner, self.hidden_size, role="ssm_output", component=ssm, bias=self.bias),
            *(mixer_vector(f"{name}.weight", (width,), "ssm_norm", Component.NORM)
              for name, width in zip(self.norms, (rank, state, state), strict=False)),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """The convolution's inputs and the recurrent state, for each sequence."""
        elements = self.inner_size * (self.conv_kernel + self.state_size)
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2(Block):
    """The Mamba 2 mixer: heads of scalar decay, groups of B and C, a gated norm before the output.

    Example:
        >>> Mamba2(hidden_size=4096, num_heads=128, head_dim=64, num_groups=8, state_size=128).parameters
        109635968
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    num_groups: int
    state_size: int
    conv_kernel: int = 4
    bias: bool = False
    output_bias: bool | None = None
    conv_bias: bool = True
    norm: bool = True

    @property
    def inner_size(self) -> int:
        """Width of all heads."""
        return self.num_heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        """Channels that pass the convolution: the heads' inputs, B and C."""
        return self.inner_size + 2 * self.num_groups * self.state_size

    def weights(self) -> tuple[Weight, ...]:
        """Time-step bias, A and D (heads,), the convolution, the projection in, the gated norm, the projection out."""
        inner, ssm = self.inner_size, Component.SSM
        widths = inner + self.conv_channels + self.num_heads
        output_bias = self.bias if self.output_bias is None else self.output_bias
        norm = (mixer_vector("norm.weight", (inner,), "ssm_norm", Component.NORM),) if self.norm else ()
        return (
            mixer_vector("dt_bias", (self.num_heads,), "ssm_dt"),
            mixer_vector("A_log", (self.num_heads,), "ssm_a"),
            mixer_vector("D", (self.num_heads,), "ssm_d"),
            *mixer_convolution("conv1d", self.conv_channels, self.conv_kernel, self.conv_bias),
            *projection("in_proj", self.hidden_size, widths, role="ssm_in", component=ssm, bias=self.bias),
            *norm,
            *projection("out_proj", inner, self.hidden_size, role="ssm_output", component=ssm, bias=output_bias),
        )

    def states(self) -> tuple[State, ...]:
        """The convolution's inputs and the recurrent state, for each sequence."""
        elements = self.conv_channels * self.conv_kernel + self.inner_size * self.state_size
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)
