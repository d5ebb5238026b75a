"""Where do claims come from? Sentences as they are typed, a table, or an article."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from weighbridge.claims.check import Report, check
from weighbridge.claims.claim import Claim
from weighbridge.claims.parse import has_number, read_table, read_text
from weighbridge.errors import SourceError, UnitError

TABLE = ".csv"
TEXTS = (".md", ".markdown", ".txt", ".html", ".htm")
MOST_BYTES = 64_000_000
"""Of one document."""


def read_claims(source: str, given: str = "") -> list[Claim]:
    """The claims of a sentence, or of a file that this is the path of.

    Args:
        source: a sentence, or the path of a CSV, Markdown, plain text or HTML.
        given: what a sentence rests on, as `L=80 kv=8 hd=128`.

    Raises:
        SourceError: when a file cannot be read, or is of no such kind.
        UnitError: when a sentence has no number.

    Example:
        >>> read_claims("Mixtral 8x7B has 46.7B parameters")[0].quote
        'Mixtral 8x7B has 46.7B parameters'
    """
    ending = Path(source).suffix.lower() if len(source) < 4096 else ""
    path = Path(source if ending else "")
    if ending in (TABLE, *TEXTS) and (" " not in source or path.exists()):
        return read_document(_data(path), path.name)
    if not has_number(source):
        if _is_file(source):
            raise SourceError(f"{source} ends in {ending or 'nothing'}", f"one of {', '.join((TABLE, *TEXTS))}",
                              "rename it, or convert it")  # fmt: skip
        read = f"no number in {source[:60]!r}"
        raise UnitError(read, "a statement with a number that can be checked, or a file", "write one, such as "
                        "'Llama 2 70B needs 140 GB in FP16'")  # fmt: skip
    return [Claim(source, inputs=given)]


def read_document(data: bytes, name: str) -> list[Claim]:
    """The claims of a document, by the ending of its name.

    Raises:
        WeighbridgeError: when it is no text, empty, or a table without the columns of claims.

    Example:
        >>> [claim.line for claim in read_document(b"GPT-3 has 175B parameters.", "a.txt")]
        [1]
    """
    if Path(name).suffix.lower() not in (TABLE, *TEXTS):
        raise SourceError(
            f"the document is called {name[:80]!r}", f"an ending {', '.join((TABLE, *TEXTS))}", "name it so"
        )
    return read_table(data, name) if Path(name).suffix.lower() == TABLE else read_text(data, name)


def _is_file(source: str) -> bool:
    try:
        return bool(source) and Path(source).exists()
    except (OSError, ValueError):
        return False


def _data(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise SourceError(f"{path} has {size:,} bytes", f"at most {MOST_BYTES:,}", "check a part of it")
        return path.read_bytes()
    except OSError as error:
        read = f"{path} cannot be read ({error.strerror or error})"
        raise SourceError(read, "a file of claims or an article", "check the path") from error


def check_sources(
    sources: Sequence[str], given: str = "", each: Callable[[Iterable[Claim], int], Iterable[Claim]] | None = None
) -> Report:
    """Checks sentences and files together, so that contradictions across them are found too.

    Args:
        sources: sentences, or paths of files.
        given: what the sentences rest on.
        each: is handed the claims and their number, and hands them on; for a progress bar.

    Raises:
        WeighbridgeError: when a source cannot be read, or a sentence has no number.

    Example:
        >>> report = check_sources(["Llama 2 70B has exactly 70,015,266,816 parameters"])
        >>> report.findings[0].verdict.value, report.findings[0].computed.split("; ")[0]
        ('wrong', '68,976,648,192')
    """
    claims = [claim for source in sources for claim in read_claims(source, given)]
    return check(claims if each is None else each(claims, len(claims)))
