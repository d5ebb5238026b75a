"""`weigh convert`."""

from __future__ import annotations

import click

from weighbridge.cli import here, output
from weighbridge.units import parse_bytes


@click.command("convert")
@click.argument("source")
@click.option("-o", "--output", "target", metavar="PATH", required=True,
              help="The file (*.safetensors, *.gguf) or folder to write.")  # fmt: skip
@click.option("--shard-size", metavar="SIZE", help="What the tensors of a file may have: 5GB, 500MB. One file without.")
@click.option("--drop-tied", is_flag=True, help="Leave out copies of matrices that the model ties to others.")
@click.option("--resume", is_flag=True, help="Go on behind what a killed run has finished: done without it too.")
@output.json_option
def command(
    source: str, target: str, shard_size: str | None, drop_tied: bool, resume: bool, as_json: bool
) -> None:  # fmt: skip
    """Write the same tensors, bit for bit, into other files.

    SOURCE is a safetensors, PyTorch (.bin, .pt) or GGUF file, an index, or a folder of them. safetensors and PyTorch
    files become safetensors, GGUF becomes GGUF: in one file, or in shards of a size. What was written is read back and
    held against the source. A run that was killed goes on when the same command is given again.
    """
    from weighbridge.convert.conversion import convert
    from weighbridge.show import conversions

    shard_bytes = None if shard_size is None else parse_bytes(shard_size)
    found = convert(source, target, shard_bytes=shard_bytes, drop_tied=drop_tied, tell=here.bar())
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(conversions.lines(found))
