"""`weigh scaling`."""

from __future__ import annotations

from typing import Any

import click

from weighbridge.cli import here, output


@click.group("scaling")
def command() -> None:
    """Size a training run by scaling laws, or fit one to runs."""


_law = click.option("--law", "names", multiple=True, metavar="NAME", help="Only this law; give it again for more.")
_svg = click.option("--svg", metavar="FILE", help="Draw lines of equal loss over parameters and tokens.")


def _write(svg: str, drawn: str) -> None:
    from weighbridge import output_file

    output_file.write_text(svg, drawn)
    click.echo(f"wrote {svg}", err=True)


@command.command("laws")
@output.json_option
def laws(as_json: bool) -> None:
    """List the published scaling laws: what they count, the runs behind them, the source."""
    from weighbridge.predict.scaling_laws import laws as published

    found = list(published.laws().values())
    if as_json:
        output.print_json([published.law_json(law) for law in found])
        return
    from weighbridge.show import scaling

    output.print_lines(scaling.law_lines(found))


@command.command("optimum")
@click.option("--flops", type=output.Count(), help="A budget of operations of training, such as 5.76e23.")
@click.option("--parameters", type=output.Count(), help="A model, such as 7B.")
@click.option("--tokens", type=output.Count(), help="A data set, such as 1.4T.")
@_law
@click.option(
    "--served",
    type=output.Count(),
    metavar="TOKENS",
    help="Tokens that the model will serve: adds the one that takes the least in all.",
)
@click.option(
    "--unique",
    type=output.Count(),
    metavar="TOKENS",
    help="Unique tokens that there are: adds the best number of epochs.",
)
@_svg
@output.json_option
def optimum(
    flops: int | None, parameters: int | None, tokens: int | None, names: tuple[str, ...], served: int | None,
    unique: int | None, svg: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Find the model and the tokens that suit a budget, a model or a data set, by each law."""
    from weighbridge.scaling import size

    if [flops, parameters, tokens].count(None) != 2:
        raise click.UsageError("give one of --flops, --parameters and --tokens")
    found = size(flops=flops, parameters=parameters, tokens=tokens, names=names, served_tokens=served,
                 unique_tokens=unique)  # fmt: skip
    if svg is not None:
        from weighbridge.show import iso_loss

        _write(svg, iso_loss.sizing_svg(found))
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import scaling

    output.print_lines(scaling.sizing_lines(found))


@command.command("loss")
@click.option("--parameters", type=output.Count(), required=True, help="Of the model, such as 70B.")
@click.option("--tokens", type=output.Count(), required=True, help="Of the run, each as often as it is read.")
@_law
@click.option("--unique", type=output.Count(), metavar="TOKENS", help="Unique tokens among them: the others repeat.")
@_svg
@output.json_option
def loss(
    parameters: int, tokens: int, names: tuple[str, ...], unique: int | None, svg: str | None, as_json: bool
) -> None:  # fmt: skip
    """Predict the loss of a run by each law, and say whether its tokens suit its size."""
    from weighbridge.scaling import losses

    found = losses(parameters, tokens, names, unique)
    if svg is not None:
        from weighbridge.show import iso_loss

        _write(svg, iso_loss.losses_svg(found))
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import scaling

    output.print_lines(scaling.loss_lines(found))


@command.command("gain")
@click.option("--parameters", type=output.Count(), required=True, help="Of the model, such as 70B.")
@click.option("--times", type=float, multiple=True, help="So many times as many: 2, 3 and 10 without it.")
@_law
@output.json_option
def gain(parameters: int, times: tuple[float, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Predict by how much the loss falls with more parameters, by each law."""
    from weighbridge.scaling import size_gains

    found = size_gains(parameters, times, names)
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import scaling

    output.print_lines(scaling.gain_lines(found))


@command.command("exponent")
@click.argument("costs", metavar="SIZE=USD...", nargs=-1, required=True)
@_law
@output.json_option
def exponent(costs: tuple[str, ...], names: tuple[str, ...], as_json: bool) -> None:
    """Find the power of size by which listed costs grow, beside that of each law.

    SIZE=USD is a model and what it cost, or its least and most, such as 540B=15M-20M; two or more.
    """
    from weighbridge.scaling import growth_of_cost

    found = growth_of_cost(costs, names)
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import scaling

    output.print_lines(scaling.growth_lines(found))


@command.command("supply")
@click.option("--tokens", type=output.Count(), required=True, help="Of the run, each as often as it is read.")
@click.option("--synthetic", metavar="SHARE", help="Share of them that is synthetic, or two such as 0.3-0.5.")
@output.json_option
def supply(tokens: int, synthetic: str | None, as_json: bool) -> None:
    """Hold a token budget against the public text that there is.

    Exit code 1 when the tokens that people have to write are more than there are.
    """
    from weighbridge.scaling import data_supply
    from weighbridge.units import parse_range

    found = data_supply(tokens, None if synthetic is None else parse_range(synthetic))
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import scaling

        output.print_lines(scaling.supply_lines(found))
    if found.needs[0].verdict == "beyond":
        raise SystemExit(1)


@command.command("claims")
@click.argument("names", metavar="[QUESTION]...", nargs=-1)
@output.json_option
def claims(names: tuple[str, ...], as_json: bool) -> None:
    """List what publications say that contradict each other, each with its source.

    QUESTION is emergence, data-exhaustion or another name of the list; all without it. Nothing else rests on them.
    """
    from weighbridge.predict.disputed import disputes, find_dispute

    found = [find_dispute(name) for name in names] or list(disputes().values())
    if as_json:
        output.print_json([one.to_json() for one in found])
        return
    from weighbridge.show.disputes import dispute_lines

    output.print_lines(dispute_lines(found))


@command.command("fit")
@click.argument("runs", metavar="RUNS.csv")
@click.option("--predict", "wanted", multiple=True, metavar="N,D", help="Predict a run of N parameters and D tokens.")
@click.option("--no-floor", is_flag=True, help="Fit without E, the loss that nothing goes below.")
@click.option("--bootstrap", type=output.Count(), default=400, show_default=True, help="Resamples for the intervals.")
@click.option("--seed", type=output.Count(), default=0, show_default=True, help="Of the resamples.")
@click.option(
    "--delta", type=float, default=1e-3, show_default=True, help="From which error on Huber's loss grows in a line."
)
@_svg
@output.json_option
def fit(
    runs: str, wanted: tuple[str, ...], no_floor: bool, bootstrap: int, seed: int, delta: float, svg: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Fit a law to runs of your own, and predict a larger one.

    RUNS.csv has a line for each finished run: loss, and parameters with tokens or flops, or flops alone. Exit code 1
    when the runs do not settle the law.
    """
    from weighbridge.scaling import fit_runs

    bar = here.bar()
    found = fit_runs(
        runs, [_run(text) for text in wanted], floor=not no_floor, bootstrap=bootstrap, seed=seed, delta=delta,
        progress=None if bar is None else lambda done, of: bar("resamples", done, of),
    )  # fmt: skip
    if svg is not None:
        from weighbridge.show import iso_loss

        _write(svg, iso_loss.fitted_svg(found))
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import scaling

        output.print_lines(scaling.fitted_lines(found))
    if found.law.is_decided is False:
        raise SystemExit(1)


def _run(text: str) -> tuple[Any, Any]:
    """Parameters and tokens of `--predict`."""
    from weighbridge.errors import UnitError
    from weighbridge.units import parse_count

    parts = text.split(",")
    if len(parts) != 2:
        raise UnitError(f"{text[:60]!r} has {len(parts) - 1} commas", "one, as in 70B,1.4T", "write it so")
    return parse_count(parts[0]), parse_count(parts[1])
