"""What does a block cost that a net applies at every position of one image? Its maps once for each, and their scores.

With p positions that each attend to s, and c FLOPs for a position that one attends to: p*s*c for the scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model.blocks.block import Block, Use, Weight

_SOURCES = ("attention_k", "attention_v", "attention_qkv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread(Block):
    """A block over an image: at `positions`, of which each attends to `attended`.

    `sources` is how many positions are mapped to keys and values where it is not as many (shortened in SegFormer, not
    yet pooled in Hiera).

    Example:
        >>> from weighbridge.model.blocks import Attention
        >>> attention = Attention(hidden_size=96, num_heads=3, num_kv_heads=3, head_dim=32, causal=False)
        >>> window = Spread(block=attention, positions=3136, attended=49)
        >>> window.fixed_flops(), window.weights()[0].positions, window.parameters == attention.parameters
        (59006976, 3136, True)
    """

    block: Block
    positions: int
    attended: int = 0
    sources: int | None = None

    def weights(self) -> tuple[Weight, ...]:
        """Those of the block, multiplied with at each position."""
        return tuple(replace(weight, positions=self._positions(weight)) for weight in self.block.weights())

    def _positions(self, weight: Weight) -> int:
        if weight.use is not Use.MATMUL:
            return weight.positions
        return self.positions if self.sources is None or weight.role not in _SOURCES else self.sources

    def fixed_flops(self) -> int:
        """Scores and weighted sum, over all positions."""
        return self.block.attention_flops_per_position() * self.positions * self.attended
