"""`weigh load`."""

from __future__ import annotations

import functools
from typing import Any

import click
from click.core import ParameterSource

from weighbridge.cli import here, output
from weighbridge.cli.fit import plan_options, site_options, with_own_devices
from weighbridge.units import parse_rate, parse_seconds


@click.command("load")
@click.argument("source")
@click.option("--on", metavar="DEVICE", required=True, help="A device that `weigh devices` lists, or here.")
@click.option("--rate", metavar="RATE", help="Requests a second, or such as 600/min or 10M/day.")
@click.option("--log", metavar="FILE", help="Instead: requests as they were logged, in CSV or JSON lines.")
@click.option("--slo", metavar="LIMITS", help="What is promised, such as ttft=2s,tpot=50ms,e2e=10s.")
@click.option(
    "--percentile", "percent", type=float, default=95.0, show_default=True, help="To how many percent of the requests."
)
@click.option("--replicas", type=output.Count(), help="Machines that share the load; as many as it takes without it.")
@click.option("--duration", metavar="TIME", help="Simulate so long, such as 24h; 20,000 requests without it.")
@click.option("--peak", type=float, default=1.0, show_default=True, help="Highest rate of a day over its mean.")
@click.option(
    "--burstiness", type=float, default=1.0, show_default=True, help="1 for independent arrivals, less for bursts."
)
@click.option(
    "--prompt-cv", type=float, default=0.0, show_default=True, help="Spread of prompts: standard deviation over mean."
)
@click.option("--output-cv", type=float, default=0.0, show_default=True, help="Spread of answers, likewise.")
@click.option(
    "--shared-prefix",
    "shared_tokens",
    type=output.Count(),
    default=0,
    show_default=True,
    help="Tokens that all prompts begin with, kept in the cache.",
)
@click.option("--think", metavar="TIME", help="How long a client takes to ask again, such as 20s.")
@click.option("--step-tokens", type=output.Count(), help="Tokens of a step, at most; long prompts are cut.")
@click.option("--availability", type=float, help="Share of the time that one device works, such as 0.999.")
@click.option(
    "--uptime",
    type=float,
    default=0.999,
    show_default=True,
    help="With --availability: the share of the time that enough replicas are wanted.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn.")
@plan_options
@site_options
@click.option("--report", metavar="FILE", help="Write the capacity page, with its pictures.")
@output.json_option
def command(
    source: str, on: str, rate: str | None, log: str | None, slo: str | None, percent: float, replicas: int | None,
    duration: str | None, peak: float, burstiness: float, prompt_cv: float, output_cv: float, shared_tokens: int,
    think: str | None, step_tokens: int | None, availability: float | None, uptime: float, seed: int,
    report: str | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Simulate a service under a load: latencies, replicas, cost.

    SOURCE is what `weigh inspect` takes. Name the load with --rate, --log or --concurrency. Exit code 1 when the model
    does not fit, the replicas cannot keep up, or a limit of --slo is broken.
    """
    from weighbridge.loading import load
    from weighbridge.predict.traffic import Lengths
    from weighbridge.service_level import limits

    options = with_own_devices(options)
    clients, batch = options.pop("concurrency"), options.pop("batch")
    if batch is not None:
        raise click.UsageError("--batch is of plans: a load forms its own; --max-sequences bounds it")
    if [rate, log, clients].count(None) != 2:
        raise click.UsageError("name the load with one of --rate, --log and --concurrency")
    context = click.get_current_context()
    if availability is None and context.get_parameter_source("uptime") is not ParameterSource.DEFAULT:
        raise click.UsageError("--uptime is about machines that fail: give --availability too")
    lengths = traffic = None
    if log is None:
        lengths = Lengths(prompt_tokens=options.pop("prompt_tokens"), output_tokens=options.pop("output_tokens"),
                          prompt_cv=prompt_cv, output_cv=output_cv, shared_tokens=shared_tokens)  # fmt: skip
    else:
        from weighbridge.traffic_log import read

        for name in ("prompt_tokens", "output_tokens", "prompt_cv", "output_cv", "shared_tokens"):
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError("requests of --log have lengths of their own: leave out --prompt, --output, "
                                       "--prompt-cv, --output-cv and --shared-prefix")  # fmt: skip
        traffic = read(log)
        del options["prompt_tokens"], options["output_tokens"]
    bar = here.bar()
    found = load(
        source, on, rate=None if rate is None else parse_rate(rate), clients=clients, traffic=traffic,
        lengths=lengths, replicas=replicas, duration_s=None if duration is None else parse_seconds(duration),
        think_s=0.0 if think is None else parse_seconds(think), burstiness=burstiness, peak=peak,
        limits=() if slo is None else limits(slo), percent=percent, seed=seed, step_tokens=step_tokens,
        availability=availability, uptime=uptime,
        progress=None if bar is None else functools.partial(bar, "requests"), **options,
    )  # fmt: skip
    if bar is not None:
        bar("requests", 1, 1)  # one that was stopped stands on the line
    if report is not None:
        from weighbridge import output_file
        from weighbridge.show import load_page

        output.check_outputs(found.engine.plan.inspection, source, report)
        output_file.write_text(report, load_page.page(found))
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import loads

        output.print_lines(loads.load_lines(found))
        if report is not None:
            click.echo(f"wrote {report}", err=True)
    if found.engine.plan.memory.fits is False or not found.is_stable or found.is_met is False:
        raise SystemExit(1)
