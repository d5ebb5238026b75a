"""Files written by the gguf package, an independent writer, are read back as it and its own reader have them."""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf as peer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import gguf
from weighbridge.formats.byte_source import LocalFile, LocalFolder, MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint

BLOCKS: dict[int, tuple[int, int]] = {int(kind): sizes for kind, sizes in peer.GGML_QUANT_SIZES.items()}


@dataclass(frozen=True)
class Written:
    """A tensor for the writer: shape in reference order, GGUF type."""

    name: str
    shape: tuple[int, ...]
    kind: int

    @property
    def size(self) -> int:
        elements, size = BLOCKS[self.kind]
        return int(np.prod(self.shape)) // elements * size


def write(
    path: Path,
    tensors: Sequence[Written] = (),
    pairs: Callable[[Any], object] = lambda writer: None,
    alignment: int | None = None,
    version: int = 3,
    **options: Any,
) -> Path:
    writer = peer.GGUFWriter(path, "test", **options)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    pairs(writer)
    for tensor in tensors:
        elements, size = BLOCKS[tensor.kind]
        row = tensor.shape[-1] // elements * size
        data = np.full((*tensor.shape[:-1], row), 0xA5, dtype=np.uint8)
        writer.add_tensor(tensor.name, data, raw_dtype=peer.GGMLQuantizationType(tensor.kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if version != 3:
        content = path.read_bytes()
        path.write_bytes(content[:4] + struct.pack("<I", version) + content[8:])
    return path


def in_memory(folder: Path) -> MemoryFolder:
    return MemoryFolder({path.name: path.read_bytes() for path in folder.iterdir()})


def accounted(checkpoint: Checkpoint, *paths: Path) -> None:
    assert [(file.name, file.size_bytes) for file in checkpoint.files] == [(p.name, p.stat().st_size) for p in paths]
    for file in checkpoint.files:
        ranges = [t.byte_range for t in checkpoint.tensors if t.file == file.name]
        assert file.header_bytes + file.tensor_bytes + file.padding_bytes == file.size_bytes
        assert file.tensor_bytes == sum(r[1] - r[0] for r in ranges if r is not None)


def same_as_peer(checkpoint: Checkpoint, path: Path) -> None:
    reader = peer.GGUFReader(path)
    ours = [
        (t.name, t.encoding.gguf_type, t.shape[::-1] or (), t.elements, t.byte_range)
        for t in checkpoint.tensors
        if t.file == path.name
    ]
    theirs = [
        (t.name, int(t.tensor_type), tuple(map(int, t.shape)), int(t.n_elements),
         (int(t.data_offset), int(t.data_offset) + int(t.n_bytes)))
        for t in reader.tensors
    ]  # fmt: skip
    assert ours == theirs
    keys = [key for key in reader.fields if not key.startswith("GGUF.")]
    assert list(checkpoint.metadata) == keys
    for key in keys:
        value, theirs_value = checkpoint.metadata[key], reader.fields[key].contents()
        if not isinstance(value, gguf.MetadataArray):
            assert value == theirs_value and type(value) is type(theirs_value)
        elif value.value_type != "array":  # the peer flattens nested arrays
            assert value.length == len(theirs_value)
            assert value.values is None or list(value.values) == theirs_value


EVERY_TYPE = [Written(f"t{kind}", (3, 2, 2 * BLOCKS[kind][0]), kind) for kind in BLOCKS]
NUMBERS: dict[str, tuple[int | float, ...]] = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 2**16 - 1), "int16": (-(2**15), 2**15 - 1),
    "uint32": (0, 2**32 - 1), "int32": (-(2**31), 2**31 - 1), "uint64": (0, 2**64 - 1), "int64": (-(2**63), 2**63 - 1),
    "float32": (0.0, -1.5, float("inf")), "float64": (0.1, -1e300, float("-inf")), "bool": (False, True),
}  # fmt: skip


def every_value(writer: Any) -> None:
    for name, numbers in NUMBERS.items():
        kind = peer.GGUFValueType[name.upper()]
        for index, number in enumerate(numbers):
            writer.add_key_value(f"one.{name}.{index}", number, kind)
        writer.add_key_value(f"many.{name}", list(numbers), peer.GGUFValueType.ARRAY, kind)
        writer.add_key_value(f"long.{name}", list(numbers) * 2100, peer.GGUFValueType.ARRAY, kind)
    writer.add_key_value("one.string", "é漢😀\n", peer.GGUFValueType.STRING)
    writer.add_key_value("empty.string", "", peer.GGUFValueType.STRING)
    writer.add_array("many.string", ["a", "", "漢字"])
    writer.add_array("long.string", ["token", "", "漢字"] * 3000)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [None, 64])
def test_every_tensor_type_and_value_type_as_the_peer_reads_them(
    tmp_path: Path, version: int, alignment: int | None
) -> None:
    path = write(tmp_path / "m.gguf", EVERY_TYPE, every_value, alignment, version)
    checkpoint = gguf.read(LocalFile(path))
    same_as_peer(checkpoint, path)
    accounted(checkpoint, path)
    header = gguf.header_of(LocalFile(path))
    assert (header.version, header.byte_order, header.alignment) == (version, "little", alignment or 32)
    assert (checkpoint.format, checkpoint.config, checkpoint.source) == ("gguf", None, str(path))
    content = path.read_bytes()[: checkpoint.files[0].header_bytes]
    assert checkpoint.digest == hashlib.sha256(content).hexdigest() and header.content == content
    for tensor, written in zip(checkpoint.tensors, EVERY_TYPE, strict=True):
        assert (tensor.name, tensor.shape, tensor.size_bytes) == (written.name, written.shape, written.size)
        assert tensor.size_bytes == tensor.encoding.size_bytes(tensor.shape)


def test_values_of_every_type_are_what_was_written(tmp_path: Path) -> None:
    metadata = gguf.read(LocalFile(write(tmp_path / "m.gguf", (), every_value))).metadata
    for name, numbers in NUMBERS.items():
        assert tuple(metadata[f"one.{name}.{i}"] for i in range(len(numbers))) == numbers
        assert metadata[f"many.{name}"] == gguf.MetadataArray(name, len(numbers), numbers)
        assert metadata[f"long.{name}"] == gguf.MetadataArray(name, 2100 * len(numbers), None)
    assert (metadata["one.string"], metadata["empty.string"]) == ("é漢😀\n", "")
    assert metadata["many.string"] == gguf.MetadataArray("string", 3, ("a", "", "漢字"))
    assert metadata["long.string"] == gguf.MetadataArray("string", 9000, None)


def test_a_big_endian_file(tmp_path: Path) -> None:
    path = write(tmp_path / "b.gguf", EVERY_TYPE, every_value, endianess=peer.GGUFEndian.BIG)
    checkpoint = gguf.read(LocalFile(path))
    same_as_peer(checkpoint, path)
    accounted(checkpoint, path)
    assert gguf.header_of(LocalFile(path)).byte_order == "big"
    little = gguf.read(LocalFile(write(tmp_path / "l.gguf", EVERY_TYPE, every_value)))
    assert checkpoint.metadata == little.metadata
    assert [replace(t, file="l.gguf") for t in checkpoint.tensors] == list(little.tensors)


def test_nested_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", (), lambda w: w.add_array("nested", [[1, 2], [3], [-1, -2, -3]]))
    inner = [gguf.MetadataArray("int32", len(v), v) for v in ((1, 2), (3,), (-1, -2, -3))]
    assert gguf.read(LocalFile(path)).metadata["nested"] == gguf.MetadataArray("array", 3, tuple(inner))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_split_files_lead_to_all_shards_from_any(tmp_path: Path, count: int) -> None:
    tensors = [Written(f"blk.{i}", (2, 64), kind) for i, kind in enumerate([0, 2, 8, 30, 39])]
    write(tmp_path / "m.gguf", tensors, every_value, split_max_tensors=-(-len(tensors) // count))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == {1: 1, 2: 2, 5: 5}[count]
    seen = [gguf.read(LocalFile(path), in_memory(tmp_path)) for path in paths]
    for checkpoint, path in zip(seen, paths, strict=True):
        assert checkpoint.source == str(path)
        assert replace(checkpoint, source="") == replace(seen[0], source="")
    accounted(seen[0], *paths)
    assert [(t.name, t.shape) for t in seen[0].tensors] == [(w.name, w.shape) for w in tensors]
    same_as_peer(seen[0], paths[0])
    contents = [p.read_bytes()[: f.header_bytes] for p, f in zip(paths, seen[0].files, strict=True)]
    assert seen[0].digest == hashlib.sha256(b"".join(contents)).hexdigest()


def test_a_first_shard_without_tensors(tmp_path: Path) -> None:
    tensors = [Written("a", (4,), 0), Written("b", (4,), 0)]
    write(tmp_path / "m.gguf", tensors, split_max_tensors=1, small_first_shard=True)
    checkpoint = gguf.read(LocalFile(tmp_path / "m-00002-of-00003.gguf"), in_memory(tmp_path))
    assert [(t.name, t.file) for t in checkpoint.tensors] == [
        ("a", "m-00002-of-00003.gguf"), ("b", "m-00003-of-00003.gguf"),
    ]  # fmt: skip
    assert (checkpoint.files[0].tensor_bytes, checkpoint.metadata["general.architecture"]) == (0, "test")


def test_a_missing_shard_is_named_and_a_missing_folder_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", [Written(n, (4,), 0) for n in "abc"], split_max_tensors=1)
    (tmp_path / "m-00002-of-00003.gguf").unlink()
    source = LocalFile(tmp_path / "m-00001-of-00003.gguf")
    with pytest.raises(SourceError, match=r"lacks m-00002-of-00003\.gguf; .*all 3 shards.*get the missing"):
        gguf.read(source, LocalFolder(tmp_path))
    with pytest.raises(FormatError, match=r"one of 3 shards.*give the folder"):
        gguf.read(source)


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def header(pairs: Sequence[bytes] = (), tensors: Sequence[bytes] = ()) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join([*pairs, *tensors])


def filled(header_bytes: int) -> bytes:
    """A header of exactly so many bytes: one string fills it."""
    key = text(b"k") + struct.pack("<I", 8)
    return header([key + text(b"x" * (header_bytes - 24 - len(key) - 8))])


WINDOWS = [64 * 2**10, 320 * 2**10, 1344 * 2**10, 5440 * 2**10, 9536 * 2**10]
"""Bytes held after each read: 64 KiB, then four times as much each time, up to 4 MiB."""


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("windows", range(1, 5))
@pytest.mark.parametrize("rest", [0, 1, 20 * 2**20])
def test_requests_and_bytes_read_around_every_window(windows: int, more: int, rest: int) -> None:
    content = filled(WINDOWS[windows - 1] + more)
    size = len(content) + rest
    source = MemoryFile("m.gguf", content.ljust(min(size, WINDOWS[-1]), b"\0"), size)
    checkpoint = gguf.read(source)
    assert (checkpoint.files[0].header_bytes, checkpoint.files[0].padding_bytes) == (len(content), rest)
    assert source.requests == windows + (more > 0)
    assert source.bytes_read == min(size, WINDOWS[source.requests - 1])
    assert source.bytes_read <= len(content) + gguf.LARGEST_WINDOW


@pytest.mark.parametrize("window", [*range(1, 40), 63, 64, 65, 1000])
def test_the_window_never_changes_what_is_read(tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "m.gguf", EVERY_TYPE[:4], every_value).read_bytes()
    whole = gguf.read(MemoryFile("m.gguf", data))
    monkeypatch.setattr(gguf, "FIRST_WINDOW", window)
    monkeypatch.setattr(gguf, "LARGEST_WINDOW", max(window, 4096) if window % 2 else 4099)
    source = MemoryFile("m.gguf", data)
    assert gguf.read(source) == whole
    assert source.bytes_read <= whole.files[0].header_bytes + max(window, 4099)


def test_weights_are_not_read() -> None:
    entry = text(b"w") + struct.pack("<I2QIQ", 2, 2**20, 2**19, 0, 0)
    content = header([], [entry])
    source = MemoryFile("m.gguf", content.ljust(gguf.FIRST_WINDOW, b"\0"), size=96 + 2**41)
    assert gguf.read(source).tensor_bytes == 2**41
    assert (source.requests, source.bytes_read) == (1, gguf.FIRST_WINDOW)


def test_an_unsplit_file_leaves_its_folder_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", [Written("a", (4,), 0)])
    assert gguf.read(LocalFile(path), LocalFolder(tmp_path / "absent")).tensors[0].file == "m.gguf"


@pytest.mark.parametrize("alignment", [1, 2, 4, 8, 16, 32, 2**12])
@pytest.mark.parametrize("more", range(4))
def test_data_start_and_padding_at_every_alignment(tmp_path: Path, alignment: int, more: int) -> None:
    tensors = [Written("a" * (more + 1), (alignment + more,), 24), Written("b", (3,), 24)]
    path = write(tmp_path / "m.gguf", tensors, alignment=alignment)
    checkpoint = gguf.read(LocalFile(path))
    same_as_peer(checkpoint, path)
    accounted(checkpoint, path)
    # The padding behind the last tensor may be absent; one byte of the tensor may not.
    assert checkpoint.tensors[-1].byte_range is not None
    end = checkpoint.tensors[-1].byte_range[1]
    cut = gguf.read(MemoryFile("m.gguf", path.read_bytes()[:end]))
    assert cut.tensors == checkpoint.tensors
    with pytest.raises(FormatError, match=f"ends at byte {end} but the file has {end - 1}"):
        gguf.read(MemoryFile("m.gguf", path.read_bytes()[: end - 1]))


def one(name: bytes = b"w", ne: Sequence[int] = (32,), kind: int = 0) -> bytes:
    return header([], [text(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, 0)])


def key_of(length: int) -> bytes:
    return header([text(b"k" * length) + struct.pack("<IB", 0, 7)])


def strings(length: int) -> bytes:
    return header([text(b"k") + struct.pack("<I", 8) + text(b"s" * length)])


def depth_of(depth: int) -> bytes:
    return header(
        [text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * (depth - 1) + struct.pack("<IQ", 0, 0)]
    )


BOUNDARIES: list[tuple[str, Callable[[int], bytes], int, int]] = [
    ("name bytes", lambda n: one(b"n" * n), 63, 64),
    ("name bytes, of two each", lambda n: one("é".encode() * n), 31, 32),
    ("name empty", lambda n: one(b""), 0, -1),
    ("dimensions", lambda n: one(ne=[2] * n), 4, 5),
    ("dimension", lambda n: one(ne=[n]), 1, 0),
    ("row of Q4_0", lambda n: one(ne=[n], kind=2), 32, 33),
    ("row of Q4_0, short", lambda n: one(ne=[n], kind=2), 64, 63),
    ("row of Q4_K", lambda n: one(ne=[n, 2], kind=12), 256, 128),
    ("tensor type", lambda n: one(ne=[256], kind=n), 42, 43),
    ("key bytes", key_of, 65535, 65536),
    ("key empty", key_of, 1, 0),
    ("string bytes", strings, gguf.MAX_STRING_BYTES, gguf.MAX_STRING_BYTES + 1),
    ("depth", depth_of, gguf.MAX_ARRAY_DEPTH, gguf.MAX_ARRAY_DEPTH + 1),
]


@pytest.mark.parametrize(("what", "build", "good", "bad"), BOUNDARIES, ids=[row[0] for row in BOUNDARIES])
def test_both_sides_of_each_limit(what: str, build: Callable[[int], bytes], good: int, bad: int) -> None:
    gguf.read(MemoryFile("m.gguf", build(good) + bytes(4096)))
    if bad >= 0:
        with pytest.raises(FormatError):
            gguf.read(MemoryFile("m.gguf", build(bad) + bytes(4096)))


def test_a_scalar_has_the_shape_of_none() -> None:
    tensor = gguf.read(MemoryFile("m.gguf", one(ne=()) + bytes(64))).tensors[0]
    assert (tensor.shape, tensor.elements, tensor.size_bytes) == ((), 1, 4)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_items_are_kept_up_to_the_limits(more: int) -> None:
    length = gguf.MAX_KEPT_ITEMS + more
    payload = struct.pack("<IIQ", 9, 0, length) + bytes(length)
    value = gguf.read(MemoryFile("m.gguf", header([text(b"k") + payload]))).metadata["k"]
    assert value == gguf.MetadataArray("uint8", length, (0,) * length if more <= 0 else None)
    full = struct.pack("<IIQ", 9, 0, gguf.MAX_KEPT_ITEMS) + bytes(gguf.MAX_KEPT_ITEMS)
    arrays = gguf.MAX_KEPT_ITEMS_PER_FILE // gguf.MAX_KEPT_ITEMS + more
    pairs = [text(b"k%d" % index) + full for index in range(arrays)]
    metadata = gguf.read(MemoryFile("m.gguf", header(pairs))).metadata
    assert sum(value.values is None for value in metadata.values()) == max(more, 0)


def test_items_inside_a_skipped_array_do_not_count_as_kept() -> None:
    inner = struct.pack("<IQ", 0, 32) + bytes(32)
    length = gguf.MAX_KEPT_ITEMS + 1
    assert length * 32 > gguf.MAX_KEPT_ITEMS_PER_FILE
    skipped = text(b"skipped") + struct.pack("<IIQ", 9, 9, length) + inner * length
    metadata = gguf.read(MemoryFile("m.gguf", header([skipped, text(b"kept") + struct.pack("<I", 9) + inner]))).metadata
    assert metadata["skipped"] == gguf.MetadataArray("array", length, None)
    assert metadata["kept"].values == (0,) * 32


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)
TENSORS = st.lists(
    st.builds(
        lambda name, outer, blocks, kind: Written(name, (*outer, blocks * BLOCKS[kind][0]), kind),
        NAMES, st.lists(st.integers(1, 5), max_size=3), st.integers(1, 3), st.sampled_from(sorted(BLOCKS)),
    ),
    max_size=12, unique_by=lambda tensor: tensor.name,
)  # fmt: skip
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.booleans(),
    st.integers(-(2**31), 2**31 - 1), st.floats(width=32, allow_nan=False),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), st.lists(st.booleans(), min_size=1),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    tensors=TENSORS,
    values=st.dictionaries(NAMES, VALUES, max_size=8),
    alignment=st.sampled_from([None, 8, 32, 64, 256]),
    version=st.sampled_from([2, 3]),
    big=st.booleans(),
)
def test_whatever_is_written_is_read_back(
    tensors: list[Written], values: dict[str, Any], alignment: int | None, version: int, big: bool
) -> None:
    def pairs(writer: Any) -> None:
        for key, value in values.items():
            writer.add_key_value(f"x.{key}", value, peer.GGUFValueType.get_type(value))

    order = peer.GGUFEndian.BIG if big else peer.GGUFEndian.LITTLE
    with tempfile.TemporaryDirectory() as folder:
        # The version of a big-endian file is left as it was written.
        path = write(Path(folder, "m.gguf"), tensors, pairs, alignment, 3 if big else version, endianess=order)
        checkpoint = gguf.read(LocalFile(path))
        accounted(checkpoint, path)
    assert [(t.name, t.shape, t.encoding.gguf_type, t.size_bytes) for t in checkpoint.tensors] == [
        (w.name, w.shape, w.kind, w.size) for w in tensors
    ]
    for key, value in values.items():
        read = checkpoint.metadata[f"x.{key}"]
        assert (list(read.values or ()) if isinstance(read, gguf.MetadataArray) else read) == value


def test_a_shard_given_by_its_path_is_found_in_its_folder() -> None:
    shards = {}
    for index in range(2):
        pairs = [text(b"split.no") + struct.pack("<IH", 2, index), text(b"split.count") + struct.pack("<IH", 2, 2),
                 text(b"split.tensors.count") + struct.pack("<Ii", 5, 0)]  # fmt: skip
        shards[f"m-0000{index + 1}-of-00002.gguf"] = header(pairs)
    for path in ("a/b/m-00002-of-00002.gguf", "C:\\b\\m-00002-of-00002.gguf"):
        checkpoint = gguf.read(MemoryFile(path, shards["m-00002-of-00002.gguf"]), MemoryFolder(shards))
        assert [file.name for file in checkpoint.files] == sorted(shards)
