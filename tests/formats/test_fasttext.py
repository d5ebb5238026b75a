"""fastText models, dense and product-quantized, written by hand as `saveModel` lays them out."""

from __future__ import annotations

import struct

import pytest
from tests.formats.small_binaries import SMALL_FASTTEXT, SMALL_FTZ, dense, fasttext, quantized

from weighbridge.errors import FormatError
from weighbridge.formats import fasttext as reader
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Weight


def read(data: bytes) -> Checkpoint:
    return reader.read(MemoryFolder({"a.ftz": data}), "a.ftz")


def test_a_dense_model() -> None:
    model = read(SMALL_FASTTEXT)
    assert [(t.name, t.shape) for t in model.tensors] == [("input", (3, 4)), ("output", (2, 4))]
    assert inspect(model).parameters.total == 20
    assert model.metadata["words"] == 3 and model.metadata["labels"] == 2
    assert model.metadata["settings"]["dim"] == 4 and model.metadata["settings"]["t"] == 1e-4
    assert model.files[0].header_bytes == len(SMALL_FASTTEXT) - 80


def test_codes_stand_for_their_matrix() -> None:
    model = read(SMALL_FTZ)
    codes, centroids, norms, norm_centroids, output = model.tensors
    assert codes.stands_for == Weight("input", (3, 4)) and codes.shape == (3, 2)
    assert centroids.shape == (256, 4) and centroids.role == norm_centroids.role == "codebook"
    assert norms.shape == (3,) and norm_centroids.shape == (256, 1) and output.shape == (2, 4)
    stored = inspect(model).stored
    assert stored is not None and stored.parameters == 20
    assert stored.quantization == 256 * 4 + 3 + 256 and stored.elements == 6 + 1024 + 3 + 256 + 8


@pytest.mark.parametrize("words", [1, 100, 4000, 60_000])
def test_dictionaries_longer_than_a_window(words: int) -> None:
    data = fasttext([f"word{i}" for i in range(words)], ["__label__a"], dense(words, 4), dense(1, 4), False)
    source = MemoryFile("a.bin", data)
    model = reader.read(MemoryFolder({"a.bin": source}), "a.bin")
    assert inspect(model).parameters.total == 4 * words + 4 and source.requests < 12
    assert model.files[0].size_bytes == len(data)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (SMALL_FTZ + b"x", "follow the output"),
        (b"abcd" + SMALL_FTZ[4:], "magic number"),
        (SMALL_FTZ[:4] + struct.pack("<i", 13) + SMALL_FTZ[8:], "version 13"),
        (fasttext(["a", ""], ["b"], dense(2, 4), dense(1, 4), False), "empty"),
        (fasttext(["a" * 20_000], ["b"], dense(1, 4), dense(1, 4), False), "no end"),
        (fasttext(["a"], ["b"], struct.pack("<qq", -1, -4), dense(1, 4), False), "-1 rows"),
        (fasttext(["a"], ["b"], struct.pack("<qq", 2**40, 2**40), dense(1, 4), False), "rows"),
        (fasttext(["a"], ["b"], struct.pack("<?qqi", False, 2, 4, 3) + bytes(3), dense(1, 4), True), "3 codes"),
        (fasttext(["a"], ["b"], quantized(2, 4, 2, False)[:-9000], b"", True), "where"),
    ],
)
def test_refusals(data: bytes, part: str) -> None:
    with pytest.raises(FormatError, match=part):
        read(data)
