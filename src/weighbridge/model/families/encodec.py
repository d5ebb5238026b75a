"""EnCodec: convolutions and an LSTM that shorten sound, codebooks, and their mirror image that restores it.

Source: transformers `models/encodec` (Défossez et al. 2022). Convolutions are stored as a direction and the length of a
channel (weight normalisation), or plain with a norm behind them. Codebooks follow running averages: they are buffers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm, Use, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.recurrent import Recurrent
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE, counts
from weighbridge.model.tensors import Kind

_NORMS = ("weight_norm", "time_group_norm")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder, the decoder and the codebooks between them."""
    if head_class(hyperparameters, ("Encodec",), "Model") != "Model":
        raise unknown_class(hyperparameters, ("EncodecModel",))
    ratios = counts(hyperparameters, "upsampling_ratios", (8, 5, 4, 2), most=2**20)
    if len(ratios) > 16 or hyperparameters.settings.get("norm_type", _NORMS[0]) not in _NORMS:
        read = f"{hyperparameters.source} has {len(ratios)} upsampling_ratios, and a norm_type"
        raise ConfigError(read, f"a few, and {' or '.join(_NORMS)}", "correct the keys")
    return Architecture(
        family="encodec", model_type="encodec",
        placements=(
            *_encoder(hyperparameters, ratios),
            *_decoder(hyperparameters, ratios),
            *_codebooks(hyperparameters, ratios),
        ),
        num_layers=0, num_heads=0, num_kv_heads=0, notes=(ONCE,),
    )  # fmt: skip


def _encoder(hyperparameters: Hyperparameters, ratios: tuple[int, ...]) -> Iterator[Placement]:
    """Numbers in names count activations too."""
    width, number = hyperparameters.count("num_filters", 32), 1
    kernel = hyperparameters.count("kernel_size", 7)
    yield from _convolution(hyperparameters, "encoder.layers.0", kernel, hyperparameters.count("audio_channels", 1),
                            width)  # fmt: skip
    for ratio in reversed(ratios):
        for _ in range(_residual_layers(hyperparameters)):
            yield from _block(hyperparameters, f"encoder.layers.{number}", width)
            number += 1
        yield from _convolution(hyperparameters, f"encoder.layers.{number + 1}", 2 * ratio, width, 2 * width)
        width, number = 2 * width, number + 2
    yield _recurrent(hyperparameters, f"encoder.layers.{number}.lstm", width)
    last = hyperparameters.count("last_kernel_size", 7)
    yield from _convolution(hyperparameters, f"encoder.layers.{number + 2}", last, width,
                            hyperparameters.count("hidden_size", 128))  # fmt: skip


def _decoder(hyperparameters: Hyperparameters, ratios: tuple[int, ...]) -> Iterator[Placement]:
    width, number = hyperparameters.count("num_filters", 32) * 2 ** len(ratios), 2
    kernel = hyperparameters.count("kernel_size", 7)
    yield from _convolution(hyperparameters, "decoder.layers.0", kernel, hyperparameters.count("hidden_size", 128),
                            width)  # fmt: skip
    yield _recurrent(hyperparameters, "decoder.layers.1.lstm", width)
    for ratio in ratios:
        path = f"decoder.layers.{number + 1}"
        yield from _convolution(hyperparameters, path, 2 * ratio, width, width // 2, transposed=True)
        width, number = width // 2, number + 2
        for _ in range(_residual_layers(hyperparameters)):
            yield from _block(hyperparameters, f"decoder.layers.{number}", width)
            number += 1
    last = hyperparameters.count("last_kernel_size", 7)
    yield from _convolution(hyperparameters, f"decoder.layers.{number + 1}", last, width,
                            hyperparameters.count("audio_channels", 1))  # fmt: skip


def _residual_layers(hyperparameters: Hyperparameters) -> int:
    return hyperparameters.count("num_residual_layers", 1, most=MOST_LAYERS, least=0)


def _block(hyperparameters: Hyperparameters, path: str, width: int) -> Iterator[Placement]:
    inner = hyperparameters.derived("the width of a block", width // hyperparameters.count("compress", 2))
    kernel = hyperparameters.count("residual_kernel_size", 3)
    yield from _convolution(hyperparameters, path + ".block.1", kernel, width, inner)
    yield from _convolution(hyperparameters, path + ".block.3", 1, inner, width)
    if hyperparameters.flag("use_conv_shortcut", True):
        yield from _convolution(hyperparameters, path + ".shortcut", 1, width, width)


def _convolution(
    hyperparameters: Hyperparameters, path: str, kernel: int, inputs: int, outputs: int, transposed: bool = False
) -> Iterator[Placement]:
    """A convolution with bias; transposed, it is stored with its inputs first."""
    shape = (inputs, outputs, kernel) if transposed else (outputs, inputs, kernel)
    at, role = path + ".conv", "convolution"
    yield Placement(at, Vector(name="bias", width=outputs, role=role))
    if hyperparameters.settings.get("norm_type", _NORMS[0]) == _NORMS[0]:
        yield Placement(at, Array(name="weight_g", shape=(shape[0], 1, 1), role="convolution_length"))
        yield Placement(at, Array(name="weight_v", shape=shape, role=role, use=Use.MATMUL))
    else:
        yield Placement(at, Array(name="weight", shape=shape, role=role, use=Use.MATMUL))
        yield Placement(path + ".norm", Norm(width=outputs))


def _recurrent(hyperparameters: Hyperparameters, path: str, width: int) -> Placement:
    layers = hyperparameters.count("num_lstm_layers", 2, most=MOST_LAYERS)
    return Placement(path, Recurrent(cell="lstm", input_size=width, hidden_size=width, num_layers=layers,
                                     kept=False))  # fmt: skip


def _codebooks(hyperparameters: Hyperparameters, ratios: tuple[int, ...]) -> Iterator[Placement]:
    """As many as the widest band needs: each second has `frame_rate` frames of one code of each."""
    rates = hyperparameters.settings.get("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))
    usable = isinstance(rates, list | tuple) and len(rates) > 0 and type(rates[-1]) in (int, float)
    if not usable or not 0 < rates[-1] < 2**20:
        read = f"{hyperparameters.source} has target_bandwidths = {repr(rates)[:60]}"
        raise ConfigError(read, "a list of kilobits a second", "correct the key")
    codes = hyperparameters.count("codebook_size", 1024, least=2)
    frames = math.ceil(hyperparameters.count("sampling_rate", 24000) / math.prod(ratios))
    books = int(1000 * rates[-1] // (frames * math.ceil(math.log2(codes))))
    width = hyperparameters.count("codebook_dim", hyperparameters.count("hidden_size", 128))
    shapes = {"inited": (1,), "cluster_size": (codes,), "embed": (codes, width), "embed_avg": (codes, width)}
    for name, shape in shapes.items():
        block = Array(name=name, shape=shape, role="codes", kind=Kind.BUFFER)
        yield Placement("quantizer.layers.{layer}.codebook", block, range(min(books, MOST_LAYERS)))


FAMILY = Family(
    name="encodec",
    title="EnCodec",
    model_types=("encodec",),
    gguf={},
    source="transformers models/encodec",
    build=build,
)
