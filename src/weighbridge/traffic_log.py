"""Which requests came when, and how long were they? Logs of traffic and published traces, in CSV or JSON lines.

A row is a request: when it came, tokens of its prompt, tokens of its answer, and where the log has them, tokens of the
prompt that the cache held. Columns are known by the names that they have in

- Azure's LLM inference traces (https://github.com/Azure/AzurePublicDataset): `TIMESTAMP` as a date, `ContextTokens`,
  `GeneratedTokens`;
- BurstGPT (https://github.com/HPMLL/BurstGPT): `Timestamp` in seconds, `Request tokens`, `Response tokens`, of which
  failures have none;
- Mooncake (https://github.com/kvcache-ai/Mooncake, FAST25-release): `timestamp` in milliseconds, `input_length`,
  `output_length`; its `hash_ids` are not used;
- the `usage` of OpenAI's interface, which vLLM and llama.cpp answer too: `prompt_tokens`, `completion_tokens` or
  `input_tokens`, `output_tokens`, `cached_tokens`;

capitals, blanks and underscores aside. A number of a column `..._s` is seconds, of `..._ms` milliseconds; a bare
`timestamp` is seconds but for Mooncake's columns. What was taken is in the notes, as is what was left out.
"""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from weighbridge.errors import FormatError, SourceError
from weighbridge.predict.traffic import MOST_REQUESTS, Traffic

TIMES = {
    "arrivals": 1.0, "timestamps": 1.0, "times": 1.0, "arrivalms": 1e-3, "timestampms": 1e-3, "timems": 1e-3,
    "timestamp": 1.0, "arrival": 1.0, "time": 1.0, "created": 1.0, "createdat": 1.0, "date": 1.0,
}  # fmt: skip
"""Columns of times without capitals and signs, and how many seconds a number in them is."""
PROMPTS = ("contexttokens", "requesttokens", "inputlength", "prompttokens", "inputtokens")
ANSWERS = ("generatedtokens", "responsetokens", "outputlength", "completiontokens", "outputtokens")
CACHED = ("cachedtokens", "cachedprompttokens", "cachedinputtokens")
PARTS_OF_USAGE = ("usage", "prompt_tokens_details", "input_tokens_details")
MOST_TOKENS = 10_000_000
"""No model's context is longer."""
LATEST_S = 1e11
"""The year 5138: numbers beyond it are no seconds."""
MOST_LINE = 8 << 20
"""A longer line is no request: prompts of a million tokens are below it."""
_COLUMNS = "columns of times (timestamp, arrival_s, timestamp_ms), of prompt_tokens and of output_tokens"
_RANGE = f"whole numbers from 0 to {MOST_TOKENS:,}"


def read(path: str | Path) -> Traffic:
    """The requests of a log, the first of them at 0 seconds.

    Rows without a prompt or without an answer, as failures are logged, are left out. Of a prompt that the cache held
    whole its last token is worked on, as engines do.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when it is none of requests, naming the line.
    """
    place = Path(path)
    try:
        with place.open("rb") as file:
            _check_text(file.read(4096), place.name)
        with place.open(encoding="utf-8-sig", newline="") as text:
            return _Log(place.name).read(text)
    except OSError as error:
        read = f"{path} cannot be read ({error.strerror})"
        raise SourceError(read, "a log of requests in CSV or JSON lines", "check the name") from error


def _check_text(beginning: bytes, name: str) -> None:
    """Refuses what is no UTF-8 by its first bytes."""
    if not beginning.strip():
        raise FormatError(f"{name} is empty", "a row for each request", "log some, or name another file")
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FormatError(f"{name} is UTF-16", "UTF-8", "convert it")
    if beginning.startswith((b"\x1f\x8b", b"PK\x03\x04", b"(\xb5/\xfd")):
        raise FormatError(f"{name} is compressed", "CSV or JSON lines", "unpack it")
    if b"\0" in beginning:
        raise FormatError(f"{name} is binary", "CSV or JSON lines", "name a log of requests")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns a log has for what; `scale` is how many seconds a number of its times is."""

    time: Any
    prompt: Any
    answer: Any
    cached: Any
    scale: float

    @staticmethod
    def among(names: Mapping[str, Any]) -> _Columns | None:
        """Those among names without capitals and signs, each with its key in a row; None when one is missing."""
        time = next((name for name in TIMES if name in names), None)
        prompt, answer, cached = (next((name for name in known if name in names), None)
                                  for known in (PROMPTS, ANSWERS, CACHED))  # fmt: skip
        if time is None or prompt is None or answer is None:
            return None
        is_mooncake = time == "timestamp" and prompt == "inputlength"
        return _Columns(names[time], names[prompt], names[answer], None if cached is None else names[cached],
                        1e-3 if is_mooncake else TIMES[time])  # fmt: skip


class _Log:
    """The rows of a log as they are read, in compact arrays."""

    def __init__(self, name: str) -> None:
        self.name, self.line = name, 0
        self.times, self.prompts, self.answers, self.cached = array("d"), array("i"), array("i"), array("i")
        self.without = 0
        self.scale = 1.0
        self.begin: datetime | None = None
        self.time: Callable[[Any], float] | None = None

    def read(self, file: TextIO) -> Traffic:
        """All of it."""
        lines = self._lines(file)
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise FormatError(f"{self.name} is empty", "a row for each request", "log some, or name another file")
        if first.lstrip().startswith("["):
            read = f"{self.name} is one JSON array"
            raise FormatError(read, "a JSON object on each line", "write each request on a line of its own")
        is_json = first.lstrip().startswith("{")
        titles, columns = (self._objects if is_json else self._table)(first, lines)
        return self._traffic(titles, columns)

    def _lines(self, file: TextIO) -> Iterator[str]:
        try:
            while line := file.readline(MOST_LINE):
                self.line += 1
                if len(line) == MOST_LINE:
                    raise self._fault(f"is longer than {MOST_LINE:,} characters", "a request on each line")
                yield line
        except UnicodeDecodeError as error:
            read = f"{self.name} has the byte 0x{error.object[error.start]:02x} after line {self.line}"
            raise FormatError(read, "UTF-8", "convert the file") from error

    def _fault(self, what: str, expected: str, action: str = "correct the line, or leave it out") -> FormatError:
        return FormatError(f"{self.name} line {self.line} {what}", expected, action)

    def _table(self, header: str, lines: Iterator[str]) -> tuple[Sequence[str], _Columns]:
        separator = max(",;\t", key=header.count)
        try:
            rows = csv.reader(_chain(header, lines), delimiter=separator)
            titles = next(rows)
            columns = _Columns.among({_plain(title): place for place, title in reversed(list(enumerate(titles)))})
            if columns is None:
                raise self._missing(titles)
            places, self.scale = self._places(columns), columns.scale
            for row in rows:
                if not row:
                    continue
                if len(row) <= max(places):
                    raise self._fault(f"has {len(row)} columns of {len(titles)}", "a value for each column")
                self._add(*[row[place] for place in places])
        except csv.Error as error:
            raise self._fault(f"is no CSV ({error})", "a row for each request") from error
        return [titles[place] for place in places], columns

    def _objects(self, first: str, lines: Iterator[str]) -> tuple[Sequence[str], _Columns]:
        columns: _Columns | None = None
        keys: list[str] | None = None
        places: list[Any] = []
        for line in _chain(first, lines):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                said = getattr(error, "msg", "too deep, or too long a number")
                raise self._fault(f"is no JSON ({said})", "a JSON object on each line") from error
            if not isinstance(row, dict):
                raise self._fault("is no object", "a JSON object on each line")
            for part in PARTS_OF_USAGE:
                if isinstance(inner := row.get(part), dict):
                    row |= inner
            keys = keys or list(row)
            if columns is None:
                columns = _Columns.among({_plain(key): key for key in reversed(row)})
                if columns is None:  # a failure that was logged without its tokens
                    self.without += 1
                    continue
                places, self.scale = self._places(columns), columns.scale
            self._add(*[row.get(place) for place in places])
        if columns is None:
            raise self._missing(keys or ())
        return places, columns

    @staticmethod
    def _places(columns: _Columns) -> list[Any]:
        return [place for place in (columns.time, columns.prompt, columns.answer, columns.cached) if place is not None]

    def _missing(self, titles: Iterable[str]) -> FormatError:
        listed = ", ".join(str(title)[:40] for title in list(titles)[:12])
        return FormatError(f"{self.name} has the columns {listed}"[:400], _COLUMNS, "rename its columns")

    def _add(self, time: Any, prompt: Any, answer: Any, cached: Any = None) -> None:
        prompts, answers = self._tokens(prompt), self._tokens(answer)
        if not prompts or not answers:
            self.without += 1
            return
        held = self._tokens(cached)
        if held > prompts:
            raise self._fault(f"has {held:,} cached of {prompts:,} tokens", "no more than the prompt has")
        if len(self.times) >= MOST_REQUESTS:
            raise FormatError(f"{self.name} has over {MOST_REQUESTS:,} requests", "fewer", "name a part of it")
        if self.time is None:
            self.time = self._date if _number(time) is None else self._seconds
        self.times.append(self.time(time))
        self.prompts.append(prompts)
        self.answers.append(answers)
        self.cached.append(min(held, prompts - 1))

    def _tokens(self, value: Any) -> int:
        """A count of tokens; 0 where there is none."""
        if value is None or value == "":
            return 0
        if isinstance(value, str) and value.isdecimal() and len(value) <= 7:  # nearly all
            return int(value)
        found = _number(value)
        if found is None or not 0 <= found <= MOST_TOKENS or found != int(found):
            raise self._fault(f"has {str(value)[:40]!r} tokens", _RANGE)
        return int(found)

    def _seconds(self, value: Any) -> float:
        found = _number(value)
        if found is None or not math.isfinite(found):
            raise self._fault(f"has the time {str(value)[:40]!r}", "a number, as in the lines before")
        return found * self.scale

    def _date(self, value: Any) -> float:
        """Seconds since the first date, so that none of its digits is lost."""
        try:
            found = datetime.fromisoformat(value.strip())
            if self.begin is None:
                self.begin = found
            return (found - self.begin).total_seconds()
        except (AttributeError, ValueError, TypeError, OverflowError) as error:
            expected = "seconds, or a date as 2026-11-22 18:30:00.5, all with a time zone or all without"
            raise self._fault(f"has the time {str(value)[:40]!r}", expected) from error

    def _traffic(self, titles: Sequence[str], columns: _Columns) -> Traffic:
        if not self.times:
            read = f"{self.name} has no request with a prompt and an answer"
            raise FormatError(read, "a row for each request", "log some, or name another file")
        times = np.frombuffer(self.times, dtype=np.float64)
        if np.abs(times).max() > LATEST_S:
            read = f"{self.name} has a time of {times[np.abs(times).argmax()]:.6g} s in {titles[0]!r}"
            raise FormatError(read, "seconds", "name the column timestamp_ms if they are milliseconds")
        notes = []
        unit = "dates" if self.begin else "milliseconds" if columns.scale < 1 else "seconds"
        read = f"{self.name}: times are {titles[0]!r}, taken as {unit}; tokens are {titles[1]!r} and {titles[2]!r}"
        notes.append(read + (f", those in the cache {titles[3]!r}" if columns.cached is not None else ""))
        if self.without:
            notes.append(f"rows without a prompt or an answer that are left out: {self.without:,}")
        gaps = np.diff(times)
        order: Any = slice(None)
        if (gaps < 0).any():
            order = np.argsort(times, kind="stable")
            notes.append(f"rows earlier than the one above them: {int((gaps < 0).sum()):,}; all are sorted by time")
            gaps = np.diff(times[order])
        if not gaps.any():
            read = f"{self.name} has {len(times):,} requests, all at the same time"
            raise FormatError(read, "requests over some time", "name a longer log")
        together = int((gaps == 0).sum())
        if together > len(times) / 10:
            notes.append(f"requests that come at the same time as another: {together:,} of {len(times):,}")
        shared: Any = 0
        if columns.cached is not None:
            shared = np.frombuffer(self.cached, dtype=np.intc)[order].astype(np.int64)
        return Traffic(
            arrival_s=times[order] - times.min(), shared_tokens=shared, notes=tuple(notes),
            prompt_tokens=np.frombuffer(self.prompts, dtype=np.intc)[order].astype(np.int64),
            output_tokens=np.frombuffer(self.answers, dtype=np.intc)[order].astype(np.int64),
        )  # fmt: skip


def _plain(title: object) -> str:
    """A column's name without capitals and signs."""
    return "".join(filter(str.isalnum, str(title))).lower()


def _number(value: Any) -> float | None:
    """A number, or a text that is one; None for other things."""
    if isinstance(value, bool):
        return None
    try:
        return None if isinstance(value, str) and "_" in value else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _chain(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines
