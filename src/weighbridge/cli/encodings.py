"""`weigh encodings`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("encodings")
@output.json_option
def command(as_json: bool) -> None:
    """List the encodings and mixes that sizes are known for.

    An encoding is a block layout; a mix chooses an encoding for each tensor.
    """
    from weighbridge.model.encodings import ENCODINGS
    from weighbridge.model.recipes import RECIPES

    document = {
        "encodings": [
            {"name": e.name, "elements_per_block": e.elements_per_block, "bytes_per_block": e.bytes_per_block,
             "bits_per_weight": e.bits_per_weight, "gguf_type": e.gguf_type, "aliases": list(e.aliases)}
            for e in ENCODINGS.values()
        ],
        "mixes": [{"name": r.name, "kind": r.kind, "default": r.default.name} for r in RECIPES.values()],
    }  # fmt: skip
    if as_json:
        output.print_json(document)
        return
    from weighbridge.show import tables

    output.print_lines(tables.encoding_lines(ENCODINGS.values(), RECIPES.values()))
