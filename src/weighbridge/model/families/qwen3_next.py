"""Qwen3-Next: gated delta nets with gated attention in every fourth layer, many small experts with a gated shared one.

Source: transformers `models/qwen3_next/{configuration,modeling}_qwen3_next.py` (5.x); experts are named as in published
checkpoints. Layers in `mlp_only_layers`, and those that `decoder_sparse_step` steps over, are dense. Published files
end with one next-token-prediction layer (`mtp`), of which the configuration says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Experts, FeedForward, Linear, Norm
from weighbridge.model.blocks.linear_attention import GatedDeltaNet
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import (
    GATED,
    LAYER,
    attention,
    decoder,
    head_norms,
    named_layers,
    natural,
    shared_experts,
    whole_numbers,
)
from weighbridge.model.tensors import Component

MTP = "mtp.layers.{layer}."
"""The path of a next-token-prediction layer."""


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Delta net or attention, then experts or a feed-forward block."""
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    step = hyperparameters.count("decoder_sparse_step", 1)
    dense_only = set(whole_numbers(hyperparameters, "mlp_only_layers") or ())
    num_experts = natural(hyperparameters, "num_experts", 512)
    sparse = [layer for layer in layers if num_experts and layer not in dense_only and (layer + 1) % step == 0]
    dense = sorted(set(layers) - set(sparse))
    hidden = hyperparameters.count("hidden_size")
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 5632))
    heads = gated_attention(hyperparameters, kv_heads=2)
    experts = _experts(hyperparameters) if num_experts else None
    body = [
        *mixers(hyperparameters, heads, delta_net(hyperparameters)),
        *(routed(hyperparameters, {"mlp": experts}, LAYER, sparse) if experts and sparse else []),
        Placement(LAYER + "mlp", feed_forward, dense),
        *prediction(hyperparameters, heads, {"mlp": experts or feed_forward}, natural(
            hyperparameters, "mtp_num_hidden_layers", 1), is_routed=experts is not None),
    ]  # fmt: skip
    return decoder(hyperparameters, "qwen3_next", ("Qwen3Next",), body, attention=heads, num_experts=num_experts)


def _experts(hyperparameters: Hyperparameters) -> Experts:
    num_experts = hyperparameters.count("num_experts", 512, most=MOST_EXPERTS)
    experts_per_token = hyperparameters.count("experts_per_token", 10)
    hyperparameters.check_experts(num_experts, experts_per_token)
    return Experts(
        hidden_size=hyperparameters.count("hidden_size"), num_experts=num_experts, experts_per_token=experts_per_token,
        intermediate_size=hyperparameters.count("moe_intermediate_size", 512), names=GATED,
    )  # fmt: skip


def gated_attention(hyperparameters: Hyperparameters, kv_heads: int) -> Attention:
    """Attention whose query projection gates the output too; heads are 256 wide by default."""
    bias = hyperparameters.flag("attention_bias", False)
    found = attention(hyperparameters, num_heads=16, num_kv_heads=kv_heads, head_dim=256, qkv_bias=bias,
                      output_bias=bias)  # fmt: skip
    return replace(found, output_gate=hyperparameters.flag("attn_output_gate", True))


def delta_net(hyperparameters: Hyperparameters) -> GatedDeltaNet:
    """The delta net by its five sizes."""
    found = GatedDeltaNet(
        hidden_size=hyperparameters.count("hidden_size"),
        key_heads=hyperparameters.count("linear_num_key_heads", 16),
        value_heads=hyperparameters.count("linear_num_value_heads", 32),
        key_dim=hyperparameters.count("linear_key_head_dim", 128),
        value_dim=hyperparameters.count("linear_value_head_dim", 128),
        conv_kernel=hyperparameters.count("linear_conv_kernel_dim", 4),
    )
    hyperparameters.divided("value heads by key heads", found.value_heads, found.key_heads)
    return found


def mixers(hyperparameters: Hyperparameters, heads: Attention, net: GatedDeltaNet) -> list[Placement]:
    """Attention in the layers that `layer_types` or `full_attention_interval` says, the delta net in the others."""
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    kinds = named_layers(hyperparameters, "layer_types", num_layers, ("linear_attention", "full_attention"))
    if kinds is None:
        every = hyperparameters.count("full_attention_interval", 4)
        kinds = ["linear_attention" if (layer + 1) % every else "full_attention" for layer in range(num_layers)]
    attending = [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]
    mixing = [layer for layer, kind in enumerate(kinds) if kind == "linear_attention"]
    return [
        Placement(LAYER + "linear_attn", net, mixing),
        Placement(LAYER + "self_attn", heads, attending),
        *head_norms(heads.head_dim, heads.head_dim, attending),
    ]


def routed(
    hyperparameters: Hyperparameters, blocks: Mapping[str, Block], layer: str, layers: Sequence[int], mtp: bool = False
) -> list[Placement]:
    """The given blocks of router and experts by their path in a layer, and the shared expert with its gate."""
    hidden = hyperparameters.count("hidden_size")
    shared = shared_experts(hidden, hyperparameters.count("shared_expert_intermediate_size", 512))
    gate = Linear(in_features=hidden, out_features=1, bias=False, role="shared_router", component=Component.ROUTER)
    found = {**blocks, "mlp.shared_expert": shared, "mlp.shared_expert_gate": gate}
    return [Placement(layer + path, block, layers, mtp=mtp) for path, block in found.items()]


def prediction(
    hyperparameters: Hyperparameters, heads: Attention, blocks: Mapping[str, Block], number: int, is_routed: bool
) -> list[Placement]:
    """So many next-token-prediction layers: attention and feed-forward block or experts behind a map of both inputs."""
    if number == 0:
        return []
    hidden = hyperparameters.count("hidden_size")
    layers, norm = range(number), Norm(width=hidden, bias=False)
    parts = (routed(hyperparameters, blocks, MTP, layers, mtp=True) if is_routed else
             [Placement(MTP + path, block, layers, mtp=True) for path, block in blocks.items()])  # fmt: skip
    return [
        Placement("mtp.pre_fc_norm_embedding", norm, mtp=True),
        Placement("mtp.pre_fc_norm_hidden", norm, mtp=True),
        Placement("mtp.fc", Linear(in_features=2 * hidden, out_features=hidden, bias=False), mtp=True),
        Placement(MTP + "self_attn", heads, layers, mtp=True),
        *head_norms(heads.head_dim, heads.head_dim, layers, path=MTP + "self_attn.", mtp=True),
        *parts,
        Placement(MTP + "input_layernorm", norm, layers, mtp=True),
        Placement(MTP + "post_attention_layernorm", norm, layers, mtp=True),
        Placement("mtp.norm", norm, mtp=True),
    ]


FAMILY = Family(
    name="qwen3_next",
    title="Qwen3-Next",
    model_types=("qwen3_next",),
    gguf={},
    source="transformers models/qwen3_next",
    build=build,
)
