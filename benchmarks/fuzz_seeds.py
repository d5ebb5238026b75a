"""Which readers are fuzzed, and with which small valid files does each begin?"""

from __future__ import annotations

import gzip
import io
import json
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.formats import small_binaries as small
from tests.pickles import Call, LegacyWriter, Writer, opcodes, script_archive

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import packed, reader
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder, check_range

GOLDEN = Path(__file__).resolve().parent.parent / "tests/golden/formats"
HUGE_BYTES = 2**40
MOST_BYTES = 100_000_000


class SparseFile(MemoryFile):
    """A file of a terabyte that holds the given bytes and then zeros; refuses to be read in large pieces."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name, data, HUGE_BYTES)
        self._held = data

    def read(self, offset: int, length: int) -> bytes:
        """The bytes, or zeros."""
        check_range(self.name, self.size, offset, length)
        assert length <= MOST_BYTES, f"asks for {length:,} bytes at once"
        return self._held[offset : offset + length].ljust(length, b"\0")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader under test: valid folders, the file of them that is changed, the modules to watch.

    `entry` is the file that the reader is given, where it is another one. The neighbours are those of the first folder.
    """

    changed: str
    modules: tuple[str, ...]
    folders: Callable[[], list[Mapping[str, bytes]]]
    entry: str = ""

    def seeds(self) -> list[bytes]:
        """The file as it stands in each of the folders."""
        return [folder[self.changed] for folder in self.folders()]

    def read(self, data: bytes) -> None:
        """Reads the input as such a file; one in eight claims to be huge."""
        huge = len(data) > 0 and data[-1] % 8 == 1
        file = SparseFile(self.changed, data) if huge else MemoryFile(self.changed, data)
        folder = MemoryFolder({**_neighbours(self), self.changed: file})
        try:
            checkpoint = packed.unpacked(reader.read_file(folder, self.entry or self.changed), folder)
            assert all(min(tensor.shape, default=0) >= 0 for tensor in checkpoint.tensors)
        except WeighbridgeError as error:
            assert str(error).isprintable()


@cache
def _neighbours(target: Target) -> Mapping[str, bytes]:
    return target.folders()[0]


def alone(name: str, seeds: Callable[[], list[bytes]]) -> Callable[[], list[Mapping[str, bytes]]]:
    """Folders with nothing but one file."""
    return lambda: [{name: seed} for seed in seeds()]


def golden(*names: str) -> list[bytes]:
    """Small files that the reference libraries wrote."""
    files = [GOLDEN / name for name in names]
    return [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]


def safetensors_file(header: object) -> bytes:
    """A safetensors file with this header and no data but what it says."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def _safetensors() -> list[bytes]:
    tensors = {
        "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
        "__metadata__": {"format": "pt"},
    }
    return [safetensors_file(tensors) + bytes(26), safetensors_file({})]


def _config() -> list[bytes]:
    shape = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 128, "vocab_size": 100}  # fmt: skip
    return [json.dumps(shape).encode(), json.dumps({"weight_map": {"a": "b.safetensors"}}).encode()]


def _gguf() -> list[bytes]:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    pairs = [(b"general.architecture", 8, text(b"llama")), (b"llama.block_count", 4, struct.pack("<I", 1)),
             (b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"b"))]  # fmt: skip
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    head += text(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    return [head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(68 + 28)]


def _pickle() -> bytes:
    """The data.pkl of a state dict with one tensor."""
    return (
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
        b"X\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\0K\x02K\x03\x86K\x03K\x01\x86\x89"
        b"ccollections\nOrderedDict\n)RtRs."
    )


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of stored files; their checksums are zero, which readers take for "none", so that changes pass."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return without_checksums(made.getvalue())


def without_checksums(archived: bytes) -> bytes:
    """The archive with its checksums set to zero."""
    raw = bytearray(archived)
    for signature, at_crc in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        place = raw.find(signature)
        while place >= 0:
            raw[place + at_crc : place + at_crc + 4] = bytes(4)
            place = raw.find(signature, place + 4)
    return bytes(raw)


def _torch() -> list[bytes]:
    return [archive({"archive/data.pkl": _pickle(), "archive/data/0": bytes(24), "archive/version": b"3\n"})]


def _index() -> list[Mapping[str, bytes]]:
    shard = safetensors_file({"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})
    index = json.dumps({"metadata": {"total_size": 0}, "weight_map": {"a": "b.safetensors"}}).encode()
    return [{"model.safetensors.index.json": index, "b.safetensors": shard}]


def _adapter() -> list[Mapping[str, bytes]]:
    text = json.dumps({"peft_type": "LORA", "target_modules": ["q"], "base_model_name_or_path": "a/b"}).encode()
    header = {"base_model.model.q.lora_A.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}
    return [{"adapter_config.json": text, "adapter_model.safetensors": safetensors_file(header) + bytes(12)}]


def _modules() -> list[Mapping[str, bytes]]:
    text = json.dumps([{"path": "", "type": "a.Transformer"}, {"path": "2_Dense", "type": "a.Dense"}]).encode()
    header = {"linear.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}
    weights = safetensors_file(header) + bytes(12)
    return [{"modules.json": text, "model.safetensors": weights, "2_Dense/model.safetensors": weights}]


def _packed() -> list[Mapping[str, bytes]]:
    text = json.dumps(
        {
            "model_type": "x",
            "quantization_config": {
                "quant_method": "gptq",
                "bits": 4,
                "group_size": 8,
                "sym": True,
                "desc_act": False,
                "modules_to_not_convert": ["a"],
            },
        }
    ).encode()
    sizes = {
        "w.qweight": ("I32", [2, 8]),
        "w.qzeros": ("I32", [2, 1]),
        "w.scales": ("F16", [2, 8]),
        "w.g_idx": ("I32", [16]),
    }
    header, at = {}, 0
    for name, (kind, shape) in sizes.items():
        size = math.prod(shape) * (2 if kind == "F16" else 4)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return [{"config.json": text, "model.safetensors": safetensors_file(header) + bytes(at)}]


def _legacy() -> list[bytes]:
    writer = LegacyWriter()
    return [writer.raw({"state_dict": {"a.weight": writer.tensor((2, 3)), "b": writer.tensor((4,), "Half")}})]


def _script() -> list[bytes]:
    writer = Writer()
    linear = Call("__torch__.Linear", (), {"weight": writer.tensor((2, 3)), "bias": writer.tensor((2,))})
    storages = {f"data/{key}": bytes(size) for key, size in writer.storages.items()}
    code = {"__torch__.py": 'class Linear(Module):\n  __parameters__ = ["weight", ]\n  __buffers__ = ["bias", ]\n'}
    made = script_archive(opcodes(Call("__torch__.Net", (), {"fc": linear})), storages=storages, code=code)
    return [without_checksums(made.read(0, made.size))]


def _pickles() -> list[bytes]:
    import numpy as np

    value = {"coef_": np.ones((2, 3)), "classes_": np.arange(3), "more": [np.float32(1.0), np.zeros(4, "f2")]}
    return [pickle.dumps(value, protocol) for protocol in (2, 4, 5)] + [zlib.compress(pickle.dumps(value, 4))]


def _onnx() -> list[bytes]:
    import numpy as np
    from onnx import helper, numpy_helper

    def tensor(name: str, *shape: int, kind: str = "float32") -> Any:
        return numpy_helper.from_array(np.ones(shape, kind), name)

    def made(nodes: list[Any], tensors: list[Any]) -> bytes:
        graph = helper.make_graph(nodes, "g", [], [], tensors)
        data: bytes = helper.make_model(graph).SerializeToString()
        return data

    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor("", 2, 2))], "then", [], [])
    plain = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
        helper.make_node("If", ["y"], ["z"], then_branch=inner, else_branch=inner),
    ]
    packed = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]), helper.make_node("Gemm", ["x", "w"], ["y"])]
    integers = [tensor("q", 4, 3, kind="int8"), tensor("s"), tensor("z", kind="int8")]
    return [made(plain, [tensor("w", 3, 4), tensor("b", 4)]), made(packed, integers)]


def _openvino() -> list[Mapping[str, bytes]]:
    weights = b'<data element_type="f32" shape="2,3" offset="0" size="24"/>'
    out = b'<output><port id="0"><dim>2</dim></port></output>'
    both = b'<input><port id="0"/><port id="1"/></input><output><port id="2"/></output>'
    edge = b'<edge from-layer="0" from-port="0" to-layer="1" to-port="1"/>'
    net = (
        b'<net version="11"><layers><layer id="0" type="Const">'
        + weights
        + out
        + b'</layer><layer id="1" type="MatMul">'
        + both
        + b"</layer></layers><edges>"
        + edge
        + b"</edges></net>"
    )
    return [{"m.xml": net, "m.bin": bytes(24)}]


def _npz() -> list[bytes]:
    import numpy as np

    made = io.BytesIO()
    np.save(made, np.ones((2, 3), "float32"))
    packed = io.BytesIO()
    np.savez_compressed(packed, a=np.ones(4))
    return [archive({"a.npy": made.getvalue(), "b/c.npy": made.getvalue()}), packed.getvalue()]


PICKLES = ("torch_pickle", "torch_storages", "pickle_stream", "pickle_symbols")
HDF5 = ("hdf5", "hdf5_blocks", "hdf5_storage", "hdf5_types", "keras")
WIRE = ("protobuf", "binary_cursor")
TARGETS: dict[str, Target] = {
    "config": Target("config.json", ("config", "json_text"), alone("config.json", _config)),
    "index": Target("model.safetensors.index.json", ("safetensors",), _index),
    "adapter": Target("adapter_config.json", ("peft", "config"), _adapter, entry="adapter_model.safetensors"),
    "safetensors": Target("a.safetensors", ("safetensors", "json_text"), alone("a.safetensors", _safetensors)),
    "gguf": Target("a.gguf", ("gguf",), alone("a.gguf", _gguf)),
    "torch": Target("a.pt", ("zip_archive", "torch_zip", "torch_pickle"), alone("a.pt", _torch)),
    "torch_legacy": Target("a.pth", ("torch_legacy", *PICKLES), alone("a.pth", _legacy)),
    "torchscript": Target("a.jit", ("torchscript", "zip_archive", *PICKLES), alone("a.jit", _script)),
    "pickle": Target("a.joblib", ("pickled_arrays", *PICKLES), alone("a.joblib", _pickles)),
    "modules": Target("modules.json", ("sentence_transformers",), _modules),
    "packed_config": Target("config.json", ("packed",), _packed, entry="model.safetensors"),
    "packed": Target("model.safetensors", ("packed", "safetensors"), _packed),
    "onnx": Target("a.onnx", ("onnx", "graph_constants", *WIRE), alone("a.onnx", _onnx)),
    "openvino": Target("m.xml", ("openvino", "graph_constants"), _openvino),
    "keras": Target("a.h5", HDF5, alone("a.h5", partial(golden, "keras2.h5.gz", "keras3_whole.h5.gz"))),
    "keras_archive": Target("a.keras", ("zip_archive", *HDF5), alone("a.keras", partial(golden, "keras3.keras.gz"))),
    "npz": Target("a.npz", ("npz", "zip_archive"), alone("a.npz", _npz)),
    "tflite": Target("a.tflite", ("tflite", "flatbuffer"),
                     alone("a.tflite", partial(golden, "quantized.tflite", "large.tflite"))),
    "ctranslate2": Target("model.bin", ("ctranslate2", *WIRE), alone("model.bin", lambda: [small.SMALL_CT2])),
    "marian": Target("model.bin", ("marian", *WIRE), alone("model.bin", lambda: [small.SMALL_MARIAN])),
    "fasttext": Target("a.ftz", ("fasttext", *WIRE),
                       alone("a.ftz", lambda: [small.SMALL_FTZ, small.SMALL_FASTTEXT])),
    "coreml": Target("a.mlmodel", ("coreml", "coreml_network", *WIRE),
                     alone("a.mlmodel", lambda: [small.SMALL_MLMODEL])),
    "coreml_package": Target("Data/com.apple.CoreML/model.mlmodel", ("coreml", "coreml_program", *WIRE),
                             lambda: [small.small_package()], entry="Manifest.json"),
    "saved_model": Target("saved_model.pb", ("saved_model", "tensorflow_graph", *WIRE),
                          lambda: [small.small_saved_model(), {"saved_model.pb": small.small_frozen_graph()}]),
    "tensor_bundle": Target("variables/variables.index", ("tensor_bundle", *WIRE),
                            lambda: [small.small_saved_model()], entry="saved_model.pb"),
    "spacy": Target("tagger/model", ("spacy", "msgpack"), lambda: [small.small_pipeline()], entry="config.cfg"),
}  # fmt: skip
"""The targets by the names of their readers."""
