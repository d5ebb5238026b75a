"""`weigh design`."""

from __future__ import annotations

import json

import click

from weighbridge.cli import output


@click.command("design")
@click.option("--parameters", type=output.Count(), required=True, help="The wanted total, such as 1.3B.")
@click.option("--vocab", type=output.Count(), required=True, help="Rows of the token table, such as 50k.")
@click.option("--like", "model_type", metavar="MODEL_TYPE", default="llama", show_default=True, help="The wiring.")
@click.option("--layers", type=output.Count(), help="Fix the number of layers.")
@click.option("--width", type=output.Count(), help="Fix the hidden size.")
@click.option("--head-dim", type=output.Count(), help="Fix the size of a head; 64 or 128 without it.")
@click.option("--kv-heads", type=output.Count(), help="Heads that hold keys and values; as many as heads without it.")
@click.option("--experts", type=output.Count(), help="Experts of each layer, with a wiring such as mixtral.")
@click.option("--top-k", type=output.Count(), help="Experts that a token uses.")
@click.option("--positions", type=output.Count(), default=4096, show_default=True, help="The longest context.")
@click.option("--tied", is_flag=True, help="Let the head be the token table.")
@click.option("--most", type=click.IntRange(1), default=5, show_default=True, help="How many shapes to show.")
@click.option("-o", "--output", "target", metavar="FILE", help="Write the first shape as a config.json.")
@output.json_option
def command(
    parameters: int, vocab: int, model_type: str, layers: int | None, width: int | None, head_dim: int | None,
    kv_heads: int | None, experts: int | None, top_k: int | None, positions: int, tied: bool, most: int,
    target: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Find shapes within one percent of a wanted number of parameters, the most usual proportions first.

    Exit code 1 when no shape comes so near.
    """
    from weighbridge.shapes import Wish, design, designs_json

    wish = Wish(parameters=parameters, vocab_size=vocab, model_type=model_type, num_layers=layers, hidden_size=width,
                head_dim=head_dim, num_kv_heads=kv_heads, experts=experts, experts_per_token=top_k,
                max_positions=positions, tied=tied)  # fmt: skip
    found = design(wish, most)
    if target is not None and found:
        from weighbridge import output_file

        output_file.write_text(target, json.dumps(found[0].config, indent=2) + "\n")
    if as_json:
        output.print_json(designs_json(wish, found))
    elif found:
        from weighbridge.show import tables

        output.print_lines(tables.design_lines(found))
        if target is not None:
            click.echo(f"wrote {target}", err=True)
    if not found:
        click.echo("no shape comes within one percent: fix less, or change the vocabulary", err=True)
        raise SystemExit(1)
