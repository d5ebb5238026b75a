"""The ONNX reader against files that the reference packages write: onnx, and onnxruntime's quantizers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import onnx as reader
from weighbridge.formats.byte_source import LocalFolder, MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.onnx_operators import RULES
from weighbridge.inspection import StoredCount, inspect
from weighbridge.model.tensors import Kind, TensorSpec

Node = Any
FP32 = np.dtype(np.float32)


def array(name: str, *shape: int, dtype: Any = FP32) -> Any:
    return numpy_helper.from_array(np.arange(1, 1 + math.prod(shape)).reshape(shape).astype(dtype), name)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Node:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def constant(name: str, tensor: Any) -> Node:
    return helper.make_node("Constant", [], [name], value=tensor)


def graph(nodes: Sequence[Node], tensors: Sequence[Any] = (), inputs: str = "x", outputs: str = "y") -> Any:
    takes, gives = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names.split()]
        for names in (inputs, outputs)
    )
    return helper.make_graph(nodes, "g", takes, gives, list(tensors))


def model(nodes: Sequence[Node], tensors: Sequence[Any] = (), inputs: str = "x", outputs: str = "y") -> Any:
    return helper.make_model(graph(nodes, tensors, inputs, outputs), producer_name="by hand")


def read(made: Any, **others: bytes) -> Checkpoint:
    raw = made if isinstance(made, bytes) else made.SerializeToString()
    return reader.read(
        MemoryFolder({"m.onnx": raw, **{name.replace("_", "."): one for name, one in others.items()}}), "m.onnx"
    )


def by_name(checkpoint: Checkpoint) -> dict[str, TensorSpec]:
    assert len({tensor.name for tensor in checkpoint.tensors}) == len(checkpoint.tensors)
    return {tensor.name: tensor for tensor in checkpoint.tensors}


def stored(checkpoint: Checkpoint) -> StoredCount:
    found = inspect(checkpoint).stored
    assert found is not None
    return found


def what(checkpoint: Checkpoint, *names: str) -> list[str]:
    """The kinds and roles of tensors, as in `parameter packed`."""
    tensors = by_name(checkpoint)
    return [f"{tensors[name].kind.value} {tensors[name].role}".strip() for name in names]


# Storage.

DTYPES = [number for number, name in reader.TYPES.items() if number <= max(TensorProto.DataType.values())]


@pytest.mark.parametrize("number", DTYPES)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (4,), (), (0, 7)])
def test_every_type_as_the_reference_stores_it(number: int, raw: bool, shape: tuple[int, ...]) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(number)
    values = np.ones(shape, dtype=dtype)
    try:
        tensor = numpy_helper.from_array(values, "w") if raw else helper.make_tensor("w", number, shape, values.ravel())
    except (TypeError, ValueError, NotImplementedError) as error:
        pytest.skip(f"onnx does not write it: {error}")
    file = model([], [tensor]).SerializeToString()
    (found,) = read(file).tensors
    assert (found.name, found.shape, found.encoding.name) == ("w", shape, reader.TYPES[number])
    if raw and values.size:
        assert found.byte_range is not None
        assert file[slice(*found.byte_range)] == tensor.raw_data
    (account,) = read(file).files
    assert account.tensor_bytes > 0 or not values.size
    assert account.header_bytes + account.tensor_bytes == len(file)


def test_lists_of_floats_lie_in_one_stretch() -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, (2, 3), [1.0, 2, 3, 4, 5, 6])
    file = model([], [tensor]).SerializeToString()
    (found,) = read(file).tensors
    assert found.byte_range is not None
    assert np.frombuffer(file[slice(*found.byte_range)], "<f4").tolist() == [1, 2, 3, 4, 5, 6]


def test_metadata_and_the_account() -> None:
    made = model([node("Relu", "x", "a"), node("Relu", "a", "y"), node("Neg", "a", "z")], [array("w", 2)])
    helper.set_model_props(made, {"author": "us"})
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = read(made)
    assert found.format == "onnx" and found.notes == ()
    assert found.metadata["producer_name"] == "by hand" and found.metadata["ir_version"] == made.ir_version
    assert found.metadata["opset_import"] == {"ai.onnx": onnx.defs.onnx_opset_version(), "com.microsoft": 1}
    assert found.metadata["metadata_props"] == {"author": "us"}
    assert found.metadata["operators"] == {"Relu": 2, "Neg": 1}
    changed = read(model([node("Relu", "x", "a")], [array("w", 2)]))
    assert len(found.digest) == 64 and found.digest != changed.digest


def test_the_digest_is_that_of_the_header() -> None:
    one, other = array("w", 100), numpy_helper.from_array(np.zeros(100, np.float32), "w")
    digests = {read(model([], [tensor])).digest for tensor in (one, other)}
    assert len(digests) == 1


def test_few_bytes_are_read_of_a_large_file() -> None:
    tensors = [array(f"w{i}", 1000, 500) for i in range(4)]
    file = MemoryFile("m.onnx", model([node("MatMul", "x w0", "y")], tensors).SerializeToString())
    reader.read(MemoryFolder({"m.onnx": file}), "m.onnx")
    assert file.requests <= 12 and file.bytes_read < 600_000 and file.size > 8_000_000


# Where tensors lie.


def test_constants_of_every_kind_and_inner_graphs() -> None:
    inner = graph([constant("c", array("ignored", 4, 4)), node("MatMul", "x c", "r")], [array("w", 2, 2)], "", "r")
    other = graph([constant("c", array("ignored", 4, 4)), node("MatMul", "x c", "r")], [array("own", 3)], "", "r")
    nodes = [
        helper.make_node("Constant", [], ["f"], value_float=1.5), helper.make_node("Constant", [], ["i"], value_int=-7),
        helper.make_node("Constant", [], ["fs"], value_floats=[1.0, 2, 3]),
        helper.make_node("Constant", [], ["is"], value_ints=[5, 600, -7]),
        helper.make_node("Constant", [], ["s"], value_string="text"),
        helper.make_node("If", ["cond"], ["y"], name="choice", then_branch=inner, else_branch=other),
    ]  # fmt: skip
    found = read(model(nodes, [array("w", 6)], "x cond"))
    shapes = {name: (tensor.shape, tensor.encoding.name) for name, tensor in by_name(found).items()}
    assert shapes == {
        "f": ((), "fp32"), "i": ((), "int64"), "fs": ((3,), "fp32"), "is": ((3,), "int64"),
        "c": ((4, 4), "fp32"), "choice/then_branch/c": ((4, 4), "fp32"), "choice/then_branch/w": ((2, 2), "fp32"),
        "own": ((3,), "fp32"), "w": ((6,), "fp32"),
    }  # fmt: skip
    assert any("text" in note for note in found.notes)
    file = found.files[0]
    assert file.tensor_bytes == 4 + 12 + 10 + (1 + 2 + 10) + 4 * (16 + 16 + 4 + 3 + 6)


def test_a_sparse_tensor_stands_for_its_shape() -> None:
    sparse = helper.make_sparse_tensor(
        array("w", 3), helper.make_tensor("", TensorProto.INT64, [3], [0, 5, 11]), [4, 3]
    )
    made = graph([node("MatMul", "x w", "y")])
    made.sparse_initializer.append(sparse)
    found = read(helper.make_model(made))
    counted = stored(found)
    assert (counted.elements, counted.parameters, counted.quantization) == (6, 12, 3)
    assert what(found, "w", "w.indices") == ["parameter", "quantization metadata"]
    node_too = model([helper.make_node("Constant", [], ["k"], sparse_value=sparse), node("MatMul", "x k", "y")])
    assert stored(read(node_too)).parameters == 12


def test_functions_are_looked_into() -> None:
    body = [constant("scale", array("ignored", 4)), node("Mul", "a scale", "m"), node("Pow", "m e", "r")]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    function = helper.make_function("mine", "Scaled", ["a", "e"], ["r"], body, opsets)
    main = graph([helper.make_node("Scaled", ["x", "power"], ["y"], domain="mine")], [array("power", 3)])
    found = read(helper.make_model(main, functions=[function], opset_imports=opsets))
    assert what(found, "power", "scale") == ["buffer constant", "parameter"]  # an exponent, by its use in the function


def test_what_a_loop_takes_in_is_followed() -> None:
    body = helper.make_graph(
        [
            node("Cast", "c", "d", to=1),
            node("Pow", "s p", "s2"),
            node("Identity", "p", "p2"),
            node("Identity", "c", "c2"),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("i", "c", "s", "p")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("c2", "s2", "p2")],
    )
    made = model([helper.make_node("Loop", ["n", "", "x", "e"], ["y", "z"], body=body)], [array("e", 3)], "x n")
    assert what(read(made), "e") == ["buffer constant"]


# External data.


def external(
    offset: int | None, length: int | None, name: str = "w", location: str = "w.bin", elements: int = 6
) -> Any:
    tensor = array(name, elements)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_external_data_as_the_reference_writes_it(tmp_path: Path) -> None:
    tensors = [array("a", 30, 40), array("b", 7, dtype=np.float16), array("c", 1000, dtype=np.int8)]
    path = tmp_path / "m.onnx"
    onnx.save_model(model([], tensors), path, save_as_external_data=True, location="m.data", size_threshold=0)
    found = reader.read(LocalFolder(tmp_path), "m.onnx")
    data = (tmp_path / "m.data").read_bytes()
    for tensor in found.tensors:
        expected = next(one for one in tensors if one.name == tensor.name)
        assert tensor.file == "m.data" and tensor.byte_range is not None
        assert data[slice(*tensor.byte_range)] == expected.raw_data
    inner, outer = found.files
    assert (inner.tensor_bytes, outer.tensor_bytes) == (0, 4800 + 14 + 1000)
    assert outer.size_bytes == len(data) and found.size_bytes == len(data) + path.stat().st_size


def test_two_tensors_of_one_range_are_tied() -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a v", "y")]
    found = read(model(nodes, [external(8, 24), external(8, 24, "v")]), w_bin=bytes(40))
    assert by_name(found)["v"].tied_to == "w" and stored(found).parameters == 6
    assert found.files[1].tensor_bytes == 24 and found.files[1].padding_bytes == 16


def test_offset_and_length_may_be_left_out() -> None:
    (found,) = read(model([], [external(None, None)]), w_bin=bytes(24)).tensors
    assert found.byte_range == (0, 24)


@pytest.mark.parametrize(("offset", "length", "size"), [(0, 24, 23), (1, 24, 24), (0, 20, 24), (0, 28, 28)])
def test_external_data_must_fit(offset: int, length: int, size: int) -> None:
    with pytest.raises(FormatError, match=r"takes .* bytes from byte"):
        read(model([], [external(offset, length)]), w_bin=bytes(size))


def test_missing_external_data() -> None:
    with pytest.raises(SourceError, match=r"no file w\.bin"):
        read(model([], [external(0, 24)]))


# What a constant is.


def test_weights_settings_and_statistics() -> None:
    nodes = [
        node("Conv", "x k kb", "a"), node("BatchNormalization", "a g b mean var", "c"), node("PRelu", "c slope", "d"),
        node("Pow", "d two", "e"), node("Add", "e eps", "f"), node("Clip", "f low high", "h"),
        node("Resize", "h  scales", "i"), node("Mul", "i layer_scale", "j"), node("LSTM", "j W R B", "l"),
        node("Gather", "table index", "t"), node("Where", "mask l minus", "n"),
        node("LayerNormalization", "n ln_g ln_b", "y"),
    ]  # fmt: skip
    weights = {"k": (8, 3, 3, 3), "kb": (8,), "g": (8,), "b": (8,), "slope": (1,), "layer_scale": (8, 1, 1),
               "W": (1, 32, 8), "R": (1, 32, 8), "B": (1, 64), "table": (9, 4), "ln_g": (8,), "ln_b": (8,)}  # fmt: skip
    others = {"two": (), "eps": (), "low": (), "high": (1,), "scales": (4,), "minus": ()}
    tensors = [array(name, *shape) for name, shape in (weights | others | {"mean": (8,), "var": (8,)}).items()]
    found = read(model(nodes, [*tensors, array("index", 5, dtype=np.int64)], "x mask", "y t"))
    assert set(what(found, *weights)) == {"parameter"}
    assert set(what(found, *others, "index")) == {"buffer constant"}
    assert what(found, "mean", "var") == ["buffer statistic", "buffer statistic"]
    assert stored(found).parameters == sum(math.prod(shape) for shape in weights.values())


def test_the_bias_of_one_output_is_a_weight_and_an_epsilon_none() -> None:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "bias a", "b"),
        node("MatMul", "x wide", "c"),
        node("Add", "c eps", "y"),
    ]
    found = read(model(nodes, [array("w", 8, 1), array("bias", 1), array("wide", 8, 8), array("eps", 1)]))
    assert what(found, "bias", "eps") == ["parameter", "buffer constant"]


def test_a_constant_that_leads_nowhere_is_none() -> None:
    found = read(
        model([node("Relu", "x", "y"), node("Identity", "kept", "z")], [array("w", 8), array("kept", 8)], "x", "y z")
    )
    assert what(found, "w", "kept") == ["buffer constant", "parameter"]


def transform(kernel: tuple[int, ...], between: str = "Neg", first: str = "Unsqueeze") -> Checkpoint:
    """A signal, a convolution, the halves of its result, squared and added."""
    nodes = [
        node(first, "x", "u"), node("Conv", "u basis", "s"), node(between, "s", "t"), node("Slice", "t a", "re"),
        node("Slice", "t b", "im"), node("Pow", "re two", "re2"), node("Mul", "im im", "im2"),
        node("Add", "re2 im2", "p"), node("Sqrt", "p", "m"), node("Conv", "m w", "y"),
    ]  # fmt: skip
    return read(model(nodes, [array("basis", *kernel), array("w", 4, 5, 3), array("two")], "x a b"))


def test_a_basis_before_a_magnitude_is_a_fixed_transform() -> None:
    assert what(transform((10, 1, 16)), "basis", "w") == ["buffer transform", "parameter"]
    assert what(transform((10, 1, 1, 16), "Transpose"), "basis") == ["buffer transform"]


@pytest.mark.parametrize(
    ("kernel", "between", "first"),
    [((10, 3, 16), "Neg", "Unsqueeze"), ((10, 1, 3, 3), "Neg", "Unsqueeze"), ((10, 1, 16), "Relu", "Unsqueeze"),
     ((10, 1, 16), "Neg", "Tanh")],
)  # fmt: skip
def test_other_convolutions_before_a_magnitude_are_learned(kernel: tuple[int, ...], between: str, first: str) -> None:
    assert what(transform(kernel, between, first), "basis") == ["parameter"]


def test_normalised_embeddings_are_no_transform() -> None:
    nodes = [node("MatMul", "x w", "e"), node("ReduceL2", "e", "n"), node("Div", "e n", "y")]
    assert what(read(model(nodes, [array("w", 8, 4)])), "w") == ["parameter"]


def test_windows_and_rotary_tables_are_fixed() -> None:
    nodes = [
        node("STFT", "x step window", "s"),
        helper.make_node("RotaryEmbedding", ["s", "ids", "cos", "sin"], ["y"], domain="com.microsoft"),
    ]
    found = read(model(nodes, [array("window", 64), array("cos", 8, 4), array("sin", 8, 4)], "x step ids"))
    assert what(found, "window", "cos", "sin") == ["buffer transform"] * 3


# Quantization.


def linear(path: Path) -> Path:
    """Two linear layers of 12,416 weights, a bias among them, as a file."""
    nodes = [node("MatMul", "x w1", "a"), node("Add", "a b1", "b"), node("Relu", "b", "c"), node("MatMul", "c w2", "y")]
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"w1": (64, 128), "b1": (128,), "w2": (128, 32)}
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 64]), ("y", [2, 32]))]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


class Batches(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Two batches to calibrate with."""

    def __init__(self) -> None:
        self.batches = iter([{"x": np.full((2, 64), value, np.float32)} for value in (-1, 1)])

    def get_next(self) -> Any:
        return next(self.batches, None)


def test_what_the_quantizers_of_onnxruntime_write(tmp_path: Path) -> None:
    source = linear(tmp_path / "fp32.onnx")
    assert inspect(source).parameters.total == 12_416
    dynamic, pairs, operators = (tmp_path / f"{name}.onnx" for name in ("dynamic", "pairs", "operators"))
    quantization.quantize_dynamic(source, dynamic, weight_type=quantization.QuantType.QInt8)
    for path, format_, per_channel in ((pairs, "QDQ", True), (operators, "QOperator", False)):
        quantization.quantize_static(
            source, path, Batches(), quant_format=quantization.QuantFormat[format_], per_channel=per_channel
        )
    for path in (dynamic, pairs, operators):
        found = inspect(path)
        assert found.parameters.total == 12_416, path
        assert found.stored is not None and found.stored.buffers == 0
        made = onnx.load(path).graph.initializer
        assert found.stored.elements == sum(math.prod(tensor.dims) for tensor in made)
        names = {tensor.name for tensor in made if "scale" in tensor.name}
        assert names == {t.name for t in found.checkpoint.tensors if t.role == "scale"}
        names = {tensor.name for tensor in made if "zero_point" in tensor.name}
        assert names == {t.name for t in found.checkpoint.tensors if t.role == "zero_point"}


def n_bits(bits: int, packed: tuple[int, ...], settings: dict[str, int] | None = None) -> Any:
    """A `MatMulNBits` of 70 columns (two blocks of 64) and 10 rows."""
    numbers: dict[str, Any] = {"K": 70, "N": 10, "bits": bits, "block_size": 64} | (settings or {})
    inputs = ["x", "w", "scales", "zeros", "order", "bias"]
    made = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **numbers)
    tensors = [array("w", *packed, dtype=np.uint8), array("scales", 10, 2), array("zeros", 10, dtype=np.uint8),
               array("order", 70, dtype=np.int32), array("bias", 10)]  # fmt: skip
    return model([made], tensors)


@pytest.mark.parametrize(("bits", "packed"), [(4, (10, 2, 32)), (8, (10, 2, 64)), (2, (10, 2, 16))])
def test_matrices_of_few_bits(bits: int, packed: tuple[int, ...]) -> None:
    found = read(n_bits(bits, packed))
    weight = by_name(found)["w"].stands_for
    assert weight is not None and weight.shape == (70, 10)
    roles = [
        "parameter packed",
        "quantization scale",
        "quantization zero_point",
        "quantization group_index",
        "parameter",
    ]
    assert what(found, "w", "scales", "zeros", "order", "bias") == roles
    assert stored(found).parameters == 710


@pytest.mark.parametrize("settings", [{"K": 700}, {"K": 2**40}, {"N": -1}, {"N": 9}, {"bits": 0}, {"block_size": 0}])
def test_settings_that_do_not_fit_the_bytes(settings: dict[str, int]) -> None:
    with pytest.raises(FormatError, match="MatMulNBits asks for"):
        read(n_bits(4, (10, 2, 32), settings))


def test_a_table_of_packed_rows() -> None:
    gather = helper.make_node(
        "GatherBlockQuantized", ["w", "x", "scales"], ["y"], domain="com.microsoft", bits=4, block_size=32
    )
    found = read(model([gather], [array("w", 50, 32, dtype=np.uint8), array("scales", 50, 2)]))
    assert stored(found).parameters == 50 * 64 and what(found, "scales") == ["quantization scale"]


def test_integers_that_are_cast_and_scaled() -> None:
    nodes = [
        node("Cast", "w", "f", to=1), node("Cast", "zero", "z", to=1), node("Sub", "f z", "s"),
        node("Mul", "s scale", "d"), node("Transpose", "d", "t"), node("MatMul", "x t", "a"),
        node("Gather", "table ids", "rows"), node("Cast", "rows", "g", to=1), node("Mul", "per_tensor g", "e"),
        node("Cast", "mask", "m", to=1), node("Mul", "m minus", "n"), node("Add", "a n", "y"),
    ]  # fmt: skip
    tensors = [array("w", 8, 6, dtype=np.int8), array("zero", 8, 1, dtype=np.int8), array("scale", 8, 1),
               array("table", 20, 6, dtype=np.uint8), array("per_tensor"), array("mask", 4, 4, dtype=np.uint8),
               array("minus")]  # fmt: skip
    found = read(model(nodes, tensors, "x ids", "y e"))
    assert what(found, "w", "zero", "scale") == ["parameter packed", "quantization zero_point", "quantization scale"]
    assert what(found, "table", "per_tensor") == ["parameter packed", "quantization scale"]
    assert what(found, "mask", "minus") == ["buffer constant", "buffer constant"]
    assert stored(found).parameters == 48 + 120


def test_the_tables_name_operators_and_inputs_that_exist() -> None:
    schemas = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    tables = (RULES.weights, RULES.packed, RULES.scales, RULES.zero_points, RULES.statistics, RULES.settings)
    for name, places in itertools.chain.from_iterable(table.items() for table in tables):
        if "." not in name:
            last = schemas[name].max_input
            assert max(places) < last, name
    names = RULES.views | RULES.joins | RULES.casts | RULES.look_ups | RULES.sums | RULES.integer_products
    assert {name for name in names if "." not in name} <= schemas.keys()


def test_kinds_add_up() -> None:
    found = read(n_bits(4, (10, 2, 32)))
    counted = Counter({kind: sum(t.elements for t in found.tensors if t.kind is kind) for kind in Kind})
    assert sum(counted.values()) == stored(found).elements
