"""Hostile HDF5 files and Keras archives: refused with advice or read without harm; nothing outside is opened."""

from __future__ import annotations

import builtins
import gzip
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import refused, within

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import contents, keras
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "formats"
FILES = {name: gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())
         for name in ("old.h5", "new.h5", "keras2.h5", "keras3.keras")}  # fmt: skip
NONE = b"\xff" * 8


@pytest.fixture(autouse=True)
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No attack starts anything."""
    monkeypatch.setattr(os, "system", called)
    yield


def called(*arguments: object, **options: object) -> None:
    raise AssertionError(f"opened or executed: {arguments}")


def read(data: bytes, name: str = "a.h5") -> Checkpoint:
    """The reading and the bytes of what has no range, within bounds of time (first, as tracing slows) and memory."""
    folder = MemoryFolder({name: data})

    def more() -> None:
        model = keras.read(folder, name)
        for tensor in model.tensors[:3]:
            if tensor.size_bytes < 10_000_000:
                list(contents.pieces(model, tensor, folder))

    return within(lambda: keras.read(folder, name), more)


def refuse(data: bytes, part: str = "", name: str = "a.h5") -> None:
    refused(lambda: read(data, name), part)


def message(kind: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack("<BHB", kind, len(data), flags) + data


def header(*messages: bytes) -> bytes:
    """An object header of version 2 with these messages; its checksum is not read."""
    body = b"".join(messages)
    return b"OHDR\2\2" + struct.pack("<I", len(body)) + body + bytes(4)


def link(name: bytes, address: int) -> bytes:
    return message(6, struct.pack("<BBB", 1, 0, len(name)) + name + struct.pack("<Q", address))


def file(*objects: bytes, root: int = 0, size: int | None = None) -> bytes:
    """A file of version 2 whose objects begin at 48, 48 + 4096, ...; the root is one of them."""
    body = b"".join(part.ljust(4096, b"\0") for part in objects)
    end = 48 + len(body) if size is None else size
    head = b"\x89HDF\r\n\x1a\n\2\x08\x08\0" + struct.pack("<Q8sQQ4x", 0, NONE, end, place(root))
    return head + body


def place(number: int) -> int:
    return 48 + 4096 * number


FLOAT32 = bytes.fromhex("11201f000400000000002000170800177f000000")


def dataset(shape: tuple[int, ...], layout: bytes, *more: bytes, kind: bytes = FLOAT32) -> bytes:
    space = struct.pack("<BBBB", 2, len(shape), 0, 1) + struct.pack(f"<{len(shape)}Q", *shape)
    return header(message(1, space), message(3, kind), message(8, layout), *more)


def contiguous(address: int, size: int) -> bytes:
    return struct.pack("<BBQQ", 3, 1, address, size)


def chunked(address: int, chunk: tuple[int, ...]) -> bytes:
    return struct.pack("<BBBQ", 3, 2, len(chunk) + 1, address) + struct.pack(f"<{len(chunk) + 1}I", *chunk, 4)


DEFLATE = message(11, struct.pack("<BBHHHI", 2, 1, 1, 0, 1, 6))
SMALL = dataset((3,), contiguous(place(2), 12))


def tree(entries: list[tuple[int, int, int, int]], level: int = 0) -> bytes:
    """A node of a tree of chunks of one axis: stored bytes, filter mask, offset, address."""
    node = b"TREE\1" + struct.pack("<BH", level, len(entries)) + NONE * 2
    for stored, mask, offset, address in entries:
        node += struct.pack("<IIQQQ", stored, mask, offset, 0, address)
    return node + bytes(24)


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    (found,) = read(file(header(link(b"w", place(1))), SMALL, bytes(12))).tensors
    assert (found.name, found.shape, found.byte_range) == ("w", (3,), (place(2), place(2) + 12))


# Ways out of the file


@pytest.mark.parametrize("name", ["old.h5", "new.h5"])
def test_links_and_storage_outside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """External links, external storage (/etc/passwd) and virtual datasets open nothing and are told."""
    with monkeypatch.context() as watched:
        for module, function in ((os, "open"), (io, "open"), (builtins, "open")):
            watched.setattr(module, function, called)
        model = read(FILES[name], name)
    names = {tensor.name for tensor in model.tensors}
    assert not names & {"other_file", "elsewhere", "virtual", "soft"}
    assert any("left out" in note for note in model.notes)


def test_a_user_defined_link() -> None:
    """A link of an unknown class is told and not followed."""
    data = struct.pack("<BBBB", 1, 8, 200, 1) + b"x" + struct.pack("<H", 3) + b"abc"
    assert "foreign link" in str(read(file(header(message(6, data)))).notes)


@pytest.mark.parametrize("name", [b"../x", b"a/b", b"", b".", b"/etc/passwd"])
def test_names_that_are_paths(name: bytes) -> None:
    """A link's name cannot lead anywhere."""
    refuse(file(header(link(name, place(1))), SMALL, bytes(12)), "a path")


def test_names_with_control_characters() -> None:
    """A name that would clear a terminal is printed plainly where it is told."""
    data = file(header(link(b"\x1b[2J", place(1))), dataset((3,), contiguous(place(2), 11)), bytes(12))
    refuse(data)


# Circles


def test_a_group_that_holds_itself() -> None:
    """A hard link to a parent is walked once."""
    model = read(file(header(link(b"up", place(0)), link(b"w", place(1))), SMALL, bytes(12)))
    assert [tensor.name for tensor in model.tensors] == ["w"] and "'/' again" in model.notes[0]


def test_groups_that_double() -> None:
    """Sixty groups that each hold the next one twice have 2^60 paths and are walked once each."""
    groups = [header(link(b"a", place(i + 1)), link(b"b", place(i + 1))) for i in range(60)]
    assert [tensor.tied_to is None for tensor in read(file(*groups, SMALL)).tensors] == [True, False]


def test_a_chain_of_groups() -> None:
    """A chain of groups deeper than any model's is refused."""
    refuse(file(*[header(link(b"a", place(i + 1))) for i in range(100)], SMALL), "groups in groups")


def test_long_paths() -> None:
    """Names that add up to long paths, each of many links, would fill the memory with copies of them."""
    long = [header(link(b"n" * 250, place(i + 1))) for i in range(5)]
    refuse(file(*long, header(*[link(f"{i}".encode(), place(6)) for i in range(100)]), SMALL), "characters")


def test_a_tree_that_leads_to_itself() -> None:
    """A node of a tree that is its own child is walked once."""
    loop = tree([(12, 0, 0, place(2))], level=1)
    refuse(file(header(link(b"w", place(1))), dataset((3,), chunked(place(2), (3,))), loop), "twice")


def test_a_symbol_table_that_leads_to_itself() -> None:
    """The same for the tree of a group of the old style."""
    node = b"TREE\0\1" + struct.pack("<H", 1) + NONE * 2 + bytes(8) + struct.pack("<Q", place(1)) + bytes(8)
    heap = b"HEAP\0\0\0\0" + struct.pack("<QQQ", 100, 0, place(2) + 64)
    refuse(file(header(message(17, struct.pack("<QQ", place(1), place(2)))), node, heap), "twice")


def test_a_header_of_a_million_empty_messages() -> None:
    """A sparse file has megabytes of zeros for nothing, and each eight of them are a message of version 1."""
    begin = struct.pack("<BxHII4x", 1, 0, 1, 8 * 10**6)
    refuse(file(begin + bytes(8 * 10**6)), "more than 300,000 messages")


def test_a_continuation_that_continues_itself() -> None:
    """An object header that goes on in itself ends when its bytes were read often enough."""
    block = b"OCHK" + message(16, struct.pack("<QQ", place(1), 4096))
    refuse(file(header(message(16, struct.pack("<QQ", place(1), 4096))), block), "each block named once")


def test_many_headers_with_one_continuation() -> None:
    """Ninety groups that go on in one long block cost no more than their bytes, ninety times."""
    block = b"OCHK" + message(0, b"") * 1000
    more = message(16, struct.pack("<QQ", place(1), 4096))
    groups = [header(more, message(10, bytes(2))) for _ in range(90)]
    root = header(*[link(f"{i}".encode(), place(i + 2)) for i in range(90)])
    assert read(file(root, block, *groups)).tensors == ()


# Sizes that lie


@pytest.mark.parametrize("shape", [(2**62, 4), (2**63,), (2**32, 2**32), (2**20,) * 30])
def test_huge_shapes(shape: tuple[int, ...]) -> None:
    """A shape of 2^63 elements is no reason to allocate them."""
    refuse(file(header(link(b"w", place(1))), dataset(shape, contiguous(place(2), 12)), bytes(12)))


@pytest.mark.parametrize("size", [0, 11, 13, 2**63, 2**64 - 1])
def test_storage_of_another_size(size: int) -> None:
    """The bytes of a dataset are those of its shape."""
    refuse(file(header(link(b"w", place(1))), dataset((3,), contiguous(place(2), size)), bytes(12)))


@pytest.mark.parametrize("address", [place(3), 2**63, 2**64 - 13, 2**64 - 2])
def test_storage_outside(address: int) -> None:
    """A dataset's bytes lie in the file."""
    refuse(file(header(link(b"w", place(1))), dataset((3,), contiguous(address, 12)), bytes(12)), "not in it")


def test_one_stretch_under_many_names() -> None:
    """Datasets that share their bytes cannot be more than the file."""
    links = header(*[link(f"{i}".encode(), place(i + 1)) for i in range(30)])
    big = [dataset((1000,), contiguous(place(1), 4000)) for _ in range(30)]
    read(file(links, *big))
    huge = [dataset((30_000,), contiguous(place(1), 120_000)) for _ in range(30)]
    refuse(file(links, *huge), "datasets that lie apart")


def test_a_bomb_of_one_chunk() -> None:
    """A chunk that claims more than deflate can give is refused before anything is unpacked."""
    data = dataset((2**30,), chunked(place(2), (2**30,)), DEFLATE)
    refuse(file(header(link(b"w", place(1))), data, tree([(1000, 0, 0, place(3))]), bytes(1000)), "in 1,000")


def test_a_bomb_that_is_possible() -> None:
    """What deflate could give is counted, and refused when it is to be unpacked."""
    elements = 2**24
    data = dataset((elements,), chunked(place(2), (elements,)), DEFLATE)
    stored = 70_000
    raw = file(header(link(b"w", place(1))), data, tree([(stored, 0, 0, place(3))]), bytes(stored))
    model = read(raw)
    with pytest.raises(WeighbridgeError, match="smaller chunks"):
        list(contents.pieces(model, model.tensors[0], MemoryFolder({"a.h5": raw})))


def test_chunks_outside_of_the_dataset() -> None:
    """A chunk beyond the shape is refused."""
    data = dataset((3,), chunked(place(2), (3,)))
    for offset in (3, 2**63, 2**64 - 3):
        refuse(file(header(link(b"w", place(1))), data, tree([(12, 0, offset, place(3))]), bytes(12)), "outside")


def test_a_chunk_twice() -> None:
    """Two chunks in one place are refused."""
    data = dataset((3,), chunked(place(2), (3,)))
    refuse(file(header(link(b"w", place(1))), data, tree([(12, 0, 0, place(3))] * 2), bytes(12)), "more than 1 chunks")


@pytest.mark.parametrize("chunk", [(0,), (3, 3), ()])
def test_chunks_of_another_rank(chunk: tuple[int, ...]) -> None:
    """Chunks without bytes or of another rank are refused."""
    refuse(file(header(link(b"w", place(1))), dataset((3,), chunked(place(2), chunk)), bytes(12)), "rank")


def test_tiny_chunks_of_a_huge_dataset() -> None:
    """A dataset of more chunks than are read is left out with the reason."""
    model = read(file(header(link(b"w", place(1))), dataset((2**40,), chunked(place(2), (1,))), tree([])))
    assert model.tensors == () and "chunks, more than" in model.notes[0]


def test_an_attribute_of_texts_without_end() -> None:
    """Ten thousand texts that are all one long text of the heap are refused before they fill the memory."""
    collection = b"GCOL\1\0\0\0" + struct.pack("<Q", 90_000) + struct.pack("<HH4xQ", 1, 1, 89_000)
    texts = struct.pack("<IQI", 89_000, place(14), 1) * 3500
    kind = struct.pack("<BBBBI", 0x19, 1, 0, 0, 16)
    space = struct.pack("<BBBBQ", 2, 1, 0, 1, 3500)
    name = b"layer_names\0"
    body = struct.pack("<BBHHHB", 3, 0, len(name), len(kind), len(space), 0) + name + kind + space + texts
    refuse(
        file(header(message(12, body), link(b"w", place(0))).ljust(14 * 4096, b"\0"), collection.ljust(90_000, b"\0")),
        "of attributes",
    )


def test_a_superblock_that_lies() -> None:
    """Widths, ends, roots and versions that cannot be are refused."""
    good = file(header(link(b"w", place(1))), SMALL, bytes(12))
    for at, value in (
        (8, b"\4"),
        (9, b"\3"),
        (9, b"\0"),
        (28, NONE[:7] + b"\0"),
        (36, NONE),
        (36, b"\1"),
        (8, b"\xff"),
    ):
        refuse(good[:at] + value + good[at + len(value) :])
    refuse(b"\x89HDF\r\n\x1a\n")
    refuse(b"")
    refuse(bytes(100_000), "no HDF5 signature")


# Archives


def archive(**entries: bytes) -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w") as zipped:
        for name, data in entries.items():
            zipped.writestr(name.replace("_", "."), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def test_a_bomb_in_an_archive() -> None:
    """Weights that are deflated a thousand times are not unpacked."""
    refuse(archive(model_weights_h5=bytes(100_000_000)), "deflated", "a.keras")
    refuse(archive(model_weights_h5=FILES["old.h5"], config_json=b"[" + b"1," * 10_000_000 + b"1]"), "", "a.keras")


def test_an_archive_without_weights() -> None:
    """A zip of something else is refused."""
    refuse(archive(x=b"y"), "without model.weights.h5", "a.keras")


# Damage everywhere


@pytest.mark.parametrize("name", ["keras2.h5"])
def test_every_cut(name: str) -> None:
    """A file that ends early is refused, wherever it ends."""
    data = FILES[name]
    for end in [*range(0, 3000), *range(3000, len(data), 97)]:
        with pytest.raises(WeighbridgeError):
            keras.read(MemoryFolder({name: data[:end]}), name)


@settings(max_examples=200, deadline=2000)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), max_size=4),
    st.booleans(),
)
def test_changed_files(name: str, changes: list[tuple[float, bytes]], only_full: bool) -> None:
    """Whatever bytes are changed, only the documented errors escape, from the reading and from the bytes."""
    data = bytearray(FILES[name])
    used = [at for at, byte in enumerate(data) if byte] if only_full else range(len(data))
    for where, value in changes:
        at = used[int(where * len(used))]
        data[at : at + len(value)] = value
    folder = MemoryFolder({name: bytes(data)})
    try:
        model = keras.read(folder, name)
        for tensor in [t for t in model.tensors if t.byte_range is None][:2]:
            if tensor.size_bytes < 1_000_000:
                list(contents.pieces(model, tensor, folder))
    except WeighbridgeError as error:
        assert error.action


def test_a_file_that_changes_between_reading_and_unpacking() -> None:
    """A dataset that is another one by then is refused."""
    model = read(FILES["old.h5"], "a.h5")
    for tensor in [t for t in model.tensors if t.byte_range is None and t.elements]:
        with pytest.raises(WeighbridgeError):
            list(contents.pieces(model, tensor, MemoryFolder({"a.h5": MemoryFile("a.h5", FILES["keras2.h5"])})))
