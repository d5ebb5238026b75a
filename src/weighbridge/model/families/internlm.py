"""InternLM 1 and 2, Baichuan, Orion, XVERSE and the first Yi: Llama's wiring in other spellings, untied by default.

Source: the `modeling_*.py` beside the published weights, whose classes are not part of transformers. InternLM 1 has
biases on all four projections of attention (`bias`, default true); InternLM 2 fuses queries, keys and values. Baichuan
packs them too; its 13B differs in ALiBi, which has no weights. Orion has LayerNorm, and the first release of Yi other
names for its norms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, slots=True)
class _Wiring:
    """What the members differ in; bias keys come with their defaults."""

    prefix: str
    attention: tuple[str, ...] = _LLAMA
    qkv_bias: tuple[str, bool] | None = None
    output_bias: tuple[str, bool] | None = None
    grouped: bool = True
    norm_bias: bool = False
    paths: tuple[str, ...] = ("embed_tokens", "self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
    mlp: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    head: str = "lm_head"


_WIRINGS = {
    "internlm": _Wiring("InternLM", qkv_bias=("bias", True), output_bias=("bias", True), grouped=False),
    "internlm2": _Wiring(
        "InternLM2", ("wqkv", "wo"), ("bias", True), ("bias", True), mlp=("w1", "w3", "w2"), head="output",
        paths=("tok_embeddings", "attention", "feed_forward", "attention_norm", "ffn_norm"),
    ),
    "baichuan": _Wiring("Baichuan", ("W_pack", "o_proj"), grouped=False),
    "orion": _Wiring("Orion", norm_bias=True),
    "xverse": _Wiring("Xverse", grouped=False),
    "Yi": _Wiring("Yi", paths=("embed_tokens", "self_attn", "mlp", "ln1", "ln2")),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hyperparameters.refuse("num_experts", "which this dense family does not describe")
    wiring = _WIRINGS[hyperparameters.model_type]
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    num_kv_heads = hyperparameters.count("num_kv_heads", num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    if num_kv_heads != num_heads and not wiring.grouped:
        hyperparameters.refuse("num_kv_heads", "where this family has as many as query heads")

    def bias(key: tuple[str, bool] | None) -> bool:
        return key is not None and hyperparameters.flag(*key)

    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads,
        head_dim=hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads),
        names=wiring.attention, qkv_bias=bias(wiring.qkv_bias), output_bias=bias(wiring.output_bias),
    )  # fmt: skip
    gate, up, down = wiring.mlp
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=gate, up=up, down=down)  # fmt: skip
    table, attend, feed, first, second = wiring.paths
    head = language_head(hyperparameters, (wiring.prefix,), embedding=f"model.{table}.weight", path=wiring.head)
    layers, layer, norm = range(num_layers), "model.layers.{layer}.", Norm(width=hidden, bias=wiring.norm_bias)
    return Architecture(
        family="internlm",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model." + table, Embedding(rows=vocab, width=hidden)),
            Placement(layer + attend, attention, layers),
            Placement(layer + feed, feed_forward, layers),
            Placement(layer + first, replace(norm, role="attention_norm"), layers),
            Placement(layer + second, replace(norm, role="mlp_norm"), layers),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        gguf_architecture="orion" if hyperparameters.model_type == "orion" else None,
        notes=head.notes,
    )


FAMILY = Family(
    name="internlm",
    title="InternLM 1 to 3, Baichuan 1 and 2, Orion, XVERSE, Yi in its first spelling",
    model_types=tuple(_WIRINGS),
    gguf={"orion": GgufMeaning("orion", "OrionForCausalLM")},
    source="modeling_*.py beside the published weights",
    build=build,
)
