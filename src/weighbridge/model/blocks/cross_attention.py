"""How many parameters has cross-attention, and what does it keep? Keys and values of the encoder's output, once.

The projections are those of self-attention. Keys and values are computed from the encoder's positions when a sequence
begins and then stay as they are: 2*h*e numbers for each of them, whatever the decoder has written since (Vaswani et al.
2017, section 3.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model.blocks.attention import Attention
from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossAttention(Block):
    """Attention of a decoder to `positions` of its encoder, with separate projections.

    There are as many key-value heads as heads where `num_kv_heads` does not say. `source_size` is the encoder's width
    where it is another. `merged` cross-attention has no projections: those of the self-attention beside it serve
    (T5Gemma 2).

    Example:
        >>> whisper_tiny = CrossAttention(hidden_size=384, num_heads=6, head_dim=64, positions=1500)
        >>> whisper_tiny.parameters, whisper_tiny.states()[0].elements_per_sequence
        (589824, 1152000)
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    positions: int
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    qkv_bias: bool = False
    output_bias: bool = False
    num_kv_heads: int | None = None
    source_size: int | None = None
    merged: bool = False

    def weights(self) -> tuple[Weight, ...]:
        """Query, key, value and output projections, with their biases."""
        if self.merged:
            return ()
        weights = Attention(
            hidden_size=self.hidden_size, num_heads=self.num_heads, num_kv_heads=self.num_kv_heads or self.num_heads,
            head_dim=self.head_dim, names=self.names, qkv_bias=self.qkv_bias, output_bias=self.output_bias,
        ).weights()  # fmt: skip
        source = self.source_size or self.hidden_size
        return tuple(
            replace(weight, shape=(weight.shape[0], source))
            if weight.role in ("attention_k", "attention_v") and weight.use is Use.MATMUL else weight
            for weight in weights
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """Keys and values of all the encoder's positions, which also bound what is attended to."""
        elements = 2 * (self.num_kv_heads or self.num_heads) * self.head_dim * self.positions
        return (State(kind=StateKind.CROSS, elements_per_sequence=elements, window=self.positions),)

    def attention_flops_per_position(self) -> int:
        """Scores and weighted sum, over all heads."""
        return 4 * self.num_heads * self.head_dim
