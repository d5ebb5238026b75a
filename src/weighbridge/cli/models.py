"""`weigh models`."""

from __future__ import annotations

from typing import Any

import click

from weighbridge.cli import output
from weighbridge.cli.fit import plan_options, with_own_devices


@click.command("models")
@click.argument("text", required=False, default="")
@click.option("--on", metavar="DEVICE", help="Rank the models for this device instead.")
@click.option("--most", type=click.IntRange(1), default=25, show_default=True, help="How many to show, with --on.")
@plan_options
@output.json_option
def command(text: str, on: str | None, most: int, as_json: bool, **options: Any) -> None:
    """List the named models, or rank them for a device.

    TEXT leaves those whose names or developer hold it. A model stands there with its shape, from which everything is
    counted, with the size that its developer states, or with what others claim of it. With --on, those that fit come
    first, the largest first.
    """
    if on is not None:
        from weighbridge.planning import models_on
        from weighbridge.show import plans

        ranked = models_on(on, text=text, **with_own_devices(options))[:most]
        if as_json:
            output.print_json([candidate.to_json() for candidate in ranked])
        else:
            output.print_lines(plans.candidate_lines(ranked))
        return
    from weighbridge.model import catalogue

    found = list(catalogue.matching(text))
    output.tell_if_none(found, "model", text)
    if as_json:
        output.print_json([model.to_json() for model in found])
        return
    from weighbridge.show import tables

    output.print_lines(tables.model_lines(found))
