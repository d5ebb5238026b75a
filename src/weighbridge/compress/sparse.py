"""How many bytes does a matrix with zeros take, and from which share of zeros on is that less than all its values?

A zero that is not stored still has to be found again: a bit for each element (`bitmask`), the column of each value and
where each row begins (`csr`), or two bits for each of two values kept of four (`2:4`). Whether anything reads a form is
another question; all counts are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.formats.values import TensorValues
from weighbridge.model.tensors import TensorSpec

FORMS = ("bitmask", "csr", "2:4")
_LARGEST_INT32 = 2**31 - 1


def dense_bytes(shape: tuple[int, int], value_bytes: int) -> int:
    """Bytes of a matrix whose every element is stored.

    Example:
        >>> dense_bytes((4096, 4096), 2)
        33554432
    """
    return shape[0] * shape[1] * value_bytes


def sparse_bytes(shape: tuple[int, int], value_bytes: int, nonzero: int, form: str) -> int | None:
    """Bytes of a matrix in a form of `FORMS`; None where `2:4` cannot hold it: more than half of it is not zero, or its
    rows are no whole number of fours. Where the zeros lie is not looked at.

    Args:
        shape: rows and columns.
        value_bytes: bytes of one value.
        nonzero: elements that are not zero.
        form: `bitmask` pads each row to whole bytes; `csr` counts in int32, and in int64 where that is too small.

    Raises:
        UnitError: when a number is negative, or more elements are not zero than there are.
        UnknownNameError: for another form.

    Example:
        >>> [sparse_bytes((4096, 4096), 2, 167_772, form) for form in FORMS]
        [2432696, 1023020, 18874368]
    """
    rows, columns = shape
    elements = rows * columns
    if min(rows, columns, nonzero) < 0 or value_bytes < 1 or nonzero > elements:
        raise UnitError(f"{nonzero} of {rows} x {columns} values of {value_bytes} bytes that are not zero",
                        "up to as many as there are elements", "correct the numbers")  # fmt: skip
    if form == "bitmask":
        return rows * -(-columns // 8) + nonzero * value_bytes
    if form == "csr":
        return nonzero * (value_bytes + _index_bytes(columns, nonzero)) + (rows + 1) * _index_bytes(columns, nonzero)
    if form == "2:4":
        if 2 * nonzero > elements or columns % 4:
            return None
        return elements // 2 * value_bytes + -(-elements // 8)
    raise UnknownNameError("form", form, FORMS, "name one of these")


def _index_bytes(columns: int, nonzero: int) -> int:
    return 4 if max(columns, nonzero) <= _LARGEST_INT32 else 8


def break_even(shape: tuple[int, int], value_bytes: int, form: str) -> float:
    """The share of zeros above which a form takes fewer bytes than all values do; 1 where it never does.

    For `2:4` it is the share that the form needs: where two of each four are zero it is always smaller.

    Example:
        >>> break_even((4096, 4096), 2, "bitmask"), round(break_even((4096, 4096), 2, "csr"), 3)
        (0.0625, 0.667)
    """
    elements, room = shape[0] * shape[1], dense_bytes(shape, value_bytes)
    fits = sparse_bytes(shape, value_bytes, 0, form) is not None
    if form == "2:4":
        return 0.5 if fits else 1.0
    if not elements:
        return 1.0
    index = _index_bytes(shape[1], room // (value_bytes + 4)) if form == "csr" else 0
    fixed = (shape[0] + 1) * index if form == "csr" else shape[0] * -(-shape[1] // 8)
    return min(1.0, 1 - (room - fixed) / (value_bytes + index) / elements)


@dataclass(frozen=True, slots=True)
class Storage:
    """All matrices whose zeros were counted: their bytes as they are and in each form, and when each begins to pay.

    `bytes_by_form` has None where a matrix does not fit a form; `break_even` is the mean over all elements of the
    shares of zeros above which the form takes fewer bytes than the values.
    """

    zero_share: float
    dense_bytes: int
    bytes_by_form: Mapping[str, int | None]
    break_even: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The part `values.storage` of the JSON document."""
        return {
            "zero_share": self.zero_share, "dense_bytes": self.dense_bytes,
            "forms": [{"name": form, "bytes": size, "break_even": self.break_even[form]}
                      for form, size in self.bytes_by_form.items()],
        }  # fmt: skip


def storage_of(counted: Iterable[TensorValues], tensors: Iterable[TensorSpec]) -> Storage | None:
    """What the matrices of a checkpoint would take in each form; None where none was read.

    Args:
        counted: how many elements of each tensor are not zero.
        tensors: the tensors to look at: those that were learned. Leading axes count as rows; vectors and block
            encodings are left out.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    matrices = []
    for one in counted:
        tensor = by_name.get(one.name)
        if tensor is None:
            continue
        is_plain = tensor.encoding.elements_per_block == 1
        if one.nonzero is not None and one.elements and len(tensor.shape) > 1 and is_plain:
            shape = one.elements // tensor.shape[-1], tensor.shape[-1]
            matrices.append((shape, tensor.encoding.bytes_per_block, one.nonzero))
    if not matrices:
        return None
    elements = sum(math.prod(shape) for shape, _, _ in matrices)
    dense = sum(dense_bytes(shape, value) for shape, value, _ in matrices)
    sizes: dict[str, int | None] = {}
    for form in FORMS:
        parts = [sparse_bytes(shape, value, nonzero, form) for shape, value, nonzero in matrices]
        known = [part for part in parts if part is not None]
        sizes[form] = sum(known) if len(known) == len(parts) else None
    even = {form: sum(break_even(shape, value, form) * math.prod(shape) for shape, value, _ in matrices) / elements
            for form in FORMS}  # fmt: skip
    return Storage(1 - sum(nonzero for _, _, nonzero in matrices) / elements, dense, sizes, even)
