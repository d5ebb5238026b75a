"""How does a conversion read on a terminal? What was written, what was left out, and that it was read back."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.convert.conversion import Converted
from weighbridge.errors import printable
from weighbridge.show.tables import bold
from weighbridge.units import format_bytes


def lines(found: Converted) -> Iterator[str]:
    """The report of `weigh convert`."""
    yield bold(f"{_counted(len(found.checksums), 'tensor')}, {format_bytes(found.tensor_bytes)}, in "
               f"{_counted(len(found.files), 'file')}; written to "
               f"{printable(found.output)}")  # fmt: skip
    for file in found.files:
        yield f"  {printable(file.name)}  {file.size_bytes:,} B, {_counted(len(file.slots), 'tensor')}"
    for name, other in found.dropped.items():
        yield f"left out: {printable(name)}, the same as {printable(other)}"
    if found.resumed:
        yield f"{_counted(found.resumed, 'tensor')} copied by an earlier run"
    yield f"read back, bit for bit the same: sha256 {found.digest}"
    yield f"{found.seconds:,.1f} s"
    yield from (f"note: {printable(note)}" for note in found.notes)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
