"""Granite 4 hybrid: Mamba 2 mixers or attention by `layer_types`, a shared feed-forward block beside routed experts.

Source: transformers `models/granitemoehybrid/{configuration,modeling}_granitemoehybrid.py` (5.x); tensor names are
those of published checkpoints. Without experts (`num_local_experts` 0) the shared block is the only one, and dense.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward, Linear
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.families.bamba import mixer
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, attention, decoder, named_layers, natural
from weighbridge.model.tensors import Component

_MIXING, _ATTENDING = ("mamba", "linear_attention"), ("attention", "full_attention")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Mixer or attention, then experts and a shared feed-forward block."""
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    kinds = (named_layers(hyperparameters, "layer_types", num_layers, _MIXING + _ATTENDING)
             or named_layers(hyperparameters, "layers_block_type", num_layers, _MIXING + _ATTENDING)
             or [_MIXING[0]] * num_layers)  # fmt: skip
    mixing = [layer for layer, kind in enumerate(kinds) if kind in _MIXING]
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    num_experts = natural(hyperparameters, "num_experts", 8)
    shared = FeedForward(
        hidden_size=hidden, intermediate_size=hyperparameters.count("shared_intermediate_size", 1024), gate=None,
        up="input_linear", down="output_linear", fused=True, kind="shared" if num_experts else "mlp",
        component=Component.SHARED_EXPERTS if num_experts else Component.MLP,
    )  # fmt: skip
    body = [
        Placement(LAYER + "self_attn", heads, [layer for layer, kind in enumerate(kinds) if kind in _ATTENDING]),
        *([Placement(LAYER + "mamba", mixer(hyperparameters), mixing)] if mixing else []),
        Placement(LAYER + "shared_mlp", shared, range(num_layers)),
        *(_experts(hyperparameters, num_layers) if num_experts else []),
    ]
    return decoder(hyperparameters, "granitemoehybrid", ("GraniteMoeHybrid",), body, attention=heads,
                   num_experts=num_experts)  # fmt: skip


def _experts(hyperparameters: Hyperparameters, num_layers: int) -> list[Placement]:
    hidden = hyperparameters.count("hidden_size")
    num_experts = hyperparameters.count("num_experts", 8, most=MOST_EXPERTS)
    experts_per_token = hyperparameters.count("experts_per_token", 2)
    hyperparameters.check_experts(num_experts, experts_per_token)
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"), num_experts=num_experts,
        experts_per_token=experts_per_token, names=("input_linear.weight", "output_linear.weight"),
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    path, layers = LAYER + "block_sparse_moe", range(num_layers)
    return [Placement(path + ".router.layer", router, layers), Placement(path, experts, layers)]


FAMILY = Family(
    name="granitemoehybrid",
    title="Granite 4, hybrid and dense",
    model_types=("granitemoehybrid",),
    gguf={},
    source="transformers models/granitemoehybrid",
    build=build,
)
