"""`weigh layer`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("layer")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@output.json_option
def command(specs: tuple[str, ...], as_json: bool) -> None:
    """Count the parameters of one layer, with the formula.

    \b
    SPEC is a kind and its sizes:
      linear:100x50          neuron:3               conv:7x7:3:64
      conv:3x3:64:64:groups=64:bias                 embedding:50257x12288
      attention:768:12       attention:8192:64:kv=8:head=128
      mlp:768:3072           mlp:8192:28672:gated   moe:4096:14336:8:2
      layernorm:768          rmsnorm:4096           batchnorm:64
      rnn:128:256            gru:128:256:bidirectional
      lstm:128:256:layers=2  relu                   prelu:64

    Add `bias` or `nobias` to a spec to change what it has by default.
    """  # noqa: D301  # click reads the backspace character, which keeps the lines apart
    from weighbridge.layer import count_layer

    layers = [count_layer(spec) for spec in specs]
    if as_json:
        output.print_json(layers[0].to_json() if len(layers) == 1 else [layer.to_json() for layer in layers])
        return
    from weighbridge.show import tables

    for place, layer in enumerate(layers):
        output.print_lines([""] if place else [])
        output.print_lines(tables.layer_lines(layer))
