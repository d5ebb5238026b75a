"""Qwen3.5 and its successors: Qwen3-Next's mixers in a dense or routed language model, beside Qwen3-VL's tower.

Source: transformers `models/{qwen3_5,qwen3_5_moe}/{configuration,modeling}_*.py` (5.x). The four inputs of a delta net
are apart, a layer's experts lie in two tensors, and no layer of a routed model is dense. The types that end in `_text`
are the language model alone, also where the class that they name would have a tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, FeedForward, Linear
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.composite import TextClass, check_class, joined, text_model
from weighbridge.model.families.qwen2_vl import vision_tower
from weighbridge.model.families.qwen3_next import delta_net, gated_attention, mixers, prediction, routed
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, decoder, natural
from weighbridge.model.tensors import Component

_INPUTS = (("in_proj_qkv", "qkv"), ("in_proj_z", "z"), ("in_proj_b", "b"), ("in_proj_a", "a"))
_DENSE = TextClass("qwen3_5_text", "Qwen3_5ForCausalLM", {
    "vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_layers": 32, "num_heads": 16,
})  # fmt: skip
_ROUTED = TextClass("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", {
    "vocab_size": 248320, "hidden_size": 2048, "num_layers": 40, "num_heads": 16,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model, with its tower unless the model type is that of the text alone."""
    if hyperparameters.model_type.endswith("_text"):
        return _text(hyperparameters)
    check_class(hyperparameters, "Qwen3_5", "Qwen3_5Moe")
    text_class = _ROUTED if hyperparameters.model_type == "qwen3_5_moe" else _DENSE
    tied = hyperparameters.flag("tie_embeddings", False)
    language = text_model(hyperparameters.part("text_config"), text_class, tied=tied)
    visual = vision_tower(hyperparameters.part("vision_config"), "model.visual", "qwen3_vl")
    return joined(hyperparameters, "qwen3_5", language, visual, [("model.", "model.language_model.")])


def _text(hyperparameters: Hyperparameters) -> Architecture:
    notes: tuple[str, ...] = ()
    if hyperparameters.classes in (("Qwen3_5ForConditionalGeneration",), ("Qwen3_5MoeForConditionalGeneration",)):
        hyperparameters = replace(hyperparameters, classes=())
        notes = ("the class has a tower, but the model type is the text alone: taken as a causal language model",)
    hidden = hyperparameters.count("hidden_size")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    is_routed = hyperparameters.model_type == "qwen3_5_moe_text"
    heads = gated_attention(hyperparameters, kv_heads=2 if is_routed else 4)
    blocks = _experts(hyperparameters) if is_routed else _feed_forward(hyperparameters, hidden)
    body = [
        *mixers(hyperparameters, heads, replace(delta_net(hyperparameters), inputs=_INPUTS)),
        *(routed(hyperparameters, blocks, LAYER, layers) if is_routed else
          [Placement(LAYER + path, block, layers) for path, block in blocks.items()]),
        *prediction(hyperparameters, heads, blocks, natural(hyperparameters, "mtp_num_hidden_layers"), is_routed),
    ]  # fmt: skip
    num_experts = hyperparameters.count("num_experts", 256) if is_routed else 0
    return decoder(hyperparameters, "qwen3_5", ("Qwen3_5", "Qwen3_5Moe", "Qwen3_5Text"), body, attention=heads,
                   num_experts=num_experts, notes=notes)  # fmt: skip


def _feed_forward(hyperparameters: Hyperparameters, hidden: int) -> Mapping[str, Block]:
    hyperparameters.refuse("num_experts", "which the dense types do not describe")
    return {"mlp": FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 12288))}


def _experts(hyperparameters: Hyperparameters) -> Mapping[str, Block]:
    """Router and stacked experts by their path in a layer."""
    hyperparameters.refuse("mlp_only_layers", "which the routed types do not describe")
    hidden = hyperparameters.count("hidden_size")
    num_experts = hyperparameters.count("num_experts", 256, most=MOST_EXPERTS)
    experts_per_token = hyperparameters.count("experts_per_token", 8)
    hyperparameters.check_experts(num_experts, experts_per_token)
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 512),
        num_experts=num_experts, experts_per_token=experts_per_token, names=("gate_up_proj", "down_proj"),
    )  # fmt: skip
    return {"mlp.gate": router, "mlp.experts": experts}


FAMILY = Family(
    name="qwen3_5",
    title="Qwen3.5 and its successors, dense and with experts, with their tower or as text alone",
    model_types=("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
    gguf={},
    source="transformers models/qwen3_5, models/qwen3_5_moe",
    build=build,
)
