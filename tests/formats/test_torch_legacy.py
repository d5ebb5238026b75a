"""PyTorch files from before torch 1.6: built by hand as torch.save laid them out, and (with torch) written by it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.pickles import LEGACY_MAGIC, Call, Global, LegacyWriter, Stored, shapes

from weighbridge.errors import FormatError
from weighbridge.formats import contents, torch_zip
from weighbridge.formats.byte_source import LocalFolder, MemoryFile
from weighbridge.model.tensors import Kind


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dict_gives_names_shapes_and_every_byte(protocol: int) -> None:
    writer = LegacyWriter()
    root = {"a.weight": writer.tensor((3, 4)), "a.bias": writer.tensor((3,), "Half"), "n": writer.tensor((), "Long")}
    source = writer.file(root, protocol)
    checkpoint = torch_zip.read(source)
    assert shapes(checkpoint) == {"a.weight": (3, 4), "a.bias": (3,), "n": ()}
    assert [tensor.encoding.name for tensor in checkpoint.tensors] == ["fp32", "fp16", "int64"]
    (file,) = checkpoint.files
    assert (checkpoint.format, file.tensor_bytes, file.padding_bytes) == ("torch", 48 + 6 + 8, 0)
    assert file.size_bytes == source.size


def test_each_byte_range_is_that_of_the_elements() -> None:
    writer = LegacyWriter()
    root = {"a": writer.tensor((3, 4)), "b": writer.tensor((5,), "Half")}
    raw = writer.raw(root)
    a, b = torch_zip.read(MemoryFile("old.pt", raw)).tensors
    assert a.byte_range is not None and b.byte_range is not None
    assert raw[slice(*a.byte_range)] == bytes(range(48)) and raw[slice(*b.byte_range)] == bytes(range(10))
    assert b.byte_range == (len(raw) - 10, len(raw)) and a.byte_range[1] + 8 == b.byte_range[0]


def test_the_digest_is_that_of_the_pickles() -> None:
    writer = LegacyWriter()
    raw = writer.raw({"w": writer.tensor((2, 2))})
    assert torch_zip.read(MemoryFile("old.pt", raw)).digest == hashlib.sha256(raw[: -16 - 8]).hexdigest()


def test_the_weights_are_not_read() -> None:
    writer = LegacyWriter()
    source = writer.file({f"{i}": writer.tensor((500_000,)) for i in range(4)})
    torch_zip.read(source)
    assert source.requests <= 3 and source.bytes_read < 100_000 < source.size


def test_a_long_table_takes_few_reads() -> None:
    writer = LegacyWriter()
    source = writer.file({f"layers.{i}.weight": writer.tensor((2, 2)) for i in range(4000)})
    assert len(torch_zip.read(source).tensors) == 4000
    assert source.requests <= 6


def test_parts_of_a_storage_have_their_places_in_the_whole() -> None:
    writer = LegacyWriter()
    whole = writer.storage(12)
    part = Stored((*whole.value[:5], ("view", 4, 6)))
    raw = writer.raw(
        {"whole": writer.tensor((12,), storage=whole), "part": writer.tensor((2, 2), storage=part, offset=1)}
    )
    whole_spec, part_spec = torch_zip.read(MemoryFile("old.pt", raw)).tensors
    assert whole_spec.byte_range is not None and part_spec.byte_range is not None
    assert part_spec.byte_range == (whole_spec.byte_range[0] + 20, whole_spec.byte_range[0] + 36)


def test_ties_and_wrappers_and_classes_of_modules() -> None:
    writer = LegacyWriter()
    storage = writer.storage(4)
    state = {"training": True, "_parameters": {"w": writer.tensor((2, 2), storage=storage)}, "_buffers": {}}
    # The class of a module is a persistent id with its source text; the walker takes it as the class.
    module = Call("zoo.Net", (), state)
    kind = Stored(("module", Global("zoo.Other"), "other.py", "class Other: ..."))
    checkpoint = torch_zip.read(writer.file({"net": module, "w": writer.tensor((2, 2), storage=storage), "kind": kind}))
    assert [(t.name, t.tied_to) for t in checkpoint.tensors] == [("net.w", None), ("w", "net.w")]
    assert checkpoint.metadata["foreign_names"] == ("zoo.Net", "zoo.Other")
    writer = LegacyWriter()
    checkpoint = torch_zip.read(writer.file({"epoch": 3, "state_dict": {"w": writer.tensor((2,))}}))
    assert shapes(checkpoint) == {"w": (2,)} and checkpoint.metadata["values"] == {"epoch": 3}


def test_a_quantized_tensor_stands_for_its_weights_and_has_its_scales_beside_it() -> None:
    writer = LegacyWriter()
    hooks = Call("collections.OrderedDict", ())
    quantizer = (Global("torch.per_channel_affine"), writer.tensor((3,), "Double"), writer.tensor((3,), "Long"), 0)
    arguments = (writer.storage(12, "QInt8"), 0, (3, 4), (4, 1), quantizer, False, hooks)
    checkpoint = torch_zip.read(writer.file({"w": Call("torch._utils._rebuild_qtensor", arguments)}))
    assert [(t.name, t.kind, t.role, t.weights) for t in checkpoint.tensors] == [
        ("w", Kind.PARAMETER, "", 12), ("w.scale", Kind.QUANTIZATION, "scale", 3),
        ("w.zero_point", Kind.QUANTIZATION, "zero_point", 3)]  # fmt: skip
    assert checkpoint.tensors[0].stands_for is not None


def test_a_tar_archive_and_other_files_are_refused() -> None:
    with pytest.raises(FormatError, match="tar archive"):
        torch_zip.read(MemoryFile("old.pt", bytes(257) + b"ustar\0" + bytes(300)))
    with pytest.raises(FormatError):
        torch_zip.read(MemoryFile("old.pt", LEGACY_MAGIC))


@pytest.mark.torch
class TestWithTorch:
    """The same on files that torch.save writes."""

    def test_every_element_of_every_view(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        base = torch.arange(24.0).reshape(6, 4)
        values = {
            "a": base, "b": base, "row": base[2], "turned": base.T, "part": base[1:3], "empty": torch.empty(0, 3),
            "scalar": torch.tensor(1.5), "columns": base[:, 1:3], "half": torch.arange(5, dtype=torch.float16),
            "flags": torch.tensor([True, False]), "parameter": torch.nn.Parameter(torch.ones(2)),
        }  # fmt: skip
        torch.save(values, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        folder = LocalFolder(tmp_path)
        checkpoint = torch_zip.read(folder.open("old.pt"))
        assert shapes(checkpoint) == {name: tuple(value.shape) for name, value in values.items()}
        assert {t.name for t in checkpoint.tensors if t.byte_range is None} == {"turned", "columns"}
        for tensor in checkpoint.tensors:
            found = b"".join(contents.pieces(checkpoint, tensor, folder))
            assert found == values[tensor.name].detach().contiguous().numpy().tobytes(), tensor.name

    def test_a_module_has_the_names_of_its_state_dict(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        model: Any = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        torch.save(model, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        checkpoint = torch_zip.read(LocalFolder(tmp_path).open("old.pt"))
        assert shapes(checkpoint) == {name: tuple(value.shape) for name, value in model.state_dict().items()}

    @pytest.mark.parametrize("protocol", [2, 3, 4])
    def test_other_protocols(self, protocol: int, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        values = {"w": torch.arange(6, dtype=torch.int32)}
        torch.save(values, tmp_path / "old.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        (tensor,) = torch_zip.read(LocalFolder(tmp_path).open("old.pt")).tensors
        assert (tensor.name, tensor.encoding.name) == ("w", "int32")
