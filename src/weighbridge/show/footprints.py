"""How do energy and carbon read on a terminal? Amounts with intervals, what they are like, a claim beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from weighbridge.errors import printable
from weighbridge.estimate import Estimate
from weighbridge.footprint import Claim, Footprint
from weighbridge.hardware.grids import Grid
from weighbridge.predict.carbon import J_PER_KWH, facility_kwh
from weighbridge.show.plans import amount, figure
from weighbridge.show.tables import bold, table
from weighbridge.units import format_count, format_energy, format_mass


def footprint_lines(found: Footprint) -> Iterator[str]:
    """The report of `weigh energy`."""
    yield bold(printable(f"energy and carbon: {found.source}"))
    if found.power_w is not None and found.seconds is not None and found.power_w.value is not None:
        seconds = found.seconds
        long = seconds.value is not None and seconds.value >= 7200
        lasting = f"{amount(seconds.times(1 / 3600))} h" if long else f"{amount(seconds)} s"
        yield f"{amount(found.power_w)} W for {lasting} a request"
    yield ""
    rows = [(one.what, between(one.energy_j, format_energy),
             between(facility_kwh(one.energy_j, found.site).times(J_PER_KWH), format_energy),
             between(one.carbon_g, format_mass), one.carbon_g.basis.value) for one in found.amounts()]  # fmt: skip
    heads = ("of", "the machines", "the data centre", "CO2e", "basis")
    yield from table("energy and carbon", heads, rows, right=(1, 2, 3))
    shown = found.pictured
    if shown.carbon_g.value is not None:
        counts = [(one["title"], between(Estimate.from_json(one["count"]), many), str(one["year"]))
                  for one in found.equivalents]  # fmt: skip
        yield from table(f"as much as ({shown.what})", ("what", "how many", "figure of"), counts, right=(1,))
    if (made := found.embodied_g).value is not None:
        yield f"making the devices adds {between(made, format_mass)} of CO2e a request ({made.basis.value})"
    if (claim := found.claim) is not None:
        yield claim_line(claim, found)
    yield f"grid: {_of(found.site.grid)}"
    yield f"PUE: {_of(found.site.pue)}"
    yield from (f"note: {printable(note)}" for note in found.all_notes())


def claim_line(claim: Claim, found: Footprint) -> str:
    """What a claim says, and whether it can be."""
    said = f"claimed: {format_energy(claim.claimed_j)} a request"
    if claim.ratio is None or claim.verdict == "unknown":
        return f"{said}; nothing is known to hold it against"
    follows = between(found.energy_j, format_energy)
    if claim.verdict == "inside":
        return f"{said}; {follows} follows: no contradiction"
    side = "the most" if claim.verdict == "above" else "the least"
    seconds = found.seconds
    would = ""
    if seconds is not None and seconds.low and seconds.high:
        watts = [figure(claim.claimed_j / s) for s in dict.fromkeys((seconds.high, seconds.low))]
        would = f"; it would take {' to '.join(watts)} W"
    return f"{said}; {follows} follows: CONTRADICTION, {figure(claim.ratio, 3)} times {side}{would}"


def between(estimate: Estimate, form: Callable[[float], str]) -> str:
    """An estimate in words of its own, with the interval where there is one."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "unknown"
    if estimate.low == estimate.high:
        return form(estimate.value)
    return f"{form(estimate.value)} ({form(estimate.low)} to {form(estimate.high)})"


def many(count: float) -> str:
    """A count of things for people."""
    return format_count(round(count)) if count >= 1000 else figure(count)


def _of(fact: Estimate) -> str:
    unit = f" {fact.unit}" if fact.unit else ""
    return printable(f"{amount(fact)}{unit}, {fact.basis.value}: {fact.note}")


def grid_lines(grids: Iterable[Grid]) -> Iterator[str]:
    """The table of `weigh grids`."""
    rows = [(grid.name, grid.title, f"{grid.g_per_kwh:,.1f}", str(grid.year), grid.source.split(",")[0].split(" (")[0])
            for grid in grids]  # fmt: skip
    yield from table("grids (specified)", ("name", "title", "g CO2e/kWh", "year", "source"), rows, right=(2,))
