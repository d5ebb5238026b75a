"""`weigh energy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli import output
from weighbridge.cli.fit import plan_options, site_options, with_own_devices
from weighbridge.errors import UnitError
from weighbridge.units import parse_range

if TYPE_CHECKING:
    from weighbridge.footprint import Footprint

OWN = ("source", "watts", "seconds", "hours", "energy", "meter", "requests", "requests_per_day", "idle_watts", "claim",
       "grid", "pue", "as_json")  # fmt: skip


class Range(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic only in later releases of click
    """A number above 0, or two with a dash between."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Both ends."""
        if isinstance(value, tuple):
            return value
        try:
            bounds = parse_range(str(value))
        except UnitError:
            bounds = (0.0, 0.0)
        if not bounds[0] > 0:
            self.fail(f"{value!r} is no range; expected a number above 0, or two such as 50-100", param, ctx)
        return bounds


class Energy(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic only in later releases of click
    """An energy with its unit."""

    name = "energy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Joules, or click's error with our sentence."""
        from weighbridge.units import parse_energy

        try:
            return value if isinstance(value, float) else parse_energy(value)
        except UnitError as error:
            self.fail(str(error), param, ctx)


@click.command("energy")
@click.argument("source", required=False)
@click.option("--on", metavar="DEVICE", help="With SOURCE: a device that `weigh devices` lists, or here.")
@click.option("--watts", type=Range(), help="Instead: the power, such as 400 or 50-100.")
@click.option("--seconds", type=Range(), help="With --watts: for how long, such as 0.5-1.")
@click.option("--hours", type=Range(), help="The same in hours.")
@click.option("--energy", type=Energy(), help="Instead: the energy of one request, such as 144J or 0.00004kWh.")
@click.option("--meter", type=click.FloatRange(0.1, 86_400), metavar="SECONDS",
              help="Instead: read the meters of this machine for so long.")  # fmt: skip
@click.option("--requests", type=output.Count(), help="How many requests, such as 1e9.")
@click.option("--requests-per-day", type=output.Count(), help="Requests of a day.")
@click.option("--idle-watts", type=Range(), help="Power of the whole machine while it waits.")
@click.option("--claim", type=Energy(), help="A figure for one request to hold against it, such as 144J.")
@site_options
@plan_options
@output.json_option
def command(
    source: str | None, on: str | None, watts: tuple[float, float] | None, seconds: tuple[float, float] | None,
    hours: tuple[float, float] | None, energy: float | None, meter: float | None, requests: int | None,
    requests_per_day: int | None, idle_watts: tuple[float, float] | None, claim: float | None, grid: str | None,
    pue: str | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Count the energy and carbon of requests.

    Of the plan of a model (SOURCE --on DEVICE), of --watts for --seconds, of a known --energy, or of what the meters of
    this machine say. Exit code 1 when the model does not fit, a claim is outside of what follows, or no meter answers.
    """
    from weighbridge import footprint
    from weighbridge.predict.carbon import site

    if sum(one is not None for one in (source, watts, energy, meter)) != 1:
        raise click.UsageError("give one of SOURCE, --watts, --energy and --meter")
    if source is None:
        _without_plan()
    at, fits = site(grid, pue), True
    asked: dict[str, Any] = {"requests": requests, "requests_per_day": requests_per_day, "claimed_j": claim,
                             "idle_w": None if idle_watts is None else footprint.given(idle_watts, "W")}  # fmt: skip
    for name, count in (("--requests", requests), ("--requests-per-day", requests_per_day)):
        if count is not None and count < 1:
            raise click.UsageError(f"{name} takes a count of 1 or more")
    if meter is not None and not meter > 0:  # click's range lets nan through
        raise click.UsageError("--meter takes seconds, not nan")
    if (watts is None) != (seconds is None and hours is None) or (seconds is not None and hours is not None):
        raise click.UsageError("give --watts with --seconds or --hours: one of these")
    if source is not None:
        from weighbridge.planning import fit

        if on is None:
            raise click.UsageError("name a device with --on")
        plan = fit(source, on, grid=grid, pue=pue, alternatives=False, **with_own_devices(options))
        fits = plan.memory.fits is not False
        found = footprint.of_plan(plan, **asked)
    elif watts is not None:
        times = seconds or hours
        assert times is not None
        lasting = footprint.given(times, "s").times(1.0 if seconds else 3600.0)
        found = footprint.of_power(footprint.given(watts, "W"), lasting, at, **asked)
    elif energy is not None:
        found = footprint.of_energy(footprint.given((energy, energy), "J"), at, **asked)
    else:
        assert meter is not None
        found = _metered(meter, at, asked)
    if as_json:
        output.print_json(found.to_json())
    else:
        from weighbridge.show import footprints

        output.print_lines(footprints.footprint_lines(found))
    if (found.claim is not None and found.claim.verdict in ("above", "below")) or (
        not fits or (meter is not None and found.energy_j.value is None)
    ):
        raise SystemExit(1)


def _metered(seconds: float, at: Any, asked: dict[str, Any]) -> Footprint:
    import time

    from weighbridge import footprint
    from weighbridge.hardware.meter import meter

    found = meter(time.monotonic)
    with found.reading():
        since = time.monotonic()
        if found.sensors:
            time.sleep(seconds)
        until = time.monotonic()
    each = {name: f"{name}: {one.value:,.4g} J" if one.value is not None else f"{name}: {one.note}"
            for name, one in found.energy(since, until).items()}  # fmt: skip
    total = found.total(since, until)
    power = total.times(1 / (until - since))
    notes = (*found.notes, *each.values())
    lasting = footprint.given((until - since, until - since), "s")
    return footprint.metered(total, power, lasting, at, notes, **asked)


def _without_plan() -> None:
    """Refuses the options of a plan where none is made."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.DEFAULT
        if given and parameter.name not in OWN:
            raise click.UsageError(f"{parameter.opts[0]} is for plans: name a model, or leave it out")
