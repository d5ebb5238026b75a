"""`weigh prove`."""

from __future__ import annotations

from pathlib import Path

import click

from weighbridge.cli import here, output


@click.command("prove")
@click.argument("base", required=False)
@click.argument("candidate", required=False)
@click.option("--on", "data", metavar="DATA", help="Texts to prove on: a file of text, or JSON lines with `text`.")
@click.option("--samples", nargs=2, metavar="A B",
              help="Instead of models, two logs of lm-evaluation-harness (samples_*.jsonl).")  # fmt: skip
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric to keep; all without it.")
@click.option("--margin", type=float, help="What may be lost of each metric, in its own unit.")
@click.option("--keep", type=float, help="The share of each metric that has to be kept, such as 0.99.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--slice", "slices", metavar="FIELD", multiple=True, help="Also for each value of a field.")
@click.option("--sequential", is_flag=True, help="Intervals that hold however often data are added and looked at.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many documents.")
@click.option(
    "--window", type=click.IntRange(2), help="Tokens that a model sees at once; 512 or its positions without."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the drawing.")
@output.json_option
def command(
    base: str | None, candidate: str | None, data: str | None, samples: tuple[str, str] | None,
    metrics: tuple[str, ...], margin: float | None, keep: float | None, confidence: float, slices: tuple[str, ...],
    sequential: bool, limit: int | None, window: int | None, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Decide whether a candidate is better, equivalent or worse than a base on the same data, or undecided.

    BASE and CANDIDATE are folders of safetensors of causal language models, which transformers runs (the extra
    `torch`). Exit code 1 when the candidate is worse, or that is undecided. Without --margin or --keep nothing may be
    lost.
    """
    from weighbridge.prove.comparison import Rule
    from weighbridge.prove.proof import of_logs, of_texts

    rule = Rule(confidence=confidence, margin=margin, keep=keep, sequential=sequential, seed=seed)
    if samples is not None:
        if base or data or limit or window:
            raise click.UsageError("--samples compares two logs: leave models, --on, --limit and --window out")
        found = of_logs(Path(samples[0]), Path(samples[1]), rule, metrics=metrics, fields=slices)
    elif base is None or candidate is None or data is None:
        raise click.UsageError("name two models and --on DATA, or --samples A B")
    else:
        found = of_texts(base, candidate, data, rule, metrics=metrics, fields=slices, limit=limit, window=window,
                         tell=here.counter("scoring"))  # fmt: skip
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import proofs

        output.print_lines(proofs.lines(found))
    if found.verdict in ("worse", "undecided"):
        raise SystemExit(1)
