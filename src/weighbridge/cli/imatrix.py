"""`weigh imatrix`."""

from __future__ import annotations

import click

from weighbridge.cli import here, output


@click.command("imatrix")
@click.argument("source")
@click.option(
    "--on", "data", metavar="DATA", required=True, help="What the model reads: text, or examples as `weigh prove --on`."
)
@click.option("-o", "--output", "target", metavar="FILE", required=True, help="The file to write.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many examples.")
@click.option("--window", type=click.IntRange(2), help="Tokens that the model reads at once; 512 without it.")
@output.json_option
def command(source: str, data: str, target: str, limit: int | None, window: int | None, as_json: bool) -> None:
    """Measure which inputs of each weight matter, while a model reads texts.

    SOURCE is a GGUF file, which llama.cpp runs, or a folder of safetensors, which transformers runs. FILE becomes an
    importance matrix in llama.cpp's GGUF form: for each column of each weight the squares of what came in through it.
    """
    from weighbridge.compress import activations
    from weighbridge.show import importances

    found = activations.make(source, data, target, limit, window, here.bar())
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(importances.lines(found))
