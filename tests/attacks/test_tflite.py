"""Hostile TensorFlow Lite models: refused with advice or read without harm, in bounded time and memory."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import refused, within

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import tflite
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "formats"
FILES = [(GOLDEN / name).read_bytes() for name in ("quantized.tflite", "large.tflite")]


def read(data: bytes) -> Checkpoint:
    """The reading, within bounds of time (first, as tracing slows) and memory."""
    folder = MemoryFolder({"a.tflite": data})
    return within(lambda: tflite.read(folder, "a.tflite"))


def refuse(data: bytes, part: str = "") -> None:
    refused(lambda: read(data), part)


class Made:
    """A file put together from its end: tables and vectors are placed one behind the other, and named by place."""

    def __init__(self) -> None:
        self.data = bytearray(struct.pack("<I4s", 0, b"TFL3"))

    def put(self, data: bytes) -> int:
        """The place of these bytes, a multiple of 8."""
        self.data += bytes(-len(self.data) % 8)
        self.data += data
        return len(self.data) - len(data)

    def table(self, *fields: bytes) -> int:
        """A table with these fields of 8 bytes each, or none; references are filled in by `refer`."""
        entries = [4 + 4 + 8 * i if field else 0 for i, field in enumerate(fields)]
        head = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), 8 + 8 * len(fields), *entries)
        vtable = self.put(head)
        body = b"".join((field or b"").ljust(8, b"\0") for field in fields)
        self.data += bytes(-len(self.data) % 8)
        at = len(self.data)
        return self.put(struct.pack("<i4x", at - vtable) + body)

    def refer(self, table: int, field: int, to: int) -> None:
        """Makes a field of a table lead to a place, which may lie before it: offsets wrap in 32 bits."""
        at = table + 8 + 8 * field
        struct.pack_into("<I", self.data, at, to - at & 0xFFFFFFFF)

    def vector(self, *places: int) -> int:
        """A vector of tables behind it or, with wrapping, before it."""
        at = self.put(struct.pack("<I", len(places)) + bytes(4 * len(places)))
        for i, place in enumerate(places):
            struct.pack_into("<I", self.data, at + 4 + 4 * i, place - (at + 4 + 4 * i) & 0xFFFFFFFF)
        return at

    def file(self, root: int) -> bytes:
        """The file."""
        struct.pack_into("<I", self.data, 0, root)
        return bytes(self.data)


VERSION = struct.pack("<I", 3)
REFERENCE = b"\1"


def model(count: int, shape: bytes, tensor_fields: dict[int, bytes] | None = None) -> bytes:
    """A model with one subgraph, whose vector names one tensor `count` times; its buffer holds 16 bytes."""
    made = Made()
    root = made.table(VERSION, b"", REFERENCE, b"", REFERENCE)
    buffers_at = made.put(struct.pack("<I", 2) + bytes(8))
    made.refer(root, 4, buffers_at)
    graphs_at = made.put(struct.pack("<I", 1) + bytes(4))
    made.refer(root, 2, graphs_at)
    graph = made.table(REFERENCE)
    struct.pack_into("<I", made.data, graphs_at + 4, graph - graphs_at - 4)
    tensors_at = made.put(struct.pack("<I", count) + bytes(4 * count))
    made.refer(graph, 0, tensors_at)
    fields = {0: REFERENCE, 1: b"\0", 2: struct.pack("<I", 1)} | (tensor_fields or {})
    tensor = made.table(*(fields.get(i, b"") for i in range(7)))
    for i in range(count):
        at = tensors_at + 4 + 4 * i
        struct.pack_into("<I", made.data, at, tensor - at)
    made.refer(tensor, 0, made.put(shape))
    for i in (0, 1):
        buffer = made.table(REFERENCE if i else b"")
        struct.pack_into("<I", made.data, buffers_at + 4 + 4 * i, buffer - buffers_at - 4 - 4 * i)
        if i:
            made.refer(buffer, 0, made.put(struct.pack("<I", 16) + bytes(16)))
    return made.file(root)


FOUR = struct.pack("<Ii", 1, 4)


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    assert [tensor.shape for tensor in read(model(1, FOUR)).tensors] == [(4,)]


def test_one_tensor_many_times() -> None:
    """A vector that names one table 25,000 times is not read so often."""
    assert [tensor.tied_to is None for tensor in read(model(3, FOUR)).tensors] == [True, False, False]
    refuse(model(25_000, FOUR), "again and again")


def test_one_tensor_of_many_subgraphs() -> None:
    """A name that thousands of subgraphs give costs no more than others."""
    made = Made()
    count = 4000
    root = made.table(VERSION, b"", REFERENCE, b"", REFERENCE)
    buffers, graphs = (made.put(struct.pack("<I", n) + bytes(4 * n)) for n in (2, count))
    made.refer(root, 4, buffers)
    made.refer(root, 2, graphs)
    tables = [made.table(b""), made.table(REFERENCE), *(made.table(REFERENCE) for _ in range(count))]
    places = [*(buffers + 4 + 4 * i for i in range(2)), *(graphs + 4 + 4 * i for i in range(count))]
    for at, table in zip(places, tables, strict=True):
        struct.pack_into("<I", made.data, at, table - at)
    made.refer(tables[1], 0, made.put(struct.pack("<I", 16) + bytes(16)))
    tensors = made.put(struct.pack("<I", 1) + bytes(4))
    for graph in tables[2:]:
        made.refer(graph, 0, tensors)
    tensor = made.table(REFERENCE, b"\0", struct.pack("<I", 1), REFERENCE)
    struct.pack_into("<I", made.data, tensors + 4, tensor - tensors - 4)
    made.refer(tensor, 0, made.put(FOUR))
    made.refer(tensor, 3, made.put(struct.pack("<I", 1) + b"a\0"))
    found = read(made.file(root)).tensors
    assert len({tensor.name for tensor in found}) == count == 1 + sum(tensor.tied_to == "a" for tensor in found)


@pytest.mark.parametrize(
    "shape",
    [struct.pack("<Ii", 1, -4), struct.pack("<Iii", 2, -2, -2), struct.pack("<I4i", 4, *[2**31 - 1] * 4),
     struct.pack("<Ii", 1, 5), struct.pack("<Ii", 1, 0), struct.pack("<I", 2**32 - 1),
     struct.pack("<I", 65) + bytes(260),
     struct.pack("<I", 0)],
)  # fmt: skip
def test_shapes_that_do_not_fit(shape: bytes) -> None:
    """Negative, huge and other shapes than the buffer's are refused."""
    refuse(model(1, shape))


@pytest.mark.parametrize("buffer", [2, 2**31, 2**32 - 1])
def test_a_buffer_that_is_not_there(buffer: int) -> None:
    """A tensor's buffer is one of the model's."""
    refuse(model(1, FOUR, {2: struct.pack("<I", buffer)}), "buffers of the model")


def test_a_sparse_tensor_of_a_galaxy() -> None:
    """A sparse shape that no buffer could fill is refused."""
    made = model(1, struct.pack("<I3i", 3, 2**20, 2**20, 2**20), {6: struct.pack("<I", 0)})
    refuse(made)


def test_a_root_that_is_its_own_vtable() -> None:
    """A table whose vtable lies in itself is refused or read once."""
    refuse(struct.pack("<I4sIIII", 8, b"TFL3", 0, 0, 0, 0))
    refuse(struct.pack("<I4siHHHH", 8, b"TFL3", 0, 8, 8, 4, 4))
    refuse(struct.pack("<I4s", 8, b"TFL3"))
    refuse(struct.pack("<I4s", 2**32 - 1, b"TFL3"))
    refuse(b"")


def test_a_vector_of_the_root_itself() -> None:
    """Subgraphs and buffers that are the model itself do not recurse."""
    made = Made()
    root = made.table(VERSION, b"", REFERENCE, b"", REFERENCE)
    vector = made.put(struct.pack("<II", 1, 0))
    struct.pack_into("<I", made.data, vector + 4, (root - vector - 4) & 0xFFFFFFFF)
    made.refer(root, 2, vector)
    made.refer(root, 4, vector)
    refuse(made.file(root))


def test_a_buffer_outside() -> None:
    """A buffer behind the tables lies in the file."""
    data = bytearray(FILES[1])
    place = data.index(struct.pack("<Q", 248))
    for offset in (2**63, 2**64 - 1, 249, 10**6):
        changed = bytearray(data)
        struct.pack_into("<Q", changed, place, offset)
        refuse(bytes(changed), "buffer")


@pytest.mark.parametrize("data", FILES)
def test_every_cut(data: bytes) -> None:
    """A file that ends early is refused or, where only its last padding is cut, read."""
    for end in range(len(data) - 16):
        try:
            read_plainly(data[:end])
        except WeighbridgeError as error:
            assert error.action


def read_plainly(data: bytes) -> Checkpoint:
    return tflite.read(MemoryFolder({"a.tflite": data}), "a.tflite")


@settings(max_examples=400, deadline=2000)
@given(
    st.integers(0, len(FILES) - 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=5)), max_size=5),
)
def test_changed_files(which: int, changes: list[tuple[float, bytes]]) -> None:
    """Whatever bytes are changed, only the documented errors escape."""
    data = bytearray(FILES[which])
    for where, value in changes:
        at = int(where * len(data))
        data[at : at + len(value)] = value
    try:
        read_plainly(bytes(data))
    except WeighbridgeError as error:
        assert error.action


@settings(max_examples=200, deadline=2000)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    """Random bytes behind the mark are refused."""
    with pytest.raises(WeighbridgeError):
        read_plainly(data[:4].ljust(4, b"\0") + b"TFL3" + data[4:])
