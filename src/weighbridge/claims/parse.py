"""Which claims does a table or a text make? Rows of a CSV as they are, sentences by the numbers in them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from weighbridge.claims.article import read_article, text_of
from weighbridge.claims.claim import Claim
from weighbridge.claims.kind import kind_of, place, rank
from weighbridge.claims.measure import NOTHING
from weighbridge.claims.quantity import LEAST_SIZE, Quantity, distinct, is_size, quantities, unit_of
from weighbridge.claims.subjects import names
from weighbridge.errors import FormatError

COLUMNS = ("id", "article", "section", "quote_short", "quantity_kind", "claimed_value", "inputs")
"""What a table of claims has at least; others are never read."""
MOST_FIELD = 1_000_000
"""Characters of one field of a table."""
_YEAR = re.compile(r"(?:19|20)\d\d")
_LABEL = re.compile(
    r"(?:\b(?:table|section|figure|fig\.|chapter|step|version|v|question|part|no\.|art\.|article)\s*|[§#])$", re.I
)


def read_table(data: bytes, name: str) -> list[Claim]:
    r"""The claims of a CSV.

    Raises:
        FormatError: when it lacks a column, or has no row.

    Example:
        >>> table = f"{','.join(COLUMNS)}\nA,x,S1,GPT-3 has 175B,,175B,"
        >>> read_table(table.encode(), "claims.csv")[0].claimed
        '175B'
    """
    reader = csv.DictReader(io.StringIO(text_of(data, name)[0]))
    limit = csv.field_size_limit(MOST_FIELD)
    try:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            read = f"{name} has no column {', '.join(missing)}"
            raise FormatError(read, f"the columns {', '.join(COLUMNS)}", "add them, or give sentences")
        found = [_claim(row, number) for number, row in enumerate(reader, 1)]
    except csv.Error as error:
        raise FormatError(f"{name} is no CSV: {error}", "rows of fields", "write it again as CSV") from error
    finally:
        csv.field_size_limit(limit)
    if not found:
        raise FormatError(f"{name} has no row", "a row for each claim", "add one")
    return found


def _claim(row: dict[str, str | None], number: int) -> Claim:
    cell = {column: (row.get(column) or "").strip() for column in COLUMNS}
    return Claim(quote=cell["quote_short"], kind=cell["quantity_kind"], claimed=cell["claimed_value"],
                 inputs=cell["inputs"], name=cell["id"] or f"row {number}", article=cell["article"],
                 section=cell["section"], line=number + 1)  # fmt: skip


def read_text(data: bytes, name: str) -> list[Claim]:
    """The sentences and rows of an article that have a number which may be checked."""
    article = read_article(data, name)
    found = [Claim(passage.text, name=f"{name}:{passage.line}", article=name, section=passage.section,
                   line=passage.line, is_row=passage.kind == "row") for passage in article.passages
             if passage.kind != "heading" and (_numbers(passage.text) if passage.kind == "row"
                                               else has_number(passage.text))]  # fmt: skip
    return found


def has_number(text: str) -> bool:
    """Whether a sentence has a number that is no year, label or part of a name, or says what runs on what."""
    return bool(_numbers(text)) or {"device", "model"} <= {"device" if one.device else "model" for one in names(text)}


def _numbers(text: str) -> list[Quantity]:
    masked = text
    for thing in names(text):
        masked = masked[: thing.start] + "_" * (thing.end - thing.start) + masked[thing.end :]
    return [q for q in distinct(masked) if not _is_label(q, masked)]


def _is_label(quantity: Quantity, text: str) -> bool:
    if quantity.unit != NOTHING or quantity.has_magnitude or quantity.is_share:
        return False
    return bool(_YEAR.fullmatch(quantity.text) or _LABEL.search(text[max(0, quantity.start - 12) : quantity.start]))


def readings(claim: Claim) -> Iterator[Claim]:
    """The claims that a sentence may make, the likeliest first: of each unit in it, its numbers of that unit.

    Example:
        >>> said = Claim("The KV cache of Llama 2 70B takes 80 GB for 4,096 tokens")
        >>> [(one.kind, one.claimed) for one in readings(said)]
        [('kv_cache', '80 GB'), ('chinchilla', '4,096 tokens')]
    """
    if claim.claimed:
        yield claim
        return
    if claim.is_row:
        yield from _cells(claim)
        return
    found = _numbers(claim.quote)
    groups: dict[tuple[str, bool], list[Quantity]] = {}
    for quantity in found:
        is_count = is_size(quantity) or (quantity.unit == NOTHING and quantity.low >= LEAST_SIZE)
        unit = "parameter" if is_count else quantity.unit
        groups.setdefault((unit, quantity.is_share), []).append(quantity)
    measured = any(unit not in (NOTHING, "parameter") for unit, _ in groups)
    for group in sorted(groups.values(), key=lambda group: place(group[0])):
        if measured and all(quantity.unit == NOTHING and is_size(quantity) for quantity in group):
            continue  # of which model the measured number is
        if all(_says_nothing(quantity) for quantity in group):
            continue
        for some in _splits(group):
            text = "; ".join(_with_relation(q) for q in some)
            yield replace(claim, kind=claim.kind or kind_of(claim.quote, some[0]), claimed=text, is_read=True)


def _cells(claim: Claim) -> Iterator[Claim]:
    """The claims of a row: of each cell with a number, whose header says what it counts."""
    cells = [cell.partition(": ")[::2] for cell in claim.quote.split("; ")]
    found = []
    for header, value in cells:
        numbers = _numbers(value)
        if len(numbers) != 1 or numbers[0].start > 1:
            continue
        counted = unit_of(header) if numbers[0].unit == NOTHING and not numbers[0].is_share else ""
        text = f"{value} {counted}".strip()
        quantity = quantities(text)[0]
        is_large = quantity.low >= LEAST_SIZE and quantity.unit == NOTHING and not quantity.has_magnitude
        if not _says_nothing(quantity) and not (is_large and not re.search("param|weights", header, re.IGNORECASE)):
            said = f"{header} {text}"
            found.append((rank(quantity), replace(claim, kind=claim.kind or kind_of(said, quantity), claimed=text,
                                                  is_read=True, about=header)))  # fmt: skip
    yield from (one for _, one in sorted(found, key=lambda pair: pair[0]))


def _says_nothing(quantity: Quantity) -> bool:
    """Whether a number has no unit, magnitude or sign that says what it counts."""
    return not (quantity.unit != NOTHING or quantity.is_share or quantity.has_magnitude or quantity.low >= LEAST_SIZE
                or re.search(r"[x×]$|times|fold", quantity.text))  # fmt: skip


def _splits(group: list[Quantity]) -> Iterable[list[Quantity]]:
    """All numbers of a unit together, then the last and the first of them alone."""
    yield group
    if len(group) > 1:
        yield group[-1:]
        yield group[:1]


def _with_relation(quantity: Quantity) -> str:
    sign = {">": ">", ">=": ">=", "<": "<", "<=": "<=", "~": "~", "==": "exactly "}.get(quantity.relation, "")
    return f"{sign}{quantity.text}"
