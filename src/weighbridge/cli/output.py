"""What the commands share: JSON, and a console that suits a terminal as well as a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """The option `--json` of every command."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")(function)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def console() -> Console:
    """Standard output: coloured and as wide as the terminal, or plain and wide enough in a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140, color_system=None, force_terminal=False)
