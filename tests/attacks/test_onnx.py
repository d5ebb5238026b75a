"""Hostile ONNX files: refused with an error that says what to do, or read without harm; never run, never costly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import refused, within

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import onnx
from weighbridge.formats.byte_source import LocalFolder, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint


def read(data: bytes, **others: bytes) -> Checkpoint:
    """The reading, within its bounds of processor time (before the tracing, which slows it) and of memory."""
    folder = MemoryFolder({"m.onnx": data, **others})
    return within(lambda: onnx.read(folder, "m.onnx"))


def refuse(data: bytes, part: str = "", **others: bytes) -> None:
    refused(lambda: read(data, **others), part)


def number(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(tag: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return number(tag << 3) + number(value % 2**64)
    raw = value.encode() if isinstance(value, str) else value
    return number(tag << 3 | 2) + number(len(raw)) + raw


def tensor(name: str = "w", shape: tuple[int, ...] = (2,), kind: int = 1, **extra: bytes) -> bytes:
    data = extra.get("data", field(9, bytes(8)))
    return b"".join(field(1, size) for size in shape) + field(2, kind) + field(8, name) + data


def node(op: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    parts = [field(1, name) for name in inputs] + [field(2, name) for name in outputs] + [field(4, op)]
    return field(1, b"".join(parts) + b"".join(field(5, attribute) for attribute in attributes))


def model(*graph: bytes, extra: bytes = b"") -> bytes:
    return field(1, 8) + field(7, b"".join(graph)) + extra


def external(location: str, offset: str = "0", length: str = "8", **others: str) -> bytes:
    pairs = {"location": location, "offset": offset, "length": length} | others
    stored = b"".join(field(13, field(1, key) + field(2, value)) for key, value in pairs.items())
    return field(5, tensor(data=stored + field(14, 1)))


VALID = model(
    node("MatMul", ["x", "w"], ["y"]), node("Constant", [], ["c"], field(1, "value") + field(5, tensor("c"))),
    node("If", ["x"], ["z"], field(1, "then_branch") + field(6, field(5, tensor("v")) + field(12, field(1, "v")))),
    field(5, tensor()), field(11, field(1, "x")), field(12, field(1, "y")),
    extra=field(8, field(1, "") + field(2, 21)) + field(2, "us") + field(25, field(1, "f") + node("Neg", ["a"], ["b"])),
)  # fmt: skip


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    assert [tensor.name for tensor in read(VALID).tensors] == ["c", "v", "w"]


# Other files under this name


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 64, b"PK\3\4" + bytes(60), b"<html>not found</html>", b"\xff" * 64, b"GGUF" + bytes(60),
             field(1, 8), field(7, b""), bytes([0x0B]) * 50_000, bytes([0x08, 0x08] * 50_000)]
)  # fmt: skip
def test_what_is_no_model(data: bytes) -> None:
    refuse(data)


def test_every_cut_of_a_file() -> None:
    """A download can stop at any byte; only where the cut leaves whole fields is there still a model to read."""
    for size in range(len(VALID)):
        try:
            assert onnx.read(MemoryFolder({"m.onnx": VALID[:size]}), "m.onnx").size_bytes == size
        except WeighbridgeError as error:
            assert error.action


# Recursion


@pytest.mark.parametrize("depth", [17, 1000, 4000])
def test_graphs_in_graphs(depth: int) -> None:
    """Branches in branches exhaust the stack of a recursive reader."""
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
    refuse(model(inner), "nest more than 16 deep")


def test_functions_that_call_each_other() -> None:
    """A ring of functions, and one that calls itself a thousand times: an inliner never ends."""
    ring = b"".join(
        field(
            25,
            field(1, f"f{i}") + field(4, "a") + field(5, "b") + field(7, node(f"f{(i + 1) % 500}", ["a"], ["b"])[2:]),
        )
        for i in range(500)
    )
    assert len(read(model(node("f0", ["w"], ["y"]), field(5, tensor()), extra=ring)).tensors) == 1
    calls = b"".join(field(7, node("f", ["a"], ["b"])[2:]) for _ in range(1000))
    read(model(node("f", ["w"], ["y"]), field(5, tensor()), extra=field(25, field(1, "f") + field(4, "a") + calls)))


def test_circles_of_views() -> None:
    """Operators that take what they make: a walk back along them never ends."""
    ring = [node("Identity", [str(i)], [str((i + 1) % 1000)]) for i in range(1000)]
    read(model(*ring, node("ReduceL2", ["5"], ["y"]), node("Cast", ["7"], ["8"]), field(5, tensor("7", (8,), 3))))


# Counts


def test_many_small_things() -> None:
    """Thousands of empty nodes, tensors and functions, and of wide nodes."""
    read(model(field(1, b"") * 8000))
    read(model(field(5, field(1, 0) + field(2, 1)) * 3000))
    read(model(extra=field(25, b"") * 8000))
    names = [format(i, "x") for i in range(4000)]
    read(model(node("Concat", names, names)))
    wide = [node("f", [], ["y"])] * 2000
    read(model(*wide, extra=field(25, field(1, "f") + b"".join(field(5, name) for name in names))))


def test_many_packed_weights_with_many_users() -> None:
    """Integer constants that all lead to a thousand casts: looking on from each takes the product."""
    weights = [str(i) for i in range(700)]
    casts = [node("Cast", ["c"], [f"q{i}"]) for i in range(1000)]
    products = [node("Mul", [f"q{i}", "s"], [f"p{i}"]) for i in range(1000)]
    stored = [field(5, tensor(name, (8,), 3)) for name in weights]
    found = read(model(node("Concat", weights, ["c"]), *casts, *products, *stored, field(5, tensor("s"))))
    assert len(found.tensors) == 701


def test_many_magnitudes_of_one_signal() -> None:
    chain = [node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(1000)]
    ends = [node("ReduceL2", [f"v{i}"], [f"m{i}"]) for i in range(1000)]
    read(model(*chain, *ends, field(11, field(1, "v0"))))


def test_names_given_many_times() -> None:
    """A name of its own for each of many tensors of one name."""
    found = read(model(field(5, tensor("w#2")) * 20, field(5, tensor("w")) * 1000, field(5, tensor("w#2")) * 20))
    assert len({tensor.name for tensor in found.tensors}) == 1040


# Lies about tensors


@pytest.mark.parametrize("shape", [(3,), (1,), (2**62,), (2**63 - 1, 2**63 - 1), (0,) * 65, (2,) * 65, (-1, -2),
                                   (2**63,), (2**63 - 1,) * 64])  # fmt: skip
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    refuse(model(field(5, tensor(shape=shape))))


@pytest.mark.parametrize("kind", [0, 8 + 2**32, 29, 1000, 2**64 - 1])
def test_types_that_do_not_exist(kind: int) -> None:
    refuse(model(field(5, tensor(kind=kind))), "has the type")


@pytest.mark.parametrize(
    "data",
    [b"", field(4, bytes(12)), field(5, bytes(2)), field(7, bytes(2)), field(9, bytes(8)) * 2,
     field(9, bytes(8)) + field(4, bytes(8)), field(9, 5), field(10, bytes(8)),
     field(3, field(1, 0)) + field(9, bytes(8)),
     field(9, bytes(8)) + field(13, field(1, "location") + field(2, "a")) + field(14, 1)],
)  # fmt: skip
def test_elements_in_the_wrong_place(data: bytes) -> None:
    """None, too many, in the field of another type, twice, in segments, in the file and beside it."""
    refuse(model(field(5, tensor(data=data))))


def test_a_length_beyond_the_file() -> None:
    refuse(VALID[:-3] + b"\xff\xff\x7f", "")
    refuse(field(1, 8) + number(7 << 3 | 2) + number(2**62), "where")


def test_long_texts() -> None:
    refuse(model(field(5, tensor("n" * 50_000))))
    refuse(model(field(5, tensor("\x1b[2J" * 100, (5,)))), "\\x1b")
    refuse(model(field(5, field(8, b"\xff\xfe") + field(2, 1))), "UTF-8")


# Files beside it


@pytest.mark.parametrize(
    "location", ["../w", "/etc/passwd", "a/../../w", "sub/w", "", ".", "..", "C:w", "w\0", "\\\\host\\w", "~/../w",
                 "a\nb", "./../w", "*/_ORT_MEM_ADDR_/*"]
)  # fmt: skip
def test_locations_outside_the_folder(location: str) -> None:
    """External data that leads elsewhere makes a loader read any file of the machine into the weights."""
    refuse(model(external(location)), "names the file", **{"../w": bytes(8), "w": bytes(8)})


def test_locations_outside_a_real_folder(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(8))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.onnx").write_bytes(model(external("../w")))
    with pytest.raises(WeighbridgeError, match="names the file"):
        onnx.read(LocalFolder(tmp_path / "in"), "m.onnx")


@pytest.mark.parametrize(
    ("offset", "length"), [("-8", "8"), ("0", "-8"), ("1e3", "8"), ("9" * 30, "8"), ("1", "8"), ("", "8"), ("٣", "8"),
                           (str(2**63), "8"), ("0", "16")]
)  # fmt: skip
def test_ranges_that_lie(offset: str, length: str) -> None:
    refuse(model(external("w", offset, length)), w=bytes(8))


def test_data_in_the_file_itself_and_overlaps() -> None:
    refuse(model(external("m.onnx")), "in the file itself")
    refuse(model(external("w"), external("w", "4")), "overlap", w=bytes(12))


def test_a_matrix_of_few_bits_that_is_too_large() -> None:
    """K and N that claim more weights than there are bytes."""
    numbers = [field(1, key) + field(3, value) for key, value in {"K": 2**30, "N": 2**30, "block_size": 32}.items()]
    packed = node("MatMulNBits", ["x", "w", "s"], ["y"], *numbers) + b""
    inner = packed[2:] if packed[1] < 128 else packed[3:]
    refuse(model(field(1, inner + field(7, "com.microsoft")), field(5, tensor(shape=(8,), kind=2))), "asks for")


# Anything


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=5), st.integers(0, len(VALID)))
def test_changed_and_cut_files(changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever bytes are changed or cut, only the documented errors escape."""
    raw = bytearray(VALID)
    for place, value in changes:
        raw[place] = value
    for data in (bytes(raw), bytes(raw[:cut])):
        try:
            onnx.read(MemoryFolder({"m.onnx": data}), "m.onnx")
        except WeighbridgeError as error:
            assert error.action


PARTS = st.recursive(
    st.one_of(st.binary(max_size=12), st.sampled_from([tensor(), b"x", b"w", b"Constant", b"value", b"Cast", b"Mul"])),
    lambda inner: st.lists(st.tuples(st.integers(1, 26), inner), max_size=5).map(
        lambda parts: b"".join(field(tag, value) for tag, value in parts)
    ),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 5, 11, 12, 15]), PARTS), max_size=8))
def test_random_messages(parts: list[tuple[int, bytes]]) -> None:
    """Any nesting of fields is read or refused."""
    try:
        onnx.read(MemoryFolder({"m.onnx": model(*(field(tag, value) for tag, value in parts))}), "m.onnx")
    except WeighbridgeError as error:
        assert error.action
