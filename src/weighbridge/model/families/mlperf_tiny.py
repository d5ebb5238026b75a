"""The small networks of MLPerf Tiny: keywords, pictures of 32 x 32, pictures with persons, sounds of machines.

Source: the Keras models of github.com/mlcommons/tiny, `benchmark/training` (Banbury et al. 2021, arXiv 2106.07597).
They have no configuration class. `model_type` is one of `ds_cnn` (Zhang et al. 2017, arXiv 1711.07128), `tiny_resnet`,
`tiny_mobilenet` and `tiny_autoencoder`; the keys, all with the reference's sizes for defaults, are those below. Every
convolution has a bias and a batch normalisation behind it, but for the shortcuts of the ResNet, which have only the
bias. Names are ours, as Keras counts its layers up without regard to what they do.

| model type | keys |
| --- | --- |
| `ds_cnn` | `filters` 64, `num_layers` 4, `kernel_size` [10, 4], `num_channels` 1, `num_labels` 12 |
| `tiny_resnet` | `filters` 16, `num_stacks` 3, `num_channels` 3, `num_labels` 10 |
| `tiny_mobilenet` | `filters` 8, `num_channels` 3, `num_labels` 2 |
| `tiny_autoencoder` | `input_size` 640, `hidden_sizes` [128, 128, 128, 128, 8, 128, 128, 128, 128] |
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, pair
from weighbridge.model.tensors import Component

_GROWTH = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
"""Widths of MobileNet, as multiples of its first."""


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The network that the model type names."""
    if hyperparameters.classes:
        raise unknown_class(hyperparameters, ("no class",))
    body = {"ds_cnn": _keywords, "tiny_resnet": _resnet, "tiny_mobilenet": _mobilenet,
            "tiny_autoencoder": _autoencoder}[hyperparameters.model_type]  # fmt: skip
    return Architecture(family="mlperf_tiny", model_type=hyperparameters.model_type,
                        placements=tuple(body(hyperparameters)), num_layers=0, num_heads=0,
                        num_kv_heads=0)  # fmt: skip


def _keywords(hyperparameters: Hyperparameters) -> Iterator[Placement]:
    width = hyperparameters.count("filters", 64)
    kernel = pair(hyperparameters, "kernel_size", 0) if "kernel_size" in hyperparameters.settings else (10, 4)
    yield from _normalised("stem", kernel, hyperparameters.count("num_channels", 1), width)
    for layer in range(hyperparameters.count("num_layers", 4, most=MOST_LAYERS)):
        yield from _separable(f"blocks.{layer}", width, width)
    yield _classifier(hyperparameters, width, 12)


def _resnet(hyperparameters: Hyperparameters) -> Iterator[Placement]:
    width = hyperparameters.count("filters", 16)
    yield from _normalised("stem", (3, 3), hyperparameters.count("num_channels", 3), width)
    for stack in range(hyperparameters.count("num_stacks", 3, most=16)):
        wide = width if stack == 0 else 2 * width
        yield from _normalised(f"stacks.{stack}.first", (3, 3), width, wide)
        yield from _normalised(f"stacks.{stack}.second", (3, 3), wide, wide)
        if stack:
            yield Placement(f"stacks.{stack}.shortcut",
                            Convolution(kernel=(1, 1), in_channels=width, out_channels=wide, bias=True))  # fmt: skip
        width = wide
    yield _classifier(hyperparameters, width, 10)


def _mobilenet(hyperparameters: Hyperparameters) -> Iterator[Placement]:
    first = hyperparameters.count("filters", 8)
    yield from _normalised("stem", (3, 3), hyperparameters.count("num_channels", 3), first)
    for layer, (inputs, outputs) in enumerate(pairwise(first * growth for growth in _GROWTH)):
        yield from _separable(f"blocks.{layer}", inputs, outputs)
    yield _classifier(hyperparameters, first * _GROWTH[-1], 2)


def _autoencoder(hyperparameters: Hyperparameters) -> Iterator[Placement]:
    ends = hyperparameters.count("input_size", 640)
    hidden = counts(hyperparameters, "hidden_sizes", (*(128,) * 4, 8, *(128,) * 4))
    for layer, (inputs, outputs) in enumerate(pairwise((ends, *hidden, ends))):
        yield Placement(f"layers.{layer}.dense", Linear(in_features=inputs, out_features=outputs, role="mlp",
                                                        component=Component.MLP))  # fmt: skip
        if layer < len(hidden):
            yield Placement(f"layers.{layer}.norm", Norm(width=outputs, running_statistics=True))


def _separable(path: str, inputs: int, outputs: int) -> Iterator[Placement]:
    yield from _normalised(f"{path}.depthwise", (3, 3), inputs, inputs, inputs)
    yield from _normalised(f"{path}.pointwise", (1, 1), inputs, outputs)


def _normalised(path: str, kernel: tuple[int, int], inputs: int, outputs: int, groups: int = 1) -> Iterator[Placement]:
    """A convolution with bias and the batch normalisation behind it."""
    yield Placement(f"{path}.conv", Convolution(kernel=kernel, in_channels=inputs, out_channels=outputs, groups=groups,
                                                bias=True))  # fmt: skip
    yield Placement(f"{path}.norm", Norm(width=outputs, running_statistics=True))


def _classifier(hyperparameters: Hyperparameters, width: int, labels: int) -> Placement:
    return Placement("classifier", Linear(in_features=width, out_features=hyperparameters.count("num_labels", labels),
                                          role="score", component=Component.HEAD))  # fmt: skip


FAMILY = Family(
    name="mlperf_tiny",
    title="DS-CNN and the other networks of MLPerf Tiny",
    model_types=("ds_cnn", "tiny_resnet", "tiny_mobilenet", "tiny_autoencoder"),
    gguf={},
    source="the Keras models of mlcommons/tiny",
    build=build,
)
