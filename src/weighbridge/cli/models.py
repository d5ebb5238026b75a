"""`weigh models`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("models")
@click.argument("text", required=False, default="")
@output.json_option
def command(text: str, as_json: bool) -> None:
    """List the named models that are known, or those whose name, title or developer holds TEXT.

    A model stands there with its shape, from which everything is counted, with the size that its developer states, or
    with what others claim of it.
    """
    from weighbridge.model import catalogue

    found = list(catalogue.matching(text))
    if as_json:
        output.print_json([model.to_json() for model in found])
        return
    from weighbridge.show import tables

    output.print_lines(tables.model_lines(found))
