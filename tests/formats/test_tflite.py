"""TensorFlow Lite models, against files that the reference schema wrote (tests/golden/formats/make_tflite.py)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from weighbridge.errors import FormatError
from weighbridge.formats import contents, tflite
from weighbridge.formats.byte_source import LocalFolder, MemoryFile, MemoryFolder
from weighbridge.formats.flatbuffer import FlatBuffer
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind, Weight

GOLDEN = LocalFolder(Path(__file__).resolve().parents[1] / "golden" / "formats")


def test_what_constants_are() -> None:
    model = tflite.read(GOLDEN, "quantized.tflite")
    rows = {t.name: (t.shape, t.encoding.name, t.kind, t.role, t.tied_to, t.stands_for) for t in model.tensors}
    parameter, scale = Kind.PARAMETER, Kind.QUANTIZATION
    assert rows == {
        "conv/kernel": ((4, 3, 3, 3), "int8", parameter, "", None, Weight("conv/kernel", (4, 3, 3, 3))),
        "conv/kernel.scale": ((4,), "fp32", scale, "scale", None, None),
        "conv/bias": ((4,), "int32", parameter, "", None, Weight("conv/bias", (4,))),
        "conv/bias.scale": ((4,), "fp32", scale, "scale", None, None),
        "reshape/shape": ((2,), "int32", parameter, "", None, None),
        "dense/scales": ((5, 9), "fp16", scale, "scale", None, None),
        "dense/kernel": ((5, 144), "int4", parameter, "", None, Weight("dense/kernel", (5, 144))),
        "table": ((10, 6), "uint8", parameter, "", None, Weight("table", (10, 6))),
        "table.scale": ((1,), "fp32", scale, "scale", None, None),
        "table.zero_point": ((1,), "int64", scale, "zero_point", None, None),
        "a": ((3,), "fp32", parameter, "", None, None),
        "a#13": ((3, 1), "fp32", parameter, "", "a", None),
        "sparse": ((5,), "fp32", parameter, "", None, Weight("sparse", (4, 4))),
        "melspectrogram_1/filters": ((2, 3), "fp32", Kind.BUFFER, "", None, None),
    }
    assert model.metadata == {"description": "made by hand"}
    assert model.notes == ("8 zero points are all 0 and not counted", "1 sparse tensors stand for their dense shapes",
                           "left out: labels, which holds texts")  # fmt: skip


def test_how_they_count() -> None:
    found = inspect(tflite.read(GOLDEN, "quantized.tflite"))
    assert found.stored is not None
    assert found.parameters.total == found.stored.parameters == 4 * 27 + 4 + 5 * 144 + 10 * 6 + 3 + 4 * 4
    assert found.stored.buffers == 2 + 6 and found.stored.quantization == 4 + 4 + 45 + 1 + 1 and found.stored.tied == 3


def test_values_lie_where_the_table_says() -> None:
    model = tflite.read(GOLDEN, "quantized.tflite")
    tensors = {tensor.name: tensor for tensor in model.tensors}

    def read(name: str) -> bytes:
        return b"".join(contents.pieces(model, tensors[name], GOLDEN))

    assert struct.unpack("<4f", read("conv/kernel.scale")) == pytest.approx((0.1,) * 4)
    assert struct.unpack("<q", read("table.zero_point")) == (128,)
    assert read("dense/kernel") == bytes(360)
    (file,) = model.files
    sizes = [tensor.size_bytes for tensor in model.tensors if tensor.tied_to is None]
    assert sum(sizes) == file.tensor_bytes and file.header_bytes + file.tensor_bytes == file.size_bytes


def test_a_buffer_behind_the_tables() -> None:
    model = tflite.read(GOLDEN, "large.tflite")
    (tensor,) = model.tensors
    assert (tensor.name, tensor.shape, tensor.byte_range) == ("w", (2, 2), (248, 264))
    assert struct.unpack("<4f", b"".join(contents.pieces(model, tensor, GOLDEN))) == (0, 1, 2, 3)


def test_few_requests() -> None:
    data = (Path(GOLDEN.name) / "quantized.tflite").read_bytes()
    source = MemoryFile("a.tflite", data)
    tflite.read(MemoryFolder({"a.tflite": source}), "a.tflite")
    assert source.requests == 2


def test_an_older_schema_is_refused() -> None:
    table = struct.pack("<I4sHHHxxiI", 16, b"TFL3", 6, 8, 4, 8, 2)
    with pytest.raises(FormatError, match="schema version 2"):
        tflite.read(MemoryFolder({"a.tflite": table}), "a.tflite")


def test_a_table_by_hand() -> None:
    """A root at 16, its vtable at 8: one field of 4 bytes, and one that is left out."""
    data = struct.pack("<I4xHHHHii", 16, 8, 8, 4, 0, 8, -7)
    root = FlatBuffer(MemoryFile("a.fb", data)).root()
    assert root.number(0, 4, signed=True) == -7 and root.number(1, 4, 5) == 5 and root.number(9, 1, 6) == 6
