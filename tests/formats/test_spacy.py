"""spaCy pipelines, written by hand as thinc and srsly pack them."""

from __future__ import annotations

import pytest
from tests.formats.small_binaries import SMALL_CFG, array, msgpack, npy, small_pipeline, thinc

from weighbridge.errors import FormatError, SourceError, WeighbridgeError
from weighbridge.formats import spacy as reader
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.contents import pieces
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind


def read(files: dict[str, bytes]) -> Checkpoint:
    return reader.read(MemoryFolder(files), "config.cfg")


def test_each_component_and_the_vectors() -> None:
    files = small_pipeline()
    model = read(files)
    assert [(t.name, t.shape, t.kind) for t in model.tensors] == [
        ("tok2vec.1.maxout.W", (2, 3), Kind.PARAMETER), ("tok2vec.1.maxout.b", (2,), Kind.PARAMETER),
        ("tagger.1.softmax.W", (5, 2), Kind.PARAMETER), ("vocab.vectors", (3, 2), Kind.BUFFER)]  # fmt: skip
    stored = inspect(model).stored
    assert stored is not None and (stored.parameters, stored.buffers) == (6 + 2 + 10, 6)
    assert model.metadata == {"pipeline": ["tok2vec", "rules", "tagger"], "lang": "en", "name": "small"}
    assert "tagger holds 100 bytes" in model.notes[0] and "rules" in model.notes[1] and "6 elements" in model.notes[2]
    assert {file.name: file.tensor_bytes for file in model.files} == {
        "config.cfg": 0, "tok2vec/model": 32, "tagger/model": 40, "vocab/vectors": 24}  # fmt: skip
    assert b"".join(pieces(model, model.tensors[0], MemoryFolder(files))) == bytes(24)


def test_other_configurations_are_told_apart() -> None:
    for text in (b"", b"[a]\nb = 1\n", b"[nlp]\nlang = x\n", b"[a]\npipeline = []\n", bytes(range(256))):
        with pytest.raises(SourceError, match=r"no list of components"):
            read({"config.cfg": text})
    with pytest.raises(SourceError, match="no component with weights"):
        read({"config.cfg": SMALL_CFG, "meta.json": b"{}"})


@pytest.mark.parametrize(
    "model",
    [
        b"", b"\xc1", msgpack([1]), msgpack({"nodes": [], "params": [{}]}), msgpack({"nodes": [{}], "params": [{}]}),
        thinc([("a", {"W": 3})]), thinc([("a", {"W": {b"nd": False}})]), thinc([("a", {"W": array((2,), bytes(7))})]),
        thinc([("a", {"W": array((2,), bytes(8), ">f4")})]), thinc([("a", {"W": array((2,), bytes(8), "O")})]),
        thinc([("a", {})]) + b"x", b"\x91" * 1000 + b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"\x82\xa1a\x01\xa1a\x02", b"\x81\x90\x01", b"\xd9\x01\xff",
    ],
)  # fmt: skip
def test_refused_models(model: bytes) -> None:
    files = {**small_pipeline(), "tagger/model": model}
    with pytest.raises(FormatError):
        read(files)


@pytest.mark.parametrize(
    "vectors",
    [b"", b"\x93NUMPY\x04\0\0\0", npy((3, 2), bytes(23)), npy((3, 2), b"").replace(b"<f4", b"|O8"),
     npy((10**30,), b""), npy((1,) * 40, bytes(4)), npy((3, 2), bytes(24)).replace(b"False", b"Trues")],
)  # fmt: skip
def test_refused_vectors(vectors: bytes) -> None:
    with pytest.raises(FormatError):
        read({**small_pipeline(), "vocab/vectors": vectors})


@pytest.mark.parametrize("name", ["..", "a/b", "", "C:", "a\\\\b"])
def test_components_out_of_the_folder(name: str) -> None:
    with pytest.raises(WeighbridgeError):
        read({"config.cfg": SMALL_CFG.replace(b'"rules"', b'"' + name.encode() + b'"'), "meta.json": b"{}"})
