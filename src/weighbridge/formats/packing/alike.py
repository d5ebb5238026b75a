"""How are a hundred thousand packed tensors unpacked without an object for each? By modules that are alike.

What a layout says of a module follows from the endings, shapes and types of its tensors and from the configuration. So
one of the modules that share these is asked about, and the answer holds for all. Where it might not, nothing is decided
here: the answer is then None, and the modules are taken one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from weighbridge.formats.packing.endings import ALONE, HOLDERS, ROLES, Part
from weighbridge.formats.packing.layouts import found_in
from weighbridge.formats.packing.module import Declared, MismatchError, Module
from weighbridge.formats.tensor_table import TensorTable, patterns
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MOST_ROWS = 1000
"""Modules that are not alike. A model has some ten; where each module is another one, nothing is gained here."""
Row = tuple[str | bool | None, ...]
"""What modules have in common: the kind of each of their parts, that of the tensor `weight`, that of the tensor called
like the module, and whether the module is called like a weight itself. None where there is no such tensor."""


class UnlikeError(Exception):
    """Modules of which not all is known from one of them."""


class UnpackedTable(TensorTable):
    """A table whose packed tensors say what they stand for. The objects are made one by one when they are asked for."""

    def __init__(self, table: TensorTable, found: _Unpacked, make: Callable[[], Sequence[TensorSpec]]) -> None:
        super().__init__(())
        self._length = len(table)
        self._stored, self._found, self._make = table, found, make
        self.weights, self.kinds = found.weights, found.kinds  # in the place of what the plain table works out

    def _all(self) -> tuple[TensorSpec, ...]:
        if self._made is None:
            self._made = tuple(self._make())
        return self._made

    def _counted(self) -> Iterator[tuple[TensorSpec, int]]:
        """What is counted first comes first, as in the sequence: sums by encoding and by role keep their order."""
        stored = list(self._stored.weights)
        kinds = list(self._stored.weights.values())
        begins: dict[str, int] = {}
        for kind in dict.fromkeys(kinds):
            begins.setdefault(self._stored.kinds[kind].encoding.name, kinds.index(kind))
        counted = Counter(zip(patterns(list(self.weights)), self.weights.values(), strict=True))
        rows: list[tuple[int, TensorSpec, int]] = []
        for (pattern, key), count in counted.items():
            kind_of = self.kinds[key]
            packed = kind_of.stands_for
            name = pattern if packed is None else kind_of.name
            weight = None if packed is None else Weight(pattern, packed.shape)
            spec = TensorSpec(name, kind_of.shape, kind_of.encoding, stands_for=weight)
            rows.append((begins[spec.encoding.name], spec, count))
        rows += [(stored.index(spec.name), spec, count) for spec, count in self._found.beside]
        for _, spec, count in sorted(rows, key=lambda row: row[0]):
            yield spec, count


@dataclass(slots=True)
class _Unpacked:
    """What is found: the model's weights with the keys of their kinds, and what lies beside them, counted.

    `plain` are the keys of tensors that are as they are stored. A spec of `beside` has the name of the first of its
    tensors in the file.
    """

    weights: dict[str, str]
    kinds: dict[str, TensorSpec]
    plain: frozenset[str]
    methods: Counter[str] = field(default_factory=Counter)
    beside: list[tuple[TensorSpec, int]] = field(default_factory=list)

    def take(self, names: Iterable[str]) -> None:
        """Takes tensors out of those that are weights.

        Raises:
            UnlikeError: when one is taken already.
        """
        if not self.plain.issuperset(map(self.weights.pop, names, repeat(""))):
            raise UnlikeError


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where in modules of one row the packed data lie, and which weight they are: what follows the module's name."""

    data: str
    weight: str
    key: str
    method: str


@dataclass(frozen=True, slots=True)
class _Modules:
    """Names of modules, the number of the row of each, and the rows by their numbers."""

    stems: Sequence[str]
    numbers: Sequence[int]
    rows: Sequence[Row]

    def only(self, wanted: Collection[int]) -> _Modules:
        """The modules of some rows."""
        if len(wanted) == len(self.rows):  # all of them
            return self
        chosen = [(stem, number) for stem, number in zip(self.stems, self.numbers, strict=True) if number in wanted]
        return _Modules([stem for stem, _ in chosen], [number for _, number in chosen], self.rows)


def unpacked(
    table: TensorTable, parts: Sequence[Part], said: Declared, make: Callable[[], Sequence[TensorSpec]]
) -> tuple[TensorTable, Counter[str]] | None:
    """The table unpacked, and how many modules each method packed. Where none is packed it stays as it is.

    Args:
        table: the tensors as they are stored.
        parts: `parts_of` their names.
        said: what the files beside the weights declare.
        make: the tensors unpacked one by one.
    """
    if said.modules:  # settings of their own make modules unlike
        return None
    found = _Unpacked(dict(table.weights), dict(table.kinds), frozenset(table.kinds))
    try:
        modules = _modules(table, parts)
        answers: dict[int, _Answer] = {}
        for number, row in enumerate(modules.rows):
            answer = _answer(found, table, parts, said, row, modules.stems[modules.numbers.index(number)])
            if answer is not None:
                answers[number] = answer
        for spelling in {(answer.data, answer.weight) for answer in answers.values()}:
            alike = {number: a for number, a in answers.items() if (a.data, a.weight) == spelling}
            _unpack(found, table, parts, modules.only(alike), alike)
        if answers:
            _leave(found, table, parts, modules.only(set(range(len(modules.rows))).difference(answers)))
    except (UnlikeError, MismatchError):
        return None
    return (UnpackedTable(table, found, make) if answers else table), found.methods


def _modules(table: TensorTable, parts: Sequence[Part]) -> _Modules:
    """The modules, by what they have in common.

    Raises:
        UnlikeError: when they have little in common.
    """
    kind = table.weights
    names = [[name[: -len(part.suffix)] for name in part.names] for part in parts]
    columns: list[Iterable[str | None]] = [map(kind.get, part.names) for part in parts]
    stems = names[0]
    if any(other != stems for other in names):  # not every module has every part
        held = [dict(zip(own, column, strict=True)) for own, column in zip(names, columns, strict=True)]
        stems = list(dict.fromkeys(chain.from_iterable(held)))
        columns = [map(column.get, stems) for column in held]
    rows = zip(
        *columns, map(kind.get, [stem + ".weight" for stem in stems]), map(kind.get, stems),
        [stem.endswith("weight") for stem in stems], strict=True,
    )  # fmt: skip
    number_of: dict[Row, int] = {}
    numbers = [number_of.setdefault(row, len(number_of)) for row in rows]
    if len(number_of) > MOST_ROWS or "" in stems:
        raise UnlikeError
    return _Modules(stems, numbers, list(number_of))


def _own(parts: Sequence[Part], row: Row, table: TensorTable) -> Iterator[tuple[Part, TensorSpec]]:
    """The parts that modules of this row have, and their kinds."""
    for part, key in zip(parts, row, strict=False):
        if isinstance(key, str):
            yield part, table.kinds[key]


def _answer(
    found: _Unpacked, table: TensorTable, parts: Sequence[Part], said: Declared, row: Row, stem: str
) -> _Answer | None:
    """What the layouts say of modules of a row, asked about one of them; None where they are not packed.

    Raises:
        UnlikeError, MismatchError: when they have to be looked at one by one.
    """
    own = list(_own(parts, row, table))
    if len({part.ending for part, _ in own}) != len(own):
        raise UnlikeError
    near = {stem + suffix: table.kinds[key] for suffix, key in ((".weight", row[-3]), ("", row[-2]))
            if isinstance(key, str)}  # fmt: skip
    module = Module(
        stem, {part.ending: _named(stem + part.suffix, kind) for part, kind in own},
        {name: _named(name, kind) for name, kind in near.items()}, said, _unread,
    )  # fmt: skip
    answer = found_in(module)
    if answer is None:
        return None
    data, weight = (name.removeprefix(stem) for name in (answer.data.name, answer.weight.name))
    if any(part.ending in HOLDERS and part.suffix != data for part, _ in own):
        raise UnlikeError
    key = f"packed {len(found.kinds)}"
    found.kinds[key] = TensorSpec(
        answer.data.name, answer.data.shape, answer.data.encoding, stands_for=answer.weight
    )  # fmt: skip
    return _Answer(data, weight, key, answer.method)


def _unpack(
    found: _Unpacked, table: TensorTable, parts: Sequence[Part], modules: _Modules, answers: Mapping[int, _Answer]
) -> None:
    """Adds the weights of modules whose tensors are called alike.

    Raises:
        UnlikeError: when they have to be looked at one by one.
    """
    answer = next(iter(answers.values()))
    names = [stem + answer.weight for stem in modules.stems]
    if answer.data == answer.weight:
        found.take(names)
    else:
        if not table.weights.keys().isdisjoint(names):
            raise UnlikeError
        found.take([stem + answer.data for stem in modules.stems])
    _set_aside(found, table, parts, modules, lambda part, _: part.suffix != answer.data)
    before = len(found.weights)
    keys = {number: answer.key for number, answer in answers.items()}
    found.weights.update(zip(names, map(keys.__getitem__, modules.numbers), strict=True))
    if len(found.weights) != before + len(names):
        raise UnlikeError
    for number, count in Counter(modules.numbers).items():
        found.methods[answers[number].method] += count


def _set_aside(
    found: _Unpacked, table: TensorTable, parts: Sequence[Part], modules: _Modules,
    wanted: Callable[[Part, TensorSpec], bool],
) -> None:  # fmt: skip
    """Takes parts of modules for what packed weights need beside them, where they are wanted.

    Raises:
        UnlikeError: when one is taken already.
    """
    counted = Counter(modules.numbers)
    for place, part in enumerate(parts):
        keys: dict[int, str] = {}
        for number in counted:
            key = modules.rows[number][place]
            if isinstance(key, str) and wanted(part, table.kinds[key]):
                keys[number] = key
        if not keys:
            continue
        found.take([stem + part.suffix for stem in modules.only(keys).stems])
        for key in dict.fromkeys(keys.values()):
            first = next(n for n in part.names if table.weights[n] == key and n not in found.weights)
            count = sum(counted[number] for number, own in keys.items() if own == key)
            kind = table.kinds[key]
            spec = TensorSpec(first, kind.shape, kind.encoding, ROLES[part.ending], kind=Kind.QUANTIZATION)
            found.beside.append((spec, count))


def _leave(found: _Unpacked, table: TensorTable, parts: Sequence[Part], modules: _Modules) -> None:
    """Leaves modules that are not packed as they are, but for scales that belong to a packed model.

    Raises:
        UnlikeError: when they lie beside packed weights.
    """
    for stem in modules.stems:
        key = found.weights.get(f"{stem}.weight")
        if key is not None and found.kinds[key].stands_for is not None:
            raise UnlikeError
    _set_aside(found, table, parts, modules, lambda part, kind: part.ending in ALONE and kind.elements == 1)


def _named(name: str, kind: TensorSpec) -> TensorSpec:
    return TensorSpec(name, kind.shape, kind.encoding)


def _unread(tensor: TensorSpec) -> bytes | None:
    """In the place of bytes that may be read: then modules are not alike by what is known here.

    Raises:
        UnlikeError: always.
    """
    raise UnlikeError
