"""Does a table of many tensors hold just what a description says? Found out by kinds of tensors.

A large mixture of experts has 90,000 tensors in some fifty rows of its description. The names of a row are looked up in
the file at once, and what is found there is of one kind or two, which are held against the row once. This says yes and
never no: where anything is missing, left over or unlike its row, the answer is None, and `reconcile` goes through the
tensors one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import repeat

from weighbridge.formats.tensor_table import TensorTable
from weighbridge.model.architecture import Architecture
from weighbridge.model.tensors import Kind, TensorSpec

OLD_ENDINGS = {"gamma": "weight", "beta": "bias"}
"""TensorFlow's names of a normalisation's scale and shift, in files converted before 2019."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many tensors are as described; and those of next-token-prediction layers, with their numbers of weights."""

    matched: int
    next_token: tuple[tuple[str, int], ...]


def of(architecture: Architecture, table: TensorTable) -> Agreement | None:
    """What the two agree in; None where they may differ."""
    left = dict(table.weights)
    twins = {group.weight.tied_to for group in architecture.groups}
    matched = 0
    next_token: list[tuple[str, int]] = []
    for group in architecture.groups:
        weight, names = group.weight, group.names()
        found = list(map(left.pop, names, repeat(None)))
        kinds = {kind: table.kinds[kind] for kind in set(found) if kind is not None}
        if None in found:
            absent = [name for name, kind in zip(names, found, strict=True) if kind is None]
            may_be_absent = group.mtp or weight.tied_to is not None
            if not may_be_absent or any(name in twins or _may_be_there(table, name) for name in absent):
                return None
        if kinds and weight.tied_to is not None and not group.mtp:
            return None
        for stored in kinds.values():
            is_weight = stored.encoding.is_float or stored.stands_for is not None
            if not is_of(stored, weight.shape) or (weight.kind is Kind.PARAMETER and not is_weight):
                return None
        if group.mtp:
            next_token += [(name, kinds[kind].weights) for name, kind in zip(names, found, strict=True) if kind]
        else:
            matched += len(names) - found.count(None)
    return None if left else Agreement(matched, tuple(next_token))


def _may_be_there(table: TensorTable, name: str) -> bool:
    """Whether a tensor that was not found is there all the same: in another row's place, or under its old name."""
    module, _, ending = name.rpartition(".")
    old = (f"{module}.{word}" for word, modern in OLD_ENDINGS.items() if modern == ending)
    return name in table.weights or any(spelling in table.weights for spelling in old)


def is_of(stored: TensorSpec, shape: tuple[int, ...]) -> bool:
    """Whether a stored tensor has this shape, unpacked.

    Packers write a `Conv1D` of transformers, which lies in its own file turned, as a linear layer; where the file gives
    only the number of weights, as those of bitsandbytes and HQQ do by their headers, that is compared.
    """
    if stored.stands_for is None:
        return stored.shape == shape
    own = stored.stands_for.shape
    is_turned = own == shape[::-1] and len(shape) == 2 and own != stored.shape and is_conv1d(stored.stands_for.name)
    return own == shape or is_turned or own == (math.prod(shape),)


def is_conv1d(name: str) -> bool:
    """Whether a weight has the name that GPT-2 and the models like it give their `Conv1D`."""
    return name.rpartition(".")[0].rpartition(".")[2] in ("c_attn", "c_fc", "c_proj", "q_attn")
