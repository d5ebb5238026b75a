"""LongCat-Flash: two latent attentions and two dense blocks a layer, and experts beside them, some of which do nothing.

Source: transformers `models/longcat_flash/{configuration,modeling}_longcat_flash.py` (5.x); tensor names are those of
published checkpoints. The router chooses among `zero_expert_num` experts too that return their input and have no
weights; the class reserves gates for them, which published files do not hold. `active_per_token` is for a token whose
experts all compute.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward, Norm
from weighbridge.model.blocks.latent_attention import LatentAttention
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder of double layers with one set of experts each."""
    if hyperparameters.spellings.get("num_layers") == "num_hidden_layers":
        raise ConfigError(f"{hyperparameters.source} has num_hidden_layers", "num_layers, which counts double layers",
                          "use the model's full config.json")  # fmt: skip
    hyperparameters.refuse("qk_head_dim", "which this family takes as the sum of its parts")
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    num_experts = hyperparameters.count("n_routed_experts", 512, most=MOST_EXPERTS)
    idle = mixture.natural(hyperparameters, "zero_expert_num", 256)
    attention = LatentAttention(
        hidden_size=hidden, num_heads=num_heads, q_lora_rank=hyperparameters.count("q_lora_rank", 1536),
        kv_lora_rank=hyperparameters.count("kv_lora_rank", 512),
        qk_nope_head_dim=hyperparameters.count("qk_nope_head_dim", 128),
        qk_rope_head_dim=hyperparameters.count("qk_rope_head_dim", 64),
        v_head_dim=hyperparameters.count("v_head_dim", 128), bias=hyperparameters.flag("attention_bias", False),
    )  # fmt: skip
    dense = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("ffn_hidden_size", 12288))
    active = hyperparameters.count("moe_topk", 12)
    hyperparameters.check_experts(num_experts, active)
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("expert_ffn_hidden_size", 2048),
        num_experts=num_experts, experts_per_token=active, names=mixture.GATED, router="router.classifier",
        router_bias=hyperparameters.flag("router_bias", False), idle_experts=idle,
        correction="router.e_score_correction_bias", correction_shape=(num_experts + idle,),
    )  # fmt: skip
    norm = Norm(width=hidden, bias=False)
    return mixture.decoder(
        hyperparameters, "longcat_flash", ("LongcatFlash",),
        [
            *(Placement(f"{LAYER}self_attn.{number}", attention, layers) for number in (0, 1)),
            *(Placement(f"{LAYER}mlps.{number}", dense, layers) for number in (0, 1)),
            Placement(LAYER + "mlp", experts, layers),
            Placement(LAYER + "input_layernorm.1", replace(norm, role="attention_norm"), layers),
            Placement(LAYER + "post_attention_layernorm.1", replace(norm, role="mlp_norm"), layers),
        ],
        num_experts=num_experts, norms=("input_layernorm.0", "post_attention_layernorm.0"),
    )  # fmt: skip


FAMILY = Family(
    name="longcat_flash",
    title="LongCat-Flash",
    model_types=("longcat_flash",),
    gguf={},
    source="transformers models/longcat_flash",
    build=build,
)
