"""`weigh families`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("families")
@output.json_option
def command(as_json: bool) -> None:
    """List the model families that are described."""
    from weighbridge.model.families import families

    found = list(families())
    if as_json:
        output.print_json([
            {"name": f.name, "title": f.title, "model_types": list(f.model_types),
             "gguf_architectures": sorted(f.gguf), "source": f.source}
            for f in found
        ])  # fmt: skip
        return
    from weighbridge.show import tables

    output.print_lines(tables.family_lines(found))
