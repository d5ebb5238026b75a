"""K-EXAONE and Hunyuan 3: grouped-query attention with head norms, shared experts beside many small ones.

Source: transformers `models/{exaone_moe,hy_v3}/{configuration,modeling}_*.py`; tensor names are those of the published
checkpoints (`conversion_mapping.py`). EXAONE has windows in most layers and no biases. The bias that balances the
router is a buffer. Next-token-prediction layers are named as vLLM loads them (`exaone_moe_mtp.py`, `hy_v3_mtp.py`):
EXAONE's are dense and apart from the others, Hunyuan's are routed and go on after them.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward
from weighbridge.model.families.qwen3_next import prediction
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with dense layers first, then routed ones."""
    hunyuan = hyperparameters.model_type == "hy_v3"
    bias = hunyuan and hyperparameters.flag("attention_bias", False)
    mlp_bias = hunyuan and hyperparameters.flag("mlp_bias", False)
    attention = mixture.attention(hyperparameters, num_kv_heads=8 if hunyuan else 32,
                                  head_dim=128 if hunyuan else None, qkv_bias=bias, output_bias=bias)  # fmt: skip
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, 192 if hunyuan else 64, 8)
    inner = hyperparameters.count("moe_intermediate_size", 1536 if hunyuan else 1024)
    experts = Experts(
        hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, experts_per_token=active,
        names=mixture.GATED, router="router.gate" if hunyuan else "gate",
        correction="expert_bias" if hunyuan else "e_score_correction_bias",
    )  # fmt: skip
    dense, sparse = mixture.dense_and_sparse(hyperparameters, num_layers, 1)
    width = hyperparameters.count("intermediate_size", 13312 if hunyuan else 16384)
    shared = mixture.shared_experts(hidden, hyperparameters.count("num_shared_experts", 1) * inner, mlp_bias)
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=width, bias=mlp_bias)
    norms = mixture.head_norms(attention.head_dim, attention.head_dim, range(num_layers))
    routed = [
        Placement(LAYER + "mlp", experts, sparse),
        Placement(LAYER + ("mlp.shared_mlp" if hunyuan else "mlp.shared_experts"), shared, sparse),
    ]
    whole = [Placement(LAYER + "self_attn", attention), *norms, *routed]
    extra = mixture.natural(hyperparameters, "num_nextn_predict_layers")
    body = [
        *(Placement(LAYER + "self_attn", replace(attention, window=window), layers)
          for window, layers in mixture.grouped(_windows(hyperparameters, num_layers))),
        *norms,
        Placement(LAYER + "mlp", dense_block, dense),
        *routed,
        *(mixture.next_token_layers(hyperparameters, whole, repeats_tables=False, norm_path="final_layernorm")
          if hunyuan else
          prediction(hyperparameters, attention, {"mlp": dense_block}, min(extra, MOST_LAYERS), is_routed=False)),
    ]  # fmt: skip
    return mixture.decoder(hyperparameters, "exaone_moe", ("ExaoneMoe", "HYV3"), body, attention=attention,
                           num_experts=num_experts)  # fmt: skip


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> list[int | None]:
    """Of each layer: those of `layer_types`, or all of EXAONE's but every `sliding_window_pattern`-th."""
    missing = "sliding_window" not in hyperparameters.settings
    window = 4096 if missing else hyperparameters.optional_count("sliding_window")
    if hyperparameters.model_type == "hy_v3" or window is None:
        return [None] * num_layers
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "sliding_attention"))
    if kinds is None:
        every = hyperparameters.count("sliding_window_pattern", 4)
        kinds = ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(num_layers)]
    return [window if kind == "sliding_attention" else None for kind in kinds]


FAMILY = Family(
    name="exaone_moe",
    title="K-EXAONE and Hunyuan 3",
    model_types=("exaone_moe", "hy_v3"),
    gguf={},
    source="transformers models/exaone_moe, models/hy_v3; vLLM exaone_moe_mtp.py, hy_v3_mtp.py",
    build=build,
)
