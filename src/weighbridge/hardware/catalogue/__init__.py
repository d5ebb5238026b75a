"""Which devices have a name here? Their makers' facts, each with its source, in one TOML file a vendor.

A file that a user names is read beside them; its devices go before those of the same name.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, FormatError, SourceError, UnknownNameError
from weighbridge.hardware.catalogue import checks
from weighbridge.hardware.device import Device
from weighbridge.names import index, plain

FOLDER = Path(__file__).parent

WELL_KNOWN = ("h100-sxm", "a100-sxm-80", "rtx-4090", "apple-m2-max", "mi300x", "raspberry-pi-5")
"""Named where no name is near to the one that was asked for."""

_MAKERS = r"nvidia|tesla|amd|ati|apple inc\.?|geforce|instinct|radeon (?=rx|pro)|graphics|generation"


def _device(name: str, facts: Mapping[str, Any]) -> Device:
    lists = {key: tuple(facts[key]) for key in ("aliases", "notes") if key in facts}
    return Device(name=name, **{**facts, **lists})


@functools.cache
def devices() -> tuple[Device, ...]:
    """Every device, by vendor and then in the order of its file.

    Example:
        >>> len(devices()) >= 120
        True
    """
    return tuple(
        _device(name, facts)
        for path in sorted(FOLDER.glob("*.toml"))
        for name, facts in tomllib.loads(path.read_text(encoding="utf-8")).items()
    )


@functools.cache
def _by_name() -> dict[str, Device]:
    return index(devices())


def read(path: str | Path) -> tuple[Device, ...]:
    """The devices of a user's own file, in the form of the catalogue's.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when it is no TOML.
        ConfigError: when a key or a value is none that a device can have, or two devices share a name.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise FormatError(f"{path} is no TOML ({error})", "a TOML file of devices", "correct the file") from error
        raise SourceError(f"{path} cannot be read ({error})", "a TOML file of devices", "check the path") from error
    found = tuple(checks.device(name, facts, str(path)) for name, facts in tables.items())
    owners: dict[str, str] = {}
    for device in found:
        for name in device.names:
            if owners.setdefault(plain(name), device.name) != device.name:
                read = f"{path}: the name {name!r} of {owners[plain(name)]!r} and of {device.name!r}"
                raise ConfigError(read, "names that one device has", "rename one of them")
    return found


def find_device(name: str, own: tuple[Device, ...] = ()) -> Device:
    """The device of this name; case and the signs between the parts of a name do not matter.

    The names that `nvidia-smi` and `rocm-smi` print are understood.

    Raises:
        UnknownNameError: when none has it; it lists the nearest, or well-known ones when none is near.

    Example:
        >>> find_device("H100 SXM").name, find_device("NVIDIA A100-SXM4-80GB").name
        ('h100-sxm', 'a100-sxm-80')
    """
    found = index(own).get(plain(name)) or _by_name().get(plain(name)) or printed_device(name)
    if found is None:
        known = {**_by_name(), **index(own)}
        near = difflib.get_close_matches(plain(name[:200]), known, n=8, cutoff=0.6)
        suggested = [known[other].name for other in near] or WELL_KNOWN
        raise UnknownNameError("device", name, suggested, "run `weigh devices`, or describe it in a file of your own")
    return found


def printed_device(title: str, memory_bytes: int | None = None) -> Device | None:
    """The device that a vendor's tool means by a name: makers' words and memory sizes may be there or not.

    A size in the name has to be about that of the device.

    Example:
        >>> printed_device("NVIDIA GeForce RTX 4090").name, printed_device("NVIDIA H100 80GB HBM3").name
        ('rtx-4090', 'h100-sxm')
        >>> printed_device("Voodoo 2") is printed_device("NVIDIA GeForce RTX 4090 99GB") is None
        True
    """
    title = title[:200]
    short = re.sub(r"[\[\]()]", " ", re.sub(rf"(?i)\b({_MAKERS})\b", " ", title))
    said = re.search(r"(?i)\b(\d{1,6})\s?gi?b\b", short)
    bare = re.sub(r"(?i)\b\d+\s?gi?b\b|\bhbm\d?e?\b", " ", short)
    size = "" if memory_bytes is None else f" {round(memory_bytes / 2**30)}GB"
    form = re.sub(r"(?i)sxm\d", "SXM", bare)
    hbm = f"{bare} SXM" if re.search(r"(?i)hbm3", title) else ""
    whole = (title, short, re.sub(r"(?i)sxm\d", "SXM", short))
    for name in (*whole, hbm, bare + size, bare, form + size, form, "apple " + bare + size, "apple " + bare):
        found = _by_name().get(plain(name).strip("-"))
        if found and (name in whole or said is None or _holds(found, int(said[1]))):
            return found
    return None


def _holds(device: Device, gigabytes: int) -> bool:
    return device.memory_bytes is None or 0.85 < device.memory_bytes / (gigabytes * 1e9 or 1.0) < 1.15


def matching(text: str, own: tuple[Device, ...] = ()) -> Iterator[Device]:
    """The devices whose names, vendor or kind hold a text, the user's own ones first."""
    wanted = plain(text)
    return (d for d in (*own, *devices()) if any(wanted in plain(part) for part in (*d.names, d.vendor, d.kind)))
