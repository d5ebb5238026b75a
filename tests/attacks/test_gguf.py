"""Headers that lie: each is refused with a FormatError, at once, and with little memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.errors import FormatError, WeighbridgeError
from weighbridge.formats import gguf
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder

UINT8, INT8, UINT16, UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 1, 2, 4, 6, 7, 8, 9, 10
F32, Q4_0 = 0, 2
HUGE = 2**60


def text(data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(data) if length is None else length) + data


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, length: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, length) + items


def tensor(
    name: bytes = b"w", ne: Sequence[int] = (8,), kind: int = F32, offset: int = 0, n_dims: int | None = None
) -> bytes:
    dims = len(ne) if n_dims is None else n_dims
    return text(name) + struct.pack(f"<I{len(ne)}QIQ", dims, *ne, kind, offset)


def header(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    version: int = 3,
    n_tensors: int | None = None,
    n_pairs: int | None = None,
) -> bytes:
    counts = len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join([*pairs, *tensors])


def refused(data: bytes, match: str, size: int | None = None, folder: MemoryFolder | None = None) -> FormatError:
    """The one way to fail: a FormatError with an action, within a second and 100 MB, in few reads."""
    name = "m-00001-of-00002.gguf"
    source = MemoryFile(name, data, size)
    start = time.process_time()
    with pytest.raises(FormatError, match=match) as caught:
        gguf.read(source, folder)
    assert time.process_time() - start < 1
    assert source.requests <= 5
    error = caught.value
    assert error.read and error.expected and error.action
    assert len(str(error)) < 2000 and str(error).isprintable()
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            gguf.read(MemoryFile(name, data, size), folder)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    return error


PAD = bytes(128)
ROOM = gguf.FIRST_WINDOW
"""A file as long as its first window needs no more bytes from the double, however long it claims to be."""


def test_empty() -> None:
    """The file has no bytes."""
    refused(b"", "has 0 bytes")


@pytest.mark.parametrize("length", [1, 4, 8, 16, 23])
def test_shorter_than_the_fixed_part(length: int) -> None:
    """The file ends within its first 24 bytes."""
    refused(header()[:length], f"has {length} bytes")


@pytest.mark.parametrize("magic", [b"FUGG", b"ggml", b"tjgg", b"\0\0\0\0", b"PK\3\4", b"vers", b"<htm"])
def test_another_magic(magic: bytes) -> None:
    """The file is of another format, a page or a pointer, under a GGUF name."""
    refused(magic + header()[4:], "begins with")


def test_version_1() -> None:
    """The file is of the first version, whose counts are 32 bits long."""
    error = refused(b"GGUF" + struct.pack("<III", 1, 0, 0) + PAD, "version 1")
    assert "convert" in error.action


@pytest.mark.parametrize("version", [0, 4, 5, 255, 2**16, 2**31, 2**32 - 1, 0x01000000, 0x04000000])
def test_unknown_version(version: int) -> None:
    """The file claims a version that does not exist, in either byte order."""
    refused(header(version=version) + PAD, "version")


@pytest.mark.parametrize("count", [6, 2**17 + 1, HUGE, 2**63, 2**64 - 1])
def test_tensors_that_cannot_fit(count: int) -> None:
    """The header counts more tensors than the file has room for."""
    refused(header(n_tensors=count) + PAD, f"counts {count} tensors")


@pytest.mark.parametrize("count", [10, 2**16 + 1, HUGE, 2**63, 2**64 - 1])
def test_pairs_that_cannot_fit(count: int) -> None:
    """The header counts more metadata pairs than the file has room for."""
    refused(header(n_pairs=count) + PAD, f"counts {count} metadata pairs")


def test_counts_beyond_any_model() -> None:
    """A terabyte file has room for ten billion empty entries."""
    refused(header(n_tensors=2**17 + 1).ljust(ROOM, b"\0"), "counts 131073 tensors", 10**12)
    refused(header(n_pairs=2**16 + 1).ljust(ROOM, b"\0"), "counts 65537 metadata pairs", 10**12)


@pytest.mark.parametrize("length", [120, 2**16, HUGE, 2**63, 2**64 - 1])
def test_key_past_the_end(length: int) -> None:
    """A key is longer than the file."""
    refused(header([text(b"key", length)]) + PAD[:100], "metadata key 0")


def test_key_too_long() -> None:
    """A key is longer than the specification allows, in a file that has the bytes."""
    refused(header([pair(b"k" * 65536, UINT8, b"\0")]), "65536 bytes long")


def test_key_empty() -> None:
    """A key has no characters."""
    refused(header([pair(b"", UINT8, b"\0")]) + PAD, "metadata key 0 is empty")


def test_key_twice() -> None:
    """Two pairs have one key, so that two readers may see two values."""
    refused(header([pair(b"a", UINT8, b"\0"), pair(b"a", UINT8, b"\1")]), "metadata key 1 is the second 'a'")


def test_key_not_utf8() -> None:
    """A key is not text."""
    refused(header([pair(b"a\xff", UINT8, b"\0")]) + PAD, "byte 0xff at 1")


@pytest.mark.parametrize("length", [HUGE, 2**63, 2**64 - 1])
def test_string_past_the_end(length: int) -> None:
    """A value is longer than the file."""
    refused(header([pair(b"a", STRING, text(b"x", length))]) + PAD, "the value of 'a' would end at byte")


def test_string_of_gigabytes() -> None:
    """A value is a string of 50 GB in a file that is longer still."""
    refused(header([pair(b"a", STRING, text(b"x", 5 * 10**10))]).ljust(ROOM), "bytes long", 10**12)


@pytest.mark.parametrize("value", [b"\x80", b"a\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\x80"])
def test_string_not_utf8(value: bytes) -> None:
    """A value is not UTF-8: a stray byte, a cut character, a surrogate, five bytes, an overlong NUL."""
    refused(header([pair(b"a", STRING, text(value))]) + PAD, "the value of 'a' has the byte")
    refused(header([pair(b"a", ARRAY, array(STRING, 1, text(value)))]) + PAD, "the value of 'a' has the byte")


@pytest.mark.parametrize("kind", [13, 100, 2**31, 2**32 - 1])
def test_unknown_value_type(kind: int) -> None:
    """A value, or an array's items, are of a type that does not exist."""
    refused(header([pair(b"a", kind, b"")]) + PAD, f"value type {kind}")
    refused(header([pair(b"a", ARRAY, array(kind, 1))]) + PAD, f"value type {kind}")


@pytest.mark.parametrize("value", [2, 128, 255])
def test_boolean_of_a_third_value(value: int) -> None:
    """A boolean is neither 0 nor 1, alone, in a short array and in a long one."""
    refused(header([pair(b"a", BOOL, bytes([value]))]) + PAD, f"the boolean {value}")
    for length in (1, 100_000):
        items = bytes(length - 1) + bytes([value])
        refused(header([pair(b"a", ARRAY, array(BOOL, length, items))]), f"the boolean {value}")


@pytest.mark.parametrize("kind", range(13))
@pytest.mark.parametrize("length", [129, HUGE, 2**61, 2**63, 2**64 - 1])
def test_array_past_the_end(kind: int, length: int) -> None:
    """An array has more items than the file has bytes."""
    refused(header([pair(b"a", ARRAY, array(kind, length))]) + PAD, f"has {length} items")


@pytest.mark.parametrize("kind", [UINT8, BOOL, FLOAT32, UINT64])
def test_array_of_gigabytes(kind: int) -> None:
    """An array of 100 GB lies in a file that is longer still."""
    refused(header([pair(b"a", ARRAY, array(kind, 10**11))]).ljust(ROOM), "would end at byte", 10**13)


def test_strings_in_a_long_array_past_the_end() -> None:
    """One of many strings is longer than the file: the first, one in the middle, the last."""
    for at in (0, 2500, 4999):
        for length in (10**6, HUGE, 2**63, 2**64 - 1):
            items = b"".join(text(b"x", length if i == at else None) for i in range(5000))
            refused(header([pair(b"a", ARRAY, array(STRING, 5000, items))]), "would end at byte")


def test_strings_in_a_long_array_jump_over_gigabytes() -> None:
    """A skipped string leads 50 GB further, into a file that is longer still."""
    items = text(b"", 5 * 10**10)
    refused(header([pair(b"a", ARRAY, array(STRING, 5000, items))]).ljust(ROOM), "would end at byte", 10**12)


def test_arrays_nested_without_end() -> None:
    """Each array holds one array, 5,000 deep, to exhaust the stack."""
    refused(header([pair(b"a", ARRAY, array(ARRAY, 1) * 5000)]), "at depth 5")


def test_arrays_without_number() -> None:
    """One array holds 70,000 empty arrays, to exhaust the memory with objects."""
    refused(header([pair(b"a", ARRAY, array(ARRAY, 70_000, array(UINT8, 0) * 70_000))]), "array 65537 of the file")


@pytest.mark.parametrize("value", [0, 3, 12, 33, 2**31 + 1, 2**32 - 1])
def test_alignment_not_a_power_of_two(value: int) -> None:
    """The alignment is zero, or no power of two."""
    pairs = [pair(b"general.alignment", UINT32, struct.pack("<I", value))]
    refused(header(pairs, [tensor()]) + PAD, f"general.alignment is {value} as uint32")


def test_alignment_of_another_type() -> None:
    """The alignment is no 32-bit number, so that a reader may take it for something else."""
    for kind, value in (
        (UINT64, struct.pack("<Q", 32)), (FLOAT32, struct.pack("<f", 32)), (STRING, text(b"32")), (BOOL, b"\1"),
        (INT8, b" "), (ARRAY, array(UINT32, 1, struct.pack("<I", 32))),
    ):  # fmt: skip
        refused(header([pair(b"general.alignment", kind, value)], [tensor()]) + PAD, "general.alignment is")


def test_alignment_past_the_end() -> None:
    """The alignment puts the first tensor 2 GiB behind a small file."""
    pairs = [pair(b"general.alignment", UINT32, struct.pack("<I", 2**31))]
    refused(header(pairs, [tensor()]) + PAD, "ends at byte 2147483680 but the file has")


@pytest.mark.parametrize("length", [64, 65, 1000])
def test_name_too_long(length: int) -> None:
    """A tensor's name does not fit into llama.cpp's 64 bytes with the closing NUL."""
    refused(header([], [tensor(b"n" * length)]) + PAD, f"the name of tensor 0 is {length} bytes long")


@pytest.mark.parametrize("length", [10**4, HUGE, 2**64 - 1])
def test_name_past_the_end(length: int) -> None:
    """A tensor's name is longer than the file."""
    refused(header([], [text(b"w", length)]) + PAD, "the name of tensor 0 would end")


def test_name_not_utf8() -> None:
    """A tensor's name is not text."""
    refused(header([], [tensor(b"w\xfe")]) + PAD, "byte 0xfe at 1")


def test_name_twice() -> None:
    """Two tensors have one name."""
    refused(header([], [tensor(b"w"), tensor(b"w", offset=32)]) + PAD, "tensor 1 is named 'w'")


def test_name_with_nul() -> None:
    """A name goes on behind a NUL, where llama.cpp stops reading it."""
    refused(header([], [tensor(b"w\0a")]) + PAD, "tensor 0 is named")


@pytest.mark.parametrize("n_dims", [5, 6, 2**31, 2**32 - 1])
def test_too_many_dimensions(n_dims: int) -> None:
    """A tensor has more than four dimensions."""
    refused(header([], [tensor(n_dims=n_dims)]) + PAD, f"has {n_dims} dimensions")


@pytest.mark.parametrize(
    "ne",
    [
        [0], [8, 0], [0, 0, 0, 0], [2**63], [2**64 - 1], [2**64 - 8, 8], [2**32, 2**31], [2**32, 2**32],
        [2**16, 2**16, 2**16, 2**16], [2**62, 2, 2, 2], [3, 2**62],
    ],
    ids=str,
)  # fmt: skip
def test_dimensions_of_nothing_or_too_much(ne: list[int]) -> None:
    """A dimension is zero or negative, or the elements overflow 63 bits, to wrap around to a small size."""
    refused(header([], [tensor(ne=ne)]) + PAD, "has ne = ")


@pytest.mark.parametrize("ne", [[2**62], [2**40, 2**20], [HUGE, 1, 1, 1]], ids=str)
def test_tensor_of_exabytes(ne: list[int]) -> None:
    """A tensor's elements are countable, but no file holds them."""
    refused(header([], [tensor(ne=ne)]) + PAD, "ends at byte")


@pytest.mark.parametrize("ne", [[1], [31], [33], [], [16, 2], [1, 32]], ids=str)
def test_rows_of_broken_blocks(ne: list[int]) -> None:
    """A row is not a whole number of blocks, though the tensor may be."""
    refused(header([], [tensor(ne=ne, kind=Q4_0)]) + PAD, "has rows of")


@pytest.mark.parametrize("kind", [4, 5, 31, 32, 33, 36, 37, 38])
def test_removed_type(kind: int) -> None:
    """A tensor is in an encoding that the format once had."""
    error = refused(header([], [tensor(kind=kind)]) + PAD, "removed from the format")
    assert "convert" in error.action


@pytest.mark.parametrize("kind", [43, 100, 2**16, 2**31, 2**32 - 1])
def test_unknown_type(kind: int) -> None:
    """A tensor is in an encoding that the format never had."""
    refused(header([], [tensor(kind=kind)]) + PAD, f"the unknown type {kind}")


def test_first_offset() -> None:
    """The first tensor does not begin where the data begin."""
    refused(header([], [tensor(offset=32)]) + PAD, "offset 32, which leaves a hole; expected offset 0")


@pytest.mark.parametrize(
    ("offset", "fault"),
    [
        (0, "overlaps"), (64, "leaves a hole"), (1, "no multiple of the alignment 32"), (33, "no multiple"),
        (2**63, "leaves a hole"), (2**64 - 32, "leaves a hole"), (2**64 - 1, "no multiple"),
    ],
)  # fmt: skip
def test_second_offset(offset: int, fault: str) -> None:
    """The second tensor overlaps the first, leaves a hole, is not aligned, or lies before the file, counted round."""
    refused(header([], [tensor(b"a"), tensor(b"b", offset=offset)]) + bytes(1024), fault)


def test_offsets_in_another_order() -> None:
    """The tensors share no byte, but lie in another order than in the table."""
    refused(header([], [tensor(b"a", offset=32), tensor(b"b")]) + bytes(1024), "expected offset 0")


def test_data_cut_short() -> None:
    """The file ends one byte before its last tensor does."""
    content = header([], [tensor(b"a"), tensor(b"b", offset=32)])
    start = -(-len(content) // 32) * 32
    refused(content.ljust(start + 63, b"\0"), f"tensor 'b' ends at byte {start + 64} but the file has {start + 63}")


def test_header_beyond_any_tokenizer() -> None:
    """The metadata go on for more than 64 MB, in pieces that are each allowed."""
    size = 35 * 10**6
    first = array(UINT8, size) + bytes(size)
    data = header([pair(b"a", ARRAY, first), pair(b"b", ARRAY, array(UINT8, size))])
    source = MemoryFile("m.gguf", data.ljust(6 * 10**7, b"\0"), 10**12)
    with pytest.raises(FormatError, match="at most 64,000,000 bytes"):
        gguf.read(source)
    assert source.bytes_read < 6 * 10**7


def test_more_strings_than_any_vocabulary() -> None:
    """Empty strings take eight bytes each: a sparse file holds millions of them for nothing."""
    data = header([pair(b"a", ARRAY, array(STRING, 8 * 10**6))]).ljust(70_000, b"\0")
    source = MemoryFile("m.gguf", data, 10**12)
    with pytest.raises(FormatError, match="strings to 8000000"):
        gguf.read(source)
    assert source.bytes_read < 70_000


def shard(
    no: int = 0, count: int = 2, total: int | None = 2, name: bytes = b"a", kind: int = UINT16, no_kind: int = UINT16
) -> bytes:
    code = {UINT16: "<H", UINT32: "<I", UINT64: "<Q", FLOAT32: "<f", BOOL: "<B"}[kind]
    pairs = [
        pair(b"split.no", no_kind, struct.pack("<B" if no_kind == BOOL else "<H", no)),
        pair(b"split.count", kind, struct.pack(code, count)),
    ]
    if total is not None:
        pairs.append(pair(b"split.tensors.count", UINT32, struct.pack("<I", total)))
    return header(pairs, [tensor(name)]) + PAD


GOOD = shard(1, name=b"b")


def test_good_shards_are_read() -> None:
    """Nothing is wrong: the tests below fail for what they change."""
    for second in (GOOD, shard(1, total=None, name=b"b")):
        folder = MemoryFolder({"m-00002-of-00002.gguf": second})
        assert len(gguf.read(MemoryFile("m-00001-of-00002.gguf", shard()), folder).files) == 2


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (shard(no=1), GOOD, "says split.no = 1 of split.count = 2"),
        (shard(count=3), GOOD, "says split.no = 0 of split.count = 3"),
        (shard(count=2**64 - 1, kind=UINT64), GOOD, "split.count = 18446744073709551615"),
        (shard(count=2, kind=FLOAT32), GOOD, "split.count is 2.0"),
        (shard(count=1, kind=BOOL), GOOD, "split.count is True"),
        (header([pair(b"split.count", UINT16, b"\2\0")]), GOOD, "says split.no = None"),
        (header([pair(b"split.count", UINT16, b"\2\0"), pair(b"split.no", BOOL, b"\0")]), GOOD, "split.no = False"),
        (shard(total=3), GOOD, "split.tensors.count = 3"),
        (shard(total=None), GOOD, "split.tensors.count = None"),
        (shard(), shard(1, name=b"b", no_kind=BOOL), "m-00002-of-00002.gguf says split.no = True"),
        (shard(), shard(0, name=b"b"), "m-00002-of-00002.gguf says split.no = 0"),
        (shard(), shard(1, 3, name=b"b"), "m-00002-of-00002.gguf says split.no = 1, split.count = 3"),
        (shard(), shard(1, total=7, name=b"b"), "m-00002-of-00002.gguf says .*split.tensors.count = 7"),
        (shard(), shard(1, name=b"a"), "'a' is in m-00001-of-00002.gguf and in m-00002-of-00002.gguf"),
        (shard(), header([], [tensor(b"b")]) + PAD, "m-00002-of-00002.gguf says split.no = None"),
        (shard(), GOOD[:-1 - len(PAD)] , "m-00002-of-00002.gguf: .* would end"),
        (shard(), b"", "m-00002-of-00002.gguf: the file has 0 bytes"),
    ],
    ids=range(17),
)  # fmt: skip
def test_shards_that_contradict_each_other(first: bytes, second: bytes, match: str) -> None:
    """A shard is another one, of another model, of another number of files, or holds what a sibling holds."""
    refused(first, match, folder=MemoryFolder({"m-00002-of-00002.gguf": second}))


@pytest.mark.parametrize(
    "name", ["m.gguf", "m-1-of-2.gguf", "m-00001-of-00003.gguf", "m-00002-of-00002.gguf", "-00001-of-00002.gguf"]
)
def test_shard_under_another_name(name: str) -> None:
    """The file's name does not say which shard it is, or says another."""
    with pytest.raises(FormatError, match="published name"):
        gguf.read(MemoryFile(name, shard()), MemoryFolder({"m-00002-of-00002.gguf": GOOD}))


VALID = header(
    [
        pair(b"general.architecture", STRING, text(b"llama")),
        pair(b"general.alignment", UINT32, struct.pack("<I", 32)),
        pair(b"flag", BOOL, b"\1"),
        pair(b"scores", ARRAY, array(FLOAT32, 3, struct.pack("<3f", 0, 1, -1))),
        pair(b"tokens", ARRAY, array(STRING, 3, text(b"a") + text("é".encode()) + text(b""))),
        pair(b"nested", ARRAY, array(ARRAY, 2, array(UINT8, 1, b"\1") + array(BOOL, 1, b"\1"))),
        pair(b"split.count", UINT16, b"\1\0"),
    ],
    [tensor(b"a", [32, 2], Q4_0), tensor(b"b", [3, 5], offset=64), tensor(b"c", [], offset=128)],
)
WHOLE = VALID.ljust(-(-len(VALID) // 32) * 32, b"\0") + bytes(128 + 4)


def survives(data: bytes) -> None:
    try:
        checkpoint = gguf.read(MemoryFile("m.gguf", data), MemoryFolder({}))
    except WeighbridgeError as error:
        assert error.read and error.expected and error.action
    else:
        assert checkpoint.size_bytes == len(data)


def test_cut_short_everywhere() -> None:
    """The file is cut at each of its bytes."""
    assert len(gguf.read(MemoryFile("m.gguf", WHOLE)).tensors) == 3
    for length in range(len(WHOLE)):
        with pytest.raises(FormatError):
            gguf.read(MemoryFile("m.gguf", WHOLE[:length]))


def test_each_byte_changed() -> None:
    """One byte of the header is another one."""
    for index in range(len(VALID)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, WHOLE[index] ^ 1, WHOLE[index] ^ 0x20):
            survives(WHOLE[:index] + bytes([value]) + WHOLE[index + 1 :])


@settings(max_examples=400, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=9)), max_size=6),
    cut=st.integers(0, len(WHOLE)),
    inserted=st.tuples(st.integers(0, len(VALID)), st.binary(max_size=12)),
)
def test_bytes_changed_cut_and_inserted(
    changes: list[tuple[int, bytes]], cut: int, inserted: tuple[int, bytes]
) -> None:
    """Any damage ends in an answer or in an error of ours, never in another exception."""
    data = bytearray(WHOLE)
    for at, new in changes:
        data[at : at + len(new)] = new
    at, new = inserted
    data[at:at] = new
    survives(bytes(data))
    survives(bytes(data[:cut]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_anything_behind_a_valid_beginning(rest: bytes) -> None:
    """The fixed part is right and all that follows is noise."""
    for tensors, pairs in ((0, 1), (1, 0), (3, 2)):
        survives(header(n_tensors=tensors, n_pairs=pairs) + rest)
