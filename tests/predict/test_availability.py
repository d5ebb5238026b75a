"""Are availabilities those that hand-computed points, exact fractions and a published run give?"""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.errors import UnitError
from weighbridge.predict.availability import all_up, at_least_up, expected_down, mtbf_of, share_up, spares


def exact(needed: int, replicas: int, up: Fraction) -> Fraction:
    terms = (math.comb(replicas, k) * up**k * (1 - up) ** (replicas - k) for k in range(needed, replicas + 1))
    return sum(terms, Fraction(0))


def test_points_by_hand() -> None:
    assert all_up(8, 0.99) == pytest.approx(0.9227446944279201, rel=1e-12)  # 0.99^8
    assert at_least_up(10, 11, 0.99) == pytest.approx(0.99**11 + 11 * 0.99**10 * 0.01, rel=1e-12)
    assert expected_down(100, 0.97) == pytest.approx(3.0)
    # 0.99^10 = 0.9044; with one spare 0.9948; with two 0.99980
    assert [spares(10, 0.99, target) for target in (0.9, 0.95, 0.9948, 0.995, 0.9997, 0.9999)] == [0, 1, 1, 2, 2, 3]


def test_the_published_training_run() -> None:
    """Llama 3: 419 unexpected interruptions in 54 days on 16,384 GPUs (arXiv:2407.21783, table 5)."""
    hours = 54 * 24
    of_one = hours * 16_384 / 419
    assert mtbf_of(16_384, of_one) == pytest.approx(hours / 419)
    assert 3.0 < mtbf_of(16_384, of_one) < 3.2  # about one in three hours
    assert all_up(8, share_up(of_one, 24)) == pytest.approx((of_one / (of_one + 24)) ** 8)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20))
def test_tails_are_those_of_exact_fractions(needed: int, replicas: int, twentieths: int) -> None:
    up = Fraction(twentieths, 20)
    assert at_least_up(needed, replicas, float(up)) == pytest.approx(float(exact(needed, replicas, up)), abs=1e-12)


@given(st.integers(1, 200), st.floats(0.5, 0.9999), st.floats(0.5, 0.99999))
def test_spares_are_enough_and_one_less_is_not(needed: int, up: float, target: float) -> None:
    found = spares(needed, up, target)
    assert at_least_up(needed, needed + found, up) >= target
    assert found == 0 or at_least_up(needed, needed + found - 1, up) < target


def test_large_services_do_not_overflow() -> None:
    found = spares(10_000, 0.98, 0.999)
    middle, deviation = 10_000 / 0.98 - 10_000, math.sqrt(10_000 / 0.98 * 0.02 / 0.98)
    assert middle + 2.5 * deviation < found < middle + 3.7 * deviation  # the normal limit has 3.09 deviations


def test_rare_failures_are_not_lost_in_rounding() -> None:
    assert 1 - at_least_up(1, 4, 0.999) == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize("call", [
    lambda: all_up(0, 0.9), lambda: all_up(2, 1.1), lambda: at_least_up(-1, 2, 0.5), lambda: share_up(0, 0),
    lambda: share_up(math.nan, 1), lambda: spares(3, 0.9, 1.0), lambda: spares(3, 0.0, 0.5), lambda: spares(3, 0.9, 0),
    lambda: spares(500_000, 0.1, 0.9), lambda: at_least_up(1, 2, math.nan),
])  # fmt: skip
def test_what_is_no_share_or_cannot_be_reached_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(UnitError):
        call()


def test_edges() -> None:
    assert spares(0, 0.5, 0.9) == 0 and spares(5, 1.0, 1.0) == 0
    assert at_least_up(0, 0, 0.5) == 1.0 and at_least_up(3, 2, 1.0) == 0.0
