"""`weigh prices`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("prices")
@click.argument("text", required=False, default="")
@output.json_option
def command(text: str, as_json: bool) -> None:
    """List dated prices of instances, devices, hosted models and storage.

    TEXT leaves those whose names, cloud, provider or device hold it. Each has its date and its source; prices change.
    """
    from weighbridge import costing
    from weighbridge.show import bills

    found = costing.prices(text)
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(bills.price_lines(found))
