"""How many parameters has attention, and what does its cache hold?

With d the width, h query heads, g key-value heads and e numbers a head: d*h*e for the queries, d*g*e each for keys and
values, h*e*d for the output, and the biases. Multi-head attention has g = h, grouped-query attention g < h,
multi-query attention g = 1. The cache holds 2*g*e numbers for each token. A new token spends 2*h*e FLOPs on the scores
and 2*h*e on the weighted sum for each position it attends to (Vaswani et al. 2017; Ainslie et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model.blocks.block import Block, State, StateKind, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Block):
    """Self-attention with separate or fused projections.

    `names` are those of the query, key, value and output projections, or of the fused one and the output; three stand
    for queries, keys and values whose output another block maps, and none for one whose maps all stand elsewhere.
    `causal` attention keeps a cache; `window` bounds it. `output_gate` doubles the query projection, which then gates
    the output too (Qwen3-Next). `output_size` is the width of the output where it is not that of the input (Zamba),
    `value_dim` the numbers of a value head where it is not those of a key head (MiMo-V2). `passes` is how often the
    scores are computed (DiffLlama: with one half of the values after the other).

    Example:
        >>> Attention(hidden_size=768, num_heads=12, num_kv_heads=12, head_dim=64).parameters
        2359296
        >>> llama_2_70b = Attention(hidden_size=8192, num_heads=64, num_kv_heads=8, head_dim=128)
        >>> llama_2_70b.parameters, llama_2_70b.states()[0].elements_per_token
        (150994944, 2048)
    """

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    qkv_bias: bool = False
    output_bias: bool = False
    transposed: bool = False
    causal: bool = True
    window: int | None = None
    output_gate: bool = False
    output_size: int | None = None
    value_dim: int | None = None
    passes: int = 1

    def weights(self) -> tuple[Weight, ...]:
        """Query, key, value (or the three in one) and output projections, with their biases."""
        if not self.names:
            return ()
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        *names, output = self.names if len(self.names) != 3 else (*self.names, "")
        roles = ("attention_q", "attention_k", "attention_v") if len(names) == 3 else ("attention_qkv",)
        asked = 2 * queries if self.output_gate else queries
        value_dim = self.value_dim or self.head_dim
        values = self.num_kv_heads * value_dim
        widths = (asked, keys, values) if len(names) == 3 else (asked + keys + values,)
        inputs = [weight for name, role, width in zip(names, roles, widths, strict=True)
                  for weight in projection(name, self.hidden_size, width, role=role, component=Component.ATTENTION,
                                           bias=self.qkv_bias, transposed=self.transposed)]  # fmt: skip
        if len(names) == 1:
            inputs[0] = replace(inputs[0], parts=(asked, keys, values))
        if not output:
            return tuple(inputs)
        outputs = self.output_size or self.hidden_size
        return (*inputs, *projection(output, self.num_heads * value_dim, outputs, role="attention_output",
                                     component=Component.ATTENTION, bias=self.output_bias,
                                     transposed=self.transposed))  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """Keys and values of every token held; nothing for an encoder."""
        if not self.causal:
            return ()
        elements = self.num_kv_heads * (self.head_dim + (self.value_dim or self.head_dim))
        return (State(kind=StateKind.KV, elements_per_token=elements, window=self.window, row_elements=self.head_dim),)

    def attention_flops_per_position(self) -> int:
        """Scores and weighted sum, over all query heads."""
        return 2 * self.num_heads * (self.head_dim + (self.value_dim or self.head_dim)) * self.passes
