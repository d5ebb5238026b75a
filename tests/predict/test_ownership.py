"""Do the costs of owning add up by hand, and do the articles' totals come out?"""

from __future__ import annotations

import pytest

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.ownership import Item, bought, labour, parse_item, total_cost


def monthly(name: str, usd: float) -> Item:
    return Item(name=name, usd=Estimate(usd, usd, usd, "USD", Basis.ASSUMED), every="month")


def test_two_years_of_30_000_against_3_000_usd_a_month_differ_by_648_000() -> None:
    large, small = (total_cost([monthly("serving", usd)], 2).total.value for usd in (30_000, 3_000))
    assert large is not None and small is not None
    assert large - small == 648_000
    year = total_cost([monthly("serving", 30_000)], 1).total.value
    assert year == 360_000


def test_two_to_four_weeks_of_an_engineer_are_12_000_to_40_000_usd() -> None:
    """The article has 30,000 to 80,000, which takes two engineers or more."""
    found = labour((2 * 40, 4 * 40), (150, 250))
    assert (found.low, found.high) == (12_000, 40_000)
    assert parse_item("engineering=80-160h@150-250").usd == Estimate(
        26_000, 12_000, 40_000, "USD", Basis.ASSUMED, "hours times a rate, both as given"
    )


def test_growth_and_discount() -> None:
    """1,000 a year growing by a half, discounted by a quarter: 1,000 + 1,200 + 1,440."""
    usd = Estimate(1000, 1000, 1000, "USD", Basis.ASSUMED)
    growing, steady = Item(name="a", usd=usd, grows=True), Item(name="b", usd=usd)
    found = total_cost([growing, steady], 3, growth=0.5, discount=0.25)
    assert found.of(growing).value == pytest.approx(3640)
    assert found.of(steady).value == pytest.approx(1000 + 800 + 640)
    assert found.total.value == pytest.approx(3640 + 2440)


def test_what_comes_once_falls_into_the_first_year() -> None:
    usd = Estimate(500, 400, 600, "USD", Basis.ASSUMED)
    found = total_cost([Item(name="a", usd=usd, every="once", grows=True)], 5, growth=1.0, discount=0.1)
    assert (found.total.low, found.total.value, found.total.high) == (400, 500, 600)


def test_an_hour_of_a_machine_that_was_bought() -> None:
    """26,298 USD over 3 years are 1 USD an hour; 2 kW at a PUE of 1.2 and 0.25 USD are 0.60; 730.5 a month are 1.

    1 kW at a PUE of 1.08 are 0.27, and 4 kW at 1.54 are 1.54.
    """
    watts = Estimate(2000, 1000, 4000, "W", Basis.ASSUMED)
    found = bought(26_298, 3, watts, 0.25, 730.5)
    assert found.value == pytest.approx(1 + 0.6 + 1)
    assert found.low == pytest.approx(2.27)
    assert found.high == pytest.approx(3.54)
    unknown = bought(26_298, 3, Estimate(None, None, None, "W", Basis.ASSUMED, "no power"), 0.25)
    assert unknown.value is None and unknown.note == "no power"


@pytest.mark.parametrize(
    ("text", "low", "high", "every"),
    [("a=5", 5, 5, "once"), ("a b=5-7.5/year", 5, 7.5, "year"), ("x=2h@100/month", 200, 200, "month")],
)
def test_items_are_read(text: str, low: float, high: float, every: str) -> None:
    found = parse_item(text)
    assert (found.usd.low, found.usd.high, found.every) == (low, high, every)


@pytest.mark.parametrize("text", ["", "a", "a=", "a=x", "=5", "a=7-5", "a=5/week", "a=1.2.3", "a=-5", "a=1h@9-8"])
def test_items_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(UnitError):
        parse_item(text)


@pytest.mark.parametrize("years", [0, 31])
def test_impossible_years_are_refused(years: int) -> None:
    with pytest.raises(UnitError):
        total_cost([monthly("a", 1)], years)


def test_impossible_growth_is_refused() -> None:
    with pytest.raises(UnitError):
        total_cost([monthly("a", 1)], 1, growth=float("nan"))
