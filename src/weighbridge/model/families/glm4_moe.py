"""GLM-4.5 and the mixtures wired like it: grouped-query attention, dense first layers, shared experts.

Source: transformers `models/{glm4_moe,dots1,solar_open}/{configuration,modeling}_*.py`; DeepSeek-MoE 16B from
`modeling_deepseek.py` beside its weights. They differ in head norms, in what the biases stand on, and in the bias that
balances the router, which is a buffer and which DeepSeek-MoE lacks. GLM stores next-token-prediction layers that repeat
the token table and the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What a model type takes when a key is missing."""

    head_norms: bool = False
    output_bias: bool = True
    correction: str | None = "gate.e_score_correction_bias"
    kv_heads: int | None = None
    intermediate: int
    moe_intermediate: int
    experts: int | None
    active: int | None
    shared: int
    dense: int
    window: bool = False
    head_dim: int | None = None


_VARIANTS = {
    "glm4_moe": _Variant(output_bias=False, kv_heads=8, intermediate=10944, moe_intermediate=1408, experts=128,
                         active=8, shared=1, dense=1),
    "dots1": _Variant(head_norms=True, kv_heads=32, intermediate=10944, moe_intermediate=1408, experts=None,
                      active=None, shared=0, dense=0, window=True),
    "solar_open": _Variant(output_bias=False, kv_heads=8, intermediate=10240, moe_intermediate=1280, experts=128,
                           active=8, shared=1, dense=0, head_dim=128),
    "deepseek": _Variant(correction=None, intermediate=11008, moe_intermediate=1407, experts=None, active=None,
                         shared=0, dense=0),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with `first_k_dense_replace` dense layers, then routed ones."""
    variant = _VARIANTS[hyperparameters.model_type]
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, num_kv_heads=variant.kv_heads, head_dim=variant.head_dim,
                                  qkv_bias=bias, output_bias=bias and variant.output_bias)  # fmt: skip
    hidden = attention.hidden_size
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, variant.experts, variant.active)
    moe_intermediate = hyperparameters.count("moe_intermediate_size", variant.moe_intermediate)
    experts = Experts(hidden_size=hidden, intermediate_size=moe_intermediate, num_experts=num_experts,
                      experts_per_token=active, names=mixture.GATED, correction=variant.correction)  # fmt: skip
    dense, sparse = mixture.dense_and_sparse(hyperparameters, num_layers, variant.dense)
    inner = hyperparameters.count("intermediate_size", variant.intermediate)
    body = [Placement(LAYER + "self_attn", replace(attention, window=window), layers)
            for window, layers in mixture.grouped(_windows(hyperparameters, num_layers, variant.window))]  # fmt: skip
    if hyperparameters.flag("use_qk_norm", variant.head_norms):
        body += mixture.head_norms(attention.head_dim, attention.head_dim, range(num_layers))
    body.append(Placement(LAYER + "mlp", FeedForward(hidden_size=hidden, intermediate_size=inner), dense))
    body.append(Placement(LAYER + "mlp", experts, sparse))
    shared = mixture.num_shared(hyperparameters, variant.shared)
    if shared:
        block = mixture.shared_experts(hidden, shared * moe_intermediate)
        body.append(Placement(LAYER + "mlp.shared_experts", block, sparse))
    routed_layer = [placement for placement in body if not isinstance(placement.block, FeedForward)
                    or placement.block.kind == "shared"]  # fmt: skip
    extra = mixture.next_token_layers(hyperparameters, routed_layer, repeats_tables=True)
    return mixture.decoder(hyperparameters, "glm4_moe", ("Glm4Moe", "Dots1", "SolarOpen", "Deepseek"), [*body, *extra],
                           attention=attention, num_experts=num_experts)  # fmt: skip


def _windows(hyperparameters: Hyperparameters, num_layers: int, windowed: bool) -> list[int | None]:
    """Of each layer: those of `layer_types`, or all from `max_window_layers` on, where the type has windows at all."""
    if not windowed:
        return [None] * num_layers
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "sliding_attention"))
    missing = "sliding_window" not in hyperparameters.settings
    window = 4096 if missing else hyperparameters.optional_count("sliding_window")
    first = mixture.natural(hyperparameters, "max_window_layers", 62)
    kinds = kinds or ["sliding_attention" if layer >= first else "full_attention" for layer in range(num_layers)]
    return [window if kind == "sliding_attention" else None for kind in kinds]


FAMILY = Family(
    name="glm4_moe",
    title="GLM-4.5 to 4.7, dots.llm1, Solar Open and DeepSeek-MoE 16B",
    model_types=tuple(_VARIANTS),
    gguf={},
    source="transformers models/glm4_moe, dots1, solar_open; modeling_deepseek.py of deepseek-ai/deepseek-moe-16b-base",
    build=build,
)
