"""Phi-3 and Phi-3.5 Vision: Phi-3's language model beside CLIP's ViT-L/14 at 336 pixels and a projector of two maps.

Source: the model code published with the weights (`modeling_phi3_v.py`); the total is that of the published files. The
configuration names the encoder in `img_processor`, whose sizes the code holds. Four neighbouring patches become one
vector; a learned one separates the rows of an image, another the whole from its parts.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import TextClass, joined, text_model, tower
from weighbridge.model.families import clip
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters

_ENCODER = {"hidden_size": 1024, "intermediate_size": 4096, "num_layers": 24, "num_heads": 16, "image_size": 336,
            "patch_size": 14}  # fmt: skip
_WIDE = 4 * 1024
_PROCESSOR = {"name": "clip_vision_model", "image_dim_out": 1024}
_LAYER = {"embedding_cls": "image", "projection_cls": "mlp", "use_hd_transform": True,
          "with_learnable_separator": True}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its encoder."""
    if hyperparameters.classes not in ((), ("Phi3VForCausalLM",)):
        raise unknown_class(hyperparameters, ("Phi3VForCausalLM",))
    for key, expected in (("img_processor", _PROCESSOR), ("embd_layer", _LAYER)):
        found = hyperparameters.settings.get(key)
        if not isinstance(found, dict) or any(found.get(name) != value for name, value in expected.items()):
            read = f"{hyperparameters.source} has {key} = {repr(found)[:100]}"
            raise ConfigError(read, f"one with {expected}", "use the model's full config.json")
    text = TextClass("phi3", "Phi3ForCausalLM")
    language = text_model(hyperparameters, text, tied=hyperparameters.flag("tie_embeddings", False))
    hidden, path = hyperparameters.count("hidden_size"), "model.vision_embed_tokens"
    images, _ = clip.vision_encoder(Hyperparameters(hyperparameters.source, "part", _ENCODER),
                                    path + ".img_processor.vision_model")  # fmt: skip
    beside = tower((
        *images,
        Placement(path, Array(name="glb_GN", shape=(1, 1, _WIDE))),
        Placement(path, Array(name="sub_GN", shape=(1, 1, 1, _WIDE))),
        Placement(path + ".img_projection.0", Linear(in_features=_WIDE, out_features=hidden)),
        Placement(path + ".img_projection.2", Linear(in_features=hidden, out_features=hidden)),
    ))  # fmt: skip
    return joined(hyperparameters, "phi3_v", language, beside)


FAMILY = Family(
    name="phi3_v",
    title="Phi-3 and Phi-3.5 Vision",
    model_types=("phi3_v",),
    gguf={},
    source="the model code published with microsoft/Phi-3.5-vision-instruct",
    build=build,
)
