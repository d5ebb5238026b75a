"""How many parameters has the attention of XLNet? 5*d*h*e for queries, keys, values, output and positions, and 5*h*e.

Content and position have a score each, with a learned bias for all queries (h*e), and so has whether two tokens are of
one segment: a bias and two vectors (3*h*e). All are stored by head (Dai et al. 2019; transformers `models/xlnet`).
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeAttention(Block):
    """Attention to all positions of an encoder by content, distance and segment.

    Distances are mapped and scored on both `sides` of a token, or on one, with as many on each as there are positions.

    Example:
        >>> RelativeAttention(hidden_size=768, num_heads=12, head_dim=64).parameters
        2952960
        >>> RelativeAttention(hidden_size=768, num_heads=12, head_dim=64).attention_flops_per_position()
        6144
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    sides: int = 2

    def weights(self) -> tuple[Weight, ...]:
        """Five maps (hidden, heads, head), three biases (heads, head), two segments (2, heads, head)."""
        by_head = (self.num_heads, self.head_dim)
        roles = {"q": "attention_q", "k": "attention_k", "v": "attention_v", "o": "attention_output",
                 "r": "attention_position"}  # fmt: skip
        return (
            *(Weight(name=name, shape=(self.hidden_size, *by_head), role=role, component=Component.ATTENTION,
                     positions=self.sides if name == "r" else 1)
              for name, role in roles.items()),
            *(Weight(name=name, shape=by_head, role="attention_bias", component=Component.ATTENTION,
                     use=Use.ELEMENTWISE) for name in ("r_r_bias", "r_s_bias", "r_w_bias")),
            Weight(name="seg_embed", shape=(2, *by_head), role="attention_segment", component=Component.ATTENTION,
                   use=Use.ELEMENTWISE),
        )  # fmt: skip

    def attention_flops_per_position(self) -> int:
        """Scores of content and of the distances, and the weighted sum, over all heads."""
        return 2 * (2 + self.sides) * self.num_heads * self.head_dim
