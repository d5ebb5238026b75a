"""Pickles and archives of PyTorch, written by hand as torch.save lays them out."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

from weighbridge.formats.byte_source import MemoryFile
from weighbridge.formats.checkpoint import Checkpoint


@dataclass(frozen=True)
class Call:
    """A REDUCE of the global `function` on `arguments`, with an optional BUILD of `state`."""

    function: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class Global:
    name: str


@dataclass(frozen=True)
class Stored:
    """A persistent id."""

    value: tuple[Any, ...]


def opcodes(value: Any, protocol: int = 2) -> bytes:
    """A value as pickle opcodes, without a memo."""

    def walk(value: Any) -> bytes:
        match value:
            case Call(function, arguments, state):
                built = walk(state) + b"b" if state is not None else b""
                return walk(Global(function)) + walk(arguments) + b"R" + built
            case Global(name):
                module, _, last = name.rpartition(".")
                if protocol >= 4:
                    return walk(module) + walk(last) + b"\x93"
                return f"c{module}\n{last}\n".encode()
            case Stored(inner):
                return walk(inner) + b"Q"
            case dict():
                return b"}(" + b"".join(walk(k) + walk(v) for k, v in value.items()) + b"u"
            case list():
                return b"](" + b"".join(map(walk, value)) + b"e"
            case tuple():
                return b"(" + b"".join(map(walk, value)) + b"t"
            case str():
                text = value.encode()
                if protocol >= 4:
                    return b"\x8c" + bytes([len(text)]) + text
                return b"X" + struct.pack("<I", len(text)) + text
            case _:
                return pickle.dumps(value, 2)[2:-1]

    frame = walk(value) + b"."
    head = b"\x80" + bytes([protocol])
    return head + b"\x95" + struct.pack("<Q", len(frame)) + frame if protocol >= 4 else head + frame


SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
         "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16, "Untyped": 1, "QInt8": 1}  # fmt: skip


class Writer:
    """Makes storages and the tensors on them, and the file that torch.save would write."""

    def __init__(self) -> None:
        self.storages: dict[str, int] = {}
        self.items: dict[str, int] = {}

    def storage(self, elements: int, kind: str = "Float") -> Stored:
        key = str(len(self.storages))
        self.storages[key] = elements * SIZES[kind]
        self.items[key] = SIZES[kind]
        module = "torch.storage" if kind == "Untyped" else "torch"
        return Stored(("storage", Global(f"{module}.{kind}Storage"), key, "cpu", elements))

    def tensor(
        self, shape: tuple[int, ...], kind: str = "Float", storage: Stored | None = None, offset: int = 0
    ) -> Call:
        stride = [1]
        for n in reversed(shape[1:]):
            stride.insert(0, stride[0] * n)
        elements = stride[0] * shape[0] if shape else 1
        hooks = Call("collections.OrderedDict", ())
        arguments = (storage or self.storage(elements, kind), offset, shape, tuple(stride)[: len(shape)], False, hooks)
        return Call("torch._utils._rebuild_tensor_v2", arguments)

    def file(self, root: Any, protocol: int = 2, **options: Any) -> MemoryFile:
        return archive(opcodes(root, protocol), self.storages, **options)


def archive(
    data: bytes, storages: dict[str, int], compression: int = zipfile.ZIP_STORED, others: tuple[str, ...] = ()
) -> MemoryFile:
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as zipped:
        zipped.writestr("archive/data.pkl", data)
        for key, size in storages.items():
            zipped.writestr(f"archive/data/{key}", bytes(size))
        for name in ("version", *others):
            zipped.writestr(f"archive/{name}", "3\n")
    return MemoryFile("model.pt", file.getvalue())


def shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in checkpoint.tensors}


LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class LegacyWriter(Writer):
    """The same for the format before torch 1.6: five pickles, then the storages, whose bytes count up."""

    def storage(self, elements: int, kind: str = "Float", part: tuple[str, int, int] | None = None) -> Stored:
        return Stored((*super().storage(elements, kind).value, part))

    def raw(self, root: Any, protocol: int = 2) -> bytes:
        out = LEGACY_MAGIC + opcodes(1001, protocol) + opcodes({"little_endian": True}, protocol)
        out += opcodes(root, protocol) + opcodes(list(self.storages), protocol)
        for key, size in self.storages.items():
            out += self.count(key).to_bytes(8, "little") + bytes(i % 251 for i in range(size))
        return out

    def file(self, root: Any, protocol: int = 2, **options: Any) -> MemoryFile:
        return MemoryFile("old.pt", self.raw(root, protocol))

    def count(self, key: str) -> int:
        return self.storages[key] // self.items[key]


def script_archive(
    data: bytes, constants: bytes = b"\x80\x02).", storages: dict[str, bytes] | None = None,
    code: dict[str, str] | None = None, others: tuple[str, ...] = (),
) -> MemoryFile:  # fmt: skip
    """A TorchScript archive; `storages` by their entries such as `data/0`, `code` by its paths below `code/`."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        for key, content in (storages or {}).items():
            zipped.writestr(f"net/{key}", content)
        zipped.writestr("net/data.pkl", data)
        for path, text in (code or {}).items():
            zipped.writestr(f"net/code/{path}", text)
        zipped.writestr("net/constants.pkl", constants)
        for name in others:
            zipped.writestr(f"net/{name}", "x")
    return MemoryFile("net.jit", file.getvalue())
