"""ERNIE 4.5 MoE: grouped-query attention, dense first layers, shared experts beside the routed, tied head by default.

Source: transformers `models/ernie4_5_moe/{configuration,modeling}_ernie4_5_moe.py`; tensor names are those of the
published checkpoints. `use_bias` is one switch for all maps but the router and the experts. The bias that balances the
router is a frozen parameter of shape (1, experts) there and counted as one. Next-token-prediction layers are dense, and
named as vLLM loads them (`ernie_mtp.py`).
"""

from __future__ import annotations

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Experts, FeedForward, Linear, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Kind


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with dense and routed layers."""
    bias = hyperparameters.flag("use_bias", False)
    attention = mixture.attention(hyperparameters, num_kv_heads=4, qkv_bias=bias, output_bias=bias)
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts = hyperparameters.count("moe_num_experts", 64, most=MOST_EXPERTS)
    active = hyperparameters.count("moe_k", 6)
    hyperparameters.check_experts(num_experts, active)
    moe_intermediate = hyperparameters.count("moe_intermediate_size", 1536)
    experts = Experts(
        hidden_size=hidden, intermediate_size=moe_intermediate, num_experts=num_experts, experts_per_token=active,
        names=mixture.GATED, correction="moe_statics.e_score_correction_bias", correction_kind=Kind.PARAMETER,
        correction_shape=(1, num_experts),
    )  # fmt: skip
    first, last = mixture.natural(hyperparameters, "moe_layer_start_index", 1), num_layers - 1
    if hyperparameters.settings.get("moe_layer_end_index") not in (None, -1):
        last = mixture.natural(hyperparameters, "moe_layer_end_index")
    step = hyperparameters.count("moe_layer_interval", 1)
    sparse = [layer for layer in range(num_layers) if (layer + 1) % step == 0 and first <= layer <= last]
    dense = sorted(set(range(num_layers)) - set(sparse))
    inner = hyperparameters.count("intermediate_size", 12288)
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=bias)
    body = [
        Placement(LAYER + "self_attn", attention, range(num_layers)),
        Placement(LAYER + "mlp", dense_block, dense),
        Placement(LAYER + "mlp", experts, sparse),
        *_next_token_layers(hyperparameters, attention, dense_block),
    ]
    shared = mixture.natural(hyperparameters, "moe_num_shared_experts", 2)
    if shared:
        block = mixture.shared_experts(hidden, shared * moe_intermediate, bias)
        body.append(Placement(LAYER + "mlp.shared_experts", block, sparse))
    head = language_head(hyperparameters, ("Ernie4_5_Moe",), tied=True, bias=bias)
    return mixture.decoder(hyperparameters, "ernie4_5_moe", ("Ernie4_5_Moe",), body, attention=attention,
                           num_experts=num_experts, head=head)  # fmt: skip


def _next_token_layers(hyperparameters: Hyperparameters, attention: Attention, mlp: FeedForward) -> list[Placement]:
    """Dense layers that take the last hidden state and the next token's embedding side by side."""
    layers = range(min(mixture.natural(hyperparameters, "num_nextn_predict_layers"), MOST_LAYERS))
    hidden, norm = attention.hidden_size, Norm(width=attention.hidden_size, bias=False)
    join = Linear(in_features=2 * hidden, out_features=hidden, bias=mlp.bias, role="mtp_join")
    parts: tuple[tuple[str, Block], ...] = (
        ("mtp_block.{layer}.self_attn", attention), ("mtp_block.{layer}.mlp", mlp),
        ("mtp_block.{layer}.input_layernorm", norm), ("mtp_block.{layer}.post_attention_layernorm", norm),
        ("mtp_emb_norm.{layer}", norm), ("mtp_hidden_norm.{layer}", norm), ("mtp_linear_proj.{layer}", join),
    )  # fmt: skip
    return [Placement(f"model.{name}", block, layers, mtp=True) for name, block in parts if layers]


FAMILY = Family(
    name="ernie4_5_moe",
    title="ERNIE 4.5 MoE",
    model_types=("ernie4_5_moe",),
    gguf={},
    source="transformers models/ernie4_5_moe; vLLM ernie_mtp.py",
    build=build,
)
