"""`weigh cost`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weighbridge.cli import output
from weighbridge.cli.fit import plan_options, with_own_devices

if TYPE_CHECKING:
    from weighbridge.costing import Terms

F = TypeVar("F", bound=Callable[..., Any])

_TERMS = (
    click.option("--requests-per-day", type=output.Count(), help="Requests of a day; else one machine is billed."),
    click.option("--headroom", type=float, default=0.3, show_default=True, help="Share of a machine kept for peaks."),
    click.option("--busy", type=float, default=1.0, show_default=True,
                 help="Share of the paid time that one machine serves."),
    click.option("--price", "usd_per_hour", type=float, metavar="USD", help="USD an hour of the whole machine."),
    click.option("--spot", is_flag=True, help="Pay for spot instances, with their interruptions."),
    click.option("--reserved", "reserved_years", type=click.Choice(["1", "3"]), help="Years of a reserved instance."),
    click.option("--buy", metavar="USD", help="Buy the whole machine for so much, or for its `listed` price."),
    click.option("--write-off", "write_off_years", type=float, default=3.0, show_default=True,
                 help="Years in which what was bought is written off."),
    click.option("--electricity", "usd_per_kwh", type=float, metavar="USD", help="USD a kilowatt-hour, with --buy."),
    click.option("--hosting", "hosting_usd_per_month", type=float, default=0.0, metavar="USD",
                 help="USD a month for the place of what was bought."),
    click.option("--api", "apis", multiple=True, metavar="NAME", help="Hold it against a hosted model's list price."),
    click.option("--api-price", metavar="IN/OUT", help="Against a price of your own, in USD a million tokens."),
    click.option("--api-batch", is_flag=True, help="Take the APIs' discount for batches."),
    click.option("--cached", "cached_share", type=float, default=0.0, metavar="SHARE",
                 help="Share of the prompt that the APIs have in their caches."),
    click.option("--accuracy", "accuracies", multiple=True, metavar="[NAME=]SHARE",
                 help="Share of right answers of the model, or of the API of this name."),
    click.option("--proof", type=click.Path(), metavar="FILE", help="Take the model's accuracy from a proof."),
    click.option("--storage", metavar="SIZE", help="Bytes that are kept, such as 140GB."),
    click.option("--storage-class", default="s3-standard", show_default=True, metavar="NAME",
                 help="Where they are kept."),
    click.option("--egress", metavar="SIZE", help="Bytes a month that leave that cloud."),
    click.option("--item", "items", multiple=True, metavar="NAME=USD[/month]",
                 help="A further cost, such as upkeep=900/month or engineering=80-160h@150-250."),
    click.option("--years", type=output.Count(), help="Add everything up over so many years."),
    click.option("--growth", type=float, default=0.0, metavar="SHARE", help="Growth of the traffic a year."),
    click.option("--discount", type=float, default=0.0, metavar="SHARE", help="Discount of later years, a year."),
)  # fmt: skip


def _term_options(function: F) -> F:
    for option in reversed(_TERMS):
        function = option(function)
    return function


@click.command("cost")
@click.argument("source")
@click.option("--on", required=True, metavar="DEVICE", help="A device, or an instance that `weigh prices` lists.")
@_term_options
@plan_options
@output.json_option
def command(source: str, on: str, as_json: bool, **options: Any) -> None:
    """Count what serving a model costs. Each number has its interval, and each price its date.

    SOURCE is what `weigh inspect` takes. Exit code 1 when the model does not fit.
    """
    from weighbridge.costing import Terms, cost

    named = {one.name for one in fields(Terms)} | {"api_price", "proof", "storage", "egress", "buy"}
    terms = _terms({name: options.pop(name) for name in list(options) if name in named})
    found = cost(source, on, terms, **with_own_devices(options))
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import bills

        output.print_lines(bills.cost_lines(found))
    if found.plan.memory.fits is False:
        raise SystemExit(1)


def _terms(given: dict[str, Any]) -> Terms:
    """The terms, from what was typed."""
    from weighbridge import costing
    from weighbridge.errors import UnitError
    from weighbridge.predict.bill import MOST_USD
    from weighbridge.predict.ownership import parse_item
    from weighbridge.predict.prices import ApiPrice, find_api
    from weighbridge.units import parse_bytes

    apis = [find_api(name) for name in given.pop("apis")]
    own = given.pop("api_price")
    if own is not None:
        parts = own.split("/")
        try:
            prompt, answer = (float(part) for part in parts)
            if not (0 <= prompt <= MOST_USD and 0 <= answer <= MOST_USD):
                raise ValueError
        except ValueError as error:
            raise UnitError(f"the price {own[:50]!r}", "two numbers such as 0.9/0.9", "write it so") from error
        apis.append(ApiPrice(name="as given", provider="", input_usd_per_million_tokens=prompt,
                             output_usd_per_million_tokens=answer, checked=None, page="as given"))  # fmt: skip
    accuracies = {}
    for text in given.pop("accuracies"):
        name, _, share = text.rpartition("=")
        try:
            value = float(share)
        except ValueError as error:
            raise UnitError(
                f"the accuracy {text[:50]!r}", "a share such as 0.82, or gpt-4o=0.9", "write it so"
            ) from error
        whose = find_api(name).name if name else costing.ITSELF
        if whose in accuracies:
            raise UnitError(f"two accuracies of {name or 'the model'}", "one of each", "leave the others out")
        accuracies[whose] = costing.accuracy_given(value)
    proof = given.pop("proof")
    if proof is not None:
        if costing.ITSELF in accuracies:
            raise UnitError("an accuracy and a proof of the model", "one of them", "leave the other out")
        accuracies[costing.ITSELF] = costing.accuracy_of_proof(proof)
    buy = given.pop("buy")
    try:
        machine_usd = None if buy in (None, "listed") else float(buy)
    except ValueError as error:
        raise UnitError(f"the price {buy[:50]!r}", "USD such as 2500, or listed", "write it so") from error
    storage, egress, reserved = given.pop("storage"), given.pop("egress"), given.pop("reserved_years")
    return costing.Terms(
        machine_usd=machine_usd, buy_listed=buy == "listed",
        apis=tuple(apis), accuracies=accuracies, items=tuple(parse_item(item) for item in given.pop("items")),
        storage_bytes=None if storage is None else parse_bytes(storage),
        egress_bytes=None if egress is None else parse_bytes(egress),
        reserved_years=None if reserved is None else int(reserved), **given,
    )  # fmt: skip
