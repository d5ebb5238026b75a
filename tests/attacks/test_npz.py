"""Hostile NumPy archives: refused with advice or read without harm; nothing is unpickled or evaluated."""

from __future__ import annotations

import ast
import builtins
import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator

import numpy as np
import numpy.random  # loads itself with eval when it is first asked for
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import forbid, refused, within

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import npz
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No attack is unpickled or evaluated."""
    forbid(monkeypatch, (pickle, "loads"), (pickle, "load"), (ast, "literal_eval"), (builtins, "eval"))
    yield


def read(data: bytes, name: str = "a.npz") -> Checkpoint:
    """The reading and the bytes of short arrays, within bounds of time (first, as tracing slows) and memory."""
    folder = MemoryFolder({name: data})

    def more() -> None:
        for tensor in npz.read(folder, name).tensors[:3]:
            if tensor.size_bytes < 10_000_000:
                list(npz.pieces(folder, tensor))

    return within(lambda: npz.read(folder, name), more)


def refuse(data: bytes, part: str = "", name: str = "a.npz") -> None:
    refused(lambda: read(data, name), part)


def array(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(raw) if length is None else length) + raw + data


def archive(data: bytes, method: int = zipfile.ZIP_STORED, name: str = "w.npy") -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w", method) as zipped:
        zipped.writestr(name, data)
    return made.getvalue()


def fields(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    assert read(archive(array(fields(), bytes(8)))).tensors[0].shape == (2,)


@pytest.mark.parametrize(
    "header",
    ["(" * 9_000, "[" * 5_000 + "]" * 5_000, "{'descr':" * 1000, "-" * 9_000 + "1",
     fields(shape="(" + "9" * 9_000 + ",)"),
     fields(shape="(" + "1," * 4_000 + ")"), fields(shape="(2**99,)"), fields(descr="'<f4'*99999999"),
     fields(shape="(18446744073709551616, 0)"), fields(shape="(4294967296, 4294967296)"), "'" * 9_999, "\\" * 9_999,
     " " * 9_999, fields(descr="b'<f4'"), fields(descr="'<f' '4'"), "set()", "None", fields(order="None")],
)  # fmt: skip
def test_headers_that_are_programs_or_deep(header: str) -> None:
    """Deep, long and computed headers are refused, not evaluated."""
    refuse(archive(array(header, bytes(8))))


@pytest.mark.parametrize("length", [10_001, 2**31, 2**32 - 1])
def test_a_header_without_end(length: int) -> None:
    """A header longer than NumPy reads, or than the file, is refused."""
    refuse(archive(array(fields(), bytes(20_000), length)), "a header of")


def test_objects_are_never_unpickled() -> None:
    """An array of objects is a pickle: it is told and left alone."""
    model = read(archive(array(fields("'|O'"), b"cos\nsystem\n(S'touch x'\ntR.")))
    assert model.tensors == () and "pickle" in model.notes[0]


@pytest.mark.parametrize("shape", ["(3,)", "(1,)", "(9223372036854775807,)", "(2305843009213693952, 4)", "(0,)"])
def test_shapes_that_do_not_fit(shape: str) -> None:
    """The elements are as many as the entry's bytes."""
    refuse(archive(array(fields(shape=shape), bytes(8))))
    refuse(array(fields(shape=shape), bytes(8)), "", "a.npy")


def test_a_bomb() -> None:
    """An entry a thousand times its stored bytes is counted, as deflate allows it; its bytes come in short pieces."""
    size = 60_000_000
    data = archive(array(fields(shape=f"({size // 4},)"), bytes(size)), zipfile.ZIP_DEFLATED)
    assert len(data) < size / 900
    assert read(data).tensors[0].elements == size // 4
    folder = MemoryFolder({"a.npz": data})
    tracemalloc.start()
    assert max(map(len, npz.pieces(folder, npz.read(folder, "a.npz").tensors[0]))) <= 8 * 2**20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_an_impossible_bomb() -> None:
    """An entry that claims more than deflate can give is refused."""
    data = bytearray(archive(array(fields(shape="(1073741824,)"), bytes(100)), zipfile.ZIP_DEFLATED))
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, 2**32 - 2)
    refuse(bytes(data), "as large as they say")


@pytest.mark.parametrize("name", ["../../w.npy", "/etc/w.npy", "a\\b.npy"])
def test_names_are_only_names(name: str) -> None:
    """A path as an array's name opens nothing; it is the tensor's name."""
    model = read(archive(array(fields(), bytes(8)), name=name))
    assert [tensor.name + ".npy" for tensor in model.tensors] == [name]


def test_an_archive_of_other_things() -> None:
    """What is no array is told."""
    model = read(archive(b"x", name="run.py"))
    assert model.tensors == () and "run.py" in model.notes[0]
    refuse(archive(b"x"))


def made(compressed: bool) -> bytes:
    out = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(out, a=np.arange(50.0), b=np.asfortranarray(np.ones((3, 4), ">f2")), c=np.array(["x"]))
    return out.getvalue()


WORDS = ["{", "}", "(", ")", "[", "]", ",", ":", "'descr'", "'shape'", "'fortran_order'", "'<f4'", "True", "False", "2",
         " ", "L", "'", '"']  # fmt: skip
FILES = [made(False), made(True), array(fields(), bytes(8))]


@pytest.mark.parametrize("data", FILES)
def test_every_cut(data: bytes) -> None:
    """A file that ends early is refused, wherever it ends."""
    for end in range(len(data)):
        with pytest.raises(WeighbridgeError):
            npz.read(MemoryFolder({"a.npz": data[:end]}), "a.npz")


@settings(max_examples=300, deadline=2000)
@given(
    st.integers(0, len(FILES) - 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), max_size=4),
)
def test_changed_files(which: int, changes: list[tuple[float, bytes]]) -> None:
    """Whatever bytes are changed, only the documented errors escape, from the reading and from the bytes."""
    data = bytearray(FILES[which])
    for where, value in changes:
        at = int(where * len(data))
        data[at : at + len(value)] = value
    folder = MemoryFolder({"a.npz": bytes(data)})
    try:
        for tensor in npz.read(folder, "a.npz").tensors:
            if tensor.size_bytes < 1_000_000:
                list(npz.pieces(folder, tensor))
    except WeighbridgeError as error:
        assert error.action


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_random_headers(parts: list[str]) -> None:
    """Any sequence of the words of a header is read or refused."""
    try:
        npz.read(MemoryFolder({"a.npy": array("".join(parts), bytes(8))}), "a.npy")
    except WeighbridgeError as error:
        assert error.action
