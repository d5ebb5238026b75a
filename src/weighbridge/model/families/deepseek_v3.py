"""DeepSeek-V2 and V3, Kimi K2, GLM-4.7-Flash, GLM-5, Mistral 4: latent attention, and experts after dense first layers.

Source: transformers `models/{deepseek_v2,deepseek_v3,deepseek_v32,glm4_moe_lite,glm_moe_dsa,axk1,mistral4}/`, the
configuration and modeling files; Kimi K2 names the classes of DeepSeek-V3. A `q_lora_rank` of null means direct
queries, a missing one the default of the class. From V3 on a bias that balances the router is stored, as a buffer. V3.2
and GLM-5 add an indexer to attention, GLM-5 only in the layers that do not share another's. Next-token-prediction
layers repeat the token table and the head everywhere but in GLM-5. A.X K1 has a norm after the experts; Mistral 4
stacks them.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward, Linear, Norm
from weighbridge.model.blocks.latent_attention import LatentAttention
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component

_PREFIXES = ("DeepseekV2", "DeepseekV3", "DeepseekV32", "Glm4MoeLite", "GlmMoeDsa", "AXK1", "Mistral4")
_INDEXER_NOTE = "the indexer's keys are kept in a cache of their own, which is not in the state"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """What a model type takes when a key is missing."""

    intermediate: int = 18432
    moe_intermediate: int = 2048
    experts: int = 256
    active: int | None = 8
    shared: int = 1
    dense: int = 3
    q_lora_rank: int = 1536
    nope: int = 128
    value: int = 128
    correction: bool = True
    indexer: int = 0
    mlp_bias: bool = False
    repeats_tables: bool = False
    norm_after_experts: bool = False
    kv_lora_rank: int = 512
    stacked: bool = False


_V3 = _Variant(repeats_tables=True)
_VARIANTS = {
    "deepseek_v2": _Variant(intermediate=11008, moe_intermediate=1407, experts=64, active=None, shared=2, dense=0,
                            correction=False, mlp_bias=True),
    "deepseek_v3": _V3,
    "kimi_k2": _V3,
    "deepseek_v32": _Variant(indexer=64, repeats_tables=True),
    "glm4_moe_lite": _Variant(intermediate=10240, moe_intermediate=1536, experts=64, active=4, dense=1,
                              q_lora_rank=768, nope=192, value=256, repeats_tables=True),
    "axk1": _Variant(experts=192, dense=1, norm_after_experts=True),
    "mistral4": _Variant(intermediate=12288, experts=128, active=4, dense=0, q_lora_rank=1024, nope=64,
                         kv_lora_rank=256, correction=False, stacked=True),
    "glm_moe_dsa": _Variant(intermediate=12288, q_lora_rank=2048, nope=192, value=256, indexer=32),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with latent attention."""
    variant = _VARIANTS[hyperparameters.model_type]
    if not hyperparameters.flag("use_mla", True):
        raise ConfigError(f"{hyperparameters.source} has use_mla = false", "a model with latent attention",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, variant.experts, variant.active)
    moe_intermediate = hyperparameters.count("moe_intermediate_size", variant.moe_intermediate)
    correction = "gate.e_score_correction_bias" if variant.correction else None
    experts = Experts(hidden_size=hidden, intermediate_size=moe_intermediate, num_experts=num_experts,
                      experts_per_token=active, names=mixture.GATED, correction=correction)  # fmt: skip
    bias = variant.mlp_bias and hyperparameters.flag("mlp_bias", False)
    inner = hyperparameters.count("intermediate_size", variant.intermediate)
    shared = mixture.num_shared(hyperparameters, variant.shared)
    dense, sparse = mixture.dense_and_sparse(hyperparameters, num_layers, variant.dense)
    routed = [Placement(LAYER + "mlp", experts, sparse)]
    if variant.stacked:
        routed = [Placement(LAYER + "mlp.gate", Linear(in_features=hidden, out_features=num_experts, bias=False,
                                                       role="router", component=Component.ROUTER), sparse),
                  Placement(LAYER + "mlp.experts", StackedExperts(
                      hidden_size=hidden, intermediate_size=moe_intermediate, num_experts=num_experts,
                      experts_per_token=active, names=("gate_up_proj", "down_proj")), sparse)]  # fmt: skip
    if shared:
        block = mixture.shared_experts(hidden, shared * moe_intermediate, bias)
        routed.append(Placement(LAYER + "mlp.shared_experts", block, sparse))
    if variant.norm_after_experts:
        after = Norm(width=hidden, bias=False, role="mlp_post_norm")
        routed.append(Placement(LAYER + "post_mlp_layernorm", after, sparse))
    index_heads = hyperparameters.count("index_n_heads", variant.indexer) if variant.indexer else 0
    heads = [index_heads if indexed else 0 for indexed in _indexed(hyperparameters, num_layers)]
    attention = [Placement(LAYER + "self_attn", _attention(hyperparameters, variant, count), layers)
                 for count, layers in mixture.grouped(heads)]  # fmt: skip
    layer = [Placement(LAYER + "self_attn", _attention(hyperparameters, variant, index_heads)), *routed]
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=bias)
    body = [*attention, Placement(LAYER + "mlp", feed_forward, dense), *routed,
            *mixture.next_token_layers(hyperparameters, layer, repeats_tables=variant.repeats_tables)]  # fmt: skip
    return mixture.decoder(hyperparameters, "deepseek_v3", _PREFIXES, body, num_experts=num_experts,
                           notes=(_INDEXER_NOTE,) if index_heads else ())  # fmt: skip


def _attention(hyperparameters: Hyperparameters, variant: _Variant, index_heads: int) -> LatentAttention:
    direct = "q_lora_rank" in hyperparameters.settings and hyperparameters.settings["q_lora_rank"] is None
    if direct and variant.indexer:
        raise ConfigError(f"{hyperparameters.source} has q_lora_rank = null beside an indexer",
                          "the rank of the latent queries, which the indexer reads", "correct the key")  # fmt: skip
    return LatentAttention(
        hidden_size=hyperparameters.count("hidden_size"),
        num_heads=hyperparameters.count("num_heads"),
        q_lora_rank=None if direct else hyperparameters.count("q_lora_rank", variant.q_lora_rank),
        kv_lora_rank=hyperparameters.count("kv_lora_rank", variant.kv_lora_rank),
        qk_nope_head_dim=hyperparameters.count("qk_nope_head_dim", variant.nope),
        qk_rope_head_dim=hyperparameters.count("qk_rope_head_dim", 64),
        v_head_dim=hyperparameters.count("v_head_dim", variant.value),
        bias=hyperparameters.flag("attention_bias", False),
        index_heads=index_heads,
        index_head_dim=hyperparameters.count("index_head_dim", 128) if index_heads else 0,
    )


def _indexed(hyperparameters: Hyperparameters, num_layers: int) -> list[bool]:
    """Which layers run an indexer of their own, where there is one: all of DeepSeek's, some of GLM-5's."""
    if hyperparameters.model_type != "glm_moe_dsa":
        return [True] * num_layers
    kinds = mixture.named_layers(hyperparameters, "indexer_types", num_layers, ("full", "shared"))
    if kinds is None:
        hyperparameters.refuse("index_topk_pattern", "which is described only as indexer_types")
        every = hyperparameters.count("index_topk_freq", 1)
        offset = mixture.natural(hyperparameters, "index_skip_topk_offset", 2)
        kinds = ["full" if max(layer - offset + 1, 0) % every == 0 else "shared" for layer in range(num_layers)]
    return [kind == "full" for kind in kinds]


FAMILY = Family(
    name="deepseek_v3",
    title="DeepSeek-V2, V3, R1 and V3.2, Kimi K2, GLM-4.7-Flash, GLM-5, A.X K1 and the text of Mistral 4",
    model_types=tuple(_VARIANTS),
    gguf={},
    source="transformers models/deepseek_v2, deepseek_v3, deepseek_v32, glm4_moe_lite, glm_moe_dsa, axk1, mistral4",
    build=build,
)
