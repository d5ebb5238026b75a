"""Which runs were trained, and what loss did each end at? A table in CSV: parameters, tokens or operations, and loss.

Columns are known by their names, capitals, blanks and underscores aside, in any order; others are not read. Of
parameters, tokens and operations any two give the third, by C = 6 N D.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weighbridge.errors import FormatError, SourceError, UnitError
from weighbridge.predict.scaling_laws.forms import FLOPS_PER_PARAMETER
from weighbridge.units import parse_count

if TYPE_CHECKING:
    from weighbridge.predict.scaling_laws.law_fit import Runs

COLUMNS = {
    "parameters": ("parameters", "params", "n", "modelsize", "numparameters", "nparams", "numparams"),
    "tokens": ("tokens", "d", "trainingtokens", "numtokens", "ntokens", "traintokens", "tokensseen"),
    "flops": ("flops", "flop", "c", "compute", "trainingflop", "trainingflops", "trainflops"),
    "loss": ("loss", "l", "finalloss", "validationloss", "valloss", "evalloss", "testloss"),
}
_EXPECTED = "columns loss, and parameters with tokens or flops, or flops alone"
MOST_ROWS, MOST_FIELD = 100_000, 10_000
LARGEST = 1e40


@dataclass(frozen=True, slots=True)
class RunLog:
    """The runs of a file, and the line of each."""

    runs: Runs
    lines: tuple[int, ...]


def read(path: str | Path) -> RunLog:
    """The runs of a file.

    Raises:
        SourceError: when it cannot be read.
        FormatError: when it has no such columns, or a value that no run has, naming line and column.
    """
    place = Path(path)
    try:
        with place.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text, strict=True)
            header = next(rows, None)
            columns = _columns(header or [], place.name)
            values: dict[str, list[float]] = {name: [] for name in columns}
            lines = []
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                lines.append(rows.line_num)
                if len(lines) > MOST_ROWS:
                    raise FormatError(f"{place.name} has more than {MOST_ROWS:,} runs", "fewer", "leave some out")
                for name, (column, title) in columns.items():
                    values[name].append(_number(row, column, title, place.name, rows.line_num))
    except OSError as error:
        read = f"{path} cannot be read ({error.strerror})"
        raise SourceError(read, "a table of runs in CSV", "check the name") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{place.name} is no CSV in UTF-8 ({error})", "a table of runs", "convert it") from error
    return RunLog(_runs(values), tuple(lines))


def _columns(header: list[str], name: str) -> dict[str, tuple[int, str]]:
    """The place and the title of each quantity that has a column."""
    plain = ["".join(letter for letter in title.lower() if letter.isalnum()) for title in header]
    found: dict[str, tuple[int, str]] = {}
    for quantity, names in COLUMNS.items():
        places = [i for i, title in enumerate(plain) if title in names]
        if len(places) > 1:
            titles = " and ".join(header[i] for i in places)
            raise FormatError(f"{name}: both {titles[:200]} are {quantity}", "one column of them", "leave one out")
        if places:
            found[quantity] = (places[0], header[places[0]])
    if "loss" not in found or not ({"parameters", "tokens", "flops"} & found.keys()):
        shown = ", ".join(header)[:200] or "nothing"
        raise FormatError(f"the first line of {name} has {shown}", _EXPECTED, "name the columns so")
    return found


def _number(row: list[str], column: int, title: str, name: str, line: int) -> float:
    """One value: a number above 0, which may carry K, M, B or T."""
    cell = row[column].strip() if column < len(row) else ""
    where = f"{name}, line {line}, column {title[:60]}"
    try:
        value = float(cell)
    except ValueError:
        try:
            value = float(parse_count(cell))
        except UnitError:
            value = math.nan
    if not (math.isfinite(value) and 0.0 < value < LARGEST):
        raise FormatError(f"{where}: {cell[:60]!r}", "a number above 0", "correct it, or leave the run out")
    return value


def _runs(values: dict[str, list[float]]) -> Runs:
    """The runs, with the third quantity from two."""
    import numpy as np

    from weighbridge.predict.scaling_laws.law_fit import Runs

    arrays = {name: np.array(column) for name, column in values.items()}
    parameters, tokens, flops = (arrays.get(name) for name in ("parameters", "tokens", "flops"))
    if parameters is not None and flops is not None and tokens is None:
        tokens = flops / (FLOPS_PER_PARAMETER * parameters)
    elif tokens is not None and flops is not None and parameters is None:
        parameters = flops / (FLOPS_PER_PARAMETER * tokens)
    if parameters is not None and tokens is not None and flops is None:
        flops = FLOPS_PER_PARAMETER * parameters * tokens
    return Runs(arrays["loss"], parameters, tokens, flops)
