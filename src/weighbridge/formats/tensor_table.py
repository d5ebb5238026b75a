"""How are a hundred thousand tensors held without as many objects? In columns, with a `TensorSpec` made when asked.

A large mixture of experts has 90,000 tensors of some thirty kinds. What weighs them needs each kind and how often it
occurs; who lists or compares them gets the objects.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import TensorSpec

Kind = tuple[tuple[int, ...], Encoding]
"""A shape and an encoding."""

_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_ATTACHED = re.compile(r"[A-Za-z]0|0[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Columns:
    """The tensors of one file, which follow each other in its bytes from `start` on.

    `kinds` names the kind of each by a key of `kind_of`, which means the same kind in all files of a model; `ends` are
    the ends of their bytes, counted from `start`.
    """

    file: str
    start: int
    names: Sequence[str]
    kinds: Sequence[str]
    kind_of: dict[str, Kind]
    ends: Sequence[int]

    def tensors(self) -> Iterator[TensorSpec]:
        """The tensors in the order of their bytes."""
        begin = self.start
        for name, kind, last in zip(self.names, self.kinds, self.ends, strict=True):
            shape, encoding = self.kind_of[kind]
            end = self.start + last
            yield TensorSpec(name, shape, encoding, file=self.file, byte_range=(begin, end))
            begin = end


class TensorTable(Sequence[TensorSpec]):
    """The tensors of several files as one sequence.

    Example:
        >>> from weighbridge.model.encodings import ENCODINGS
        >>> kinds = {"a": ((2, 3), ENCODINGS["bf16"])}
        >>> table = TensorTable([Columns("m.safetensors", 80, ["h.0.w", "h.1.w"], ["a", "a"], kinds, [12, 24])])
        >>> table[1].name, table[1].byte_range
        ('h.1.w', (92, 104))
        >>> [(tensor.name, count) for tensor, count in table.groups()]
        [('h.0.w', 2)]
    """

    def __init__(self, files: Sequence[Columns]) -> None:
        self._files = tuple(files)
        self._length = sum(len(file.names) for file in files)
        self._groups: tuple[tuple[TensorSpec, int], ...] | None = None
        self._made: tuple[TensorSpec, ...] | None = None

    @cached_property
    def weights(self) -> Mapping[str, str]:
        """The tensors of the model by the names they have there, in order, each with a key of `kinds`."""
        found: dict[str, str] = {}
        for file in self._files:
            found.update(zip(file.names, file.kinds, strict=True))
        return found

    @cached_property
    def kinds(self) -> Mapping[str, TensorSpec]:
        """For each key of `weights` a tensor of that kind, whose name says nothing."""
        known: dict[str, Kind] = {}
        for file in self._files:
            known.update(file.kind_of)
        return {key: TensorSpec("", shape, encoding) for key, (shape, encoding) in known.items()}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> TensorSpec: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[TensorSpec, ...]: ...

    def __getitem__(self, place: int | slice) -> TensorSpec | tuple[TensorSpec, ...]:
        return self._all()[place]

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return f"TensorTable of {self._length:,} tensors in {len(self._files)} files"

    def _all(self) -> tuple[TensorSpec, ...]:
        if self._made is None:
            self._made = tuple(tensor for file in self._files for tensor in file.tensors())
        return self._made

    def groups(self) -> Sequence[tuple[TensorSpec, int]]:
        """Tensors of one kind whose names differ in free-standing numbers only, as one of them and how many there are.

        The name of the one has 0 for each digit. A number that touches a letter, as in `conv1`, is part of a name: such
        tensors come one by one.
        """
        if self._groups is None:
            self._groups = tuple(self._counted())
        return self._groups

    def _counted(self) -> Iterator[tuple[TensorSpec, int]]:
        counted: Counter[tuple[str, str]] = Counter()
        for file in self._files:
            counted.update(zip(patterns(file.names), file.kinds, strict=True))
        for (pattern, key), count in counted.items():
            kind = self.kinds[key]
            yield TensorSpec(pattern, kind.shape, kind.encoding), count


def patterns(names: Sequence[str]) -> Sequence[str]:
    """For each name the one that it shares with those that differ from it in free-standing numbers only."""
    # All names at once: a call for each would take longer than all the rest.
    found: Sequence[str] = "\n".join(names).encode().translate(_ZEROS).decode().split("\n")
    if len(found) != len(names):  # a name with a line break
        return names
    attached = {pattern for pattern in set(found) if _ATTACHED.search(pattern)}
    if attached:
        found = [name if pattern in attached else pattern for name, pattern in zip(names, found, strict=True)]
    return found


def groups(tensors: Sequence[TensorSpec]) -> Iterable[tuple[TensorSpec, int]]:
    """Tensors that count alike, as one of them and how many there are; of a plain sequence each by itself."""
    return tensors.groups() if isinstance(tensors, TensorTable) else ((tensor, 1) for tensor in tensors)
