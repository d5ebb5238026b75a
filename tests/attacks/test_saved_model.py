"""Hostile SavedModels and graphs: refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import CHANGES, CUT, Reads, SparseFile
from tests.formats.small_binaries import (
    VALUE,
    block,
    bundle,
    field,
    node,
    saved_model,
    small_frozen_graph,
    small_saved_model,
    table,
    tf_object,
    tf_shape,
    tf_tensor,
    varint,
)  # fmt: skip

from weighbridge.formats import saved_model as reader

READ = Reads(reader.read, "saved_model.pb", small_saved_model())
READ_GRAPH = Reads(reader.read, "a.pb", {"a.pb": small_frozen_graph()})
INDEX, DATA = "variables/variables.index", "variables/variables.data-00000-of-00001"
EMPTY = saved_model([node("x", "Placeholder")])
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def index(data: bytes) -> dict[str, bytes]:
    return {"saved_model.pb": EMPTY, INDEX: data, DATA: bytes(8)}


def test_cut_at_every_length() -> None:
    READ.cuts()
    READ_GRAPH.cuts()


def test_a_terabyte_of_zeros() -> None:
    READ.sparse()
    READ_GRAPH.sparse()


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUT)
def test_mutations(changes: list[tuple[int, int, bytes, int]], cut: int) -> None:
    READ.changes(changes, cut)
    READ_GRAPH.changes(changes, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    READ_GRAPH({"a.pb": data})
    READ(index(data + bytes(40) + MAGIC))


def test_tables_that_point_at_themselves() -> None:
    """A block that is its own index, one block under many keys, and places outside the table."""
    body = block([(b"", field(1, 1)), (b"w", field(1, 1))])
    many = block([(bytes([i]), varint(0) + varint(len(body) - 5)) for i in range(1, 200)])
    for entry_offset, size in ((0, len(body) - 5), (len(body), len(many) - 5), (2**63, 5), (0, 2**63), (3, 9)):
        footer = varint(0) + varint(0) + varint(entry_offset) + varint(size)
        READ.refuse(index(body + many + footer.ljust(40, b"\0")[:40] + MAGIC))


def test_entries_that_share_more_than_there_is() -> None:
    raw = table([(b"", field(1, 1)), (b"w", field(1, 1) + field(2, tf_shape((1,))) + field(5, 4))])
    for at in range(12):
        for value in (0x7F, 0xFF, 0x00):
            READ(index(raw[:at] + bytes([value]) + raw[at + 1 :]))


def test_keys_that_grow() -> None:
    """Shared prefixes make long keys of few bytes; keys are bounded."""
    rows = [(b"", field(1, 1)), *((b"k" * i, field(1, 7)) for i in range(1, 3000))]
    READ(index(table(rows)), traced=True)
    READ.refuse(index(table([(b"", field(1, 1)), (b"k" * 20_000, field(1, 7))])), "an entry of")


def test_objects_in_circles() -> None:
    """A path is followed as long as its key is; children may point at their parents or nowhere."""
    for objects in ([tf_object({"a": 0})], [tf_object({"a": 2**31})], [tf_object({"a": 2**64 - 1})], [b""]):
        key = "/".join(["a"] * 4000)
        files = bundle({f"{key}{VALUE}": (1, (1,), bytes(4))})
        READ({"saved_model.pb": saved_model([], objects), **files}, traced=True)


def test_constants_that_claim_more_than_they_hold() -> None:
    for shape in ((2**62, 2**62), (2**63,), (2**64 - 1,), (0,), (1,) * 300):
        READ_GRAPH({"a.pb": field(1, node("w", "Const", value=tf_tensor(shape, bytes(4))))}, traced=True)


def test_many_nodes_functions_and_dimensions() -> None:
    READ_GRAPH({"a.pb": field(1, node("w", "Const", value=tf_tensor((1,), bytes(4)))) * 2500}, traced=True)
    READ_GRAPH({"a.pb": field(2, field(1, field(3, node("w", "Const"))) * 5000)})
    READ_GRAPH({"a.pb": field(1, node("w", "Const", value=field(1, 1) + field(2, field(2, b"") * 30_000)))})
    READ_GRAPH({"a.pb": field(1, node("n", "FusedBatchNorm", ["x"] * 20_000))})


def test_a_constant_of_gigabytes_is_not_read() -> None:
    tensor = field(1, 1) + field(2, tf_shape((2**28,)))
    size = 2**30
    content = varint(4 << 3 | 2) + varint(size)
    value = varint(8 << 3 | 2) + varint(len(tensor) + len(content) + size) + tensor + content
    attribute = field(1, "value") + varint(2 << 3 | 2) + varint(len(value) + size) + value
    inner = field(1, "w") + field(2, "Const") + varint(5 << 3 | 2) + varint(len(attribute) + size) + attribute
    head = varint(1 << 3 | 2) + varint(len(inner) + size) + inner
    source = SparseFile("a.pb", head, len(head) + size)
    READ_GRAPH({"a.pb": source}, traced=True)
    assert source.bytes_read < 1_000_000
