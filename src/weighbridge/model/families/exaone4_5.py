"""EXAONE 4.5: EXAONE 4's decoder beside Qwen2.5-VL's tower with grouped queries.

Source: transformers `models/exaone4_5/{configuration,modeling}_exaone4_5.py` (5.x), which does not load the published
files' next-token-prediction layers; no key tells of them, and they are not described.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention
from weighbridge.model.composite import TextClass, check_class, joined, text_model
from weighbridge.model.families.qwen2_vl import vision_tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters

_TEXT = TextClass("exaone4", "Exaone4ForCausalLM", {
    "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384, "num_layers": 32, "num_heads": 32,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its tower; the outer configuration says whether the head is tied."""
    check_class(hyperparameters, "Exaone4_5_", "Exaone4_5")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    if text.model_type not in ("part", "exaone4", "exaone4_5_text"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "exaone4",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _TEXT, tied=hyperparameters.flag("tie_embeddings", False))
    groups = vision.count("num_kv_heads", 8)
    visual = [_grouped(placement, vision, groups) for placement in vision_tower(vision, "model.visual", "qwen2_5_vl")]
    return joined(hyperparameters, "exaone4_5", language, visual, [("model.", "model.language_model.")])


def _grouped(placement: Placement, vision: Hyperparameters, groups: int) -> Placement:
    block = placement.block
    if not isinstance(block, Attention):
        return placement
    vision.divided("query heads by key-value heads", block.num_heads, groups)
    return replace(placement, block=replace(block, num_kv_heads=groups))


FAMILY = Family(
    name="exaone4_5",
    title="EXAONE 4.5",
    model_types=("exaone4_5",),
    gguf={},
    source="transformers models/exaone4_5",
    build=build,
)
