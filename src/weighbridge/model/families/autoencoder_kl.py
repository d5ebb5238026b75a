"""The autoencoder of Stable Diffusion and Flux: residual blocks down to a few channels and up again.

Source: diffusers `models/autoencoders/{autoencoder_kl,autoencoder_kl_flux2,vae}.py` (defaults of `AutoencoderKL` and
`AutoencoderKLFlux2`, which keeps statistics of its latents and may have a decoder of other widths). Configurations name
`_class_name` in place of a model type. Files written before diffusers 0.15 have other names for the four maps of
attention (`query`, `proj_attn`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks.array import Array
from weighbridge.model.diffusion import convolution, image_attention, norm, residual
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image, pair
from weighbridge.model.tensors import Component, Kind

_CLASSES = {"AutoencoderKL": "autoencoder_kl", "AutoencoderKLFlux2": "autoencoder_kl_flux2"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder, decoder, and the convolutions between."""
    second = hyperparameters.model_type == "autoencoder_kl_flux2"
    stages, channels, blocks, size = ((128, 256, 512, 512), 32, 2, 1024) if second else ((64,), 4, 1, 32)
    widths = counts(hyperparameters, "block_out_channels", stages)
    wide = counts(hyperparameters, "decoder_block_out_channels", widths) if second else widths
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        names = hyperparameters.settings.get(key) or [kind] * len(stages)
        if not isinstance(names, list | tuple) or not list(names) == [kind] * len(widths) == [kind] * len(wide):
            read = f"{hyperparameters.source} has {key} = {repr(names)[:100]} for {len(widths)} widths"
            raise ConfigError(read, f"{kind} for each", "correct the key")
    latent = hyperparameters.count("latent_channels", channels)
    layers = hyperparameters.count("layers_per_block", blocks, most=100)
    attends = hyperparameters.flag("mid_block_add_attention", True)
    image = grid = image_grid(hyperparameters, "sample_size", size)
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
    width = wide[-1]
    placements.append(convolution("decoder.conv_in", latent, width, middle))
    placements += _middle("decoder.mid_block", width, attends, grid)
    notes = one_image(hyperparameters, image, grid, "encoding and decoding one image")
    for stage, outputs in enumerate(reversed(wide)):
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
    if second:
        placements += _statistics(math.prod(pair(hyperparameters, "patch_size", 2)) * latent)
    return Architecture(family="autoencoder_kl", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=1, num_kv_heads=1, notes=notes)  # fmt: skip


def _statistics(width: int) -> Iterator[Placement]:
    """Mean and variance of the latents, with which a pipeline normalises them."""
    for name, shape in (("running_mean", (width,)), ("running_var", (width,)), ("num_batches_tracked", ())):
        yield Placement("bn", Array(name=name, shape=shape, role="norm", component=Component.NORM, kind=Kind.BUFFER))


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
    return _CLASSES.get(named) if isinstance(named, str) else None


FAMILY = Family(
    name="autoencoder_kl",
    title="The autoencoder of Stable Diffusion, FLUX.1 and FLUX.2",
    model_types=("autoencoder_kl", "autoencoder_kl_flux2"),
    gguf={},
    source="diffusers models/autoencoders/autoencoder_kl.py, autoencoder_kl_flux2.py",
    build=build,
    recognise=recognise,
)
