"""SavedModels and frozen graphs of TensorFlow, written by hand from the published definitions."""

from __future__ import annotations

import pytest
from tests.formats.small_binaries import (
    VALUE,
    bundle,
    entry,
    field,
    node,
    saved_model,
    small_frozen_graph,
    small_saved_model,
    table,
    tf_shape,
    tf_tensor,
)  # fmt: skip

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import saved_model as reader
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.contents import pieces
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind


def read(files: dict[str, bytes], name: str = "saved_model.pb") -> Checkpoint:
    return reader.read(MemoryFolder(files), name)


def test_variables_by_the_names_of_their_objects() -> None:
    files = small_saved_model()
    model = read(files)
    found = {tensor.name: tensor for tensor in model.tensors}
    assert found["dense/kernel"].kind is Kind.PARAMETER and found["dense/mean"].kind is Kind.BUFFER
    assert found["dense/kernel"].shape == (3, 2) and found["kernel"].kind is Kind.BUFFER
    slot = found["layer/kernel/.OPTIMIZER_SLOT/optimizer/m"]
    assert (slot.role, found["save_counter"].role) == ("training_state", "training_state")
    stored = inspect(model).stored
    assert stored is not None and (stored.parameters, stored.buffers) == (6, 2 + 6 + 1 + 4)
    assert model.notes[0].startswith("1 constants are stored again") and "7 elements are the state" in model.notes[1]
    proto, index, data = model.files
    assert (proto.tensor_bytes, index.tensor_bytes) == (16, 0)
    assert (data.tensor_bytes, data.header_bytes, data.padding_bytes) == (24 + 8 + 24 + 8, 8, 0)
    assert b"".join(pieces(model, found["kernel"], MemoryFolder(files))) == bytes(range(16))
    assert b"".join(pieces(model, slot, MemoryFolder(files))) == bytes(24)


def test_a_frozen_graph() -> None:
    """Constants of floats are weights; the mean of a batch norm, a fill, a number and integers are none."""
    model = read({"a.pb": small_frozen_graph()}, "a.pb")
    assert [(t.name, t.shape, t.kind) for t in model.tensors] == [
        ("w", (3, 2), Kind.PARAMETER), ("mean", (2,), Kind.BUFFER)]  # fmt: skip
    assert inspect(model).parameters.total == 6 and model.metadata["kind"] == "frozen graph"


def test_a_model_without_variables_has_its_weights_in_the_graph() -> None:
    model = read({"saved_model.pb": saved_model([node("w", "Const", value=tf_tensor((2, 3), bytes(24)))])})
    assert inspect(model).parameters.total == 6


def test_equal_constants_of_one_function_are_several_and_of_several_functions_one() -> None:
    """Two biases of zeros in a function are two; its copy for training stores both again."""
    zeros = [node(name, "Const", value=tf_tensor((3,), bytes(12))) for name in ("a/bias", "b/bias")]
    functions = [
        field(1, field(1, name)) + b"".join(field(3, one) for one in zeros) for name in ("serving", "training")
    ]
    model = read({"saved_model.pb": saved_model([node("x", "Placeholder")], functions=functions)})
    assert [tensor.name for tensor in model.tensors] == ["serving/a/bias", "serving/b/bias"]
    assert model.notes == ("2 constants are stored again in further functions and count once",)


def test_before_objects_a_collection_or_the_name_tells_what_is_trained() -> None:
    variables = {
        "dense/kernel": (1, (2, 2), bytes(16)), "dense/kernel/Adam": (1, (2, 2), bytes(16)),
        "global_step": (9, (), bytes(8)), "norm/moving_mean": (1, (2,), bytes(8)), "table": (1, (3,), bytes(12)),
    }  # fmt: skip
    graph = field(2, field(1, node("x", "Placeholder")))
    trained = entry(4, "trainable_variables", field(2, field(1, field(1, "dense/kernel:0"))))
    for collection, expected in ((b"", 4 + 3), (trained, 4)):
        model = read({"saved_model.pb": field(1, 1) + field(2, graph + collection), **bundle(variables)})
        assert inspect(model).parameters.total == expected
        state = [tensor.name for tensor in model.tensors if tensor.role == "training_state"]
        assert state == ["dense/kernel/Adam", "global_step"]


def test_partitioned_variables_are_whole_ones() -> None:
    part = field(1, 1) + field(2, tf_shape((2, 3)))
    whole = field(1, 1) + field(2, tf_shape((4, 3))) + field(7, b"") + field(7, b"")
    rows = [(b"", field(1, 1)), (b"\0a", part + field(5, 24)), (b"\0b", part + field(4, 24) + field(5, 24)),
            (b"w", whole)]  # fmt: skip
    files = {"variables/variables.index": table(rows), "variables/variables.data-00000-of-00001": bytes(48)}
    model = read({"saved_model.pb": saved_model([node("x", "Placeholder")]), **files})
    assert [(t.name, t.shape, t.byte_range) for t in model.tensors] == [("w", (4, 3), None)]
    assert model.files[-1].tensor_bytes == 48


def test_what_is_missing_is_named() -> None:
    files = small_saved_model()
    with pytest.raises(SourceError, match=r"variables\.index"):
        read({"saved_model.pb": files["saved_model.pb"]})
    files.pop("variables/variables.data-00000-of-00001")
    with pytest.raises(SourceError, match="data-00000-of-00001"):
        read(files)


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([(b"a", b"")], "no entry of the empty key"),
        ([(b"", b"")], "0 data files"),
        ([(b"", field(1, 2**31))], "data files"),
        ([(b"", field(1, 1)), (b"w", field(1, 1) + field(3, 4))], "in data file 4 of 1"),
        ([(b"", field(1, 1)), (b"w", field(1, 1) + field(4, 40) + field(5, 4))], "at 40 to 44"),
        ([(b"", field(1, 1)), (b"w", field(1, 1) + field(2, tf_shape((3,))) + field(5, 4))], "4 bytes for fp32"),
        ([(b"", field(1, 1)), (b"a", field(1, 1) + field(5, 4)), (b"b", field(1, 1) + field(5, 4))], "two tensors"),
        ([(b"", field(1, 1)), (b"b", field(1, 1)), (b"b", field(1, 1))], "after"),
        ([(b"", field(1, 1)), (b"w", field(1, 1) + field(2, field(3, 1)))], "without a shape"),
        ([(b"", field(1, 1)), (b"w", field(1, 1) + field(2, tf_shape((2**64 - 1,))))], "without a shape"),
        ([(b"", field(1, 1)), (b"\xff", field(1, 1))], "the key"),
    ],
)
def test_tables_that_contradict_their_files(rows: list[tuple[bytes, bytes]], part: str) -> None:
    files = {"variables/variables.index": table(rows), "variables/variables.data-00000-of-00001": bytes(8)}
    with pytest.raises(FormatError, match=part):
        read({"saved_model.pb": saved_model([node("x", "Placeholder")]), **files})


def test_compressed_blocks_are_refused() -> None:
    files = bundle({f"w{VALUE}": (1, (2,), bytes(8))})
    index = bytearray(files["variables/variables.index"])
    index[len(index) - 48 - 5] = 1
    files["variables/variables.index"] = bytes(index)
    with pytest.raises(FormatError, match="compression 1"):
        read({"saved_model.pb": saved_model([]), **files})
