"""Hostile fastText models: refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import CHANGES, CUT, Reads, SparseFile
from tests.formats.small_binaries import SMALL_FASTTEXT, SMALL_FTZ

from weighbridge.formats import fasttext as reader

READ = Reads(reader.read, "a.ftz", {"a.ftz": SMALL_FTZ})
READ_DENSE = Reads(reader.read, "a.bin", {"a.bin": SMALL_FASTTEXT})
HEAD = SMALL_FTZ[: 8 + 12 * 4 + 8]


def test_cut_at_every_length() -> None:
    READ.cuts()
    READ_DENSE.cuts()


def test_a_terabyte_of_zeros() -> None:
    READ.sparse()
    READ_DENSE.sparse()


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUT)
def test_mutations(changes: list[tuple[int, int, bytes, int]], cut: int) -> None:
    READ.changes(changes, cut)
    READ_DENSE.changes(changes, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    READ({"a.ftz": HEAD + data})


def test_huge_counts() -> None:
    """A dictionary of billions, or one that never ends, costs nothing."""
    for sizes in ((2**31 - 1, 2**31 - 1, 0, 0, 0), (-1, -1, 0, 0, 0), (5, 3, 3, 0, 0), (5, 6, -1, 0, 0)):
        READ.refuse({"a.ftz": HEAD + struct.pack("<iiiqq", *sizes) + bytes(100)}, "a dictionary of")
    READ.refuse({"a.ftz": HEAD + struct.pack("<iiiqq", 0, 0, 0, 0, 2**62)}, "pruned rows")
    long = struct.pack("<iiiqq", 20_000_000, 20_000_000, 0, 0, 0)
    READ.refuse({"a.ftz": SparseFile("a.ftz", HEAD + long)}, "empty")
    READ.refuse({"a.ftz": SparseFile("a.ftz", HEAD + long + b"a" * 90_000)}, "no end")


def test_many_words() -> None:
    words = b"".join(b"w%d\0" % i + bytes(9) for i in range(7000))
    READ({"a.ftz": HEAD + struct.pack("<iiiqq", 7000, 7000, 0, 0, -1) + words + bytes(40)}, traced=True)


def test_matrices_without_rows_or_columns() -> None:
    empty = struct.pack("<iiiqq", 0, 0, 0, 0, -1)
    for sizes in ((0, 2**40), (2**40, 0), (0, 0), (-1, 0), (2**63 - 1, 2**63 - 1)):
        READ({"a.ftz": HEAD + empty + b"\0" + struct.pack("<qq", *sizes) + b"\0" + struct.pack("<qq", *sizes)})
        READ({"a.ftz": HEAD + empty + b"\1\1" + struct.pack("<qqi4i", *sizes, 0, 0, 0, 0, 0) + bytes(60)})
