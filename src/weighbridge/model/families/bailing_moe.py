"""Ling 2.0 and Ring 2.0 (Bailing MoE V2): fused grouped-query attention with head norms, small experts.

Source: `models/modeling_bailing_moe_v2.py` of inclusionAI/Ling-V2, which the published repositories bring. The bias
that balances the router is a buffer. Next-token-prediction layers go on after the others, routed and without tables.
Published files say `bailing_moe`, as those of Ling 1 do: the class tells them apart.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward
from weighbridge.model.decoder import with_defaults
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with `first_k_dense_replace` dense layers, then routed ones."""
    if hyperparameters.model_type == "bailing_moe" and not hyperparameters.classes:
        raise ConfigError(f"{hyperparameters.source} names no class", "BailingMoeV2ForCausalLM in architectures",
                          "use the model's full config.json")  # fmt: skip
    hyperparameters = with_defaults(hyperparameters, {"head_dim": 128})  # a null one divides the width
    whole = mixture.attention(
        hyperparameters, num_kv_heads=4, qkv_bias=hyperparameters.flag("use_qkv_bias", False),
        output_bias=hyperparameters.flag("use_bias", False),
    )  # fmt: skip
    hidden, layers = whole.hidden_size, range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    attention = replace(whole, names=("query_key_value", "dense"))
    num_experts, active = mixture.routing(hyperparameters, 256, 8)
    inner = hyperparameters.count("moe_intermediate_size", 512)
    experts = Experts(hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, experts_per_token=active,
                      names=mixture.GATED, correction="gate.expert_bias")  # fmt: skip
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 5120))
    first = mixture.natural(hyperparameters, "first_k_dense_replace", 1)
    missing = "num_shared_experts" not in hyperparameters.settings
    shared = 1 if missing else mixture.natural(hyperparameters, "num_shared_experts")
    routed = [Placement(LAYER + "mlp", experts, layers[first:])]
    if shared:
        block = mixture.shared_experts(hidden, shared * inner)
        routed.append(Placement(LAYER + "mlp.shared_experts", block, layers[first:]))
    attending = [Placement(LAYER + "attention", attention, layers)]
    if hyperparameters.flag("use_qk_norm", True):
        attending += mixture.head_norms(attention.head_dim, attention.head_dim, layers, path=LAYER + "attention.",
                                        names=("query_layernorm", "key_layernorm"))  # fmt: skip
    extra = mixture.next_token_layers(hyperparameters, [*attending, *routed], repeats_tables=False,
                                      norm_path="final_layernorm")  # fmt: skip
    embedding = "model.word_embeddings"
    return mixture.decoder(
        hyperparameters, "bailing_moe", ("BailingMoeV2",),
        [*attending, Placement(LAYER + "mlp", dense_block, layers[:first]), *routed, *extra], attention=attention,
        num_experts=num_experts, embedding=embedding,
        head=language_head(hyperparameters, ("BailingMoeV2",), embedding=f"{embedding}.weight"),
    )  # fmt: skip


FAMILY = Family(
    name="bailing_moe",
    title="Ling 2.0 and Ring 2.0",
    model_types=("bailing_moe", "bailing_moe_v2"),
    gguf={},
    source="modeling_bailing_moe_v2.py of inclusionAI/Ling-V2",
    build=build,
)
