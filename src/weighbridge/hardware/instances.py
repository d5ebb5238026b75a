"""What does a cloud rent by a name? The devices in an instance, and what an hour of it cost on a date."""

from __future__ import annotations

import datetime
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import UnknownNameError
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.device import Device

FILE = Path(__file__).parent / "instances.toml"

ALL_SIZES = ("g4dn", "g5", "g6", "g6e", "p3", "p3dn", "p4d", "p4de", "p5en", "inf2", "trn1", "trn1n")
"""Families of AWS whose every size is in the table (https://aws.amazon.com/ec2/instance-types/): no other exists."""
_LOOKS = re.compile(
    r"[a-z]+[0-9][a-z0-9-]*\.(?:[0-9]*x?large|metal[a-z0-9-]*|medium|small|micro|nano)|standard_\w+"
    r"|(?:bm|vm)\.gpu\S*|[a-z][0-9][a-z]?-[a-z]+-[0-9]+g?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """So many devices, rented together. `vcpus` and `memory_bytes` are those of the host; None where not known.

    `price_usd_per_h` is that on demand; the reserved ones are those of a term of one and of three years.
    """

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
    reserved_1_year_usd_per_h: float | None = None
    reserved_3_years_usd_per_h: float | None = None
    reserved_date: datetime.date | None = None
    reserved_source: str | None = None
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

    def to_json(self) -> dict[str, Any]:
        """One entry of `instances` in the document of `weigh prices`; null is unknown."""
        return {
            "name": self.name, "cloud": self.cloud, "device": self.device, "devices": self.devices,
            "usd_per_hour": self.price_usd_per_h, "reserved_1_year_usd_per_hour": self.reserved_1_year_usd_per_h,
            "reserved_3_years_usd_per_hour": self.reserved_3_years_usd_per_h, "region": self.region,
            "date": None if self.price_date is None else self.price_date.isoformat(), "source": self.source,
            "reserved_date": None if self.reserved_date is None else self.reserved_date.isoformat(),
            "reserved_source": self.reserved_source, "notes": list(self.notes),
        }  # fmt: skip


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


def looks_like_instance(name: str) -> bool:
    """Whether a name is spelled as clouds spell those of their instances.

    Example:
        >>> looks_like_instance("p4d.xlarge"), looks_like_instance("rtx-4090")
        (True, False)
    """
    return _LOOKS.fullmatch(name.strip().lower()) is not None


def unknown_instance(name: str) -> UnknownNameError:
    """The error for an instance that is not in the table; where it does not exist, it says so.

    Example:
        >>> print(unknown_instance("p4d.xlarge").action)
        AWS has no p4d.xlarge: that family has p4d.24xlarge alone
    """
    known = [instance.name for instance in instances().values()]
    family = name.strip().lower().partition(".")[0]
    sizes = [other for other in known if other.lower().partition(".")[0] == family]
    error = UnknownNameError("instance", name, known, "see `weigh prices` for those that are known")
    if not sizes:
        return error
    told = f"{', '.join(sizes)}" if len(sizes) > 1 else f"{sizes[0]} alone"
    action = (
        f"AWS has no {name.strip()}: that family has {told}" if family in ALL_SIZES else f"known of that family: {told}"
    )
    near = [*sizes[:4], *(other for other in error.nearest if other not in sizes)][:4]
    return UnknownNameError("instance", name, near, action)
