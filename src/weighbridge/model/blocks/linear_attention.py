"""How many parameters has linear attention, and what does it keep?

The gated delta net (Yang et al. 2024) keeps one matrix a head instead of keys and values a token. With d the width, q =
key heads x key width and v = value heads x value width: d*(2q+2v) for queries, keys, values and output gate, 2*d*h for
the rates b and decays a of h value heads, (2q+v)*k for the convolution of kernel k, 2h for decay and step bias, a gated
norm of one head's width, v*d out.

State, as the caches of transformers keep it: the last k inputs of the convolution for each of its 2q+v channels, and
key width x value width numbers a value head. It does not grow with the context.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.blocks.state_space import mixer_convolution, mixer_vector
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet(Block):
    """A gated delta net.

    `inputs` and `convolutions` name the tensors and what lies in each, one letter a part: q, k, v, z (the output gate),
    b (the rate of writing), a (the decay).

    Example:
        >>> GatedDeltaNet(hidden_size=2048, key_heads=16, value_heads=32, key_dim=128, value_dim=128).parameters
        33718464
    """

    hidden_size: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int = 4
    inputs: tuple[tuple[str, str], ...] = (("in_proj_qkvz", "qkvz"), ("in_proj_ba", "ba"))
    convolutions: tuple[tuple[str, str], ...] = (("conv1d", "qkv"),)
    norm: str = "norm"
    output: str = "out_proj"

    def _width(self, parts: str) -> int:
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        widths = {"q": keys, "k": keys, "v": values, "z": values, "b": self.value_heads, "a": self.value_heads}
        return sum(widths[part] for part in parts)

    def weights(self) -> tuple[Weight, ...]:
        """Step bias and decay (heads,), the convolution, the projections in, the gated norm, the projection out."""
        values, ssm = self._width("v"), Component.SSM
        return (
            mixer_vector("dt_bias", (self.value_heads,), "ssm_dt"),
            mixer_vector("A_log", (self.value_heads,), "ssm_a"),
            *(weight for name, parts in self.convolutions
              for weight in mixer_convolution(name, self._width(parts), self.conv_kernel, bias=False)),
            *(weight for name, parts in self.inputs
              for weight in projection(name, self.hidden_size, self._width(parts), role="ssm_in", component=ssm)),
            mixer_vector(f"{self.norm}.weight", (self.value_dim,), "ssm_norm", Component.NORM),
            *projection(self.output, values, self.hidden_size, role="ssm_output", component=ssm),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """The convolution's inputs and one matrix a value head, for each sequence."""
        elements = self._width("qkv") * self.conv_kernel + self.value_heads * self.key_dim * self.value_dim
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)
