"""FLUX.1: a transformer over latent patches and text, first in two streams that attend to each other, then in one.

Source: diffusers `models/transformers/transformer_flux.py` (defaults of `FluxTransformer2DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.diffusion_transformer import (
    OWN,
    OWN_NORMS,
    SINES,
    Heads,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    outputs,
    rms,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both kinds of layers between the maps of patches, text and time."""
    shape = heads(hyperparameters, 24, 128)
    double = hyperparameters.count("num_layers", 19, most=MOST_LAYERS)
    single = hyperparameters.count("num_single_layers", 38, most=MOST_LAYERS)
    inputs, width = hyperparameters.count("in_channels", 64), shape.width
    patch = hyperparameters.count("patch_size", 1) ** 2
    steps = ["timestep_embedder", "guidance_embedder"]
    steps = steps if hyperparameters.flag("guidance_embeds", False) else steps[:1]
    placements = [placement for step in steps for placement in embedder(f"time_text_embed.{step}", SINES, width)]
    placements += embedder("time_text_embed.text_embedder", hyperparameters.count("pooled_projection_dim", 768), width)
    placements += [
        mapped("context_embedder", hyperparameters.count("joint_attention_dim", 4096), width),
        mapped("x_embedder", inputs, width),
        *two_streams(shape, 4 * width, range(double)),
        *one_stream(shape, 4 * width, range(single), double),
        *shape.ends(outputs(hyperparameters, inputs, None) * patch),
    ]
    return architecture(hyperparameters, "flux", shape, double + single, placements)


def two_streams(shape: Heads, inner: int, layers: range) -> list[Placement]:
    """Image and text with their own maps and one attention over both."""
    path = "transformer_blocks.{layer}."
    parts = (("norm1", "ff"), ("norm1_context", "ff_context"))
    return [
        *(shape.modulation(f"{path}{norm}.linear", 6, layers) for norm, _ in parts),
        *(feed_forward(path + name, shape.width, inner, layers) for _, name in parts),
        *shape.joint(path + "attn", layers),
    ]


def one_stream(shape: Heads, inner: int, layers: range, after: int) -> list[Placement]:
    """Attention and feed-forward side by side, joined by one map."""
    path, width = "single_transformer_blocks.{layer}.", shape.width
    placements = [
        shape.modulation(path + "norm.linear", 3, layers),
        mapped(path + "proj_mlp", width, inner, layers, component=Component.MLP),
        mapped(path + "proj_out", width + inner, width, layers, component=Component.HEAD),
        shape.attention(path + "attn", layers, OWN[:3]),
        *rms(path + "attn", OWN_NORMS, shape.size, layers),
    ]
    return [Placement(p.path, p.block, p.layers, offset=after) for p in placements]


FAMILY = Family(
    name="flux",
    title="FLUX.1",
    model_types=("flux",),
    gguf={},
    source="diffusers models/transformers/transformer_flux.py",
    build=build,
    recognise=named({"FluxTransformer2DModel": "flux"}),
)
