"""The autoencoder of Wan and Qwen-Image: convolutions over a film, which see the frames before and none after.

Source: diffusers `models/autoencoders/{autoencoder_kl_wan,autoencoder_kl_qwenimage}.py` (defaults of their `__init__`).
Wan 2.2 (`is_residual`) has the same blocks under other names, and does not halve the width where it doubles the size.
A first frame, or a lone image, skips the convolutions over time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.scores import Scores
from weighbridge.model.diffusion_transformer import named
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image
from weighbridge.model.tensors import Component

_IMAGE = 512


class _Shape(NamedTuple):
    """What encoder and decoder share: multiples of the base width, blocks a stage, which stages halve the frames."""

    widths: tuple[int, ...]
    blocks: int
    halving: tuple[bool, ...]
    residual: bool


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder, decoder, and the two maps between."""
    hyperparameters.refuse("attn_scales", "which adds attention that is not described")
    wan = hyperparameters.model_type == "autoencoder_kl_wan"
    shape = _Shape(
        widths=counts(hyperparameters, "dim_mult", (1, 2, 4, 4)),
        blocks=hyperparameters.count("num_res_blocks", 2, most=MOST_LAYERS),
        halving=_halving(hyperparameters),
        residual=wan and hyperparameters.flag("is_residual", False),
    )
    if len(shape.halving) < len(shape.widths) - 1:
        read = f"{hyperparameters.source} has {len(shape.halving)} temperal_downsample for {len(shape.widths)} widths"
        raise ConfigError(read, "one less than widths", "correct the keys")
    base, latent = hyperparameters.count("base_dim", 96), hyperparameters.count("z_dim", 16)
    decoded = hyperparameters.count("decoder_base_dim", base) if wan else base
    colours = [hyperparameters.count(key if wan else "input_channels", 3) for key in ("in_channels", "out_channels")]
    patch = hyperparameters.count("patch_size", 1) if wan else 1
    image = image_grid(hyperparameters, "sample_size", _IMAGE)
    placements, small = _encoder(shape, base, colours[0], 2 * latent, image.after(patch, patch))
    placements += [_film("quant_conv", 2 * latent, 2 * latent, small, 1),
                   _film("post_quant_conv", latent, latent, small, 1)]  # fmt: skip
    placements += _decoder(shape, decoded, latent, colours[1], small)
    return Architecture(
        family="autoencoder_kl_wan",
        model_type=hyperparameters.model_type,
        placements=tuple(placements),
        num_layers=0,
        num_heads=1,
        num_kv_heads=1,
        notes=one_image(hyperparameters, image, small, "encoding and decoding one image, a film of one frame,"),
    )


def _halving(hyperparameters: Hyperparameters) -> tuple[bool, ...]:
    """Whether each stage but the last halves the frames."""
    value = hyperparameters.settings.get("temperal_downsample", (False, True, True))
    if not isinstance(value, list | tuple) or not all(isinstance(flag, bool) for flag in value):
        read = f"{hyperparameters.source} has temperal_downsample = {repr(value)[:60]}"
        raise ConfigError(read, "true or false for each stage but the last", "correct the key")
    return tuple(value)


def _encoder(shape: _Shape, base: int, inputs: int, outputs: int, grid: Grid) -> tuple[list[Placement], Grid]:
    """The way down; its blocks are numbered through, unless they are residual."""
    widths, last, place = [base, *(base * width for width in shape.widths)], len(shape.widths) - 1, 0
    placements = [_film("encoder.conv_in", inputs, base, grid)]
    for stage, (width, wider) in enumerate(pairwise(widths)):
        for block in range(shape.blocks):
            name = f"{stage}.resnets.{block}" if shape.residual else str(place)
            placements += _block(f"encoder.down_blocks.{name}", wider if block else width, wider, grid)
            place += 1
        if stage < last:
            grid = grid.after(3, 2, 1)
            path = f"encoder.down_blocks.{f'{stage}.downsampler' if shape.residual else place}"
            placements += _resampled(path, wider, wider, grid, wider if shape.halving[stage] else None)
            place += 1
    return [*placements, *_middle("encoder", widths[-1], outputs, grid)], grid


def _decoder(shape: _Shape, base: int, inputs: int, outputs: int, grid: Grid) -> list[Placement]:
    """The way up, with one block more a stage."""
    widths, last = [base * width for width in shape.widths], len(shape.widths) - 1
    halving = shape.halving[::-1]
    stages = [widths[-1], *widths[::-1]]
    placements = [_film("decoder.conv_in", inputs, widths[-1], grid), *_middle("decoder", widths[-1], None, grid)]
    for stage, (width, narrower) in enumerate(pairwise(stages)):
        width = width // 2 if stage and not shape.residual else width  # noqa: PLW2901
        path = f"decoder.up_blocks.{stage}."
        for block in range(shape.blocks + 1):
            placements += _block(f"{path}resnets.{block}", narrower if block else width, narrower, grid)
        if stage < last:
            grid = grid.doubled()
            name, after = ("upsampler", narrower) if shape.residual else ("upsamplers.0", narrower // 2)
            placements += _resampled(path + name, narrower, after, grid, 2 * narrower if halving[stage] else None)
    return [*placements, _norm("decoder.norm_out", widths[0]), _film("decoder.conv_out", widths[0], outputs, grid)]


def _middle(side: str, width: int, outputs: int | None, grid: Grid) -> list[Placement]:
    """Two blocks with attention within a frame between them, and the encoder's last convolution."""
    path, at = f"{side}.mid_block.attentions.0", grid.positions
    maps = [Placement(f"{path}.{name}", Convolution(kernel=(1, 1), in_channels=width, out_channels=times * width,
                                                    bias=True, positions=at, component=Component.ATTENTION))
            for name, times in (("to_qkv", 3), ("proj", 1))]  # fmt: skip
    placements = [
        *_block(f"{side}.mid_block.resnets.0", width, width, grid),
        _norm(path + ".norm", width, axes=2),
        *maps,
        Placement(path, Scores(width=width, positions=at, attended=at)),
        *_block(f"{side}.mid_block.resnets.1", width, width, grid),
    ]
    if outputs is None:
        return placements
    return [*placements, _norm(f"{side}.norm_out", width), _film(f"{side}.conv_out", width, outputs, grid)]


def _block(path: str, inputs: int, outputs: int, grid: Grid) -> list[Placement]:
    """Two convolutions around a shortcut."""
    shortcut = [] if inputs == outputs else [_film(path + ".conv_shortcut", inputs, outputs, grid, 1)]
    return [
        _norm(path + ".norm1", inputs),
        _film(path + ".conv1", inputs, outputs, grid),
        _norm(path + ".norm2", outputs),
        _film(path + ".conv2", outputs, outputs, grid),
        *shortcut,
    ]


def _resampled(path: str, width: int, outputs: int, after: Grid, timed: int | None) -> list[Placement]:
    """Half or twice the size, and half or twice the frames with a convolution over time, to the width `timed`."""
    flat = Convolution(kernel=(3, 3), in_channels=width, out_channels=outputs, bias=True, positions=after.positions)
    placements = [Placement(path + ".resample.1", flat)]
    if timed is not None:
        block = Convolution(kernel=(3, 1, 1), in_channels=width, out_channels=timed, bias=True, positions=0)
        placements.append(Placement(path + ".time_conv", block))
    return placements


def _film(path: str, inputs: int, outputs: int, grid: Grid, kernel: int = 3) -> Placement:
    """A convolution over frames, height and width."""
    return Placement(path, Convolution(kernel=(kernel,) * 3, in_channels=inputs, out_channels=outputs, bias=True,
                                       positions=grid.positions))  # fmt: skip


def _norm(path: str, width: int, axes: int = 3) -> Placement:
    return Placement(path, Array(name="gamma", shape=(width, *[1] * axes), role="norm", component=Component.NORM))


FAMILY = Family(
    name="autoencoder_kl_wan",
    title="The autoencoder of Wan and Qwen-Image",
    model_types=("autoencoder_kl_wan", "autoencoder_kl_qwenimage"),
    gguf={},
    source="diffusers models/autoencoders/autoencoder_kl_wan.py, autoencoder_kl_qwenimage.py",
    build=build,
    recognise=named({"AutoencoderKLWan": "autoencoder_kl_wan", "AutoencoderKLQwenImage": "autoencoder_kl_qwenimage"}),
)
