"""Parakeet: a Fast Conformer over a spectrogram that is shortened eight times, with letters, an RNN-T or a TDT on it.

Source: transformers `models/parakeet` (Rekesh et al. 2023). A transducer predicts from an LSTM over what was said and
the encoder's frame together; TDT predicts how many frames to skip, too.
"""

from __future__ import annotations

import math

from weighbridge.errors import ConfigError
from weighbridge.model import decoder
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.recurrent import Recurrent
from weighbridge.model.composite import optional_part, with_defaults
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE
from weighbridge.model.tensors import Component

_CLASSES = {"parakeet_encoder": "ParakeetEncoder", "parakeet_ctc": "ParakeetForCTC",
            "parakeet_rnnt": "ParakeetForRNNT", "parakeet_tdt": "ParakeetForTDT"}  # fmt: skip
_DEFAULTS = {"hidden_size": 1024, "num_layers": 24, "num_heads": 8, "intermediate_size": 4096}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder, with what the model type puts on it."""
    kind = hyperparameters.model_type
    if hyperparameters.classes not in ((), (_CLASSES[kind],)):
        raise unknown_class(hyperparameters, (_CLASSES[kind],))
    whole = kind == "parakeet_encoder"
    part = with_defaults(hyperparameters if whole else optional_part(hyperparameters, "encoder_config"), _DEFAULTS)
    part.refuse("head_dim", "which is not described")
    base, width, heads = "" if whole else "encoder.", part.count("hidden_size"), part.count("num_heads")
    layers = range(part.count("num_layers", most=MOST_LAYERS))
    top: list[Placement] = []
    if kind == "parakeet_ctc":
        letters = Convolution(kernel=(1,), in_channels=width, out_channels=hyperparameters.count("vocab_size", 1025),
                              bias=True, component=Component.HEAD)  # fmt: skip
        top = [Placement("ctc_head", letters)]
    elif not whole:
        top = _transducer(hyperparameters, width)
    return Architecture(
        family="parakeet", model_type=kind,
        placements=(
            *_shortening(part, base + "subsampling", width),
            *(Placement(f"{base}layers.{{layer}}.{path}", block, layers) for path, block in _layer(part, width, heads)),
            *top,
        ),
        num_layers=len(layers), num_heads=heads, num_kv_heads=part.count("num_kv_heads", heads), notes=(ONCE,),
    )  # fmt: skip


def _shortening(part: Hyperparameters, path: str, width: int) -> list[Placement]:
    """Strided convolutions, depthwise but for the first, and a map of all that is left of a frame's frequencies."""
    channels, size = part.count("subsampling_conv_channels", 256), part.count("subsampling_conv_kernel_size", 3)
    times, stride = int(math.log2(part.count("subsampling_factor", 8))), part.count("subsampling_conv_stride", 2)
    left = part.derived("what is left of the frequencies", part.count("num_mel_bins", 80) // stride**times)
    placements = [Placement(path + ".layers.0", Convolution(kernel=(size, size), in_channels=1, out_channels=channels,
                                                            bias=True))]  # fmt: skip
    depthwise = Convolution(
        kernel=(size, size), in_channels=channels, out_channels=channels, groups=channels, bias=True
    )
    pointwise = Convolution(kernel=(1, 1), in_channels=channels, out_channels=channels, bias=True)
    for number in range(2, 3 * times - 1, 3):  # an activation stands behind the first, and behind each pair
        placements += [Placement(f"{path}.layers.{number}", depthwise),
                       Placement(f"{path}.layers.{number + 1}", pointwise)]  # fmt: skip
    return [*placements, Placement(path + ".linear", Linear(in_features=channels * left, out_features=width))]


def _layer(part: Hyperparameters, width: int, heads: int) -> list[tuple[str, Block]]:
    """The parts of every layer, by their paths in it."""
    size, biased = part.divided("head_dim", width, heads), part.flag("attention_bias", True)
    mixed = part.flag("convolution_bias", True)
    attention = decoder.attention(part, qkv_bias=biased, output_bias=biased, causal=False)
    dense = FeedForward(hidden_size=width, intermediate_size=part.count("intermediate_size"), gate=None, up="linear1",
                        down="linear2", bias=biased)  # fmt: skip
    depthwise = Convolution(kernel=(part.count("conv_kernel_size", 9),), in_channels=width, out_channels=width,
                            groups=width, bias=mixed)  # fmt: skip
    return [
        ("feed_forward1", dense),
        ("self_attn", attention),
        *(("self_attn", Array(name=name, shape=(heads, size), component=Component.ATTENTION))
          for name in ("bias_u", "bias_v")),
        ("self_attn.relative_k_proj", Linear(in_features=width, out_features=width, bias=False,
                                             component=Component.ATTENTION)),
        ("conv.pointwise_conv1", Convolution(kernel=(1,), in_channels=width, out_channels=2 * width, bias=mixed)),
        ("conv.depthwise_conv", depthwise),
        ("conv.norm", Norm(width=width, running_statistics=True)),
        ("conv.pointwise_conv2", Convolution(kernel=(1,), in_channels=width, out_channels=width, bias=mixed)),
        ("feed_forward2", dense),
        *((f"norm_{name}", Norm(width=width))
          for name in ("feed_forward1", "self_att", "conv", "feed_forward2", "out")),
    ]  # fmt: skip


def _transducer(hyperparameters: Hyperparameters, width: int) -> list[Placement]:
    """An LSTM over the tokens so far, and a head over its output and the encoder's, brought to one width."""
    inner, tokens = hyperparameters.count("decoder_hidden_size", 640), hyperparameters.count("vocab_size", 8193)
    durations = hyperparameters.settings.get("durations", (0, 1, 2, 3, 4))
    skips = 0
    if hyperparameters.model_type == "parakeet_tdt":
        if not isinstance(durations, list | tuple):
            read = f"{hyperparameters.source} has durations = {repr(durations)[:60]}"
            raise ConfigError(read, "a list of numbers of frames", "correct the key")
        skips = len(durations)
    memory = Recurrent(cell="lstm", input_size=inner, hidden_size=inner,
                       num_layers=hyperparameters.count("num_decoder_layers", 2, most=MOST_LAYERS))  # fmt: skip
    head = Linear(in_features=inner, out_features=tokens + skips, role="head", component=Component.HEAD)
    return [
        Placement("encoder_projector", Linear(in_features=width, out_features=inner)),
        Placement("decoder.embedding", Embedding(rows=tokens, width=inner)),
        Placement("decoder.lstm", memory),
        Placement("decoder.decoder_projector", Linear(in_features=inner, out_features=inner)),
        Placement("joint.head", head),
    ]


FAMILY = Family(
    name="parakeet",
    title="Parakeet: CTC, RNN-T, TDT",
    model_types=tuple(_CLASSES),
    gguf={},
    source="transformers models/parakeet",
    build=build,
)
