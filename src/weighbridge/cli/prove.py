"""`weigh prove`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli import here, output
from weighbridge.units import parse_bytes

if TYPE_CHECKING:
    from weighbridge.prove.plan import Plan
    from weighbridge.prove.proof import Proof

KEY = "WEIGHBRIDGE_API_KEY"
RULE = {"metrics", "margin", "keep", "confidence", "slices", "sequential", "prices", "reports", "seed", "as_json"}
OF_SAMPLES = {"samples", *RULE}
OF_TASKS = {"base", "candidates", "tasks", "task_path", "limit", "shots", "engine", "memory", "threads", "tokenizer",
            "chat", *RULE}  # fmt: skip
"""Options that two logs and tasks of the harness have a use for."""


@click.command("prove")
@click.argument("base", required=False)
@click.argument("candidates", nargs=-1, metavar="[CANDIDATE]...")
@click.option("--on", "data", metavar="DATA", help="Examples to prove on: a file of text, or JSON lines of one kind.")
@click.option("--probe", metavar="NAME", help="Instead of data, a probe: arithmetic or code (the latter --run-code).")
@click.option(
    "--task", "tasks", metavar="NAME", multiple=True, help="Instead of data, a task of lm-evaluation-harness."
)
@click.option("--task-path", metavar="FOLDER", help="A folder with tasks of your own.")
@click.option("--samples", nargs=2, metavar="A B",
              help="Instead of models, two logs of lm-evaluation-harness (samples_*.jsonl).")  # fmt: skip
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric to keep; all without it.")
@click.option("--margin", type=float, help="What may be lost of each metric, in its own unit.")
@click.option("--keep", type=float, help="The share of each metric that has to be kept, such as 0.99.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--slice", "slices", metavar="FIELD", multiple=True,
              help="Also for each value of a field, or for a rule such as 'length>500'.")  # fmt: skip
@click.option("--cluster", metavar="FIELD", help="Examples with the same value stand and fall together.")
@click.option("--sequential", is_flag=True, help="Intervals that hold however often data are added and looked at.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many examples.")
@click.option("--window", type=click.IntRange(2), help="Tokens of a text that a model sees at once.")
@click.option("--shots", type=click.IntRange(0), default=0, show_default=True,
              help="Worked examples before each prompt, drawn from the data and not proved on.")  # fmt: skip
@click.option("--shots-from", metavar="FILE", help="Take worked examples from this file, in its order.")
@click.option("--template", metavar="TEXT", help="The prompt, with fields in braces: '{text} Label:'.")
@click.option("--max-tokens", type=click.IntRange(1), help="Tokens that a model writes at most.")
@click.option("--stop", metavar="TEXT", multiple=True, help="A string that ends what a model writes.")
@click.option("--passages", metavar="FILE", help="JSON lines with `id` and `text` that queries search.")
@click.option("--calibration", metavar="FILE",
              help="What the candidate was made with: examples in it are left out.")  # fmt: skip
@click.option("--run-code", is_flag=True, help="Run what a model writes, in a sandbox.")
@click.option(
    "--engine", metavar="NAME", help="llama.cpp, transformers, onnxruntime or endpoint; the usual one without."
)
@click.option(
    "--memory", metavar="SIZE", help="What the weights of each model may take; layers beyond stay on the disk."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of llama.cpp.")
@click.option("--tokenizer", metavar="FOLDER", help="Of ONNX files that have none beside them.")
@click.option("--chat", is_flag=True, help="Put prompts to an address as messages of a chat.")
@click.option("--cache", metavar="FOLDER", help="Where finished answers are kept.")
@click.option("--no-cache", is_flag=True, help="Keep nothing.")
@click.option("--fresh", is_flag=True, help="Ask again what is kept.")
@click.option("--usd-per-request", "prices", type=float, nargs=2, metavar="BASE CANDIDATE",
              help="Prices, for what a right answer costs.")  # fmt: skip
@click.option("--report", "reports", metavar="FILE", multiple=True, help="Also write a report: .md or .html.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the drawing.")
@output.json_option
def command(
    base: str | None, candidates: tuple[str, ...], data: str | None, probe: str | None, tasks: tuple[str, ...],
    task_path: str | None, samples: tuple[str, str] | None, metrics: tuple[str, ...], margin: float | None,
    keep: float | None, confidence: float, slices: tuple[str, ...], cluster: str | None, sequential: bool,
    limit: int | None, window: int | None, shots: int, shots_from: str | None, template: str | None,
    max_tokens: int | None, stop: tuple[str, ...], passages: str | None, calibration: str | None, run_code: bool,
    engine: str | None, memory: str | None, threads: int | None, tokenizer: str | None, chat: bool, cache: str | None,
    no_cache: bool, fresh: bool, prices: tuple[float, float] | None, reports: tuple[str, ...], seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Decide whether a candidate is better, equivalent or worse than a base on the same data, or undecided.

    BASE and CANDIDATE are folders of safetensors, GGUF or ONNX files, or addresses of OpenAI-compatible interfaces
    (http://HOST/v1#MODEL; the key is in WEIGHBRIDGE_API_KEY). Of several candidates the smallest that passes is found.
    Exit code 1 when the candidate is worse, or that is undecided. Without --margin or --keep nothing may be lost.
    """
    from weighbridge.prove.comparison import Rule
    from weighbridge.prove.engines import Opening
    from weighbridge.prove.plan import Plan
    from weighbridge.prove.proof import of_logs
    from weighbridge.show import pages, proof_pages

    for report in reports:
        pages.check(report)
    rule = Rule(confidence=confidence, margin=margin, keep=keep, sequential=sequential, seed=seed)
    if samples is not None:
        _refuse_others("--samples", OF_SAMPLES)
        found = of_logs(Path(samples[0]), Path(samples[1]), rule, metrics=metrics, fields=slices)
    elif base is None or not candidates or sum((data is not None, probe is not None, bool(tasks))) != 1:
        raise click.UsageError("name two models and one of --on DATA, --probe NAME and --task NAME, or --samples A B")
    else:
        if tasks:
            _refuse_others("--task", OF_TASKS)
        plan = Plan(
            data=data, probe=probe, metrics=metrics, slices=slices, cluster=cluster, limit=limit, window=window,
            shots=shots, shots_from=shots_from, template=template, most_tokens=max_tokens, stop=stop or None,
            passages=passages, calibration=calibration, run_code=run_code, cache=None if no_cache else _cache(cache),
            fresh=fresh, opening=Opening(engine, None if memory is None else parse_bytes(memory), threads, tokenizer,
                                         os.environ.get(KEY), chat))  # fmt: skip
        found = _run(base, candidates, plan, rule, tasks, task_path)
    if prices is not None:
        found = found.priced(prices)
    for report in reports:
        proof_pages.write(report, found, output.command_line())
    if as_json:
        output.print_json({**found.to_json(), "command": output.command_line()})
    else:
        from weighbridge.show import proofs

        output.print_lines(proofs.lines(found))
    if found.verdict in ("worse", "undecided"):
        raise SystemExit(1)


def _run(base: str, candidates: tuple[str, ...], plan: Plan, rule: Any, tasks: tuple[str, ...],
         task_path: str | None) -> Proof:  # fmt: skip
    from weighbridge.prove import ladder
    from weighbridge.prove.runs import of_models

    bar = here.bar()
    if tasks:
        from weighbridge.prove import harness

        if len(candidates) > 1:
            raise click.UsageError("--task compares one candidate")
        return harness.of_tasks(base, candidates[0], tasks, plan, rule, task_path, bar)
    if len(candidates) > 1:
        return ladder.climb(base, candidates, plan, rule, bar)
    return of_models(base, candidates[0], plan, rule, bar)


def _refuse_others(mode: str, used: set[str]) -> None:
    """No option is taken and then not used."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and name not in used and context.params.get(name) not in (None, (), False):
            raise click.UsageError(f"{mode} has no use for {parameter.opts[0]}: leave it out")


def _cache(asked: str | None) -> Path:
    """Where finished answers are kept, as the XDG base directory specification has it."""
    if asked is not None:
        return Path(asked)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "weighbridge"
