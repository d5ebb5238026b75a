"""Money of training against published costs and against prices of the catalogue."""

from __future__ import annotations

import datetime
import math

import pytest

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.instances import Instance
from weighbridge.predict.ownership import parse_item
from weighbridge.predict.training.money import checkpoints, cost_exponent, device_price, money, project, search

A100, H100 = find_device("a100-sxm-80"), find_device("h100-sxm")


def hours(count: float) -> Estimate:
    return Estimate(count, count, count, "h", Basis.SPECIFIED)


def usd(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, "USD", Basis.SPECIFIED)


def test_published_costs() -> None:
    """C08: Llama 2 70B in 1.7 million hours at 2 to 3 USD, DeepSeek-V3 at 2, GPT-3 in 355 years of a V100 at 1.50."""
    llama = money(hours(1.7e6), device_price(A100, usd_per_hour=(2, 3)))
    assert (llama.low, llama.high) == (3.4e6, 5.1e6)
    assert money(hours(2_664_000), device_price(find_device("h800"), usd_per_hour=2)).value == 5_328_000
    gpt_3 = money(hours(355 * 8760), device_price(find_device("v100"), usd_per_hour=1.5))
    assert gpt_3.value == pytest.approx(4.66e6, rel=2e-3)


def test_the_catalogue_has_a_date() -> None:
    found = device_price(H100)
    assert found.kind == "on demand" and found.usd_per_hour.value == H100.price_usd_per_h
    assert found.date is not None and found.date in found.source and found.date in found.usd_per_hour.note


def test_spot_is_assumed_and_cheaper() -> None:
    found, listed = device_price(H100, on_spot=True), device_price(H100).usd_per_hour
    assert found.usd_per_hour.basis is Basis.ASSUMED and "spot" in found.kind
    assert (found.usd_per_hour.value or 0) < (listed.value or 0)
    given = device_price(H100, usd_per_hour=1, on_spot=True).usd_per_hour
    assert given.low is not None and given.low > 1, "interruptions take time that is paid"


def test_a_term_of_years() -> None:
    rented = Instance(name="eight", cloud="a", device="h100-sxm", devices=8, source="s",
                      reserved_3_years_usd_per_h=16.0, reserved_date=datetime.date(2026, 1, 1))  # fmt: skip
    found = device_price(H100, instance=rented, reserved_years=3)
    assert found.usd_per_hour.value == 2.0 and found.date == "2026-01-01"
    for refused in ({"instance": rented, "reserved_years": 1}, {"reserved_years": 3},
                    {"instance": rented, "reserved_years": 3, "on_spot": True},
                    {"usd_per_hour": 1.0, "reserved_years": 3}):  # fmt: skip
        with pytest.raises(UnitError):
            device_price(H100, **refused)


def test_a_price_that_nobody_knows_stays_unknown() -> None:
    found = money(hours(10), device_price(find_device("mi350p")))
    assert found.value is None and "--price" in found.note


@pytest.mark.parametrize("price", [-1.0, (3.0, 2.0), math.nan, 1e13])
def test_prices_that_cannot_be_are_refused(price: float | tuple[float, float]) -> None:
    with pytest.raises(UnitError):
        device_price(H100, usd_per_hour=price)


def test_trials_are_a_share_of_all_arithmetic() -> None:
    """C10: where 15 to 30% of the arithmetic is search, a run of 85 has 15 beside it, and one of 70 has 30."""
    assert search(usd(85, 85), (0.15, 0.15)).value == pytest.approx(15)
    found = search(usd(70, 70), (0.15, 0.3))
    assert found.high == pytest.approx(30) and found.basis is Basis.ASSUMED
    with pytest.raises(UnitError):
        search(usd(1, 1), (0.5, 1.0))


def test_cost_grows_with_size_as_the_article_lists_it() -> None:
    """C09: 4.6 million for 175 billion and 15 to 20 for 540 grow by a power of 1.05 to 1.30, and not by 2."""
    found = cost_exponent((175e9, usd(4.6e6, 4.6e6)), (540e9, usd(15e6, 20e6)))
    assert found.low == pytest.approx(1.05, abs=0.005) and found.high == pytest.approx(1.30, abs=0.005)
    for small, large in (((1e9, usd(1, 1)), (1e9, usd(2, 2))), ((2e9, usd(1, 1)), (1e9, usd(2, 2))),
                         ((1e9, usd(0, 0)), (2e9, usd(2, 2)))):  # fmt: skip
        with pytest.raises(UnitError):
            cost_exponent(small, large)


def test_a_project_is_more_than_its_run() -> None:
    kept = checkpoints(1_000_000_000_000, 10, 365.25 / 12)
    assert kept.value == pytest.approx(230), "10 TB at 0.023 USD"
    found = project(usd(1e6, 1e6), trials=(0.2, 0.2), storage=kept,
                    items=[parse_item("data=50000"), parse_item("engineering=100-100h@200-200"),
                           parse_item("tracking=100/month")])  # fmt: skip
    names = [item.name for item in found.items]
    assert names == ["the run", "trials and failed runs", "checkpoints", "data", "engineering", "tracking"]
    assert found.total.value == pytest.approx(1e6 + 250_000 + 230 + 50_000 + 20_000 + 1200)
