"""LFM2-VL: LFM2's language model beside SigLIP 2's image encoder, joined by a projector of two layers.

Source: transformers `models/lfm2_vl/{configuration,modeling}_lfm2_vl.py` (5.x). The projector reads squares of patches,
`downsample_factor` on a side. Tensor names are those of published checkpoints, whose tower has a `vision_model` inside.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tower
from weighbridge.model.families.siglip import vision_encoder
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters

_SIZES = {"vocab_size": 65536, "num_layers": 32, "num_heads": 32, "num_kv_heads": 8}
_TEXT = {
    "lfm2": TextClass("lfm2", "Lfm2ForCausalLM", {**_SIZES, "hidden_size": 2560}),
    "lfm2_moe": TextClass("lfm2_moe", "Lfm2MoeForCausalLM", {**_SIZES, "hidden_size": 2048}),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its tower and projector; the outer configuration says whether the head is tied."""
    check_class(hyperparameters, "Lfm2Vl")
    tied = hyperparameters.flag("tie_embedding", hyperparameters.flag("tie_embeddings", True))
    text = hyperparameters.part("text_config")
    text_class = _TEXT["lfm2_moe" if text.model_type == "lfm2_moe" else "lfm2"]
    settings = {key: value for key, value in text.settings.items() if key != "tie_embedding"}
    language = text_model(replace(text, settings=settings), text_class, tied=tied)
    vision = hyperparameters.part("vision_config")
    if vision.model_type not in ("part", "siglip2_vision_model"):
        hyperparameters.refuse("vision_config", "whose tower this family does not describe")
    encoder, layers = vision_encoder(vision, "model.vision_tower.vision_model", flattened=True)
    width = layers.hidden_size * hyperparameters.count("downsample_factor", 2) ** 2
    inner = hyperparameters.count("projector_hidden_size", 2560)
    output = text.count("hidden_size", text_class.defaults["hidden_size"])
    bias = hyperparameters.flag("projector_bias", True)
    path = "model.multi_modal_projector."
    projector = (
        *([Placement(path + "layer_norm", Norm(width=width))]
          if hyperparameters.flag("projector_use_layernorm", True) else []),
        Placement(path + "linear_1", Linear(in_features=width, out_features=inner, bias=bias)),
        Placement(path + "linear_2", Linear(in_features=inner, out_features=output, bias=bias)),
    )  # fmt: skip
    beside = tower((*encoder, *projector))
    return joined(hyperparameters, "lfm2_vl", language, beside, [("model.", "model.language_model.")])


FAMILY = Family(
    name="lfm2_vl",
    title="LFM2-VL",
    model_types=("lfm2_vl",),
    gguf={},
    source="transformers models/lfm2_vl",
    build=build,
)
