"""`weigh history`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("history")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--developer", metavar="NAME", help="Only what this developer released.")
@click.option("--all", "everything", is_flag=True, help="All dated models; without it, those that set a record.")
@click.option("--svg", metavar="FILE", help="Draw the models over time.")
@output.json_option
def command(
    names: tuple[str, ...], developer: str | None, everything: bool, svg: str | None, as_json: bool
) -> None:  # fmt: skip
    """Show how models grew over time: parameters by date of release, and growth from one to the next.

    NAME is a name that `weigh models` lists; without any, the models that were the largest when they came out.
    """
    from weighbridge.growth import history

    points = history(names, developer=developer, records=not names and not everything)
    if svg is not None:
        from weighbridge import output_file
        from weighbridge.show import timeline

        output_file.write_text(svg, timeline.svg(history(names, developer=developer)))
    if as_json:
        output.print_json([point.to_json() for point in points])
        return
    from weighbridge.show import tables

    output.print_lines(tables.history_lines(points))
    if svg is not None:
        click.echo(f"wrote {svg}", err=True)
