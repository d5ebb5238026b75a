"""Live modules and mappings: with doubles that have torch's attributes, and (with torch) with torch's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from weighbridge.errors import FormatError, SourceError, UnknownNameError
from weighbridge.formats.torch_module import read_module
from weighbridge.model.tensors import Kind


@dataclass(eq=False)
class Tensor:
    """A double with the attributes that are asked of a tensor."""

    shape: tuple[int, ...]
    dtype: str = "torch.float32"
    address: int = 0
    requires_grad: bool = True
    is_meta: bool = False
    device: str = "cpu"

    def data_ptr(self) -> int:
        return self.address


class Module:
    """A double with the methods that are asked of a module."""

    def __init__(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], saved: set[str]) -> None:
        self.parameters, self.buffers, self.saved = parameters, buffers, saved

    def named_parameters(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        assert not remove_duplicate
        yield from self.parameters.items()

    def named_buffers(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        assert not remove_duplicate
        yield from self.buffers.items()

    def state_dict(self, keep_vars: bool = False) -> dict[str, Any]:
        assert keep_vars
        both = {**self.parameters, **self.buffers, "_extra_state": b"x"}
        return {name: value for name, value in both.items() if name in self.saved or name in self.parameters}


def test_a_module_gives_parameters_and_persistent_buffers() -> None:
    module = Module(
        {"w": Tensor((3, 4), address=64), "b": Tensor((3,), "torch.bfloat16", address=256, requires_grad=False)},
        {"mean": Tensor((3,), address=512), "cache": Tensor((1000,), address=4096)}, {"mean", "_extra_state"},
    )  # fmt: skip
    checkpoint = read_module(module, "net")
    assert [(t.name, t.shape, t.encoding.name, t.kind) for t in checkpoint.tensors] == [
        ("w", (3, 4), "fp32", Kind.PARAMETER), ("b", (3,), "bf16", Kind.PARAMETER), ("mean", (3,), "fp32", Kind.BUFFER),
    ]  # fmt: skip
    assert checkpoint.metadata == {"frozen": ("b",), "not_tensors": ("_extra_state",)}
    assert (checkpoint.source, checkpoint.format, checkpoint.tensor_bytes) == ("net", "torch", 48 + 6 + 12)


def test_one_address_and_shape_is_tied_and_counted_once() -> None:
    shapes = {"wte": (5, 2), "head": (5, 2), "flat": (10,)}
    module = Module({name: Tensor(shape, address=64) for name, shape in shapes.items()}, {}, set())
    checkpoint = read_module(module)
    assert [t.tied_to for t in checkpoint.tensors] == [None, "wte", None]
    assert checkpoint.tensor_bytes == 80


def test_without_addresses_one_object_is_tied() -> None:
    shared = Tensor((5, 2), is_meta=True)
    module = Module({"wte": shared, "other": Tensor((5, 2), is_meta=True), "head": shared}, {}, set())
    assert [t.tied_to for t in read_module(module).tensors] == [None, None, "wte"]


def test_a_mapping_of_arrays_is_read_as_well() -> None:
    base = np.zeros((4, 6), np.float32)
    entries = {
        "a": base,
        "b": base,
        "half": base[:2],
        "n": np.zeros((), np.int64),
        "e": np.zeros(0),
        "f": np.zeros(0),
        "x": 1,
    }
    checkpoint = read_module(entries)
    assert {t.name: t.tied_to for t in checkpoint.tensors} == dict.fromkeys(("a", "half", "n", "e", "f")) | {"b": "a"}
    assert [t.encoding.name for t in checkpoint.tensors] == ["fp32", "fp32", "fp32", "int64", "fp64", "fp64"]
    assert checkpoint.metadata["not_tensors"] == ("x",)
    assert checkpoint.metadata["frozen"] == ()


def test_the_digest_follows_the_table() -> None:
    one, two = read_module({"a": np.zeros(3)}), read_module({"a": np.zeros(4)})
    assert one.digest == read_module({"a": np.ones(3)}).digest != two.digest


def test_no_tensor_and_no_module_are_refused() -> None:
    with pytest.raises(FormatError, match="holds no tensor"):
        read_module({"a": 1})
    with pytest.raises(SourceError, match="is a int"):
        read_module(3)
    with pytest.raises(UnknownNameError):
        read_module({"a": np.array(["text"])})
    with pytest.raises(UnknownNameError, match="float4"):
        read_module({"a": Tensor((3,), "torch.float4_e2m1fn_x2", address=1)})


def test_torch_is_not_imported() -> None:
    code = "import sys; import weighbridge.formats.torch_module; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.torch
class TestWithTorch:
    """The same on torch's own modules."""

    def tied_model(self, torch: Any, device: str) -> Any:
        with torch.device(device):
            model = torch.nn.Sequential(
                torch.nn.Embedding(7, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 7, bias=False)
            )
        model[2].weight = model[0].weight
        model.register_buffer("cache", torch.zeros(100, device=device), persistent=False)
        model[1].bias.requires_grad_(False)
        return model

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_a_module_weighs_the_same_with_and_without_data(self, device: str) -> None:
        torch = pytest.importorskip("torch")
        model = self.tied_model(torch, device)
        checkpoint = read_module(model)
        assert [t.name for t in checkpoint.tensors] == list(model.state_dict())
        assert {t.name: t.tied_to for t in checkpoint.tensors if t.tied_to} == {"2.weight": "0.weight"}
        buffers = {t.name for t in checkpoint.tensors if t.kind is Kind.BUFFER}
        assert buffers == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
        assert checkpoint.metadata["frozen"] == ("1.bias",)
        learned = sum(t.elements for t in checkpoint.tensors if t.kind is Kind.PARAMETER and t.tied_to is None)
        assert learned == sum(p.numel() for p in model.parameters()) == 27

    def test_a_state_dict_weighs_as_much_as_its_module(self) -> None:
        torch = pytest.importorskip("torch")
        model = self.tied_model(torch, "cpu")
        assert read_module(model.state_dict()).tensor_bytes == read_module(model).tensor_bytes

    def test_a_lazy_module_is_refused(self) -> None:
        torch = pytest.importorskip("torch")
        with pytest.raises(FormatError, match="no shape yet"):
            read_module(torch.nn.LazyLinear(3))
