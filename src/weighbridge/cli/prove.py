"""`weigh prove`."""

from __future__ import annotations

from pathlib import Path

import click

from weighbridge.cli import output


@click.command("prove")
@click.option("--samples", nargs=2, metavar="A B", required=True,
              help="Two logs of lm-evaluation-harness (samples_*.jsonl): base and candidate.")  # fmt: skip
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric of the logs; all without it.")
@click.option("--margin", type=float, help="What may be lost of each metric, in its own unit.")
@click.option("--keep", type=float, help="The share of each metric that has to be kept, such as 0.99.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--slice", "slices", metavar="FIELD", multiple=True, help="Also for each value of a field.")
@click.option("--sequential", is_flag=True, help="Intervals that hold however often data are added and looked at.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the drawing.")
@output.json_option
def command(
    samples: tuple[str, str], metrics: tuple[str, ...], margin: float | None, keep: float | None, confidence: float,
    slices: tuple[str, ...], sequential: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Decide whether a candidate is better, equivalent or worse than a base on the same questions, or undecided.

    Exit code 1 when it is worse or undecided. Without --margin or --keep nothing may be lost.
    """
    from weighbridge.prove.comparison import Rule
    from weighbridge.prove.proof import of_logs

    rule = Rule(confidence=confidence, margin=margin, keep=keep, sequential=sequential, seed=seed)
    found = of_logs(Path(samples[0]), Path(samples[1]), rule, metrics=metrics, fields=slices)
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import proofs

        output.print_lines(proofs.lines(found))
    if found.verdict in ("worse", "undecided"):
        raise SystemExit(1)
