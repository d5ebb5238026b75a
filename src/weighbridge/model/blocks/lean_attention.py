"""How many parameters has attention that computes fewer of its keys and values itself?

A layer may take keys and values from an earlier one (cross-layer sharing: it has neither matrix and keeps no cache of
its own), or take its keys as values too (one matrix for both; the cache holds both all the same, as only the keys are
rotated). Source: transformers `models/gemma4/modeling_gemma4.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.attention import Attention
from weighbridge.model.blocks.block import Block, State, StateKind, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class LeanAttention(Block):
    """Attention without the value projection, or without both where `shared`.

    What a shared layer reads of the other's cache is not counted as a state of its own, nor as bytes that it reads.

    Example:
        >>> whole = Attention(hidden_size=1536, num_heads=8, num_kv_heads=1, head_dim=256)
        >>> LeanAttention(whole=whole).parameters, LeanAttention(whole=whole, shared=True).parameters
        (6684672, 6291456)
        >>> LeanAttention(whole=whole, shared=True).states()[0].elements_per_token
        0
    """

    whole: Attention
    shared: bool = False

    def weights(self) -> tuple[Weight, ...]:
        """The projections that are left."""
        missing = ("attention_k", "attention_v") if self.shared else ("attention_v",)
        return tuple(weight for weight in self.whole.weights() if weight.role not in missing)

    def states(self) -> tuple[State, ...]:
        """The cache of the whole, or nothing inside the same window."""
        if not self.shared:
            return self.whole.states()
        return (State(kind=StateKind.KV, elements_per_token=0, window=self.whole.window),)

    def attention_flops_per_position(self) -> int:
        """Scores and weighted sum, over all query heads."""
        return self.whole.attention_flops_per_position()
