"""How many parameters has latent attention, and what does its cache hold?

Keys and values of all heads are made from one latent vector of c numbers, so that only it and one rotary key of r
numbers are kept for each token: c + r, instead of 2*h*e (DeepSeek-V2, arXiv 2405.04434, section 2.1). Queries go
through a latent vector of their own where there is a `q_lora_rank`. A sparse variant (DeepSeek-V3.2) adds an indexer
that picks the positions to attend to; runtimes keep its keys in a cache of their own,
which is not counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Block):
    """Multi-head latent attention; `index_heads` above zero adds the indexer of sparse attention.

    `bias` is that of the maps into the latent vectors and of the output, as in the reference implementation.

    Example:
        >>> deepseek_v3 = LatentAttention(hidden_size=7168, num_heads=128, q_lora_rank=1536, kv_lora_rank=512,
        ...                               qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128)
        >>> deepseek_v3.parameters, deepseek_v3.states()[0].elements_per_token
        (187107328, 576)
    """

    hidden_size: int
    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    bias: bool = False
    index_heads: int = 0
    index_head_dim: int = 0

    def weights(self) -> tuple[Weight, ...]:
        """Queries direct or by way of their latent vector, the latent vector of keys and values, the output."""
        d, h = self.hidden_size, self.num_heads
        query_width = h * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        if self.q_lora_rank is None:
            queries = _map("q_proj", d, query_width, "attention_q")
        else:
            queries = (
                *_map("q_a_proj", d, self.q_lora_rank, "attention_q_a", self.bias),
                _scale("q_a_layernorm.weight", self.q_lora_rank, "attention_q_a_norm"),
                *_map("q_b_proj", self.q_lora_rank, query_width, "attention_q_b"),
            )
        return (
            *queries,
            *_map("kv_a_proj_with_mqa", d, self.kv_lora_rank + self.qk_rope_head_dim, "attention_kv_a", self.bias),
            _scale("kv_a_layernorm.weight", self.kv_lora_rank, "attention_kv_a_norm"),
            *_map("kv_b_proj", self.kv_lora_rank, h * (self.qk_nope_head_dim + self.v_head_dim), "attention_kv_b"),
            *_map("o_proj", h * self.v_head_dim, d, "attention_output", self.bias),
            *(self._indexer() if self.index_heads else ()),
        )

    def _indexer(self) -> tuple[Weight, ...]:
        assert self.q_lora_rank is not None, "the indexer reads the latent queries"
        return (
            *_map("indexer.wq_b", self.q_lora_rank, self.index_heads * self.index_head_dim, "indexer_q"),
            *_map("indexer.wk", self.hidden_size, self.index_head_dim, "indexer_k"),
            _scale("indexer.k_norm.weight", self.index_head_dim, "indexer_k_norm"),
            _scale("indexer.k_norm.bias", self.index_head_dim, "indexer_k_norm"),
            *_map("indexer.weights_proj", self.hidden_size, self.index_heads, "indexer_weights"),
        )

    def states(self) -> tuple[State, ...]:
        """The latent vector and the rotary key of every token held."""
        return (State(kind=StateKind.LATENT, elements_per_token=self.kv_lora_rank + self.qk_rope_head_dim),)

    def attention_flops_per_position(self) -> int:
        """Scores and weighted sum over all heads, keys and values expanded."""
        return 2 * self.num_heads * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim)


def _map(name: str, inputs: int, outputs: int, role: str, bias: bool = False) -> tuple[Weight, ...]:
    return projection(name, inputs, outputs, role=role, component=Component.ATTENTION, bias=bias)


def _scale(name: str, width: int, role: str) -> Weight:
    return Weight(name=name, shape=(width,), role=role, component=Component.NORM, use=Use.ELEMENTWISE)
