"""Small valid files of the binary formats, written by hand from their specifications."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence


def varint(value: int) -> bytes:
    value %= 2**64
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol-buffer message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def entry(number: int, key: str, value: bytes) -> bytes:
    """One entry of a map."""
    return field(number, field(1, key) + field(2, value))


# CTranslate2

Variable = tuple[str, tuple[int, ...], int, bytes]


def ct2_text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def ctranslate2(
    variables: Sequence[Variable], aliases: Sequence[tuple[str, str]] = (), spec: str = "TransformerSpec"
) -> bytes:
    out = struct.pack("<I", 6) + ct2_text(spec) + struct.pack("<II", 7, len(variables))
    for name, shape, number, data in variables:
        out += ct2_text(name) + struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, number, len(data)) + data
    out += struct.pack("<I", len(aliases))
    return out + b"".join(ct2_text(one) + ct2_text(other) for one, other in aliases)


SMALL_CT2 = ctranslate2(
    [("decoder/embeddings/weight", (3, 4), 1, bytes(12)), ("decoder/embeddings/weight_scale", (3,), 0, bytes(12)),
     ("decoder/layer/beta", (4,), 4, bytes(8)), ("decoder/num_heads", (), 2, bytes(2)),
     ("encoder/position_encodings/encodings", (2, 4), 0, struct.pack("<8f", 0, 0, 1, 1, 0.84, 0.1, 0.54, 0.99))],
    [("decoder/projection/weight", "decoder/embeddings/weight")],
)  # fmt: skip


# Marian

Item = tuple[str, int, tuple[int, ...], bytes]


def marian(items: Sequence[Item]) -> bytes:
    out = struct.pack("<QQ", 1, len(items))
    out += b"".join(struct.pack("<4Q", len(n) + 1, kind, len(shape), len(data)) for n, kind, shape, data in items)
    out += b"".join(name.encode() + b"\0" for name, *_ in items)
    out += b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in items)
    gap = ((len(out) + 8) // 256 + 1) * 256 - len(out) - 8
    return out + struct.pack("<Q", gap) + bytes(gap) + b"".join(data for *_, data in items)


SMALL_MARIAN = marian([
    ("Wemb", 0x4101, (8, 4), bytes(32) + struct.pack("<f", 12.5) + bytes(220)),
    ("Wemb_QuantMultA", 0x404, (1, 1), struct.pack("<f", 3.5) + bytes(252)),
    ("decoder_b", 0x404, (1, 64), bytes(256)), ("special:model.yml", 0x101, (9,), b"type: a\n\0"),
])  # fmt: skip


# fastText


def fasttext(words: Sequence[str], labels: Sequence[str], input_: bytes, output: bytes, is_quantized: bool) -> bytes:
    """A model whose matrices are given as they are stored."""
    out = struct.pack("<Ii", 793_712_314, 12) + struct.pack("<12id", 4, 5, 5, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)
    out += struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), 99, -1)
    for kind, texts in enumerate((words, labels)):
        out += b"".join(text.encode() + b"\0" + struct.pack("<qb", 7, kind) for text in texts)
    return out + bytes([is_quantized]) + input_ + b"\0" + output


def dense(rows: int, columns: int) -> bytes:
    return struct.pack("<qq", rows, columns) + bytes(4 * rows * columns)


def quantizer(columns: int, pieces: int) -> bytes:
    return struct.pack("<4i", columns, pieces, -(-columns // pieces), columns) + bytes(4 * 256 * columns)


def quantized(rows: int, columns: int, pieces: int, has_norms: bool) -> bytes:
    out = struct.pack("<?qqi", has_norms, rows, columns, rows * pieces) + bytes(rows * pieces)
    return out + quantizer(columns, pieces) + (bytes(rows) + quantizer(1, 1) if has_norms else b"")


SMALL_FASTTEXT = fasttext(["a", "bc", "</s>"], ["__label__x", "__label__y"], dense(3, 4), dense(2, 4), False)
SMALL_FTZ = fasttext(["a", "bc", "</s>"], ["__label__x", "__label__y"], quantized(3, 4, 2, True), dense(2, 4), True)


# CoreML


def blob_file(blobs: Sequence[tuple[int, bytes]]) -> tuple[bytes, list[int]]:
    """A weight file of blobs by type and data, and the offsets of their records."""
    out, offsets = struct.pack("<II", len(blobs), 2) + bytes(56), []
    for number, data in blobs:
        out += bytes(-len(out) % 64)
        offsets.append(len(out))
        out += struct.pack("<IIQQ", 0xDEADBEEF, number, len(data), len(out) + 64) + bytes(40) + data
    return out, offsets


def mil_type(number: int, shape: Sequence[int]) -> bytes:
    dims = b"".join(field(3, field(1, field(1, size))) for size in shape)
    return field(1, field(1, number) + field(2, len(shape)) + dims)


def mil_blob(number: int, shape: Sequence[int], offset: int, file: str = "@model_path/weights/weight.bin") -> bytes:
    return field(2, mil_type(number, shape)) + field(5, field(1, file) + field(2, offset))


def mil_floats(values: Sequence[float], shape: Sequence[int]) -> bytes:
    packed = struct.pack(f"<{len(values)}f", *values)
    return field(2, mil_type(11, shape)) + field(3, field(1, field(1, field(1, packed))))


def operation(
    kind: str, output: str, shape: Sequence[int] = (), inputs: Mapping[str, str] | None = None,
    attributes: Mapping[str, bytes] | None = None, values: Mapping[str, bytes] | None = None,
) -> bytes:  # fmt: skip
    out = field(1, kind)
    out += b"".join(entry(2, key, field(1, field(1, name))) for key, name in (inputs or {}).items())
    out += b"".join(entry(2, key, field(1, field(2, value))) for key, value in (values or {}).items())
    out += field(3, field(1, output) + field(2, mil_type(11, shape)))
    return out + b"".join(entry(5, key, value) for key, value in (attributes or {}).items())


def program(operations: Sequence[bytes], opset: str = "CoreML8") -> bytes:
    block = b"".join(field(3, one) for one in operations)
    function = field(2, opset) + entry(3, opset, block)
    return field(1, 9) + field(502, field(1, 1) + entry(2, "main", function))


def package(model: bytes, weights: bytes, path: str = "com.apple.CoreML/model.mlmodel") -> dict[str, bytes]:
    manifest = {"fileFormatVersion": "1.0.0", "rootModelIdentifier": "A",
                "itemInfoEntries": {"A": {"path": path}, "B": {"path": "com.apple.CoreML/weights"}}}  # fmt: skip
    return {
        "Manifest.json": json.dumps(manifest).encode(), "Data/com.apple.CoreML/model.mlmodel": model,
        "Data/com.apple.CoreML/weights/weight.bin": weights,
    }  # fmt: skip


def small_package() -> dict[str, bytes]:
    """A program with a plain, a quantized, a sparse and a palettized weight, a batch norm and settings."""
    weights, at = blob_file([(1, bytes(2 * 6)), (4, bytes(12)), (1, bytes(6)), (1, bytes(8)), (9, bytes(2)),
                             (13, bytes(9)), (2, bytes(4 * 64))])  # fmt: skip
    return package(
        program([
            operation("const", "w", (2, 3), attributes={"val": mil_blob(10, (2, 3), at[0])}),
            operation("const", "again", (2, 3), attributes={"val": mil_blob(10, (2, 3), at[0])}),
            operation("const", "mean", (2,), attributes={"val": mil_floats([0, 1], (2,))}),
            operation("const", "beta", (2,), attributes={"val": mil_floats([0, 1], (2,))}),
            operation("const", "eps", attributes={"val": mil_floats([1e-5], ())}),
            operation("batch_norm", "n", inputs={"x": "x", "mean": "mean", "beta": "beta", "epsilon": "eps"}),
            operation("constexpr_affine_dequantize", "q", (3, 4), attributes={
                "quantized_data": mil_blob(21, (3, 4), at[1]), "scale": mil_blob(10, (3,), at[2])}),
            operation("constexpr_sparse_to_dense", "s", (4, 4), values={
                "nonzero_data": mil_blob(10, (4,), at[3]), "mask": mil_blob(37, (4, 4), at[4])}),
            operation("constexpr_lut_to_dense", "p", (3, 4), values={
                "indices": mil_blob(38, (3, 4), at[5]), "lut": mil_blob(11, (1, 1, 64, 1), at[6])}),
        ]),
        weights,
    )  # fmt: skip


def network(layers: Sequence[bytes]) -> bytes:
    return field(1, 4) + field(500, b"".join(field(1, one) for one in layers))


SMALL_MLMODEL = network([
    field(1, "conv") + field(100, field(1, 4) + field(2, 3) + field(20, 3) + field(20, 3)
                             + field(90, field(1, bytes(4 * 108))) + field(91, field(2, bytes(8)))),
    field(1, "fc") + field(140, field(1, 5) + field(2, 3) + field(20, field(30, bytes(6)) + field(
        40, field(1, 3) + field(102, field(1, bytes(32)))))),
    field(1, "q") + field(140, field(1, 2) + field(2, 3) + field(20, field(30, bytes(6)) + field(
        40, field(1, 8) + field(101, field(1, bytes(12)) + field(2, bytes(12)))))),
    field(1, "norm") + field(160, field(1, 2) + b"".join(field(n, field(1, bytes(8))) for n in (15, 16, 17, 18))),
    field(1, "lstm") + field(420, field(1, 2) + field(20, field(1, field(1, bytes(24))) + field(
        40, field(1, bytes(12))))),
])  # fmt: skip


# TensorFlow


def tf_shape(shape: Sequence[int]) -> bytes:
    return b"".join(field(2, field(1, size)) for size in shape)


def block(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A block of a table, keys shortened by what they share with the one before, with its trailer."""
    out, last = b"", b""
    for key, value in rows:
        shared = next((i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1) + b"\0" + bytes(4)


def table(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    body = block(rows)
    meta = block([])
    index = block([(rows[-1][0] + b"z", varint(0) + varint(len(body) - 5))])
    footer = varint(len(body)) + varint(len(meta) - 5) + varint(len(body) + len(meta)) + varint(len(index) - 5)
    return body + meta + index + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def bundle(tensors: Mapping[str, tuple[int, Sequence[int], bytes]]) -> dict[str, bytes]:
    """A checkpoint of one data file by key: type, shape, bytes."""
    data = b""
    rows = [(b"", field(1, 1))]
    for key, (kind, shape, held) in sorted(tensors.items()):
        told = field(1, kind) + field(2, tf_shape(shape)) + field(4, len(data)) + field(5, len(held))
        rows.append((key.encode(), told))
        data += held
    return {"variables/variables.index": table(rows), "variables/variables.data-00000-of-00001": data}


def node(name: str, operation_: str, inputs: Sequence[str] = (), value: bytes | None = None) -> bytes:
    out = field(1, name) + field(2, operation_) + b"".join(field(3, one) for one in inputs)
    return out if value is None else out + entry(5, "value", field(8, value))


def tf_tensor(shape: Sequence[int], content: bytes, kind: int = 1) -> bytes:
    return field(1, kind) + field(2, tf_shape(shape)) + field(4, content)


def tf_object(children: Mapping[str, int], variable: tuple[str, bool] | None = None) -> bytes:
    out = b"".join(field(1, field(1, number) + field(2, name)) for name, number in children.items())
    if variable is not None:
        name, is_trained = variable
        out += field(7, field(1, 1) + (field(3, 1) if is_trained else b"") + field(6, name))
    return out


def saved_model(nodes: Sequence[bytes], objects: Sequence[bytes] = (), functions: Sequence[bytes] = ()) -> bytes:
    library = b"".join(field(1, function) for function in functions)
    graph = b"".join(field(1, one) for one in nodes) + (field(2, library) if library else b"")
    told = field(7, b"".join(field(1, one) for one in objects)) if objects else b""
    return field(1, 1) + field(2, field(2, graph) + told)


VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def small_saved_model() -> dict[str, bytes]:
    """A layer with a weight, an average, the state of an optimizer, and a constant that two functions hold."""
    constant = node("kernel", "Const", value=tf_tensor((2, 2), bytes(range(16))))
    function = field(1, field(1, "call")) + field(3, constant)
    objects = [tf_object({"layer": 1}), tf_object({"kernel": 2, "mean.1/2": 3}), tf_object({}, ("dense/kernel", True)),
               tf_object({}, ("dense/mean", False))]  # fmt: skip
    files = bundle({
        f"layer/kernel{VALUE}": (1, (3, 2), bytes(24)), f"layer/mean..1.S2{VALUE}": (1, (2,), bytes(8)),
        f"layer/kernel/.OPTIMIZER_SLOT/optimizer/m{VALUE}": (1, (3, 2), bytes(24)),
        f"save_counter{VALUE}": (9, (), bytes(8)), "_CHECKPOINTABLE_OBJECT_GRAPH": (7, (), b"\x03abcdhey"),
    })  # fmt: skip
    return {"saved_model.pb": saved_model([constant], objects, [function]), **files}


def small_frozen_graph() -> bytes:
    nodes = [
        node("w", "Const", value=tf_tensor((3, 2), bytes(24))),
        node("mean", "Const", value=tf_tensor((2,), bytes(8))), node("mean/read", "Identity", ["mean"]),
        node("fill", "Const", value=field(1, 1) + field(2, tf_shape((4,))) + field(5, bytes(4))),
        node("eps", "Const", value=field(1, 1) + field(2, b"") + field(5, bytes(4))),
        node("axes", "Const", value=tf_tensor((2,), bytes(8), kind=3)),
        node("norm", "FusedBatchNormV3", ["x", "g", "b", "mean/read", "v"]),
    ]  # fmt: skip
    return b"".join(field(1, one) for one in nodes)


# spaCy


def msgpack(value: object) -> bytes:
    match value:
        case None | True | False:
            return {None: b"\xc0", True: b"\xc3", False: b"\xc2"}[value]
        case int():
            return bytes([value]) if value < 128 else b"\xce" + struct.pack(">I", value)
        case str():
            return b"\xda" + struct.pack(">H", len(value.encode())) + value.encode()
        case bytes():
            return b"\xc6" + struct.pack(">I", len(value)) + value
        case list() | tuple():
            return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(msgpack, value))
        case dict():
            pairs = b"".join(msgpack(key) + msgpack(held) for key, held in value.items())
            return b"\xde" + struct.pack(">H", len(value)) + pairs
    raise TypeError(value)


def array(shape: Sequence[int], data: bytes, kind: str = "<f4") -> dict[bytes, object]:
    return {b"nd": True, b"type": kind, b"kind": b"", b"shape": list(shape), b"data": data}


def thinc(layers: Sequence[tuple[str, Mapping[str, object]]], shims: Sequence[Sequence[bytes]] = ()) -> bytes:
    nodes = [{"index": i, "name": name, "dims": {}, "refs": {}} for i, (name, _) in enumerate(layers)]
    return msgpack({"nodes": nodes, "attrs": [{} for _ in layers], "params": [dict(held) for _, held in layers],
                    "shims": [list(one) for one in shims] or [[] for _ in layers]})  # fmt: skip


def npy(shape: Sequence[int], data: bytes) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({', '.join(map(str, shape))}), }}\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text.encode() + data


SMALL_THINC = thinc(
    [("chain", {}), ("maxout", {"W": array((2, 3), bytes(24)), "b": array((2,), bytes(8)), "pad": None})]
)
SMALL_CFG = b"""[paths]
train = null

[nlp]
lang = "en"
disabled = []
pipeline = ["tok2vec","rules","tagger"]

[components]
"""


def small_pipeline() -> dict[str, bytes]:
    tagger = thinc([("listener", {}), ("softmax", {"W": array((5, 2), bytes(40))})], [[b"a" * 100], []])
    return {"config.cfg": SMALL_CFG, "meta.json": b'{"lang": "en", "name": "small", "vectors": {}}',
            "tok2vec/model": SMALL_THINC, "tok2vec/cfg": b"{}", "tagger/model": tagger, "rules/patterns": b"x",
            "vocab/vectors": npy((3, 2), bytes(24))}  # fmt: skip
