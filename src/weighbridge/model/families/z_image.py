"""Z-Image: one stream of patches and text, after a few layers for each of the two.

Source: diffusers `models/transformers/transformer_z_image.py` (defaults of `ZImageTransformer2DModel.__init__`). The
layers over the text are not scaled by the time step. Rows for padding are learned.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward
from weighbridge.model.diffusion_transformer import (
    OWN,
    OWN_NORMS,
    SINES,
    Heads,
    Layers,
    architecture,
    mapped,
    named,
    rms,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, token
from weighbridge.model.tensors import Component

_TIME, _INNER = 256, 1024
_NORMS = ("attention_norm1", "ffn_norm1", "attention_norm2", "ffn_norm2")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers of patches, of text and of both, between their maps."""
    hyperparameters.refuse("siglip_feat_dim", "which adds an image's layers that are not described")
    width, number = hyperparameters.count("dim", 3840), hyperparameters.count("num_heads", 30)
    shape = Heads(number, hyperparameters.divided("head_dim", width, number), bias=False)
    layers = range(hyperparameters.count("num_layers", 30, most=MOST_LAYERS))
    refiners = range(hyperparameters.count("n_refiner_layers", 2, most=MOST_LAYERS))
    text, time = hyperparameters.count("cap_feat_dim", 2560), min(width, _TIME)
    placements = [*(Placement("", token(name, 1, width, role="padding")) for name in ("x_pad_token", "cap_pad_token"))]
    placements += _patches(hyperparameters, width, time)
    placements += [
        mapped("t_embedder.mlp.0", SINES, _INNER, once=True),
        mapped("t_embedder.mlp.2", _INNER, time, once=True),
        *rms("cap_embedder", ("0",), text),
        mapped("cap_embedder.1", text, width),
    ]
    for layer in refiners:  # numbered apart from the layers proper, so each stands by itself
        placements += _layer(hyperparameters, f"noise_refiner.{layer}.", shape, None, time)
        placements += _layer(hyperparameters, f"context_refiner.{layer}.", shape, None, None)
    placements += _layer(hyperparameters, "layers.{layer}.", shape, layers, time)
    return architecture(hyperparameters, "z_image", shape, len(layers), placements)


def _patches(hyperparameters: Hyperparameters, width: int, time: int) -> list[Placement]:
    """A map in and a map out for every size of a patch."""
    sizes, frames = counts(hyperparameters, "all_patch_size", (2,)), counts(hyperparameters, "all_f_patch_size", (1,))
    if len(sizes) != len(frames) or len(set(zip(sizes, frames, strict=True))) != len(sizes):
        read = f"{hyperparameters.source} has all_patch_size = {sizes} and all_f_patch_size = {frames}"
        raise ConfigError(read[:200], "as many different ones of each", "correct the keys")
    inputs, placements = hyperparameters.count("in_channels", 16), []
    for size, frame in zip(sizes, frames, strict=True):
        name, numbers = f"{size}-{frame}", frame * size**2 * inputs
        placements += [
            mapped(f"all_x_embedder.{name}", numbers, width),
            mapped(f"all_final_layer.{name}.linear", width, numbers, component=Component.HEAD),
            mapped(f"all_final_layer.{name}.adaLN_modulation.1", time, width, component=Component.NORM, once=True),
        ]
    return placements


def _layer(
    hyperparameters: Hyperparameters, path: str, shape: Heads, layers: Layers, time: int | None
) -> list[Placement]:
    """Attention and a gated feed-forward, each between two norms."""
    inner = int(shape.width / 3 * 8)
    gated = FeedForward(hidden_size=shape.width, intermediate_size=inner, gate="w1", up="w3", down="w2")
    scales = () if time is None else (
        mapped(path + "adaLN_modulation.0", time, 4 * shape.width, layers, component=Component.NORM, once=True),
    )  # fmt: skip
    text = time is None
    attention = shape.added(path + "attention", layers, OWN) if text else [shape.attention(path + "attention", layers)]
    normed = hyperparameters.flag("qk_norm", True)
    return [
        *attention,
        *(rms(path + "attention", OWN_NORMS, shape.size, layers) if normed else ()),
        Placement(path + "feed_forward", gated, layers),
        *rms(path.rstrip("."), _NORMS, shape.width, layers),
        *scales,
    ]


FAMILY = Family(
    name="z_image",
    title="Z-Image",
    model_types=("z_image",),
    gguf={},
    source="diffusers models/transformers/transformer_z_image.py",
    build=build,
    recognise=named({"ZImageTransformer2DModel": "z_image"}),
)
