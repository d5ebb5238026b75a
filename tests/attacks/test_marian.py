"""Hostile binary models of Marian: refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import CHANGES, CUT, Reads, SparseFile
from tests.formats.small_binaries import SMALL_MARIAN, marian

from weighbridge.formats import marian as reader

READ = Reads(reader.read, "model.bin", {"model.bin": SMALL_MARIAN})


def test_cut_at_every_length() -> None:
    READ.cuts()


def test_a_terabyte_of_zeros() -> None:
    READ.sparse()
    READ.refuse({"model.bin": SparseFile("model.bin", struct.pack("<QQ", 1, reader.MAX_ITEMS))}, "closing zero")


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUT)
def test_mutations(changes: list[tuple[int, int, bytes, int]], cut: int) -> None:
    READ.changes(changes, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    READ({"model.bin": struct.pack("<QQ", 1, 1) + data})


def test_huge_counts() -> None:
    """Counts and lengths are not believed before the bytes are there."""
    READ.refuse({"model.bin": struct.pack("<QQ", 1, 2**64 - 1) + bytes(1000)}, "items")
    for at in range(4):
        header = [2, 0x404, 1, 4]
        header[at] = 2**64 - 1
        READ.refuse({"model.bin": struct.pack("<QQ4Q", 1, 1, *header) + bytes(1000)})
    gap = struct.pack("<QQ4Q", 1, 1, 2, 0x404, 1, 4) + b"W\0" + struct.pack("<iQ", 1, 2**64 - 1)
    READ.refuse({"model.bin": gap + bytes(100)}, "the gap")


def test_shapes_whose_product_wraps() -> None:
    for shape in ((2**31 - 1,) * 3, (2**16, 2**16), (0, 2**31 - 1), (2**31 - 1,) * 16):
        READ({"model.bin": marian([("W", 0x404, shape, bytes(4))])}, traced=True)


def test_many_small_items() -> None:
    READ({"model.bin": marian([(f"w{i}", 0x404, (1,), bytes(4)) for i in range(2500)])}, traced=True)


def test_a_text_of_gigabytes() -> None:
    head = struct.pack("<QQ4Q", 1, 1, 10, 0x101, 0, 2**35) + b"special:x\0" + struct.pack("<Q", 0)
    READ.refuse({"model.bin": SparseFile("model.bin", head)}, "are the most")
