"""The tiny autoencoder: convolutions of one width that stand in for the autoencoder of Stable Diffusion and Flux.

Source: diffusers `models/autoencoders/{autoencoder_tiny,vae}.py` (defaults of `AutoencoderTiny.__init__`). Its layers
are numbered through, those without weights too.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.diffusion_transformer import named
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image

_IMAGE = 512


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder."""
    latent, image = hyperparameters.count("latent_channels", 4), image_grid(hyperparameters, "sample_size", _IMAGE)
    grid, width, layers = image, 0, []
    sides = {side: _stages(hyperparameters, side) for side in ("encoder", "decoder")}
    for stage, (width, blocks) in enumerate(sides["encoder"]):
        grid = grid.halved() if stage else grid
        inputs = width if stage else hyperparameters.count("in_channels", 3)
        layers += [_convolution(inputs, width, grid, bias=not stage), *_blocks(width, blocks, grid)]
    layers.append(_convolution(width, latent, grid))
    placements = _numbered("encoder", layers)
    notes = one_image(hyperparameters, image, grid, "encoding and decoding one image")
    width, last = sides["decoder"][0][0], len(sides["decoder"]) - 1
    layers, scale = [_convolution(latent, width, grid), None], hyperparameters.count("upsampling_scaling_factor", 2)
    for stage, (width, blocks) in enumerate(sides["decoder"]):
        layers += _blocks(width, blocks, grid)
        if stage < last:
            grid = Grid(scale * grid.height, scale * grid.width)
            layers += [None, _convolution(width, width, grid, bias=False)]
    layers.append(_convolution(width, hyperparameters.count("out_channels", 3), grid))
    placements += _numbered("decoder", layers)
    return Architecture(family="autoencoder_tiny", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0, notes=notes)  # fmt: skip


def _stages(hyperparameters: Hyperparameters, side: str) -> list[tuple[int, int]]:
    """Width and number of blocks of each stage; all widths are the same, as no layer stands between two."""
    widths = counts(hyperparameters, f"{side}_block_out_channels", (64,) * 4)
    default = (1, 3, 3, 3) if side == "encoder" else (3, 3, 3, 1)
    blocks = counts(hyperparameters, f"num_{side}_blocks", default, most=MOST_LAYERS)
    if len(widths) != len(blocks) or len(set(widths)) > 1:
        read = f"{hyperparameters.source} has the {side}'s widths {repr(widths)[:60]} for {len(blocks)} stages"
        raise ConfigError(read, "one width for all, and as many as stages", "correct the keys")
    return list(zip(widths, blocks, strict=True))


def _convolution(inputs: int, outputs: int, grid: Grid, *, bias: bool = True) -> Convolution:
    return Convolution(kernel=(3, 3), in_channels=inputs, out_channels=outputs, bias=bias, positions=grid.positions)


def _blocks(width: int, blocks: int, grid: Grid) -> list[Convolution | list[Convolution] | None]:
    """Three convolutions each, around a shortcut."""
    return [[_convolution(width, width, grid)] * 3 for _ in range(blocks)]


def _numbered(path: str, layers: list[Convolution | list[Convolution] | None]) -> list[Placement]:
    placements = []
    for number, layer in enumerate(layers):
        if isinstance(layer, list):
            placements += [Placement(f"{path}.layers.{number}.conv.{2 * place}", block)
                           for place, block in enumerate(layer)]  # fmt: skip
        elif layer is not None:
            placements.append(Placement(f"{path}.layers.{number}", layer))
    return placements


FAMILY = Family(
    name="autoencoder_tiny",
    title="The tiny autoencoder (TAESD)",
    model_types=("autoencoder_tiny",),
    gguf={},
    source="diffusers models/autoencoders/autoencoder_tiny.py",
    build=build,
    recognise=named({"AutoencoderTiny": "autoencoder_tiny"}),
)
