"""PyTorch zip checkpoints: built by hand as torch.save lays them out, and (with torch) written by torch.save itself."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.pickles import SIZES, Call, Global, Writer, archive, opcodes, shapes

from weighbridge.errors import FormatError
from weighbridge.formats import torch_zip
from weighbridge.formats.byte_source import LocalFile, MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.tensors import Kind


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dict_gives_its_names_shapes_and_bytes(protocol: int) -> None:
    writer = Writer()
    root = {"a.weight": writer.tensor((3, 4)), "a.bias": writer.tensor((3,), "Half"), "n": writer.tensor((), "Long")}
    source = writer.file(root, protocol)
    checkpoint = torch_zip.read(source)
    assert shapes(checkpoint) == {"a.weight": (3, 4), "a.bias": (3,), "n": ()}
    assert [tensor.encoding.name for tensor in checkpoint.tensors] == ["fp32", "fp16", "int64"]
    assert checkpoint.format == "torch" and checkpoint.config is None
    assert checkpoint.tensor_bytes == 48 + 6 + 8
    assert checkpoint.size_bytes == source.size
    assert all(tensor.byte_range is None for tensor in checkpoint.tensors)


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("Double", "fp64"), ("Float", "fp32"), ("Half", "fp16"), ("BFloat16", "bf16"), ("Long", "int64"), ("Int", "int32"),
     ("Short", "int16"), ("Char", "int8"), ("Byte", "uint8"), ("Bool", "bool"), ("ComplexFloat", "complex64"),
     ("ComplexDouble", "complex128")],
)  # fmt: skip
def test_each_storage_type_has_its_encoding(kind: str, encoding: str) -> None:
    writer = Writer()
    (tensor,) = torch_zip.read(writer.file({"x": writer.tensor((5, 2), kind)})).tensors
    assert (tensor.encoding.name, tensor.size_bytes) == (encoding, 10 * SIZES[kind])


def test_a_float8_tensor_takes_its_type_from_the_call_and_its_bytes_from_an_untyped_storage() -> None:
    writer = Writer()
    hooks = Call("collections.OrderedDict", ())
    arguments = (writer.storage(12, "Untyped"), 2, (5, 2), (2, 1), False, hooks, Global("torch.float8_e4m3fn"))
    (tensor,) = torch_zip.read(writer.file({"x": Call("torch._utils._rebuild_tensor_v3", arguments)})).tensors
    assert (tensor.encoding.name, tensor.shape, tensor.size_bytes) == ("fp8", (5, 2), 10)


def test_tensors_on_one_place_of_a_storage_are_tied_and_other_views_are_not() -> None:
    writer = Writer()
    storage = writer.storage(12)
    root = {
        "wte": writer.tensor((3, 4), storage=storage), "head": writer.tensor((3, 4), storage=storage),
        "row": writer.tensor((4,), storage=storage, offset=4),
    }  # fmt: skip
    checkpoint = torch_zip.read(writer.file(root))
    assert [tensor.tied_to for tensor in checkpoint.tensors] == [None, "wte", None]
    assert checkpoint.tensor_bytes == 48


def test_an_expanded_tensor_knows_the_bytes_that_it_stores() -> None:
    writer = Writer()
    hooks = Call("collections.OrderedDict", ())
    expanded = Call("torch._utils._rebuild_tensor_v2", (writer.storage(10), 2, (100, 8), (0, 1), False, hooks))
    source = writer.file({"mask": expanded})
    (tensor,) = torch_zip.read(source).tensors
    with zipfile.ZipFile(io.BytesIO(source.read(0, source.size))) as zipped:
        entry = zipped.getinfo("archive/data/0")
    begin = entry.header_offset + 30 + len(entry.filename) + 2 * 4
    assert (tensor.elements, tensor.size_bytes, tensor.byte_range) == (800, 32, (begin, begin + 32))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "module", "params"])
def test_a_single_wrapper_is_stripped_and_told(wrapper: str) -> None:
    writer = Writer()
    checkpoint = torch_zip.read(writer.file({"epoch": 3, wrapper: {"a": {"b": writer.tensor((2,))}}, "loss": 0.5}))
    assert shapes(checkpoint) == {"a.b": (2,)}
    assert checkpoint.metadata["wrapper"] == wrapper
    assert checkpoint.metadata["values"] == {"epoch": 3, "loss": 0.5}


def test_an_optimizer_beside_the_model_keeps_the_whole_paths() -> None:
    writer = Writer()
    root = {
        "model_state_dict": {"w": writer.tensor((2,))},
        "optimizer": {"state": {0: {"exp_avg": writer.tensor((2,))}}, "param_groups": [{"params": [0], "lr": 0.1}]},
        "history": [(1, writer.tensor((3,)))],
    }
    checkpoint = torch_zip.read(writer.file(root))
    assert list(shapes(checkpoint)) == ["model_state_dict.w", "optimizer.state.0.exp_avg", "history.0.1"]
    assert checkpoint.metadata["wrapper"] == ""
    assert [tensor.kind for tensor in checkpoint.tensors] == [Kind.PARAMETER, Kind.BUFFER, Kind.PARAMETER]
    assert any("optimizer is the state of a training run" in note for note in checkpoint.notes)


def test_an_optimizer_alone_has_no_model_to_be_beside() -> None:
    writer = Writer()
    checkpoint = torch_zip.read(writer.file({"optimizer": {"0": writer.tensor((2,))}}))
    assert [tensor.kind for tensor in checkpoint.tensors] == [Kind.PARAMETER] and checkpoint.notes == ()


def test_what_an_optimizer_saves_by_itself_is_no_parameter() -> None:
    writer = Writer()
    state = {0: {"step": writer.tensor(()), "exp_avg": writer.tensor((2, 3))}}
    checkpoint = torch_zip.read(writer.file({"state": state, "param_groups": [{"lr": 0.1, "params": [0]}]}))
    assert [tensor.kind for tensor in checkpoint.tensors] == [Kind.BUFFER] * 2
    assert checkpoint.notes == ("what lies under state is the state of a training run, no parameters",)


def test_shards_are_joined_with_their_notes_and_foreign_names() -> None:
    first, second = Writer(), Writer()
    files = {
        "m-00001-of-00002.bin": first.file({"a": first.tensor((2,)), "x": Call("mine.Thing", ())}),
        "m-00002-of-00002.bin": second.file({"b": second.tensor((3,)), "optimizer": {"m": second.tensor((3,))}}),
    }
    folder = MemoryFolder({name: file.read(0, file.size) for name, file in files.items()})
    checkpoint = torch_zip.read_sharded(folder, list(files))
    assert {tensor.name: (tensor.file, tensor.kind) for tensor in checkpoint.tensors} == {
        "a": ("m-00001-of-00002.bin", Kind.PARAMETER),
        "b": ("m-00002-of-00002.bin", Kind.PARAMETER),
        "optimizer.m": ("m-00002-of-00002.bin", Kind.BUFFER),
    }
    assert checkpoint.metadata["foreign_names"] == ("mine.Thing",) and checkpoint.byte_order == "little"
    assert checkpoint.notes == ("what lies under optimizer is the state of a training run, no parameters",)


def test_big_endian_shards_are_told_as_such_and_not_mixed() -> None:
    contents = {}
    for name, order in (("m-00001-of-00002.bin", "big"), ("m-00002-of-00002.bin", "big"), ("little.bin", "little")):
        writer = Writer()
        with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
            zipped.writestr("archive/data.pkl", opcodes({name: writer.tensor((2,))}))
            zipped.writestr("archive/data/0", bytes(8))
            zipped.writestr("archive/byteorder", order)
        contents[name] = file.getvalue()
    folder = MemoryFolder(contents)
    assert torch_zip.read_sharded(folder, ["m-00001-of-00002.bin", "m-00002-of-00002.bin"]).byte_order == "big"
    with pytest.raises(FormatError, match="some shards are little-endian and some big-endian"):
        torch_zip.read_sharded(folder, ["m-00001-of-00002.bin", "little.bin"])


def test_a_lone_tensor_has_a_name() -> None:
    writer = Writer()
    assert shapes(torch_zip.read(writer.file(writer.tensor((2, 2))))) == {"tensor": (2, 2)}


def test_a_tensor_called_like_a_wrapper_keeps_its_name() -> None:
    writer = Writer()
    assert shapes(torch_zip.read(writer.file({"model": writer.tensor((2,))}))) == {"model": (2,)}


def test_parameters_and_subclasses_are_their_tensors() -> None:
    writer = Writer()
    hooks = Call("collections.OrderedDict", ())
    parameter = Call("torch._utils._rebuild_parameter", (writer.tensor((2, 3)), True, hooks))
    stateful = Call("torch._utils._rebuild_parameter_with_state", (writer.tensor((3,)), True, hooks, {"note": 1}))
    inner = writer.tensor((4,))
    subclass = Call(
        "torch._tensor._rebuild_from_type_v2",
        (
            Global("torch._utils._rebuild_tensor_v2"),
            Global("torch.nn.parameter.Parameter"),
            inner.arguments,
            {"note": 1},
        ),
    )
    checkpoint = torch_zip.read(writer.file({"a": parameter, "b": stateful, "c": subclass}))
    assert shapes(checkpoint) == {"a": (2, 3), "b": (3,), "c": (4,)}
    assert checkpoint.metadata["foreign_names"] == ()


def test_a_whole_pickled_module_has_the_names_of_its_state_dict() -> None:
    writer = Writer()

    def module(name: str, **parts: Any) -> Call:
        empty = {f"_{part}": parts.get(part, {}) for part in ("parameters", "buffers", "modules")}
        return Call(name, (), {"training": True, **empty})

    norm = module("torch.nn.Norm", parameters={"weight": writer.tensor((4,))}, buffers={"mean": writer.tensor((4,))})
    root = module(
        "zoo.Net", parameters={"scale": writer.tensor(())}, modules={"layers": module("zoo.L", modules={"0": norm})}
    )
    checkpoint = torch_zip.read(writer.file(root))
    assert shapes(checkpoint) == {"scale": (), "layers.0.weight": (4,), "layers.0.mean": (4,)}
    assert [tensor.kind for tensor in checkpoint.tensors] == [Kind.PARAMETER, Kind.PARAMETER, Kind.BUFFER]
    assert checkpoint.metadata["foreign_names"] == ("torch.nn.Norm", "zoo.L", "zoo.Net")


def test_foreign_names_beside_tensors_are_listed_and_harmless_ones_are_not() -> None:
    writer = Writer()
    root = {
        "w": writer.tensor((2,)), "args": Call("argparse.Namespace", (), {"lr": 1}),
        "size": Call("torch.Size", ((2,),)), "config": Call("project.Config", (3,)), "kind": Global("torch.float32"),
    }  # fmt: skip
    checkpoint = torch_zip.read(writer.file(root))
    assert checkpoint.metadata["foreign_names"] == ("project.Config",)
    assert list(shapes(checkpoint)) == ["w"]


def test_a_dict_reached_twice_is_walked_once_and_told() -> None:
    writer = Writer()
    tensor = opcodes(writer.tensor((2,)))[2:-1]
    # {"ema": d, "net": d} with d in the memo.
    data = b"\x80\x02}(X\x03\0\0\0ema}q\x00(X\x01\0\0\0w" + tensor + b"uX\x03\0\0\0neth\x00u."
    checkpoint = torch_zip.read(archive(data, writer.storages))
    assert list(shapes(checkpoint)) == ["ema.w"]
    assert checkpoint.metadata["aliases"] == {"net": "ema"}


def test_storages_that_no_tensor_uses_are_counted() -> None:
    writer = Writer()
    root = {"w": writer.tensor((2,)), "bare": writer.storage(7)}
    checkpoint = torch_zip.read(writer.file(root))
    assert checkpoint.metadata["unnamed_storages"] == 1
    assert checkpoint.tensor_bytes == 8 + 28


def test_an_empty_dict_is_a_checkpoint_without_tensors() -> None:
    assert torch_zip.read(Writer().file({})).tensors == ()


def test_a_deflated_archive_reads_as_well() -> None:
    writer = Writer()
    root = {"w": writer.tensor((100, 100))}
    checkpoint = torch_zip.read(writer.file(root, compression=zipfile.ZIP_DEFLATED))
    assert shapes(checkpoint) == {"w": (100, 100)}
    assert checkpoint.tensors[0].size_bytes == 40_000
    assert checkpoint.tensor_bytes < 40_000


def test_the_weights_are_never_read_and_the_requests_are_few() -> None:
    writer = Writer()
    source = writer.file({f"layer.{i}": writer.tensor((1000, 100)) for i in range(20)})
    torch_zip.read(source)
    assert source.requests <= 5
    assert source.bytes_read < 100_000 < source.size


def test_the_digest_is_that_of_the_directory_and_the_pickle() -> None:
    writer = Writer()
    root = {"w": writer.tensor((2,))}
    source = writer.file(root)
    raw = source.read(0, source.size)
    size, offset = struct.unpack_from("<2L", raw, len(raw) - 10)
    assert torch_zip.read(source).digest == hashlib.sha256(raw[offset : offset + size] + opcodes(root)).hexdigest()


def test_padding_is_what_aligns_the_storages() -> None:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        writer = Writer()
        zipped.writestr("archive/data.pkl", opcodes({"w": writer.tensor((4,))}))
        entry = zipfile.ZipInfo("archive/data/0")
        entry.extra = b"FB\x1c\x00" + bytes(28)
        zipped.writestr(entry, bytes(16))
    (stored,) = torch_zip.read(MemoryFile("model.pt", file.getvalue())).files
    assert (stored.tensor_bytes, stored.padding_bytes) == (16, 32)


def refused(source: MemoryFile) -> str:
    with pytest.raises(FormatError) as error:
        torch_zip.read(source)
    assert error.value.action
    return str(error.value)


@pytest.mark.parametrize("content", [b"", b"P", b"GGUF" + bytes(100), b"\x80\x04]\x94.", b"PK\3\4" + bytes(50)])
def test_other_files_are_refused(content: bytes) -> None:
    refused(MemoryFile("model.bin", content))


def test_a_zip_of_something_else_is_refused() -> None:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("word/document.xml", "<a/>")
    assert "data.pkl" in refused(MemoryFile("model.pt", file.getvalue()))


@pytest.mark.torch
class TestWithTorch:
    """The same on files that torch.save writes."""

    def saved(self, value: Any, path: Path, **options: Any) -> Checkpoint:
        torch = pytest.importorskip("torch")
        torch.save(value, path / "model.pt", **options)
        return torch_zip.read(LocalFile(path / "model.pt"))

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_every_type_has_its_size(self, protocol: int, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        kinds = [
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
            torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn,
            torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.uint16, torch.uint32, torch.uint64,
        ]  # fmt: skip
        values = {str(kind): torch.empty((3, 5), dtype=kind) for kind in kinds}
        checkpoint = self.saved(values, tmp_path, pickle_protocol=protocol)
        assert {t.name: t.size_bytes for t in checkpoint.tensors} == {k: v.nbytes for k, v in values.items()}
        assert checkpoint.tensor_bytes == sum(value.nbytes for value in values.values())
        assert checkpoint.metadata["foreign_names"] == ()

    def test_ties_views_parameters_and_empty_tensors(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        base = torch.zeros(6, 4)
        values = {
            "a": base, "b": base, "row": base[2], "turned": base.T, "wide": torch.zeros(7).expand(5, 7),
            "part": base[1:3], "empty": torch.empty(0, 3), "scalar": torch.tensor(1.0),
            "parameter": torch.nn.Parameter(torch.zeros(2)),
        }  # fmt: skip
        checkpoint = self.saved(values, tmp_path)
        assert shapes(checkpoint) == {name: tuple(value.shape) for name, value in values.items()}
        assert {t.name: t.tied_to for t in checkpoint.tensors if t.tied_to} == {"b": "a"}
        assert checkpoint.tensor_bytes == 96 + 28 + 0 + 4 + 8
        wide = next(t for t in checkpoint.tensors if t.name == "wide")
        assert wide.byte_range is not None and wide.size_bytes == 28
        raw = (tmp_path / "model.pt").read_bytes()[slice(*wide.byte_range)]
        assert raw == bytes(28)

    def test_the_padding_is_that_of_the_local_headers(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        checkpoint = self.saved({str(i): torch.zeros(i) for i in range(20)}, tmp_path)
        raw = (tmp_path / "model.pt").read_bytes()
        with zipfile.ZipFile(tmp_path / "model.pt") as zipped:
            extra = [
                struct.unpack_from("<H", raw, e.header_offset + 28)[0]
                for e in zipped.infolist()
                if "/data/" in e.filename
            ]
        assert checkpoint.files[0].padding_bytes == sum(extra) > 0

    def test_an_optimizer_checkpoint(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.zeros(2, 3)).sum().backward()
        optimizer.step()
        checkpoint = self.saved(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2}, tmp_path
        )
        found = shapes(checkpoint)
        assert {n: s for n, s in found.items() if n.startswith("model.")} == {
            f"model.{n}": tuple(t.shape) for n, t in model.state_dict().items()
        }
        assert found["optimizer.state.0.exp_avg"] == (4, 3)
        assert checkpoint.metadata["values"] == {"epoch": 2}

    def test_a_whole_module_has_the_names_of_its_state_dict(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        model = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
        checkpoint = self.saved(model, tmp_path)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        assert shapes(checkpoint) == expected
        assert "torch.nn.modules.sparse.Embedding" in checkpoint.metadata["foreign_names"]

    def test_sparse_and_quantized_tensors_give_their_parts(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        quantized = torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8)
        checkpoint = self.saved({"s": torch.eye(3).to_sparse(), "q": quantized, "w": torch.zeros(2)}, tmp_path)
        assert shapes(checkpoint) == {"s.0": (2, 3), "s.1": (3,), "q": (4,), "w": (2,)}
        assert [t.encoding.name for t in checkpoint.tensors] == ["int64", "fp32", "int8", "fp32"]

    def test_a_meta_tensor_is_refused(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        with pytest.raises(FormatError, match="meta"):
            self.saved({"w": torch.empty(3, device="meta")}, tmp_path)

    def test_a_file_without_checksums_is_read(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(False)
        try:
            assert shapes(self.saved({"w": torch.zeros(3)}, tmp_path)) == {"w": (3,)}
        finally:
            torch.serialization.set_crc32_options(before)
