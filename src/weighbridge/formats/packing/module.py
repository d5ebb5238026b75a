"""What do the layouts of packed weights have in common? The packed tensor, what belongs to it, and what is declared.

A layout is a function from a `Module` to what its packed tensor stands for. It answers None where the tensors are not
of its kind, and refuses with `MismatchError` where they are and contradict each other or the configuration.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weighbridge.model.tensors import TensorSpec, Weight

Shape = tuple[int, ...]
MOST_WEIGHTS = 2**62
"""Of one tensor. What claims more is no weight of a model."""


class MismatchError(Exception):
    """Tensors that cannot be what their names say. The text is the reason; the file is read all the same."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a configuration says of packed weights: bits of one, columns of a group. Unchecked, and None if not said."""

    bits: Any = None
    group: Any = None

    def __str__(self) -> str:
        said = [f"{name} {reprlib.repr(value)}" for name, value in (("bits", self.bits), ("group size", self.group))
                if value is not None]  # fmt: skip
        return ", ".join(said) or "nothing"

    def has(self, bits: float, columns: int, groups: int) -> bool:
        """Whether weights of these bits, in rows of so many columns and groups, are as declared."""
        if self.bits is not None and (type(self.bits) not in (int, float) or self.bits != bits):
            return False
        if self.group is None:
            return True
        if type(self.group) is not int or not (self.group == -1 or self.group > 0):
            return False
        return groups == (1 if self.group == -1 else -(-columns // self.group))


@dataclass(frozen=True, slots=True)
class Declared:
    """What the files beside the weights say of their packing.

    `schemes` are those that any module may have, `modules` those of single modules by their names. `block` is the
    shape of the blocks that share a scale, unchecked.
    """

    method: str = ""
    schemes: tuple[Scheme, ...] = ()
    modules: Mapping[str, Scheme] = field(default_factory=dict)
    block: Any = None

    def of(self, module: str) -> tuple[Scheme, ...]:
        """The schemes that a module may have; none when nothing is said."""
        return (self.modules[module],) if module in self.modules else self.schemes

    def check(self, module: str, bits: float, columns: int, groups: int) -> None:
        """Holds what the shapes say against what is declared.

        Raises:
            MismatchError: when they contradict each other.
        """
        schemes = self.of(module)
        if schemes and not any(scheme.has(bits, columns, groups) for scheme in schemes):
            said = " or ".join(str(scheme) for scheme in schemes[:3])
            raise MismatchError(
                f"its shapes give {bits:g} bits and {groups:,} groups in {columns:,} columns, "
                f"the configuration says {said}"
            )


@dataclass(frozen=True, slots=True)
class Module:
    """Tensors with one stem: `parts` by the endings that packers use, `tensors` all others of the file by their names.

    `peek` gives the bytes of a small tensor, or None where they cannot be had.
    """

    stem: str
    parts: Mapping[str, TensorSpec]
    tensors: Mapping[str, TensorSpec]
    declared: Declared
    peek: Callable[[TensorSpec], bytes | None]

    @property
    def weight(self) -> TensorSpec | None:
        """The tensor `weight` of the module, or the one that is itself called like the stem."""
        return self.tensors.get(self.stem + ".weight") or self.tensors.get(self.stem)

    def need(self, *endings: str) -> tuple[TensorSpec, ...]:
        """The parts of these endings.

        Raises:
            MismatchError: when one is missing.
        """
        missing = [ending for ending in endings if ending not in self.parts]
        if missing:
            raise MismatchError(f"{missing[0]} is missing")
        return tuple(self.parts[ending] for ending in endings)

    def named(self, shape: Shape, name: str | None = None) -> Weight:
        """The weight of this shape: under its own name, or that of the module's weight.

        Raises:
            MismatchError: when it has no elements, or more than any model.
        """
        if not 0 < math.prod(shape) < MOST_WEIGHTS:
            raise MismatchError(f"it would have the shape {reprlib.repr(shape)}")
        is_named = self.stem.rpartition(".")[2].endswith("weight")
        return Weight(name or (self.stem if is_named else f"{self.stem}.weight"), shape)

    def check(self, bits: float, columns: int, groups: int) -> None:
        """`Declared.check` for this module."""
        self.declared.check(self.stem, bits, columns, groups)


@dataclass(frozen=True, slots=True)
class Found:
    """A packed tensor: the method's name, the tensor, and what it stands for."""

    method: str
    data: TensorSpec
    weight: Weight


def matrix(tensor: TensorSpec) -> tuple[Shape, int, int]:
    """The shape of a matrix, or of a stack of them: what leads, rows and columns.

    Raises:
        MismatchError: when it is neither, or empty.
    """
    if not 2 <= len(tensor.shape) <= 4 or 0 in tensor.shape:
        raise MismatchError(f"{tensor.name[:200]} has the shape {reprlib.repr(tensor.shape)}, which is no matrix")
    *lead, rows, columns = tensor.shape
    return tuple(lead), rows, columns


def require(holds: bool, *tensors: TensorSpec, why: str = "do not fit together") -> None:
    """Refuses tensors whose shapes contradict each other, and names them.

    Raises:
        MismatchError: when `holds` is false.
    """
    if not holds:
        shapes = ", ".join(f"{t.name[-80:]} {t.encoding.name} {reprlib.repr(list(t.shape))}" for t in tensors)
        raise MismatchError(f"{shapes} {why}")


def only(values: Sequence[Shape], why: str) -> Shape:
    """The one shape that is possible.

    Raises:
        MismatchError: when there are none or several.
    """
    if len(set(values)) != 1:
        raise MismatchError(why if values else f"{why}: none fits")
    return values[0]
