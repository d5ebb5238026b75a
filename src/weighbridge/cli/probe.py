"""`weigh probe`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from weighbridge.cli import here, output
from weighbridge.errors import SourceError


@click.command("probe")
@click.option("--quick", is_flag=True, help="Smaller arrays and fewer repetitions.")
@click.option("--output", "path", metavar="FILE", help="Keep it in this file instead of the user's cache.")
@output.json_option
def command(quick: bool, path: str | None, as_json: bool) -> None:
    """Measure this machine in under 30 seconds, so that `--on here` can plan for it.

    Memory bandwidth, fp32 products, the disk, the kernels of llama.cpp and torch where they are installed, and
    graphics processors through their vendors' tools. The result is kept in the user's cache directory.
    """
    from weighbridge.hardware.probe import kept_at, probe
    from weighbridge.output_file import write_text

    if path and not Path(path).absolute().parent.is_dir():
        raise SourceError(f"{path} has no folder to lie in", "a folder that exists", "make it first")
    found = probe(quick=quick, environment=dict(os.environ), tell=here.progress())
    target = Path(path) if path else kept_at()
    if not path:
        output.make_folder(target.parent)
    write_text(target, found.to_toml())
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import probes

    output.print_lines(probes.probe_lines(found))
    click.echo(f"kept in {target}: use --on here" if not path else f"kept in {target}")
