"""`weigh shrink`."""

from __future__ import annotations

from pathlib import Path

import click

from weighbridge.cli import here, output
from weighbridge.units import parse_bytes


@click.command("shrink")
@click.argument("source")
@click.option("-o", "--output", "target", metavar="FILE", help="The file to write.")
@click.option("--to", "size", metavar="SIZE", help="Bytes that the file may have: 80MB, 1.5GiB or a number.")
@click.option("--bits", type=float, help="Bits of a weight in the mean, instead of bytes.")
@click.option("--method", metavar="NAME", help="One encoding for every matrix, instead of a choice for each.")
@click.option("--plan-only", is_flag=True, help="Print the plan and write nothing.")
@click.option(
    "--proof", "data", metavar="DATA", help="Examples that source and result are asked, as `weigh prove --on`."
)
@click.option("--keep", type=float, help="The share of each metric that has to be kept; else nothing is left.")
@click.option("--margin", type=float, help="What may be lost of each metric, in its own unit; else nothing is left.")
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric of the proof; all without it.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many examples of the proof.")
@click.option("--memory", metavar="SIZE", default="1GiB", show_default=True, help="What the blocks in work may take.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Blocks that are encoded at once.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the proof.")
@click.option("--cache", metavar="FOLDER", help="Where finished answers of the proof are kept.")
@output.json_option
def command(
    source: str, target: str | None, size: str | None, bits: float | None, method: str | None, plan_only: bool,
    data: str | None, keep: float | None, margin: float | None, metrics: tuple[str, ...], limit: int | None,
    memory: str, jobs: int, seed: int, cache: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Make a model smaller within a budget of bytes, and prove it.

    SOURCE is a GGUF file; each matrix gets the encoding with which all together lose the least. With --proof and --keep
    or --margin budgets are tried from the smallest upward, and the first file that passes is left. A run that was
    killed goes on when the same command is given again. Exit code 1 when the budget cannot be met, or nothing passes.
    """
    from weighbridge.compress.shrink import Wish, shrink
    from weighbridge.prove.comparison import Rule
    from weighbridge.prove.plan import Plan
    from weighbridge.show import shrinking

    if (target is None) == (not plan_only):
        raise click.UsageError("name the file to write with -o, or ask for --plan-only")
    if data is None and (keep is not None or margin is not None or metrics or limit):
        raise click.UsageError("--keep, --margin, --metric and --limit are for a proof: name its data with --proof")
    wish = Wish(to_bytes=None if size is None else parse_bytes(size), bits=bits, method=method,
                memory_bytes=parse_bytes(memory), jobs=jobs)  # fmt: skip
    proof = (
        None if data is None else Plan(data=data, metrics=metrics, limit=limit, cache=(cache and Path(cache)) or None)
    )
    rule = Rule(keep=keep, margin=margin, seed=seed)
    found = shrink(source, None if plan_only else target, wish, proof, rule, here.bar())
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(shrinking.lines(found))
    if found.path is None and not plan_only:
        raise SystemExit(1)
