"""Which parts has a layer of an encoder-decoder in the manner of fairseq? Those of BART, Whisper and their relatives.

Each layer has self-attention, in a decoder cross-attention after it, and two dense layers, each with a norm (before or
after it, which changes no weight). Source: transformers `models/{bart,whisper,nllb_moe}/modeling_*.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.architecture import Placement
from weighbridge.model.blocks import Attention, Block, CrossAttention, Embedding, FeedForward, Norm, Vector
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True, slots=True)
class Stack:
    """The layers of one side, `encoder` or `decoder`, under a path.

    `positions` are those of the encoder that a decoder attends to; None for an encoder. `offset` counts the layers
    before. Whisper's keys have no bias (`key_bias`), PEGASUS-X's attention has none (`bias`); `names` are those of the
    projections of self-attention, `cross_name` is what cross-attention is called.
    """

    path: str
    hidden_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    intermediate_size: int
    positions: int | None = None
    offset: int = 0
    key_bias: bool = True
    cross_name: str = "encoder_attn"
    bias: bool = True
    names: tuple[str, ...] = _NAMES

    @property
    def layers(self) -> range:
        """The numbers in its names."""
        return range(self.num_layers)

    def at(self, name: str, block: Block) -> Placement:
        """A block of every layer."""
        return Placement(f"{self.path}.layers.{{layer}}.{name}", block, self.layers, offset=self.offset)

    def attention(self) -> list[Placement]:
        """Self-attention, and cross-attention in a decoder, with their norms."""
        norm = Norm(width=self.hidden_size, role="attention_norm")
        own = Attention(
            hidden_size=self.hidden_size, num_heads=self.num_heads, num_kv_heads=self.num_heads,
            head_dim=self.head_dim, names=self.names, qkv_bias=self.key_bias and self.bias, output_bias=self.bias,
            causal=self.positions is not None,
        )  # fmt: skip
        placements = [self.at("self_attn", own), *self._biases("self_attn"), self.at("self_attn_layer_norm", norm)]
        if self.positions is None:
            return placements
        cross = CrossAttention(
            hidden_size=self.hidden_size, num_heads=self.num_heads, head_dim=self.head_dim, positions=self.positions,
            names=_NAMES, qkv_bias=self.key_bias and self.bias, output_bias=self.bias,
        )  # fmt: skip
        norm = Norm(width=self.hidden_size, role="cross_attention_norm")
        return [
            *placements,
            self.at(self.cross_name, cross),
            *self._biases(self.cross_name),
            self.at(f"{self.cross_name}_layer_norm", norm),
        ]

    def _biases(self, name: str) -> list[Placement]:
        if self.key_bias:
            return []
        return [
            self.at(f"{name}.{part}_proj", Vector(name="bias", width=self.num_heads * self.head_dim,
                                                  role=f"attention_{part}", component=Component.ATTENTION))
            for part in ("q", "v")
        ]  # fmt: skip

    def dense(self) -> list[Placement]:
        """The two dense layers."""
        block = FeedForward(hidden_size=self.hidden_size, intermediate_size=self.intermediate_size, gate=None,
                            up="fc1", down="fc2", bias=True)  # fmt: skip
        return [Placement(f"{self.path}.layers.{{layer}}", block, self.layers, offset=self.offset)]

    def placements(self) -> list[Placement]:
        """All of every layer, with a dense feed-forward block."""
        norm = Norm(width=self.hidden_size, role="mlp_norm")
        return [*self.attention(), *self.dense(), self.at("final_layer_norm", norm)]


def stack(
    hyperparameters: Hyperparameters, base: str, side: str, *, positions: int | None = None, offset: int = 0,
    key_bias: bool = True,
) -> Stack:  # fmt: skip
    """The `encoder` or `decoder` that the keys `encoder_layers`, `encoder_attention_heads` ... describe."""
    hidden = hyperparameters.count("hidden_size")
    num_heads = hyperparameters.count(f"{side}_attention_heads")
    return Stack(
        path=f"{base}{side}", hidden_size=hidden,
        num_layers=hyperparameters.count(f"{side}_layers", most=MOST_LAYERS), num_heads=num_heads,
        head_dim=hyperparameters.divided(f"{side} head_dim", hidden, num_heads),
        intermediate_size=hyperparameters.count(f"{side}_ffn_dim"), positions=positions, offset=offset,
        key_bias=key_bias,
    )  # fmt: skip


def position_table(path: str, rows: int, width: int) -> Placement:
    """Learned positions, or sines that are stored like them."""
    return Placement(f"{path}.embed_positions", Embedding(rows=rows, width=width, role="position_embedding"))
