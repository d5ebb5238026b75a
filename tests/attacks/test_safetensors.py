"""Hostile safetensors files and indexes: each is refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import FormatError, WeighbridgeError
from weighbridge.formats import safetensors as reader
from weighbridge.formats.byte_source import ByteSource, LocalFolder, MemoryFile, MemoryFolder

GOOD: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def pack(header: dict[str, Any] | str | bytes, data_bytes: int = 4) -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + bytes(data_bytes)


def refused(call: Callable[[], object]) -> str:
    """The message of the refusal, after its cost was checked: time first, as tracing memory takes most of it."""
    begin = time.process_time()
    with pytest.raises(WeighbridgeError) as caught:
        call()
    seconds = time.process_time() - begin
    tracemalloc.start()
    try:
        with pytest.raises(WeighbridgeError):
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.read and caught.value.expected and caught.value.action
    assert seconds < 1
    assert peak < 100_000_000
    message = str(caught.value)
    assert len(message) < 2000
    return message


def read(file: bytes | ByteSource) -> str:
    source = MemoryFile("evil.safetensors", file) if isinstance(file, bytes) else file
    return refused(lambda: reader.read(source))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**63 - 8, 2**32, 10**8 + 1])
def test_length_that_wraps(length: int) -> None:
    """A header length near 2^63 overflows signed sums, or is allocated by a reader that trusts it."""
    assert "declares a header" in read(length.to_bytes(8, "little") + b"{}" + bytes(100))


def test_length_beyond_the_file() -> None:
    """A legal length in a short file makes a reader wait for, or allocate, 100 MB that are not there."""
    assert "a header up to byte 100,000,008" in read((10**8).to_bytes(8, "little") + b"{}")


def test_overlapping_tensors() -> None:
    """Two tensors over the same bytes let a small file expand to any size in memory."""
    table = {str(i): GOOD for i in range(1000)}
    assert "without gap or overlap" in read(pack(table))


def test_partly_overlapping_tensors() -> None:
    """A tensor that begins inside the one before it hides data in plain sight."""
    assert "without gap" in read(pack({"a": GOOD, "b": GOOD | {"data_offsets": [2, 6]}}, 6))


def test_hole_between_tensors() -> None:
    """Bytes that no tensor owns can hold another file: a polyglot."""
    assert "without gap" in read(pack({"a": GOOD, "b": GOOD | {"data_offsets": [8, 12]}}, 12))


@pytest.mark.parametrize("extra", [-1, 1, 1000])
def test_bytes_after_the_last_tensor(extra: int) -> None:
    """Bytes after the last tensor are a hole too, and missing ones a truncated download."""
    assert "as its header says" in read(pack({"a": GOOD}, 4 + extra))


@pytest.mark.parametrize("end", [5, 2**40, 2**63, 2**64 - 1, 2**64, 10**300, 10**4299])
def test_offsets_outside_the_file(end: int) -> None:
    """Offsets beyond the end make a memory map fault or a slice wrap."""
    read(pack({"a": GOOD | {"data_offsets": [0, end], "shape": [max(1, end // 4)]}}))


@pytest.mark.parametrize("offsets", [[4, 0], [0, -4], [-4, 0], [2**64 - 4, 0]])
def test_offsets_reversed(offsets: list[int]) -> None:
    """An end before its beginning becomes a huge length in unsigned arithmetic."""
    read(pack({"a": GOOD | {"data_offsets": offsets}}))


def test_duplicate_names() -> None:
    """Of two tensors with one name each parser picks another: what is checked is not what is loaded."""
    good = json.dumps(GOOD)
    assert "the key 'a' twice" in read(pack(f'{{"a": {good}, "a": {good}}}'))
    assert "the key 'a' twice" in read(pack(f'{{"a": {good}, "\\u0061": {good}}}'))


@pytest.mark.parametrize("shape", [[-1], [-1, -1], [1, -(2**63)], [-4, 0]])
def test_negative_shapes(shape: list[int]) -> None:
    """Two negative dimensions have a positive product."""
    assert "a shape of whole numbers" in read(pack({"a": GOOD | {"shape": shape}}))


@pytest.mark.parametrize(
    "shape", [[2**32, 2**32], [2**63, 2], [2**62 + 1], [2**64 + 1], [2**33] * 50, [2**64 - 1, 2, 0], [10**1000]]
)
def test_overflowing_shapes(shape: list[int]) -> None:
    """A product that wraps around 2^64 matches a small tensor's bytes."""
    read(pack({"a": GOOD | {"shape": shape}}))


def test_a_shape_of_a_million_dimensions() -> None:
    """Multiplying a million large dimensions takes quadratic time before anything is compared."""
    for length, rank in (("2", 1_000_000), ("1", 1_000_000), ("18446744073709551615", 300_000)):
        dimensions = (length + ",") * rank
        read(pack('{"a": {"dtype": "F32", "shape": [' + dimensions + '2], "data_offsets": [0, 4]}}'))


@pytest.mark.parametrize("opening", ["[", '{"a":', '["]",'])
@pytest.mark.parametrize("closed", [False, True])
def test_deep_json(opening: str, closed: bool) -> None:
    """Deep nesting exhausts the stack of a recursive parser."""
    depth = 1_000_000 // len(opening)
    closing = {"[": "]", '{"a":': "}", '["]",': ',"["]'}[opening]
    assert "nests more than" in read(pack('{"a":' + opening * depth + "1" + (closing * depth + "}" if closed else "")))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\0" * 64,
        b"PK\x03\x04" + bytes(60),
        b"GGUF" + bytes(60),
        b"<html>not found</html>",
        b"version https://git-lfs",
    ],
)
def test_header_that_is_not_json(header: bytes) -> None:
    """Other files under this name: archives, error pages, pointers to large files."""
    assert "safetensors file at all" in read(pack(header))


@pytest.mark.parametrize(
    "header", [b"{", b"{]", b"{'a': 1}", b'{"a": \xff}', b"{} {}", b"{}\0\0\0", b'{"a": 01}', b"{\0}"]
)
def test_header_that_is_almost_json(header: bytes) -> None:
    """What starts like JSON may still end as something else, or hide it behind the end."""
    assert "not valid JSON at line 1" in read(pack(header, 0))


def test_a_long_header_of_zeros_is_not_read_through() -> None:
    """A sparse file of any size costs nothing to make, and reading its header would cost memory."""
    data = (90_000_000).to_bytes(8, "little") + b"{}" + bytes(300_000)
    source = MemoryFile("a.safetensors", data, 10**12)
    with pytest.raises(FormatError, match="zero bytes"):
        reader.read(source)
    assert source.bytes_read < 300_000


def test_byte_order_mark() -> None:
    """A byte order mark before the brace: some parsers skip it, some do not."""
    assert "starts with" in read(pack(b"\xef\xbb\xbf" + json.dumps({"a": GOOD}).encode()))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
@pytest.mark.parametrize(
    "field", ['"shape": [%s], "data_offsets": [0, 4]', '"shape": [1], "data_offsets": [0, 4], "x": %s']
)
def test_numbers_that_json_does_not_have(number: str, field: str) -> None:
    """NaN compares false with every bound, so that a check written the wrong way round lets it pass."""
    read(pack('{"a": {"dtype": "F32", ' + field % number + "}}"))


@pytest.mark.parametrize("value", ["1.0", "1e0", "true", '"1"', "null", "[1]", "{}"])
def test_dimensions_that_are_no_integers(value: str) -> None:
    """2.0 equals 2 and true equals 1 in Python, but not in other readers."""
    assert "describes the tensor" in read(
        pack(f'{{"a": {{"dtype": "F32", "shape": [{value}], "data_offsets": [0, 4]}}}}')
    )
    assert "describes the tensor" in read(
        pack(f'{{"a": {{"dtype": "U8", "shape": [1], "data_offsets": [0, {value}]}}}}', 1)
    )


@pytest.mark.parametrize("dtype", ["F128", "", "f32", "F32\0", "O", "__import__('os')", "x" * 100_000])
def test_unknown_dtype(dtype: str) -> None:
    """A dtype in no table has no size; the message must not repeat 100 kB of it."""
    assert "a dtype such as BOOL" in read(pack({"a": GOOD | {"dtype": dtype}}))


@pytest.mark.parametrize("field", ["dtype", "shape", "data_offsets"])
def test_missing_fields(field: str) -> None:
    """A field that is left out must not take a default."""
    assert "describes the tensor" in read(pack({"a": {k: v for k, v in GOOD.items() if k != field}}))


def test_a_name_of_a_megabyte() -> None:
    """A message that repeats the name floods the terminal or the log."""
    read(pack({"x" * 10**6: GOOD | {"shape": [2]}}))
    read(pack({"\x1b[2J" * 10: None}))


def test_a_header_of_empty_arrays() -> None:
    """Thirty megabytes of `[],` make gigabytes of objects."""
    assert "values" in read(pack(b'{"a":[' + b"[]," * 11_000_000 + b"[]]}"))


def test_metadata_that_is_not_text() -> None:
    """Metadata are strings; anything else is a place to smuggle structure past a check."""
    assert "__metadata__" in read(pack({"__metadata__": {"a": {"b": "c"}}}, 0))


# Indexes.


def read_index(text: bytes) -> str:
    source = MemoryFile("model.safetensors.index.json", text)
    return refused(lambda: reader.read_index(source))


NAMES = ["../../etc/passwd", "/etc/passwd", "", ".", "..", "..\\x", "C:\\x", "C:x", "a/b.safetensors",
         "a\0.safetensors", "a\n.safetensors", "\\\\host\\share", "~/../x/y"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_path_traversal(name: str) -> None:
    """An index that names files outside its folder reads, and later perhaps overwrites, what it should not."""
    assert "names the file" in read_index(json.dumps({"weight_map": {"w": name}}).encode())


@pytest.mark.parametrize("name", NAMES)
def test_path_traversal_through_a_folder(name: str, tmp_path: Path) -> None:
    """The same with a real folder, with and without an index: nothing outside it is opened."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside.safetensors").write_bytes(pack({"w": GOOD}))
    index = MemoryFile("i.json", json.dumps({"weight_map": {"w": name}}).encode())
    refused(lambda: reader.read_sharded(LocalFolder(folder), [], index))
    refused(lambda: reader.read_sharded(LocalFolder(folder), [name]))
    refused(lambda: reader.read_sharded(LocalFolder(folder), ["../outside.safetensors"]))


def test_an_index_of_a_million_shards() -> None:
    """A million names of files: a reader that asks for each, or builds the table, is busy for long."""
    entries = ",".join(f'"t{i}":"{i}.safetensors"' for i in range(10**6))
    text = f'{{"weight_map":{{{entries}}}}}'.encode()
    assert "values" in read_index(text)


def test_an_index_of_many_missing_shards_opens_none() -> None:
    """What is missing is known from one listing; the message names the first, not all."""
    text = json.dumps({"weight_map": {f"t{i}": f"{i:06}.safetensors" for i in range(50_000)}}).encode()
    message = refused(lambda: reader.read_sharded(MemoryFolder({}), [], MemoryFile("i.json", text)))
    assert "lacks 50,000 of 50,000 shards, 000000.safetensors first" in message


def test_an_index_without_end() -> None:
    """An index that claims a terabyte is refused by its size, unread."""
    source = MemoryFile("i.json", b"{}", size=10**12)
    assert "an index of at most" in refused(lambda: reader.read_index(source))
    assert source.requests == 0


def test_an_index_with_a_name_twice() -> None:
    """Of two places for one tensor each loader picks another."""
    assert "twice" in read_index(b'{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}')


def test_a_set_of_a_billion_parts() -> None:
    """A file name that claims a billion parts must not be answered with a list of them."""
    name = "m-00001-of-999999999.safetensors"
    assert "999,999,998" in refused(lambda: reader.read_sharded(MemoryFolder({name: pack({})}), [name]))


def test_every_cut_of_a_file_is_refused() -> None:
    """A download can stop at any byte."""
    file = pack({"a": GOOD, "__metadata__": {"format": "pt"}})
    for size in range(len(file)):
        with pytest.raises(FormatError):
            reader.read(MemoryFile("cut.safetensors", file[:size]))


def test_an_index_among_many_other_files() -> None:
    """A folder of many files beside a large index must not be compared one with each."""
    text = json.dumps({"weight_map": {f"t{i}": f"{i:06}.safetensors" for i in range(20_000)}}).encode()
    names = [f"other{i}.safetensors" for i in range(20_000)]
    assert "lacks" in refused(lambda: reader.read_sharded(MemoryFolder({}), names, MemoryFile("i.json", text)))


def test_headers_of_many_shards_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards are read at once: each may have a long header, but not all of them."""
    monkeypatch.setattr(reader, "MAX_HEADERS_BYTES", 200)
    files = {f"m-{n}-of-3.safetensors": pack(json.dumps({f"t{n}": GOOD}).encode().ljust(90)) for n in (1, 2, 3)}
    folder = MemoryFolder(files)
    with pytest.raises(FormatError, match="more than 200 bytes together"):
        reader.read_sharded(folder, list(files))
    monkeypatch.setattr(reader, "MAX_HEADERS_BYTES", 300)
    assert len(reader.read_sharded(folder, list(files)).tensors) == 3
