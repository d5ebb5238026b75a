"""Hostile pickles of arrays: refused, or read without harm; never run, never costly."""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import RUNNING, forbid, refused, within
from tests.pickles import Call, Global, Stored, opcodes

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import pickled_arrays
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.ones((2, 2), "f4")), "c": [np.arange(3)]}
VALID = {protocol: pickle.dumps(ARRAYS, protocol) for protocol in (2, 4, 5)}


@pytest.fixture(autouse=True)
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is unpickled and nothing started."""
    forbid(monkeypatch, *RUNNING)
    yield


def read(data: bytes) -> Checkpoint:
    """The reading, within its bounds of processor time (before the tracing, which slows it) and of memory."""
    folder = MemoryFolder({"model.pkl": data})
    return within(lambda: pickled_arrays.read(folder, "model.pkl"))


def refuse(data: bytes, part: str = "") -> None:
    refused(lambda: read(data), part)


def dtype(code: str = "f4", state: Any = (3, "<", None, None, None, -1, -1, 0)) -> Call:
    return Call("numpy.dtype", (code, False, True), state)


def array(shape: Any = (2, 3), kind: Any = None, data: Any = "x" * 24, version: Any = 1) -> Call:
    reconstruct = (Global("numpy.ndarray"), (0,), "b")
    state = (version, shape, kind or dtype(), False, data)
    return Call("numpy._core.multiarray._reconstruct", reconstruct, state)


def wrapper(shape: Any = (2, 3), kind: Any = None, after: bytes = b"", **more: Any) -> bytes:
    """A list with a joblib wrapper, and what follows it in the stream."""
    state = {"shape": shape, "order": "C", "dtype": kind or dtype(), **more}
    made = opcodes(Call("joblib.numpy_pickle.NumpyArrayWrapper", (), state))
    return made[:2] + b"](" + made[2:-1] + after + b"e."


def test_the_valid_files() -> None:
    """What the attacks below change are files that read."""
    for data in VALID.values():
        assert [t.shape for t in read(data).tensors] == [(2, 3), (2, 2), (3,)]
    assert read(opcodes([array()])).tensors[0].shape == (2, 3)
    assert read(wrapper(after=bytes(24))).tensors[0].shape == (2, 3)


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "builtins.exec", "nt.system", "numpy.load", "joblib.load"]
)
def test_a_call_beside_the_arrays(name: str) -> None:
    """A call hidden beside good arrays is not made, and its name is told."""
    assert name in read(opcodes({"w": array(), "x": Call(name, ("touch x",))})).metadata["foreign_names"]
    refuse(opcodes(Call(name, ("touch x",))), name)


@pytest.mark.parametrize("place", range(5))
def test_a_call_in_each_part_of_an_array(place: int) -> None:
    """os.system in the place of a version, a shape, a type or the bytes of an array is refused and not called."""
    parts: list[Any] = [1, (2, 3), dtype(), False, "x" * 24]
    parts[place] = Call("os.system", ("touch x",))
    data = opcodes(
        {"w": Call("numpy._core.multiarray._reconstruct", (Global("numpy.ndarray"), (0,), "b"), tuple(parts))}
    )
    if place == 3:  # only its truth counts
        assert "os.system" in read(data).metadata["foreign_names"]
    else:
        refuse(data)


@pytest.mark.parametrize(
    "shape",
    [(2, 4), (2,), (), (-2, -3), (2**62, 2**62), (2**63,), (2.0, 3), ("2", 3), (6, 10**18), [2, 3], 6, None, (1,) * 65],
)
def test_shapes_that_lie(shape: Any) -> None:
    """A shape that is not that of the bytes is refused, in arrays and in joblib's wrappers."""
    refuse(opcodes({"w": array(shape)}))
    refuse(opcodes({"w": Call("numpy._core.numeric._frombuffer", ("x" * 24, dtype(), shape, "C"))}))
    if shape not in ((2,), ()):  # which are fewer bytes, and what follows them opcodes
        refuse(wrapper(shape, after=bytes(24)))


def test_a_wrapper_that_reaches_past_the_file() -> None:
    """An array of 2^60 elements after a wrapper allocates nothing."""
    refuse(wrapper((2**30, 2**30), after=bytes(24)), "damaged")
    refuse(wrapper((100,), after=bytes(24)))
    refuse(wrapper(after=b"\xff" + bytes(24), numpy_array_alignment_bytes=16))
    refuse(wrapper(after=b"", numpy_array_alignment_bytes=16))


def test_wrappers_in_wrappers() -> None:
    """An array of objects after a wrapper is a pickle of its own, in which no wrapper is taken."""
    objects = dtype("O8", (3, "|", None, None, None, -1, -1, 63))
    inner = opcodes(array((1,), objects, [array()]))
    assert [t.name for t in read(wrapper((1,), objects, inner)).tensors] == ["0.0"]
    refuse(wrapper((1,), objects, wrapper((1,), objects, wrapper(after=bytes(24)))))
    deep = b"".join(wrapper((1,), objects)[:-2] for _ in range(1000))
    refuse(deep)


@pytest.mark.parametrize(
    "state",
    [None, 3, (3,), (3, "<"), (3, 5, None, None, None, -1, -1, 0), (3, "|", None, ("a",), None, 8, 1, 0),
     (3, "|", None, ("a",), {"a": (dtype(), 5)}, 8, 1, 0), (3, "|", None, ("a",), {"a": (dtype(), -1)}, 8, 1, 0),
     (3, "|", None, ("a",), {"b": (dtype(), 0)}, 8, 1, 0), (3, "|", None, (3,), {3: (dtype(), 0)}, 8, 1, 0),
     (3, "|", None, ("a",), {"a": (dtype(), 2**70)}, 2**71, 1, 0), (3, "|", None, ("a",), {"a": dtype()}, 8, 1, 0),
     (3, "|", None, ("a",), {"a": (dtype(), 0)}, -8, 1, 0)],
)  # fmt: skip
def test_types_that_lie(state: Any) -> None:
    """Fields outside of their record, and states of other types, are refused."""
    if state is None:
        refuse(opcodes({"w": array(kind=Call("numpy.dtype", (3, 4)))}))
    else:
        refuse(opcodes({"w": array((3,), dtype("V8", state))}))


@pytest.mark.parametrize(
    "code", ["f0", "f-4", "f" + "9" * 5000, "f4" * 1000, "\u0663", "f\u0664", "", "<", "O", "U99999999", "x4"]
)
def test_type_codes_that_are_none(code: str) -> None:
    """A code of no known type has no encoding: its arrays are left out, or their length is wrong."""
    try:
        assert read(opcodes({"w": array((0,), dtype(code), ""), "v": array()})).tensors[0].name == "v"
    except WeighbridgeError as error:
        assert len(str(error)) < 1000


def test_a_type_that_holds_itself_and_one_of_many_levels() -> None:
    """A record whose field is the record itself, and one of 50,000 levels, exhaust no stack."""
    name = b"cnumpy\ndtype\n(X\x02\0\0\0V8\x89\x88tR"
    state = b"(K\x03X\x01\0\0\0|N(X\x01\0\0\0at}X\x01\0\0\0a(%sK\0tsK\x08K\x01K\0tb"
    itself = b"\x80\x02" + name + b"q\x00" + state.replace(b"%s", b"h\x00") + b"."
    refuse(itself)
    deep = name
    for _ in range(1000):
        deep = name + state.replace(b"%s", deep)
    shape = (
        b"cnumpy._core.multiarray\n_reconstruct\n(NNNtR(K\x01(K\x02t" + deep + b"\x89X\x10\0\0\0" + b"x" * 16 + b"tb"
    )
    refuse(b"\x80\x02" + shape + b"}s.")


def test_an_array_of_objects_that_holds_itself() -> None:
    """A circle of arrays of objects is walked once."""
    objects = opcodes(dtype("O8", (3, "|", None, None, None, -1, -1, 63)))[2:-1]
    start = b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n(NNNtRq\x00"
    good = opcodes(array())[2:-1]
    assert len(read(start + b"(K\x01(K\x02t" + objects + b"\x89](h\x00" + good + b"etb.").tensors) == 1


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_bombs(pack: Any) -> None:
    """A megabyte that inflates to a gigabyte of opcodes, marks, text or array costs little memory."""
    refuse(pack(b"\x80\x04" + b"(" * 8_000_000), "opcodes")
    refuse(pack(b"\x80\x04X\xff\xff\xff\x7f" + bytes(40_000_000)), "beside its arrays")
    refuse(pack(b"\x80\x04B\xff\xff\xff\x7f" + bytes(40_000_000)))
    refuse(pack(wrapper((100_000_000,), after=bytes(1000))))


def test_an_array_of_a_bomb_is_inflated_and_dropped() -> None:
    """A packed array of 100 MB is passed without being held, and given back in small pieces."""
    data = zlib.compress(wrapper((25_000_000,), after=bytes(100_000_000)), 1)
    found = read(data)
    folder = MemoryFolder({"model.pkl": data})
    tracemalloc.start()
    total = sum(len(piece) for piece in pickled_arrays.pieces(folder, found.tensors[0]))
    assert total == 100_000_000 and tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"\x78\x9c", b"\x78\x9cxxxx", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(20), b"\x80", b"\x80\x04", b"\x80\x06."]
)
def test_what_does_not_inflate_or_ends(data: bytes) -> None:
    """Damage is told as such."""
    refuse(data)


def test_references_to_what_lies_outside() -> None:
    """Persistent ids and out-of-band buffers are refused."""
    refuse(opcodes({"w": Stored(("storage", "0"))}), "outside")
    refuse(b"\x80\x05\x97.", "NEXT_BUFFER")


def test_names_that_cannot_be_printed_or_repeat() -> None:
    """Keys and fields that would write on a terminal, and paths that repeat, are refused or left out."""
    refuse(opcodes({"a\x1b[2J": array()}))
    refuse(opcodes({"a.b": array(), "a": {"b": array()}}), "two arrays")
    fields = (3, "|", None, ("a\x1b[2J",), {"a\x1b[2J": (dtype(), 0)}, 8, 1, 0)
    found = read(opcodes({"w": array((3,), dtype("V8", fields))}))
    assert found.tensors == () and all(note.isprintable() for note in found.notes)


def test_files_cut_at_every_length() -> None:
    """Whatever is missing, the documented error says so."""
    for data in (
        VALID[4],
        wrapper(after=b"\x02xx" + bytes(24), numpy_array_alignment_bytes=16),
        zlib.compress(VALID[5]),
    ):
        for length in range(len(data)):
            try:
                pickled_arrays.read(MemoryFolder({"m.pkl": data[:length]}), "m.pkl")
            except WeighbridgeError as error:
                assert error.action
            else:
                assert data[:1] == b"\x78"  # only the checksum at the end of a packed file may be missing


BASES = [*VALID.values(), wrapper(after=bytes(24)), opcodes({"w": array()}), pickle.dumps(np.zeros(2, "f4,i8"), 4)]


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 10_000), st.booleans(),
)  # fmt: skip
def test_changed_and_cut_files(data: bytes, edits: list[tuple[int, int]], cut: int, packed: bool) -> None:
    """Whatever bytes are changed or cut, only the documented errors escape, from the arrays' bytes too."""
    raw = bytearray(data)
    for place, value in edits:
        raw[place % len(raw)] = value
    for content in (bytes(raw), bytes(raw[: cut % len(raw)])):
        folder = MemoryFolder({"m.pkl": MemoryFile("m.pkl", zlib.compress(content) if packed else content)})
        try:
            for tensor in pickled_arrays.read(folder, "m.pkl").tensors:
                if tensor.elements < 10_000:
                    list(pickled_arrays.pieces(folder, tensor))
        except WeighbridgeError as error:
            assert error.action
