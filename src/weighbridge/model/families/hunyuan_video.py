"""HunyuanVideo: the layers of FLUX.1 over patches of a film, and before them a small transformer over the text.

Source: diffusers `models/transformers/transformer_hunyuan_video.py` (defaults of
`HunyuanVideoTransformer3DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm
from weighbridge.model.diffusion_transformer import (
    OWN,
    SINES,
    Heads,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    one_of,
    outputs,
    patch_map,
)
from weighbridge.model.families.flux import one_stream, two_streams
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ratio


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The text's own layers, both kinds of layers, and the maps around them."""
    one_of(hyperparameters, "qk_norm", "rms_norm")
    one_of(hyperparameters, "image_condition_type", None, "latent_concat", "token_replace")
    shape = heads(hyperparameters, 24, 128)
    double = hyperparameters.count("num_layers", 20, most=MOST_LAYERS)
    single = hyperparameters.count("num_single_layers", 40, most=MOST_LAYERS)
    inputs, width = hyperparameters.count("in_channels", 16), shape.width
    inner = int(width * ratio(hyperparameters, "mlp_ratio", 4.0))
    patch, frames = hyperparameters.count("patch_size", 2), hyperparameters.count("patch_size_t", 1)
    steps = ["timestep_embedder", "guidance_embedder"]
    steps = steps if hyperparameters.flag("guidance_embeds", True) else steps[:1]
    placements = [patch_map("x_embedder.proj", (frames, patch, patch), inputs, width)]
    placements += _refiner(hyperparameters, shape)
    placements += [placement for step in steps for placement in embedder(f"time_text_embed.{step}", SINES, width)]
    placements += embedder("time_text_embed.text_embedder", hyperparameters.count("pooled_projection_dim", 768), width)
    placements += [
        *two_streams(shape, inner, range(double)),
        *one_stream(shape, inner, range(single), double),
        *shape.ends(frames * patch**2 * outputs(hyperparameters, inputs, 16)),
    ]
    return architecture(hyperparameters, "hunyuan_video", shape, double + single, placements)


def _refiner(hyperparameters: Hyperparameters, shape: Heads) -> list[Placement]:
    """The layers over the text; they are numbered apart, so each stands by itself."""
    base, width, text = "context_embedder.", shape.width, hyperparameters.count("text_embed_dim", 4096)
    placements = [
        *embedder(base + "time_text_embed.timestep_embedder", SINES, width),
        *embedder(base + "time_text_embed.text_embedder", text, width),
        mapped(base + "proj_in", text, width),
    ]
    for layer in range(hyperparameters.count("num_refiner_layers", 2, most=MOST_LAYERS)):
        path = f"{base}token_refiner.refiner_blocks.{layer}."
        placements += [
            *(Placement(path + norm, Norm(width=width)) for norm in ("norm1", "norm2")),
            *shape.added(path + "attn", None, OWN),
            feed_forward(path + "ff", width, 4 * width),
            shape.modulation(path + "norm_out.linear", 2),
        ]
    return placements


FAMILY = Family(
    name="hunyuan_video",
    title="HunyuanVideo",
    model_types=("hunyuan_video",),
    gguf={},
    source="diffusers models/transformers/transformer_hunyuan_video.py",
    build=build,
    recognise=named({"HunyuanVideoTransformer3DModel": "hunyuan_video"}),
)
