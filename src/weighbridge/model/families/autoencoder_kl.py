"""The autoencoder of Stable Diffusion and Flux: residual blocks down to a few channels and up again.

Source: diffusers `models/autoencoders/{autoencoder_kl,vae}.py` (defaults of `AutoencoderKL.__init__`). Its
configurations name `_class_name` in place of a model type. Files written before diffusers 0.15 have other names for
the four maps of attention (`query`, `proj_attn`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.diffusion import convolution, image_attention, norm, residual
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder, decoder, and the convolutions between."""
    widths = counts(hyperparameters, "block_out_channels", (64,))
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        names = hyperparameters.settings.get(key) or [kind]
        if not isinstance(names, list | tuple) or list(names) != [kind] * len(widths):
            read = f"{hyperparameters.source} has {key} = {repr(names)[:100]} for {len(widths)} widths"
            raise ConfigError(read, f"{kind} for each", "correct the key")
    latent, layers = hyperparameters.count("latent_channels", 4), hyperparameters.count("layers_per_block", 1, most=100)
    attends = hyperparameters.flag("mid_block_add_attention", True)
    image = grid = image_grid(hyperparameters, "sample_size", 32)
    placements = [convolution("encoder.conv_in", hyperparameters.count("in_channels", 3), widths[0], grid.positions)]
    width = widths[0]
    for stage, outputs in enumerate(widths):
        placements += _stage(f"encoder.down_blocks.{stage}", layers, width, outputs, grid)
        width = outputs
        if stage < len(widths) - 1:
            grid = grid.after(3, 2, 1)
            path = f"encoder.down_blocks.{stage}.downsamplers.0.conv"
            placements.append(convolution(path, width, width, grid.positions))
    middle = grid.positions
    placements += _middle("encoder.mid_block", width, attends, grid)
    placements += [norm("encoder.conv_norm_out", width), convolution("encoder.conv_out", width, 2 * latent, middle)]
    placements.append(convolution("decoder.conv_in", latent, width, middle))
    placements += _middle("decoder.mid_block", width, attends, grid)
    notes = one_image(hyperparameters, image, grid, "encoding and decoding one image")
    for stage, outputs in enumerate(reversed(widths)):
        placements += _stage(f"decoder.up_blocks.{stage}", layers + 1, width, outputs, grid)
        width = outputs
        if stage < len(widths) - 1:
            grid = grid.doubled()
            path = f"decoder.up_blocks.{stage}.upsamplers.0.conv"
            placements.append(convolution(path, width, width, grid.positions))
    colours = hyperparameters.count("out_channels", 3)
    placements += [
        norm("decoder.conv_norm_out", width),
        convolution("decoder.conv_out", width, colours, grid.positions),
    ]
    for key, channels in (("quant_conv", 2 * latent), ("post_quant_conv", latent)):
        if hyperparameters.flag(f"use_{key}", True):
            placements.append(convolution(key, channels, channels, middle, 1))
    return Architecture(family="autoencoder_kl", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=1, num_kv_heads=1, notes=notes)  # fmt: skip


def _stage(path: str, layers: int, inputs: int, outputs: int, grid: Grid) -> list[Placement]:
    placements: list[Placement] = []
    for layer in range(layers):
        placements += residual(f"{path}.resnets.{layer}", outputs if layer else inputs, outputs, None, grid.positions)
    return placements


def _middle(path: str, width: int, attends: bool, grid: Grid) -> list[Placement]:
    at = grid.positions
    placements = residual(path + ".resnets.0", width, width, None, at)
    if attends:
        placements += image_attention(path + ".attentions.0", width, at)
    return placements + residual(path + ".resnets.1", width, width, None, at)


def recognise(config: Mapping[str, Any]) -> str | None:
    """An autoencoder by the class it names, or by settings that only it has."""
    classes = config.get("architectures")
    named = config.get("_class_name") or (classes[0] if isinstance(classes, list) and classes else None)
    if named is None and {"block_out_channels", "latent_channels", "up_block_types"} <= config.keys():
        return "autoencoder_kl"
    return "autoencoder_kl" if named == "AutoencoderKL" else None


FAMILY = Family(
    name="autoencoder_kl",
    title="The autoencoder of Stable Diffusion and Flux",
    model_types=("autoencoder_kl",),
    gguf={},
    source="diffusers models/autoencoders/autoencoder_kl.py",
    build=build,
    recognise=recognise,
)
