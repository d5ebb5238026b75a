"""Which weights do the packed tensors of a checkpoint stand for, and what lies beside them?

A packed checkpoint holds words of several weights, their scales, zero points, indexes and codebooks under names of the
packer's own. `unpacked` says of each such tensor what it is: the tensor that holds the weights stands for a matrix with
a name and a shape, the others are of the kind `QUANTIZATION`, with a role. What a module is packed by follows from the
names and types of its own tensors, so that mixed files need no case of their own; the configuration is held against the
shapes. Where they contradict each other nothing is guessed: the tensors stay as they are stored, and a note says why.

The layouts are in `formats.packing`, one module each, with their sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from weighbridge.errors import WeighbridgeError, printable
from weighbridge.formats import contents
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.packing.declared import declared
from weighbridge.formats.packing.endings import ALONE, HOLDERS, ROLES, cut, parts_of
from weighbridge.formats.packing.module import Declared, MismatchError, Module
from weighbridge.formats.tensor_table import TensorTable, groups
from weighbridge.model.tensors import Kind, TensorSpec, Weight

FORMATS = frozenset({"safetensors", "torch", "npz"})
"""Formats whose tensors carry the packers' names; others have encodings or readers of their own for what is packed."""
MOST_PEEKED_BYTES = 8192

UNREAD = frozenset({"aqlm", "eetq", "higgs", "qqq", "quanto", "spqr", "torchao", "vptq"})
"""Methods of transformers whose layouts are not read here: such files are not held against a description."""


@dataclass(frozen=True, slots=True)
class Packing:
    """What is packed in a checkpoint, and what that takes.

    `weights` are those of the packed tensors, unpacked; `bytes_by_role` what is stored for them, `weights` among the
    roles; `weight_bits` the bits of one weight where they are the same everywhere.
    """

    method: str
    weights: int
    weight_bits: int | None
    bytes_by_role: Mapping[str, int]

    @property
    def bits_per_weight(self) -> float:
        """All stored bits for one packed weight."""
        return 8 * sum(self.bytes_by_role.values()) / self.weights

    @property
    def overhead_bits_per_weight(self) -> dict[str, float]:
        """The stored bits beside the packed weights, for one of them, by their role."""
        return {role: 8 * size / self.weights for role, size in self.bytes_by_role.items() if role != "weights"}


def packing(checkpoint: Checkpoint) -> Packing | None:
    """The sums over what `unpacked` or a reader has found; None when nothing is packed."""
    sizes: dict[str, int] = {"weights": 0}
    bits: set[int | None] = set()
    weights = 0
    for tensor, count in groups(checkpoint.tensors):
        if tensor.tied_to is not None:
            continue
        if tensor.stands_for is not None and tensor.weights:
            weights += tensor.weights * count
            sizes["weights"] += tensor.size_bytes * count
            differs = tensor.name.endswith((".compressed", ".q_weight"))  # nothing in some places, or bits of each row
            bits.add(None if differs else 8 * tensor.size_bytes // tensor.weights)
        elif tensor.kind is Kind.QUANTIZATION:
            role = tensor.role or "metadata"
            sizes[role] = sizes.get(role, 0) + tensor.size_bytes * count
    if not weights:
        return None
    return Packing(checkpoint.packed_by or checkpoint.format, weights, bits.pop() if len(bits) == 1 else None, sizes)


def unpacked(checkpoint: Checkpoint, folder: Folder | None = None) -> Checkpoint:
    """The same checkpoint, whose packed tensors say what they stand for.

    Args:
        checkpoint: what a reader returned. What has been read as packed by its reader stays as it is.
        folder: where its files lie, if they may be read: a few bytes of each tensor that holds a shape, and the files
            of older packers beside the configuration. Without it such a weight is known by its number of elements.

    Example:
        >>> from weighbridge.formats import safetensors
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> header = (b'{"q.qweight": {"dtype": "I32", "shape": [8, 64], "data_offsets": [0, 2048]},'
        ...           b'"q.qzeros": {"dtype": "I32", "shape": [2, 8], "data_offsets": [2048, 2112]},'
        ...           b'"q.scales": {"dtype": "F16", "shape": [2, 64], "data_offsets": [2112, 2368]}}')
        >>> file = MemoryFile("a.safetensors", len(header).to_bytes(8, "little") + header + bytes(2368))
        >>> model = unpacked(safetensors.read(file))
        >>> [t.stands_for or t.role for t in model.tensors]
        [Weight(name='q.weight', shape=(64, 64)), 'zero_point', 'scale']
        >>> model.packed_by, packing(model).overhead_bits_per_weight
        ('gptq', {'zero_point': 0.125, 'scale': 0.5})
    """
    if checkpoint.packed_by or (checkpoint.format not in FORMATS and not checkpoint.parts):
        return checkpoint
    if checkpoint.parts:
        return _pipeline(checkpoint, folder)
    table = checkpoint.tensors
    if isinstance(table, TensorTable):
        parts = parts_of(table.weights)
        said = declared(checkpoint.config, folder if _is_packed({part.ending for part in parts}) else None)
        if not parts:
            return _told(checkpoint, said, Counter(), {})
        from weighbridge.formats.packing import alike  # the layouts are not loaded for what is not packed

        answer = alike.unpacked(table, parts, said, lambda: _one_by_one(checkpoint, _modules(table), said, None)[0])
        if answer is not None:
            return _told(replace(checkpoint, tensors=answer[0]), said, answer[1], {})
    modules = _modules(table)
    said = declared(checkpoint.config, folder if _is_packed(set(chain.from_iterable(modules.values()))) else None)
    tensors, methods, refused = _one_by_one(checkpoint, modules, said, folder)
    return _told(replace(checkpoint, tensors=tensors), said, methods, refused)


def _one_by_one(
    checkpoint: Checkpoint, modules: Mapping[str, Mapping[str, TensorSpec]], said: Declared, folder: Folder | None
) -> tuple[Sequence[TensorSpec], Counter[str], dict[str, str]]:
    """The tensors unpacked, how many modules each method packed, and why modules were not unpacked, by their names."""
    if not modules:
        return checkpoint.tensors, Counter(), {}
    from weighbridge.formats.packing.layouts import found_in

    tensors = {tensor.name: tensor for tensor in checkpoint.tensors}

    def peek(tensor: TensorSpec) -> bytes | None:
        if folder is None or tensor.size_bytes > MOST_PEEKED_BYTES or not contents.is_readable(checkpoint, tensor):
            return None
        try:
            return b"".join(contents.pieces(checkpoint, tensor, folder))
        except WeighbridgeError:
            return None

    changed: dict[str, TensorSpec] = {}
    methods: Counter[str] = Counter()
    refused: dict[str, str] = {}
    weights: set[str] = set()
    for stem, parts in modules.items():
        try:
            found = found_in(Module(stem, parts, tensors, said, peek))
            if found is None:
                continue
            weight = found.weight
            name = found.data.name
            if (weight.name in weights or name in changed or (weight.name != name and weight.name in tensors)
                    or any(tensor.name != name for ending, tensor in parts.items() if ending in HOLDERS)):  # fmt: skip
                raise MismatchError(f"{weight.name[:200]} is stored twice, packed and plain or packed in two ways")
        except MismatchError as error:
            refused[stem] = str(error)
            continue
        methods[found.method] += 1
        weights.add(weight.name)
        changed[found.data.name] = _marked(found.data, found.data.kind, "", weight)
        for ending, tensor in parts.items():
            if tensor is not found.data:
                changed[tensor.name] = _marked(tensor, Kind.QUANTIZATION, ROLES[ending], None)
    if not changed:
        return checkpoint.tensors, methods, refused
    for stem, parts in modules.items():
        is_beside = f"{stem}.weight" in weights
        for ending, tensor in parts.items():
            if tensor.name not in changed and ending not in HOLDERS and (
                    is_beside or (ending in ALONE and tensor.elements == 1)):  # fmt: skip
                changed[tensor.name] = _marked(tensor, Kind.QUANTIZATION, ROLES[ending], None)
    return tuple([changed.get(tensor.name, tensor) for tensor in checkpoint.tensors]), methods, refused


def _is_packed(endings: Iterable[str]) -> bool:
    """Whether among tensors of these endings is one that only packers write."""
    return any(ROLES[ending] in ("weights", "zero_point") or ending.startswith("weight_scale") for ending in endings)


def _marked(tensor: TensorSpec, kind: Kind, role: str, weight: Weight | None) -> TensorSpec:
    """A stored tensor that says what it is. Field by field, as `replace` takes three times as long."""
    return TensorSpec(tensor.name, tensor.shape, tensor.encoding, role, tensor.component, tensor.layer, tensor.active,
                      tensor.held, kind, None, tensor.mtp, tensor.file, tensor.byte_range, weight)  # fmt: skip


def _modules(tensors: Iterable[TensorSpec]) -> dict[str, dict[str, TensorSpec]]:
    """Tensors that may belong to something packed: by what stands before the ending of their names, and the ending."""
    cuts: dict[str, tuple[str, int] | None] = {}
    modules: dict[str, dict[str, TensorSpec]] = {}
    for tensor in tensors:
        name = tensor.name
        last = name[name.rfind(".") + 1 :]
        try:
            found = cuts[last]
        except KeyError:
            found = cuts[last] = cut(last)
        if found is not None and tensor.stands_for is None and tensor.kind is Kind.PARAMETER and tensor.tied_to is None:
            ending, length = found
            modules.setdefault(name[:-length], {})[ending] = tensor
    return modules


def _told(checkpoint: Checkpoint, said: Declared, methods: Counter[str], refused: Mapping[str, str]) -> Checkpoint:
    """The checkpoint with the name of its packing, and notes on what could not be unpacked."""
    method = printable(said.method)
    notes = []
    if refused:
        stem, reason = next(iter(refused.items()))
        notes.append(
            f"{len(refused):,} packed tensors do not fit together, and their stored elements are counted: "
            f"{printable(stem[:200])} first, as {printable(reason)}"
        )
    elif method and not methods and checkpoint.tensors:
        notes.append(f"the config says packed by {method}: not unpacked; stored elements are counted")
    packed = ((tensor, tensor.stands_for, count) for tensor, count in groups(checkpoint.tensors))
    unread = sum(count for tensor, weight, count in packed if weight and len(weight.shape) == 1 < len(tensor.shape))
    if unread:
        notes.append(f"the shapes of {unread:,} packed weights lie in the data, which was not read: "
                     "only their numbers of elements are known")  # fmt: skip
    packed_by = (method or ", ".join(sorted(methods))) if methods else ""
    is_unread = method.lower() in UNREAD and not methods and checkpoint.tensors
    metadata = {**checkpoint.metadata, "not_unpacked": method} if is_unread else checkpoint.metadata
    return replace(checkpoint, packed_by=packed_by, metadata=metadata, notes=(*checkpoint.notes, *notes))


def _pipeline(checkpoint: Checkpoint, folder: Folder | None) -> Checkpoint:
    """A pipeline whose parts are unpacked, each with the configuration of its own."""
    parts = {}
    for key, part in checkpoint.parts.items():
        path = checkpoint.metadata.get("folders", {}).get(key, key)
        parts[key] = unpacked(part, folder.below(path) if folder is not None and path else folder)
    notes = (f"{key}: {note}" for key, part in parts.items() for note in part.notes[len(checkpoint.parts[key].notes) :])
    methods = sorted({part.packed_by for part in parts.values() if part.packed_by})
    changed = {f"{key}.{tensor.name}": _below(key, tensor)
               for key, part in parts.items() if part.packed_by for tensor in part.tensors}  # fmt: skip
    tensors = tuple(changed.get(tensor.name, tensor) for tensor in checkpoint.tensors)
    return replace(checkpoint, tensors=tensors, parts=parts, packed_by=", ".join(methods),
                   notes=(*checkpoint.notes, *notes))  # fmt: skip


def _below(part: str, tensor: TensorSpec) -> TensorSpec:
    """A tensor of a part as one of the pipeline: its names with the part's in front."""
    weight = tensor.stands_for
    return replace(
        tensor, name=f"{part}.{tensor.name}", tied_to=None if tensor.tied_to is None else f"{part}.{tensor.tied_to}",
        stands_for=None if weight is None else Weight(f"{part}.{weight.name}", weight.shape),
    )  # fmt: skip
