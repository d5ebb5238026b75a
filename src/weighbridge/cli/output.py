"""What the commands share: JSON, and lines of text that suit a terminal as well as a pipe."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weighbridge.errors import SourceError, UnitError, printable
from weighbridge.units import parse_count

if TYPE_CHECKING:
    from weighbridge.inspection import Inspection

F = TypeVar("F", bound=Callable[..., Any])


class Count(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic only in later releases of click
    """A count that may carry K, M or B."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or click's error with our sentence."""
        try:
            return value if isinstance(value, int) else parse_count(value)
        except UnitError as error:
            self.fail(str(error), param, ctx)


def json_option(function: F) -> F:
    """The option `--json` of every command."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")(function)


def plain_option(function: F) -> F:
    """The option `--plain` of the commands whose numbers a layman may have to read."""
    return click.option("--plain", is_flag=True, help="Add what the numbers mean, in plain words.")(function)


def print_plain(lines: Iterable[str]) -> None:
    """Plain sentences under a heading of their own."""
    click.echo("\nin plain words")
    print_lines(f"  {printable(line)}" for line in lines)


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`--set KEY=VALUE`, values read as JSON where they are JSON and as text otherwise."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE, such as num_hidden_layers=40", param_hint="--set")
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):
            found[key] = value
    return found


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output; bold is for terminals only."""
    for line in lines:
        click.echo(line)


def command_line() -> str:
    """What was typed."""
    return shlex.join(["weigh", *sys.argv[1:]])


def check_outputs(inspection: Inspection, source: str, *outputs: str | None) -> None:
    """Refuses to write a picture over what was inspected, or over the other picture."""
    place = Path(source)
    folder = place if place.is_dir() else place.parent
    names = ["config.json", *(file.name for file in inspection.checkpoint.files)]
    taken = {place.resolve(), *((folder / name).resolve() for name in names)}
    for output_path in filter(None, outputs):
        target = Path(output_path).resolve()
        if target in taken:
            raise UnitError(f"{output_path} is read or written by the same command", "another file", "choose another")
        taken.add(target)


def tell_if_none(found: Sequence[object], what: str, text: str) -> None:
    """Tells a person why a list is empty; standard output keeps to the list."""
    if not found:
        click.echo(f"no {what} holds {printable(text)!r}: `weigh {what}s` without it lists all", err=True)


def make_folder(path: Path) -> None:
    """A folder and those above it.

    Raises:
        SourceError: when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        read = f"the folder {path} cannot be made ({error.strerror or error})"
        raise SourceError(read, "a place that can be written to", "make room for it, or choose another") from error
