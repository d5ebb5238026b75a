"""Are numbers read as people mean them?"""

from __future__ import annotations

import time

import pytest

from weighbridge.claims.measure import base, combined
from weighbridge.claims.quantity import keys, quantities
from weighbridge.errors import UnitError


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("1.5 GB", 1.5e9, 1.5e9, "byte"),
        ("1.5 GiB", 1.5 * 2**30, 1.5 * 2**30, "byte"),
        ("7-13B", 7e9, 13e9, "1"),
        ("110M-1.5B", 110e6, 1.5e9, "1"),
        ("$30,000-80,000", 30_000, 80_000, "USD"),
        ("$63-78 million", 63e6, 78e6, "USD"),
        ("2.1 x 10^25 FLOPs", 2.1e25, 2.1e25, "FLOP"),
        ("10^25", 1e25, 1e25, "1"),
        ("3.14e23", 3.14e23, 3.14e23, "1"),
        ("1.7M GPU-hours", 1.7e6 * 3600, 1.7e6 * 3600, "device * second"),
        ("688 MWh", 688 * 3.6e9, 688 * 3.6e9, "joule"),
        ("400 W", 400, 400, "joule / second"),
        ("$2 per GPU-hour", 2 / 3600, 2 / 3600, "USD / device / second"),
        ("$0.10 per 1M tokens", 1e-7, 1e-7, "USD / token"),
        ("10M requests/day", 1e7 / 86_400, 1e7 / 86_400, "request / second"),
        ("10M requests daily", 1e7 / 86_400, 1e7 / 86_400, "request / second"),
        ("10M monthly requests", 1e7 / 2_629_800, 1e7 / 2_629_800, "request / second"),
        ("50-80 tok/s", 50, 80, "token / second"),
        ("0.1%", 0.001, 0.001, "1"),
        ("20 tokens per parameter", 20, 20, "token / parameter"),
        ("1.2 tokens/s/GPU", 1.2, 1.2, "token / second"),
        ("4 B/param", 4, 4, "byte / parameter"),
        ("13B parameters per token", 13e9, 13e9, "parameter"),
    ],
)
def test_one_quantity(text: str, low: float, high: float, unit: str) -> None:
    found = quantities(text)[0]
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.unit == unit


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("14; 140; 350 GB", [14e9, 140e9, 350e9]),
        ("280/140/70/35 GB", [280e9, 140e9, 70e9, 35e9]),
        ("140 -> 35 GB", [140e9, 35e9]),
        ("4, 2, 1, 0.5 B", [4, 2, 1, 0.5]),
        ("97; 40; 60%", [0.97, 0.4, 0.6]),
        ("7B 13B 70B", [7e9, 13e9, 70e9]),
    ],
)
def test_a_list_shares_the_unit_of_its_last(text: str, values: list[float]) -> None:
    assert [q.low for q in quantities(text)] == pytest.approx(values)


@pytest.mark.parametrize(
    ("text", "relation"),
    [(">1T", ">"), ("more than 10B", ">"), ("up to 5%", "<="), ("about 70B", "~"), ("85%+", ">="), ("exactly 5B", "=="),
     ("4 B -> 1 B", "=")],
)  # fmt: skip
def test_words_of_comparison(text: str, relation: str) -> None:
    assert quantities(text)[-1].relation == relation


@pytest.mark.parametrize("text", ["GPT-3", "ResNet-50", "H100", "", "no number", "...", "$", "x86", "1e999999", "٣"])
def test_parts_of_names_are_no_quantities(text: str) -> None:
    assert [q for q in quantities(text) if q.unit != "1" or q.low > 1e6] == []


def test_sizes_given_by_name_are_no_quantities() -> None:
    assert keys("d=768 h=12 L=24") == {"d": 768, "h": 12, "L": 24}
    assert quantities("d=768 h=12 L=24") == ()


def test_units_that_do_not_belong_together_do_not_mix() -> None:
    assert base("gigabyte")[1] != base("gigaFLOP")[1]
    assert combined("byte", "token", -1) == (1.0, "byte / token")
    with pytest.raises(UnitError, match="the unit 'furlong'"):
        base("furlong")


@pytest.mark.parametrize("piece", ["1", "1,", "1-", "$", "1 ", "10^", "a ", "7B ", "1 GB, ", "<", "9 x 10^"])
def test_time_is_linear_in_the_text(piece: str) -> None:
    def seconds(count: int) -> float:
        best = float("inf")
        for attempt in range(3):
            text = piece * count + str(attempt)
            start = time.perf_counter()
            quantities(text)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(80_000) < 4 * 4 * max(seconds(20_000), 0.005)
