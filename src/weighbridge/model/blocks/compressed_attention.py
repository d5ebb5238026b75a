"""How many parameters has attention over compressed positions, and what does its cache hold?

DeepSeek-V4 gives all heads one key of e numbers that is the value too. The last positions are kept as they are, inside
a window; before it a compressor makes one entry of every 4 or 128 tokens. Where 4, an indexer picks the entries to
attend to; its keys lie in a cache of their own, which is not counted here. The output goes through g block-diagonal
maps, then one that mixes them. Source: transformers `models/deepseek_v4/modeling_deepseek_v4.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention(Block):
    """Windowed attention with one shared key, and beyond the window one entry for every `rate` tokens where it is set.

    With `index_heads` the compressor overlaps its inputs, which doubles its width, and an indexer stands beside.

    Example:
        >>> window = CompressedAttention(hidden_size=4096, num_heads=64, head_dim=512, q_lora_rank=1024, o_groups=8,
        ...                              o_lora_rank=1024, window=128)
        >>> window.parameters, window.states()[0].elements_per_token
        (106956352, 512)
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    window: int
    rate: int | None = None
    index_heads: int = 0
    index_head_dim: int = 0

    def weights(self) -> tuple[Weight, ...]:
        """Latent queries, the shared key, the grouped output, sinks; compressor and indexer where there are any."""
        d, queries = self.hidden_size, self.num_heads * self.head_dim
        mixed = self.o_groups * self.o_lora_rank
        weights = [
            *_map("wq_a", d, self.q_lora_rank, "attention_q_a"), _scale("q_norm.weight", self.q_lora_rank),
            *_map("wq_b", self.q_lora_rank, queries, "attention_q_b"),
            *_map("wkv", d, self.head_dim, "attention_kv"), _scale("kv_norm.weight", self.head_dim),
            *_map("wo_a", queries // self.o_groups, mixed, "attention_output_a"),
            *_map("wo_b", mixed, d, "attention_output"),
            _added("attn_sink", (self.num_heads,), "attention_sinks"),
        ]  # fmt: skip
        if self.rate is None:
            return tuple(weights)
        weights += self._compressor("compressor", self.head_dim, self.rate)
        if self.index_heads:
            weights += [
                *_map("indexer.wq_b", self.q_lora_rank, self.index_heads * self.index_head_dim, "indexer_q"),
                *_map("indexer.weights_proj", d, self.index_heads, "indexer_weights"),
                *self._compressor("indexer.compressor", self.index_head_dim, self.rate),
            ]
        return tuple(weights)

    def _compressor(self, path: str, width: int, rate: int) -> tuple[Weight, ...]:
        wide = (2 if self.index_heads else 1) * width
        return (
            *_map(f"{path}.wkv", self.hidden_size, wide, "compressor_kv"),
            *_map(f"{path}.wgate", self.hidden_size, wide, "compressor_gate"),
            _added(f"{path}.ape", (rate, wide), "compressor_position"),
            _scale(f"{path}.norm.weight", width),
        )

    def states(self) -> tuple[State, ...]:
        """The keys inside the window, and the mean share of a compressed entry for every token."""
        window = State(kind=StateKind.LATENT, elements_per_token=self.head_dim, window=self.window)
        if self.rate is None:
            return (window,)
        return (window, State(kind=StateKind.LATENT, elements_per_token=self.head_dim // self.rate))

    def attention_flops_per_position(self) -> int:
        """Scores and weighted sum, over all query heads."""
        return 4 * self.num_heads * self.head_dim


def _map(name: str, inputs: int, outputs: int, role: str) -> tuple[Weight, ...]:
    return projection(name, inputs, outputs, role=role, component=Component.ATTENTION)


def _scale(name: str, width: int) -> Weight:
    return Weight(name=name, shape=(width,), role="attention_latent_norm", component=Component.NORM,
                  use=Use.ELEMENTWISE)  # fmt: skip


def _added(name: str, shape: tuple[int, ...], role: str) -> Weight:
    return Weight(name=name, shape=shape, role=role, component=Component.ATTENTION, use=Use.ELEMENTWISE)
