"""How much carbon does energy stand for? Energy of the machines x PUE x grams of CO2 equivalent a kilowatt-hour.

The grid is a yearly mean of where the power is generated, without purchases and certificates. Where no grid or PUE is
named, both are assumed: a PUE of 1.08 to 1.54 (Meta's and the world's in `facilities.toml`) around 1.2, and 30 g (a
clean grid) to 800 g (a grid of coal) around the world's mean of 2024 (IEA, Electricity 2025: 445 g).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.hardware.facilities import find_fleet, makings
from weighbridge.hardware.grids import find_grid

J_PER_KWH = 3.6e6
ASSUMED_GRID = Estimate(445.0, 30.0, 800.0, "g/kWh", Basis.ASSUMED, "grids of 30 to 800 g/kWh")
ASSUMED_PUE = Estimate(1.2, 1.08, 1.54, "", Basis.ASSUMED, "a PUE of 1.08 to 1.54")
LIFETIME_YEARS = (3.0, 4.0, 6.0)
"""For how long a device is used, all the time: low, middle, high; assumed."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a machine stands: grams of CO2 equivalent a kilowatt-hour, and what the building takes over the machine."""

    grid: Estimate = ASSUMED_GRID
    pue: Estimate = ASSUMED_PUE

    def to_json(self) -> dict[str, Any]:
        """The part `site` of a document."""
        return {"grid_g_per_kwh": self.grid.to_json(), "pue": self.pue.to_json()}


ANYWHERE = Site()
"""A place of which neither grid nor building is known."""


def site(grid: str | None = None, pue: str | None = None) -> Site:
    """A place by the names of its grid and operator, or by numbers; what is not given is assumed.

    Args:
        grid: a name that `weigh grids` lists, or grams of CO2 equivalent a kilowatt-hour.
        pue: an operator, or the energy of the data centre over that of its machines.

    Raises:
        UnknownNameError: when there is no such grid or operator.
        UnitError: when a number is none that can be.

    Example:
        >>> site("423", "1.1").grid.value, site("france").grid.basis.value, site().grid.basis.value
        (423.0, 'specified', 'assumed')
    """
    return Site(ASSUMED_GRID if grid is None else _grid(grid), ASSUMED_PUE if pue is None else _pue(pue))


def _grid(text: str) -> Estimate:
    given = _number(text)
    if given is None:
        found = find_grid(text)
        note = f"{found.title}, mean of {found.year}: {found.source}"
        return Estimate(found.g_per_kwh, *found.bounds, "g/kWh", Basis.SPECIFIED,
                        "; ".join(filter(None, (note, found.note))))  # fmt: skip
    if not 0 <= given <= 3000:
        raise UnitError(f"a grid of {text} g/kWh", "grams of CO2e a kilowatt-hour from 0 to 3000", "correct it")
    return Estimate(given, given, given, "g/kWh", Basis.SPECIFIED, f"a grid of {given:g} g/kWh, as given")


def _pue(text: str) -> Estimate:
    given = _number(text)
    if given is None:
        fleet = find_fleet(text)
        return Estimate(fleet.pue, fleet.pue, fleet.pue, "", Basis.SPECIFIED,
                        f"a PUE of {fleet.pue:g}, {fleet.title}, {fleet.year}: {fleet.source}")  # fmt: skip
    if not 1 <= given <= 10:
        raise UnitError(f"a PUE of {text}", "the energy of a data centre over its machines', 1 to 10", "correct it")
    return Estimate(given, given, given, "", Basis.SPECIFIED, f"a PUE of {given:g}, as given")


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def product(parts: Sequence[Estimate], unit: str, note: str = "", scale: float = 1.0) -> Estimate:
    """The product of estimates that are not negative; unknown as soon as one is. Bounds are taken to move together.

    Example:
        >>> watts = Estimate(75.0, 50.0, 100.0, "W", Basis.ASSUMED)
        >>> joules = product([watts, Estimate(0.75, 0.5, 1.0, "s", Basis.ASSUMED)], "J")
        >>> joules.low, joules.high
        (25.0, 100.0)
    """
    basis = weakest(part.basis for part in parts)
    value = low = high = scale
    for part in parts:
        if part.value is None or part.low is None or part.high is None:
            return Estimate(None, None, None, unit, basis, part.note)
        value, low, high = value * part.value, low * part.low, high * part.high
    return Estimate(value, low, high, unit, basis, note)


def facility_kwh(energy_j: Estimate, at: Site) -> Estimate:
    """Kilowatt-hours of the whole data centre for joules of its machines."""
    return product([energy_j, at.pue], "kWh", at.pue.note, 1 / J_PER_KWH)


def emitted(energy_j: Estimate, at: Site) -> Estimate:
    """Grams of CO2 equivalent for joules of machines at a place.

    Example:
        >>> round(emitted(Estimate(3.6e6, 3.6e6, 3.6e6, "J", Basis.MEASURED), site("100", "1.5")).value or 0, 9)
        150.0
    """
    return product([energy_j, at.pue, at.grid], "g", f"{at.pue.note} and {at.grid.note}", 1 / J_PER_KWH)


def embodied(device: str, devices: int, busy_s: Estimate) -> Estimate:
    """The share of what making a machine emitted, in grams of CO2 equivalent, that falls on so many seconds of its use.

    The devices alone, without their host; used all the time for 4 years (3 to 6), which is assumed.
    """
    made = makings().get(device)
    if made is None:
        return Estimate(None, None, None, "g", Basis.SPECIFIED, f"what making {device} emitted is not published")
    short, usual, long = (years * 365.25 * 86400 for years in LIFETIME_YEARS)
    a_second = Estimate(made.carbon_g / usual, made.low_g / long, made.high_g / short, "g/s", Basis.ASSUMED)
    return product([a_second, busy_s], "g", f"a life of 3 to 6 years; {made.source}", devices)
