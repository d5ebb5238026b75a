"""`weigh compare`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("compare")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--context", type=output.Count(), default=0, help="Positions for the rows that depend on the context.")
@output.json_option
def command(sources: tuple[str, ...], context: int, as_json: bool) -> None:
    """Set models side by side: sizes, shapes and facts, each with what it rests on.

    SOURCE is what `weigh inspect` takes, or any name that `weigh models` lists: of a model whose shape is not published
    the stated or claimed size is shown as such.
    """
    from weighbridge.side_by_side import compare

    found = compare(sources, context_tokens=context)
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import tables

    output.print_lines(tables.comparison_lines(found))
