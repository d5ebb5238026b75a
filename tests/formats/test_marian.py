"""Binary models of Marian, written by hand as `saveItems` lays them out."""

from __future__ import annotations

import struct

import pytest
from tests.formats.small_binaries import SMALL_MARIAN, marian

from weighbridge.errors import FormatError
from weighbridge.formats import marian as reader
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind, Weight


def read(data: bytes) -> Checkpoint:
    return reader.read(MemoryFolder({"model.bin": data}), "model.bin")


def test_integers_carry_their_multiplier_behind_them() -> None:
    model = read(SMALL_MARIAN)
    wemb, made, alpha, bias = model.tensors
    assert wemb.stands_for == Weight("Wemb", (8, 4)) and wemb.encoding.name == "int8"
    assert (made.name, made.role, made.kind) == ("Wemb_QuantMultB", "scale", Kind.QUANTIZATION)
    assert made.byte_range is not None and SMALL_MARIAN[slice(*made.byte_range)] == struct.pack("<f", 12.5)
    assert alpha.kind is Kind.QUANTIZATION and bias.kind is Kind.PARAMETER and bias.shape == (1, 64)
    assert model.metadata == {"special:model.yml": "type: a\n"}
    stored = inspect(model).stored
    assert stored is not None and (stored.parameters, stored.quantization) == (32 + 64, 2)
    (file,) = model.files
    names, shapes = len("Wemb Wemb_QuantMultA decoder_b special:model.yml "), 4 * 7
    at = 16 + 4 * 32 + names + shapes
    (gap,) = struct.unpack_from("<Q", SMALL_MARIAN, at)
    assert (file.header_bytes, file.tensor_bytes) == (at + 8 + len("type: a\n\0"), 32 + 4 + 4 + 256)
    assert file.padding_bytes == gap + 220 + 252


def test_packed_matrices_stand_for_their_shape() -> None:
    (tensor,) = read(marian([("W", 0x1801, (4, 8), bytes(64))])).tensors
    assert tensor.stands_for == Weight("W", (4, 8)) and tensor.shape == (64,)


@pytest.mark.parametrize(
    ("items", "part"),
    [
        ([("W", 0x999, (1,), bytes(4))], "type 0x999"),
        ([("W", 0x404, (2,), bytes(4))], "4 bytes for 8"),
        ([("W", 0x404, (2,), bytes(300))], "300 bytes for 8"),
        ([("W", 0x4101, (4,), bytes(4))], "4 bytes for 8"),
        ([("W", 0x404, (-1, -2), bytes(8))], "shape"),
        ([("W", 0x404, (2,), bytes(8))] * 2, "one name"),
        ([("W", 0x1801, (2**20, 2**10), bytes(8))], "packs"),
    ],
)
def test_refusals(items: list[tuple[str, int, tuple[int, ...], bytes]], part: str) -> None:
    with pytest.raises(FormatError, match=part):
        read(marian(items))
    with pytest.raises(FormatError, match="follow the last item"):
        read(SMALL_MARIAN + b"x")
