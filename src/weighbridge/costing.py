"""What does serving a model cost, and from how many requests a day is that less than an API asks?

Plan and prices brought together: `weigh cost` is a thin layer over this. The arithmetic is in `predict.bill` and
`predict.ownership`, the prices in `predict.prices` and `hardware.instances`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, FormatError, SourceError, UnitError, UnknownNameError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.catalogue import devices
from weighbridge.hardware.device import Device
from weighbridge.hardware.instances import Instance, instances, looks_like_instance, unknown_instance
from weighbridge.planning import Plan, fit, rented
from weighbridge.predict import bill as bills
from weighbridge.predict.bill import Bill, BreakEven, Capacity, Load, Offer, Price
from weighbridge.predict.ownership import Item, TotalCost, bought, total_cost
from weighbridge.predict.power import idle_watts
from weighbridge.predict.prices import ApiPrice, BytesPrice, api_prices, bytes_prices, egress_of, find_bytes

HEADROOM = 0.3
"""The share of each machine that is kept for peaks, unless another is given: assumed, as traffic is not even."""
ITSELF = ""
"""The name under which `Terms.accuracies` holds the accuracy of the model that is planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms machines are paid, and what they are held against.

    Without `requests_per_day` the bill is that of one machine that serves `busy` of the time. `usd_per_hour` is the
    price of the whole machine, `machine_usd` its price to buy, for which `buy_listed` takes the catalogue's.
    `accuracies` has the share of right answers of the APIs by name, and of the model itself under `ITSELF`.
    """

    requests_per_day: float | None = None
    headroom: float = HEADROOM
    busy: float = 1.0
    usd_per_hour: float | None = None
    spot: bool = False
    reserved_years: int | None = None
    machine_usd: float | None = None
    buy_listed: bool = False
    write_off_years: float = 3.0
    usd_per_kwh: float | None = None
    hosting_usd_per_month: float = 0.0
    apis: tuple[ApiPrice, ...] = ()
    api_batch: bool = False
    cached_share: float = 0.0
    accuracies: Mapping[str, Estimate] = field(default_factory=dict)
    storage_bytes: int | None = None
    storage_class: str = "s3-standard"
    egress_bytes: int | None = None
    items: tuple[Item, ...] = ()
    years: int | None = None
    growth: float = 0.0
    discount: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costing:
    """What a plan costs on some terms. `fixed_usd_per_day` is paid whatever the traffic is."""

    plan: Plan
    price: Price
    on_demand: Price
    bill: Bill
    load: Load | None
    devices_at_peak: float | None
    storage_usd_per_month: Estimate | None
    egress_usd_per_month: Estimate | None
    fixed_usd_per_day: float
    offers: tuple[Offer, ...]
    break_even: tuple[BreakEven, ...]
    total: TotalCost | None
    api_totals: tuple[tuple[str, Estimate], ...]
    notes: tuple[str, ...]

    @property
    def flips(self) -> list[tuple[str, str]]:
        """Pairs of which the first is cheaper by the request and the second by the correct answer."""
        return bills.flips(self.offers)

    @property
    def cheapest_usd(self) -> float | None:
        """The price of the cheapest request; None where none is known."""
        return self.offers[0].request.value

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh cost --json`."""
        load = self.load
        return {
            "source": self.plan.source, "weights": self.plan.weights.recipe, "runtime": self.plan.service.runtime.name,
            "machine": self.plan.machine.to_json(), "fits": self.plan.memory.fits,
            "prompt_tokens": self.plan.service.prompt_tokens, "output_tokens": self.plan.service.output_tokens,
            "output_tok_s": self.plan.speed.output_tok_s.to_json(),
            "price": self.price.to_json(), "on_demand": self.on_demand.to_json(),
            "load": None if load is None else {
                "requests_per_day": load.requests_per_day, "requests_per_s": load.requests_per_s,
                "headroom": load.headroom, "machines_ideal": load.ideal.to_json(),
                "machines": load.replicas.to_json(), "busy": load.busy.to_json(),
                "devices_at_peak": self.devices_at_peak,
            },
            "bill": self.bill.to_json(),
            "storage_usd_per_month": _json(self.storage_usd_per_month),
            "egress_usd_per_month": _json(self.egress_usd_per_month),
            "fixed_usd_per_day": self.fixed_usd_per_day,
            "offers": [offer.to_json(self.cheapest_usd) for offer in self.offers],
            "flips": [{"cheaper_request": one, "cheaper_correct_answer": other} for one, other in self.flips],
            "break_even": [point.to_json() for point in self.break_even],
            "total_cost": None if self.total is None else {
                **self.total.to_json(),
                "apis": [{"name": name, "usd": usd.to_json()} for name, usd in self.api_totals],
            },
            "notes": list(self.notes),
        }  # fmt: skip


def _json(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_json()


def cost(source: Any, on: str, terms: Terms | None = None, **options: Any) -> Costing:
    """What a model costs on a machine.

    Args:
        source: what `fit` takes.
        on: a device, or an instance of a cloud.
        terms: prices, traffic and what it is held against.
        options: those of `fit`.

    Raises:
        WeighbridgeError: when no plan can be made, or the terms contradict each other.

    Example:
        >>> dear = cost("llama-2-70b", "a100-sxm-80", Terms(usd_per_hour=4.0), devices=2, output_tokens=100)
        >>> dear.bill.million_output_tokens.value > 20
        True
    """
    plan = fit(source, on, **options, alternatives=False)
    return costing(plan, rented(on, options.get("own_devices", ()))[1], terms or Terms())


def costing(plan: Plan, instance: Instance | None, terms: Terms) -> Costing:
    """What a plan costs; with its instance, where it stands on one.

    Raises:
        UnitError: when the terms contradict each other.
    """
    _check(terms)
    one = bills.capacity(plan.speed.output_tok_s, plan.speed.prefill_tok_s, plan.service.prompt_tokens,
                         plan.service.output_tokens)  # fmt: skip
    on_demand = _on_demand(plan, instance)
    load = None if terms.requests_per_day is None else bills.load(terms.requests_per_day, one, terms.headroom)
    busy = Estimate(terms.busy, terms.busy, terms.busy, "share", Basis.SPECIFIED) if load is None else load.busy
    price = _price(plan, instance, terms, on_demand, busy)
    bill = bills.bill(price.usd_per_hour, one, load, 1.0 if load else terms.busy)
    storage = find_bytes(terms.storage_class)
    kept = None if terms.storage_bytes is None else storage.month_usd(terms.storage_bytes)
    sent = None if terms.egress_bytes is None else egress_of(storage).month_usd(terms.egress_bytes)
    fixed = _fixed_usd_per_day(terms, kept, sent)
    offers, points = _held_against(plan, terms, price, one, bill, fixed)
    total = _total(terms, bill, kept, sent)
    notes = list(plan.notes)
    if price.usd_per_hour.value is None:
        notes.append(price.usd_per_hour.note)
    if load is None and terms.busy == 1.0:
        notes.append("the bill is that of one machine that serves all the time that is paid")
    if plan.service.sequences == 1:
        notes.append("one sequence at a time: --batch or --concurrency share an hour among more")
    return Costing(
        plan=plan, price=price, on_demand=on_demand, bill=bill, load=load, devices_at_peak=_at_peak(plan, load),
        storage_usd_per_month=kept, egress_usd_per_month=sent, fixed_usd_per_day=fixed,
        offers=tuple(bills.ladder(offers)), break_even=tuple(points), total=total,
        api_totals=_api_totals(terms, plan) if total else (), notes=tuple(notes),
    )  # fmt: skip


_DATE = re.compile(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b")


def _check(terms: Terms) -> None:
    """Refuses what would be left aside in silence."""
    if not 0 <= terms.headroom < 1:
        raise UnitError(f"a headroom of {terms.headroom:g}", "a share of 0 or more, below 1", "correct it")
    bought_one = terms.machine_usd is not None or terms.buy_listed
    placed = terms.storage_bytes is not None or terms.egress_bytes is not None
    traffic = terms.requests_per_day is not None or bool(terms.apis)
    given = Terms()
    idle = [
        (terms.usd_per_kwh is not None or terms.hosting_usd_per_month != 0, bought_one, "--electricity and --hosting",
         "--buy"),
        (terms.write_off_years != given.write_off_years, bought_one, "--write-off", "--buy"),
        (terms.api_batch or terms.cached_share != 0, bool(terms.apis), "--api-batch and --cached", "--api"),
        (terms.growth != 0 or terms.discount != 0, terms.years is not None, "--growth and --discount", "--years"),
        (terms.headroom != given.headroom, traffic, "--headroom", "--requests-per-day or --api"),
        (terms.storage_class != given.storage_class, placed, "--storage-class", "--storage or --egress"),
        (bool(terms.items), bool(terms.apis) or terms.years is not None, "--item", "--years or --api"),
    ]  # fmt: skip
    for told, used, options, missing in idle:
        if told and not used:
            raise UnitError(f"{options} without {missing}", f"{missing} beside them", "add it, or leave them out")
    if terms.requests_per_day is not None and terms.busy != 1.0:
        read = f"{terms.requests_per_day:g} requests a day, and machines busy for {terms.busy:g} of the time"
        raise UnitError(read, "one of them: the other follows", "leave --busy or --requests-per-day out")


def _price(plan: Plan, instance: Instance | None, terms: Terms, on_demand: Price, busy: Estimate) -> Price:
    ways = {"--price": terms.usd_per_hour, "--reserved": terms.reserved_years,
            "--buy": terms.machine_usd if not terms.buy_listed else True}  # fmt: skip
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1 or (terms.spot and terms.usd_per_hour is None and given):
        told = " and ".join([*given, *(["--spot"] if terms.spot else [])])
        raise UnitError(f"{told} together", "one way to pay", "leave the others out")
    if terms.buy_listed or terms.machine_usd is not None:
        return _bought(plan, terms, busy)
    if terms.usd_per_hour is not None:
        if not 0 <= terms.usd_per_hour <= bills.MOST_USD:
            raise UnitError(f"{terms.usd_per_hour:g} USD an hour", f"0 or more, up to {bills.MOST_USD:g}", "correct it")
        hour = _exactly(terms.usd_per_hour, "as given")
        return Price(usd_per_hour=bills.interrupted(hour) if terms.spot else hour,
                     kind="given, spot" if terms.spot else "given", source="as given")  # fmt: skip
    if terms.reserved_years is not None:
        return _reserved(plan, instance, terms.reserved_years)
    if not terms.spot or on_demand.usd_per_hour.value is None:
        return on_demand
    return replace(
        on_demand, usd_per_hour=bills.spot(on_demand.usd_per_hour), kind="spot, assumed from the price on demand"
    )


def _on_demand(plan: Plan, instance: Instance | None) -> Price:
    device = plan.machine.device
    if device.price_usd_per_h is None:
        note = f"no price of {instance.name if instance else device.title} is known: give one with --price"
        return Price(
            usd_per_hour=Estimate(None, None, None, "USD/h", Basis.SPECIFIED, note), kind="on demand", source=""
        )
    source = device.source_of("price_usd_per_h")
    hour = _exactly(device.price_usd_per_h * plan.machine.devices, "")
    date = _DATE.search(source)
    return Price(usd_per_hour=hour, kind="on demand", source=source, date=date[0] if date else None)


def _exactly(usd_per_hour: float, note: str) -> Estimate:
    return Estimate(usd_per_hour, usd_per_hour, usd_per_hour, "USD/h", Basis.SPECIFIED, note)


def _reserved(plan: Plan, instance: Instance | None, years: int) -> Price:
    rates = {} if instance is None else {1: instance.reserved_1_year_usd_per_h, 3: instance.reserved_3_years_usd_per_h}
    rate = rates.get(years)
    if instance is None or rate is None:
        where = instance.name if instance else plan.machine.device.title
        read = f"a term of {years} {'year' if years == 1 else 'years'} for {where}"
        raise UnitError(read, "an instance whose price for it is known", "see `weigh prices`, or give it with --price")
    hour = _exactly(rate * plan.machine.devices / instance.devices, "")
    return Price(usd_per_hour=hour, kind=f"reserved for {years} {'year' if years == 1 else 'years'}",
                 source=instance.reserved_source or instance.source,
                 date=None if instance.reserved_date is None else instance.reserved_date.isoformat())  # fmt: skip


def _bought(plan: Plan, terms: Terms, busy: Estimate) -> Price:
    """A machine takes the plan's watts for the share of the time that it is busy, and those of waiting for the rest.

    The joules are those of the plan's energy; times its tokens a second they are watts.
    """
    device = plan.machine.device
    machine_usd, source = terms.machine_usd, "as given"
    if machine_usd is None:
        if device.price_usd is None:
            raise UnitError(f"the listed price of {device.title}", "one that is known", "give it in USD with --buy")
        machine_usd, source = device.price_usd * plan.machine.devices, device.source_of("price_usd")
    if terms.usd_per_kwh is None:
        raise UnitError("a machine to buy without a price of electricity", "USD a kilowatt-hour", "add --electricity")
    joules, rate = plan.to_json()["energy"]["j_per_output_token"], plan.speed.output_tok_s
    idle = idle_watts(plan.machine)
    if joules["value"] is None or rate.value is None or rate.low is None or rate.high is None:
        watts = Estimate(None, None, None, "W", Basis.ASSUMED, joules["note"] or rate.note)
    else:
        full = sorted((joules["low"] * rate.high, joules["value"] * rate.value, joules["high"] * rate.low))
        ends = ((idle.low, busy.low), (idle.value, busy.value), (idle.high, busy.high))
        means = sorted(work * (share or 0.0) + (waiting or 0.0) * (1 - (share or 0.0))
                       for work, (waiting, share) in zip(full, ends, strict=True))  # fmt: skip
        watts = Estimate(means[1], means[0], means[2], "W", Basis.ASSUMED)
    hour = bought(machine_usd, terms.write_off_years, watts, terms.usd_per_kwh, terms.hosting_usd_per_month)
    date = _DATE.search(source)
    return Price(usd_per_hour=hour, kind="bought", source=source, date=date[0] if date else None)


def _at_peak(plan: Plan, load: Load | None) -> float | None:
    per_token = plan.inspection.flops_per_token
    peak = plan.machine.device.peak_flops_per_s("bf16")
    if load is None or per_token is None or peak is None:
        return None
    tokens = plan.service.prompt_tokens + plan.service.output_tokens
    return bills.at_peak(per_token * tokens, load.requests_per_s, peak)


def _fixed_usd_per_day(terms: Terms, kept: Estimate | None, sent: Estimate | None) -> float:
    month = sum(part.value or 0.0 for part in (kept, sent) if part is not None) / bills.DAYS_A_MONTH
    days = {"once": (terms.years or 1) * bills.DAYS_A_YEAR, "month": bills.DAYS_A_MONTH, "year": bills.DAYS_A_YEAR}
    return month + sum((item.usd.value or 0.0) / days[item.every] for item in terms.items)


def _held_against(
    plan: Plan, terms: Terms, price: Price, one: Capacity, bill: Bill, fixed: float
) -> tuple[list[Offer], list[BreakEven]]:
    where = f"{plan.machine.devices} x {plan.machine.device.title}"
    itself = f"{plan.source} in {plan.weights.recipe} on {where}"
    offers = [Offer(name=itself, request=bill.request, source=price.source, date=price.date,
                    accuracy=terms.accuracies.get(ITSELF))]  # fmt: skip
    points = []
    strangers = terms.accuracies.keys() - {ITSELF, *(api.name for api in terms.apis)}
    if strangers:
        read = f"an accuracy of {', '.join(sorted(strangers))}"
        raise UnitError(read, "one of the model, or of an API that is named", "name it with --api")
    for api in terms.apis:
        request = api.request_usd(one.prompt_tokens, one.output_tokens, cached_share=terms.cached_share,
                                  batch=terms.api_batch)  # fmt: skip
        date = None if api.checked is None else api.checked.isoformat()
        offers.append(Offer(name=api.name, request=request, source=api.source, date=date,
                            accuracy=terms.accuracies.get(api.name)))  # fmt: skip
        assert request.value is not None
        points.append(bills.break_even(api.name, request.value, price.usd_per_hour, one, terms.headroom, fixed))
    return offers, points


def _total(terms: Terms, bill: Bill, kept: Estimate | None, sent: Estimate | None) -> TotalCost | None:
    if terms.years is None:
        return None
    items = [Item(name="machines", usd=bill.year, every="year", grows=True)]
    items += [Item(name="storage", usd=kept, every="month")] if kept is not None else []
    items += [Item(name="egress", usd=sent, every="month", grows=True)] if sent is not None else []
    return total_cost([*items, *terms.items], terms.years, growth=terms.growth, discount=terms.discount)


def _api_totals(terms: Terms, plan: Plan) -> tuple[tuple[str, Estimate], ...]:
    """What the same requests cost from each API over the years."""
    if terms.requests_per_day is None or terms.years is None:
        return ()
    found = []
    for api in terms.apis:
        request = api.request_usd(plan.service.prompt_tokens, plan.service.output_tokens,
                                  cached_share=terms.cached_share, batch=terms.api_batch)  # fmt: skip
        year = request.times(terms.requests_per_day * bills.DAYS_A_YEAR)
        item = Item(name=api.name, usd=replace(year, unit="USD"), grows=True)
        found.append((api.name, total_cost([item], terms.years, growth=terms.growth, discount=terms.discount).total))
    return tuple(found)


Z_90 = 1.6449
"""Standard errors of a two-sided interval of 90%."""


def accuracy_given(share: float) -> Estimate:
    """An accuracy as a user gives it.

    Raises:
        UnitError: when it is no share above 0 and up to 1.
    """
    if not 0 < share <= 1:
        raise UnitError(f"an accuracy of {share:g}", "a share above 0 and up to 1, such as 0.82", "correct it")
    return Estimate(share, share, share, "share", Basis.ASSUMED, "as given")


def accuracy_of_proof(path: str | Path) -> Estimate:
    """The candidate's accuracy in what `weigh prove --json` wrote, with its score interval of 90% (Wilson 1927).

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when it is no proof.
        ConfigError: when the proof measured no accuracy, or none of its answers was right.
    """
    from weighbridge.prove.intervals import wilson

    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        metrics: Sequence[Mapping[str, Any]] = document["metrics"]
        found = next((metric for metric in metrics if metric["name"] == "accuracy"), None)
        share, count = (float(found["candidate"]), int(found["n"])) if found else (0.0, 0)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})", "a file", "check the path") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{path} is no proof", "what `weigh prove --json` prints", "write it so") from error
    if found is None:
        names = ", ".join(str(metric["name"]) for metric in metrics) or "nothing"
        raise ConfigError(f"{path} measured {names[:200]}", "an accuracy", "prove on answers that are right or wrong")
    if not 0 < share <= 1 or count < 1:
        raise ConfigError(f"{path} has an accuracy of {share:g} of {count}", "one above 0", "prove on other data")
    low, high = wilson(share, count, Z_90)
    return Estimate(share, min(low, share), max(high, share), "share", Basis.MEASURED, f"of {count:,} answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """Prices of all kinds, each with its date and source; `devices` are those that have a price by themselves."""

    instances: tuple[Instance, ...]
    devices: tuple[Device, ...]
    api: tuple[ApiPrice, ...]
    bytes: tuple[BytesPrice, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh prices --json`."""
        return {
            "instances": [instance.to_json() for instance in self.instances],
            "devices": [
                {"name": device.name, "usd": device.price_usd, "usd_per_hour": device.price_usd_per_h,
                 "source": device.sources.get("price_usd"), "source_per_hour": device.sources.get("price_usd_per_h")}
                for device in self.devices
            ],
            "api": [price.to_json() for price in self.api],
            "bytes": [price.to_json() for price in self.bytes],
        }  # fmt: skip


def prices(text: str = "") -> PriceList:
    """Every dated price whose name, cloud, provider or device holds a text.

    Raises:
        UnknownNameError: when there is none; where the text is spelled as an instance, with those of its family.

    Example:
        >>> [instance.devices for instance in prices("p4d.24xlarge").instances]
        [8]
    """
    wanted = text.strip().lower()

    def holds(*names: str) -> bool:
        return any(wanted in name.lower() for name in names)

    found = PriceList(
        instances=tuple(one for one in instances().values() if holds(one.name, one.cloud, one.device)),
        devices=tuple(one for one in devices() if (one.price_usd is not None or one.price_usd_per_h is not None)
                      and holds(*one.names)),
        api=tuple(one for one in api_prices() if holds(one.provider, *one.names)),
        bytes=tuple(one for one in bytes_prices() if holds(one.name, one.cloud)),
    )  # fmt: skip
    if found.instances or found.devices or found.api or found.bytes:
        return found
    if looks_like_instance(text):
        raise unknown_instance(text)
    known = [*(one.name for one in instances().values()), *(one.name for one in api_prices()),
             *(one.name for one in bytes_prices())]  # fmt: skip
    raise UnknownNameError("price", text, known, "see `weigh prices` for all")
