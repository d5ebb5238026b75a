"""What does a TensorFlow SavedModel or frozen graph hold? Variables of its checkpoint and constants of its graph.

A SavedModel is a folder with `saved_model.pb`, a message with a version (1) and graphs (2), and `variables/`, the
checkpoint (`tensor_bundle`). Each graph has the nodes (2), collections (4) and, since TensorFlow 2, the objects (7):
the object graph tells each variable's name and whether it is trained. A key of the checkpoint is the path to its
object, with `/.ATTRIBUTES/VARIABLE_VALUE` behind it. A frozen graph is one message of nodes, without variables.

How it counts. Trained variables are parameters. Others (moving averages, random seeds) are buffers, and so are the
state of an optimizer, metrics and counters, of which a note tells. Where there are no objects, the collection
`trainable_variables` says what is trained, and where there is none either, the name. Constants of a graph with
variables are buffers: tables that nothing trains. Without variables they are the weights, except mean and variance of
batch norms.

Source: tensorflow/tensorflow, `core/protobuf/saved_model.proto`, `meta_graph.proto`, `saved_object_graph.proto`,
`variable.proto`, `python/checkpoint/trackable_view.py` (how paths are written).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import tensor_bundle, tensorflow_graph
from weighbridge.formats.byte_source import ByteSource, Folder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.protobuf import BYTES, VARINT, Field, Fields
from weighbridge.formats.unique_names import UniqueNames
from weighbridge.model.tensors import Kind, TensorSpec

MAX_BYTES = 2**31
"""The largest protocol-buffer message."""
TRAINING_STATE = "training_state"
"""The role of what only training needs."""

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_TRAINING_PATHS = ("optimizer/", "save_counter/", "keras_api/metrics/", "_keras_api/metrics/")
_TRAINING_ENDINGS = (
    "global_step", "beta1_power", "beta2_power", "Adam", "Adam_1", "Momentum", "RMSProp", "RMSProp_1", "Adagrad",
    "ExponentialMovingAverage",
)  # fmt: skip
_AVERAGES = ("moving_mean", "moving_variance")
_GET_AGAIN = "it is damaged or of another format: get it again, with all its files"


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    is_trained: bool


@dataclass(slots=True)
class _Object:
    children: dict[str, int]
    variable: _Variable | None


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of a SavedModel, given its `saved_model.pb`, or of a frozen graph.

    Raises:
        FormatError: when a part is not what its format demands.
        SourceError: when a file is missing.
    """
    source = folder.open(name)
    if source.size > MAX_BYTES:
        raise _error(source, f"{source.size:,} bytes")
    walk = Fields(source)
    top = list(walk.of())
    is_frozen = bool(top) and top[0].number == 1 and top[0].wire == BYTES
    metas = [] if is_frozen else [part for part in top if part.number == 2 and part.wire == BYTES]
    if not is_frozen and not (metas and any(part.number == 1 and part.wire == VARINT for part in top)):
        raise _error(source, "neither graphs with a version nor nodes")
    parts = [list(walk.of(part.begin, part.end)) for part in metas]
    graphs = [(f.begin, f.end) for inside in parts for f in inside if f.number == 2 and f.wire == BYTES]
    objects = _objects(walk, parts)
    found = tensorflow_graph.constants(source, walk, [(0, source.size)] if is_frozen else graphs)
    notes = []
    if found.copies:
        notes.append(f"{found.copies} constants are stored again in further functions and count once")
    tensors: list[TensorSpec] = []
    files: list[StoredFile] = []
    digest = hashlib.sha256()
    bundle = None
    if not is_frozen and _has_variables(folder):
        bundle = tensor_bundle.read(folder.below("variables"), "variables")
        digest.update(bundle.index)
        tensors += _variables(bundle.entries, objects, _trained(walk, parts))
        files += tensor_bundle.below(bundle.files, "variables")
        state = sum(tensor.elements for tensor in tensors if tensor.role == TRAINING_STATE)
        if state:
            notes.append(
                f"{state:,} elements are the state of an optimizer, metrics and counters; they count as buffers"
            )
        unread = [entry for entry in bundle.entries if entry.encoding is None]
        texts = [entry.key for entry in unread if entry.key != "_CHECKPOINTABLE_OBJECT_GRAPH"]
        if texts:
            notes.append(f"{len(texts)} entries of the checkpoint hold no numbers and are left out: {texts[0][:100]}")
    elif any(found.variable is not None for found in objects):
        read_ = f"{folder.name} has no variables/variables.index"
        raise SourceError(read_, "the variables that its objects name", "get the folder variables, too")
    free = UniqueNames()
    for tensor in tensors:
        free.take(tensor.name)
    for constant in found.constants:
        kind = Kind.BUFFER if bundle is not None or constant.is_statistic else Kind.PARAMETER
        tensors.append(TensorSpec(free.take(constant.name), constant.shape, constant.encoding, kind=kind, file=name,
                                  byte_range=constant.place))  # fmt: skip
    held = sum(constant.place[1] - constant.place[0] for constant in found.constants)
    for tensor in tensors:
        digest.update(f"{tensor.name}\0{tensor.shape}\0{tensor.encoding.name}\0{tensor.byte_range}\n".encode())
    metadata: dict[str, Any] = {"kind": "frozen graph" if is_frozen else "SavedModel", "graphs": len(graphs) or 1}
    return Checkpoint(
        source.name if is_frozen else folder.name, "saved_model",
        (StoredFile(name, source.size, source.size - held, held, 0), *files), tuple(tensors), metadata=metadata,
        digest=digest.hexdigest(), notes=tuple(notes),
        byte_order="big" if bundle is not None and bundle.is_big_endian else "little",
    )  # fmt: skip


def _has_variables(folder: Folder) -> bool:
    """Whether there is a checkpoint: a model without variables may come without the folder."""
    try:
        return "variables.index" in folder.below("variables").names()
    except SourceError:
        return False


def _objects(walk: Fields, graphs: Sequence[Sequence[Field]]) -> list[_Object]:
    """The object graph of the first graph that has one."""
    for inside in graphs:
        for part in inside:
            if part.number == 7 and part.wire == BYTES:
                nodes = [field for field in walk.of(part.begin, part.end) if field.number == 1 and field.wire == BYTES]
                return [_object(walk, node) for node in nodes]
    return []


def _object(walk: Fields, node: Field) -> _Object:
    found = _Object({}, None)
    for part in walk.of(node.begin, node.end):
        if part.number == 1 and part.wire == BYTES:
            number, name = 0, ""
            for field in walk.of(part.begin, part.end):
                if field.number == 1:
                    number = field.value
                elif field.number == 2:
                    name = walk.text(field)
            found.children[name] = number
        elif part.number == 7 and part.wire == BYTES:
            inside = list(walk.of(part.begin, part.end))
            names = [walk.text(field) for field in inside if field.number == 6]
            is_trained = any(field.number == 3 and field.value for field in inside)
            found.variable = _Variable(next(iter(names), ""), is_trained)
    return found


def _trained(walk: Fields, graphs: Sequence[Sequence[Field]]) -> set[str] | None:
    """The names in the collection of what is trained; None where no graph has one."""
    names: set[str] | None = None
    for inside in graphs:
        for entry in (part for part in inside if part.number == 4 and part.wire == BYTES):
            fields = [field for field in walk.of(entry.begin, entry.end) if field.wire == BYTES]
            if [walk.text(field) for field in fields if field.number == 1] != ["trainable_variables"]:
                continue
            names = names or set()
            level = fields
            for number in (2, 2, 1):  # the collection, its list of bytes, a variable's message
                level = [inner for field in level if field.number == number and field.wire == BYTES
                         for inner in walk.of(field.begin, field.end)]  # fmt: skip
            names |= {walk.text(field).partition(":")[0] for field in level if field.number == 1}
    return names


def _find(objects: Sequence[_Object], key: str) -> _Variable | None:
    """The variable at a checkpoint's key, along the children of the object graph."""
    if not objects or not key.endswith(_VALUE):
        return None
    number = 0
    for part in key.removesuffix(_VALUE).split("/"):
        name = part.replace("..", "\0").replace(".S", "/").replace("\0", ".")
        number = objects[number].children.get(name, -1)
        if not 0 <= number < len(objects):
            return None
    return objects[number].variable


def _variables(
    entries: Sequence[tensor_bundle.Entry], objects: Sequence[_Object], trained: set[str] | None
) -> list[TensorSpec]:
    """The numbers of a checkpoint, each under its variable's name where that is told and no other's."""
    numbers = [entry for entry in entries if entry.encoding is not None]
    found = {entry.key: _find(objects, entry.key) for entry in numbers}
    count = Counter(variable.name for variable in found.values() if variable is not None)
    tensors = []
    for entry in numbers:
        assert entry.encoding is not None
        variable, name, kind, role = found[entry.key], entry.key.removesuffix(_VALUE), Kind.PARAMETER, ""
        if _is_training_state(name):
            kind, role = Kind.BUFFER, TRAINING_STATE
        elif variable is not None:
            kind = Kind.PARAMETER if variable.is_trained else Kind.BUFFER
            name = variable.name if variable.name and count[variable.name] == 1 else name
        elif (trained is not None and name not in trained) or name.rpartition("/")[2] in _AVERAGES:
            kind = Kind.BUFFER
        tensors.append(TensorSpec(name, entry.shape, entry.encoding, role, kind=kind, file=f"variables/{entry.file}",
                                  byte_range=entry.place))  # fmt: skip
    return tensors


def _is_training_state(name: str) -> bool:
    return (
        "/.OPTIMIZER_SLOT/" in name
        or f"{name}/".startswith(_TRAINING_PATHS)
        or name.rpartition("/")[2] in _TRAINING_ENDINGS
    )


def _error(source: ByteSource, read_: str) -> FormatError:
    return FormatError(f"{source.name} has {read_}", "a SavedModel or a frozen graph of TensorFlow", _GET_AGAIN)
