"""Do a file's header and a model's description prove each other?

The tensor list of the description is held against that of the file, name by name, shape by shape. What the file has
beside it is named and explained where a rule explains it: a tied copy, a buffer. Anything else is a difference. When
only explained ones remain, every stored element is accounted for and the counts are proved for that file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.architecture import Architecture
from weighbridge.model.buffers import buffer_reason
from weighbridge.model.tensors import TensorSpec


class Status(Enum):
    """The outcome."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which file and description are not the same.

    `kind`: `missing` (described, not stored), `unexpected` (stored, not described), `shape`, `tied_copy` (stored though
    its storage is another tensor's), `buffer` or `mtp` (a next-token-prediction layer). `elements` is what the file
    holds beyond the description, or less.
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
    the description of a bare body; the spelling that matches most names is taken, and said.
    """
    stored = {tensor.name: tensor for tensor in checkpoint.tensors}
    layout = "gguf" if checkpoint.format == "gguf" else "huggingface"
    described, spelling = _best_spelling(list(architecture.tensors(layout)), stored, architecture.base_prefix)
    differences: list[Difference] = []
    matched = 0
    for tensor in described.values():
        found = stored.get(tensor.name)
        if found is None:
            if tensor.tied_to is None and not tensor.mtp:
                note = f"described with shape {list(tensor.shape)}, not in the file"
                differences.append(Difference("missing", tensor.name, -tensor.elements, False, note))
        elif found.shape != tensor.shape:
            note = f"described as {list(tensor.shape)}, stored as {list(found.shape)}"
            differences.append(Difference("shape", tensor.name, found.elements - tensor.elements, False, note))
        elif tensor.tied_to is not None:
            how = "stored twice" if found.tied_to is None else "a second name of the same storage"
            note = f"the same matrix as {tensor.tied_to}, {how}"
            differences.append(Difference("tied_copy", tensor.name, found.elements, True, note))
        elif tensor.mtp:
            differences.append(Difference("mtp", tensor.name, found.elements, True, "a next-token-prediction layer"))
        else:
            matched += 1
    differences += [_extra(tensor) for name, tensor in stored.items() if name not in described]
    status = Status.AGREES if all(d.explained for d in differences) else Status.DIFFERS
    return Reconciliation(status, tuple(differences), matched, inferred, spelling)


def overlap(architecture: Architecture, checkpoint: Checkpoint) -> float:
    """The share of the file's tensors that the description names, from 0 to 1."""
    stored = {tensor.name: tensor for tensor in checkpoint.tensors}
    layout = "gguf" if checkpoint.format == "gguf" else "huggingface"
    described, _ = _best_spelling(list(architecture.tensors(layout)), stored, architecture.base_prefix)
    return sum(name in described for name in stored) / max(1, len(stored))


def _extra(tensor: TensorSpec) -> Difference:
    """A stored tensor that the description does not name."""
    if tensor.tied_to is not None:
        return Difference("tied_copy", tensor.name, tensor.elements, True, f"shares the storage of {tensor.tied_to}")
    reason = buffer_reason(tensor.name, tensor.shape, tensor.encoding)
    if reason is not None:
        return Difference("buffer", tensor.name, tensor.elements, True, reason)
    return Difference("unexpected", tensor.name, tensor.elements, False,
                      f"stored with shape {list(tensor.shape)}, not described")  # fmt: skip


def _best_spelling(
    described: list[TensorSpec], stored: Iterable[str], prefix: str
) -> tuple[dict[str, TensorSpec], str]:
    """The described tensors under the names that match the file best: as they are, without or with the prefix."""
    names = set(stored)
    as_is = {tensor.name: tensor for tensor in described}
    if not prefix:
        return as_is, ""
    bare = [replace(tensor, name=tensor.name.removeprefix(prefix)) for tensor in described]
    longer = [
        tensor if tensor.name.startswith(prefix) else replace(tensor, name=prefix + tensor.name) for tensor in described
    ]
    best, note = as_is, ""
    for spelling, text in (
        (bare, f"the file leaves the prefix {prefix!r} out"),
        (longer, f"the file adds the prefix {prefix!r}"),
    ):
        table = {tensor.name: tensor for tensor in spelling}
        if len(table.keys() & names) > len(best.keys() & names):
            best, note = table, text
    return best, note
