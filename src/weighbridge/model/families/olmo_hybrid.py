"""OLMo Hybrid: OLMo 3's attention layers, normed after their parts, among gated delta nets, normed before theirs.

Source: transformers `models/olmo_hybrid/{configuration,modeling}_olmo_hybrid.py` (5.x). Tensor names are those of
published checkpoints, which call a delta net's norms `attention_layer_norm` and `feedforward_layer_norm` and keep its
three convolutions apart.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, FeedForward, Norm
from weighbridge.model.blocks.linear_attention import GatedDeltaNet
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, attention, head_norms, named_layers


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Delta net or attention, then a feed-forward block."""
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    kinds = _kinds(hyperparameters, num_layers)
    attending = [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]
    mixing = [layer for layer, kind in enumerate(kinds) if kind == "linear_attention"]
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"))
    head = language_head(hyperparameters, ("OlmoHybrid",))
    norm = Norm(width=hidden, bias=False)
    norms = (
        ("post_attention_layernorm", "attention_post_norm", attending),
        ("post_feedforward_layernorm", "mlp_post_norm", attending),
        ("attention_layer_norm", "attention_norm", mixing),
        ("feedforward_layer_norm", "mlp_norm", mixing),
    )
    return Architecture(
        family="olmo_hybrid",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(LAYER + "self_attn", heads, attending),
            *head_norms(heads.num_heads * heads.head_dim, heads.num_kv_heads * heads.head_dim, attending),
            Placement(LAYER + "linear_attn", _delta_net(hyperparameters, heads.num_heads), mixing),
            Placement(LAYER + "mlp", feed_forward, range(num_layers)),
            *(Placement(LAYER + name, replace(norm, role=role), layers) for name, role, layers in norms),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


def _kinds(hyperparameters: Hyperparameters, num_layers: int) -> list[str]:
    kinds = named_layers(hyperparameters, "layer_types", num_layers, ("linear_attention", "full_attention"))
    if kinds is None:
        kinds = ["full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(num_layers)]
        if num_layers < 4:
            kinds[-1] = "full_attention"
    if len(set(kinds)) != 2:
        raise ConfigError(f"{hyperparameters.source} has layers of one kind", "both attention and delta nets",
                          "correct layer_types")  # fmt: skip
    return kinds


def _delta_net(hyperparameters: Hyperparameters, num_heads: int) -> GatedDeltaNet:
    key_heads = hyperparameters.count("linear_num_key_heads", num_heads)
    key_dim = hyperparameters.count("linear_key_head_dim", 3 * hyperparameters.count("hidden_size") // (4 * key_heads))
    return GatedDeltaNet(
        hidden_size=hyperparameters.count("hidden_size"),
        key_heads=key_heads,
        value_heads=hyperparameters.count("linear_num_value_heads", num_heads),
        key_dim=hyperparameters.derived("the key width", key_dim),
        value_dim=hyperparameters.count("linear_value_head_dim", 2 * key_dim),
        conv_kernel=hyperparameters.count("linear_conv_kernel_dim", 4),
        inputs=(("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("a_proj", "a"), ("b_proj", "b"), ("g_proj", "z")),
        convolutions=(("q_conv1d", "q"), ("k_conv1d", "k"), ("v_conv1d", "v")),
        norm="o_norm",
        output="o_proj",
    )


FAMILY = Family(
    name="olmo_hybrid",
    title="OLMo Hybrid",
    model_types=("olmo_hybrid",),
    gguf={},
    source="transformers models/olmo_hybrid",
    build=build,
)
