"""What does owning cost, over years? A machine that was bought, by the hour; and a list of all costs, item by item.

    USD an hour = price / (years x 8,766 h) + kW x PUE x USD/kWh + hosting / month
    year y      = items that come again x (1 + growth)^y / (1 + discount)^y

Items that come once fall into the first year. Hidden costs, such as engineering, are items like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.bill import DAYS_A_MONTH, DAYS_A_YEAR, MOST_USD
from weighbridge.predict.carbon import ASSUMED_PUE, product

EVERY = {"once": 0, "year": 1, "month": 12}
"""How often an item comes in a year; `once` comes in the first one alone."""
MOST_YEARS = 30


def bought(
    machine_usd: float, years: float, watts: Estimate, usd_per_kwh: float, hosting_usd_per_month: float = 0.0
) -> Estimate:
    """USD an hour of a machine that was bought: written off evenly, with its electricity and its place.

    Raises:
        UnitError: when a price is negative, or the years are none.

    Example:
        >>> watts = Estimate(1000, 800, 1200, "W", Basis.ASSUMED)
        >>> round(bought(87_660, 1, watts, 0.1).value, 2)
        10.12
    """
    if not 0 < years <= MOST_YEARS:
        raise UnitError(f"written off in {years:g} years", f"years above 0 and up to {MOST_YEARS}", "correct it")
    for name, value in (("price", machine_usd), ("kilowatt-hour", usd_per_kwh), ("hosting", hosting_usd_per_month)):
        if not 0 <= value <= MOST_USD:
            raise UnitError(f"a {name} of {value:g} USD", f"0 or more, up to {MOST_USD:g}", "correct it")
    fixed = machine_usd / (years * 24 * DAYS_A_YEAR) + hosting_usd_per_month / (24 * DAYS_A_MONTH)
    if watts.value is None or watts.low is None or watts.high is None:
        return Estimate(None, None, None, "USD/h", watts.basis, watts.note)
    power = product([watts, ASSUMED_PUE], "USD/h", scale=usd_per_kwh / 1000)
    paid = Estimate(fixed, fixed, fixed, "USD/h", Basis.SPECIFIED, "as given")
    return replace(
        Estimate.sum([paid, power]), note=f"written off in {years:g} years, electricity at {ASSUMED_PUE.note}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One cost: how much, how often (`once`, `month` or `year`), and whether it grows with the traffic."""

    name: str
    usd: Estimate
    every: str = "year"
    grows: bool = False

    def __post_init__(self) -> None:
        assert self.every in EVERY, self.every

    def year(self, number: int, growth: float, discount: float) -> Estimate:
        """USD in the year of this number, from 0."""
        if self.every == "once":
            return self.usd.times(1.0 if number == 0 else 0.0)
        return self.usd.times(
            EVERY[self.every] * ((1 + growth) if self.grows else 1.0) ** number / (1 + discount) ** number
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalCost:
    """Every item over the years, in USD."""

    years: int
    growth: float
    discount: float
    items: tuple[Item, ...]

    def of(self, item: Item) -> Estimate:
        """One item over all years."""
        return Estimate.sum(item.year(number, self.growth, self.discount) for number in range(self.years))

    @property
    def total(self) -> Estimate:
        """All items over all years."""
        return Estimate.sum(self.of(item) for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """The part `total_cost` of the JSON document."""
        return {
            "years": self.years, "growth": self.growth, "discount": self.discount,
            "items": [{"name": item.name, "every": item.every, "usd": item.usd.to_json(),
                       "usd_in_all": self.of(item).to_json()} for item in self.items],
            "usd": self.total.to_json(),
        }  # fmt: skip


def total_cost(items: Sequence[Item], years: int, *, growth: float = 0.0, discount: float = 0.0) -> TotalCost:
    """The items over the years.

    Raises:
        UnitError: when there are no items, or the years, the growth or the discount are none that can be.

    Example:
        >>> month = Item(name="difference", usd=Estimate(27_000, 27_000, 27_000, "USD", Basis.ASSUMED), every="month")
        >>> total_cost([month], 2).total.value
        648000.0
    """
    if not items:
        raise UnitError("a total without items", "one item or more", "name one")
    if not 1 <= years <= MOST_YEARS:
        raise UnitError(f"{years} years", f"a whole number from 1 to {MOST_YEARS}", "correct it")
    for name, share in (("growth", growth), ("discount", discount)):
        if not -1 < share < 10:
            raise UnitError(f"a {name} of {share:g}", "a share a year, such as 0.2", "correct it")
    return TotalCost(years=years, growth=growth, discount=discount, items=tuple(items))


def labour(hours: tuple[float, float], usd_per_h: tuple[float, float]) -> Estimate:
    """What work costs: from the fewest hours at the lowest rate to the most at the highest, in USD.

    Example:
        >>> two_to_four_weeks = labour((80, 160), (150, 250))
        >>> two_to_four_weeks.low, two_to_four_weeks.high
        (12000, 40000)
    """
    low, high = hours[0] * usd_per_h[0], hours[1] * usd_per_h[1]
    return Estimate((low + high) / 2, low, high, "USD", Basis.ASSUMED, "hours times a rate, both as given")


_ITEM = re.compile(
    r"(?P<name>[^=]{1,60})=(?P<low>[0-9.]+)(?:-(?P<high>[0-9.]+))?"
    r"(?:h@(?P<rate>[0-9.]+)(?:-(?P<most>[0-9.]+))?)?(?:/(?P<every>once|month|year))?"
)


def parse_item(text: str) -> Item:
    """A cost of the user's own: `NAME=USD[-USD][/once|/month|/year]`, or hours at a rate, `NAME=80-160h@150-250`.

    Without a period it comes once.

    Raises:
        UnitError: for anything else.

    Example:
        >>> parse_item("engineering=80-160h@150-250").usd.high, parse_item("upkeep=900/month").every
        (40000.0, 'month')
    """
    match = _ITEM.fullmatch(text[:200].strip())
    try:
        if match is None:
            raise ValueError
        low = float(match["low"])
        high = float(match["high"] or low)
        rate = float(match["rate"] or 1)
        most = float(match["most"] or rate)
    except ValueError as error:
        shapes = "NAME=USD, NAME=USD-USD/year or NAME=80-160h@150-250"
        raise UnitError(f"the item {text[:100]!r}", shapes, "write it so") from error
    if low > high or rate > most:
        raise UnitError(f"the item {text[:100]!r}", "the smaller number first", "turn them round")
    if high * most > MOST_USD:
        raise UnitError(f"the item {text[:100]!r}", f"at most {MOST_USD:g} USD", "correct it")
    usd = labour((low, high), (rate, most))
    if match["rate"] is None:
        usd = Estimate((low + high) / 2, low, high, "USD", Basis.ASSUMED, "as given")
    return Item(name=match["name"].strip(), usd=usd, every=match["every"] or "once")
