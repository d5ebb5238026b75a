"""What commands that take long tell while they work."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

BAR = 30
"""Signs of a full bar."""


def progress() -> Callable[[str], None] | None:
    """Tells a person at a terminal what goes on; None in a pipe."""
    return (lambda text: click.echo(f"measuring: {text}", err=True)) if sys.stderr.isatty() else None


def bar() -> Callable[[str, int, int], None] | None:
    """Tells a person at a terminal how far long work has come, on one line; None in a pipe."""
    if not sys.stderr.isatty():
        return None

    def tell(what: str, done: int, of: int) -> None:
        full = BAR * done // max(1, of)
        end = "\r\x1b[K" if done == of else ""
        click.echo(f"\r\x1b[K[{'#' * full}{'.' * (BAR - full)}] {done:,} of {of:,}, {what}{end}", nl=False, err=True)

    return tell
