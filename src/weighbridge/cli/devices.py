"""`weigh devices`."""

from __future__ import annotations

from typing import Any

import click

from weighbridge.cli import output
from weighbridge.cli.fit import plan_options, with_own_devices
from weighbridge.errors import UnknownNameError


@click.command("devices")
@click.argument("text", required=False, default="")
@click.option("--for", "source", metavar="SOURCE", help="Rank the devices for this model instead.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only devices of this kind.")
@click.option("--most", type=click.IntRange(1), default=25, show_default=True, help="How many to show, with --for.")
@plan_options
@output.json_option
def command(
    text: str, source: str | None, kinds: tuple[str, ...], most: int, as_json: bool, **options: Any
) -> None:  # fmt: skip
    """List the known devices, or rank them for a model.

    TEXT leaves those whose names, vendor or kind hold it. With --for, those that the model fits on come first, the
    smallest first.
    """
    from weighbridge.hardware import catalogue
    from weighbridge.show import plans

    if source is None:
        _only_with("--for", "devices_file")
        own = with_own_devices(options).get("own_devices", ())
        known = sorted({device.kind for device in (*own, *catalogue.devices())})
        for kind in kinds:
            if kind not in known:
                raise UnknownNameError("kind of device", kind, known, "name one of these")
        found = [device for device in catalogue.matching(text, own) if not kinds or device.kind in kinds]
        output.tell_if_none(found, "device", text)
        if as_json:
            output.print_json([device.to_json() for device in found])
        else:
            output.print_lines(plans.device_lines(found))
        return
    from weighbridge.rankings import devices_for

    ranked = devices_for(source, kinds=kinds, text=text, **with_own_devices(options))
    if as_json:
        output.print_json([candidate.to_json() for candidate in ranked[:most]])
    else:
        output.print_lines(plans.candidate_lines(ranked, most))
    if not any(candidate.plan.memory.fits for candidate in ranked):
        raise SystemExit(1)


def _only_with(option: str, *but: str) -> None:
    """Refuses the options of a plan where none is made."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.DEFAULT
        if given and parameter.name not in (*but, "text", "kinds", "as_json", "most"):
            raise click.UsageError(f"{parameter.opts[0]} is for plans: name a model with {option}, or leave it out")
