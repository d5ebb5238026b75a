"""Gemma 4 Unified: Gemma 4's decoder, which takes patches of images and frames of sound through a map each, no tower.

Source: transformers `models/gemma4_unified/{configuration,modeling}_gemma4_unified.py` (5.x). The decoder has neither
per-layer embeddings nor experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.composite import tower
from weighbridge.model.decoder import with_defaults
from weighbridge.model.families.gemma4 import TEXT, bridge, decoder
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters

_PREFIXES = ("Gemma4UnifiedText", "Gemma4Unified")
_TEXT = {**TEXT, "sliding_window": 1024}
_ABSENT = {"hidden_size_per_layer_input": None, "enable_moe_block": False}
_VISION = {"patch_size": 16, "pooling_kernel_size": 3, "mm_embed_dim": 3840, "mm_posemb_size": 1120,
           "output_proj_dims": 3840}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone (`gemma4_unified_text`), or with what the configuration has beside it."""
    if hyperparameters.model_type == "gemma4_unified_text":
        return decoder(_text(hyperparameters), _PREFIXES, "ForCausalLM", "model.")
    text = _text(hyperparameters.part("text_config"))
    own = {"tie_embeddings": hyperparameters.settings.get("tie_embeddings", True)}
    whole = replace(hyperparameters, settings={**text.settings, **own})
    width = text.count("hidden_size")
    parts: list[Placement] = []
    if hyperparameters.settings.get("vision_config") is not None:
        parts += _patches(with_defaults(hyperparameters.part("vision_config"), _VISION), width)
    if hyperparameters.settings.get("audio_config") is not None:
        sound = hyperparameters.part("audio_config").count("audio_embed_dim", 640)
        parts.append(bridge("model.embed_audio", sound, width))
    return decoder(whole, _PREFIXES, "ForConditionalGeneration", "model.language_model.", tower(parts))


def _text(hyperparameters: Hyperparameters) -> Hyperparameters:
    found = with_defaults(hyperparameters, _TEXT)
    return replace(found, settings={**found.settings, **_ABSENT})


def _patches(vision: Hyperparameters, width: int) -> Iterator[Placement]:
    """The map from merged patches, each with its place in two tables."""
    path, hidden = "model.embed_vision.", vision.count("mm_embed_dim")
    side = vision.count("patch_size") * vision.count("pooling_kernel_size")
    table = Array(name="pos_embedding", shape=(vision.count("mm_posemb_size"), 2, hidden), use=Use.LOOKUP)
    yield Placement(path + "patch_ln1", Norm(width=3 * side**2))
    yield Placement(path + "patch_dense", Linear(in_features=3 * side**2, out_features=hidden))
    yield Placement(path + "patch_ln2", Norm(width=hidden))
    yield Placement(path.rstrip("."), table)
    yield Placement(path + "pos_norm", Norm(width=hidden))
    yield bridge(path + "multimodal_embedder", vision.count("output_proj_dims"), width)


FAMILY = Family(
    name="gemma4_unified",
    title="Gemma 4 Unified",
    model_types=("gemma4_unified", "gemma4_unified_text"),
    gguf={},
    source="transformers models/gemma4_unified",
    build=build,
)
