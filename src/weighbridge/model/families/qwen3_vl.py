"""Qwen3-VL: Qwen3's language model, dense or with experts, beside a tower whose inner layers feed its first layers.

Source: transformers `models/{qwen3_vl,qwen3_vl_moe}/{configuration,modeling}_*.py` (5.x). The tower is wired in
`qwen2_vl`. Files of the routed models merge the experts of a layer in two tensors, as the class does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, Linear
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.composite import TextClass, check_class, joined, text_model
from weighbridge.model.families.qwen2_vl import vision_tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

DENSE = TextClass("qwen3", "Qwen3ForCausalLM", {
    "hidden_size": 4096, "intermediate_size": 22016, "num_layers": 32, "num_heads": 32, "num_kv_heads": 32,
    "head_dim": 128, "vocab_size": 151936,
})  # fmt: skip
ROUTED = TextClass("qwen3_moe", "Qwen3MoeForCausalLM", {
    "hidden_size": 2048, "intermediate_size": 5632, "num_layers": 24, "num_heads": 16, "num_kv_heads": 16,
    "vocab_size": 151936, "moe_intermediate_size": 1408, "num_experts": 60, "experts_per_token": 4,
    "decoder_sparse_step": 1,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its tower; the outer configuration alone says whether the head is tied."""
    check_class(hyperparameters, "Qwen3VL", "Qwen3VLMoe")
    text_class = ROUTED if hyperparameters.model_type == "qwen3_vl_moe" else DENSE
    tied = hyperparameters.flag("tie_embeddings", False)
    language = text_model(hyperparameters.part("text_config"), text_class, tied=tied)
    language = replace(language, placements=tuple(stacked(language.placements)))
    vision = hyperparameters.part("vision_config")
    visual = vision_tower(vision, "model.visual", "qwen3_vl", deepstack(vision))
    return joined(hyperparameters, "qwen3_vl", language, visual, [("model.", "model.language_model.")])


def stacked(placements: Iterable[Placement]) -> Iterator[Placement]:
    """The same with the experts of each layer in two tensors."""
    for placement in placements:
        block = placement.block
        if not isinstance(block, Experts):
            yield placement
            continue
        router = Linear(in_features=block.hidden_size, out_features=block.num_experts, bias=False, role="router",
                        component=Component.ROUTER)  # fmt: skip
        experts = StackedExperts(hidden_size=block.hidden_size, intermediate_size=block.intermediate_size,
                                 num_experts=block.num_experts, experts_per_token=block.experts_per_token,
                                 names=("gate_up_proj", "down_proj"), layout="in_out")  # fmt: skip
        yield replace(placement, path=placement.path + ".gate", block=router)
        yield replace(placement, path=placement.path + ".experts", block=experts)


def deepstack(vision: Hyperparameters, default: Sequence[int] = (8, 16, 24)) -> Sequence[int]:
    """The tower's layers whose output goes to the language model directly.

    Raises:
        ConfigError: when the setting is no list of layers.
    """
    layers = vision.settings.get("deepstack_visual_indexes", default)
    if not isinstance(layers, list | tuple) or not all(type(layer) is int for layer in layers):
        read = f"{vision.source} has deepstack_visual_indexes = {repr(layers)[:60]}"
        raise ConfigError(read, "a list of the tower's layers", "correct the key")
    return layers


FAMILY = Family(
    name="qwen3_vl",
    title="Qwen3-VL, dense and with experts",
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    gguf={},
    source="transformers models/qwen3_vl, models/qwen3_vl_moe",
    build=build,
)
