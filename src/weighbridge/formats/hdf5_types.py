"""Which encoding does an HDF5 datatype message stand for?

A message is a byte of version and class, 3 bytes of flags, 4 bytes of size and the class's own fields. Numbers count
only where all their bits are used in the usual way; texts, compounds, references and the rest are named and left out.

Source: HDF5 File Format Specification, version 3.0, section IV.A.2.d.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.formats.hdf5_blocks import Cursor
from weighbridge.model.encodings import ENCODINGS, Encoding

FIXED, FLOAT, TEXT, OPAQUE, ENUM, VARIABLE = 0, 1, 3, 5, 8, 9
_CLASSES = (
    "whole numbers", "floating-point numbers", "times", "texts", "bit fields", "opaque bytes", "compounds",
    "references", "enumerations", "lists of any length", "arrays",
)  # fmt: skip
# Bytes, bits of the exponent and bits of the mantissa.
_FLOATS = {
    (2, 5, 10): "fp16", (2, 8, 7): "bf16", (4, 8, 23): "fp32", (8, 11, 52): "fp64", (1, 4, 3): "fp8",
    (1, 5, 2): "fp8_e5m2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Datatype:
    """An element's type: its class, its bytes, and the encoding where it is a number that can be counted."""

    kind: int
    size: int
    encoding: Encoding | None = None
    is_big_endian: bool = False
    is_text: bool = False

    @property
    def name(self) -> str:
        """What its elements are, for messages."""
        return _CLASSES[self.kind] if self.kind < len(_CLASSES) else f"elements of class {self.kind}"


def read(message: Cursor) -> Datatype:
    """The type that a datatype message gives.

    Raises:
        FormatError: when the message ends early.

    Example:
        >>> fields = bytes([0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0])
        >>> read(Cursor("a.h5", fields)).encoding.name
        'fp32'
    """
    kind, flags, size = message.number(1) & 15, message.number(3), message.number(4)
    if kind == FIXED:
        whole = message.number(2) == 0 and message.number(2) == 8 * size
        name = f"{'' if flags & 8 else 'u'}int{8 * size}" if whole else ""
        return Datatype(kind, size, ENCODINGS.get(name) if size > 0 else None, bool(flags & 1))
    if kind == FLOAT:
        whole = message.number(2) == 0 and message.number(2) == 8 * size
        message.take(1)
        exponent = message.number(1)
        message.take(1)
        name = _FLOATS.get((size, exponent, message.number(1)), "") if whole else ""
        is_vax = bool(flags & 0x40)
        return Datatype(kind, size, None if is_vax else ENCODINGS.get(name), bool(flags & 1))
    if kind == ENUM and size == 1 and flags & 0xFFFF == 2:
        return Datatype(kind, size, ENCODINGS["bool"])  # h5py's FALSE and TRUE
    return Datatype(kind, size, is_text=kind == TEXT or (kind == VARIABLE and flags & 15 == 1))
