"""Hostile PyTorch files: refused with an error that says what to do, or read without harm; never run, never costly."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import RUNNING, forbid, refused, within

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import pickle_symbols, torch_zip
from weighbridge.formats.byte_source import MemoryFile
from weighbridge.formats.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each attack takes less than a second and 100 MB, unpickles nothing and starts nothing."""
    forbid(monkeypatch, *RUNNING)
    yield


def read(source: MemoryFile) -> Checkpoint:
    """The reading, within its bounds of processor time (before the tracing, which slows it) and of memory."""
    return within(lambda: torch_zip.read(source))


def refuse(source: MemoryFile, part: str = "") -> None:
    refused(lambda: read(source), part)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def storage(key: str = "0", elements: int = 6, kind: str = "torch\nFloatStorage") -> bytes:
    return b"(" + text("storage") + f"c{kind}\n".encode() + text(key) + text("cpu") + number(elements) + b"tQ"


def counts(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    shape: tuple[int, ...] = (2, 3), stride: tuple[int, ...] = (3, 1), offset: int = 0, on: bytes | None = None
) -> bytes:
    arguments = (storage() if on is None else on) + number(offset) + counts(shape) + counts(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"\x89}tR"


def state(*items: bytes) -> bytes:
    """A pickle of a dict of these keys and values."""
    return b"\x80\x02}(" + b"".join(items) + b"u."


VALID = state(text("w"), tensor())


def archive(data: bytes, storage_bytes: int = 24, compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("archive/data.pkl", data, compression)
        zipped.writestr("archive/data/0", bytes(storage_bytes))
        zipped.writestr("archive/version", "3\n")
    return file.getvalue()


def file(data: bytes, storage_bytes: int = 24, compression: int = zipfile.ZIP_STORED) -> MemoryFile:
    return MemoryFile("model.pt", archive(data, storage_bytes, compression))


def patched(raw: bytes, changes: dict[str, int], entry: str = "archive/data/0") -> MemoryFile:
    """A file with fields of an entry's directory record changed."""
    places = {"flags": (8, "H"), "method": (10, "H"), "stored": (20, "I"), "size": (24, "I"), "offset": (42, "I")}
    at = raw.rindex(entry.encode()) - 46
    out = bytearray(raw)
    for name, value in changes.items():
        struct.pack_into("<" + places[name][1], out, at + places[name][0], value)
    return MemoryFile("model.pt", bytes(out))


def end_patched(raw: bytes, place: int, code: str, value: int) -> MemoryFile:
    """A file with a field of its last record changed."""
    out = bytearray(raw)
    struct.pack_into("<" + code, out, len(raw) - 22 + place, value)
    return MemoryFile("model.pt", bytes(out))


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    (found,) = read(file(VALID)).tensors
    assert (found.name, found.shape) == ("w", (2, 3))


# Code in the pickle


def test_a_call_as_the_whole_object() -> None:
    """A pickle that is one call of os.system is refused by that name."""
    refuse(file(b"\x80\x02cos\nsystem\n" + text("touch x") + b"\x85R."), "os.system")


def test_a_call_as_the_whole_object_by_stack_global() -> None:
    """The same in protocol 4, where the name comes from the stack."""
    refuse(file(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R."), "posix.system")


def test_a_call_beside_the_tensors() -> None:
    """A call hidden beside good tensors is not made, and its name is told."""
    found = read(file(state(text("w"), tensor(), text("x"), b"cos\nsystem\n" + text("touch x") + b"\x85R")))
    assert [t.name for t in found.tensors] == ["w"]
    assert found.metadata["foreign_names"] == ("os.system",)


def test_a_call_that_is_dropped() -> None:
    """A call whose result is popped at once leaves its name behind."""
    found = read(file(b"\x80\x02cos\nsystem\n" + text("x") + b"\x85R0" + VALID[2:]))
    assert found.metadata["foreign_names"] == ("os.system",)


def test_a_call_around_a_tensor() -> None:
    """A tensor inside of a foreign call is told as a part, with the name of the call."""
    found = read(file(state(text("w"), b"cbuiltins\neval\n" + tensor() + b"\x85R")))
    assert [t.name for t in found.tensors] == ["w.0"]
    assert found.metadata["foreign_names"] == ("builtins.eval",)


def test_a_computed_callable() -> None:
    """A call of the result of a call stays a symbol."""
    call = b"cbuiltins\ngetattr\n" + text("x") + text("y") + b"\x86R" + text("z") + b"\x85R"
    assert read(file(state(text("w"), tensor(), text("x"), call))).metadata["foreign_names"] == ("builtins.getattr",)


def test_a_state_that_would_run_setstate() -> None:
    """BUILD on a foreign object calls nothing."""
    build = b"cevil\nThing\n)\x81}" + text("code") + text("x") + b"sb"
    assert read(file(state(text("w"), tensor(), text("x"), build))).metadata["foreign_names"] == ("evil.Thing",)


def test_a_foreign_rebuild_function() -> None:
    """A foreign function inside of torch's own rebuild wrapper is not called."""
    call = b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n" + text("x") + b"\x85NtR"
    refuse(file(state(text("w"), call)), "os.system")


def test_rebuild_wrappers_around_themselves() -> None:
    """The rebuild wrapper cannot wrap itself, so that no recursion is built of it."""
    name = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    refuse(file(state(text("w"), name + b"(" + name + b"ctorch\nTensor\n)NtR")))


def test_a_foreign_name_with_control_characters() -> None:
    """A name that would clear a terminal is told in plain characters."""
    found = read(file(state(text("w"), tensor(), text("x"), b"\x8c\x04a\x1b[2\x8c\x01b\x93")))
    assert found.metadata["foreign_names"] == ("a\\x1b[2.b",)


def test_a_name_that_only_looks_like_a_storage() -> None:
    """A storage type of another module than torch's is no storage."""
    refuse(file(state(text("w"), tensor(on=storage(kind="evil\nFloatStorage")))), "evil.FloatStorage")


@pytest.mark.parametrize(
    "opcodes", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\0\0\0", b"\x97", b"Pname\n", b"ios\nsystem\n"]
)
def test_opcodes_that_torch_never_writes(opcodes: bytes) -> None:
    """Extension codes, buffers, text ids and calls of protocol 0 are refused."""
    refuse(file(b"\x80\x02(" + opcodes + b"."))


# Damaged and costly pickles


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x02", VALID[:-1], VALID[:-9], b"\x80\x02\xff.", b"\x80\x02K\x01"]
)
def test_a_pickle_without_its_end(data: bytes) -> None:
    """A missing STOP or an unknown opcode is a damaged pickle."""
    refuse(file(data))


@pytest.mark.parametrize(
    "data", [b".", b"R.", b"NR.", b"\x86.", b"t.", b"u.", b"s.", b"a.", b"b.", b"Q.", b"0.", b"1.", b"2.", b"\x93.",
             b"}(u", b"}(Nu.", b"(N.", b"N(0.", b"}(e.", b"Ne.", b"N(Ne.", b"NNNs.", b"](NNu.", b"q\x00.", b"\x94.",
             b"\x92."],
)  # fmt: skip
def test_a_stack_underflow(data: bytes) -> None:
    """An opcode that takes more than there is, or another kind, is refused."""
    refuse(file(b"\x80\x02" + data))


@pytest.mark.parametrize("get", [b"h\x09", b"j\xff\xff\xff\xff", b"g99999\n", b"g-1\n", b"gx\n"])
def test_a_memo_that_was_never_written(get: bytes) -> None:
    """A GET of nothing is refused."""
    refuse(file(b"\x80\x02" + get + b"."))


@pytest.mark.parametrize(
    "data",
    [b"\x8b\xff\xff\xff\x7f", b"\x8b\x00\x00\x00\x80", b"\x8d" + b"\xff" * 7 + b"\x7f", b"\x8d" + b"\xff" * 8,
     b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x96" + b"\xff" * 8, b"X\xff\xff\xff\xff", b"B\xff\xff\xff\xff",
     b"T\xff\xff\xff\x7f", b"T\xff\xff\xff\xff", b"L" + b"9" * 5000 + b"L\n", b"I" + b"9" * 5000 + b"\n"],
)  # fmt: skip
def test_lengths_past_the_end(data: bytes) -> None:
    """LONG4 of 2^31, texts of 2^63 bytes and numbers of 5,000 digits allocate nothing."""
    refuse(file(b"\x80\x02" + data + b"."))


def test_a_later_protocol() -> None:
    """Protocol 6 is refused, and the user is told to update."""
    refuse(file(b"\x80\x06N."), "protocol 6")


def test_a_frame_that_lies() -> None:
    """A frame of 2^63 bytes is no reason to allocate them."""
    found = read(file(b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f" + VALID[2:]))
    assert [t.name for t in found.tensors] == ["w"]


def test_deep_tuples() -> None:
    """Tuples nested 300,000 deep exhaust no stack."""
    refuse(file(b"\x80\x02)" + b"\x85" * 300_000 + b"."), "levels")


def test_deep_lists() -> None:
    """Lists nested 100,000 deep exhaust no stack."""
    refuse(file(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "levels")


def test_deep_tuples_as_a_size() -> None:
    """A nested tuple in the place of a size is no size."""
    deep = b")" + b"\x85" * 100_000
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + number(0) + deep + deep + b"\x89}tR"
    refuse(file(state(text("w"), call)), "no count")


def test_deep_tuples_as_a_key() -> None:
    """A nested tuple as a key of a dict is neither hashed nor printed."""
    found = read(file(state(b")" + b"\x85" * 100_000, tensor())))
    assert [t.name for t in found.tensors] == ["#0"]


def test_a_memo_that_doubles() -> None:
    """Two to the 90 tensors, made of 90 doublings of a tuple, are walked once each."""
    data = b"\x80\x02" + tensor() + b"q\x00"
    for i in range(90):
        data += b"(h" + bytes([i]) + b"h" + bytes([i]) + b"tq" + bytes([i + 1])
    found = read(file(data + b"."))
    assert len(found.tensors) == 2


def test_a_list_that_holds_itself() -> None:
    """A circle is walked once."""
    found = read(file(b"\x80\x02]q\x00(h\x00" + tensor() + b"e."))
    assert [t.name for t in found.tensors] == ["1"]


def test_many_long_names() -> None:
    """One long key above many lists costs no memory for each name."""
    lists = b"".join(b"]q\x01(NNe" for _ in range(60_000))
    refuse(file(state(text("k" * 990), b"](" + lists + b"e")), "names")


def test_a_key_of_megabytes() -> None:
    """A key of 10 MB is refused and its message stays short."""
    refuse(file(state(text("k" * 10_000_000), tensor())), "10000000 characters")


def test_a_huge_number() -> None:
    """A number of a million bits is neither printed nor kept."""
    huge = b"\x8b" + struct.pack("<i", 125_000) + b"\x7f" * 125_000
    found = read(file(state(text("w"), tensor(), text("n"), huge, huge, b"N")))
    assert found.metadata["values"] == {}


def test_too_many_opcodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk stops after a bounded number of opcodes."""
    monkeypatch.setattr(pickle_symbols, "MAX_OPCODES", 50_000)
    refuse(file(b"\x80\x02" + b"N0" * 50_000 + b"N."), "opcodes")


def test_many_marks() -> None:
    """A pickle of marks alone is refused."""
    refuse(file(b"\x80\x02" + b"(" * 500_000 + b"."))


# Tensors that lie


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((2, 4), (4, 1), 0), ((2, 3), (3, 1), 1), ((2, 3), (4, 1), 0), ((-1, 3), (3, 1), 0), ((2, 3), (-3, 1), 0),
     ((2, 3), (3, 1), -1), ((2, 3), (3,), 0), ((2**62, 2**62), (0, 0), 0), ((2**63,), (0,), 0), ((7,), (1,), 0),
     ((2,), (2**62,), 0), ((1,) * 65, (1,) * 65, 0), ((6,), (1,), 2**62)],
)  # fmt: skip
def test_a_view_past_its_storage(shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> None:
    """Sizes, strides and offsets that leave the storage, are negative or overflow are refused."""
    refuse(file(state(text("w"), tensor(shape, stride, offset))))


@pytest.mark.parametrize("elements", [5, 7, 0, -6, 2**62, 2**63, 2**70])
def test_a_storage_of_another_length(elements: int) -> None:
    """A storage must have the length of its entry."""
    refuse(file(state(text("w"), tensor((1,), (1,), on=storage(elements=elements)))))


@pytest.mark.parametrize("key", ["1", "../data.pkl", "/etc/passwd", "", "0\0", "0/../0"])
def test_a_storage_that_is_not_there(key: str) -> None:
    """A key that leads elsewhere leads nowhere."""
    refuse(file(state(text("w"), tensor(on=storage(key)))), "no entry")


def test_a_storage_with_two_types() -> None:
    """One storage cannot be float and int at once, as torch takes the first."""
    other = tensor(on=storage(kind="torch\nIntStorage"))
    refuse(file(state(text("w"), tensor(), text("x"), other)), "two types")


@pytest.mark.parametrize(
    "call",
    [b"ctorch._utils\n_rebuild_tensor_v2\n)R", b"ctorch._utils\n_rebuild_tensor_v2\nNR",
     b"ctorch._utils\n_rebuild_parameter\n)R", b"ctorch._utils\n_rebuild_parameter\nN\x85R",
     b"ctorch._tensor\n_rebuild_from_type_v2\n)R", b"ccollections\nOrderedDict\n](NNe\x85R",
     b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n)R", b"NQ", b"(NNNNNtQ", storage(kind="torch\nQUInt4x2Storage")],
)  # fmt: skip
def test_a_rebuild_with_other_arguments(call: bytes) -> None:
    """A call of a rebuild function that torch would not make is refused."""
    refuse(file(state(text("w"), call)))


def test_a_key_twice() -> None:
    """A dict with one key twice is refused, as the last one would win unseen."""
    refuse(file(state(text("w"), tensor(), text("w"), tensor())), "twice")


def test_a_path_twice() -> None:
    """The key a.b and the key b in a make one name."""
    refuse(file(state(text("a.b"), tensor(), text("a"), b"}" + text("b") + tensor() + b"s")), "two tensors")


@pytest.mark.parametrize("key", ["a\x1b[2J", "a\nb", "a\u202eb", "\x00"])
def test_names_that_cannot_be_printed(key: str) -> None:
    """A name that would write on a terminal is refused."""
    refuse(file(state(text(key), tensor())))


def test_a_lone_surrogate_as_a_name() -> None:
    """A name that is no UTF-8 is refused before anybody prints it."""
    refuse(file(state(text(b"\xed\xa0\x80"), tensor())))


def test_many_views_with_more_elements_than_they_store() -> None:
    """Views of stride 0 take a read each, so that they are bounded."""
    items = [text(f"{i}") + tensor((9, 6), (0, 1)) for i in range(1001)]
    refuse(file(state(*items)), "more elements than it stores")


# The archive


def test_a_deflate_bomb_as_the_pickle() -> None:
    """64 MB of one opcode in 64 kB are not inflated."""
    refuse(file(b"\x80\x02" + b"N" * 64_000_000 + b".", compression=zipfile.ZIP_DEFLATED), "at most")


def test_a_pickle_that_inflates_to_more_than_it_says() -> None:
    """A size in the directory that is too small bounds what is inflated."""
    raw = archive(b"\x80\x02" + b"N" * 20_000_000 + b".", compression=zipfile.ZIP_DEFLATED)
    refuse(patched(raw, {"size": 1000}, "archive/data.pkl"), "size or checksum")


def test_a_pickle_that_is_no_deflate_stream() -> None:
    """Bytes that do not inflate are damage."""
    refuse(patched(archive(VALID), {"method": 8}, "archive/data.pkl"), "size or checksum")


def test_a_pickle_of_another_method() -> None:
    """Only stored and deflated entries are read."""
    refuse(patched(archive(VALID), {"method": 14}, "archive/data.pkl"), "method 14")


def test_a_changed_pickle() -> None:
    """A pickle that is not the one of its checksum is damage."""
    refuse(MemoryFile("model.pt", archive(VALID).replace(b"FloatStorage", b"HalfXStorage")), "checksum")


def test_a_storage_that_claims_more_than_it_has() -> None:
    """A compressed storage cannot claim more than deflate can make."""
    data = state(text("w"), tensor((10**9,), (1,), on=storage(elements=10**9)))
    refuse(patched(archive(data), {"method": 8, "size": 4 * 10**9}), "claims")


def test_an_encrypted_entry() -> None:
    """Encrypted entries are refused."""
    refuse(patched(archive(VALID), {"flags": 1}), "encrypted")


def test_entries_with_one_name() -> None:
    """Two entries of one name, of which readers choose differently, are refused."""
    refuse(MemoryFile("model.pt", archive(VALID).replace(b"archive/version", b"archive/data/0\0")))
    raw = archive(VALID).replace(b"archive/version", b"archive/xxxx/0x")
    with zipfile.ZipFile(out := io.BytesIO(raw), "a") as zipped:
        zipped.writestr("ARCHIVE/data/0", bytes(24))
    refuse(MemoryFile("model.pt", out.getvalue()), "two zip entries")


def test_overlapping_entries() -> None:
    """Entries that share bytes are refused."""
    refuse(patched(archive(VALID), {"offset": 0}), "follows")
    refuse(patched(archive(VALID), {"offset": 2}), "follows")


def test_an_entry_past_the_end() -> None:
    """An entry that would reach past the directory is refused."""
    refuse(patched(archive(VALID), {"stored": 2**32 - 2, "size": 2**32 - 2}), "follows")


def test_a_local_header_of_another_name() -> None:
    """A pickle whose local header names another entry is refused."""
    raw = archive(VALID)
    refuse(MemoryFile("model.pt", raw.replace(b"archive/data.pkl", b"archive/fake.pkl", 1)), "disagrees")


def test_a_directory_of_many_entries() -> None:
    """A directory that claims more entries than a model can have is refused before it is read."""
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**9, 10**9, 46 * 10**9, 4)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 4, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    refuse(MemoryFile("model.pt", b"PK\3\4" + end + locator + last), "1,000,000,000 entries")


def test_two_directories_that_disagree() -> None:
    """A ZIP64 directory that says otherwise than the plain one is refused."""
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 0, 0, 0, 4)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 4, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, 4, 0)
    refuse(MemoryFile("model.pt", b"PK\3\4" + end + locator + last), "disagree")


def test_a_zip64_record_outside_the_file() -> None:
    """A locator that points past the end is refused."""
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 2**63, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
    refuse(MemoryFile("model.pt", b"PK\3\4" + bytes(60) + locator + last))


@pytest.mark.parametrize(
    ("place", "code", "value"),
    [
        (4, "H", 1),
        (8, "H", 2),
        (10, "H", 9),
        (12, "I", 2**31),
        (12, "I", 0),
        (16, "I", 2**31),
        (16, "I", 1),
        (20, "H", 9),
    ],
)
def test_a_last_record_that_lies(place: int, code: str, value: int) -> None:
    """Disks, counts, sizes, offsets and comments that do not fit are refused."""
    refuse(end_patched(archive(VALID), place, code, value))


def test_an_empty_zip() -> None:
    """A zip without entries is no checkpoint."""
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
    refuse(MemoryFile("model.pt", b"PK\3\4" + last))


def test_a_program_before_the_archive() -> None:
    """A zip with something before it is refused, as readers place its entries differently."""
    refuse(MemoryFile("model.pt", b"#!/bin/sh\n" + archive(VALID)))


RAW = archive(VALID)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(RAW) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(RAW)))
def test_changed_and_cut_files(changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever bytes are changed or cut, only the documented errors escape."""
    raw = bytearray(RAW)
    for place, value in changes:
        raw[place] = value
    for data in (bytes(raw), bytes(raw[:cut])):
        try:
            torch_zip.read(MemoryFile("model.pt", data))
        except WeighbridgeError as error:
            assert error.action


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(VALID)))
def test_changed_and_cut_pickles(changes: list[tuple[int, int]], cut: int) -> None:
    """The same inside of the pickle, where the checksum is right."""
    data = bytearray(VALID)
    for place, value in changes:
        data[place] = value
    for content in (bytes(data), bytes(data[:cut]) + b"."):
        try:
            torch_zip.read(file(content))
        except WeighbridgeError as error:
            assert error.action


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([bytes([b]) for b in range(256)] + [tensor(), text("w"), b"\x80\x04", b"h\x00", b"q\x00"]))
)
def test_random_opcodes(parts: list[bytes]) -> None:
    """Any sequence of opcodes is read or refused."""
    try:
        torch_zip.read(file(b"".join(parts) + b"."))
    except WeighbridgeError as error:
        assert error.action


def test_a_checksum_of_zero_is_none() -> None:
    """torch can be told to write no checksums, and then writes 0."""
    raw = archive(VALID)
    crc = struct.pack("<I", zlib.crc32(VALID))
    assert raw.count(crc) == 2
    assert len(read(MemoryFile("model.pt", raw.replace(crc, bytes(4)))).tensors) == 1
