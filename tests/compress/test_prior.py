"""Is the expected loss one that published tables bear out, those that were fitted and those that were not?"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.compress import prior
from weighbridge.compress.prior import FACTORS, expected_loss, expected_recovery
from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.estimate import Basis, Estimate

ROOT = Path(__file__).resolve().parents[2]
UNSEEN = json.loads((ROOT / "tests/golden/quality_loss.json").read_text(encoding="utf-8"))["rows"]
TABLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "perf" / "quality_loss.csv"
ACCURACY = (ROOT / "docs/reference/accuracy.md").read_text(encoding="utf-8")

bits = st.floats(0.5, 15.99)
sizes = st.floats(1e6, 1e13)
tokens = st.floats(1e8, 1e14)
schemes = st.sampled_from(sorted(FACTORS))


def known(found: Estimate) -> tuple[float, float, float]:
    assert found.value is not None and found.low is not None and found.high is not None
    return found.low, found.value, found.high


@given(bits, bits, sizes, sizes, tokens, tokens, schemes)
def test_more_bits_a_larger_model_and_fewer_tokens_never_lose_more(
    one: float, other: float, small: float, large: float, few: float, many: float, scheme: str
) -> None:
    (one, other), (small, large), (few, many) = sorted((one, other)), sorted((small, large)), sorted((few, many))
    worst = known(expected_loss(one, small, training_tokens=many, scheme=scheme))
    for better in (
        expected_loss(other, small, training_tokens=many, scheme=scheme),
        expected_loss(one, large, training_tokens=many, scheme=scheme),
        expected_loss(one, small, training_tokens=few, scheme=scheme),
        expected_loss(one, small, training_tokens=many, scheme="blocks"),
    ):
        assert known(better)[1] <= worst[1]
    assert known(expected_loss(other, small, training_tokens=many, scheme=scheme))[2] <= worst[2] * (1 + 1e-9)
    assert 0 < worst[0] < worst[1] < worst[2]


def width(found: Estimate) -> float:
    low, _, high = known(found)
    return high / low


def test_outside_of_what_was_measured_the_interval_widens_and_says_so() -> None:
    inside = expected_loss(4.5, 8e9, training_tokens=2e12)
    assert inside.note == "" and inside.basis is Basis.MODELLED
    assert width(inside) == pytest.approx(prior.HIGH / prior.LOW)
    wider = inside
    for size in (1e9, 135e6, 1e6):
        found = expected_loss(4.5, size, training_tokens=2e12)
        assert width(found) > width(wider) and "extrapolated" in found.note and found.value == inside.value
        wider = found
    for found in (expected_loss(1, 8e9, training_tokens=2e12), expected_loss(12, 8e9, training_tokens=2e12),
                  expected_loss(4.5, 1e12, training_tokens=2e12), expected_loss(4.5, 8e9, training_tokens=1e11),
                  expected_loss(4.5, 8e9, training_tokens=1e14)):  # fmt: skip
        assert width(found) > width(inside) and "extrapolated" in found.note
    unknown = expected_loss(4.5, 8e9)
    assert width(unknown) > width(inside) and "tokens" in unknown.note
    low, _, high = known(unknown)
    for told in (1e12, 15e12):
        assert low <= known(expected_loss(4.5, 8e9, training_tokens=told))[0]
        assert high >= known(expected_loss(4.5, 8e9, training_tokens=told))[2]


def test_sixteen_bits_lose_nothing_and_other_models_are_unknown() -> None:
    for many in (16, 16.002, 32):
        assert known(expected_loss(many, 8e9)) == (0, 0, 0)
    assert known(expected_loss(15.9, 1e9))[2] < 1e-4
    encoder = expected_loss(4.5, 1e8, is_language_model=False)
    assert encoder.value is None and "language models" in encoder.note


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    for numbers in ((bad, 8e9, 2e12), (4, bad, 2e12), (4, 8e9, bad)):
        with pytest.raises(UnitError):
            expected_loss(numbers[0], numbers[1], training_tokens=numbers[2])
    with pytest.raises(UnknownNameError, match="rows"):
        expected_loss(4, 8e9, scheme="row")


def off(pairs: list[tuple[Estimate, float, float]]) -> tuple[float, float]:
    """The share of losses inside the interval, and the median factor by which they are missed, with their blur."""
    inside = [known(found)[0] <= loss + blur and loss - blur <= known(found)[2] for found, loss, blur in pairs]
    factors = [abs(math.log((loss + blur) / (known(found)[1] + blur))) for found, loss, blur in pairs]
    return statistics.mean(inside), math.exp(statistics.median(factors))


def of_unseen(row: dict[str, Any]) -> tuple[Estimate, float, float]:
    found = expected_loss(row["bits"], row["parameters"], training_tokens=row["training_tokens"])
    return found, math.log(row["after"] / row["before"]), 0.0


def test_tables_that_were_not_fitted_are_covered() -> None:
    assert f"{prior.SCALE:g} / 4^bits" in ACCURACY and f"{prior.ROWS_FACTOR:g} where one scale" in ACCURACY
    assert f"{prior.LOW:g} to {prior.HIGH:g} times" in ACCURACY and f"^{prior.TOKENS_EXPONENT:g}" in ACCURACY
    covered, factor = off([of_unseen(row) for row in UNSEEN])
    assert 0.8 <= covered <= 1 and factor < 1.5
    said = re.search(r"(\d+) of (\d+) lay inside, and the median factor was (\d+\.\d+)", ACCURACY)
    assert said is not None
    assert (int(said[1]), int(said[2])) == (round(covered * len(UNSEEN)), len(UNSEEN))
    assert float(said[3]) == pytest.approx(factor, abs=0.005)


@pytest.mark.skipif(not TABLE.exists(), reason="the collected measurements are not there")
def test_the_fitted_table_is_covered_and_the_constants_are_its_own() -> None:
    from benchmarks import fit_quality

    rows, _ = fit_quality.read_rows(TABLE)
    covered, _ = off([(expected_loss(row.bits, row.parameters, training_tokens=row.tokens, scheme=row.scheme),
                       row.loss, row.blur) for row in rows])  # fmt: skip
    assert len(rows) == 50 and 0.8 <= covered <= 1
    scale, factor, exponent = fit_quality.CHOSEN.fit(rows)
    assert math.exp(scale) == pytest.approx(prior.SCALE, rel=0.01)
    assert math.exp(factor) == pytest.approx(prior.ROWS_FACTOR, rel=0.01)
    assert exponent == pytest.approx(prior.TOKENS_EXPONENT, rel=0.01)
    unseen = fit_quality.off(rows, fit_quality.CHOSEN.unseen(rows, fit_quality.by_model))
    median = math.exp(statistics.median(abs(float(one)) for one in unseen))
    assert f"x{median:.2f}" in ACCURACY
    for scheme, kept in fit_quality.read_recoveries(TABLE).items():
        found = expected_recovery(scheme)
        assert found is not None and str(len(kept)) in found.note
        low, _, high = known(found)
        assert statistics.mean(low <= share <= high for _, share in kept) >= 0.8


def test_recoveries_are_of_published_schemes_only() -> None:
    four, rows, two = (expected_recovery(name) for name in ("w4a16", "w4a16-rows", "w2a16"))
    assert four is not None and rows is not None and two is not None
    assert known(four)[1] > known(rows)[1] > known(two)[1] and four.basis is Basis.MODELLED
    assert expected_recovery("w8a8") is None and expected_recovery("fp8") is None
