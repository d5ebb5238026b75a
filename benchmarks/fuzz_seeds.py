"""Which readers are fuzzed, and with which small valid files does each begin?"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import reader
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder, check_range

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
    """A reader under test: the file's name, its valid neighbours, the modules to watch, and its first inputs."""

    name: str
    modules: tuple[str, ...]
    seeds: Callable[[], list[bytes]]
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def read(self, data: bytes) -> None:
        """Reads the input as such a file; one in eight claims to be huge."""
        huge = len(data) > 0 and data[-1] % 8 == 1
        file = SparseFile(self.name, data) if huge else MemoryFile(self.name, data)
        folder = MemoryFolder({**self.beside, self.name: file})
        try:
            checkpoint = reader.read_file(folder, self.name)
            assert all(min(tensor.shape, default=0) >= 0 for tensor in checkpoint.tensors)
        except WeighbridgeError as error:
            assert str(error).isprintable()


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
    raw = bytearray(made.getvalue())
    for signature, at_crc in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        place = raw.find(signature)
        while place >= 0:
            raw[place + at_crc : place + at_crc + 4] = bytes(4)
            place = raw.find(signature, place + 4)
    return bytes(raw)


def _torch() -> list[bytes]:
    return [archive({"archive/data.pkl": _pickle(), "archive/data/0": bytes(24), "archive/version": b"3\n"})]


TARGETS: dict[str, Target] = {
    "config": Target("config.json", ("config", "json_text"), _config),
    "index": Target("model.safetensors.index.json", ("safetensors",), _config,
                    {"b.safetensors": safetensors_file({"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})}),
    "safetensors": Target("model.safetensors", ("safetensors", "json_text"), _safetensors),
    "gguf": Target("model.gguf", ("gguf",), _gguf),
    "torch": Target("model.pt", ("zip_archive", "torch_zip", "torch_pickle"), _torch),
}  # fmt: skip
"""The targets by the names of their readers."""
