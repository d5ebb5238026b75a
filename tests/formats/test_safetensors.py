"""The safetensors reader against the reference implementation, which is installed beside it as an independent judge."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import safetensors as reader
from weighbridge.formats.byte_source import LocalFile, MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
INDEXES = sorted((SHARED / "index").glob("*.json")) if (SHARED / "index").is_dir() else []
DTYPES = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of an element, as the reference's `Dtype::bitsize` has them."""

Row = tuple[str, tuple[int, ...], bytes]


def pack(header: dict[str, Any] | str | bytes, data: bytes = b"") -> bytes:
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pattern(size: int) -> bytes:
    """Bytes of which no two windows of a tensor's size are likely to agree."""
    return bytes((7 * i + i // 251) % 256 for i in range(size))


def by_reference(file: bytes) -> dict[str, Row] | None:
    """The table as the reference reads it, None when it refuses."""
    try:
        rows = safetensors.deserialize(file)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError:
        return None
    return {name: (row["dtype"], tuple(row["shape"]), bytes(row["data"])) for name, row in rows}


def by_us(file: bytes) -> dict[str, Row] | None:
    words = {encoding.name: dtype for dtype, encoding in reader.DTYPES.items()}
    try:
        model = reader.read(MemoryFile("a.safetensors", file))
    except FormatError as error:
        assert error.action
        return None
    rows = {}
    for tensor in model.tensors:
        assert tensor.byte_range is not None
        rows[tensor.name] = (words[tensor.encoding.name], tensor.shape, file[slice(*tensor.byte_range)])
    return rows


def test_all_dtypes_of_numpy_as_the_reference_writes_them(tmp_path: Path) -> None:
    kinds = ["bool", "float16", "float32", "float64", "complex64"]
    kinds += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    arrays = {f"layer.{kind}": np.ones((3, 5), dtype=kind) for kind in kinds}
    arrays |= {"scalar": np.array(1, dtype=np.float32), "empty": np.ones((4, 0, 2), dtype=np.int16)}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"format": "np", "größe": "ä\n"}))

    model = reader.read(LocalFile(path))
    with safetensors.safe_open(path, "np") as peer:
        assert {t.name for t in model.tensors} == set(peer.keys())
        assert model.metadata == peer.metadata()
        assert [t.name for t in model.tensors if t.size_bytes] == [n for n in peer.offset_keys() if n != "empty"]
    for tensor in model.tensors:
        array = arrays[tensor.name]
        assert tensor.shape == array.shape
        assert tensor.size_bytes == array.nbytes == tensor.encoding.size_bytes(tensor.shape)
        assert tensor.byte_range is not None
        assert path.read_bytes()[slice(*tensor.byte_range)] == array.tobytes()
    assert model.format == "safetensors" and model.config is None
    assert sum(t.size_bytes for t in model.tensors) == model.tensor_bytes == sum(a.nbytes for a in arrays.values())
    assert model.size_bytes == path.stat().st_size and model.files[0].padding_bytes == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_the_reference(dtype: str) -> None:
    size = 8 * DTYPES[dtype] // 8
    file = pack({"w": entry(dtype, [2, 4], 0, size)}, pattern(size))
    assert by_us(file) == by_reference(file) == {"w": (dtype, (2, 4), pattern(size))}
    assert reader.DTYPES[dtype].size_bytes((2, 4)) == size
    assert set(reader.DTYPES) == set(DTYPES)


@pytest.mark.parametrize(
    ("dtype", "length"), [(d, n) for d in ("F4", "F6_E2M3", "F6_E3M2") for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 12)]
)
def test_small_elements_must_fill_whole_bytes(dtype: str, length: int) -> None:
    bits = length * DTYPES[dtype]
    for size in {bits // 8, -(-bits // 8)}:
        file = pack({"w": entry(dtype, [length], 0, size)}, pattern(size))
        assert by_us(file) == by_reference(file)
        assert (by_us(file) is not None) == (bits % 8 == 0)


TABLE = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}%s}'
LEGAL = {
    "no tensors": ("{}", 0),
    "trailing blanks": (TABLE % "" + " " * 9, 4),
    "other trailing blanks": (TABLE % "" + "\n\t\r", 4),
    "metadata only": ('{"__metadata__":{"a":"b","notes":"mine"}}', 0),
    "metadata null": (TABLE % ',"__metadata__":null', 4),
    "unknown field": (TABLE % ',"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4],"new":[1.5,{"x":null}]}', 4),
    "empty name": ('{"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4),
    "escaped dtype": (TABLE.replace("F32", "F\\u00332") % "", 4),
    "unordered": (
        '{"c":{"dtype":"U8","shape":[2],"data_offsets":[5,7]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"b":{"dtype":"I8","shape":[1],"data_offsets":[4,5]}}', 7),
    "empty tensors around": (
        '{"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
        '"z":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]},'
        '"e2":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}', 4),
    "huge but empty": ('{"a":{"dtype":"F32","shape":[0,18446744073709551615,2],"data_offsets":[0,0]}}', 0),
}  # fmt: skip
ILLEGAL = {
    "no header": ("", 0), "null": ("null", 0), "array": ("[]", 0), "trailing zero": (TABLE % "" + "\0", 4),
    "trailing value": (TABLE % "" + "{}", 4), "data left over": ("{}", 3), "data cut": (TABLE % "", 3),
    "metadata of numbers": (TABLE % ',"__metadata__":{"x":1}', 4), "metadata list": (TABLE % ',"__metadata__":[]', 4),
    "metadata false": (TABLE % ',"__metadata__":false', 4),
    "metadata of nulls": (TABLE % ',"__metadata__":{"x":null}', 4),
    "overflow on the way": ('{"a":{"dtype":"F32","shape":[18446744073709551615,2,0],"data_offsets":[0,0]}}', 0),
    "a dimension of 65 bits": ('{"a":{"dtype":"F32","shape":[0,18446744073709551616],"data_offsets":[0,0]}}', 0),
    "bits overflow": ('{"a":{"dtype":"F32","shape":[576460752303423488],"data_offsets":[0,2305843009213693952]}}', 0),
    "three offsets": (TABLE.replace("0,4", "0,4,4") % "", 4), "one offset": (TABLE.replace("0,4", "4") % "", 4),
    "offsets as text": (TABLE.replace("[0,4]", '"04"') % "", 4), "shape null": (TABLE.replace("[1]", "null") % "", 4),
    "shape object": (TABLE.replace("[1]", "{}") % "", 4), "dtype in small": (TABLE.replace("F32", "f32") % "", 4),
    "dtype a list": (TABLE.replace('"F32"', "[]") % "", 4), "dtype a number": (TABLE.replace('"F32"', "11") % "", 4),
    "entry null": (TABLE % ',"b":null', 4), "entry text": (TABLE % ',"b":"x"', 4), "entry list": (TABLE % ',"b":[]', 4),
    "empty tensor inside another": (TABLE % ',"b":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}', 4),
}  # fmt: skip


@pytest.mark.parametrize("case", LEGAL)
def test_what_the_reference_accepts(case: str) -> None:
    header, size = LEGAL[case]
    file = pack(header, pattern(size))
    assert by_reference(file) is not None
    assert by_us(file) == by_reference(file)


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_the_reference_refuses(case: str) -> None:
    header, size = ILLEGAL[case]
    file = pack(header, pattern(size))
    assert by_reference(file) is None
    assert by_us(file) is None


@pytest.mark.parametrize("depth", range(120, 131))
def test_depth_in_unknown_fields_ends_where_the_reference_ends(depth: int) -> None:
    file = pack(TABLE.replace("[0,4]", '[0,4],"new":' + "[" * (depth - 2) + "]" * (depth - 2)) % "", pattern(4))
    assert (by_us(file) is None) == (by_reference(file) is None) == (depth > 127)


REFUSED_ON_PURPOSE = {
    "a repeated tensor": TABLE % ',"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',
    "a repeated key of the metadata": TABLE % ',"__metadata__":{"x":"1","x":"2"}',
    "a repeated unknown field": TABLE.replace('"dtype"', '"new":1,"new":2,"dtype"') % "",
    "a blank before the brace": " " + TABLE % "",
    "a tensor as a list": '{"a":["F32",[1],[0,4]]}',
    "a dtype as an object": TABLE.replace('"F32"', '{"F32":null}') % "",
}
"""The format's description forbids the first four ("Duplicate keys are disallowed", "MUST begin with a `{`"), the last
two are an accident of the reference's parser, which no writer uses."""

ACCEPTED_ON_PURPOSE = {
    "minus zero": '{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}',
    "a long number in a field that nobody reads": '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"new":%s}}'
    % ("9" * 400),
}
"""Both are integers in JSON; the reference's parser makes floats of them."""


@pytest.mark.parametrize("case", REFUSED_ON_PURPOSE)
def test_stricter_than_the_reference(case: str) -> None:
    file = pack(REFUSED_ON_PURPOSE[case], pattern(4))
    assert by_reference(file) is not None
    assert by_us(file) is None


@pytest.mark.parametrize("case", ACCEPTED_ON_PURPOSE)
def test_laxer_than_the_reference(case: str) -> None:
    file = pack(ACCEPTED_ON_PURPOSE[case])
    assert by_reference(file) is None
    assert by_us(file) is not None


def differs_on_purpose(file: bytes) -> bool:
    """Whether the header has one of the differences above, found without the reader's own code."""
    text = file[8 : 8 + int.from_bytes(file[:8], "little")].decode()
    repeated = False

    def see(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        repeated |= len(dict(pairs)) != len(pairs)
        return dict(pairs)

    table = json.loads(text, object_pairs_hook=see)
    odd_form = any(isinstance(row, list) or isinstance(row.get("dtype"), dict) for row in table.values() if row)
    return repeated or odd_form or text[:1].isspace() or re.search(r"-0\s*[],}]", text) is not None


JUNK = st.sampled_from([
    "null", "true", "-1", "0", "1", "2", "4", "8", "1.0", "2e0", "-0", "1e999", "NaN", "[]", "{}", "[1]", "[0,4]",
    "[4,0]", "[0,0]", "[2,2]", "[0,4,4]", '"F32"', '"F4"', '"BF16"', '"x"', '""', '"\\ud800"', "9" * 30,
    "18446744073709551615", "[18446744073709551615,2]", "[0,18446744073709551615,2]",
    '{"F32":null}', '["F32",[1],[0,4]]', '{"x":"y"}',
])  # fmt: skip


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """A good file, then up to three changes: of a value, of a field, of single characters, of its length."""
    table: dict[str, dict[str, str]] = {}
    offset = 0
    for name in draw(
        st.lists(st.sampled_from(["a", "b", "c.weight", "ä", "", "__metadata__x"]), unique=True, max_size=4)
    ):
        dtype = draw(st.sampled_from(["F32", "BF16", "U8", "F4", "F6_E2M3", "F64"]))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        if DTYPES[dtype] < 8:
            shape.append(4)
        size = int(np.prod(shape, dtype=np.int64)) * DTYPES[dtype] // 8
        table[name] = {"dtype": f'"{dtype}"', "shape": str(shape), "data_offsets": f"[{offset},{offset + size}]"}
        offset += size
    rows = [(json.dumps(name), fields) for name, fields in table.items()]
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))
    data_change = 0
    characters = 0
    for change in draw(st.lists(st.sampled_from(["value", "drop", "add", "characters", "data"]), max_size=3)):
        if change == "data":
            data_change += draw(st.integers(-3, 3))
        elif change == "characters":
            characters += 1
        elif rows:
            fields = draw(st.sampled_from(rows))[1]
            if change == "drop":
                fields.pop(draw(st.sampled_from(["dtype", "shape", "data_offsets"])), None)
            elif change == "value":
                fields[draw(st.sampled_from(["dtype", "shape", "data_offsets"]))] = draw(JUNK)
            else:
                fields["new"] = draw(JUNK)
    parts = [f"{name}:{{{','.join(f'{json.dumps(k)}:{v}' for k, v in fields.items())}}}" for name, fields in rows]
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), '"__metadata__":' + draw(JUNK | st.just('{"format":"pt"}')))
    text = "{" + ",".join(parts) + "}" + " " * draw(st.integers(0, 8))
    for _ in range(characters):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([*'{}[]",:01-. \n\\eF', ""])) + text[at + draw(st.integers(0, 1)) :]
    return pack(text, pattern(max(0, offset + data_change)))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated_files())
def test_agrees_with_the_reference_on_mutated_files(file: bytes) -> None:
    ours, theirs = by_us(file), by_reference(file)
    if ours != theirs:
        assert differs_on_purpose(file), file


@pytest.mark.parametrize(
    "size", [*range(99_990, 100_011), *range(reader.PREFETCH_BYTES - 12, reader.PREFETCH_BYTES + 5), 2, 3, 16, 10**6]
)
@pytest.mark.parametrize("data_size", [0, 1, 5000])
def test_headers_around_every_constant(size: int, data_size: int) -> None:
    table = json.dumps({"w": entry("U8", [data_size], 0, data_size)}) if size > 80 else "{}"
    data = pattern(data_size) if size > 80 else b""
    file = pack(table.ljust(size), data)
    source = MemoryFile("a.safetensors", file)
    model = reader.read(source)
    assert model.files == (StoredFile("a.safetensors", len(file), 8 + size, len(data), 0),)
    assert [t.byte_range for t in model.tensors] == ([(8 + size, 8 + size + data_size)] if size > 80 else [])
    assert source.requests == (1 if 8 + size <= reader.PREFETCH_BYTES else 2)
    assert source.bytes_read == max(8 + size, min(len(file), reader.PREFETCH_BYTES))


class _AskedError(Exception):
    pass


class _StopsAtSecondRead:
    """A file whose header is never allocated: it tells what the second request asks for."""

    name = "a.safetensors"

    def __init__(self, length: int, size: int) -> None:
        self.size = size
        self._head = (length.to_bytes(8, "little") + b"{").ljust(reader.PREFETCH_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        if offset == 0:
            return self._head[:length]
        raise _AskedError(offset, length)


@pytest.mark.parametrize("length", [99_999_999, 100_000_000])
def test_the_longest_headers_are_read_in_two_requests(length: int) -> None:
    with pytest.raises(_AskedError) as asked:
        reader.read(_StopsAtSecondRead(length, 10**12))
    assert asked.value.args == (reader.PREFETCH_BYTES, 8 + length - reader.PREFETCH_BYTES)


@pytest.mark.parametrize("length", [100_000_001, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_longer_headers_are_refused_before_they_are_read(length: int) -> None:
    with pytest.raises(FormatError, match="declares a header of"):
        reader.read(_StopsAtSecondRead(length, 2**64 + 2**63))


@pytest.mark.parametrize("beyond", [1, 2, 1000])
def test_a_header_beyond_the_end_of_the_file_is_not_asked_for(beyond: int) -> None:
    length = 5_000_000
    with pytest.raises(FormatError, match=r"a header up to byte 5,000,008"):
        reader.read(_StopsAtSecondRead(length, 8 + length - beyond))
    with pytest.raises(_AskedError):
        reader.read(_StopsAtSecondRead(length, 8 + length))


@pytest.mark.parametrize("size", range(9))
def test_files_too_short_for_a_header(size: int) -> None:
    with pytest.raises(FormatError):
        reader.read(MemoryFile("a.safetensors", bytes(size)))


def test_a_model_of_92_000_tensors() -> None:
    count, size = 92_000, 2**23
    names = [f"model.layers.{i // 1500}.mlp.experts.{i % 1500}.down_proj.weight" for i in range(count)]
    table = {name: entry("BF16", [2048, 2048], i * size, i * size + size) for i, name in enumerate(names)}
    file = pack(table)
    source = MemoryFile("a.safetensors", file, size=len(file) + count * size)
    begin = time.process_time()
    model = reader.read(source)
    seconds = time.process_time() - begin
    assert (len(model.tensors), model.tensor_bytes, source.requests) == (count, count * size, 2)
    assert sum(t.elements for t in model.tensors) == count * 2**22
    # 0.45 CPU-s on a small virtual machine, of which 0.2 are the JSON; the bound leaves room for a busy one.
    assert seconds < 3


def test_the_digest_is_of_the_header_alone() -> None:
    one, two, other = (pack({n: entry("U8", [1], 0, 1)}, d) for n, d in (("w", b"1"), ("w", b"2"), ("v", b"1")))
    digests = [reader.read(MemoryFile("a", file)).digest for file in (one, two, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_files_own_metadata_cannot_pass_for_the_readers() -> None:
    file = pack({"__metadata__": {"notes": "mine", "index_total_size": "7", "format": "pt"}})
    assert reader.read(MemoryFile("a", file)).metadata == {
        "__metadata__.notes": "mine", "__metadata__.index_total_size": "7", "format": "pt",
    }  # fmt: skip


# Shards.


def shard(*names: str, size: int = 4, metadata: dict[str, str] | None = None) -> bytes:
    table: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    table |= {name: entry("U8", [size], i * size, i * size + size) for i, name in enumerate(names)}
    return pack(table, pattern(len(names) * size))


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHARDS = {FIRST: shard("a", "b"), SECOND: shard("c", "d")}
WEIGHT_MAP = {"a": FIRST, "b": FIRST, "c": SECOND, "d": SECOND}


def read_with_index(weight_map: Any, metadata: Any = None, files: dict[str, bytes] | None = None) -> Checkpoint:
    index = json.dumps({"weight_map": weight_map} | ({} if metadata is None else {"metadata": metadata})).encode()
    folder = MemoryFolder(dict(SHARDS if files is None else files))
    names = [name for name in folder.names() if name.endswith(".safetensors")]
    return reader.read_sharded(folder, names, MemoryFile("model.safetensors.index.json", index))


def test_shards_with_an_index_that_agrees() -> None:
    model = read_with_index(WEIGHT_MAP, {"total_size": 16, "total_parameters": 16})
    assert [(t.name, t.file) for t in model.tensors] == list(WEIGHT_MAP.items())
    assert [f.name for f in model.files] == [FIRST, SECOND]
    assert model.metadata == {"index_total_size": 16, "notes": []}
    assert model.size_bytes == sum(map(len, SHARDS.values())) and model.tensor_bytes == 16
    assert model.digest == read_with_index(dict(reversed(WEIGHT_MAP.items()))).digest


def test_shards_without_an_index() -> None:
    model = reader.read_sharded(MemoryFolder(SHARDS), [SECOND, FIRST])
    assert [t.name for t in model.tensors] == list("abcd")
    assert model.metadata == {"notes": []}


@pytest.mark.parametrize(
    ("metadata", "total", "noted"),
    [
        (None, None, None), ({}, None, None), ({"total_size": 16}, 16, None), ({"total_size": 16.0}, 16, None),
        ({"total_size": 0}, 0, "total_size 0"), ({"total_size": 20}, 20, "total_size 20, the shards hold 16"),
        ({"total_size": 16.5}, None, "no number of bytes"), ({"total_size": "16"}, None, "no number of bytes"),
        ({"total_size": -1}, None, "no number of bytes"), ({"total_size": True}, None, "no number of bytes"),
        ({"total_size": None}, None, None), ({"total_size": float("nan")}, None, "no number of bytes"),
    ],
)  # fmt: skip
def test_a_wrong_total_size_is_a_note(metadata: Any, total: int | None, noted: str | None) -> None:
    model = read_with_index(WEIGHT_MAP, metadata)
    assert model.metadata["index_total_size"] == total
    assert len(model.metadata["notes"]) == (noted is not None)
    assert noted is None or noted in model.metadata["notes"][0]


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (WEIGHT_MAP | {"e": SECOND, "f": SECOND}, "names 2 tensors that no shard holds, 'e' first"),
        ({"a": FIRST, "b": FIRST, "c": SECOND}, "hold 1 tensors that the index lacks, 'd' first"),
        (WEIGHT_MAP | {"a": SECOND}, f"misplaces 1 tensors, 'a' first, which is in {FIRST}"),
    ],
)
def test_an_index_that_disagrees_with_the_shards(weight_map: dict[str, str], message: str) -> None:
    with pytest.raises(FormatError, match=re.escape(message)):
        read_with_index(weight_map)


def test_shards_that_are_missing() -> None:
    with pytest.raises(SourceError, match=f"lacks 1 of 2 shards, {SECOND} first"):
        read_with_index(WEIGHT_MAP, files={FIRST: SHARDS[FIRST]})
    with pytest.raises(SourceError, match=f"lacks 2 of 2 shards, {FIRST} first"):
        read_with_index(WEIGHT_MAP, files={})
    for names, message in (
        ([FIRST], "lacks 1 of 2 shards, number 2 first"),
        (["m-00003-of-00005.safetensors", "m-00001-of-00005.safetensors"], "lacks 3 of 5 shards, number 2 first"),
        (["m-00000-of-00002.safetensors"], "lacks 1 of 2 shards, number 1 first"),
        (["m-00001-of-999999999.safetensors"], "lacks 999,999,998 of 999,999,999 shards, number 2 first"),
        ([FIRST, SECOND, "n-00002-of-00002.safetensors"], "lacks 1 of 2 shards, number 1 first"),
        ([], "gave no shards"),
    ):
        with pytest.raises(SourceError, match=message):
            reader.read_sharded(MemoryFolder(dict(SHARDS)), names)


@pytest.mark.parametrize(
    "names",
    [
        ["m-00003-of-00002.safetensors"],
        ["m-00001-of-00001.safetensors", "m-1-of-1.safetensors"],
        ["m-0-of-2.safetensors", "m-1-of-2.safetensors", "m-2-of-2.safetensors"],
        ["m-0-of-0.safetensors"],
    ],
)
def test_shards_numbered_wrong(names: list[str]) -> None:
    with pytest.raises(FormatError, match="keep one set"):
        reader.read_sharded(MemoryFolder({name: shard(name) for name in names}), names)


@pytest.mark.parametrize(
    "names",
    [
        ["model-00001-of-000001.safetensors"],
        ["m-0-of-2.safetensors", "m-1-of-2.safetensors"],
        ["embed.safetensors", "model-00001-model.norm.weight.safetensors"],
        ["m-1-of-2.safetensors", "m-2-of-2.safetensors", "n-1-of-1.safetensors"],
    ],
)
def test_names_of_shards_that_occur(names: list[str]) -> None:
    model = reader.read_sharded(MemoryFolder({name: shard(name) for name in names}), names)
    assert [t.name for t in model.tensors] == sorted(names)


def test_a_tensor_in_two_shards() -> None:
    files = {FIRST: shard("a", "b"), SECOND: shard("b", "c")}
    with pytest.raises(FormatError, match=f"{FIRST} and {SECOND} both hold the tensor 'b'"):
        reader.read_sharded(MemoryFolder(dict(files)), list(files))
    with pytest.raises(FormatError, match="both hold"):
        read_with_index({"a": FIRST, "b": FIRST, "c": SECOND}, files=files)


def test_files_that_the_index_does_not_name_are_left_out_with_a_note() -> None:
    model = read_with_index(WEIGHT_MAP, files=SHARDS | {"consolidated.safetensors": shard("a", "b", "c", "d")})
    assert len(model.tensors) == 4
    assert model.metadata["notes"] == [
        "1 files beside the index are not named by it and left out: consolidated.safetensors first"
    ]


def test_metadata_of_shards_is_joined_and_conflicts_are_noted() -> None:
    files = {FIRST: shard("a", metadata={"format": "pt", "x": "1"}), SECOND: shard("b", metadata={"y": "2", "x": "3"})}
    metadata = reader.read_sharded(MemoryFolder(dict(files)), list(files)).metadata
    assert {k: v for k, v in metadata.items() if k != "notes"} == {"format": "pt", "x": "1", "y": "2"}
    assert metadata["notes"] == [
        f"the shards differ in the metadata 'x', first in {SECOND}; the first shard's value is kept"
    ]


def test_an_index_with_a_second_document_behind_it() -> None:
    text = json.dumps({"metadata": {}, "weight_map": WEIGHT_MAP})
    index = reader.read_index(MemoryFile("i.json", f"\ufeff{text}\n{text}".encode()))
    assert index.weight_map == WEIGHT_MAP and index.files == (FIRST, SECOND)
    assert index.notes == (f"i.json goes on for {len(text)} characters after its first JSON value; they are ignored",)


def test_the_bounds_of_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"weight_map": WEIGHT_MAP}).encode()
    monkeypatch.setattr(reader, "MAX_INDEX_ITEMS", 8)
    assert reader.read_index(MemoryFile("i.json", text)).weight_map == WEIGHT_MAP
    monkeypatch.setattr(reader, "MAX_INDEX_ITEMS", 7)
    with pytest.raises(FormatError, match="up to 8 values"):
        reader.read_index(MemoryFile("i.json", text))
    monkeypatch.setattr(reader, "MAX_INDEX_ITEMS", 10**6)
    for bound in (len(text) - 1, len(text), len(text) + 1):
        monkeypatch.setattr(reader, "MAX_INDEX_BYTES", bound)
        source = MemoryFile("i.json", text)
        if bound < len(text):
            with pytest.raises(FormatError, match="an index of at most"):
                reader.read_index(source)
            assert source.requests == 0
        else:
            assert reader.read_index(source).weight_map == WEIGHT_MAP


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b"null", b"",
                                  b'{"weight_map": {}, "metadata": []}'])  # fmt: skip
def test_what_is_no_index(text: bytes) -> None:
    with pytest.raises(FormatError):
        reader.read_index(MemoryFile("i.json", text))


@pytest.mark.skipif(not INDEXES, reason="the published indexes are not here")
def test_published_indexes() -> None:
    assert len(INDEXES) == 17
    for path in INDEXES:
        index = reader.read_index(LocalFile(path))
        peer = json.loads(path.read_text(encoding="utf-8"))
        assert index.weight_map == peer["weight_map"] and len(index.weight_map) >= 164
        assert index.metadata == peer["metadata"] and index.total_size == peer["metadata"].get("total_size")
        assert index.notes == ()


@pytest.mark.skipif(not INDEXES, reason="the published indexes are not here")
@pytest.mark.parametrize("path", [p for p in INDEXES if "safetensors" in p.name], ids=lambda p: str(p.name[:40]))
def test_shards_made_from_a_published_index_agree_with_it(path: Path) -> None:
    index = reader.read_index(LocalFile(path))
    tensors: dict[str, list[str]] = {}
    for name, file in index.weight_map.items():
        tensors.setdefault(file, []).append(name)
    folder = MemoryFolder({file: shard(*names) for file, names in tensors.items()})
    model = reader.read_sharded(folder, list(folder.names()), LocalFile(path))
    assert {t.name: t.file for t in model.tensors} == index.weight_map
    assert len(model.metadata["notes"]) == (index.total_size is not None)
    assert reader.read_sharded(folder, list(folder.names())).tensors == model.tensors
