"""How does an importance matrix read on a terminal? What it was made from, and what it knows."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.compress.activations import Collected
from weighbridge.errors import printable
from weighbridge.show.tables import bold


def lines(found: Collected) -> Iterator[str]:
    """The report of `weigh imatrix`."""
    held = found.importance
    yield bold(f"{len(held.means):,} weights, {found.size_bytes:,} bytes; written to {printable(found.path)}")
    windows, examples = _counted(held.chunks, "window"), _counted(found.examples, "example")
    yield f"{found.tokens:,} tokens in {windows} of up to {held.chunk_size:,}, from {examples}, {found.seconds:,.1f} s"
    unused = sum(int((counts == 0).sum()) for counts in held.counts.values())
    if unused:
        yield f"{_counted(unused, 'expert')} got no token: all columns count alike there"
    yield from (f"note: {printable(note)}" for note in found.notes)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
