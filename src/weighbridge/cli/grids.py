"""`weigh grids`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("grids")
@click.argument("text", metavar="[NAME]", required=False, default="")
@output.json_option
def command(text: str, as_json: bool) -> None:
    """List the grids that the carbon of electricity is known of.

    NAME leaves those whose names hold it: countries, subregions of eGRID, regions of clouds.
    """
    from weighbridge.hardware import grids

    found = list(grids.matching(text))
    output.tell_if_none(found, "grid", text)
    if as_json:
        output.print_json([grid.to_json() for grid in found])
        return
    from weighbridge.show import footprints

    output.print_lines(footprints.grid_lines(found))
