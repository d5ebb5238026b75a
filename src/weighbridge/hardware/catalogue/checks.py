"""Is what a file says of a device possible? Its keys, the types of their values, and that amounts are above zero."""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.hardware.device import FORMATS, KINDS, Device

REQUIRED = ("title", "vendor", "kind", "source", "checked")
TEXTS = ("title", "vendor", "kind", "source", "memory_kind", "link")
LISTS = ("aliases", "notes")
COUNTS = ("released", "memory_bytes", "cores")
AMOUNTS = ("memory_bytes_per_s", "link_bytes_per_s", "tdp_w", "price_usd", "price_usd_per_h")
KEYS = (*TEXTS, *LISTS, *COUNTS, *AMOUNTS, "checked", "flops_per_s", "sources")
LARGEST = 1e24
"""Above every rate and size; what is larger would overflow what is computed of it."""


def device(name: str, facts: object, where: str, action: str = "correct the file") -> Device:
    """The device that a table of a file describes.

    Args:
        name: the name of the table.
        facts: its keys and values.
        where: the file, for messages.
        action: what to do about a table that describes none.

    Raises:
        ConfigError: when a key is unknown or missing, or a value is none that a device can have.

    Example:
        >>> facts = {"title": "A", "vendor": "", "kind": "gpu", "source": "", "checked": datetime.date(2026, 1, 1)}
        >>> device("a", {**facts, "memory_bytes": 24e9}, "f.toml").memory_bytes
        24000000000
    """
    if not isinstance(facts, Mapping):
        expected = "a table for each device with the keys that docs/reference/hardware.md lists"
        raise ConfigError(f"{where}: {_short(name)} is {_short(facts)}", expected, action)
    for key in facts:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1) or [", ".join(KEYS)]
            raise ConfigError(f"{where}: the key {_short(key)} of the device {_short(name)}",
                              f"a key that devices have, such as {near[0]}", action)  # fmt: skip
    if missing := [key for key in REQUIRED if key not in facts]:
        raise ConfigError(f"{where}: the device {_short(name)} without {', '.join(missing)}",
                          f"{', '.join(REQUIRED)} in every device", action)  # fmt: skip
    values: dict[str, Any] = {}
    for key, value in facts.items():
        found, expected = _value(key, value)
        if found is None:
            raise ConfigError(f"{where}: {key} = {_short(value)} of the device {_short(name)}", expected, action)
        values[key] = found
    return Device(name=name, **values)


def _value(key: str, value: object) -> tuple[Any, str]:
    """The value as a device keeps it, None where it can have no such one; and what is expected."""
    if key == "kind":
        return value if value in KINDS else None, f"one of {', '.join(KINDS)}"
    if key == "checked":
        is_date = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
        return value if is_date else None, "a date without quotes, such as 2026-11-22"
    if key in LISTS:
        texts = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
        return tuple(value) if texts else None, "a list of texts"  # type: ignore[arg-type]
    if key == "sources":
        good = isinstance(value, Mapping) and all(k in KEYS and isinstance(v, str) for k, v in value.items())
        return value if good else None, "a table of texts whose keys are those of a device"
    if key == "flops_per_s":
        good = isinstance(value, Mapping) and all(k in FORMATS and _is_amount(v) for k, v in value.items())
        formats = ", ".join(FORMATS)
        return value if good else None, f"a table of positive finite numbers whose keys are among {formats}"
    if key in COUNTS:
        good = _is_amount(value) and value == int(value)  # type: ignore[call-overload]
        return int(value) if good else None, "a whole number above zero"  # type: ignore[call-overload]
    if key in AMOUNTS:
        return value if _is_amount(value) else None, "a positive finite number"
    return value if isinstance(value, str) else None, "a text in quotes"


def _is_amount(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= LARGEST and math.isfinite(value)  # type: ignore[operator,arg-type]


def _short(value: object) -> str:
    """A value as a message shows it."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a very long number"
    return text if len(text) <= 100 else f"{text[:100]}..."
