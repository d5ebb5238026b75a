"""Speech2Text: convolutions that shorten a spectrogram fourfold, then an encoder-decoder with biases and a tied head.

Source: transformers `models/speech_to_text/{configuration,modeling}_speech_to_text.py`. A gate halves the channels
after each convolution. Positions are sines that are not stored.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.encoder_decoder import stack
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder with the tied head, or without one."""
    suffix = head_class(hyperparameters, ("Speech2Text",), "ForConditionalGeneration")
    if suffix not in ("ForConditionalGeneration", "Model"):
        raise unknown_class(hyperparameters, ("Speech2TextForConditionalGeneration", "Speech2TextModel"))
    base = "" if suffix == "Model" else "model."
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    convolutions = _convolutions(hyperparameters, base, hidden)
    positions = max(1, hyperparameters.count("max_source_positions", 6000) >> len(convolutions))
    encoder = stack(hyperparameters, base, "encoder")
    decoder = stack(hyperparameters, base, "decoder", positions=positions, offset=encoder.num_layers)
    tied = suffix != "Model" and hyperparameters.flag("tie_embeddings", True)
    table = f"{base}decoder.embed_tokens"
    head = Linear(in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                  tied_to=f"{table}.weight" if tied else None)  # fmt: skip
    return Architecture(
        family="speech_to_text",
        model_type=hyperparameters.model_type,
        placements=(
            *convolutions,
            *encoder.placements(),
            Placement(f"{base}encoder.layer_norm", Norm(width=hidden, role="encoder_norm")),
            Placement(table, Embedding(rows=vocab, width=hidden)),
            *decoder.placements(),
            Placement(f"{base}decoder.layer_norm", Norm(width=hidden, role="final_norm")),
            *([] if suffix == "Model" else [Placement("lm_head", head)]),
        ),
        num_layers=encoder.num_layers + decoder.num_layers,
        num_heads=decoder.num_heads,
        num_kv_heads=decoder.num_heads,
        base_prefix="model.",
        tie_embeddings=tied,
        notes=(f"cross-attention is kept for {positions} positions of the encoder, the most it takes",),
    )


def _convolutions(hyperparameters: Hyperparameters, base: str, hidden: int) -> list[Placement]:
    kernels = hyperparameters.settings.get("conv_kernel_sizes")
    kernels = [5, 5] if kernels is None else kernels
    number = hyperparameters.count("num_conv_layers", 2, most=30)
    listed = isinstance(kernels, list | tuple) and len(kernels) == number
    if not listed or not all(type(kernel) is int and 0 < kernel < 1000 for kernel in kernels):
        raise ConfigError(f"{hyperparameters.source} has conv_kernel_sizes = {repr(kernels)[:60]}",
                          f"{number} whole numbers, one a convolution", "correct the keys")  # fmt: skip
    middle = hyperparameters.count("conv_channels", 1024)
    inputs = hyperparameters.count("input_feat_per_channel", 80) * hyperparameters.count("input_channels", 1)
    placements = []
    for place, kernel in enumerate(kernels):
        outputs = middle if place < number - 1 else 2 * hidden
        block = Convolution(kernel=(kernel,), in_channels=inputs, out_channels=outputs, bias=True,
                            positions=2 ** (number - 1 - place))  # fmt: skip
        placements.append(Placement(f"{base}encoder.conv.conv_layers.{place}", block))
        inputs = middle // 2
    return placements


FAMILY = Family(
    name="speech_to_text",
    title="Speech2Text (fairseq S2T)",
    model_types=("speech_to_text",),
    gguf={},
    source="transformers models/speech_to_text",
    build=build,
)
