"""Do a file's header and a model's description prove each other?

The tensor list of the description is held against that of the file, name by name, shape by shape. What the file has
beside it is named and explained where a rule explains it: a tied copy, a buffer. Anything else is a difference. When
only explained ones remain, every stored element is accounted for and the counts are proved for that file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from weighbridge.formats import agreement
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.tensor_table import TensorTable
from weighbridge.model.architecture import Architecture
from weighbridge.model.buffers import named_buffer
from weighbridge.model.tensors import Kind, TensorSpec


class Status(Enum):
    """The outcome."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which file and description are not the same.

    `kind`: `missing` (described, not stored), `unexpected` (stored, not described), `shape`, `encoding` (not floating
    point), `tied_copy` (stored though its storage is another tensor's), `buffer` or `mtp` (a next-token-prediction
    layer) or `packing` (added by a packer). `elements` is what the file holds beyond the description, or less.
    """

    kind: str
    name: str
    elements: int
    explained: bool
    note: str

    def to_json(self) -> dict[str, Any]:
        """As the JSON contract lists it."""
        return {"kind": self.kind, "name": self.name, "elements": self.elements, "explained": self.explained,
                "note": self.note}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome with its reasons. `inferred` names settings taken from the tensor table, which prove nothing."""

    status: Status
    differences: tuple[Difference, ...] = ()
    matched: int = 0
    inferred: tuple[str, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the JSON contract has it."""
        return {
            "status": self.status.value, "differences": [difference.to_json() for difference in self.differences],
            "tensors_matched": self.matched, "inferred_settings": list(self.inferred), "note": self.note,
        }  # fmt: skip


def reconcile(architecture: Architecture, checkpoint: Checkpoint, inferred: tuple[str, ...] = ()) -> Reconciliation:
    """Holds a description against a checkpoint.

    Files of a body without its head leave the base prefix out of names, and files of a head model may be read through
    the description of a bare body; the spelling that matches most names is taken, and said. Of two tied names a file
    may hold either. Packed weights are compared by what they stand for; scales and the like are left aside. The readers
    have already held each tensor's bytes against its shape and encoding.
    """
    if isinstance(checkpoint.tensors, TensorTable) and checkpoint.format != "gguf":
        found = agreement.of(architecture, checkpoint.tensors)
        if found is not None:
            ahead = tuple(_next_token(name, weights) for name, weights in found.next_token)
            return Reconciliation(Status.AGREES, ahead, found.matched, inferred)
    return _by_tensors(architecture, checkpoint, inferred)


def _by_tensors(architecture: Architecture, checkpoint: Checkpoint, inferred: tuple[str, ...]) -> Reconciliation:
    """`reconcile` tensor by tensor, whatever they are."""
    described, spelling = _best_spelling(architecture, checkpoint)
    stored = _modern_names({_name(tensor): tensor for tensor in _weights(checkpoint)}, described)
    added = _added_biases(stored)
    twins = {tensor.tied_to: tensor.name for tensor in described.values() if tensor.tied_to is not None}
    differences: list[Difference] = []
    matched = 0
    for tensor in described.values():
        found = stored.get(tensor.name)
        if found is None:
            twin = stored.get(twins.get(tensor.name, ""))
            if twin is not None and agreement.is_of(twin, tensor.shape):
                matched += 1  # the file keeps the one matrix under its other name
            elif tensor.tied_to is None and not tensor.mtp:
                note = f"described with shape {list(tensor.shape)}, not in the file"
                differences.append(Difference("missing", tensor.name, -tensor.elements, False, note))
        elif not agreement.is_of(found, tensor.shape):
            shape = found.shape if found.stands_for is None else found.stands_for.shape
            note = f"described as {list(tensor.shape)}, stored as {list(shape)}"
            differences.append(Difference("shape", tensor.name, found.weights - tensor.elements, False, note))
        elif not found.encoding.is_float and found.stands_for is None and tensor.kind is Kind.PARAMETER:
            note = f"a parameter, stored as {found.encoding.name}: packed or another tensor"
            differences.append(Difference("encoding", tensor.name, 0, False, note))
        elif tensor.mtp:
            differences.append(_next_token(tensor.name, found.weights))
        elif tensor.tied_to is not None:
            if tensor.tied_to not in stored:
                continue
            how = "stored twice" if found.tied_to is None else "a second name of the same storage"
            note = f"the same matrix as {tensor.tied_to}, {how}"
            differences.append(Difference("tied_copy", tensor.name, found.weights, True, note))
        else:
            matched += 1
    differences += [_extra(tensor, added) for name, tensor in stored.items() if name not in described]
    status = Status.AGREES if all(d.explained for d in differences) else Status.DIFFERS
    return Reconciliation(status, tuple(differences), matched, inferred, spelling)


def together(parts: Mapping[str, Reconciliation]) -> Reconciliation:
    """The outcome of a pipeline from those of its parts: it agrees when every part that holds weights does."""
    statuses = {result.status for result in parts.values()}
    status = next((s for s in (Status.DIFFERS, Status.AGREES) if s in statuses), Status.NOT_APPLICABLE)
    bare = [name for name, result in parts.items() if result.status is Status.NOT_APPLICABLE]
    return Reconciliation(
        status,
        tuple(replace(d, name=f"{name}.{d.name}") for name, result in parts.items() for d in result.differences),
        sum(result.matched for result in parts.values()),
        note=f"not held against weights: {', '.join(bare)}" if bare else "",
    )


def overlap(architecture: Architecture, checkpoint: Checkpoint) -> float:
    """The share of the file's modules that the description names, from 0 to 1."""
    described, _ = _best_spelling(architecture, checkpoint, modules=True)
    modules = {_module(name) for name in described}
    stored = {_module(_name(tensor)) for tensor in _weights(checkpoint)}
    return len(stored & modules) / max(1, len(stored))


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _weights(checkpoint: Checkpoint) -> Iterator[TensorSpec]:
    """The tensors of a model: without what packed weights need beside them."""
    return (tensor for tensor in checkpoint.tensors if tensor.kind is not Kind.QUANTIZATION)


def _name(tensor: TensorSpec) -> str:
    """What a stored tensor is called in the model: a packed one has another name in the file."""
    return tensor.name if tensor.stands_for is None else tensor.stands_for.name


def _added_biases(stored: Mapping[str, TensorSpec]) -> set[str]:
    """Names of biases that AutoGPTQ up to 0.7 gives every module that it packs, of zeros where the model has none.

    Where one module has none, nothing was added: then a bias is one of another model.
    """
    rows = {f"{_module(weight.stands_for.name)}.bias": weight.stands_for.shape[:1] for weight in stored.values()
            if weight.stands_for is not None and weight.name.endswith(".qweight")}  # fmt: skip
    return set(rows) if all(name in stored and stored[name].shape == shape for name, shape in rows.items()) else set()


def _next_token(name: str, weights: int) -> Difference:
    return Difference("mtp", name, weights, True, "a next-token-prediction layer")


def _extra(tensor: TensorSpec, added: Collection[str] = ()) -> Difference:
    """A stored tensor that the description does not name; only a rule about its name and shape explains it."""
    if tensor.name in added:
        note = "a bias that AutoGPTQ adds to every module it packs, of zeros where the model has none"
        return Difference("packing", tensor.name, tensor.elements, True, note)
    if tensor.tied_to is not None:
        return Difference("tied_copy", tensor.name, tensor.weights, True, f"shares the storage of {tensor.tied_to}")
    reason = "a registered buffer" if tensor.kind is Kind.BUFFER else named_buffer(tensor.name, tensor.shape)
    if reason is not None:
        return Difference("buffer", tensor.name, tensor.elements, True, reason)
    return Difference("unexpected", tensor.name, tensor.weights, False,
                      f"stored with shape {list(tensor.shape)}, not described")  # fmt: skip


def _modern_names(stored: dict[str, TensorSpec], described: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The stored tensors under the names of today, where only the old one is in the file."""
    renamed = {}
    for name, tensor in stored.items():
        module, _, ending = name.rpartition(".")
        modern = f"{module}.{agreement.OLD_ENDINGS[ending]}" if ending in agreement.OLD_ENDINGS else name
        renamed[modern if modern in described and modern not in stored else name] = tensor
    return renamed


def _best_spelling(
    architecture: Architecture, checkpoint: Checkpoint, modules: bool = False
) -> tuple[dict[str, TensorSpec], str]:
    """The described tensors under the names that match the file best: as they are, without or with the prefix."""

    def key(name: str) -> str:
        return _module(name) if modules else name

    prefix = architecture.base_prefix
    names = {key(_name(tensor)) for tensor in _weights(checkpoint)}
    described = list(architecture.tensors("gguf" if checkpoint.format == "gguf" else "huggingface"))
    best, note = {tensor.name: tensor for tensor in described}, ""
    if not prefix or checkpoint.format == "gguf" or names <= {key(name) for name in best}:
        return best, note
    spellings: dict[str, Callable[[str], str]] = {
        f"the file leaves the prefix {prefix!r} out": lambda name: name.removeprefix(prefix),
        f"the file adds the prefix {prefix!r}": lambda name: name if name.startswith(prefix) else prefix + name,
    }
    for text, spell in spellings.items():
        table = {}
        for tensor in described:
            tied_to = None if tensor.tied_to is None else spell(tensor.tied_to)
            table[spell(tensor.name)] = replace(tensor, name=spell(tensor.name), tied_to=tied_to)
        if len({key(name) for name in table} & names) > len({key(name) for name in best} & names):
            best, note = table, text
    return best, note
