"""What does a cloud rent by a name? The devices in an instance, and what an hour of it cost on a date."""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.device import Device

FILE = Path(__file__).parent / "instances.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """So many devices, rented together. `vcpus` and `memory_bytes` are those of the host; None where not known."""

    name: str
    cloud: str
    device: str
    devices: int
    source: str
    price_usd_per_h: float | None = None
    price_date: datetime.date | None = None
    region: str | None = None
    vcpus: int | None = None
    memory_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def rented(self) -> Device:
        """Its device, at its share of the price; without one where none is known."""
        device = find_device(self.device)
        if self.price_usd_per_h is None:
            return replace(device, price_usd_per_h=None)
        told = f"{self.name} in {self.region}, {self.price_date}: {self.source}"
        return replace(device, price_usd_per_h=self.price_usd_per_h / self.devices,
                       sources={**device.sources, "price_usd_per_h": told})  # fmt: skip


@functools.cache
def instances() -> Mapping[str, Instance]:
    """Every instance, by its name in small letters."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        name.lower(): Instance(name=name, **{**facts, "notes": tuple(facts.get("notes", ()))})
        for name, facts in tables.items()
    }


def find_instance(name: str) -> Instance | None:
    """The instance of this name, as its cloud spells it; None when there is none.

    Example:
        >>> found = find_instance("p5.48xlarge")
        >>> found.device, found.devices
        ('h100-sxm', 8)
    """
    return instances().get(name.strip().lower())
