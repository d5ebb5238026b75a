"""What does a smaller model lose, before anything is measured? The growth of perplexity at so many bits a weight.

The error of rounding halves with each bit, and what a model loses goes with its square: ln(perplexity after / before)
is a / 4^bits. That, a factor for scales that serve a whole row, and a power of the tokens that the model was trained on
are all that published tables support: in them a larger model does not lose less. The interval is that of models and of
sources that the fit had not seen. It is an expectation for models that nobody measured, and no measurement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.estimate import Basis, Estimate

# Fitted with `python benchmarks/fit_quality.py ../shared/data/perf/quality_loss.csv`, which prints these constants.
SCALE = 20.2
ROWS_FACTOR = 3.84
TOKENS_EXPONENT = 0.259
LOW, HIGH = 0.241, 2.02
"""Measured over expected loss: 5% and 95% of models and of sources that the fit had not seen."""
TOKENS = 4e12
"""Tokens of training for which `SCALE` holds: between the least and the most."""

MEASURED_BITS = (1.74, 8.502)
MEASURED_PARAMETERS = (6.7e9, 71e9)
MEASURED_TOKENS = (1e12, 15e12)
WIDENING = 0.5
"""The power by which the interval widens on either side with what lies outside of what was measured: assumed."""

FACTORS: Mapping[str, float] = MappingProxyType({"blocks": 1.0, "rows": ROWS_FACTOR})
"""Ways to quantize: with a scale for each block or a method that corrects its rounding, or with a scale for a row."""

# Printed by the same command: the mean over models, and the 5% and 95% quantiles over rows.
RECOVERIES: Mapping[str, tuple[float, float, float, str]] = MappingProxyType({
    "w4a16": (0.986, 0.957, 1.006, "34 published rows of 6 models"),
    "w4a16-rows": (0.917, 0.848, 0.963, "8 published rows of 4 models"),
    "w2a16": (0.884, 0.746, 0.950, "8 published rows of 8 models, all of MMLU"),
})  # fmt: skip
"""Shares of an accuracy that are kept, by what weights and activations have: bits, or scales for whole rows."""


def expected_loss(
    bits_per_weight: float, parameters: float, *, training_tokens: float | None = None, scheme: str = "blocks",
    is_language_model: bool = True,
) -> Estimate:  # fmt: skip
    """The expected ln(perplexity after / before), with its 90% interval; exp() - 1 of it is the growth of perplexity.

    More bits never lose more, a larger model never loses more at the same bits and tokens, and a model that was trained
    on more tokens never loses less.

    Args:
        bits_per_weight: bits of the file for each weight, scales included.
        parameters: weights of the model.
        training_tokens: tokens that it was trained on; None where that is unknown, which widens the interval.
        scheme: one of `FACTORS`. Tables cannot tell blocks with and without an importance matrix apart.
        is_language_model: whether it predicts a next token; of other models nothing is published here.

    Raises:
        UnitError: when a number is not above 0 and finite.
        UnknownNameError: for another scheme.

    Example:
        >>> found = expected_loss(4.5, 8e9, training_tokens=15e12)
        >>> bool(found.low < 0.06 < found.high), expected_loss(16, 8e9).value
        (True, 0.0)
    """
    for name, value in (("bits a weight", bits_per_weight), ("parameters", parameters), ("tokens", training_tokens)):
        if value is not None and not 0 < value < math.inf:
            raise UnitError(f"{value} {name}", "a finite number above 0", "correct it")
    if scheme not in FACTORS:
        raise UnknownNameError("scheme", scheme, FACTORS, "name one of these")
    if not is_language_model:
        return Estimate(
            None, None, None, "", Basis.MODELLED, "no published losses of models other than language models"
        )
    if bits_per_weight >= 16:
        return Estimate(0.0, 0.0, 0.0, "", Basis.MODELLED, "16 bits or more: no loss that tables show")
    tokens = TOKENS if training_tokens is None else training_tokens
    value = SCALE * 4**-bits_per_weight * FACTORS[scheme] * (tokens / TOKENS) ** TOKENS_EXPONENT
    notes = []
    beyond = math.log(4) * _outside(bits_per_weight, MEASURED_BITS)
    if beyond:
        notes.append(f"published losses are of {MEASURED_BITS[0]:g} to {MEASURED_BITS[1]:g} bits a weight")
    far = _outside(math.log(parameters), _logs(MEASURED_PARAMETERS))
    if far:
        notes.append("published losses are of models of {:.2g} to {:.2g} parameters"
                     .format(*MEASURED_PARAMETERS))  # fmt: skip
    least, most = _logs(MEASURED_TOKENS)
    strange = 0.0
    if training_tokens is None:
        notes.append("tokens of training unknown")
        unknown = TOKENS_EXPONENT * max(most - math.log(TOKENS), math.log(TOKENS) - least)
    else:
        unknown, strange = 0.0, TOKENS_EXPONENT * _outside(math.log(tokens), (least, most))
        if strange:
            notes.append("published losses are of models of {:.2g} to {:.2g} tokens"
                         .format(*MEASURED_TOKENS))  # fmt: skip
    wider = math.exp(unknown + WIDENING * (beyond + far + strange))
    note = ("extrapolated: " if beyond or far or strange else "") + "; ".join(notes)
    return Estimate(value, value * LOW / wider, value * HIGH * wider, "", Basis.MODELLED, note)


def _outside(value: float, bounds: tuple[float, float]) -> float:
    """How far a value lies outside of bounds."""
    return max(bounds[0] - value, value - bounds[1], 0.0)


def _logs(bounds: tuple[float, float]) -> tuple[float, float]:
    return math.log(bounds[0]), math.log(bounds[1])


def expected_recovery(scheme: str) -> Estimate | None:
    """The share of an accuracy that models of a scheme kept, with the range of 90% of published rows.

    `w4a16` are weights of 4 bits with GPTQ, AWQ, rotations or training; `w4a16-rows` are rounded with a scale a row;
    `w2a16` are codes of 2 bits (AQLM). None for any other, `w8a8` among them: no accuracies of it were collected.

    Example:
        >>> expected_recovery("w8a8") is None
        True
    """
    if scheme not in RECOVERIES:
        return None
    value, low, high, note = RECOVERIES[scheme]
    return Estimate(value, low, high, "", Basis.MODELLED, note)
