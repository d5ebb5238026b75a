"""What does a model of CTranslate2 hold? Its variables by name, shape, type and place in `model.bin`.

A file is: the version (uint32), the name of the specification and its revision (from version 2 on), the number of
variables, the variables, and (from version 3 on) aliases, pairs of a new name and a variable's. A text is a uint16
length with its closing zero. A variable is a name, a rank (uint8), so many uint32 dimensions, a type (uint8), a length
in bytes (uint32) and the bytes; before version 4 the type is the width of an element and the length counts elements.

How it counts. A weight `x` in integers has `x_scale` beside it, and `x_zero` for AWQ, whose int32 words hold eight
weights of 4 bits. Numbers without a dimension, and integers without a scale, are settings (heads, activation, norms)
and no parameters. A table of position encodings is a buffer when it is sinusoidal, which its first row tells: sine and
cosine of each angle lie half a row apart, or beside each other, and their squares add up to 1. What the converter joins
stays so: where a model has no bias for its keys but for queries and values, as Whisper, the stored bias of all three
holds zeros for the keys, which count.

`config.json` beside it is CTranslate2's own and goes to `metadata["config"]`; it describes no family.

Source: OpenNMT/CTranslate2 4.8, `src/models/model.cc` (`Model::load`), `include/ctranslate2/types.h` (`DataType`),
`python/ctranslate2/specs/model_spec.py` (`_serialize`, `_quantize`), `converters/transformers.py` (AWQ).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import config as config_format
from weighbridge.formats.binary_cursor import BinaryCursor
from weighbridge.formats.byte_source import ByteSource, Folder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.model.encodings import ENCODINGS, Encoding
from weighbridge.model.tensors import Kind, TensorSpec, Weight

LATEST_VERSION = 6
MAX_VARIABLES = 200_000
MAX_ROW_BYTES = 64 * 1024
TYPES = tuple(ENCODINGS[name] for name in ("fp32", "int8", "int16", "int32", "fp16", "bf16"))
"""The encoding of each type number."""

_BY_WIDTH = {4: ENCODINGS["fp32"], 2: ENCODINGS["int16"], 1: ENCODINGS["int8"]}
_WEIGHTS_PER_WORD = 8
_WHISPER = "WhisperSpec"
_POSITIONS = "position_encodings/encodings"
_EXPECTED = f"a CTranslate2 model of version 1 to {LATEST_VERSION}"
_CONVERT = "convert the model again with the converters of CTranslate2"


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    byte_range: tuple[int, int]


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of a `model.bin`.

    Raises:
        FormatError: when a length does not fit into the file, a type is unknown, or a name comes twice.
    """
    source = folder.open(name)
    cursor = BinaryCursor(source, _EXPECTED)
    version = cursor.number("I")
    if not 1 <= version <= LATEST_VERSION:
        cursor.fail(f"version {version:,}", "check that it is such a file, or get a newer Weighbridge")
    spec, revision = (_text(cursor), cursor.number("I")) if version >= 2 else ("", 1)
    variables = _variables(cursor, version)
    aliases = dict(_aliases(cursor, variables)) if version >= 3 else {}
    if cursor.left:
        cursor.fail(f"{cursor.left:,} bytes follow the last record")
    tensors = tuple(_spec(source, variable, variables, name) for variable in variables.values())
    by_name = {tensor.name: tensor for tensor in tensors}
    tied = (_tied(alias, by_name[target]) for alias, target in aliases.items())
    metadata: dict[str, Any] = {"spec": spec, "revision": revision, "binary_version": version}
    notes = []
    if spec == _WHISPER and (absent := sum(map(_key_biases, tensors))):
        notes.append(f"{absent:,} elements of joined biases stand for biases of keys, which Whisper does not have")
    if "config.json" in folder.names():
        try:
            metadata["config"] = config_format.parse(folder.open("config.json"))
        except WeighbridgeError as error:
            notes.append(f"the config.json beside the file was left aside: {error}")
    return Checkpoint(
        source.name, "ctranslate2",
        (StoredFile(name, source.size, cursor.header_bytes, source.size - cursor.header_bytes, 0),),
        (*tensors, *tied), metadata=metadata, digest=cursor.digest, notes=tuple(notes),
    )  # fmt: skip


def _text(cursor: BinaryCursor) -> str:
    """A text, whose length counts its closing zero."""
    length = cursor.number("H", "a name's length")
    text = cursor.text(length, "a name")
    if not text.endswith("\0") or "\0" in text[:-1]:
        cursor.fail(f"the name {text[:60]!r} does not end with the one zero it has")
    return text[:-1]


def _variables(cursor: BinaryCursor, version: int) -> dict[str, _Variable]:
    count = cursor.number("I", "the number of variables")
    if count > MAX_VARIABLES:
        cursor.fail(f"{count:,} variables, where {MAX_VARIABLES:,} are the most")
    found: dict[str, _Variable] = {}
    for _ in range(count):
        name = _text(cursor)
        if name in found:
            cursor.fail(f"the variable {name[:200]!r} a second time", _CONVERT)
        shape = cursor.numbers(f"{cursor.number('B', 'a rank')}I", "dimensions")
        number, length = cursor.numbers("BI", "a type and a length")
        if version >= 4:
            if number >= len(TYPES):
                cursor.fail(f"{name[:200]!r} has the type number {number}", "get a newer Weighbridge")
            encoding = TYPES[number]
        else:
            if number not in _BY_WIDTH:
                cursor.fail(f"{name[:200]!r} has elements of {number} bytes", _CONVERT)
            encoding = _BY_WIDTH[number]
            length *= number
        if math.prod(shape) * encoding.bytes_per_block != length:
            cursor.fail(
                f"{name[:200]!r} has {length:,} bytes for {encoding.name} of shape {str(shape)[:200]}", _CONVERT
            )
        found[name] = _Variable(name, shape, encoding, cursor.step(length, "a variable"))
    return found


def _aliases(cursor: BinaryCursor, variables: Mapping[str, _Variable]) -> Iterator[tuple[str, str]]:
    count = cursor.number("I", "the number of aliases")
    if count > MAX_VARIABLES:
        cursor.fail(f"{count:,} aliases, where {MAX_VARIABLES:,} are the most")
    seen: set[str] = set()
    for _ in range(count):
        alias, target = _text(cursor), _text(cursor)
        if target not in variables or alias in variables or alias in seen:
            cursor.fail(f"{alias[:200]!r} as another name of {target[:200]!r}: one is missing or taken", _CONVERT)
        seen.add(alias)
        yield alias, target


def _spec(source: ByteSource, variable: _Variable, variables: Mapping[str, _Variable], file: str) -> TensorSpec:
    """A variable as a tensor: a weight, what packed weights need beside them, a setting or a fixed table."""
    kind, role, stands_for = Kind.PARAMETER, "", None
    owner = variables.get(variable.name.rpartition("_")[0])
    if owner is not None and not owner.encoding.is_float and variable.name == f"{owner.name}_scale":
        kind, role = Kind.QUANTIZATION, "scale"
    elif owner is not None and not owner.encoding.is_float and variable.name == f"{owner.name}_zero":
        kind, role = Kind.QUANTIZATION, "zero_point"
    elif not variable.shape or _is_sinusoidal(source, variable):
        kind = Kind.BUFFER
    elif not variable.encoding.is_float and f"{variable.name}_scale" in variables:
        per_word = _WEIGHTS_PER_WORD if f"{variable.name}_zero" in variables else 1
        stands_for = Weight(variable.name, (*variable.shape[:-1], variable.shape[-1] * per_word))
    return TensorSpec(variable.name, variable.shape, variable.encoding, role, kind=kind, file=file,
                      byte_range=variable.byte_range, stands_for=stands_for)  # fmt: skip


def _key_biases(tensor: TensorSpec) -> int:
    """How many elements of a bias belong to the keys: a third with queries and values, half with the values."""
    if tensor.name.endswith("/self_attention/linear_0/bias"):
        return tensor.elements // 3
    return tensor.elements // 2 if tensor.name.endswith("/attention/linear_1/bias") else 0


def _tied(alias: str, tensor: TensorSpec) -> TensorSpec:
    return TensorSpec(alias, tensor.shape, tensor.encoding, tensor.role, kind=tensor.kind, tied_to=tensor.name,
                      file=tensor.file, byte_range=tensor.byte_range, stands_for=tensor.stands_for)  # fmt: skip


def _is_sinusoidal(source: ByteSource, variable: _Variable) -> bool:
    """Whether a variable is a table of sinusoids, by its name and its first row."""
    if not variable.name.endswith(_POSITIONS) or len(variable.shape) != 2 or not variable.encoding.is_float:
        return False
    rows, width = variable.shape
    size = width * variable.encoding.bytes_per_block
    if not rows or width % 2 or not 0 < size <= MAX_ROW_BYTES:
        return False
    row = _floats(source.read(variable.byte_range[0], size), variable.encoding)
    half = width // 2
    return any(
        all(abs(sine * sine + cosine * cosine - 1) < 0.02 for sine, cosine in pairs)
        for pairs in (list(zip(row[:half], row[half:], strict=True)), list(zip(row[::2], row[1::2], strict=True)))
    )


def _floats(raw: bytes, encoding: Encoding) -> tuple[float, ...]:
    if encoding.name == "bf16":
        raw = b"".join(b"\0\0" + raw[at : at + 2] for at in range(0, len(raw), 2))
    code, size = ("e", 2) if encoding.name == "fp16" else ("f", 4)
    return struct.unpack(f"<{len(raw) // size}{code}", raw)
