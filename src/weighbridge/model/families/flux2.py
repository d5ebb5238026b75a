"""FLUX.2: the layers of FLUX.1 without biases, with gated feed-forwards and one map of the time step for all layers.

Source: diffusers `models/transformers/transformer_flux2.py` (defaults of `Flux2Transformer2DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward
from weighbridge.model.diffusion_transformer import (
    OWN_NORMS,
    architecture,
    embedder,
    heads,
    mapped,
    named,
    outputs,
    rms,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ratio
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both kinds of layers between the maps of patches, text and time."""
    shape = heads(hyperparameters, 48, 128, bias=False)
    double = range(hyperparameters.count("num_layers", 8, most=MOST_LAYERS))
    single = range(hyperparameters.count("num_single_layers", 48, most=MOST_LAYERS))
    inputs, width = hyperparameters.count("in_channels", 128), shape.width
    inner = int(width * ratio(hyperparameters, "mlp_ratio", 3.0))
    sines, patch = hyperparameters.count("timestep_guidance_channels", 256), hyperparameters.count("patch_size", 1) ** 2
    steps = ["timestep_embedder", "guidance_embedder"]
    steps = steps if hyperparameters.flag("guidance_embeds", True) else steps[:1]
    gated = FeedForward(hidden_size=width, intermediate_size=inner, up="linear_in", down="linear_out", fused=True)
    two, one = "transformer_blocks.{layer}.", "single_transformer_blocks.{layer}.attn"
    alone = [
        mapped(
            one + ".to_qkv_mlp_proj", width, 3 * width + 2 * inner, single, component=Component.ATTENTION, bias=False
        ),
        mapped(one + ".to_out", width + inner, width, single, component=Component.ATTENTION, bias=False),
        shape.attention(one, single, ()),
        *rms(one, OWN_NORMS, shape.size, single),
    ]
    placements = [
        *(p for step in steps for p in embedder(f"time_guidance_embed.{step}", sines, width, bias=False)),
        *(shape.modulation(f"double_stream_modulation_{stream}.linear", 6) for stream in ("img", "txt")),
        shape.modulation("single_stream_modulation.linear", 3),
        mapped("x_embedder", inputs, width, bias=False),
        mapped("context_embedder", hyperparameters.count("joint_attention_dim", 15360), width, bias=False),
        *shape.joint(two + "attn", double),
        *(Placement(two + name, gated, double) for name in ("ff", "ff_context")),
        *(Placement(p.path, p.block, p.layers, offset=len(double)) for p in alone),
        *shape.ends(patch * outputs(hyperparameters, inputs, None)),
    ]
    return architecture(hyperparameters, "flux2", shape, len(double) + len(single), placements)


FAMILY = Family(
    name="flux2",
    title="FLUX.2",
    model_types=("flux2",),
    gguf={},
    source="diffusers models/transformers/transformer_flux2.py",
    build=build,
    recognise=named({"Flux2Transformer2DModel": "flux2"}),
)
