"""The small networks of MLPerf Tiny: keywords, pictures of 32 x 32, pictures with persons, sounds of machines.

Source: the Keras models of github.com/mlcommons/tiny, `benchmark/training` (Banbury et al. 2021, arXiv 2106.07597).
They have no configuration class. `model_type` is one of `ds_cnn` (Zhang et al. 2017, arXiv 1711.07128), `tiny_resnet`,
`tiny_mobilenet` and `tiny_autoencoder`; the keys, all with the reference's sizes for defaults, are those below. Every
convolution has a bias and a batch normalisation behind it, but for the shortcuts of the ResNet, which have only the
bias; it is padded so that a stride of 2 halves the size, rounded up. Names are ours, as Keras counts its layers up
without regard to what they do.

| model type | keys |
| --- | --- |
| `ds_cnn` | `filters` 64, `num_layers` 4, `kernel_size` [10, 4], `num_channels` 1, `num_labels` 12 |
| `tiny_resnet` | `filters` 16, `num_stacks` 3, `num_channels` 3, `num_labels` 10 |
| `tiny_mobilenet` | `filters` 8, `num_channels` 3, `num_labels` 2 |
| `tiny_autoencoder` | `input_size` 640, `hidden_sizes` [128, 128, 128, 128, 8, 128, 128, 128, 128] |

`image_size` is [49, 10], frames by coefficients, for `ds_cnn`, 32 for `tiny_resnet` and 96 for `tiny_mobilenet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image, pair
from weighbridge.model.tensors import Component

_GROWTH = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
"""Widths of MobileNet, as multiples of its first."""
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The network that the model type names."""
    if hyperparameters.classes:
        raise unknown_class(hyperparameters, ("no class",))
    kind = hyperparameters.model_type
    notes: tuple[str, ...] = ()
    if kind == "tiny_autoencoder":
        placements = _autoencoder(hyperparameters)
    else:
        body, image = _NETWORKS[kind]
        if hyperparameters.settings.get("image_size") is not None:
            image = image_grid(hyperparameters)
        placements = body(hyperparameters, image)
        notes = one_image(hyperparameters, image, image, "one sound" if kind == "ds_cnn" else "one image")
    return Architecture(family="mlperf_tiny", model_type=kind, placements=tuple(placements), num_layers=0, num_heads=0,
                        num_kv_heads=0, notes=notes)  # fmt: skip


def _keywords(hyperparameters: Hyperparameters, image: Grid) -> Iterator[Placement]:
    width = hyperparameters.count("filters", 64)
    kernel = pair(hyperparameters, "kernel_size", 0) if "kernel_size" in hyperparameters.settings else (10, 4)
    grid = image.halved()
    yield from _normalised("stem", kernel, hyperparameters.count("num_channels", 1), width, grid)
    for layer in range(hyperparameters.count("num_layers", 4, most=MOST_LAYERS)):
        yield from _separable(f"blocks.{layer}", width, width, grid)
    yield _classifier(hyperparameters, width, 12)


def _resnet(hyperparameters: Hyperparameters, grid: Grid) -> Iterator[Placement]:
    width = hyperparameters.count("filters", 16)
    yield from _normalised("stem", (3, 3), hyperparameters.count("num_channels", 3), width, grid)
    for stack in range(hyperparameters.count("num_stacks", 3, most=16)):
        wide, grid = (2 * width, grid.halved()) if stack else (width, grid)
        yield from _normalised(f"stacks.{stack}.first", (3, 3), width, wide, grid)
        yield from _normalised(f"stacks.{stack}.second", (3, 3), wide, wide, grid)
        if stack:
            yield Placement(f"stacks.{stack}.shortcut", Convolution(
                kernel=(1, 1), in_channels=width, out_channels=wide, bias=True, positions=grid.positions))  # fmt: skip
        width = wide
    yield _classifier(hyperparameters, width, 10)


def _mobilenet(hyperparameters: Hyperparameters, image: Grid) -> Iterator[Placement]:
    first, grid = hyperparameters.count("filters", 8), image.halved()
    yield from _normalised("stem", (3, 3), hyperparameters.count("num_channels", 3), first, grid)
    widths = pairwise(first * growth for growth in _GROWTH)
    for layer, ((inputs, outputs), stride) in enumerate(zip(widths, _STRIDES, strict=True)):
        grid = grid.halved(stride)
        yield from _separable(f"blocks.{layer}", inputs, outputs, grid)
    yield _classifier(hyperparameters, first * _GROWTH[-1], 2)


def _autoencoder(hyperparameters: Hyperparameters) -> Iterator[Placement]:
    ends = hyperparameters.count("input_size", 640)
    hidden = counts(hyperparameters, "hidden_sizes", (*(128,) * 4, 8, *(128,) * 4))
    for layer, (inputs, outputs) in enumerate(pairwise((ends, *hidden, ends))):
        yield Placement(f"layers.{layer}.dense", Linear(in_features=inputs, out_features=outputs, role="mlp",
                                                        component=Component.MLP))  # fmt: skip
        if layer < len(hidden):
            yield Placement(f"layers.{layer}.norm", Norm(width=outputs, running_statistics=True))


def _separable(path: str, inputs: int, outputs: int, grid: Grid) -> Iterator[Placement]:
    yield from _normalised(f"{path}.depthwise", (3, 3), inputs, inputs, grid, inputs)
    yield from _normalised(f"{path}.pointwise", (1, 1), inputs, outputs, grid)


def _normalised(
    path: str, kernel: tuple[int, int], inputs: int, outputs: int, grid: Grid, groups: int = 1
) -> Iterator[Placement]:
    """A convolution with bias and the batch normalisation behind it."""
    yield Placement(f"{path}.conv", Convolution(kernel=kernel, in_channels=inputs, out_channels=outputs, groups=groups,
                                                bias=True, positions=grid.positions))  # fmt: skip
    yield Placement(f"{path}.norm", Norm(width=outputs, running_statistics=True))


def _classifier(hyperparameters: Hyperparameters, width: int, labels: int) -> Placement:
    return Placement("classifier", Linear(in_features=width, out_features=hyperparameters.count("num_labels", labels),
                                          role="score", component=Component.HEAD))  # fmt: skip


_NETWORKS: dict[str, tuple[Callable[[Hyperparameters, Grid], Iterator[Placement]], Grid]] = {
    "ds_cnn": (_keywords, Grid(49, 10)),  # frames and coefficients of a sound
    "tiny_resnet": (_resnet, Grid(32, 32)),
    "tiny_mobilenet": (_mobilenet, Grid(96, 96)),
}

FAMILY = Family(
    name="mlperf_tiny",
    title="DS-CNN and the other networks of MLPerf Tiny",
    model_types=(*_NETWORKS, "tiny_autoencoder"),
    gguf={},
    source="the Keras models of mlcommons/tiny",
    build=build,
)
