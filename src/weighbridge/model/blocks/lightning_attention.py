"""How many parameters has lightning attention, and what does it keep?

Queries, keys and values in one matrix, a gate on the output, a norm and the output: 5*d*h*e + h*e. In place of a cache
it keeps the running sum of key-value products, one e x e matrix a head (Qin et al., arXiv 2401.04658; transformers
`models/minimax/modeling_minimax.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class LightningAttention(Block):
    """Linear attention as MiniMax-Text-01 has it.

    Example:
        >>> lightning = LightningAttention(hidden_size=6144, num_heads=64, head_dim=128)
        >>> lightning.parameters, lightning.states()[0].elements_per_sequence
        (251666432, 1048576)
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    component: Component = Component.ATTENTION

    def weights(self) -> tuple[Weight, ...]:
        """Norm, queries with keys and values, output, gate."""
        d, width = self.hidden_size, self.num_heads * self.head_dim
        maps = (("qkv_proj", d, 3 * width, "linear_qkv"), ("out_proj", width, d, "linear_output"),
                ("output_gate", d, width, "linear_gate"))  # fmt: skip
        norm = Weight(name="norm.weight", shape=(width,), role="linear_norm", component=Component.NORM,
                      use=Use.ELEMENTWISE)  # fmt: skip
        return (norm, *(weight for name, inputs, outputs, role in maps
                        for weight in projection(name, inputs, outputs, role=role,
                                                 component=self.component)))  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """One square matrix a head."""
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=self.num_heads * self.head_dim**2),)
