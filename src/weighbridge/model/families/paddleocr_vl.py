"""PaddleOCR-VL: ERNIE 4.5's small decoder beside SigLIP's encoder with rotary positions, four patches at a time.

Source: transformers `models/paddleocr_vl/{configuration,modeling}_paddleocr_vl.py` (5.x). Published files spell the
language model's settings beside `vision_config`, newer ones in `text_config`. The code that the former come with has a
pooling head and a second table of positions too, which their files hold and transformers does not load.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tied_anywhere, tower, with_defaults
from weighbridge.model.families.siglip import vision_encoder
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters

TEXT = TextClass("ernie4_5", "Ernie4_5ForCausalLM", {
    "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_layers": 18, "num_heads": 16,
    "num_kv_heads": 2, "head_dim": 128,
})  # fmt: skip
_VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_layers": 27, "num_heads": 16, "image_size": 384,
           "patch_size": 14}  # fmt: skip
_PACKED = 32768


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder and projector."""
    check_class(hyperparameters, "PaddleOCRVL")
    nested = hyperparameters.settings.get("text_config") is not None
    text = hyperparameters.part("text_config") if nested else hyperparameters
    tied = tied_anywhere(hyperparameters, text, default=True) or "tie_embeddings" not in hyperparameters.settings
    if not nested:
        if hyperparameters.settings.get("tie_embeddings") is None:
            raise ConfigError(f"{hyperparameters.source} has no tie_word_embeddings", "the key with true or false",
                              "add the key")  # fmt: skip
        tied = hyperparameters.flag("tie_embeddings", False)
    language = text_model(text, TEXT, tied=tied)
    vision = with_defaults(hyperparameters.part("vision_config"), _VISION)
    vision = replace(vision, settings={**vision.settings, "vision_use_head": not nested})
    images, layers = vision_encoder(vision, "visual.vision_model")
    packed = Embedding(rows=_PACKED, width=layers.hidden_size, role="position_embedding")
    packing = () if nested else (Placement("visual.vision_model.embeddings.packing_position_embedding", packed),)
    wide = layers.hidden_size * vision.count("spatial_merge_size", 2) ** 2
    hidden = text.count("hidden_size", 1024)
    beside = tower((
        *images,
        *packing,
        Placement("mlp_AR.pre_norm", Norm(width=layers.hidden_size)),
        Placement("mlp_AR.linear_1", Linear(in_features=wide, out_features=wide)),
        Placement("mlp_AR.linear_2", Linear(in_features=wide, out_features=hidden)),
    ))  # fmt: skip
    return joined(hyperparameters, "paddleocr_vl", language, beside)


FAMILY = Family(
    name="paddleocr_vl",
    title="PaddleOCR-VL",
    model_types=("paddleocr_vl",),
    gguf={},
    source="transformers models/paddleocr_vl",
    build=build,
)
