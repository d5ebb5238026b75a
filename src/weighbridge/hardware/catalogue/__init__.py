"""Which devices have a name here? Their makers' facts, each with its source, in one TOML file a vendor.

A file that a user names is read beside them; its devices go before those of the same name.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weighbridge.errors import FormatError, SourceError, UnknownNameError
from weighbridge.hardware.device import Device
from weighbridge.names import index, plain

FOLDER = Path(__file__).parent


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
        FormatError: when it is no TOML, or a device has a key that none has, or lacks one that all have.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({error})", "a TOML file of devices", "check the path") from error
    try:
        return tuple(_device(name, facts) for name, facts in tomllib.loads(text).items())
    except (tomllib.TOMLDecodeError, TypeError, AttributeError, AssertionError) as error:
        expected = "a table for each device with the keys that docs/reference/hardware.md lists"
        raise FormatError(f"{path} holds no devices ({error})", expected, "correct the file") from error


def find_device(name: str, own: tuple[Device, ...] = ()) -> Device:
    """The device of this name; case and the signs between the parts of a name do not matter.

    Raises:
        UnknownNameError: when none has it; it lists the nearest.

    Example:
        >>> find_device("H100 SXM").name
        'h100-sxm'
    """
    found = index(own).get(plain(name)) or _by_name().get(plain(name))
    if found is None:
        known = (*_by_name(), *index(own))
        raise UnknownNameError("device", name, known, "run `weigh devices`, or describe it in a file of your own")
    return found


def matching(text: str) -> Iterator[Device]:
    """The devices whose names, vendor or kind hold a text."""
    wanted = plain(text)
    return (d for d in devices() if any(wanted in plain(part) for part in (*d.names, d.vendor, d.kind)))
