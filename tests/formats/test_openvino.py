"""The OpenVINO reader on models written out by hand as `save_model` of OpenVINO 2026.4 writes them."""

from __future__ import annotations

import pytest

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import openvino
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind


def layer(number: int, kind: str, inputs: int = 0, outputs: int = 1, inside: str = "", name: str = "") -> str:
    """A layer with ports numbered as the writer does: the inputs first."""
    takes = "".join(f'<port id="{port}" precision="FP32"><dim>1</dim></port>' for port in range(inputs))
    gives = "".join(f'<port id="{inputs + port}" precision="FP32" names="n{number}"/>' for port in range(outputs))
    ports = (f"<input>{takes}</input>" if inputs else "") + (f"<output>{gives}</output>" if outputs else "")
    begin = f'<layer id="{number}" name="{name or kind + str(number)}" type="{kind}" version="opset1">'
    return f"{begin}{ports}{inside}</layer>"


def const(number: int, element_type: str, shape: str, offset: int, size: int, name: str = "") -> str:
    data = f'<data element_type="{element_type}" shape="{shape}" offset="{offset}" size="{size}"/>'
    return layer(number, "Const", name=name, inside=data)


def edges(*ends: tuple[int, int, int, int]) -> str:
    """From layer and port to layer and port."""
    rows = "".join(f'<edge from-layer="{a}" from-port="{b}" to-layer="{c}" to-port="{d}"/>' for a, b, c, d in ends)
    return f"<edges>{rows}</edges>"


def net(layers: list[str], joined: str = "<edges/>", version: str = "11", after: str = "") -> str:
    begin = f'<?xml version="1.0"?><net name="m" version="{version}">'
    return f"{begin}<layers>{''.join(layers)}</layers>{joined}{after}</net>"


def read(xml: str, weights: int | None = None, name: str = "m.xml") -> Checkpoint:
    files = {"m.xml": xml.encode()} | ({} if weights is None else {"m.bin": bytes(weights)})
    return openvino.read(MemoryFolder(files), name)


def roles(found: Checkpoint) -> dict[str, str]:
    return {tensor.name: f"{tensor.kind.value} {tensor.role}".strip() for tensor in found.tensors}


SIZES = {"boolean": 6, "bf16": 12, "f16": 12, "f32": 24, "f64": 48, "i4": 3, "i8": 6, "i16": 12, "i32": 24, "i64": 48,
         "u1": 1, "u2": 2, "u4": 3, "u8": 6, "u16": 12, "u32": 24, "u64": 48, "nf4": 3, "f4e2m1": 3, "f8e4m3": 6,
         "f8e5m2": 6, "f8e8m0": 6}  # fmt: skip
"""Bytes of six elements."""


@pytest.mark.parametrize("element_type", openvino.TYPES)
def test_every_element_type(element_type: str) -> None:
    size = SIZES[element_type]
    found = read(net([const(0, element_type, "2, 3", 8, size)]), 8 + size + 5)
    (tensor,) = found.tensors
    assert (tensor.name, tensor.shape, tensor.byte_range) == ("Const0", (2, 3), (8, 8 + size))
    xml, weights = found.files
    assert (xml.tensor_bytes, weights.header_bytes, weights.tensor_bytes, weights.padding_bytes) == (0, 0, size, 13)
    assert set(SIZES) == set(openvino.TYPES)


def test_a_scalar_an_empty_one_and_text() -> None:
    made = net([const(0, "f32", "", 0, 4), const(1, "i64", "0", 4, 0), const(2, "string", "2", 4, 20)])
    found = read(made, 24)
    assert [tensor.shape for tensor in found.tensors] == [(), (0,)]
    assert found.files[1].padding_bytes == 20 and any("text" in note for note in found.notes)


def test_from_either_half_and_in_either_version() -> None:
    made = net([const(0, "f32", "1", 0, 4)], version="10")
    assert read(made, 4, "m.bin").tensors == read(made, 4).tensors
    assert read(made, 4).metadata == {"ir_version": 10, "operators": {"Const": 1}}
    assert read(made, 4).format == "openvino"


def dense(weight: list[str], at: int, more: tuple[tuple[int, int, int, int], ...]) -> str:
    """A product of the input with what the layer `at` makes, and a bias."""
    layers = [layer(0, "Parameter"), *weight, layer(90, "MatMul", 2), const(91, "f32", "1, 4", 400, 16, "bias"),
              layer(92, "Add", 2), layer(93, "Result", 1, 0)]  # fmt: skip
    ends = (*more, (0, 0, 90, 0), (at, 1, 90, 1), (90, 2, 92, 0), (91, 0, 92, 1), (92, 2, 93, 0))
    return net(layers, edges(*ends))


@pytest.mark.parametrize(("kind", "size"), [("u8", 24), ("i4", 12), ("nf4", 12), ("f8e4m3", 24)])
def test_compressed_weights(kind: str, size: int) -> None:
    """As weight compression writes them: integers, a zero point of the same type, a scale, a group joined again."""
    weight = [
        const(1, kind, "4, 2, 3", 0, size, "w"), layer(2, "Convert", 1), const(3, kind, "4, 2, 1", 100, size // 3, "z"),
        layer(4, "Convert", 1), layer(5, "Subtract", 2), const(6, "f16", "4, 2, 1", 200, 16, "s"),
        layer(7, "Multiply", 2), layer(8, "Reshape", 2), const(9, "i64", "2", 300, 16, "to"), layer(10, "Convert", 1),
    ]  # fmt: skip
    more = ((1, 0, 2, 0), (3, 0, 4, 0), (2, 1, 5, 0), (4, 1, 5, 1), (5, 2, 7, 0), (6, 0, 7, 1), (7, 2, 8, 0),
            (9, 0, 8, 1), (8, 2, 10, 0))  # fmt: skip
    found = read(dense(weight, 10, more), 416)
    packed = "parameter" if kind == "f8e4m3" else "parameter packed"
    assert roles(found) == {"w": packed, "z": "quantization zero_point", "s": "quantization scale",
                            "to": "buffer constant", "bias": "parameter"}  # fmt: skip
    counted = inspect(found).stored
    assert counted is not None and (counted.parameters, counted.quantization, counted.buffers) == (28, 16, 2)


def test_constants_of_one_range_are_tied() -> None:
    layers = [const(0, "f32", "2, 2", 0, 16, "a"), const(1, "f32", "4", 0, 16, "b"), const(2, "i64", "", 16, 8, "c"),
              const(3, "i64", "1", 16, 8, "d")]  # fmt: skip
    found = read(net(layers), 24)
    assert [tensor.tied_to for tensor in found.tensors] == [None, "a", None, "c"]
    assert found.files[1].tensor_bytes == 24


def test_statistics_settings_and_numbers_of_arithmetic() -> None:
    layers = [
        layer(0, "Parameter"), const(1, "f32", "3", 0, 12, "gamma"), const(2, "f32", "3", 12, 12, "beta"),
        const(3, "f32", "3", 24, 12, "mean"), const(4, "f32", "3", 36, 12, "var"), layer(5, "BatchNormInference", 5),
        const(6, "f32", "1", 48, 4, "two"), layer(7, "Power", 2), const(8, "f32", "1, 1", 52, 4, "eps"),
        layer(9, "Add", 2), const(10, "f32", "3, 1, 1", 56, 12, "scale"), layer(11, "Multiply", 2),
        layer(12, "Result", 1, 0),
    ]  # fmt: skip
    joined = edges((0, 0, 5, 0), (1, 0, 5, 1), (2, 0, 5, 2), (3, 0, 5, 3), (4, 0, 5, 4), (5, 5, 7, 0), (6, 0, 7, 1),
                   (7, 2, 9, 0), (8, 0, 9, 1), (9, 2, 11, 0), (10, 0, 11, 1), (11, 2, 12, 0))  # fmt: skip
    assert roles(read(net(layers, joined), 68)) == {
        "gamma": "parameter", "beta": "parameter", "mean": "buffer statistic", "var": "buffer statistic",
        "two": "buffer constant", "eps": "buffer constant", "scale": "parameter",
    }  # fmt: skip


def test_bodies_of_branches_are_looked_into() -> None:
    inner = (
        f'<then_port_map><input external_port_id="1" internal_layer_id="0"/>'
        f'<output external_port_id="2" internal_layer_id="2"/></then_port_map><then_body><layers>'
        f"{layer(0, 'Parameter')}{layer(1, 'Power', 2)}{layer(2, 'Result', 1, 0)}{const(3, 'f32', '3', 12, 12, 'w')}"
        f'</layers>{edges((3, 0, 1, 0), (0, 0, 1, 1), (1, 2, 2, 0))}<rt_info><layer id="1"/></rt_info></then_body>'
    )
    layers = [layer(0, "Parameter"), const(1, "f32", "3", 0, 12, "w"), layer(2, "If", 2, 1, inner, "choice"),
              layer(3, "Result", 1, 0)]  # fmt: skip
    found = read(net(layers, edges((0, 0, 2, 0), (1, 0, 2, 1), (2, 2, 3, 0))), 24)
    assert roles(found) == {"w": "buffer constant", "choice/then_body/w": "parameter"}
    assert found.metadata["operators"]["Power"] == 1


def test_additional_information_is_passed_over() -> None:
    extra = '<rt_info><layers><layer id="0"/></layers><body version="3"/><Runtime_version value="2026.4"/></rt_info>'
    assert len(read(net([const(0, "f32", "1", 0, 4)], after=extra), 4).tensors) == 1


def test_a_graph_without_constants_needs_no_second_half() -> None:
    assert read(net([layer(0, "Parameter"), layer(1, "Result", 1, 0)])).files[0].header_bytes > 0
    with pytest.raises(SourceError, match=r"no file m\.bin"):
        read(net([const(0, "f32", "1", 0, 4)]))


@pytest.mark.parametrize("version", ["7", "9", "12", ""])
def test_other_versions(version: str) -> None:
    with pytest.raises(FormatError, match="IR of version"):
        read(net([], version=version))


def test_kinds_are_those_of_tensors() -> None:
    (tensor,) = read(net([const(0, "i32", "3, 4", 0, 48)]), 48).tensors
    assert tensor.kind is Kind.BUFFER and tensor.stands_for is None
