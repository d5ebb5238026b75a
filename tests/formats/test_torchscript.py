"""TorchScript archives: built by hand as torch.jit.save lays them out, and (with torch) written by it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.pickles import Call, Global, Writer, opcodes, script_archive, shapes

from weighbridge.errors import FormatError
from weighbridge.formats import contents, torch_zip
from weighbridge.formats.byte_source import LocalFolder, MemoryFile
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import is_parameter
from weighbridge.model.tensors import Kind

LINEAR = 'class Linear(Module):\n  __parameters__ = ["weight", ]\n  __buffers__ = ["scale", ]\n  weight : Tensor\n'


def script(
    writer: Writer, root: Any, constants: tuple[Any, ...] = (), code: dict[str, str] | None = None
) -> MemoryFile:
    storages = {f"data/{key}": bytes(size) for key, size in writer.storages.items()}
    storages |= {f"constants/{key}": bytes(size) for key, size in writer.storages.items() if constants}
    return script_archive(opcodes(root), opcodes(constants), storages, code)


def kinds(checkpoint: Checkpoint) -> dict[str, Kind]:
    return {tensor.name: tensor.kind for tensor in checkpoint.tensors}


def test_attributes_have_their_paths_and_the_kinds_of_their_classes() -> None:
    writer = Writer()
    linear = Call(
        "__torch__.nn.Linear", (),
        {"weight": writer.tensor((2, 3)), "scale": writer.tensor((2,)), "other": writer.tensor((5,))},
    )  # fmt: skip
    root = Call("__torch__.Net", (), {"training": False, "layers": Call("__torch__.Box", (), {"0": linear})})
    checkpoint = torch_zip.read(
        script(writer, root, code={"__torch__/nn.py": LINEAR, "__torch__.py": "class Net(Module):\n"})
    )
    assert kinds(checkpoint) == {
        "layers.0.weight": Kind.PARAMETER, "layers.0.scale": Kind.BUFFER, "layers.0.other": Kind.BUFFER
    }  # fmt: skip
    assert checkpoint.format == "torch" and checkpoint.metadata["foreign_names"] == ()
    assert checkpoint.tensor_bytes == 24 + 8 + 20 and any("TorchScript" in note for note in checkpoint.notes)


def test_without_lists_the_kinds_are_left_to_the_rules() -> None:
    writer = Writer()
    root = Call("__torch__.Net", (), {"w": writer.tensor((2, 3)), "running_mean": writer.tensor((3,))})
    checkpoint = torch_zip.read(script(writer, root))
    assert [is_parameter(tensor) for tensor in checkpoint.tensors] == [True, False]


def test_constants_are_tensors_of_their_own() -> None:
    writer = Writer()
    fixed = writer.tensor((4,))
    checkpoint = torch_zip.read(script(writer, Call("__torch__.Net", (), {}), (fixed,)))
    assert kinds(checkpoint) == {"constants.0": Kind.PARAMETER}


def test_lists_and_dicts_and_states_of_their_own() -> None:
    writer = Writer()
    tagged = Call("torch.jit._pickle.restore_type_tag", ({"k": writer.tensor((2,))}, "Dict[str, Tensor]"))
    listed = Call("torch.jit._pickle.build_tensorlist", ([writer.tensor((3,))],))
    packed = Call("__torch__.torch.classes.quantized.LinearPackedParamsBase", (), (writer.tensor((4,)), None))
    root = Call("__torch__.Net", (), {"weight": writer.tensor((1,)), "d": tagged, "l": listed, "p": packed})
    checkpoint = torch_zip.read(script(writer, root))
    assert shapes(checkpoint) == {"weight": (1,), "d.k": (2,), "l.0": (3,), "p.0": (4,)}
    checkpoint = torch_zip.read(script(writer, root, code={"__torch__.py": LINEAR.replace("Linear", "Net")}))
    assert [tensor.kind is Kind.PARAMETER for tensor in checkpoint.tensors] == [True, False, False, True]


def test_a_foreign_name_in_a_script_is_told() -> None:
    writer = Writer()
    root = Call("__torch__.Net", (), {"w": writer.tensor((2,)), "x": Call("os.system", ("true",))})
    assert torch_zip.read(script(writer, root)).metadata["foreign_names"] == ("os.system",)


def test_what_is_no_script_module_is_refused() -> None:
    for data, constants in (({"w": 1}, ()), (Call("__torch__.N", (), {}), [1]), (Global("__torch__.N"), ())):
        with pytest.raises(FormatError, match=r"torch\.jit\.save"):
            torch_zip.read(script_archive(opcodes(data), opcodes(constants)))


def test_archives_before_torch_1_4_are_refused() -> None:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("net/model.json", "{}")
    with pytest.raises(FormatError, match="before"):
        torch_zip.read(MemoryFile("net.pt", file.getvalue()))


@pytest.mark.torch
class TestWithTorch:
    """The same on archives that torch.jit.save writes."""

    def model(self, torch: Any) -> Any:
        class Net(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
                self.register_buffer("table", torch.arange(5.0))
                self.plain = torch.ones(2, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.inner(x) + self.table.sum() + self.plain.sum()

        return Net().eval()

    def test_a_traced_module_has_its_parameters_buffers_and_elements(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        model = self.model(torch)
        torch.jit.save(torch.jit.trace(model, torch.zeros(2, 3)), tmp_path / "net.jit")
        folder = LocalFolder(tmp_path)
        checkpoint = torch_zip.read(folder.open("net.jit"))
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        found = kinds(checkpoint)
        assert {name for name, kind in found.items() if kind is Kind.PARAMETER} == set(parameters)
        assert {name for name, kind in found.items() if kind is Kind.BUFFER} == {*buffers, "constants.0"}
        for tensor in checkpoint.tensors:
            expected = {**parameters, **buffers, "constants.0": model.plain}[tensor.name]
            assert b"".join(contents.pieces(checkpoint, tensor, folder)) == expected.detach().numpy().tobytes()

    def test_a_frozen_module_is_all_constants(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        frozen = torch.jit.freeze(torch.jit.trace(torch.nn.Linear(3, 4).eval(), torch.zeros(2, 3)))
        torch.jit.save(frozen, tmp_path / "net.jit")
        checkpoint = torch_zip.read(LocalFolder(tmp_path).open("net.jit"))
        assert sorted(t.shape for t in checkpoint.tensors) == [(4,), (4, 3)]
        assert all(is_parameter(tensor) for tensor in checkpoint.tensors)

    def test_a_quantized_module_has_its_weights_and_scales(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(8, 4)), dtype=torch.qint8)
        torch.jit.save(torch.jit.trace(model, torch.zeros(1, 8)), tmp_path / "net.jit")
        checkpoint = torch_zip.read(LocalFolder(tmp_path).open("net.jit"))
        weights = sum(tensor.weights for tensor in checkpoint.tensors if is_parameter(tensor))
        assert weights == 8 * 4 + 4

    def test_an_exported_program(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        model = self.model(torch)
        torch.export.save(torch.export.export(model, (torch.zeros(2, 3),)), tmp_path / "net.pt2")
        folder = LocalFolder(tmp_path)
        checkpoint = torch_zip.read(folder.open("net.pt2"))
        expected = {**dict(model.named_parameters()), **dict(model.named_buffers()), "plain": model.plain}
        assert shapes(checkpoint) == {name: tuple(value.shape) for name, value in expected.items()}
        parameters = {t.name for t in checkpoint.tensors if t.kind is Kind.PARAMETER}
        assert parameters == {name for name, _ in model.named_parameters()}
        for tensor in checkpoint.tensors:
            found = b"".join(contents.pieces(checkpoint, tensor, folder))
            assert found == expected[tensor.name].detach().numpy().tobytes()
