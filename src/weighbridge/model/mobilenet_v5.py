"""What does the image tower of Gemma 3n consist of? MobileNet-V5 in its one published size, without a configuration.

A stem, a stage of fused bottlenecks, three of inverted bottlenecks, of which two alternate them with attention of one
key-value head, and a block that mixes the last two stages. The norms have a scale each and no statistics. Source: timm
1.0 `timm/models/mobilenetv5.py`, `mobilenetv5_300m_enc`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weighbridge.model.architecture import Placement
from weighbridge.model.blocks import Block, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution

OUTPUT = 2048
"""The width of what it gives."""

_STEM, _FUSED, _WIDTHS = 64, 128, (256, 640, 1280)
# Of each inverted bottleneck: the kernels before and between its maps (0 for none), and how often wider it is inside.
_PLAIN = (
    ((3, 5, 6), (5, 0, 4), (3, 0, 4), (5, 0, 4), (3, 0, 4)),
    ((5, 5, 6), *((5, 0, 4),) * 7, (0, 0, 1)),
    ((5, 5, 6),),
)
# Of the attention that follows them, a bottleneck behind each: how many, heads, their width, kernel (0 for none).
_ATTENTION = ((0, 0, 0, 0), (14, 12, 64, 3), (19, 16, 96, 0))


def image_tower(path: str) -> Iterator[Placement]:
    """All of it under a path that ends in a dot."""
    yield Placement(path + "conv_stem.conv", Convolution(kernel=(3, 3), in_channels=3, out_channels=_STEM, bias=True))
    yield Placement(path + "conv_stem.bn", Norm(width=_STEM, bias=False))
    for number, before in enumerate((_STEM, _FUSED, _FUSED)):
        yield from _at(f"{path}blocks.0.{number}.", _fused(before))
    before = _FUSED
    for stage, (width, plain, attention) in enumerate(zip(_WIDTHS, _PLAIN, _ATTENTION, strict=True), 1):
        for number, (first, middle, times) in enumerate(plain):
            yield from _at(f"{path}blocks.{stage}.{number}.", _inverted(before, times * before, width, first, middle))
            before = width
        yield from _attending(f"{path}blocks.{stage}.{{layer}}.", width, len(plain), *attention)
    mixed = sum(_WIDTHS[1:])
    yield from _at(path + "msfa.ffn.", _maps(mixed, 2 * mixed, OUTPUT))
    yield Placement(path + "msfa.norm", Norm(width=OUTPUT, bias=False))


def _at(path: str, parts: Iterator[tuple[str, Block]], layers: Sequence[int] | None = None) -> Iterator[Placement]:
    for name, part in parts:
        yield Placement(path + name, part, layers)


def _pointwise(before: int, after: int) -> Convolution:
    return Convolution(kernel=(1, 1), in_channels=before, out_channels=after)


def _depthwise(kernel: int, channels: int) -> Convolution:
    return Convolution(kernel=(kernel, kernel), in_channels=channels, out_channels=channels, groups=channels)


def _fused(before: int) -> Iterator[tuple[str, Block]]:
    yield "conv_exp", Convolution(kernel=(3, 3), in_channels=before, out_channels=4 * before)
    yield "bn1", Norm(width=4 * before, bias=False)
    yield "conv_pwl", _pointwise(4 * before, _FUSED)
    yield "bn2", Norm(width=_FUSED, bias=False)


def _maps(before: int, inner: int, after: int) -> Iterator[tuple[str, Block]]:
    yield "pw_exp.conv", _pointwise(before, inner)
    yield "pw_exp.bn", Norm(width=inner, bias=False)
    yield "pw_proj.conv", _pointwise(inner, after)
    yield "pw_proj.bn", Norm(width=after, bias=False)


def _inverted(before: int, inner: int, after: int, first: int = 0, middle: int = 0) -> Iterator[tuple[str, Block]]:
    for name, kernel, channels in (("dw_start", first, before), ("dw_mid", middle, inner)):
        if kernel:
            yield f"{name}.conv", _depthwise(kernel, channels)
            yield f"{name}.bn", Norm(width=channels, bias=False)
    yield from _maps(before, inner, after)
    yield "layer_scale", Vector(name="gamma", width=after)


def _attending(
    path: str, width: int, first: int, number: int, heads: int, size: int, kernel: int
) -> Iterator[Placement]:
    """Attention and bottlenecks in turn, from the block `first` on."""
    if number:
        every = range(first, first + 2 * number, 2)
        yield from _at(path, _attention(width, heads * size, size, kernel), every)
        yield from _at(path, _inverted(width, 2 * width, width), range(first + 1, first + 2 * number, 2))


def _attention(width: int, queries: int, keys: int, kernel: int) -> Iterator[tuple[str, Block]]:
    yield "norm", Norm(width=width, bias=False)
    yield "attn.query.proj", _pointwise(width, queries)
    for name in ("key", "value"):
        if kernel:
            yield f"attn.{name}.down_conv", _depthwise(kernel, width)
            yield f"attn.{name}.norm", Norm(width=width, bias=False)
        yield f"attn.{name}.proj", _pointwise(width, keys)
    yield "attn.output.proj", _pointwise(queries, width)
    yield "layer_scale", Vector(name="gamma", width=width)
