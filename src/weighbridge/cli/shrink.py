"""`weigh shrink`."""

from __future__ import annotations

from pathlib import Path

import click

from weighbridge.cli import here, output
from weighbridge.units import parse_bytes


@click.command("shrink")
@click.argument("source")
@click.option("-o", "--output", "target", metavar="PATH", help="The file to write, or the folder for safetensors.")
@click.option("--to", "size", metavar="SIZE", help="Bytes that the weights may have: 80MB, 1.5GiB or a number.")
@click.option("--fit", "device", metavar="DEVICE", help="Instead: what fits on a device, beside cache and buffers.")
@click.option("--context", "context_tokens", type=output.Count(), help="Tokens of a sequence, for --fit.")
@click.option("--batch", type=output.Count(), help="Sequences decoded together, for --fit; 1 without it.")
@click.option("--bits", type=float, help="Instead: bits of a weight in the mean.")
@click.option("--method", metavar="NAME", help="Instead: q4_k_m, q8_0, int4-g128, int8, fp16 and others, for all.")
@click.option("--format", "form", metavar="NAME", default="gguf", show_default=True, help="gguf or safetensors.")
@click.option("--plan-only", is_flag=True, help="Print the plan and write nothing.")
@click.option("--calibrate", metavar="DATA", help="Texts that tell what errors cost, apart from the proof's.")
@click.option("--imatrix", metavar="FILE", help="An importance matrix, as `weigh imatrix` and llama.cpp make them.")
@click.option(
    "--proof", "data", metavar="DATA", help="Examples that source and result are asked, as `weigh prove --on`."
)
@click.option("--keep", type=float, help="The share of each metric that has to be kept; else nothing is left.")
@click.option("--margin", type=float, help="What may be lost of each metric, in its own unit; else nothing is left.")
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric of the proof; all without it.")
@click.option("--slice", "slices", metavar="FIELD", multiple=True, help="Prove each value of a field by itself too.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many examples of the proof.")
@click.option("--memory", metavar="SIZE", default="1GiB", show_default=True, help="What the blocks in work may take.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Blocks that are encoded at once.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is drawn.")
@click.option("--cache", metavar="FOLDER", help="Where finished answers of the proof are kept.")
@click.option("--resume", is_flag=True, help="Go on behind what a killed run has finished: done without it too.")
@click.option("--report", "reports", metavar="FILE", multiple=True, help="Also write a report: .md or .html.")
@output.json_option
def command(
    source: str, target: str | None, size: str | None, device: str | None, context_tokens: int | None,
    batch: int | None, bits: float | None, method: str | None, form: str, plan_only: bool, calibrate: str | None,
    imatrix: str | None, data: str | None, keep: float | None, margin: float | None, metrics: tuple[str, ...],
    slices: tuple[str, ...], limit: int | None, memory: str, jobs: int, seed: int, cache: str | None, resume: bool,
    reports: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Make a model smaller within a budget of bytes, and prove it.

    SOURCE is a GGUF file, or a folder of safetensors; each matrix gets the encoding with which all together lose the
    least. With --proof and --keep or --margin budgets are tried from the smallest upward, and the first result that
    passes is left. A run that was killed goes on when the same command is given again. Exit code 1 when the budget
    cannot be met, or nothing passes.
    """
    from weighbridge.compress.plan import BudgetError
    from weighbridge.compress.shrink import Wish, shrink
    from weighbridge.prove.comparison import Rule
    from weighbridge.prove.plan import Plan
    from weighbridge.show import pages, shrink_pages, shrinking

    for report in reports:
        pages.check(report)
    if target is None and not plan_only:
        raise click.UsageError("name what to write with -o, or ask for --plan-only")
    if data is not None and plan_only:
        raise click.UsageError("a plan alone is not proved: leave --proof out, or name what to write with -o")
    if data is None and (keep is not None or margin is not None or metrics or slices or limit):
        raise click.UsageError(
            "--keep, --margin, --metric, --slice and --limit are for a proof: name its data, --proof"
        )
    wish = Wish(to_bytes=None if size is None else parse_bytes(size), device=device, context_tokens=context_tokens,
                batch=batch, bits=bits, method=method, format=form, calibrate=calibrate, imatrix=imatrix,
                memory_bytes=parse_bytes(memory), jobs=jobs, seed=seed)  # fmt: skip
    proof = None if data is None else Plan(
        data=data, metrics=metrics, slices=slices, limit=limit, calibration=calibrate,
        cache=(cache and Path(cache)) or None)  # fmt: skip
    rule = Rule(keep=keep, margin=margin, seed=seed)
    try:
        found = shrink(source, None if plan_only else target, wish, proof, rule, here.bar())
    except BudgetError as error:  # a no is an answer
        if as_json:
            output.print_json({"source": source, "output": None, "budget_bytes": error.budget_bytes,
                               "smallest_bytes": error.smallest_bytes, "notes": [str(error)]})  # fmt: skip
        raise
    for report in reports:
        shrink_pages.write(report, found, output.command_line())
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(shrinking.lines(found))
    if found.path is None and not plan_only:
        raise SystemExit(1)
