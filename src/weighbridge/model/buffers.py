"""Is a stored tensor learned, or a fixed table that a file happens to hold?

A buffer is stored and loaded like a weight but follows from the configuration or from running statistics, so it is no
parameter. A rule names buffers by the last one or two parts of their names and, where a weight could have that name
too, by their shape. Sources: the module code of transformers 4.x and 5.x (`register_buffer`), torch.nn.BatchNorm and
Keras' BatchNormalization, the STFT modules of published voice-activity detectors, torchaudio's MelScale, torchlibrosa,
nnAudio, BigVGAN's resampling, and llama.cpp's names of rotary factors.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.model.encodings import Encoding

Shape = tuple[int, ...]


def _any(shape: Shape) -> bool:
    return True


def _square_mask(shape: Shape) -> bool:
    return len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]


def _square(shape: Shape) -> bool:
    return len(shape) >= 2 and shape[-1] == shape[-2]


def _one_filter(shape: Shape) -> bool:
    return len(shape) == 3 and shape[:2] == (1, 1)


def _one_channel(shape: Shape) -> bool:
    return len(shape) == 3 and shape[1] == 1


def _one_number(shape: Shape) -> bool:
    return shape in ((), (1,))


def _filter_bank(shape: Shape) -> bool:
    return len(shape) == 3


def _table(shape: Shape) -> bool:
    return len(shape) in (1, 2)


def _whole_spectrum(shape: Shape) -> bool:
    """The real and imaginary rows of all frequencies of a window: n + 2 rows for n samples, as one convolution."""
    return len(shape) == 3 and shape[1] == 1 and shape[0] == shape[2] + 2


_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Shape], bool]], ...] = (
    (("position_ids", "token_type_ids"), "a table of the numbers 0, 1, 2 ... or of zeros", _any),
    (("inv_freq", "original_inv_freq", "rope_freqs", "rope_freqs.weight", "rope_factors_long.weight",
      "rope_factors_short.weight", "rotary_emb.freqs", "freqs_cis", "cos_cached", "sin_cached", "inv_timescales"),
     "rotary frequencies", _any),
    (("attn.bias", "attention.bias", "self_attn.bias", "attn.mask", "attention.mask", "self_attn.mask"),
     "a causal mask", _square_mask),
    (("attn_mask", "causal_mask", "tril"), "a mask", _square),
    (("masked_bias",), "the number that a mask writes", _one_number),
    (("running_mean", "running_var", "num_batches_tracked", "moving_mean", "moving_variance"),
     "running statistics of batch normalisation", _any),
    (("basis", "stft_basis", "forward_basis", "inverse_basis", "forward_basis_buffer", "inverse_basis_buffer"),
     "an STFT basis", _filter_bank),
    (("stft_conv.weight", "stft.conv.weight"), "an STFT basis", _whole_spectrum),
    (("conv_real.weight", "conv_imag.weight", "wsin", "wcos"), "an STFT basis", _one_channel),
    (("filter",), "a fixed filter that changes the sampling rate", _one_filter),
    (("mel_filters", "mel_basis", "filterbank", "filter_bank", "window", "hann_window", "mel_scale.fb", "melW"),
     "a fixed filter bank or window", _table),
)  # fmt: skip

_BY_ENDING = {ending: (what, fits) for endings, what, fits in _RULES for ending in endings}


def named_buffer(name: str, shape: Shape) -> str | None:
    """What a stored tensor is by its name and shape; None when no rule names it."""
    parts = name.rsplit(".", 2)
    for ending in (".".join(parts[-2:]), parts[-1]):
        what, fits = _BY_ENDING.get(ending, ("", _any))
        if what and fits(shape):
            return what
    return None


def buffer_reason(name: str, shape: Shape, encoding: Encoding) -> str | None:
    """What a stored tensor is when it is no parameter, by name, shape or type; None when it may be one.

    Example:
        >>> from weighbridge.model import encodings
        >>> buffer_reason("h.0.attn.bias", (1, 1, 512, 512), encodings.find("uint8"))
        'a causal mask'
        >>> buffer_reason("h.0.attn.c_attn.bias", (1536,), encodings.find("fp32")) is None
        True
    """
    if encoding.is_float:
        return named_buffer(name, shape)
    return named_buffer(name, shape) or f"{encoding.name} numbers, which no gradient trains"
