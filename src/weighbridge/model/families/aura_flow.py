"""AuraFlow: some layers with image and text in two streams, the others in one; learned positions and no biases.

Source: diffusers `models/transformers/auraflow_transformer_2d.py` (defaults of `AuraFlowTransformer2DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward
from weighbridge.model.diffusion_transformer import SINES, architecture, embedder, heads, mapped, named, outputs
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import token

_REGISTERS = 8


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both kinds of layers between the maps of patches, text and time."""
    shape = heads(hyperparameters, 12, 256, bias=False)
    width = shape.width
    joint = range(hyperparameters.count("num_mmdit_layers", 4, most=MOST_LAYERS))
    single = range(hyperparameters.count("num_single_dit_layers", 32, most=MOST_LAYERS))
    inputs, patch = hyperparameters.count("in_channels", 4), hyperparameters.count("patch_size", 2) ** 2
    hyperparameters.same("the width of the text", hyperparameters.count("caption_projection_dim", 3072), width)
    inner = -(-int(2 * 4 * width / 3) // 256) * 256
    block = FeedForward(hidden_size=width, intermediate_size=inner, gate="linear_1", up="linear_2",
                        down="out_projection")  # fmt: skip
    two, one = "joint_transformer_blocks.{layer}.", "single_transformer_blocks.{layer}."
    alone = [
        shape.modulation(one + "norm1.linear", 6, single),
        shape.attention(one + "attn", single),
        Placement(one + "ff", block, single),
    ]
    placements = [
        Placement("", token("register_tokens", 1, _REGISTERS, width)),
        Placement("pos_embed", token("pos_embed", 1, hyperparameters.count("pos_embed_max_size", 1024), width)),
        mapped("pos_embed.proj", inputs * patch, width),
        mapped("context_embedder", hyperparameters.count("joint_attention_dim", 2048), width, bias=False),
        *embedder("time_step_proj", SINES, width),
        *(shape.modulation(f"{two}{norm}.linear", 6, joint) for norm in ("norm1", "norm1_context")),
        *shape.joint(two + "attn", joint, normed=False),
        *(Placement(two + name, block, joint) for name in ("ff", "ff_context")),
        *(Placement(p.path, p.block, p.layers, offset=len(joint)) for p in alone),
        *shape.ends(patch * outputs(hyperparameters, inputs, 4)),
    ]
    return architecture(hyperparameters, "aura_flow", shape, len(joint) + len(single), placements)


FAMILY = Family(
    name="aura_flow",
    title="AuraFlow",
    model_types=("aura_flow",),
    gguf={},
    source="diffusers models/transformers/auraflow_transformer_2d.py",
    build=build,
    recognise=named({"AuraFlowTransformer2DModel": "aura_flow"}),
)
