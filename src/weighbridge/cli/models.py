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
        from weighbridge.rankings import models_on
        from weighbridge.show import plans

        ranked = models_on(on, text=text, **with_own_devices(options))
        if as_json:
            output.print_json([candidate.to_json() for candidate in ranked[:most]])
        else:
            output.print_lines(plans.candidate_lines(ranked, most))
        if not any(candidate.plan.memory.fits for candidate in ranked):
            raise SystemExit(1)
        return
    given = click.get_current_context().get_parameter_source
    for name in options:
        if given(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.split('_')[0]} is for plans: name a device with --on, or leave it out")
    from weighbridge.model import catalogue

    found = list(catalogue.matching(text))
    output.tell_if_none(found, "model", text)
    if as_json:
        output.print_json([model.to_json() for model in found])
        return
    from weighbridge.show import tables

    output.print_lines(tables.model_lines(found))
