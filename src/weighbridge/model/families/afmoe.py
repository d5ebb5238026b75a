"""AFMoE (Arcee Trinity): gated attention with head norms, windows in three of four layers, norms around both parts.

Source: transformers `models/afmoe/{configuration,modeling}_afmoe.py` (5.x); experts are named as in published
checkpoints. The bias that balances the router is a frozen parameter there and counted as one.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward, Linear, Norm
from weighbridge.model.decoder import sliding_but_every, windows_by_type, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component, Kind


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with `num_dense_layers` dense layers, then routed ones."""
    hyperparameters = with_defaults(hyperparameters, {"sliding_window": 1024, "head_dim": 128})
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    hidden, layers = attention.hidden_size, range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    num_experts, active = mixture.routing(hyperparameters, 64, 6)
    inner = hyperparameters.count("moe_intermediate_size", 1408)
    experts = Experts(
        hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, experts_per_token=active,
        names=mixture.GATED, router="router.gate", correction="expert_bias", correction_kind=Kind.PARAMETER,
    )  # fmt: skip
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 6144))
    first = mixture.natural(hyperparameters, "num_dense_layers", 1)
    dense, sparse = layers[:first], layers[first:]
    shared = mixture.natural(hyperparameters, "num_shared_experts", 2)
    gate = Linear(in_features=hidden, out_features=attention.num_heads * attention.head_dim, bias=False,
                  role="attention_gate", component=Component.ATTENTION)  # fmt: skip
    every = hyperparameters.count("global_attn_every_n_layers", 4)
    after = Norm(width=hidden, bias=False, role="attention_post_norm")
    body = [
        *(Placement(LAYER + "self_attn", replace(attention, window=window), some)
          for window, some in windows_by_type(hyperparameters, sliding_but_every(every, len(layers)))),
        Placement(LAYER + "self_attn.gate_proj", gate, layers),
        *mixture.head_norms(attention.head_dim, attention.head_dim, layers),
        Placement(LAYER + "mlp", dense_block, dense),
        Placement(LAYER + "mlp", experts, sparse),
        *([Placement(LAYER + "mlp.shared_experts", mixture.shared_experts(hidden, shared * inner), sparse)]
          if shared else []),
        Placement(LAYER + "post_attention_layernorm", after, layers),
        Placement(LAYER + "post_mlp_layernorm", replace(after, role="mlp_post_norm"), layers),
    ]  # fmt: skip
    return mixture.decoder(hyperparameters, "afmoe", ("Afmoe",), body, attention=attention, num_experts=num_experts,
                           norms=("input_layernorm", "pre_mlp_layernorm"))  # fmt: skip


FAMILY = Family(
    name="afmoe",
    title="Arcee Trinity",
    model_types=("afmoe",),
    gguf={},
    source="transformers models/afmoe",
    build=build,
)
