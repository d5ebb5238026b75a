"""What commands that measure this machine tell while they work."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click


def progress() -> Callable[[str], None] | None:
    """Tells a person at a terminal what goes on; None in a pipe."""
    return (lambda text: click.echo(f"measuring: {text}", err=True)) if sys.stderr.isatty() else None
