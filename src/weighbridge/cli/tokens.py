"""`weigh tokens`."""

from __future__ import annotations

import sys

import click

from weighbridge.cli import output


@click.command("tokens")
@click.argument("source")
@click.argument("text")
@output.json_option
def command(source: str, text: str, as_json: bool) -> None:
    """Count the tokens of a text, as a model splits it.

    SOURCE is a GGUF file (the extra `run`), a tokenizer.json or a folder with one (the extra `onnx`). TEXT is the text,
    or
    - for standard input.
    """
    from weighbridge.prove.token_count import count_tokens
    from weighbridge.show import proofs

    found = count_tokens(source, sys.stdin.read() if text == "-" else text)
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(proofs.token_lines(found))
