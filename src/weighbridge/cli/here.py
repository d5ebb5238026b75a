"""What commands that take long tell while they work."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click


def progress() -> Callable[[str], None] | None:
    """Tells a person at a terminal what goes on; None in a pipe."""
    return (lambda text: click.echo(f"measuring: {text}", err=True)) if sys.stderr.isatty() else None


def counter(word: str) -> Callable[[str], None] | None:
    """Tells a person at a terminal how far long work has come, on one line; None in a pipe."""
    if not sys.stderr.isatty():
        return None
    return lambda text: click.echo(f"\r\x1b[K{word}: {text}", nl=False, err=True)
