"""SigLIP and SigLIP 2: CLIP's two encoders with a pooling head on the images, a map on the text and a learned bias.

Source: transformers `models/{siglip,siglip2}/{configuration,modeling}_*.py` (5.x). SigLIP 2 with `siglip2` as its model
type cuts images of any shape into flattened patches; fixed-size checkpoints are spelled `siglip`. The parts alone keep
their prefixes in published files.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.composite import tower
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, encoder, pair, patches
from weighbridge.model.tensors import Component

_PARTS = ("Model", "ForImageClassification", "TextModel", "VisionModel")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both encoders, one of them, or the images' with a classifier."""
    kind = hyperparameters.model_type
    second = kind.startswith("siglip2")
    prefix = "Siglip2" if second else "Siglip"
    known = {"text_model": ("TextModel",), "vision_model": ("VisionModel",)}.get(kind.partition("_")[2], _PARTS[:2])
    name = hyperparameters.classes[0].removeprefix(prefix) if hyperparameters.classes else known[0]
    if name not in known or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, tuple(prefix + part for part in known))
    if name == "TextModel":
        placements, main = text_encoder(hyperparameters, "text_model")
    elif name == "VisionModel":
        placements, main = vision_encoder(hyperparameters, "vision_model", second)
    elif name == "Model":
        words, main = text_encoder(hyperparameters.part("text_config"), "text_model")
        images, _ = vision_encoder(hyperparameters.part("vision_config"), "vision_model", second)
        scale, bias = (Vector(name=key, width=1) for key in ("logit_scale", "logit_bias"))
        placements = (Placement("", scale), Placement("", bias), *words, *tower(images))
    else:
        images, main = vision_encoder(hyperparameters.part("vision_config"), "vision_model", second)
        score = Linear(in_features=main.hidden_size, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements = (*tower(images), Placement("classifier", score))
    return Architecture(
        family="siglip",
        model_type=kind,
        placements=placements,
        num_layers=0 if name == "ForImageClassification" else main.num_layers,
        num_heads=main.num_heads,
        num_kv_heads=main.num_heads,
    )


def text_encoder(hyperparameters: Hyperparameters, path: str) -> tuple[tuple[Placement, ...], Encoder]:
    """The text encoder at a path."""
    layers = encoder(hyperparameters, 768, 3072, 12, 12)
    width = layers.hidden_size
    head = Linear(in_features=width, out_features=hyperparameters.count("projection_size", width), role="projection",
                  component=Component.HEAD)  # fmt: skip
    tokens = Embedding(rows=hyperparameters.count("vocab_size", 32000), width=width)
    positions = Embedding(rows=hyperparameters.count("max_positions", 64), width=width, role="position_embedding")
    return (
        Placement(path + ".embeddings.token_embedding", tokens),
        Placement(path + ".embeddings.position_embedding", positions),
        *layers.placements(path + ".encoder.layers.{layer}"),
        Placement(path + ".final_layer_norm", Norm(width=width, role="final_norm")),
        Placement(path + ".head", head),
    ), layers


def vision_encoder(
    hyperparameters: Hyperparameters, path: str, flattened: bool = False
) -> tuple[tuple[Placement, ...], Encoder]:
    """The image encoder at a path, with its pooling head unless `vision_use_head` says no."""
    layers = encoder(hyperparameters, 768, 3072, 12, 12)
    width = layers.hidden_size
    if flattened:
        side, across = pair(hyperparameters, "patch_size", 16)
        inputs = hyperparameters.count("num_channels", 3) * side * across
        rows = hyperparameters.count("num_patches", 256)
        cut = Placement(path + ".embeddings.patch_embedding",
                        Linear(in_features=inputs, out_features=width, component=Component.EMBEDDING))  # fmt: skip
    else:
        grid = patches(hyperparameters, 224, 16)
        rows, cut = grid.count, Placement(path + ".embeddings.patch_embedding", grid.convolution(width))
    head: tuple[Placement, ...] = ()
    if hyperparameters.flag("vision_use_head", True):
        fused = Array(name="in_proj_weight", shape=(3 * width, width), role="attention_qkv", use=Use.MATMUL,
                      component=Component.ATTENTION)  # fmt: skip
        bias = Vector(name="in_proj_bias", width=3 * width, component=Component.ATTENTION)
        mlp = FeedForward(hidden_size=width, intermediate_size=layers.intermediate_size, gate=None, up="fc1",
                          down="fc2", bias=True)  # fmt: skip
        out = Linear(in_features=width, out_features=width, component=Component.ATTENTION)
        head = (
            Placement(path + ".head", Array(name="probe", shape=(1, 1, width))),
            Placement(path + ".head.attention", fused),
            Placement(path + ".head.attention", bias),
            Placement(path + ".head.attention.out_proj", out),
            Placement(path + ".head.layernorm", Norm(width=width)),
            Placement(path + ".head.mlp", mlp),
        )
    return (
        cut,
        Placement(path + ".embeddings.position_embedding",
                  Embedding(rows=rows, width=width, role="position_embedding")),
        *layers.placements(path + ".encoder.layers.{layer}"),
        Placement(path + ".post_layernorm", Norm(width=width, role="final_norm")),
        *head,
    ), layers  # fmt: skip


FAMILY = Family(
    name="siglip",
    title="SigLIP and SigLIP 2, and their encoders alone",
    model_types=("siglip", "siglip2", "siglip_text_model", "siglip_vision_model", "siglip2_text_model",
                 "siglip2_vision_model"),
    gguf={},
    source="transformers models/siglip, models/siglip2",
    build=build,
)  # fmt: skip
