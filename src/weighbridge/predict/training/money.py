"""What does a training run cost? Device-hours times the price of one, and everything that is paid beside it.

run      = device-hours x USD an hour
search   = run x share / (1 - share), where trials and failed runs are a share of all arithmetic
exponent = ln(cost / cost) / ln(size / size), by which cost grows with size between two models

Checkpoints are kept for 30 days where nothing is said: assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.hardware.device import Device
from weighbridge.hardware.instances import Instance
from weighbridge.predict.bill import DAYS_A_MONTH, MOST_USD, Price, interrupted, over, spot
from weighbridge.predict.carbon import product
from weighbridge.predict.ownership import Item, TotalCost, parse_item, total_cost
from weighbridge.predict.prices import find_bytes
from weighbridge.units import format_bytes, parse_range

_DATE = re.compile(r"20\d\d-\d\d-\d\d")
Range = tuple[float, float]
USUAL_STORAGE = "s3-standard"
ASSUMED_DAYS = 30.0


def device_price(
    device: Device,
    *,
    usd_per_hour: float | Range | None = None,
    instance: Instance | None = None,
    reserved_years: int | None = None,
    on_spot: bool = False,
) -> Price:
    """What an hour of one device costs: as given, or by the catalogue on demand, reserved or on spot.

    Args:
        device: which device; of an instance, its `rented` one.
        usd_per_hour: a price of one device, or its least and most.
        instance: that is rented, for terms of years.
        reserved_years: 1 or 3.
        on_spot: with what interruptions take; a price that is not given is a share of that on demand.

    Raises:
        UnitError: when a price cannot be, or none is known for the years.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> found = device_price(find_device("a100-sxm-80"), usd_per_hour=(2, 3)).usd_per_hour
        >>> found.low, found.value, found.high
        (2, 2.5, 3)
    """
    if usd_per_hour is not None:
        if reserved_years is not None:
            raise UnitError("a price and a term of years", "one way to pay", "leave the other out")
        low, high = usd_per_hour if isinstance(usd_per_hour, tuple) else (usd_per_hour, usd_per_hour)
        if not 0 <= low <= high <= MOST_USD:
            raise UnitError(f"{low:g} to {high:g} USD an hour", f"0 or more, up to {MOST_USD:g}", "correct it")
        hour = Estimate((low + high) / 2, low, high, "USD/h", Basis.SPECIFIED, "as given")
        return Price(usd_per_hour=interrupted(hour) if on_spot else hour, source="as given",
                     kind="given, spot" if on_spot else "given")  # fmt: skip
    if reserved_years is not None:
        return _reserved(device, instance, reserved_years, on_spot)
    if device.price_usd_per_h is None:
        note = f"no price of {device.title} is known: give one with --price"
        return Price(usd_per_hour=Estimate(None, None, None, "USD/h", Basis.SPECIFIED, note), kind="on demand",
                     source="")  # fmt: skip
    source = device.source_of("price_usd_per_h")
    listed, date = device.price_usd_per_h, _DATE.search(source)
    told = "" if date is None else f", {date[0]}"
    hour = Estimate(listed, listed, listed, "USD/h", Basis.SPECIFIED, f"the list price on demand{told}")
    return Price(usd_per_hour=spot(hour) if on_spot else hour, source=source, date=date[0] if date else None,
                 kind="spot, assumed from the price on demand" if on_spot else "on demand")  # fmt: skip


def _reserved(device: Device, instance: Instance | None, years: int, on_spot: bool) -> Price:
    rates = {} if instance is None else {1: instance.reserved_1_year_usd_per_h, 3: instance.reserved_3_years_usd_per_h}
    rate = rates.get(years)
    if instance is None or rate is None or on_spot:
        read = f"a term of {years} years for {instance.name if instance else device.title}{' on spot' * on_spot}"
        raise UnitError(read, "an instance whose price for it is known", "see `weigh prices`, or give it with --price")
    each = rate / instance.devices
    return Price(usd_per_hour=Estimate(each, each, each, "USD/h", Basis.SPECIFIED, f"reserved for {years} years"),
                 kind=f"reserved for {years} {'year' if years == 1 else 'years'}",
                 source=instance.reserved_source or instance.source,
                 date=None if instance.reserved_date is None else instance.reserved_date.isoformat())  # fmt: skip


def money(device_hours: Estimate, price: Price) -> Estimate:
    """USD of a run.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> price = device_price(find_device("a100-sxm-80"), usd_per_hour=(2, 3))
        >>> usd = money(Estimate.exact(1_720_320, "h"), price)
        >>> usd.low, usd.high
        (3440640.0, 5160960.0)
    """
    return product([device_hours, price.usd_per_hour], "USD", price.usd_per_hour.note or price.kind)


def search(run: Estimate, share: Range) -> Estimate:
    """What trials and failed runs take beside a run, where they are a share of all arithmetic.

    Raises:
        UnitError: when the shares are none from 0 to below 1.

    Example:
        >>> found = search(Estimate(100, 100, 100, "USD", Basis.SPECIFIED), (0.2, 0.5))
        >>> found.low, found.high
        (25.0, 100.0)
    """
    low, high = share
    if not 0 <= low <= high < 1:
        raise UnitError(f"a share of {low:g} to {high:g} for trials", "shares from 0, below 1", "correct them")
    if run.value is None or run.low is None or run.high is None:
        return run
    middle = (low + high) / 2
    least, value, most = (a * b / (1 - b) for a, b in ((run.low, low), (run.value, middle), (run.high, high)))
    told = f"trials and failed runs, {low:.0%} to {high:.0%} of all arithmetic, as given"
    return Estimate(value, least, most, run.unit, Basis.ASSUMED, told)


def checkpoints(size_bytes: int, kept: int, days: float, storage_class: str = USUAL_STORAGE) -> Estimate:
    """USD for keeping so many checkpoints for so many days, at the list price of a class of storage.

    Raises:
        UnitError: when a count is negative or the days are none.
        UnknownNameError: when there is no such class.

    Example:
        >>> round(checkpoints(140_000_000_000, 1, 365.25 / 12).value, 2)
        3.22
    """
    if size_bytes < 0 or kept < 0 or not 0 <= days < math.inf:
        raise UnitError(f"{kept} checkpoints of {size_bytes} bytes for {days:g} days", "0 or more", "correct them")
    return find_bytes(storage_class).month_usd(size_bytes * kept).times(days / DAYS_A_MONTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlay:
    """What is paid beside a run; without any of it, nothing is.

    Args:
        trials: the share of all arithmetic that trials and failed runs take, from the least to the most.
        checkpoints: how many are kept.
        checkpoint_days: for how many days; None for 30, assumed.
        storage_class: where, as `weigh prices` names it; None for `s3-standard`.
        items: costs of the user's own.
    """

    trials: Range | None = None
    checkpoints: int = 0
    checkpoint_days: float | None = None
    storage_class: str | None = None
    items: tuple[Item, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is paid but the run."""
        return self == Outlay()

    def storage(self, checkpoint_bytes: int) -> Estimate | None:
        """USD for the checkpoints of this size; None without any.

        Raises:
            UnitError: when the days are none.
            UnknownNameError: when there is no such class of storage.
        """
        if not self.checkpoints:
            return None
        days = ASSUMED_DAYS if self.checkpoint_days is None else self.checkpoint_days
        paid = checkpoints(checkpoint_bytes, self.checkpoints, days, self.storage_class or USUAL_STORAGE)
        told = f"{self.checkpoints} of {format_bytes(checkpoint_bytes)} for {days:g} days, {paid.note}"
        if self.checkpoint_days is None:
            return replace(paid, basis=Basis.ASSUMED, note=f"{told}; the days are assumed")
        return replace(paid, note=told)


def outlay(
    *, trials: str | None = None, items: Sequence[str] = (), checkpoints: int = 0, storage_class: str | None = None,
    checkpoint_days: float | None = None,
) -> Outlay:  # fmt: skip
    """What is paid beside a run, as the options of `weigh train` are written.

    Raises:
        UnitError: for what is none of these, and for a place or days of checkpoints without any.

    Example:
        >>> outlay(trials="0.15-0.3").trials, outlay(items=["data=5000"]).items[0].usd.value
        ((0.15, 0.3), 5000.0)
    """
    if not checkpoints and (storage_class is not None or checkpoint_days is not None):
        raise UnitError("a place or days of checkpoints", "how many are kept", "add --checkpoints")
    return Outlay(trials=None if trials is None else parse_range(trials), checkpoints=checkpoints,
                  checkpoint_days=checkpoint_days, storage_class=storage_class,
                  items=tuple(parse_item(item) for item in items))  # fmt: skip


def project(
    run: Estimate, *, trials: Range | None = None, storage: Estimate | None = None, items: Sequence[Item] = ()
) -> TotalCost:
    """All that a model costs until it is trained: the run, trials, checkpoints, and items of the user's own.

    Items that come again are paid for a year.

    Example:
        >>> from weighbridge.predict.ownership import parse_item
        >>> usd = Estimate(1e6, 1e6, 1e6, "USD", Basis.SPECIFIED)
        >>> project(usd, trials=(0.5, 0.5), items=[parse_item("data=100000")]).total.value
        2100000.0
    """
    paid = [Item(name="the run", usd=run, every="once")]
    if trials is not None:
        paid.append(Item(name="trials and failed runs", usd=search(run, trials), every="once"))
    if storage is not None:
        paid.append(Item(name="checkpoints", usd=storage, every="once"))
    return total_cost([*paid, *items], 1)


def cost_exponent(small: tuple[float, Estimate], large: tuple[float, Estimate]) -> Estimate:
    """The power of size by which cost grows between two models, each a size and its cost.

    Raises:
        UnitError: when sizes or costs are not above 0, or the sizes are the same.

    Example:
        >>> costs = [Estimate(x, x, x, "USD", Basis.SPECIFIED) for x in (1e6, 4e6)]
        >>> cost_exponent((1e9, costs[0]), (2e9, costs[1])).value
        2.0
    """
    (size, less), (larger, more) = small, large
    basis = weakest([less.basis, more.basis])
    for cost in (less, more):
        if cost.value is None or cost.low is None or cost.high is None:
            return Estimate(None, None, None, "", basis, cost.note)
        if cost.low <= 0:
            raise UnitError(f"a cost of {cost.low:g}", "costs above 0", "correct it")
    if not 0 < size < larger:
        raise UnitError(f"sizes of {size:g} and {larger:g}", "two above 0, the smaller first", "correct them")
    ratio, log = over(more, less, ""), math.log(larger / size)
    assert ratio.low is not None and ratio.value is not None and ratio.high is not None
    low, value, high = (math.log(one) / log for one in (ratio.low, ratio.value, ratio.high))
    return Estimate(value, low, high, "", basis)
