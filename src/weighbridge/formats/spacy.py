"""What does a spaCy pipeline hold? The weights of each of its components, and its table of word vectors.

A pipeline is a folder with `config.cfg`, whose section `[nlp]` lists the components, and a folder for each; those with
weights have a file `model` in it. That is a MessagePack map of thinc: `nodes`, `attrs`, `params` and `shims` are lists
of one entry for each layer of the model, breadth first. `params` maps names to arrays: maps of `nd`, `type`, `kind`,
`shape` and `data`. A shim holds a model of another framework as bytes, which are not read; a note says how many.
`vocab/vectors` is a NumPy array.

How it counts. Names are `component.number.layer.parameter`. Layers that listen to a shared `tok2vec` hold no weights,
so nothing counts twice. Word vectors are a table that training does not change: a buffer.

Source: explosion/thinc 9, `thinc/model.py` (`to_dict`); explosion/srsly 2, `srsly/msgpack/_msgpack_numpy.py`;
explosion/spaCy 3, `spacy/language.py` (`to_disk`), `spacy/vectors.py` (`to_disk`); NumPy, `numpy/lib/format.py`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import json_text
from weighbridge.formats.binary_cursor import BinaryCursor
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.msgpack import Binary, Unpacker
from weighbridge.model.encodings import ENCODINGS, Encoding
from weighbridge.model.tensors import Kind, TensorSpec

MAX_CONFIG_BYTES = 1_000_000
MAX_META_BYTES = 10_000_000
MAX_COMPONENTS = 1_000
MAX_RANK = 32
DTYPES = {
    "f2": "fp16", "f4": "fp32", "f8": "fp64", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "b1": "bool",
}  # fmt: skip
"""The encoding of each type of NumPy, without its byte order."""

_NPY = re.compile(r"\{'descr': '([<|=])([a-z]\d)', 'fortran_order': (?:False|True), 'shape': \(([\d, ]*)\),? ?\} *\n")
_TOLD = ("lang", "name", "version", "spacy_version", "license")
_GET_AGAIN = "it is cut short or damaged: get the pipeline again"


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of a pipeline, given its `config.cfg`.

    Raises:
        SourceError: when it is no spaCy pipeline, or has no component with weights.
        FormatError: when a component's model is not what thinc writes.
    """
    source = folder.open(name)
    raw = source.read(0, min(source.size, MAX_CONFIG_BYTES))
    components = _components(source.name, raw)
    tensors: list[TensorSpec] = []
    files = [StoredFile(name, source.size, source.size, 0, 0)]
    digest = hashlib.sha256(raw)
    notes, without = [], []
    for component in components:
        below = folder.below(component)
        if "model" not in _names(below):
            without.append(component)
            continue
        path = f"{component}/model"
        model = below.open("model")
        cursor = BinaryCursor(model, "a model of thinc")
        found, shim_bytes = _model(cursor, component, path)
        tensors += found
        held = sum(tensor.size_bytes for tensor in found)
        files.append(StoredFile(path, model.size, model.size - held, held, 0))
        digest.update(bytes.fromhex(cursor.digest))
        if shim_bytes:
            notes.append(f"{component} holds {shim_bytes:,} bytes of a model of another framework, which are not read")
    if without:
        notes.append(f"components without a model: {', '.join(without)[:300]}")
    if len(files) == 1:
        raise SourceError(f"{folder.name} has no component with weights", "a trained pipeline", "name another folder")
    if "vectors" in _names(folder.below("vocab")):
        vectors = _vectors(folder)
        tensors.append(vectors)
        size = folder.below("vocab").open("vectors").size
        files.append(StoredFile(vectors.file, size, size - vectors.size_bytes, vectors.size_bytes, 0))
        if vectors.elements:
            notes.append(f"the word vectors, {vectors.elements:,} elements, are a fixed table and count as a buffer")
    return Checkpoint(
        folder.name, "spacy", tuple(files), tuple(tensors), metadata={"pipeline": components} | _meta(folder),
        digest=digest.hexdigest(), notes=tuple(notes),
    )  # fmt: skip


def _components(name: str, raw: bytes) -> list[str]:
    """The names of the components, from the list in `[nlp]`."""
    section, value = "", ""
    for line in raw.decode("utf-8", "replace").splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[nlp]" and not line[:1].isspace() and line.partition("=")[0].strip() == "pipeline":
            value = line.partition("=")[2].strip()
    if not value:
        read_ = f"{name} has no list of components in a section [nlp]"
        raise SourceError(read_, "the configuration of a spaCy pipeline", "name the file with the weights")
    told = json_text.parse(value.encode(), f"the list of components in {name}")
    if not isinstance(told, list) or len(told) > MAX_COMPONENTS or not all(isinstance(one, str) for one in told):
        raise FormatError(f"{name} lists the components {value[:100]}", "a list of their names", _GET_AGAIN)
    return list(dict.fromkeys(told))


def _names(folder: Folder) -> list[str]:
    """The files of a folder, which may be missing."""
    try:
        return list(folder.names())
    except SourceError:
        return []


def _meta(folder: Folder) -> dict[str, Any]:
    """What `meta.json` tells of the pipeline."""
    if "meta.json" not in folder.names():
        return {}
    source = folder.open("meta.json")
    size = min(source.size, MAX_META_BYTES + 1)
    told = json_text.parse(source.read(0, size), source.name, allow_bom=True, allow_constants=True,
                           max_bytes=MAX_META_BYTES)  # fmt: skip
    return {key: told[key] for key in _TOLD if key in told} if isinstance(told, dict) else {}


def _model(cursor: BinaryCursor, component: str, path: str) -> tuple[list[TensorSpec], int]:
    """The arrays of a component's model, and the bytes of its shims."""
    told = Unpacker(cursor).value()
    if cursor.left:
        cursor.fail(f"{cursor.left:,} bytes behind the model")
    nodes, params = (told.get(key) if isinstance(told, dict) else None for key in ("nodes", "params"))
    if not isinstance(nodes, list) or not isinstance(params, list) or len(nodes) != len(params):
        cursor.fail("no lists of nodes and params of one length")
    tensors = []
    for number, (node, held) in enumerate(zip(nodes, params, strict=True)):
        layer = node.get("name") if isinstance(node, dict) else None
        if not isinstance(layer, str) or not isinstance(held, dict):
            cursor.fail(f"layer {number:,} without a name or parameters")
        for name, array in held.items():
            if array is not None:
                told_name = f"{component}.{number}.{layer[:60]}.{name}"
                tensors.append(_array(cursor, told_name, array, path))
    return tensors, sum(_shim_bytes(told.get("shims")))


def _shim_bytes(shims: Any) -> Iterator[int]:
    for layer in shims if isinstance(shims, list) else ():
        for shim in layer if isinstance(layer, list) else ():
            if isinstance(shim, Binary):
                yield shim.end - shim.begin


def _array(cursor: BinaryCursor, name: str, array: Any, path: str) -> TensorSpec:
    """An array as srsly packs it; its keys are binary."""
    if not isinstance(array, dict) or array.get(b"nd") is not True:
        cursor.fail(f"{name[:200]!r}, which is no array")
    shape, data = array.get(b"shape"), array.get(b"data")
    encoding = _encoding(array.get(b"type"))
    if encoding is None or not isinstance(shape, list) or len(shape) > MAX_RANK:
        cursor.fail(f"{name[:200]!r} of type {str(array.get(b'type'))[:40]} and shape {str(shape)[:100]}")
    if not all(type(length) is int and length >= 0 for length in shape):
        cursor.fail(f"{name[:200]!r} of shape {str(shape)[:100]}")
    size = math.prod(shape) * encoding.bytes_per_block
    if not isinstance(data, Binary) or data.end - data.begin != size:
        cursor.fail(f"{name[:200]!r} without the {size:,} bytes of {encoding.name} of shape {str(shape)[:100]}")
    return TensorSpec(name, tuple(shape), encoding, file=path, byte_range=(data.begin, data.end))


def _encoding(descr: Any) -> Encoding | None:
    """The encoding of a type of NumPy, such as `<f4`; None for others, big-endian ones too."""
    if not isinstance(descr, str) or descr[:1] not in ("<", "|", "="):
        return None
    name = DTYPES.get(descr[1:])
    return None if name is None else ENCODINGS[name]


def _vectors(folder: Folder) -> TensorSpec:
    """The table of word vectors, by the header of its NumPy file."""
    source = folder.below("vocab").open("vectors")
    cursor = BinaryCursor(source, "a NumPy array")
    magic, major, _ = cursor.numbers("6sBB")
    if magic != b"\x93NUMPY" or major not in (1, 2, 3):
        cursor.fail(f"{magic!r} and version {major}")
    found = _NPY.fullmatch(cursor.text(cursor.number("H" if major == 1 else "I"), "the array's header"))
    encoding = None if found is None else _encoding(found[1] + found[2])
    if found is None or encoding is None:
        cursor.fail("the header of an array of another type")
    shape = tuple(int(length[:19]) for length in re.findall(r"\d+", found[3]))
    if len(shape) > MAX_RANK or math.prod(shape) * encoding.bytes_per_block != cursor.left:
        cursor.fail(f"{cursor.left:,} bytes for {encoding.name} of shape {str(shape)[:100]}")
    place = (cursor.position, source.size)
    return TensorSpec("vocab.vectors", shape, encoding, kind=Kind.BUFFER, file="vocab/vectors", byte_range=place)
