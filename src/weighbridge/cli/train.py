"""`weigh train`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli import output
from weighbridge.cli.fit import site_options
from weighbridge.units import parse_range

if TYPE_CHECKING:
    from weighbridge.training import TrainingPlan


@click.command("train")
@click.argument("source")
@click.option("--tokens", type=output.Count(), required=True, help="Tokens to train on, all epochs together: 2T.")
@click.option("--on", metavar="DEVICE", required=True, help="A device that `weigh devices` lists, or here.")
@click.option("--devices", type=output.Count(), default=1, show_default=True, help="How many devices.")
@click.option("--devices-file", metavar="FILE", help="A TOML file with devices of your own.")
@click.option("--method", default="full", show_default=True, metavar="NAME",
              help="full, lora, dora, qlora, prompt, prefix, bitfit or freeze.")  # fmt: skip
@click.option("--rank", type=output.Count(), help="Rank of low-rank adapters; 16 without it.")
@click.option(
    "--targets", metavar="NAMES", default="", help="Modules with adapters, such as q_proj,v_proj or all-linear."
)
@click.option("--prompt-tokens", type=output.Count(), default=0, help="Tokens of a learned prompt.")
@click.option("--train-layers", type=output.Count(), default=0, help="With --method freeze: the last so many layers.")
@click.option("--seq", type=output.Count(), help="Tokens of a sequence.")
@click.option("--micro-batch", type=output.Count(), help="Sequences of a device in one pass.")
@click.option("--global-batch", type=output.Count(), help="Sequences of a step, all devices together.")
@click.option("--layout", type=click.Choice(["auto"]), help="Search for what is not given of the layout.")
@click.option("--zero", type=click.IntRange(0, 3), help="Stage of ZeRO; 3 is FSDP.")
@click.option("--tp", type=output.Count(), help="Devices that share each matrix.")
@click.option("--pp", type=output.Count(), help="Groups of layers.")
@click.option("--dp", type=output.Count(), help="Copies that work on other sequences.")
@click.option("--cp", type=output.Count(), help="Devices that share each sequence.")
@click.option("--ep", type=output.Count(), help="Groups of experts.")
@click.option("--checkpointing", type=click.Choice(["none", "selective", "full"]),
              help="What is computed again instead of kept.")  # fmt: skip
@click.option("--precision", type=click.Choice(["bf16", "fp16", "fp32", "fp8", "bf16-true"]), default="bf16",
              show_default=True, help="Number format; 16 and 8 bits are mixed, bf16-true is not.")  # fmt: skip
@click.option("--optimizer", default="adamw", show_default=True, metavar="NAME",
              help="adamw, adamw8bit, adafactor, sgd, lion, muon ...")  # fmt: skip
@click.option("--attention", type=click.Choice(["flash", "eager"]), default="flash", show_default=True,
              help="Whether the scores of attention are stored.")  # fmt: skip
@click.option("--kernels", type=click.Choice(["eager", "fused"]),
              help="Norms and activations as in plain PyTorch, or compiled.")  # fmt: skip
@click.option("--loss", type=click.Choice(["plain", "chunked"]), default="plain", show_default=True,
              help="Whether all logits are there at once.")  # fmt: skip
@click.option("--offload", type=click.Choice(["none", "cpu", "nvme"]), default="none", show_default=True,
              help="Where the states of the optimizer wait.")  # fmt: skip
@click.option("--price", metavar="USD_PER_H", help="Price of a device hour, or two such as 2-3.")
@click.option("--claimed-hours", type=output.Count(), help="Device hours that somebody states: can that be?")
@click.option("--unique", type=output.Count(), help="Tokens of the data without repetition.")
@click.option("--trials", metavar="SHARE", help="Share of all arithmetic for trials and failed runs, or two: 0.15-0.3.")
@click.option("--item", "items", multiple=True, metavar="NAME=USD[/month]",
              help="A further cost, such as data=50000 or engineering=80-160h@150-250.")  # fmt: skip
@click.option("--checkpoints", type=output.Count(), default=0, metavar="KEPT", help="How many checkpoints are kept.")
@click.option("--checkpoint-days", type=float, metavar="DAYS", help="For how many days; 30 without it.")
@click.option("--storage-class", metavar="NAME", help="Where, as `weigh prices` names it; s3-standard without it.")
@click.option("--watts", metavar="W", help="Power of a device instead of what was metered, or two such as 350-400.")
@site_options
@click.option("--compare", is_flag=True, help="Set full training, LoRA, QLoRA and a learned prompt side by side.")
@click.option("--svg", metavar="FILE", help="Draw the memory by part over the stages of ZeRO.")
@click.option("--html", metavar="FILE", help="Write the whole plan as one page, with its pictures.")
@output.plain_option
@output.json_option
def command(
    source: str, on: str, devices_file: str | None, svg: str | None, html: str | None, compare: bool, plain: bool,
    as_json: bool,
    price: str | None, grid: str | None, pue: str | None, watts: str | None, claimed_hours: int | None,
    trials: str | None, items: tuple[str, ...], checkpoints: int, checkpoint_days: float | None,
    storage_class: str | None, **options: Any,
) -> None:  # fmt: skip
    """Plan training or fine-tuning: compute, memory, time, cost.

    SOURCE is what `weigh inspect` takes, or a number of parameters such as 7B. Without a layout the fastest that fits
    is searched for; what is given of it stays. Exit code 1 when it does not fit, or when the stated hours cannot be.
    """
    from weighbridge.hardware import catalogue
    from weighbridge.predict.training.money import outlay
    from weighbridge.training import train
    from weighbridge.training_wish import check_method, wish
    from weighbridge.ways_to_train import ways_to_train

    own = () if devices_file is None else catalogue.read(devices_file)
    asked = wish(**options)
    usd = None if price is None else parse_range(price)
    beside = outlay(trials=trials, items=items, checkpoints=checkpoints, checkpoint_days=checkpoint_days,
                    storage_class=storage_class)  # fmt: skip
    terms: dict[str, Any] = {"usd_per_hour": usd, "grid": grid, "pue": pue, "own_devices": own, "outlay": beside,
                             "watts": None if watts is None else parse_range(watts),
                             "today": datetime.date.today()}  # fmt: skip
    if compare:
        if svg is not None or html is not None or claimed_hours is not None or plain:
            raise click.UsageError("--svg, --html, --plain and --claimed-hours are for one plan: leave --compare out")
        found = ways_to_train(source, on, asked, **terms)
        if as_json:
            output.print_json(found.to_json())
        else:
            from weighbridge.show import trainings

            output.print_lines(trainings.ways_lines(found))
        if all(plan.memory.fits is False for plan in found.plans):
            raise SystemExit(1)
        return
    check_method(options)
    plan = train(source, on, asked, claimed_hours=claimed_hours, **terms)
    if svg is not None or html is not None:
        _draw(plan, source, svg, html)
    if as_json:
        output.print_json(plan.to_json())
    else:
        from weighbridge.show import trainings

        output.print_lines(trainings.training_lines(plan))
        if plain:
            from weighbridge.show.plain import training_lines

            output.print_plain(training_lines(plan))
        for path in filter(None, (svg, html)):
            click.echo(f"wrote {path}", err=True)
    if plan.memory.fits is False or (plan.claim is not None and not plan.claim.can_be):
        raise SystemExit(1)


def _draw(plan: TrainingPlan, source: str, svg: str | None, html: str | None) -> None:
    from weighbridge import output_file
    from weighbridge.show import training_pictures

    output.check_outputs(plan.shape.inspection, source, svg, html)
    if svg is not None:
        output_file.write_text(svg, training_pictures.memory_svg(plan))
    if html is not None:
        output_file.write_text(html, training_pictures.page(plan))
