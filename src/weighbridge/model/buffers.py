"""Is a stored tensor learned, or a fixed table that a file happens to hold?

A buffer is stored and loaded like a weight but follows from the configuration or from running statistics, so it is no
parameter. Each rule names a buffer by the end of its name and, where the name alone could be a weight's, by its shape.
Sources: the module code of transformers 4.x/5.x (register_buffer), torch.nn.BatchNorm, and the STFT modules of
published voice-activity detectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from weighbridge.model.encodings import Encoding


@dataclass(frozen=True, slots=True)
class Rule:
    """What the name must match, what the shape must satisfy, and what such a tensor is."""

    name: re.Pattern[str]
    what: str
    shape: Callable[[tuple[int, ...]], bool] = lambda shape: True


def _square_mask(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]


def _rule(name: str, what: str, shape: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> Rule:
    return Rule(re.compile(rf"(?:^|\.)(?:{name})$"), what, shape)


RULES = (
    _rule(r"position_ids|token_type_ids", "a table of the numbers 0, 1, 2 ... or of zeros"),
    _rule(r"inv_freq|rope_freqs(?:\.weight)?|freqs_cis|cos_cached|sin_cached", "rotary frequencies"),
    _rule(r"(?:attn|attention|self_attn)\.bias", "a causal mask", _square_mask),
    _rule(r"masked_bias", "the number that a mask writes", lambda shape: shape in ((), (1,))),
    _rule(r"running_mean|running_var|num_batches_tracked", "running statistics of batch normalisation"),
    _rule(
        r"(?:stft\.|_?stft_?)?(?:forward_|inverse_)?basis(?:_buffer)?", "an STFT basis", lambda shape: len(shape) == 3
    ),
    _rule(r"mel_filters|mel_basis|filter_?bank|window|hann_window", "a fixed filter bank or window"),
)


def buffer_reason(name: str, shape: tuple[int, ...], encoding: Encoding) -> str | None:
    """What a stored tensor is when it is no parameter; None when it may be one.

    Example:
        >>> from weighbridge.model import encodings
        >>> buffer_reason("h.0.attn.bias", (1, 1, 512, 512), encodings.find("uint8"))
        'a causal mask'
        >>> buffer_reason("h.0.attn.c_attn.bias", (1536,), encodings.find("fp32")) is None
        True
    """
    for rule in RULES:
        if rule.name.search(name) and rule.shape(shape):
            return rule.what
    if not encoding.is_float:
        return f"{encoding.name} numbers, which no gradient trains"
    return None
