"""Hostile CoreML models: refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import CHANGES, CUT, Reads, SparseFile
from tests.formats.small_binaries import (
    SMALL_MLMODEL,
    blob_file,
    entry,
    field,
    mil_blob,
    mil_floats,
    network,
    operation,
    package,
    program,
    small_package,
)  # fmt: skip

from weighbridge.formats import coreml as reader

READ = Reads(reader.read, "Manifest.json", small_package())
READ_FILE = Reads(reader.read, "a.mlmodel", {"a.mlmodel": SMALL_MLMODEL})
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def test_cut_at_every_length() -> None:
    READ.cuts()
    READ_FILE.cuts()


def test_a_terabyte_of_zeros() -> None:
    READ.sparse()
    READ_FILE.sparse()
    READ_FILE({"a.mlmodel": SparseFile("a.mlmodel", SMALL_MLMODEL, 2**31 - 1)}, traced=True)


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUT)
def test_mutations(changes: list[tuple[int, int, bytes, int]], cut: int) -> None:
    READ.changes(changes, cut)
    READ_FILE.changes(changes, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    READ_FILE({"a.mlmodel": data})
    READ_FILE({"a.mlmodel": field(500, data)})
    READ_FILE({"a.mlmodel": field(502, data)})


def test_messages_inside_each_other() -> None:
    """Depth is bounded for blocks, networks and pipelines; a type may nest as it likes and is not followed."""
    inner, pipe, layer = b"", b"", b""
    for _ in range(2000):
        inner = field(3, field(4, inner))
        pipe = field(202, field(1, pipe))
        layer = field(1, field(605, field(1, layer)))
    READ_FILE.refuse({"a.mlmodel": field(502, entry(2, "f", field(2, "o") + entry(3, "o", inner)))}, "inside")
    READ_FILE.refuse({"a.mlmodel": pipe}, "inside")
    READ_FILE.refuse({"a.mlmodel": field(500, layer)}, "inside")


def test_many_layers_fields_and_functions() -> None:
    READ_FILE({"a.mlmodel": network([field(1, "a")] * 20_000)})
    READ_FILE({"a.mlmodel": field(500, field(1, field(500, field(20, b"") * 30_000)))})
    READ_FILE({"a.mlmodel": field(500, field(1, field(100, field(20, 3) * 30_000 + field(90, field(2, b"ab")))))})
    READ_FILE({"a.mlmodel": field(502, entry(2, "f", b"") * 10_000)})
    READ_FILE({"a.mlmodel": program([operation("const", "w", (1,) * 20)] * 500)})
    READ_FILE({"a.mlmodel": program([operation("add", "y", (1,), {f"k{i}": "x" for i in range(5000)})])})


def test_shapes_without_the_numbers() -> None:
    """A program cannot claim more weights than it has bytes for."""
    for shape in ((2**63,), (2**64 - 1,) * 30, (1,) * 1000, (0, 2**62)):
        value = mil_floats([1.0], shape)
        READ_FILE({"a.mlmodel": program([operation("const", "w", shape, attributes={"val": value})])}, traced=True)


def test_blobs_on_each_other() -> None:
    """Two records with data in the same bytes, data over records, and a record that is its own data."""
    weights, at = blob_file([(2, bytes(64)), (2, bytes(64))])
    raw = bytearray(weights)
    for begin, part in ((at[0] + 64 + 32, "overlap"), (2**63, "a blob of"), (0, "a blob of")):
        raw[at[1] + 16 : at[1] + 24] = begin.to_bytes(8, "little")
        values = [mil_blob(11, (16,), offset) for offset in at]
        made = [operation("const", f"w{i}", (16,), attributes={"val": value}) for i, value in enumerate(values)]
        READ.refuse({**package(program(made), bytes(raw))}, part)


def test_many_names_for_one_blob() -> None:
    weights, at = blob_file([(2, bytes(4))])
    made = [operation("const", f"w{i}", (1,), attributes={"val": mil_blob(11, (1,), at[0])}) for i in range(600)]
    READ(package(program(made), weights), traced=True)


def test_many_blob_files() -> None:
    values = [mil_blob(11, (1,), 64, f"@model_path/{i}.bin") for i in range(200)]
    made = [operation("const", f"w{i}", (1,), attributes={"val": value}) for i, value in enumerate(values)]
    files = package(program(made), b"")
    weights, _ = blob_file([(2, bytes(4))])
    files |= {f"Data/com.apple.CoreML/{i}.bin": weights for i in range(200)}
    READ.refuse(files, "more than 100 blob files")


def test_hostile_manifests() -> None:
    for text in (b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b'{"a":1,"a":2}', b'{"rootModelIdentifier": []}'):
        READ.refuse({**small_package(), "Manifest.json": text})
    READ.refuse({**small_package(), "Manifest.json": SparseFile("Manifest.json", b"{")})
