"""Hostile legacy PyTorch files and TorchScript archives: refused, or read without harm; never run, never costly."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import RUNNING, forbid, refused, within
from tests.pickles import LEGACY_MAGIC, Call, Global, LegacyWriter, Stored, Writer, opcodes, script_archive

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import torch_storages, torch_zip
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is unpickled and nothing started."""
    forbid(monkeypatch, *RUNNING)
    yield


def read(data: bytes) -> Checkpoint:
    """The reading, within its bounds of processor time (before the tracing, which slows it) and of memory."""
    return within(lambda: torch_zip.read(MemoryFile("model.pt", data)))


def refuse(data: bytes, part: str = "") -> None:
    refused(lambda: read(data), part)


def content(file: MemoryFile) -> bytes:
    return file.read(0, file.size)


WRITER = LegacyWriter()
VALID = WRITER.raw({"a": WRITER.tensor((2, 3)), "b": WRITER.tensor((2,), "Half")})
HEAD = LEGACY_MAGIC + opcodes(1001) + opcodes({"little_endian": True})
EVIL = opcodes(Call("os.system", ("touch x",)))


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    assert [t.shape for t in read(VALID).tensors] == [(2, 3), (2,)]


@pytest.mark.parametrize("place", range(5))
def test_a_call_in_each_of_the_five_pickles(place: int) -> None:
    """os.system in the place of the magic, the version, the machine, the object or the keys is never called."""
    parts = [LEGACY_MAGIC, opcodes(1001), opcodes({}), opcodes({}), opcodes([])]
    parts[place] = EVIL
    refuse(b"".join(parts))


def test_a_call_beside_the_tensors() -> None:
    """A call hidden beside good tensors is not made, and its name is told."""
    writer = LegacyWriter()
    found = read(writer.raw({"w": writer.tensor((2,)), "x": Call("os.system", ("touch x",))}))
    assert found.metadata["foreign_names"] == ("os.system",)


@pytest.mark.parametrize("place", [2, 4])
def test_a_call_hidden_in_a_pickle_beside_the_object(place: int) -> None:
    """A call in the description of the machine is told; one in the list of storages is refused."""
    parts = [LEGACY_MAGIC, opcodes(1001), opcodes({}), opcodes({"epoch": 1}), opcodes([])]
    parts[place] = opcodes({"x": Call("os.system", ("touch x",))} if place == 2 else [Call("os.system", ("touch x",))])
    if place == 2:
        assert read(b"".join(parts)).metadata["foreign_names"] == ("os.system",)
    else:
        refuse(b"".join(parts))


def test_the_source_text_of_a_module_is_left_aside() -> None:
    """A module's class and its source text are told and neither imported nor run."""
    writer = LegacyWriter()
    evil = Stored(("module", Global("os.system"), "x.py", "import os; os.system('touch x')"))
    found = read(writer.raw({"w": writer.tensor((2,)), "x": Call("zoo.Net", (evil,))}))
    assert "os.system" in found.metadata["foreign_names"]


@pytest.mark.parametrize("count", [0, 5, 7, 2**31, 2**62, 2**63 - 1])
def test_a_storage_count_that_lies(count: int) -> None:
    """A count before a storage that is not the pickle's is refused."""
    at = VALID.index((6).to_bytes(8, "little") + bytes(range(24)))
    refuse(VALID[:at] + count.to_bytes(8, "little") + VALID[at + 8 :], "begins with the number")


@pytest.mark.parametrize("elements", [2**31, 2**62, 2**63 - 1, 2**63, -1])
def test_a_storage_beyond_the_file(elements: int) -> None:
    """A storage of more than the file holds allocates nothing."""
    storage = Stored(("storage", Global("torch.FloatStorage"), "0", "cpu", elements, None))
    tensor = Call("torch._utils._rebuild_tensor_v2", (storage, 0, (1,), (1,), False, {}))
    refuse(HEAD + opcodes({"w": tensor}) + opcodes(["0"]) + bytes(100))


@pytest.mark.parametrize(
    "keys", [[], ["0"], ["0", "1", "1"], ["0", "2"], [0, 1], {"0": 1, "1": 1}, ["1", "0", "x"], "01"]
)
def test_a_list_of_storages_that_lies(keys: object) -> None:
    """Missing, repeated and foreign keys are refused."""
    refuse(VALID.replace(opcodes(["0", "1"]), opcodes(keys)))


@pytest.mark.parametrize(
    "part", [("v", 0, 7), ("v", 3, 4), ("v", -1, 2), ("v", 2**62, 2**62), ("v", 0), 3, "x", ("v", 0, -1)]
)
def test_a_part_that_leaves_its_storage(part: object) -> None:
    """A view past its storage is refused."""
    writer = LegacyWriter()
    storage = Stored((*writer.storage(6).value[:5], part))
    refuse(writer.raw({"w": writer.tensor((1,), storage=storage)}))


def test_a_tensor_past_its_part() -> None:
    """A tensor may not leave the part of a storage that it is on."""
    writer = LegacyWriter()
    part = Stored((*writer.storage(6).value[:5], ("v", 4, 2)))
    refuse(writer.raw({"w": writer.tensor((3,), storage=part)}), "past the 2 elements")


def test_pickles_of_other_kinds_where_numbers_belong() -> None:
    """Another protocol version or another magic number is refused."""
    refuse(LEGACY_MAGIC + opcodes(1002) + opcodes({}) + opcodes({}) + opcodes([]), "first pickles")
    refuse(LEGACY_MAGIC + opcodes(1001) + opcodes(3) + opcodes({}) + opcodes([]), "first pickles")


def test_deep_and_many_and_long() -> None:
    """Nested tuples, doubling memos, endless marks and texts of 2 GB cost nothing."""
    refuse(HEAD + b"\x80\x02)" + b"\x85" * 100_000 + b"." + opcodes([]), "levels")
    refuse(HEAD + b"\x80\x02" + b"(" * 100_000 + b".")
    refuse(HEAD + b"\x80\x02X\xff\xff\xff\x7f" + bytes(1000))
    refuse(HEAD + b"\x80\x02\x8d" + b"\xff" * 7 + b"\x7f" + bytes(1000))
    refuse(HEAD + b"\x80\x02C\xffabc")
    refuse(HEAD + b"\x80\x02cos\n" + b"x" * 2_000_000)


def test_a_text_longer_than_any_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle of more than its bound is refused before it is held."""

    class Endless(MemoryFile):
        def read(self, offset: int, length: int) -> bytes:
            return (HEAD + b"\x80\x02X\xff\xff\xff\x7f")[offset : offset + length].ljust(length, b"x")

    tracemalloc.start()
    with pytest.raises(WeighbridgeError, match="beside its arrays"):
        torch_zip.read(Endless("model.pt", b"", size=10**12))
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_a_file_cut_at_every_length() -> None:
    """Whatever is missing, the documented error says so."""
    for length in range(len(VALID)):
        with pytest.raises(WeighbridgeError):
            torch_zip.read(MemoryFile("model.pt", VALID[:length]))


# TorchScript

PLAIN = Writer()
MODULE = Call("__torch__.Net", (), {"w": PLAIN.tensor((2, 3))})
CODE = {"__torch__.py": 'class Net(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n'}
SCRIPT = content(script_archive(opcodes(MODULE), storages={"data/0": bytes(24)}, code=CODE))


def test_the_valid_script() -> None:
    """What the attacks below change is an archive that reads."""
    assert [t.name for t in read(SCRIPT).tensors] == ["w"]


def test_a_call_as_the_module_or_the_constants() -> None:
    """os.system in the place of the module or its constants is refused."""
    refuse(content(script_archive(EVIL)))
    refuse(content(script_archive(opcodes(MODULE), EVIL, {"data/0": bytes(24)})))


@pytest.mark.parametrize(
    "name", ["__torch__...etc.passwd.Net", "__torch__./etc/passwd.Net", "__torch__.", "__torch__.a\0b.Net"]
)
def test_a_class_whose_name_leads_elsewhere(name: str) -> None:
    """A class is looked for among the archive's entries and nowhere else."""
    module, _, last = name.rpartition(".")
    root = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(last)]) + last.encode()
    state = opcodes({"w": Writer().tensor((2, 3))})[2:-1]
    found = read(content(script_archive(root + b"\x93)\x81" + state + b"b.", storages={"data/0": bytes(24)})))
    assert [t.name for t in found.tensors] == ["w"]


@pytest.mark.parametrize("key", ["../data.pkl", "1", "/etc/passwd", "", "..\\0"])
def test_a_storage_of_a_script_that_leads_elsewhere(key: str) -> None:
    """A storage key that is no entry of its folder is refused."""
    storage = Stored(("storage", Global("torch.FloatStorage"), key, "cpu", 6))
    tensor = Call("torch._utils._rebuild_tensor_v2", (storage, 0, (2, 3), (3, 1), False, {}))
    refuse(
        content(script_archive(opcodes(Call("__torch__.N", (), {"w": tensor})), storages={"data/0": bytes(24)})),
        "no entry",
    )


@pytest.mark.parametrize(
    "text",
    ["  __parameters__ = [" + '"w", ' * 100_000 + "\n", 'class Net(Module):\n  __parameters__ = ["' + "a" * 1_000_000,
     "class " * 100_000, "class Net(Module):\n" * 50_000, "\x00\xff" * 1000,
     "  __buffers__ = [" + '"a",' * 200_000 + "x]\n",
     'class Net(Module):\n  __parameters__ = [' + '"w" ' * 100_000 + ']\n'],
)  # fmt: skip
def test_code_that_is_none(text: str) -> None:
    """Whatever the code files hold, they are text in which two kinds of lines are looked for."""
    found = read(content(script_archive(opcodes(MODULE), storages={"data/0": bytes(24)}, code={"__torch__.py": text})))
    assert [t.name for t in found.tensors] == ["w"]


def test_more_code_than_is_read() -> None:
    """A code file of 100 MB is not inflated: its classes tell no kinds."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("net/data/0", bytes(24))
        zipped.writestr("net/data.pkl", opcodes(MODULE))
        zipped.writestr("net/constants.pkl", b"\x80\x02).")
        zipped.writestr("net/code/__torch__.py", CODE["__torch__.py"] + " " * 100_000_000, zipfile.ZIP_DEFLATED)
    assert [t.name for t in read(file.getvalue()).tensors] == ["w"]


def test_a_module_that_holds_itself() -> None:
    """A circle of modules is walked once."""
    state = opcodes({"w": Writer().tensor((2, 3))})[2:-2]
    data = b"\x80\x02c__torch__\nNet\n)\x81q\x00" + state + b"X\x04\0\0\0selfh\x00ub."
    assert [t.name for t in read(content(script_archive(data, storages={"data/0": bytes(24)}))).tensors] == ["w"]


# Exported programs


def export(config: str, entry: bytes = bytes(24)) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("net/archive_format", "pt2")
        zipped.writestr("net/data/weights/weight_0", entry)
        zipped.writestr("net/data/weights/model_weights_config.json", config)
    return file.getvalue()


def payload(**changes: object) -> str:
    import json

    meta = {
        "dtype": 7, "sizes": [{"as_int": 2}, {"as_int": 3}], "strides": [{"as_int": 3}, {"as_int": 1}],
        "storage_offset": {"as_int": 0}, "layout": 7,
    }  # fmt: skip
    row: dict[str, object] = {"path_name": "weight_0", "is_param": True, "use_pickle": False}
    row |= {key: value for key, value in changes.items() if key in row}
    row["tensor_meta"] = meta | {key: value for key, value in changes.items() if key in meta}
    return json.dumps({"config": {"w": row}})


def test_the_valid_export() -> None:
    """What the attacks below change is an archive that reads."""
    assert [t.name for t in read(export(payload())).tensors] == ["w"]


@pytest.mark.parametrize(
    "config",
    ["", "[]", "{}", '{"config": []}', '{"config": {"w": 3}}', '{"config": {"w": {"use_pickle": false}}}',
     payload(path_name="../data.pkl"), payload(path_name=3), payload(dtype=9), payload(dtype=True), payload(dtype="7"),
     payload(layout=1), payload(sizes=[{"as_int": 7}, {"as_int": 1}]), payload(sizes=[{"as_int": -1}, {"as_int": 3}]),
     payload(sizes=[{"as_name": "s0"}, {"as_int": 3}]), payload(sizes=3), payload(sizes=[{"as_int": 2}]),
     payload(sizes=[{"as_int": 2**62}, {"as_int": 2**62}], strides=[{"as_int": 0}, {"as_int": 0}]),
     payload(storage_offset={"as_int": 1}), payload(storage_offset=None), payload(strides=[{"as_int": 2**63}] * 2)],
)  # fmt: skip
def test_tables_of_exports_that_lie(config: str) -> None:
    """Every row is held against its entry."""
    refuse(export(config))


# Mutations

changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([VALID, SCRIPT, export(payload())]), changes, st.integers(0, 10_000))
def test_changed_and_cut_files(data: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    """Whatever bytes are changed or cut, only the documented errors escape, from the tensors' bytes too."""
    raw = bytearray(data)
    for place, value in edits:
        raw[place % len(raw)] = value
    for content_ in (bytes(raw), bytes(raw[: cut % len(raw)])):
        folder = MemoryFolder({"model.pt": MemoryFile("model.pt", content_)})
        try:
            for tensor in torch_zip.read(folder.open("model.pt")).tensors:
                if tensor.byte_range is None and tensor.elements < 1000:
                    list(torch_zip.pieces(folder, tensor))
        except WeighbridgeError as error:
            assert error.action


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([bytes([b]) for b in range(256)] + [b"\x80\x04", b"h\x00", b"q\x00", LEGACY_MAGIC])))
def test_random_opcodes(parts: list[bytes]) -> None:
    """Any sequence of opcodes is read or refused, in each kind of file."""
    data = b"".join(parts)
    for raw in (HEAD + data + b"." + opcodes([]), b"\x80\x04" + data + b".", content(script_archive(data + b"."))):
        try:
            torch_zip.read(MemoryFile("model.pt", raw))
        except WeighbridgeError as error:
            assert error.action


def test_the_pieces_of_a_view_are_bounded() -> None:
    """A deflated storage that is larger than it says gives an error, and no more than it says."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a/data.pkl", opcodes({"w": Writer().tensor((6,))}))
        zipped.writestr("a/data/0", bytes(24))
    raw = bytearray(file.getvalue())
    at = raw.rindex(b"a/data/0") - 46
    raw[at + 16 : at + 20] = b"abcd"  # another checksum
    folder = MemoryFolder({"model.pt": MemoryFile("model.pt", bytes(raw))})
    with pytest.raises(WeighbridgeError, match="checksum"):
        list(torch_zip.pieces(folder, torch_zip.read(folder.open("model.pt")).tensors[0]))
    assert torch_storages.GATHER_BYTES <= 64 * 2**20
