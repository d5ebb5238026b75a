"""How many parameters has a mixture of attention heads? Routed queries and outputs over shared keys and values.

Each of E experts maps to and from g*e numbers; a token uses k of them, with k*g query heads over the g key-value heads
that all experts share (Zhang et al. 2022, arXiv 2210.05144; JetMoE, arXiv 2404.07413).
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionExperts(Block):
    """Attention whose query and output projections are routed, in JetMoE's layout.

    Example:
        >>> jetmoe = AttentionExperts(hidden_size=2048, num_kv_heads=16, head_dim=128, num_experts=8,
        ...                           experts_per_token=2)
        >>> jetmoe.parameters, jetmoe.states()[0].elements_per_token
        (75515904, 4096)
    """

    hidden_size: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    experts_per_token: int

    def weights(self) -> tuple[Weight, ...]:
        """Bias of the output, stacked queries and outputs, router, keys and values."""
        d, width, count = self.hidden_size, self.num_kv_heads * self.head_dim, self.num_experts
        stacked = [Weight(name=f"experts.{name}.weight", shape=shape, role=role, component=Component.EXPERTS,
                          stacked=count, active=self.experts_per_token)
                   for name, shape, role in (("input_linear", (count, width, d), "attention_q"),
                                             ("output_linear", (count, d, width), "attention_output"))]  # fmt: skip
        bias = Weight(name="experts.bias", shape=(d,), role="attention_output", component=Component.ATTENTION,
                      use=Use.ELEMENTWISE)  # fmt: skip
        return (
            bias, *stacked,
            *projection("experts.router.layer", d, count, role="router", component=Component.ROUTER),
            *projection("kv_proj", d, 2 * width, role="attention_kv", component=Component.ATTENTION),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """Keys and values of every token held."""
        return (State(kind=StateKind.KV, elements_per_token=2 * self.num_kv_heads * self.head_dim),)

    def attention_flops_per_position(self) -> int:
        """Scores and weighted sum, over the query heads of the chosen experts."""
        return 4 * self.experts_per_token * self.num_kv_heads * self.head_dim
