"""`weigh thresholds`."""

from __future__ import annotations

import datetime

import click

from weighbridge.cli import output


@click.command("thresholds")
@click.argument("source", required=False)
@click.option("--tokens", type=output.Count(), help="Tokens of the run, such as 15T.")
@click.option("--flops", type=output.Count(), help="Instead: its operations, such as 2.1e25.")
@click.option("--parameters", type=output.Count(), help="Instead of SOURCE: parameters of the model, such as 10B.")
@click.option("--original-flops", type=output.Count(), help="Operations of the model that the run changes.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="The day whose rules count; else today.")
@output.json_option
def command(
    source: str | None, tokens: int | None, flops: int | None, parameters: int | None, original_flops: int | None,
    date: datetime.datetime | None, as_json: bool,
) -> None:  # fmt: skip
    """Say which dated rules a training run comes under: laws, orders, guidelines.

    SOURCE is what `weigh inspect` takes. Operations are 6 x parameters x tokens unless --flops says them. Not legal
    advice.
    """
    from weighbridge.regulation import thresholds

    on = datetime.date.today() if date is None else date.date()
    found = thresholds(on, source, tokens=tokens, flops=flops, parameters=parameters, original_flops=original_flops)
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show.thresholds import threshold_lines

    output.print_lines(threshold_lines(found))
