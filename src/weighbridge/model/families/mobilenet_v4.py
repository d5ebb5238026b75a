"""MobileNet 3, MobileNet 4 without attention, EfficientNet 2: tables of inverted bottlenecks.

Sources: `mobilenetv3.py` and `efficientnet.py` of timm, whose tensor names are used (Howard et al. 2019, Qin et al.
2024, Tan and Le 2021). transformers has no class for them: `model_type` is `mobilenet_v3`, `mobilenet_v4` or
`efficientnet_v2`, and `variant` names the published network (`large`, `conv_small`, `s` ...). `num_labels` is 1000
unless it is given; 0 leaves the classifier away. `image_size` is the size that the network was published for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Grid, divisible, image_grid, one_image
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True)
class _Run:
    """Blocks of one kind after each other: how many, how wide, with which kernels.

    `start` is the kernel of the depthwise convolution before the expansion of a `universal` block. A kernel of 0
    leaves its convolution away, a `squeeze` of 0 the squeeze-and-excitation pair. MobileNet squeezes a share of the
    expanded width, in multiples of 8; a `compound` block (EfficientNet) a share of its inputs.
    """

    kind: str
    repeat: int
    width: int
    kernel: int
    expansion: float = 1
    squeeze: float = 0
    start: int = 0


def _u(width: int, *blocks: tuple[int, int, int, int]) -> tuple[_Run, ...]:
    """A stage of universal inverted bottlenecks: repeats, kernels before and after the expansion, expansion."""
    return tuple(_Run("universal", repeat, width, kernel, expansion, start=start)
                 for repeat, start, kernel, expansion in blocks)  # fmt: skip


def _i(repeat: int, width: int, kernel: int, expansion: float, squeeze: float = 0) -> _Run:
    return _Run("inverted", repeat, width, kernel, expansion, squeeze)


def _scaled(*widths: int, repeats: tuple[int, ...]) -> tuple[tuple[_Run, ...], ...]:
    """The stages of EfficientNet 2: plain ones, two with fused expansions, the others squeezed."""
    first, *fused = zip(repeats[:3], widths[:3], strict=True)
    rest = zip(repeats[3:], widths[3:], (4, 6, 6, 6), strict=False)
    return (
        (_Run("plain", *first, 3),),
        *((_Run("fused", *run, 3, 4),) for run in fused),
        *((_Run("compound", repeat, width, 3, expansion, 0.25),) for repeat, width, expansion in rest),
    )


# Stem, stages, width of the last convolution, strides of the stages, height and width of the image. The plain runs at
# both ends are stages as timm counts them; the first block of a stage has its stride.
_MIXED, _HALVING = (1, 2, 2, 2, 1, 2, 1), (2, 2, 2, 2, 1)
_NETWORKS: dict[str, dict[str, tuple[int, tuple[tuple[_Run, ...], ...], int, tuple[int, ...], int]]] = {
    "mobilenet_v3": {
        "large": (16, (
            (_Run("separable", 1, 16, 3),),
            (_i(1, 24, 3, 4), _i(1, 24, 3, 3)),
            (_i(3, 40, 5, 3, 0.25),),
            (_i(1, 80, 3, 6), _i(1, 80, 3, 2.5), _i(2, 80, 3, 2.3)),
            (_i(2, 112, 3, 6, 0.25),),
            (_i(3, 160, 5, 6, 0.25),),
            (_Run("plain", 1, 960, 1),),
        ), 1280, _MIXED, 224),
        "small": (16, (
            (_Run("separable", 1, 16, 3, squeeze=0.25),),
            (_i(1, 24, 3, 4.5), _i(1, 24, 3, 3.67)),
            (_i(1, 40, 5, 4, 0.25), _i(2, 40, 5, 6, 0.25)),
            (_i(2, 48, 5, 3, 0.25),),
            (_i(3, 96, 5, 6, 0.25),),
            (_Run("plain", 1, 576, 1),),
        ), 1024, (2, 2, 2, 1, 2, 1), 224),
    },
    "mobilenet_v4": {
        "conv_small": (32, (
            (_Run("plain", 1, 32, 3), _Run("plain", 1, 32, 1)),
            (_Run("plain", 1, 96, 3), _Run("plain", 1, 64, 1)),
            _u(96, (1, 5, 5, 3), (4, 0, 3, 2), (1, 3, 0, 4)),
            _u(128, (1, 3, 3, 6), (1, 5, 5, 4), (1, 0, 5, 4), (1, 0, 5, 3), (2, 0, 3, 4)),
            (_Run("plain", 1, 960, 1),),
        ), 1280, _HALVING, 224),
        "conv_medium": (32, (
            (_Run("fused", 1, 48, 3, 4),),
            _u(80, (1, 3, 5, 4), (1, 3, 3, 2)),
            _u(160, (1, 3, 5, 6), (2, 3, 3, 4), (1, 3, 5, 4), (1, 3, 3, 4), (1, 3, 0, 4), (1, 0, 0, 2), (1, 3, 0, 4)),
            _u(256, (1, 5, 5, 6), (1, 5, 5, 4), (2, 3, 5, 4), (1, 0, 0, 4), (1, 3, 0, 4), (1, 3, 5, 2), (1, 5, 5, 4),
               (2, 0, 0, 4), (1, 5, 0, 2)),
            (_Run("plain", 1, 960, 1),),
        ), 1280, _HALVING, 256),
        "conv_large": (24, (
            (_Run("fused", 1, 48, 3, 4),),
            _u(96, (1, 3, 5, 4), (1, 3, 3, 4)),
            _u(192, (1, 3, 5, 4), (3, 3, 3, 4), (1, 3, 5, 4), (5, 5, 3, 4), (1, 3, 0, 4)),
            _u(512, (4, 5, 5, 4), (1, 5, 0, 4), (1, 5, 3, 4), (2, 5, 0, 4), (1, 5, 3, 4), (1, 5, 5, 4), (3, 5, 0, 4)),
            (_Run("plain", 1, 960, 1),),
        ), 1280, _HALVING, 384),
    },
    "efficientnet_v2": {
        "s": (24, _scaled(24, 48, 64, 128, 160, 256, repeats=(2, 4, 4, 6, 9, 15)), 1280, _MIXED, 300),
        "m": (24, _scaled(24, 48, 80, 160, 176, 304, 512, repeats=(3, 5, 5, 7, 14, 18, 5)), 1280, _MIXED, 384),
        "l": (32, _scaled(32, 64, 96, 192, 224, 384, 640, repeats=(4, 7, 7, 10, 19, 25, 7)), 1280, _MIXED, 384),
        "xl": (32, _scaled(32, 64, 96, 192, 256, 512, 640, repeats=(4, 8, 8, 16, 24, 32, 8)), 1280, _MIXED, 384),
    },
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The network that `variant` names."""
    if hyperparameters.classes:
        raise unknown_class(hyperparameters, ("no class",))
    variant = hyperparameters.settings.get("variant")
    known = _NETWORKS[hyperparameters.model_type]
    if not isinstance(variant, str) or variant not in known:
        read = f"{hyperparameters.source} has variant = {repr(variant)[:60]}"
        raise ConfigError(read, f"one of {', '.join(known)}", "name the published network")
    return network(hyperparameters, hyperparameters.model_type, variant)


def network(hyperparameters: Hyperparameters, kind: str, variant: str) -> Architecture:
    """The network of a kind and variant, with a classifier of `num_labels`."""
    stem, stages, last, strides, side = _NETWORKS[kind][variant]
    image = image_grid(hyperparameters, default=side)
    grid = image.halved()
    placements = [*_normalised("", "conv_stem", "bn1", 3, hyperparameters.count("num_channels", 3), stem, grid)]
    width = stem
    for number, (stage, stride) in enumerate(zip(stages, strides, strict=False)):
        runs = (run for run in stage for _ in range(run.repeat))
        for block, run in enumerate(runs):
            after = grid if block else grid.halved(stride)
            placements += _BLOCKS[run.kind](f"blocks.{number}.{block}.", run, width, grid, after)
            width, grid = run.width, after
    bias = kind == "mobilenet_v3"
    positions = grid.positions if kind == "efficientnet_v2" else 1  # the others pool before
    head = Convolution(kernel=(1, 1), in_channels=width, out_channels=last, bias=bias, positions=positions)
    placements.append(Placement("conv_head", head))
    if not bias:
        norm = "norm_head" if kind == "mobilenet_v4" else "bn2"
        placements.append(Placement(norm, Norm(width=last, running_statistics=True)))
    labels = hyperparameters.count("num_labels", 1000, least=0)
    if labels:
        score = Linear(in_features=last, out_features=labels, role="score", component=Component.HEAD)
        placements.append(Placement("classifier", score))
    return Architecture(family="mobilenet_v4", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0,
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _plain(path: str, run: _Run, inputs: int, _: Grid, after: Grid) -> Iterator[Placement]:
    yield from _normalised(path, "conv", "bn1", run.kernel, inputs, run.width, after)


def _fused(path: str, run: _Run, inputs: int, _: Grid, after: Grid) -> Iterator[Placement]:
    wide = divisible(inputs * run.expansion, 8)
    yield from _normalised(path, "conv_exp", "bn1", run.kernel, inputs, wide, after)
    yield from _normalised(path, "conv_pwl", "bn2", 1, wide, run.width, after)


def _separable(path: str, run: _Run, inputs: int, _: Grid, after: Grid) -> Iterator[Placement]:
    yield from _normalised(path, "conv_dw", "bn1", run.kernel, inputs, inputs, after, inputs)
    yield from _squeeze(path, inputs, divisible(inputs * run.squeeze, 8) if run.squeeze else 0)
    yield from _normalised(path, "conv_pw", "bn2", 1, inputs, run.width, after)


def _inverted(path: str, run: _Run, inputs: int, before: Grid, after: Grid) -> Iterator[Placement]:
    wide = divisible(inputs * run.expansion, 8)
    share = round(inputs * run.squeeze) if run.kind == "compound" else divisible(wide * run.squeeze, 8)
    yield from _normalised(path, "conv_pw", "bn1", 1, inputs, wide, before)
    yield from _normalised(path, "conv_dw", "bn2", run.kernel, wide, wide, after, wide)
    yield from _squeeze(path, wide, share if run.squeeze else 0)
    yield from _normalised(path, "conv_pwl", "bn3", 1, wide, run.width, after)


def _universal(path: str, run: _Run, inputs: int, before: Grid, after: Grid) -> Iterator[Placement]:
    """The depthwise convolution in the middle has the stride, or the one at the start where there is none."""
    wide, inner = divisible(inputs * run.expansion, 8), before if run.kernel else after
    if run.start:
        yield from _normalised(path + "dw_start.", "conv", "bn", run.start, inputs, inputs, inner, inputs)
    yield from _normalised(path + "pw_exp.", "conv", "bn", 1, inputs, wide, inner)
    if run.kernel:
        yield from _normalised(path + "dw_mid.", "conv", "bn", run.kernel, wide, wide, after, wide)
    yield from _normalised(path + "pw_proj.", "conv", "bn", 1, wide, run.width, after)


_BLOCKS = {"plain": _plain, "fused": _fused, "separable": _separable, "inverted": _inverted, "compound": _inverted,
           "universal": _universal}  # fmt: skip


def _squeeze(path: str, width: int, squeezed: int) -> Iterator[Placement]:
    if squeezed:
        for name, one, other in (("conv_reduce", width, squeezed), ("conv_expand", squeezed, width)):
            yield Placement(f"{path}se.{name}", Convolution(kernel=(1, 1), in_channels=one, out_channels=other,
                                                            bias=True))  # fmt: skip


def _normalised(
    path: str, convolution: str, norm: str, kernel: int, inputs: int, outputs: int, grid: Grid, groups: int = 1
) -> Iterator[Placement]:
    """A convolution without bias and the batch normalisation behind it."""
    yield Placement(path + convolution, Convolution(kernel=(kernel, kernel), in_channels=inputs, out_channels=outputs,
                                                    groups=groups, positions=grid.positions))  # fmt: skip
    yield Placement(path + norm, Norm(width=outputs, running_statistics=True))


FAMILY = Family(
    name="mobilenet_v4",
    title="MobileNet 3 and 4, EfficientNet 2",
    model_types=tuple(_NETWORKS),
    gguf={},
    source="timm models/mobilenetv3.py, models/efficientnet.py",
    build=build,
)
