"""Is a claimed number what was worked out? Equal at the digits stated, within 5%, within 25%, or wrong.

A range that holds the number confirms it. A number of four digits or more is held to its digits: who writes 176.2
billion says that it is not 175.2. Shares are compared on their rarer side, so that 98% and 99.9% are 20 times apart,
not 2%. Counts of things that are whole, as layers, are equal or not.
"""

from __future__ import annotations

import math

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.quantity import Quantity
from weighbridge.estimate import Basis

CLOSE = 0.05
NEAR = 0.25
PRECISE_DIGITS = 4
_ORDER = (Verdict.CONFIRMED, Verdict.CLOSE, Verdict.NEAR, Verdict.UNVERIFIABLE, Verdict.WRONG)
_LOOSE = (Basis.MODELLED, Basis.ASSUMED)


def judge(claimed: tuple[Quantity, ...], answer: Answer) -> Verdict:
    """The verdict of all numbers of a claim: that of the worst of them.

    Example:
        >>> from weighbridge.claims.quantity import quantities
        >>> judge(quantities("13B"), Answer("", (Interval(12_879_925_248, 12_879_925_248),), ())).value
        'confirmed'
        >>> judge(quantities("176.2B"), Answer("", (Interval(175.2e9, 175.2e9),), ())).value
        'wrong'
    """
    if answer.verdict is not None:
        return answer.verdict
    if not claimed or not answer.computed:
        return Verdict.UNVERIFIABLE
    if answer.conventions:
        return min((_all(claimed, (one,), answer.is_whole) for one in answer.computed), key=_ORDER.index)
    return _all(claimed, answer.computed, answer.is_whole)


def _all(claimed: tuple[Quantity, ...], computed: tuple[Interval, ...], is_whole: bool) -> Verdict:
    if len(computed) == 1:
        computed = computed * len(claimed)
    if len(computed) != len(claimed):
        return Verdict.UNVERIFIABLE
    return max((_one(*pair, is_whole) for pair in zip(claimed, computed, strict=True)), key=_ORDER.index)


def _one(claimed: Quantity, found: Interval, is_whole: bool) -> Verdict:
    if not all(map(math.isfinite, (claimed.low, claimed.high, found.low, found.high))):
        return Verdict.UNVERIFIABLE
    if found.is_bound:
        return _bounded(claimed, found)
    if claimed.relation in (">", ">=") and not claimed.is_range:
        return Verdict.CONFIRMED if found.low >= claimed.low * (1 - CLOSE) else _short(found.high, claimed.low)
    if claimed.relation in ("<", "<=") and not claimed.is_range:
        return Verdict.CONFIRMED if found.high <= claimed.high * (1 + CLOSE) else _short(claimed.high, found.low)
    if is_whole:
        return Verdict.CONFIRMED if claimed.low <= found.low and found.high <= claimed.high else Verdict.WRONG
    if claimed.is_share and 0 < found.low <= found.high < 1 >= claimed.high and not _same_digits(claimed, found.value):
        return max(_near(claimed, found), _near(_rest(claimed), Interval(1 - found.high, 1 - found.low,
                   basis=found.basis)) if claimed.high > 0.9 else Verdict.CONFIRMED, key=_ORDER.index)  # fmt: skip
    return _near(claimed, found)


def _rest(share: Quantity) -> Quantity:
    return Quantity(1 - share.high, 1 - share.low, share.unit, share.text, digits=1, relation=share.relation,
                    scale=share.scale)  # fmt: skip


def _bounded(claimed: Quantity, found: Interval) -> Verdict:
    """A limit can only refute: what it allows may still be wrong."""
    if found.is_bound == "least":
        return Verdict.WRONG if claimed.low < found.low * (1 - CLOSE) else Verdict.UNVERIFIABLE
    return Verdict.WRONG if claimed.high > found.high * (1 + CLOSE) else Verdict.UNVERIFIABLE


def _short(has: float, wanted: float) -> Verdict:
    return Verdict.NEAR if wanted > 0 and has >= wanted * (1 - CLOSE) else Verdict.WRONG


def _near(claimed: Quantity, found: Interval) -> Verdict:
    if claimed.low <= found.low and found.high <= claimed.high:
        return Verdict.CONFIRMED
    if claimed.is_range and found.low < found.high:
        return _ranges(claimed, found)
    if claimed.is_range:
        end = claimed.low if found.value < claimed.low else claimed.high
        return _within(abs(end - found.value) / max(abs(found.value), 1e-300))
    if found.low <= claimed.value <= found.high:
        return Verdict.CONFIRMED if found.high <= found.low * (1 + CLOSE) else Verdict.NEAR
    nearest = found.low if claimed.value < found.low else found.high
    if _same_digits(claimed, nearest):
        return Verdict.CONFIRMED
    if claimed.digits >= PRECISE_DIGITS and claimed.relation != "~" and found.basis not in _LOOSE:
        return Verdict.WRONG
    return _within(abs(claimed.value - nearest) / max(abs(nearest), 1e-300))


def _ranges(claimed: Quantity, found: Interval) -> Verdict:
    if found.basis in _LOOSE:
        if found.low <= claimed.low and claimed.high <= found.high:
            return Verdict.NEAR
        if abs(claimed.value - found.value) <= NEAR * found.value:
            return Verdict.NEAR
        if claimed.high < found.low * (1 - NEAR) or claimed.low > found.high * (1 + NEAR):
            return Verdict.WRONG
        return Verdict.UNVERIFIABLE
    ends = ((claimed.low, found.low), (claimed.high, found.high))
    return _within(max(abs(one - other) / max(abs(other), 1e-300) for one, other in ends))


def _within(error: float) -> Verdict:
    return Verdict.CLOSE if error <= CLOSE else Verdict.NEAR if error <= NEAR else Verdict.WRONG


def _same_digits(claimed: Quantity, value: float) -> bool:
    """Whether a value rounds to what was stated, at the digits that were."""
    if value == 0 or claimed.value == 0:
        return value == claimed.value
    unit = 10.0 ** (math.floor(math.log10(abs(claimed.value)) + 1e-12) - claimed.digits + 1)
    if claimed.digits == 1:
        unit = min(unit, 0.1 * abs(claimed.value))  # one digit is often a rounder number than it looks
    return abs(claimed.value - value) <= 0.5 * unit * (1 + 1e-9)
