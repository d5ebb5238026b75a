"""Hostile models of CTranslate2: refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import CHANGES, CUT, Reads, SparseFile
from tests.formats.small_binaries import SMALL_CT2, ct2_text, ctranslate2

from weighbridge.formats import ctranslate2 as reader

READ = Reads(reader.read, "model.bin", {"model.bin": SMALL_CT2, "config.json": b'{"a": [1]}'})
HEAD = struct.pack("<I", 6) + ct2_text("s") + struct.pack("<I", 1)


def test_cut_at_every_length() -> None:
    READ.cuts()


def test_a_terabyte_of_zeros() -> None:
    READ.sparse()
    READ.refuse({"model.bin": SparseFile("model.bin", HEAD + struct.pack("<I", 200_000))}, "zero")


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUT)
def test_mutations(changes: list[tuple[int, int, bytes, int]], cut: int) -> None:
    READ.changes(changes, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    READ({"model.bin": HEAD + data})


def test_huge_counts() -> None:
    """Counts and lengths are not believed before the bytes are there."""
    READ.refuse({"model.bin": HEAD + struct.pack("<I", 2**32 - 1)}, "4,294,967,295 variables")
    READ.refuse({"model.bin": ctranslate2([])[:-4] + struct.pack("<I", 2**32 - 1)}, "aliases")
    READ.refuse({"model.bin": HEAD + struct.pack("<IH", 1, 2**16 - 1)}, "where")
    wide = struct.pack("<B255I", 255, *[2**32 - 1] * 255)
    READ.refuse({"model.bin": HEAD + struct.pack("<I", 1) + ct2_text("w") + wide + struct.pack("<BI", 0, 4)}, "shape")


def test_a_table_of_positions_with_a_row_of_gigabytes() -> None:
    name = "encoder/position_encodings/encodings"
    head = HEAD + struct.pack("<I", 1) + ct2_text(name) + struct.pack("<BIIBI", 2, 1, 2**29, 0, 2**31)
    READ({"model.bin": SparseFile("model.bin", head, len(head) + 2**31 + 4)}, traced=True)


def test_many_small_variables_and_aliases() -> None:
    variables = [(f"v{i}", (1,), 0, bytes(4)) for i in range(3000)]
    READ({"model.bin": ctranslate2(variables, [(f"a{i}", "v1") for i in range(4000)])}, traced=True)


def test_a_hostile_configuration_beside_it() -> None:
    for text in (b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b"9" * 100_000, b'{"a":1,"a":2}'):
        READ({"model.bin": SMALL_CT2, "config.json": text})
