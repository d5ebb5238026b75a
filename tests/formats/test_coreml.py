"""CoreML packages and files, written by hand from the published protocol-buffer definitions."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

import pytest
from tests.formats.small_binaries import (
    SMALL_MLMODEL,
    blob_file,
    field,
    mil_blob,
    mil_floats,
    network,
    operation,
    package,
    program,
    small_package,
)  # fmt: skip

from weighbridge.errors import FormatError, SourceError, WeighbridgeError
from weighbridge.formats import coreml as reader
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.contents import pieces
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind, Weight


def read(files: Mapping[str, bytes]) -> Checkpoint:
    return reader.read(MemoryFolder(files), "Manifest.json")


def one(model: bytes) -> Checkpoint:
    return reader.read(MemoryFolder({"a.mlmodel": model}), "a.mlmodel")


def test_a_program_with_every_kind_of_weight() -> None:
    files = small_package()
    model = read(files)
    found = {tensor.name: tensor for tensor in model.tensors}
    assert set(found) == {"w", "again", "mean", "beta", "q", "q.scale", "s", "s.mask", "p", "p.lut"}
    assert found["again"].tied_to == "w" and found["w"].encoding.name == "fp16"
    assert found["mean"].kind is Kind.BUFFER and found["beta"].kind is Kind.PARAMETER
    assert found["q"].stands_for == Weight("q", (3, 4)) and found["q.scale"].role == "scale"
    assert found["s"].stands_for == Weight("s", (4, 4)) and found["s"].shape == (4,)
    assert found["s.mask"].encoding.name == "uint1" and found["s.mask"].shape == (4, 4)
    assert found["p"].stands_for == Weight("p", (3, 4)) and found["p"].shape == (9,)  # 12 indices of 6 bits
    assert found["p.lut"].role == "codebook"
    stored = inspect(model).stored
    assert stored is not None
    assert (stored.parameters, stored.buffers, stored.tied) == (6 + 2 + 12 + 16 + 12, 2, 6)
    assert stored.quantization == 3 + 16 + 64
    manifest, proto, weights = model.files
    assert (proto.tensor_bytes, weights.tensor_bytes) == (16, 12 + 12 + 6 + 8 + 2 + 9 + 256)
    assert weights.header_bytes == 64 * 8 and manifest.header_bytes == len(files["Manifest.json"])
    inside = b"".join(pieces(model, found["beta"], MemoryFolder(files)))
    assert inside == struct.pack("<2f", 0, 1)
    assert found["q"].file == weights.name and b"".join(pieces(model, found["q"], MemoryFolder(files))) == bytes(12)


def test_sparse_weights_that_are_quantized_count_as_what_they_become() -> None:
    weights, at = blob_file([(9, bytes(2)), (4, bytes(5)), (1, bytes(8))])
    inner = operation("constexpr_sparse_blockwise_shift_scale", "inner_mask", (4, 4), values={
        "data_mask": mil_blob(37, (4, 4), at[0]), "nonzero_data": mil_blob(21, (5,), at[1]),
        "scale": mil_blob(10, (4, 1), at[2])})  # fmt: skip
    inner += field(3, field(1, "inner"))
    outer = operation("constexpr_sparse_to_dense", "w", (4, 4), inputs={"nonzero_data": "inner", "mask": "inner_mask"})
    model = read(package(program([inner, outer]), weights))
    assert inspect(model).parameters.total == 16
    assert [t.role for t in model.tensors] == ["metadata", "", "scale"]


def test_a_neural_network_with_its_weights_inside() -> None:
    model = one(SMALL_MLMODEL)
    found = {tensor.name: tensor for tensor in model.tensors}
    assert found["conv.weights"].shape == (4, 3, 3, 3) and found["conv.bias"].encoding.name == "fp16"
    assert found["fc.weights"].stands_for == Weight("fc.weights", (3, 5)) and found["fc.weights"].shape == (6,)
    assert found["fc.weights.codebook"].elements == 8
    assert found["q.weights.scale"].role == "scale" and found["q.weights.zero_point"].role == "zero_point"
    assert found["norm.mean"].kind is found["norm.variance"].kind is Kind.BUFFER
    assert found["lstm.input_gate_bias"].shape == (3,)
    stored = inspect(model).stored
    assert stored is not None and stored.parameters == 108 + 4 + 15 + 6 + 4 + 6 + 3
    assert (stored.buffers, stored.quantization) == (4, 8 + 3 + 3)


def test_other_fields_of_a_layer_are_of_any_type() -> None:
    """The number 10 is a count in a convolution, an epsilon in a batch norm and an activation in a recurrent layer."""
    epsilon = bytes([10 << 3 | 5]) + struct.pack("<f", 1e-5)
    norm = field(1, "n") + field(160, field(1, 2) + epsilon + field(15, field(1, bytes(8))))
    cell = field(1, "c") + field(400, field(1, 2) + field(10, field(30, b"")) + field(30, field(1, bytes(16))))
    assert inspect(one(network([norm, cell]))).parameters.total == 2 + 4


def test_quantized_statistics_and_biases_of_odd_widths() -> None:
    """Five integers of 3 bits fill two bytes, as four would; a mean stays a buffer when it is quantized."""
    table = field(40, field(1, 3) + field(102, field(1, bytes(32))))
    packed = field(30, bytes(2)) + table
    norm = field(1, "n") + field(160, field(1, 4) + field(15, packed) + field(17, packed))
    stored = inspect(one(network([norm]))).stored
    assert stored is not None and (stored.parameters, stored.buffers, stored.quantization) == (4, 2, 16)


def test_pipelines_and_nested_networks() -> None:
    layer = field(1, "fc") + field(140, field(1, 2) + field(2, 2) + field(20, field(1, bytes(16))))
    branch = field(1, "if") + field(605, field(1, field(1, layer)))
    scaler = field(1, 4) + field(604, b"")
    model = one(field(1, 4) + field(202, field(1, network([branch])) + field(1, scaler)))
    assert [t.name for t in model.tensors] == ["model_0.if.1.fc.weights"]
    assert "a scaler" in model.notes[0] and model.metadata["kind"] == "pipeline"


def test_several_functions_share_their_weights() -> None:
    weights, at = blob_file([(2, bytes(16))])
    files = package(program([operation("const", "w", (4,), attributes={"val": mil_blob(11, (4,), at[0])})]), weights)
    path = "Data/com.apple.CoreML/model.mlmodel"
    body = files[path].removeprefix(field(1, 9))
    inner = body[body.index(b"\x08\x01") + 2 :]
    files[path] = field(1, 9) + field(502, inner + inner.replace(b"main", b"next"))
    model = read(files)
    assert [(t.name, t.tied_to) for t in model.tensors] == [("main.w", None), ("next.w", "main.w")]


@pytest.mark.parametrize("path", ["../evil.mlmodel", "/etc/passwd", "a/../../b", "", "C:\\a", "a//b", "x/" * 30 + "y"])
def test_paths_out_of_the_package(path: str) -> None:
    with pytest.raises(WeighbridgeError):
        read(package(program([]), b"", path))


@pytest.mark.parametrize("file", ["@model_path/../../a.bin", "/etc/passwd", "", "@model_path/", "@model_path//a"])
def test_weights_out_of_the_package(file: str) -> None:
    weights, at = blob_file([(2, bytes(16))])
    value = mil_blob(11, (4,), at[0], file)
    with pytest.raises(WeighbridgeError):
        read(package(program([operation("const", "w", (4,), attributes={"val": value})]), weights))


@pytest.mark.parametrize(
    ("number", "shape", "offset", "part"),
    [
        (11, (4,), 0, "no place for a record"), (11, (4,), 96, "no place"), (11, (4,), 2**40, "no place"),
        (10, (4,), 64, "bytes of fp32"), (11, (5,), 64, "bytes of fp32"), (11, (4,), 128, "sentinel"),
        (99, (4,), 64, None), (11, (2**62, 2**62), 64, "bytes of fp32"),
    ],
)  # fmt: skip
def test_blobs_that_are_not_what_the_program_says(
    number: int, shape: tuple[int, ...], offset: int, part: str | None
) -> None:
    weights, _ = blob_file([(2, bytes(16)), (2, bytes(80))])
    value = mil_blob(number, shape, offset)
    files = package(program([operation("const", "w", shape, attributes={"val": value})]), weights)
    if part is None:
        assert read(files).tensors == ()  # a type that is no number is a setting
        return
    with pytest.raises(FormatError, match=part):
        read(files)


def test_refusals() -> None:
    for data, part in (
        (b"{}", "no manifest"), (b'{"itemInfoEntries": {}}', "no root model"), (b"[]", "no root model"),
        (json.dumps({"itemInfoEntries": {"A": 1}, "rootModelIdentifier": "A"}).encode(), "no root model"),
    ):  # fmt: skip
        with pytest.raises(WeighbridgeError, match=part):
            read({"Manifest.json": data})
    with pytest.raises(SourceError, match="a tree ensemble"):
        one(field(1, 1) + field(302, b""))
    with pytest.raises(FormatError, match="no model"):
        one(field(1, 1))
    claimed = operation("const", "w", (9,), attributes={"val": mil_floats([1, 2], (9,))})
    with pytest.raises(FormatError, match="8 bytes in place"):
        one(program([claimed]))
    deep = network([])
    for _ in range(10):
        deep = field(1, 1) + field(202, field(1, deep))
    with pytest.raises(FormatError, match="inside each other"):
        one(deep)
