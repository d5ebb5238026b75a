"""Kimi Linear: Kimi's delta attention with latent attention in every fourth layer, experts after the first layer.

Source: transformers `models/kimi_linear/{configuration,modeling}_kimi_linear.py` (5.x); tensor names are those of
published checkpoints. `linear_attn_config` lists the layers of each kind, counted from 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Experts, FeedForward, Norm
from weighbridge.model.blocks.delta_attention import DeltaAttention
from weighbridge.model.blocks.latent_attention import LatentAttention
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, natural, shared_experts, whole_numbers


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Delta or latent attention, then a feed-forward block or experts."""
    for key in ("tie_embeddings", "layer_types", "mlp_layer_types", "attn_res_block_size", "latent_moe_use_norm",
                "mla_use_output_gate"):  # fmt: skip
        hyperparameters.refuse(key, "which this family does not describe")
    hidden = hyperparameters.count("hidden_size")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    linear = hyperparameters.part("linear_attn_config")
    linear.refuse("use_full_rank_gate", "which this family does not describe")
    attending, mixing = _kinds(linear, len(layers))
    first = min(len(layers), natural(hyperparameters, "first_k_dense_replace", 1))
    if hyperparameters.count("moe_layer_freq", 1) != 1:
        hyperparameters.refuse("moe_layer_freq", "which this family does not describe")
    num_heads = hyperparameters.count("num_heads", 32)
    delta = DeltaAttention(hidden_size=hidden, num_heads=linear.count("num_heads", 32),
                               head_dim=linear.count("head_dim", 128),
                               conv_kernel=linear.count("short_conv_kernel_size", 4))  # fmt: skip
    latent = LatentAttention(
        hidden_size=hidden, num_heads=num_heads, q_lora_rank=hyperparameters.optional_count("q_lora_rank"),
        kv_lora_rank=hyperparameters.count("kv_lora_rank", 512),
        qk_nope_head_dim=hyperparameters.count("qk_nope_head_dim", 128),
        qk_rope_head_dim=hyperparameters.count("qk_rope_head_dim", 64),
        v_head_dim=hyperparameters.count("v_head_dim", 128), bias=hyperparameters.flag("attention_bias", False),
    )  # fmt: skip
    experts = _experts(hyperparameters)
    shared = natural(hyperparameters, "num_shared_experts", natural(hyperparameters, "n_shared_experts", 1))
    dense = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 9216))
    sparse = layers[first:]
    norm = Norm(width=hidden, bias=False, role="attention_norm")
    head = language_head(hyperparameters, ("KimiLinear",))
    placements = (
        Placement("model.embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
        Placement(LAYER + "self_attn", delta, mixing),
        Placement(LAYER + "self_attn", latent, attending),
        Placement(LAYER + "mlp", dense, layers[:first]),
        Placement(LAYER + "block_sparse_moe", experts, sparse),
        *([Placement(LAYER + "block_sparse_moe.shared_experts",
                     shared_experts(hidden, shared * experts.intermediate_size), sparse)] if shared else []),
        Placement(LAYER + "input_layernorm", norm, layers),
        Placement(LAYER + "post_attention_layernorm", Norm(width=hidden, bias=False, role="mlp_norm"), layers),
        Placement("model.norm", Norm(width=hidden, bias=False, role="final_norm")),
        *head.placements,
    )  # fmt: skip
    return Architecture(
        family="kimi_linear",
        model_type=hyperparameters.model_type,
        placements=tuple(placement for placement in placements if placement.layers is None or len(placement.layers)),
        num_layers=len(layers),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        num_experts=experts.num_experts,
        base_prefix="model.",
        notes=head.notes,
    )


def _kinds(linear: Hyperparameters, num_layers: int) -> tuple[Sequence[int], Sequence[int]]:
    """The layers of latent and of delta attention, counted from 0."""
    attending = whole_numbers(linear, "full_attn_layers") or []
    mixing = whole_numbers(linear, "kda_layers") or []
    if sorted((*attending, *mixing)) != list(range(1, num_layers + 1)):
        raise ConfigError(f"{linear.source} gives {len(attending)} + {len(mixing)} of {num_layers} layers a kind",
                          "each layer from 1 on in one of full_attn_layers and kda_layers",
                          "use the model's full config.json")  # fmt: skip
    return [layer - 1 for layer in attending], [layer - 1 for layer in mixing]


def _experts(hyperparameters: Hyperparameters) -> Experts:
    num_experts = hyperparameters.count("num_experts", 256, most=MOST_EXPERTS)
    active = hyperparameters.count("num_experts_per_token", hyperparameters.count("experts_per_token", 8))
    hyperparameters.check_experts(num_experts, active)
    return Experts(
        hidden_size=hyperparameters.count("hidden_size"), num_experts=num_experts, experts_per_token=active,
        intermediate_size=hyperparameters.count("moe_intermediate_size", 1024),
        correction="gate.e_score_correction_bias",
    )  # fmt: skip


FAMILY = Family(
    name="kimi_linear",
    title="Kimi Linear",
    model_types=("kimi_linear",),
    gguf={},
    source="transformers models/kimi_linear",
    build=build,
)
