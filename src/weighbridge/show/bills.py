"""How does a bill read on a terminal? Price, machines, bill, what it is held against, and the years."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.costing import Costing, PriceList
from weighbridge.errors import printable
from weighbridge.estimate import Estimate
from weighbridge.show.plans import amount, figure, service_words, title
from weighbridge.show.tables import bold, table


def cost_lines(found: Costing) -> Iterator[str]:
    """The whole report of `weigh cost`."""
    yield bold(title(found.plan))
    yield service_words(found.plan)
    price = found.price
    told = f", {price.date}" if price.date else ""
    yield printable(f"paid: {price.kind}{told}" + (f" ({price.source})" if price.source else ""))
    if price.kind != found.on_demand.kind and found.on_demand.usd_per_hour.value is not None:
        listed = found.on_demand
        yield f"on demand it would be {amount(listed.usd_per_hour)} USD an hour" + (
            f", {listed.date}" if listed.date else ""
        )
    yield ""
    if found.load is not None:
        load = found.load
        rows = [("requests a second", figure(load.requests_per_s), "exact"),
                _row("machines, busy all the time", load.ideal),
                _row(f"machines, with {load.headroom:.0%} kept for peaks", load.replicas),
                _row("share of their time that they serve", load.busy)]  # fmt: skip
        if found.devices_at_peak is not None:
            rows.append(("devices, were arithmetic at the peak all", figure(found.devices_at_peak), "specified"))
        yield from table("machines", ("quantity", "value", "basis"), rows, right=(1,))
    bill = found.bill
    rows = [_row("an hour", bill.hour), _row("a request", bill.request),
            _row("a million tokens, in and out", bill.million_tokens),
            _row("a million output tokens, all laid on them", bill.million_output_tokens),
            _row("a million input tokens, their own time", bill.million_input_tokens),
            _row("a day", bill.day), _row("a month", bill.month), _row("a year", bill.year)]  # fmt: skip
    if found.storage_usd_per_month is not None:
        rows.append(_row("storage, a month", found.storage_usd_per_month))
    if found.egress_usd_per_month is not None:
        rows.append(_row("egress, a month", found.egress_usd_per_month))
    yield from table("the bill, USD", ("for", "value", "basis"), rows, right=(1,))
    if len(found.offers) > 1 or found.offers[0].accuracy is not None:
        yield from _offers(found)
    if found.break_even:
        points = [(one.api, one.verdict, "-" if one.requests_per_day.value is None else amount(one.requests_per_day),
                   one.reason) for one in found.break_even]  # fmt: skip
        heads = ("API", "", "requests a day", "because")
        yield from table("from how many requests a day this costs less", heads, points, right=(2,))
    if found.total is not None:
        total = found.total
        lines = [_row(f"{item.name} ({item.every})", total.of(item)) for item in total.items]
        lines.append(_row("in all", total.total))
        lines += [_row(f"instead: {name}", usd) for name, usd in found.api_totals]
        years = f"{total.years} {'year' if total.years == 1 else 'years'}"
        terms = f"growth {total.growth:.0%} a year, discount {total.discount:.0%} a year"
        yield from table(f"over {years}, USD ({terms})", ("item", "value", "basis"), lines, right=(1,))
    yield from (f"note: {printable(note)}" for note in found.notes)


def _offers(found: Costing) -> Iterator[str]:
    rows = []
    for offer in found.offers:
        entry = offer.to_json(found.cheapest_usd)
        times, correct = entry["times_cheapest"], offer.correct
        rows.append((offer.name, amount(offer.request), "-" if times is None else f"{times:,.3g}x",
                     "-" if offer.accuracy is None else amount(offer.accuracy),
                     "-" if correct is None else amount(correct)))  # fmt: skip
    heads = ("offer", "USD a request", "", "accuracy", "USD a correct answer")
    yield from table("the ladder, cheapest request first", heads, rows, right=(1, 2, 3, 4))
    for cheaper, better in found.flips:
        yield printable(f"by the request {cheaper} is cheaper, by the correct answer {better} is")
    if found.flips:
        yield ""


def _row(name: str, value: Estimate) -> tuple[str, str, str]:
    return name, amount(value) if value.value is not None else "unknown", value.basis.value


def price_lines(found: PriceList) -> Iterator[str]:
    """The tables of `weigh prices`, of what there is."""
    rows = [(i.name, i.cloud, f"{i.devices} x {i.device}", _usd(i.price_usd_per_h), _usd(i.reserved_1_year_usd_per_h),
             _usd(i.reserved_3_years_usd_per_h), str(i.price_date or "-"), str(i.reserved_date or "-"))
            for i in found.instances]  # fmt: skip
    heads: tuple[str, ...] = (
        "instance",
        "cloud",
        "devices",
        "USD an hour",
        "1 year",
        "3 years",
        "on demand of",
        "reserved of",
    )
    if rows:
        yield from table("instances, on demand and reserved", heads, rows, right=(3, 4, 5))
    rented = [(d.name, _usd(d.price_usd), _usd(d.price_usd_per_h)) for d in found.devices]
    if rented:
        heads = ("device", "USD to buy", "USD an hour")
        yield from table("devices, by themselves (sources: --json)", heads, rented, right=(1, 2))
    hosted = [(a.name, a.provider, _usd(a.input_usd_per_million_tokens), _usd(a.cached_input_usd_per_million_tokens),
               _usd(a.output_usd_per_million_tokens), "-" if a.batch_discount is None else f"{a.batch_discount:.0%}",
               str(a.checked)) for a in found.api]  # fmt: skip
    if hosted:
        heads = ("model", "provider", "input", "cached", "output", "batch", "date")
        yield from table("hosted models, USD a million tokens", heads, hosted, right=(2, 3, 4, 5))
    stored = [(b.name, b.cloud, "GB a month" if b.kind == "storage" else "GB sent", _usd(b.tiers_usd_per_gb[0][1]),
               str(b.checked)) for b in found.bytes]  # fmt: skip
    if stored:
        heads = ("class", "cloud", "USD for a", "first tier", "date")
        yield from table("storage and egress", heads, stored, right=(3,))


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:,.5g}"
