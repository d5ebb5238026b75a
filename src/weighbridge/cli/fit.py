"""`weigh fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weighbridge.cli import output

if TYPE_CHECKING:
    from weighbridge.inspection import Inspection
    from weighbridge.launch.line import Launch
    from weighbridge.planning import Plan

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--devices-file", metavar="FILE", help="A TOML file with devices of your own."),
    click.option("--devices", type=output.Count(), default=1, show_default=True, help="How many devices."),
    click.option("--weights", metavar="ENCODING", help="Encoding or mix of the weights, such as q4_k_m or fp8."),
    click.option("--kv", metavar="ENCODING", help="Encoding of the cache, or of keys/values as q8_0/q4_0."),
    click.option("--runtime", metavar="NAME", help="llama.cpp, ollama, vllm, sglang, tensorrt-llm, transformers ..."),
    click.option("--prompt", "prompt_tokens", type=output.Count(), default=512, show_default=True,
                 help="Tokens of a prompt."),
    click.option("--output", "output_tokens", type=output.Count(), default=128, show_default=True,
                 help="Tokens of an answer."),
    click.option("--context", "context_tokens", type=output.Count(),
                 help="Tokens that a sequence may hold; prompt and output without it."),
    click.option("--batch", type=output.Count(), help="Sequences decoded together; 1 without it."),
    click.option("--concurrency", type=output.Count(), help="Clients of a closed loop, queueing included."),
    click.option("--tp", "tensor_parallel", type=output.Count(), help="Devices that share each matrix."),
    click.option("--pp", "pipeline_parallel", type=output.Count(), help="Groups of layers."),
    click.option("--ep", "expert_parallel", type=output.Count(), help="Groups of experts."),
    click.option("--dp", "data_parallel", type=output.Count(), help="Copies of the attention."),
    click.option("--gpu-layers", type=output.Count(), help="Layers on the card under llama.cpp."),
    click.option("--cpu-experts", type=output.Count(), help="Layers whose experts stay with the processor, likewise."),
    click.option("--threads", type=output.Count(), help="Threads of a processor."),
    click.option("--max-sequences", type=output.Count(), help="Sequences that the engine works on at once, at most."),
    click.option("--no-flash-attention", "flash_attention", is_flag=True, flag_value=False, default=True,
                 help="Plan llama.cpp without flash attention."),
    click.option("--utilization", type=float, help="Share of a device that the engine takes."),
)  # fmt: skip


def with_own_devices(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a plan with the devices of the user's file instead of its name."""
    from weighbridge.hardware import catalogue

    named = {name: value for name, value in options.items() if name != "devices_file"}
    path = options["devices_file"]
    return named if path is None else {**named, "own_devices": catalogue.read(path)}


def plan_options(function: F) -> F:
    """The options of a plan, for every command that makes one."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def site_options(function: F) -> F:
    """The options of the place where a machine stands."""
    function = click.option("--pue", metavar="X", help="Energy of the data centre over the machines', or an operator.")(
        function
    )
    return click.option("--grid", metavar="REGION", help="Where the power comes from, or grams of CO2e a kWh.")(
        function
    )


@click.command("fit")
@click.argument("source")
@click.option("--on", metavar="DEVICE", help="A device that `weigh devices` lists, or here.")
@click.option("--within", metavar="SIZE", help="Instead: which encodings fit into so many bytes, such as 100MB?")
@plan_options
@click.option("--adapter", "adapters", metavar="DIR", multiple=True, help="A LoRA adapter beside the weights.")
@site_options
@click.option("--draft", metavar="SOURCE", help="A smaller model beside it that guesses the next tokens.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change a setting of the config first.")
@click.option(
    "--launch",
    "engine",
    metavar="ENGINE",
    help="Print the line that starts it too: vllm, llama-server, sglang or tensorrt-llm.",
)
@click.option("--svg", metavar="FILE", help="Draw the memory against each machine.")
@click.option("--html", metavar="FILE", help="Write the whole plan as one page, with its pictures.")
@output.plain_option
@output.json_option
def command(
    source: str, on: str | None, within: str | None, pairs: tuple[str, ...], engine: str | None, svg: str | None,
    html: str | None, plain: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Plan a model on a machine: memory, speed, cost. Each part has its interval.

    SOURCE is what `weigh inspect` takes. Exit code 1 when the model does not fit.
    """
    if (on is None) == (within is None):
        raise click.UsageError("name a device with --on, or a size with --within: one of them")
    if within is not None:
        given = click.get_current_context().get_parameter_source
        for name in options:
            if given(name) is not click.core.ParameterSource.DEFAULT:
                raise click.UsageError(f"--within is about the weights alone: leave --{name.split('_')[0]} out")
        if svg is not None or html is not None:
            raise click.UsageError("--svg and --html draw a machine: name one with --on")
        if pairs or engine is not None or plain:
            raise click.UsageError("--set, --launch and --plain are about a machine: name one with --on")
        _within(source, within, as_json)
        return
    from weighbridge.planning import fit

    assert on is not None
    options = with_own_devices(options)
    if engine is not None:
        options["runtime"] = _runtime_of(engine, options["runtime"], pairs)
    plan = fit(_changed(source, pairs) if pairs else source, on, **options)
    line = _launch(plan, engine) if engine is not None and plan.memory.fits is not False else None
    if svg is not None or html is not None:
        _draw(plan, {**options, "devices": plan.machine.devices}, source, svg, html)
    if as_json:
        asked = {} if engine is None else {"launch": line.to_json() if line else None}
        output.print_json(plan.to_json() | asked)
    else:
        from weighbridge.show import plans

        output.print_lines(plans.plan_lines(plan))
        if line is not None:
            output.print_lines(plans.launch_lines(line))
        elif engine is not None:
            click.echo("no launch line: it does not fit", err=True)
        if plain:
            from weighbridge.show.plain import plan_lines

            output.print_plain(plan_lines(plan))
        for path in filter(None, (svg, html)):
            click.echo(f"wrote {path}", err=True)
    if plan.memory.fits is False:
        raise SystemExit(1)


def _runtime_of(engine: str, runtime: str | None, pairs: tuple[str, ...]) -> str:
    from weighbridge.launch.engines import runtime_of

    if pairs:
        raise click.UsageError("--set describes a model that no file holds: leave --launch out")
    return runtime_of(engine, runtime)


def _changed(source: str, pairs: tuple[str, ...]) -> Inspection:
    from weighbridge.inspection import inspect

    return inspect(source, settings=output.settings(pairs))


def _launch(plan: Plan, engine: str) -> Launch:
    from weighbridge.launch.engines import launch

    return launch(plan, engine)


def _within(source: str, size: str, as_json: bool) -> None:
    from weighbridge.rankings import within
    from weighbridge.units import parse_bytes

    found = within(source, parse_bytes(size))
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import plans

        output.print_lines(plans.budget_lines(found))
    if not found.recipes:
        raise SystemExit(1)


def _draw(plan: Plan, options: dict[str, Any], source: str, svg: str | None, html: str | None) -> None:
    from weighbridge import output_file
    from weighbridge.planning import Question
    from weighbridge.show import plan_page

    output.check_outputs(plan.inspection, source, svg, html)
    question = Question(plan.inspection, plan.machine.device, options)
    if svg is not None:
        output_file.write_text(svg, plan_page.memory_svg(plan, question))
    if html is not None:
        output_file.write_text(html, plan_page.page(plan, question))
