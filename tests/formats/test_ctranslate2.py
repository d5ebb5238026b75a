"""Models of CTranslate2, written by hand as its converters serialize them."""

from __future__ import annotations

import json
import struct

import pytest
from tests.formats.small_binaries import SMALL_CT2, ct2_text, ctranslate2

from weighbridge.errors import FormatError
from weighbridge.formats import ctranslate2 as reader
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind, Weight


def read(data: bytes, **beside: bytes) -> Checkpoint:
    files = {"model.bin": data, **{name.replace("_json", ".json"): held for name, held in beside.items()}}
    return reader.read(MemoryFolder(files), "model.bin")


def test_weights_scales_settings_tables_and_aliases() -> None:
    model = read(SMALL_CT2)
    weight, scale, beta, heads, positions, head = model.tensors
    assert weight.stands_for == Weight("decoder/embeddings/weight", (3, 4)) and weight.encoding.name == "int8"
    assert (scale.kind, scale.role, scale.shape) == (Kind.QUANTIZATION, "scale", (3,))
    assert beta.kind is Kind.PARAMETER and beta.encoding.name == "fp16"
    assert heads.kind is Kind.BUFFER and positions.kind is Kind.BUFFER
    assert head.tied_to == weight.name and head.byte_range == weight.byte_range
    stored = inspect(model).stored
    assert stored is not None
    assert (stored.parameters, stored.quantization, stored.buffers, stored.tied) == (16, 3, 9, 12)
    assert model.metadata == {"spec": "TransformerSpec", "revision": 7, "binary_version": 6}
    (file,) = model.files
    assert file.tensor_bytes == 12 + 12 + 8 + 2 + 32 and file.padding_bytes == 0


@pytest.mark.parametrize(("kind", "code"), [(0, "f"), (4, "e")])
def test_a_table_is_sinusoidal_when_its_first_row_is(kind: int, code: str) -> None:
    name = "encoder/position_encodings/encodings"
    rows = {Kind.BUFFER: [(0, 0, 1, 1), (0, 1, 0, 1), (0.909, 0.02, -0.416, 0.9998)], Kind.PARAMETER: [(0, 0, 0, 0),
            (0.02, -0.01, 0.03, 0.01), (1, 1, 1, 1)]}  # fmt: skip
    for expected, tables in rows.items():
        for row in tables:
            (tensor,) = read(ctranslate2([(name, (1, 4), kind, struct.pack(f"<4{code}", *row))])).tensors
            assert tensor.kind is expected, row
    halves = struct.pack("<4H", 0, 0, 0x3F80, 0x3F80)  # 0 0 1 1 in bfloat16
    assert read(ctranslate2([(name, (1, 4), 5, halves)])).tensors[0].kind is Kind.BUFFER
    assert read(ctranslate2([("encoder/other", (1, 4), 5, halves)])).tensors[0].kind is Kind.PARAMETER


def test_awq_words_hold_eight_weights() -> None:
    variables = [("a/weight", (16, 4), 3, bytes(256)), ("a/weight_scale", (2, 32), 4, bytes(128)),
                 ("a/weight_zero", (2, 4), 3, bytes(32)), ("alignment", (2,), 3, bytes(8))]  # fmt: skip
    weight, scale, zero, setting = read(ctranslate2(variables)).tensors
    assert weight.stands_for == Weight("a/weight", (16, 32)) and weight.weights == 512
    assert (scale.role, zero.role) == ("scale", "zero_point")
    assert setting.stands_for is None and inspect(read(ctranslate2(variables))).parameters.total == 512


@pytest.mark.parametrize("version", [1, 2, 3])
def test_old_versions(version: int) -> None:
    """The type was a width, the length a number of elements; names and aliases came later."""
    out = struct.pack("<I", version) + (ct2_text("TransformerSpec") + struct.pack("<I", 2) if version > 1 else b"")
    out += struct.pack("<I", 1) + ct2_text("w") + struct.pack("<BIBI", 1, 3, 4, 3) + bytes(12)
    out += struct.pack("<I", 0) if version > 2 else b""
    model = read(out)
    assert [(t.name, t.shape, t.encoding.name) for t in model.tensors] == [("w", (3,), "fp32")]
    assert model.metadata["revision"] == (2 if version > 1 else 1)


def test_its_own_configuration_is_metadata() -> None:
    model = read(SMALL_CT2, config_json=json.dumps({"bos_token": "<s>"}).encode())
    assert model.config is None and model.metadata["config"] == {"bos_token": "<s>"}
    model = read(SMALL_CT2, config_json=b"{")
    assert "config" not in model.metadata and "left aside" in model.notes[0]


def test_large_variables_are_stepped_over() -> None:
    head = ctranslate2([("w", (2**28,), 4, b"")])[:-4]
    head = head.replace(struct.pack("<BI", 4, 0), struct.pack("<BI", 4, 2**29))
    source = MemoryFile("model.bin", head + bytes(2**29) + struct.pack("<I", 0))
    model = reader.read(MemoryFolder({"model.bin": source}), "model.bin")
    assert model.tensors[0].elements == 2**28 and source.requests <= 3 and source.bytes_read < 100_000


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (struct.pack("<I", 7), "version 7"),
        (ctranslate2([("w", (2,), 6, bytes(8))]), "type number 6"),
        (ctranslate2([("w", (2,), 0, bytes(7))]), "7 bytes for fp32"),
        (ctranslate2([("w", (2,), 0, bytes(8))] * 2), "a second time"),
        (ctranslate2([("w", (2,), 0, bytes(8))], [("v", "u")]), "missing or taken"),
        (ctranslate2([("w", (2,), 0, bytes(8))], [("w", "w")]), "missing or taken"),
        (SMALL_CT2 + b"x", "follow the last record"),
    ],
)
def test_refusals(data: bytes, part: str) -> None:
    with pytest.raises(FormatError, match=part):
        read(data)
