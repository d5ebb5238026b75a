"""The deep-compression autoencoder of Sana: many halvings, residual blocks above and linear attention below.

Source: diffusers `models/autoencoders/autoencoder_dc.py` (defaults of `AutoencoderDC.__init__`) and
`models/attention_processor.py`. A map that small is attended to in full; a larger one by products of keys and values,
which cost as much for every position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.scores import Scores
from weighbridge.model.diffusion import convolution, linear
from weighbridge.model.diffusion_transformer import named, one_of
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image
from weighbridge.model.tensors import Component

_IMAGE, _WIDTHS = 512, (128, 256, 512, 512, 1024, 1024)
_DEPTHS = {"encoder": (2, 2, 2, 3, 3, 3), "decoder": (3,) * 6}
_SCALES = ((), (), (), (5,), (5,), (5,))


@dataclass(frozen=True, slots=True)
class _Stage:
    """One resolution: its width, its blocks, their kind and norm, and the kernels beside the maps of attention."""

    width: int
    depth: int
    attends: bool
    batch_norm: bool
    scales: tuple[int, ...]

    def block(self, path: str, head_dim: int, at: int) -> list[Placement]:
        """A residual block, or linear attention and a gated feed-forward of convolutions."""
        width = self.width
        norm = Norm(width=width, running_statistics=self.batch_norm)
        if not self.attends:
            return [
                convolution(path + ".conv1", width, width, at),
                _plain(path + ".conv2", 3, width, width, at),
                Placement(path + ".norm", norm),
            ]
        heads, attention = width // head_dim, Component.ATTENTION  # what is left over joins no head
        inner, joined = heads * head_dim, heads * head_dim * (1 + len(self.scales))
        placements = [linear(f"{path}.attn.to_{part}", width, inner, bias=False, component=attention, positions=at,
                             role=f"attention_{part}") for part in "qkv"]  # fmt: skip
        for number, kernel in enumerate(self.scales):
            name = f"{path}.attn.to_qkv_multiscale.{number}.proj_"
            placements += [_plain(name + "in", kernel, 3 * inner, 3 * inner, at, 3 * inner, attention),
                           _plain(name + "out", 1, 3 * inner, 3 * inner, at, 3 * heads, attention)]  # fmt: skip
        attended = head_dim + 1 if at > head_dim else at
        return [
            *placements,
            Placement(path + ".attn", Scores(width=joined, positions=at, attended=attended)),
            linear(path + ".attn.to_out", joined, width, bias=False, component=attention, positions=at,
                   role="attention_output"),
            Placement(path + ".attn.norm_out", norm),
            convolution(path + ".conv_out.conv_inverted", width, 8 * width, at, 1),
            Placement(path + ".conv_out.conv_depth", Convolution(kernel=(3, 3), in_channels=8 * width, bias=True,
                      out_channels=8 * width, groups=8 * width, positions=at)),
            _plain(path + ".conv_out.conv_point", 1, 4 * width, width, at),
            Placement(path + ".conv_out.norm", Norm(width=width)),
        ]  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder."""
    colours, latent = hyperparameters.count("in_channels", 3), hyperparameters.count("latent_channels", 32)
    head_dim, image = (
        hyperparameters.count("attention_head_dim", 32),
        image_grid(hyperparameters, "sample_size", _IMAGE),
    )
    folds = one_of(hyperparameters, "downsample_block_type", "pixel_unshuffle", "conv", "Conv") == "pixel_unshuffle"
    spreads = one_of(hyperparameters, "upsample_block_type", "pixel_shuffle", "interpolate") == "pixel_shuffle"
    down, up = _stages(hyperparameters, "encoder"), _stages(hyperparameters, "decoder")
    placements, small = _encoder(down, colours, latent, head_dim, image, folds)
    placements += _decoder(up, colours, latent, head_dim, small, spreads)
    return Architecture(family="autoencoder_dc", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=1, num_kv_heads=1,
                        notes=one_image(hyperparameters, image, small, "encoding and decoding one image"))  # fmt: skip


def _encoder(stages: list[_Stage], colours: int, latent: int, head_dim: int, grid: Grid,
             folds: bool) -> tuple[list[Placement], Grid]:  # fmt: skip
    placements = []

    def halved(path: str, inputs: int, outputs: int) -> None:
        nonlocal grid
        after = grid.halved()
        placements.append(convolution(path + ".conv", inputs, outputs // 4 if folds else outputs,
                                      (grid if folds else after).positions))  # fmt: skip
        grid = after

    if stages[0].depth:
        placements.append(convolution("encoder.conv_in", colours, stages[0].width, grid.positions))
    else:
        halved("encoder.conv_in", colours, stages[1].width)
    for number, stage in enumerate(stages):
        path = f"encoder.down_blocks.{number}."
        for block in range(stage.depth):
            placements += stage.block(f"{path}{block}", head_dim, grid.positions)
        if number < len(stages) - 1 and stage.depth:
            halved(f"{path}{stage.depth}", stage.width, stages[number + 1].width)
    return [*placements, convolution("encoder.conv_out", stages[-1].width, latent, grid.positions)], grid


def _decoder(stages: list[_Stage], colours: int, latent: int, head_dim: int, grid: Grid,
             spreads: bool) -> list[Placement]:  # fmt: skip
    placements = [convolution("decoder.conv_in", latent, stages[-1].width, grid.positions)]

    def doubled(path: str, inputs: int, outputs: int) -> None:
        nonlocal grid
        after = grid.doubled()
        placements.append(convolution(path + ".conv", inputs, 4 * outputs if spreads else outputs,
                                      (grid if spreads else after).positions))  # fmt: skip
        grid = after

    for number, stage in reversed(list(enumerate(stages))):
        path, between = f"decoder.up_blocks.{number}.", number < len(stages) - 1 and stage.depth > 0
        if between:
            doubled(path + "0", stages[number + 1].width, stage.width)
        for block in range(stage.depth):
            placements += stage.block(f"{path}{block + between}", head_dim, grid.positions)
    width = stages[0].width if stages[0].depth else stages[1].width
    placements.append(Placement("decoder.norm_out", Norm(width=width)))
    if stages[0].depth:
        placements.append(convolution("decoder.conv_out", width, colours, grid.positions))
    else:
        doubled("decoder.conv_out", width, colours)
    return placements


def _plain(path: str, kernel: int, inputs: int, outputs: int, at: int, groups: int = 1,
           component: Component = Component.OTHER) -> Placement:  # fmt: skip
    """A convolution without a bias."""
    return Placement(path, Convolution(kernel=(kernel, kernel), in_channels=inputs, out_channels=outputs,
                                       groups=groups, positions=at, component=component))  # fmt: skip


def _stages(hyperparameters: Hyperparameters, side: str) -> list[_Stage]:
    """The stages of the encoder or the decoder; only the first may have no blocks."""
    widths = counts(hyperparameters, f"{side}_block_out_channels", _WIDTHS)
    kinds = _each(hyperparameters, f"{side}_block_types", "ResBlock", len(widths), ("ResBlock", "EfficientViTBlock"))
    norms = ["rms_norm"] * len(widths)
    if side == "decoder":
        norms = _each(hyperparameters, "decoder_norm_types", "rms_norm", len(widths), ("rms_norm", "batch_norm"))
    depths = hyperparameters.settings.get(f"{side}_layers_per_block", _DEPTHS[side])
    scales = hyperparameters.settings.get(f"{side}_qkv_multiscales", _SCALES)
    if not _usable(depths, scales, len(widths)):
        read = f"{hyperparameters.source} has {side}_layers_per_block = {repr(depths)[:60]}"
        read += f" and {side}_qkv_multiscales = {repr(scales)[:60]}"
        expected = f"{len(widths)} of each, odd kernels, and blocks in every stage but the first"
        raise ConfigError(read, expected, "correct the keys")
    parts = zip(widths, depths, kinds, norms, scales, strict=True)
    return [_Stage(width, depth, kind == "EfficientViTBlock", norm == "batch_norm", tuple(kernels))
            for width, depth, kind, norm, kernels in parts]  # fmt: skip


def _usable(depths: Any, scales: Any, stages: int) -> bool:
    if not all(isinstance(value, list | tuple) and len(value) == stages for value in (depths, scales)):
        return False
    if not _wholes(depths[:1], 0) or not _wholes(depths[1:], 1) or not 0 < sum(depths) <= MOST_LAYERS:
        return False
    return all(isinstance(kernels, list | tuple) and _wholes(kernels, 1) and all(kernel % 2 for kernel in kernels)
               for kernels in scales)  # fmt: skip


def _wholes(values: Any, least: int) -> bool:
    return all(type(value) is int and least <= value <= MOST_LAYERS for value in values)


def _each(hyperparameters: Hyperparameters, key: str, default: str, number: int, known: tuple[str, ...]) -> list[str]:
    """A name for each stage, spelled once for all or one by one."""
    value = hyperparameters.settings.get(key, default)
    names = [value] * number if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or len(names) != number or not all(name in known for name in names):
        read = f"{hyperparameters.source} has {key} = {repr(value)[:100]}"
        raise ConfigError(read, f"{' or '.join(known)} for each of {number} stages", "correct the key")
    return list(names)


FAMILY = Family(
    name="autoencoder_dc",
    title="The autoencoder of Sana (DC-AE)",
    model_types=("autoencoder_dc",),
    gguf={},
    source="diffusers models/autoencoders/autoencoder_dc.py",
    build=build,
    recognise=named({"AutoencoderDC": "autoencoder_dc"}),
)
