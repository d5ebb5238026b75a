"""Where what was measured of this machine is kept, and how `--on here` finds it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from weighbridge.hardware.device import Device


def place() -> Path:
    """The file of the saved probe, in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "weighbridge" / "here.toml"


def resolve(on: str) -> str | Device:
    """A device's name as it is; this machine as it was probed for `here`."""
    from weighbridge.hardware.measured import HERE

    if on.strip().lower() != HERE:
        return on
    from weighbridge.hardware.probe import saved_device

    return saved_device(place())


def progress() -> Callable[[str], None] | None:
    """Tells a person at a terminal what goes on; None in a pipe."""
    return (lambda text: click.echo(f"measuring: {text}", err=True)) if sys.stderr.isatty() else None
