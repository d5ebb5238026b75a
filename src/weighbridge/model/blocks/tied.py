"""How is a block counted that stands in several layers with one set of weights? Once; it works, and caches, in each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model.blocks.block import Block, State, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied(Block):
    """A further use of the block at the path `owner`, whose weights it shares.

    Example:
        >>> from weighbridge.model.blocks import Attention
        >>> attention = Attention(hidden_size=768, num_heads=12, num_kv_heads=12, head_dim=64)
        >>> again = Tied(block=attention, owner="layers.0.self_attn")
        >>> again.parameters, again.states() == attention.states(), again.weights()[0].tied_to
        (0, True, 'layers.0.self_attn.q_proj.weight')
    """

    block: Block
    owner: str

    def weights(self) -> tuple[Weight, ...]:
        """Those of the block, tied to the owner's."""
        return tuple(replace(weight, tied_to=f"{self.owner}.{weight.name}") for weight in self.block.weights())

    def states(self) -> tuple[State, ...]:
        """Those of the block: each use has its own."""
        return self.block.states()

    def attention_flops_per_position(self) -> int:
        """Those of the block."""
        return self.block.attention_flops_per_position()
