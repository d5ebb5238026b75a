"""How many parameters has Kimi's delta attention, and what does it keep?

A gated delta net whose decay is one number a channel (arXiv 2510.26692). With d the width and w = heads x e: 4*d*w for
queries, keys, values and output, 2*(d*e + e*w) for the low-rank maps of decay and output gate, d*h for the rates of h
heads, 3*w*k for the convolutions of kernel k, w + h for step bias and decay, e for the norm.

State: the last k inputs of the convolutions' 3*w channels and e x e numbers a head, whatever the context. Source:
transformers `models/kimi_linear/modeling_kimi_linear.py`; names are those of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaAttention(Block):
    """Kimi delta attention.

    Example:
        >>> kimi_linear = DeltaAttention(hidden_size=2304, num_heads=32, head_dim=128, conv_kernel=4)
        >>> kimi_linear.parameters, kimi_linear.states()[0].elements_per_sequence
        (39514272, 573440)
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    conv_kernel: int

    def weights(self) -> tuple[Weight, ...]:
        """Projections and convolutions of queries, keys and values; decay, rate, gate, norm, output."""
        d, e, width = self.hidden_size, self.head_dim, self.num_heads * self.head_dim
        maps = (
            ("q_proj", d, width), ("k_proj", d, width), ("v_proj", d, width), ("f_a_proj", d, e),
            ("f_b_proj", e, width), ("b_proj", d, self.num_heads), ("g_a_proj", d, e),
            ("g_b_proj", e, width), ("o_proj", width, d),
        )  # fmt: skip
        convolution = (width, 1, self.conv_kernel)
        return (
            *(weight for name, inputs, outputs in maps
              for weight in projection(name, inputs, outputs, role="linear_attention", component=Component.ATTENTION)),
            *(_vector(f"{part}_conv1d.weight", convolution, use=Use.MATMUL) for part in "qkv"),
            _vector("dt_bias", (width,)),
            _vector("A_log", (1, 1, self.num_heads, 1)),
            _vector("o_norm.weight", (e,), Component.NORM),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """The convolutions' inputs and one square matrix a head."""
        width = self.num_heads * self.head_dim
        elements = 3 * width * self.conv_kernel + width * self.head_dim
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)


def _vector(
    name: str, shape: tuple[int, ...], component: Component = Component.ATTENTION, use: Use = Use.ELEMENTWISE
) -> Weight:
    return Weight(name=name, shape=shape, role="linear_attention", component=component, use=use)
