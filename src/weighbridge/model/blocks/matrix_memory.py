"""How many parameters has an mLSTM, and what does it keep?

xLSTM (Beck et al. 2024) keeps one matrix a head, which gates forget and write. With d the width, q that of queries and
keys, v that of values and h heads: 2*d*q + 2*d*v + v*d for queries, keys, values, output gate and output, 2*(d*h + h)
for the gates of input and forgetting, v for the norm of the heads.

State: q*v / h numbers of the matrices, q of their normaliser and h of its maximum. Source: transformers
`models/xlstm/modeling_xlstm.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixMemory(Block):
    """What xLSTM has in place of attention.

    Example:
        >>> xlstm_7b = MatrixMemory(hidden_size=4096, key_size=2048, value_size=4096, num_heads=8)
        >>> xlstm_7b.parameters, xlstm_7b.states()[0].elements_per_sequence
        (67178512, 1050632)
    """

    hidden_size: int
    key_size: int
    value_size: int
    num_heads: int

    def weights(self) -> tuple[Weight, ...]:
        """Queries, keys, values, three gates, of which two have biases, the norm of the heads, the output."""
        d, q, v, part = self.hidden_size, self.key_size, self.value_size, Component.ATTENTION
        maps = (("q", d, q, False), ("k", d, q, False), ("v", d, v, False), ("ogate_preact", d, v, False),
                ("igate_preact", d, self.num_heads, True), ("fgate_preact", d, self.num_heads, True),
                ("out_proj", v, d, False))  # fmt: skip
        return (
            *(weight for name, inputs, outputs, bias in maps
              for weight in projection(name, inputs, outputs, role="matrix_memory", component=part, bias=bias)),
            Weight(name="multihead_norm.weight", shape=(v,), role="matrix_memory_norm", component=Component.NORM,
                   use=Use.ELEMENTWISE),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """One matrix a head with its normaliser, and the maximum that keeps both small."""
        elements = self.key_size * self.value_size // self.num_heads + self.key_size + self.num_heads
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)
