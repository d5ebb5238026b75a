"""What does a training run take in electricity and emit? Hours of devices times watts that were metered in training.

    watts of a device  = the mean of its metered runs, or rated power x the mean share of other devices' runs
    energy             = device-hours x watts, of the machines with hosts, network and fans
    of the data centre = energy x PUE; carbon = that x grams a kilowatt-hour

Means and intervals are those of logarithms. The interval is that of a further run, by Student's t with the freedom of
so few rows: of a metered device from the spread between runs of one device, of others from that between devices. Model
cards mostly count hours x rated power of the devices alone; that is told beside it. Rows: `metered.toml`.
"""

from __future__ import annotations

import datetime
import functools
import math
import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.predict.carbon import ANYWHERE, J_PER_KWH, Site, embodied, emitted, facility_kwh, product
from weighbridge.predict.equivalents import pictured

FILE = Path(__file__).parent / "metered.toml"
STUDENT_T = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833}
"""The 95th percentile of Student's t by degrees of freedom: both sides together leave 10%."""
MOST_WATTS = 1e5
"""No device takes more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """One metered run: watts of a device with its share of everything in the racks."""

    name: str
    device: str
    watts: float
    devices: int
    source: str
    checked: datetime.date
    rated_w: float | None = None


@functools.cache
def metered() -> tuple[Metered, ...]:
    """Every metered run, in the order of the file."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Metered(name=name, **facts) for name, facts in tables.items())


def power(device: Device, rows: Sequence[Metered] | None = None) -> Estimate:
    """Watts of one device that trains, with its share of host, network and fans.

    Args:
        device: of the catalogue.
        rows: the metered runs to take it from, instead of all.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> found = power(find_device("tpu-v3"))
        >>> round(found.value), found.basis.value
        (299, 'modelled')
        >>> power(find_device("tpu-v5e")).value is None
        True
    """
    rows = metered() if rows is None else rows
    own = [row.watts for row in rows if row.device == device.name]
    if own:
        middle = statistics.fmean(map(math.log, own))
        spread, freedom = _within(rows)
        wide = STUDENT_T[freedom] * spread * math.sqrt(1 + 1 / len(own))
        runs = "a run" if len(own) == 1 else f"{len(own)} runs"
        return _between(middle, wide, f"{runs} metered on {device.title}, with hosts, network and fans")
    if device.tdp_w is None:
        return _unknown("W", f"neither was training metered on {device.title} nor is its rated power known")
    if device.kind not in ("gpu", "accelerator"):
        return _unknown("W", f"no training was metered on a device such as {device.title}: give its power")
    # TPUs have no clock that rises while the power allows it, and stay far below what they are rated for (Patterson).
    shares = [math.log(row.watts / row.rated_w) for row in rows
              if row.rated_w is not None and (device.kind != "gpu" or not row.device.startswith("tpu"))]  # fmt: skip
    wide = STUDENT_T[len(shares) - 1] * statistics.stdev(shares) * math.sqrt(1 + 1 / len(shares))
    middle = statistics.fmean(shares) + math.log(device.tdp_w)
    share = math.exp(statistics.fmean(shares))
    return _between(middle, wide, f"{share:.2f} times the rated {device.tdp_w:g} W, hosts, network and fans included, "
                                  f"as {len(shares)} runs metered on other devices have it")  # fmt: skip


def _within(rows: Sequence[Metered]) -> tuple[float, int]:
    """The standard deviation of the logarithm between runs of one device, and its degrees of freedom."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row.device, []).append(math.log(row.watts))
    squares = sum((one - statistics.fmean(group)) ** 2 for group in groups.values() for one in group)
    freedom = sum(len(group) - 1 for group in groups.values())
    return math.sqrt(squares / freedom), freedom


def _between(middle: float, wide: float, note: str) -> Estimate:
    low, value, high = (math.exp(middle + side) for side in (-wide, 0.0, wide))
    return Estimate(value, low, high, "W", Basis.MODELLED, note)


def _unknown(unit: str, note: str) -> Estimate:
    return Estimate(None, None, None, unit, Basis.ASSUMED, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEnergy:
    """What a run takes and emits at a place. `at_rated_kwh` is what model cards count: hours x rated power, no PUE."""

    device_hours: Estimate
    watts: Estimate
    site: Site
    embodied_g: Estimate
    at_rated_kwh: Estimate

    @property
    def machines_j(self) -> Estimate:
        """Joules of the machines."""
        return product([self.device_hours, self.watts], "J", self.watts.note, 3600.0)

    @property
    def machines_kwh(self) -> Estimate:
        """Kilowatt-hours of the machines."""
        return product([self.device_hours, self.watts], "kWh", self.watts.note, 1e-3)

    @property
    def facility_kwh(self) -> Estimate:
        """Kilowatt-hours of the data centre: what is paid for."""
        found = facility_kwh(self.machines_j, self.site)
        return found if found.value is None else Estimate(found.value, found.low, found.high, found.unit, found.basis,
                                                          f"{self.watts.note}; {self.site.pue.note}")  # fmt: skip

    @property
    def carbon_g(self) -> Estimate:
        """Grams of CO2 equivalent of that electricity."""
        return emitted(self.machines_j, self.site)

    @property
    def carbon_kg(self) -> Estimate:
        """The same in kilograms."""
        return _per(self.carbon_g, 1000, "kg")

    @property
    def equivalents(self) -> list[dict[str, Any]]:
        """Both in things that people know."""
        return pictured(self.facility_kwh.times(J_PER_KWH), self.carbon_g)

    def to_json(self) -> dict[str, Any]:
        """The part `energy` of the document of a training plan."""
        return {
            "device_hours": self.device_hours.to_json(), "watts_per_device": self.watts.to_json(),
            "site": self.site.to_json(), "machines_kwh": self.machines_kwh.to_json(),
            "facility_kwh": self.facility_kwh.to_json(), "at_rated_power_kwh": self.at_rated_kwh.to_json(),
            "carbon_kg": self.carbon_kg.to_json(),
            "embodied_kg": _per(self.embodied_g, 1000, "kg").to_json(), "equivalents": self.equivalents,
        }  # fmt: skip


def energy(
    device_hours: Estimate, device: Device, at: Site = ANYWHERE, watts: tuple[float, float] | None = None
) -> TrainingEnergy:
    """What a run of so many device-hours takes and emits.

    Args:
        device_hours: hours of one device, all devices together.
        device: which device.
        at: grid and PUE of the place, as `predict.carbon.site` makes them.
        watts: power of one device that is known, from the least to the most; hosts as far as they are in it.

    Raises:
        UnitError: when the watts cannot be.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> from weighbridge.predict.carbon import site
        >>> hours = Estimate.exact(1_720_320, "h")
        >>> found = energy(hours, find_device("a100-sxm-80"), site("423.5", "1"), watts=(400, 400))
        >>> round(found.facility_kwh.value / 1000, 1), round(found.carbon_g.value / 1e6, 1)
        (688.1, 291.4)
    """
    if watts is None:
        drawn = power(device)
    else:
        low, high = watts
        if not 0 < low <= high <= MOST_WATTS:
            raise UnitError(f"{low:g} to {high:g} W a device", f"watts above 0, up to {MOST_WATTS:g}", "correct them")
        told = f"{low:g} W" if low == high else f"{low:g} to {high:g} W"
        drawn = Estimate((low + high) / 2, low, high, "W", Basis.SPECIFIED, f"{told} a device, as given")
    if device.tdp_w is None:
        rated = Estimate(None, None, None, "kWh", Basis.SPECIFIED, f"the rated power of {device.title} is unknown")
    else:
        rated = _per(device_hours.times(device.tdp_w), 1000, "kWh",
                     f"hours times the rated {device.tdp_w:g} W of the device alone, as model cards count")  # fmt: skip
    seconds = product([device_hours], "s", scale=3600.0)
    return TrainingEnergy(device_hours=device_hours, watts=drawn, site=at, at_rated_kwh=rated,
                          embodied_g=embodied(device.name, 1, seconds))  # fmt: skip


def _per(estimate: Estimate, divisor: float, unit: str, note: str | None = None) -> Estimate:
    found = estimate.times(1 / divisor)
    return Estimate(found.value, found.low, found.high, unit, found.basis, found.note if note is None else note)
