"""What is each constant of a computation graph: a learned weight, a packed one, its scale, or no parameter at all?

A graph file stores everything that is constant in one way, so that only its use tells what it is. The rules, in this
order; `Rules` names the operators and inputs of one format:

1. A kernel of one input channel and one long axis, which with linear operators alone stands between an input of the
   graph and a magnitude (a sum of two squares, or of squares over an axis), is a fixed transform: an STFT or CQT basis.
   So are the vectors that those operators add or multiply, and windows and rotary tables at their operators' inputs.
2. A floating-point constant at a weight position (kernel, matrix, bias, scale of a normalisation) is a weight, be it
   one number.
3. An integer constant that an operator dequantizes or multiplies as a matrix is packed weights, and so is one of 16
   bits or fewer that is cast, [lowered by a constant] and multiplied by a constant on its way to a weight position or
   after a look-up. What it is multiplied by is its scale, what is taken from it its zero point.
4. The mean and variance of a batch normalisation are running statistics.
5. A floating-point constant that only enters settings (exponents, bounds, fill values, comparisons, scales of a
   resizing) is none, and neither is a single number that arithmetic uses, but for the bias of a layer with one output.
6. A constant that leads nowhere is none, unless the graph has no operators at all.
7. Every other floating-point constant of more than one element is a weight, every other integer one is none.

Views in between (transposed, reshaped, sliced, joined, cast) are followed. Values are numbers that the reader gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import Kind

MAX_STEPS = 64
"""Values that are looked at beyond one constant, in search of its dequantization."""
_WEIGHT, _SETTING, _STATISTIC, _FIXED, _PACKED, _SCALE, _ZERO, _GROUP, _OTHER = (1 << n for n in range(9))

Inputs = Mapping[str, frozenset[int]]


class Role(Enum):
    """What a constant is; `kind` and `words` are what a `TensorSpec` says of it."""

    WEIGHT = (Kind.PARAMETER, "")
    PACKED = (Kind.PARAMETER, "packed")
    SCALE = (Kind.QUANTIZATION, "scale")
    ZERO_POINT = (Kind.QUANTIZATION, "zero_point")
    GROUP_INDEX = (Kind.QUANTIZATION, "group_index")
    STATISTIC = (Kind.BUFFER, "statistic")
    TRANSFORM = (Kind.BUFFER, "transform")
    NONE = (Kind.BUFFER, "constant")

    @property
    def kind(self) -> Kind:
        """The kind of a tensor with this role."""
        return self.value[0]

    @property
    def words(self) -> str:
        """The tensor's role in a word; empty for a plain weight."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: its name, the values that it takes (None where one is left out) and makes, its settings."""

    op: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    settings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Constant:
    """One stored constant."""

    shape: tuple[int, ...]
    encoding: Encoding

    @property
    def elements(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Rules:
    """The operators of a format. The mappings name inputs by their place; the sets name operators.

    `views` hand on their first input, `joins` all of theirs; `integer_products` are the products of integers, whose
    result is scaled afterwards; `dynamic_scale` is the operator whose second output is a scale found while running.
    """

    weights: Inputs
    packed: Inputs = field(default_factory=dict)
    scales: Inputs = field(default_factory=dict)
    zero_points: Inputs = field(default_factory=dict)
    group_indexes: Inputs = field(default_factory=dict)
    statistics: Inputs = field(default_factory=dict)
    transforms: Inputs = field(default_factory=dict)
    settings: Inputs = field(default_factory=dict)
    views: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset()
    casts: frozenset[str] = frozenset()
    look_ups: frozenset[str] = frozenset()
    linear: frozenset[str] = frozenset()
    convolutions: frozenset[str] = frozenset()
    integer_products: frozenset[str] = frozenset()
    signs_and_pads: frozenset[str] = frozenset()
    add: str = "Add"
    subtract: str = "Sub"
    multiply: str = "Mul"
    power: str = "Pow"
    sums: frozenset[str] = frozenset()
    sums_of_squares: frozenset[str] = frozenset()
    dynamic_scale: str = ""


def places(*inputs: int) -> frozenset[int]:
    """Places of an operator's inputs, for the tables of `Rules`."""
    return frozenset(inputs)


EVERY = frozenset({-1})
"""All inputs of an operator."""


def roles(
    nodes: Sequence[Node], constants: Mapping[int, Constant], inputs: Iterable[int], outputs: Iterable[int | None],
    rules: Rules,
) -> dict[int, Role]:  # fmt: skip
    """What each constant is. The time is in proportion to the graph.

    Args:
        nodes: the operators, in any order.
        constants: the stored constants by their value.
        inputs: the values that the graph is given when it runs.
        outputs: the values that the graph returns.
        rules: the tables of the format.

    Example:
        >>> from weighbridge.model import encodings
        >>> fp32 = encodings.find("fp32")
        >>> rules = Rules(weights={"MatMul": places(0, 1)}, settings={"Pow": places(1)})
        >>> nodes = [Node("MatMul", (0, 1), (2,)), Node("Pow", (2, 3), (4,))]
        >>> found = roles(nodes, {1: Constant((1, 1), fp32), 3: Constant((), fp32)}, [0], [4], rules)
        >>> found[1].name, found[3].name
        ('WEIGHT', 'NONE')
    """
    graph = _Graph(nodes, constants, inputs, outputs, rules)
    return {value: graph.role(value, constant) for value, constant in constants.items()}


class _Graph:
    """A graph with its ways in both directions."""

    def __init__(
        self, nodes: Sequence[Node], constants: Mapping[int, Constant], inputs: Iterable[int],
        outputs: Iterable[int | None], rules: Rules,
    ) -> None:  # fmt: skip
        self.constants, self.rules, self.given = constants, rules, frozenset(inputs) - constants.keys()
        self.uses: dict[int, list[tuple[Node, int]]] = {}
        self.makers: dict[int, list[Node]] = {}
        for node in nodes:
            for place, value in enumerate(node.inputs):
                if value is not None:
                    self.uses.setdefault(value, []).append((node, place))
            for value in node.outputs[:1] if node.op in rules.joins else node.outputs:
                self.makers.setdefault(value, []).append(node)
        self.follows = rules.views | rules.joins | rules.casts | rules.look_ups
        self.carried = {
            id(node): tuple(v for p, v in enumerate(node.inputs) if v is not None and self._carries(node, p))
            for node in nodes
            if node.op in self.follows
        }
        self.tables = {node.inputs[0] for node in nodes if node.op in rules.look_ups and node.inputs}
        self.origins: dict[int, int | None] = {}
        self.marks: dict[int, int] = {value: _OTHER for value in outputs if value is not None}
        self._mark(nodes)
        self.scales: set[int] = set()
        self.zero_points: set[int] = set()
        self.dequantized = {value for value, constant in constants.items() if self._is_dequantized(value, constant)}
        self._scales_of_products(nodes)
        self.transforms = self._fixed_transforms(nodes)
        self.biases = self._single_biases(nodes)

    def role(self, value: int, constant: Constant) -> Role:
        """The rules of the module's description, in their order."""
        mark = self.marks.get(value, 0)
        is_float = constant.encoding.is_float
        if value in self.transforms:
            return Role.TRANSFORM
        if not mark and self.uses:
            return Role.NONE
        if is_float and mark & (_WEIGHT | _PACKED):
            return Role.WEIGHT
        if not is_float and (mark & _PACKED or value in self.dequantized or self._is_multiplied(value, constant)):
            return Role.PACKED
        if mark & _SCALE or value in self.scales:
            return Role.SCALE
        if mark & _ZERO or value in self.zero_points:
            return Role.ZERO_POINT
        if mark & _GROUP:
            return Role.GROUP_INDEX
        if mark & _STATISTIC:
            return Role.STATISTIC
        if mark & _FIXED:
            return Role.TRANSFORM
        if not is_float or mark == _SETTING or (constant.elements == 1 and value not in self.biases):
            return Role.NONE
        return Role.WEIGHT

    def _mark(self, nodes: Sequence[Node]) -> None:
        """What the operators say of their inputs, carried back over the views in between."""
        rules = self.rules
        tables = (
            (rules.weights, _WEIGHT), (rules.settings, _SETTING), (rules.statistics, _STATISTIC),
            (rules.transforms, _FIXED), (rules.packed, _PACKED), (rules.scales, _SCALE), (rules.zero_points, _ZERO),
            (rules.group_indexes, _GROUP),
        )  # fmt: skip
        changed = list(self.marks)
        for node in nodes:
            found = [(table[node.op], mark) for table, mark in tables if node.op in table]
            for place, value in enumerate(node.inputs):
                if value is None:
                    continue
                mark = sum(mark for at, mark in found if place in at or at == EVERY)
                if not mark and not self._carries(node, place):
                    mark = _OTHER
                if mark & ~self.marks.get(value, 0):
                    self.marks[value] = self.marks.get(value, 0) | mark
                    changed.append(value)
        while changed:
            value = changed.pop()
            mark = self.marks[value]
            for maker in self.makers.get(value, ()):
                for before in self._carried(maker):
                    if mark & ~self.marks.get(before, 0):
                        self.marks[before] = self.marks.get(before, 0) | mark
                        changed.append(before)

    def _carries(self, node: Node, place: int) -> bool:
        """Whether a view hands on the elements of an input."""
        return node.op in self.rules.joins or (place == 0 and node.op in self.follows)

    def _carried(self, node: Node) -> tuple[int, ...]:
        """The inputs whose elements a view hands on."""
        return self.carried.get(id(node), ())

    def _behind(self, value: int | None) -> int | None:
        """The value that a value is a view of, itself when it is none; None in a circle."""
        passed: list[int] = []
        while value is not None and value not in self.origins:
            self.origins[value] = None
            passed.append(value)
            carried = (
                self._carried(self.makers[value][0]) if value in self.makers and value not in self.constants else ()
            )
            if len(carried) != 1:
                self.origins[value] = value
                break
            value = carried[0]
        origin = None if value is None else self.origins[value]
        self.origins.update(dict.fromkeys(passed, origin))
        return origin

    def _constant_behind(self, value: int | None) -> int | None:
        """The constant that a value is a view of."""
        origin = self._behind(value)
        return origin if origin in self.constants else None

    def _maker_behind(self, value: int | None) -> Node | None:
        """The operator that made a value, seen through views."""
        origin = self._behind(value)
        return None if origin is None or origin not in self.makers else self.makers[origin][0]

    def _is_dequantized(self, value: int, constant: Constant) -> bool:
        """Rule 3: cast, lowered, multiplied. Notes the scale and the zero point that it finds."""
        bits, is_float = constant.encoding.bits_per_weight, constant.encoding.is_float
        if bits > (8 if is_float else 16) or constant.encoding.name == "bool":
            return False
        queue: list[tuple[int, bool, tuple[int, ...]]] = [(value, False, ())]
        steps, found = 0, False
        while queue and steps < MAX_STEPS:
            at, is_cast, lowered = queue.pop()
            for node, place in self.uses.get(at, ())[: MAX_STEPS - steps]:
                steps += 1
                other = self._constant_behind(node.inputs[1 - place]) if len(node.inputs) == 2 else None
                outputs = node.outputs[:MAX_STEPS]
                if self._carries(node, place):
                    queue += [(output, is_cast or node.op in self.rules.casts, lowered) for output in outputs]
                elif node.op == self.rules.subtract and place == 0 and is_cast and other is not None:
                    queue += [(output, True, (*lowered, other)) for output in outputs]
                elif node.op == self.rules.multiply and is_cast and other is not None:
                    if not self._is_weight(at, outputs):
                        continue
                    found = True
                    self.scales.add(other)
                    self.zero_points.update(lowered)
        return found

    def _is_weight(self, before: int, after: Iterable[int]) -> bool:
        """Whether what a scale makes of a value goes to a weight position or a look-up, or was looked up before."""
        marked = any(self.marks.get(value, 0) & (_WEIGHT | _PACKED) or value in self.tables for value in after)
        return marked or self._is_looked_up(before)

    def _is_looked_up(self, value: int) -> bool:
        """Whether a value was taken from a table, seen through views and a subtraction."""
        for _ in range(8):
            maker = self.makers[value][0] if value in self.makers else None
            if maker is None or not maker.inputs or maker.inputs[0] is None:
                return False
            if maker.op in self.rules.look_ups:
                return True
            if maker.op != self.rules.subtract and not self._carried(maker):
                return False
            value = maker.inputs[0]
        return False

    def _is_multiplied(self, value: int, constant: Constant) -> bool:
        """Whether an integer constant is itself the matrix of a product."""
        if len(constant.shape) < 2 or constant.encoding.name == "bool":
            return False
        return any(place in self.rules.weights.get(node.op, ()) for node, place in self.uses.get(value, ()))

    def _scales_of_products(self, nodes: Sequence[Node]) -> None:
        """Rule 3 for products of integers: constants that scale their result, or the scale found while running."""
        for node in nodes:
            if node.op != self.rules.multiply or len(node.inputs) != 2:
                continue
            for one, other in (node.inputs, node.inputs[::-1]):
                behind = self._constant_behind(one)
                maker = self._maker_behind(other)
                if behind is None or maker is None:
                    continue
                if maker.op in self.rules.integer_products or (
                    maker.op == self.rules.dynamic_scale and len(maker.outputs) > 1 and maker.outputs[1] == other
                ):
                    self.scales.add(behind)

    def _single_biases(self, nodes: Sequence[Node]) -> set[int]:
        """Single numbers that are added to the result of a layer with one output."""
        found = set()
        for node in nodes:
            if node.op != self.rules.add or len(node.inputs) != 2:
                continue
            for one, other in (node.inputs, node.inputs[::-1]):
                behind = self._constant_behind(one)
                if behind is not None and self.constants[behind].elements == 1 and self._has_one_output(other):
                    found.add(behind)
        return found

    def _has_one_output(self, value: int | None) -> bool:
        """Whether a value is the result of a linear layer with one output, scaled at most."""
        for _ in range(4):
            maker = self._maker_behind(value)
            if maker is None:
                return False
            if maker.op in self.rules.linear and len(maker.inputs) > 1:
                shape = self._matrix(maker.inputs[1])
                return len(shape) > 1 and 1 in (shape[0], shape[-1])
            if maker.op != self.rules.multiply or not maker.inputs:
                return False
            value = maker.inputs[0]
        return False

    def _matrix(self, value: int | None) -> tuple[int, ...]:
        """The shape of the constant that a layer multiplies by, seen through its dequantization."""
        for _ in range(4):
            behind = self._constant_behind(value)
            if behind is not None:
                return self.constants[behind].shape
            maker = self._maker_behind(value)
            if maker is None or maker.op not in (self.rules.multiply, self.rules.subtract):
                return ()
            value = maker.inputs[0] if maker.inputs else None
        return ()

    def _fixed_transforms(self, nodes: Sequence[Node]) -> set[int]:
        """Rule 1: what lies between the graph's inputs and a magnitude, when all of it is linear."""
        linear: dict[int, bool] = {}
        visited: set[int] = set()
        found: dict[int, set[int]] = {}
        for node in nodes:
            queue = [start for start in self._squared(node) if self._is_linear(start, linear)]
            while queue:
                value = queue.pop()
                if value in visited or value not in self.makers:
                    continue
                visited.add(value)
                maker = self.makers[value][0]
                if maker.op in self.rules.convolutions | {self.rules.multiply, self.rules.add}:
                    for behind in map(self._constant_behind, maker.inputs[:3]):
                        if behind is not None:
                            found.setdefault(behind, set()).add(id(maker))
                queue += self._data(maker)
        kernels = {id(node) for node in nodes if node.op in self.rules.convolutions}
        if not any(users & kernels for users in found.values()):
            return set()
        within = {user for users in found.values() for user in users}
        return {value for value in found if self._is_used_by(value, within)}

    def _is_used_by(self, value: int, users: set[int]) -> bool:
        """Whether these operators alone take a constant, seen through its views."""
        queue, steps = [value], 0
        while queue:
            uses = self.uses.get(queue.pop(), [])
            steps += 1 + len(uses)
            if steps > 4 * MAX_STEPS:
                return False
            for node, place in uses:
                if self._carries(node, place):
                    queue += node.outputs[: 4 * MAX_STEPS + 1]
                elif id(node) not in users:
                    return False
        return True

    def _squared(self, node: Node) -> list[int]:
        """The values whose squares an operator adds up; none for other operators."""
        if node.op in self.rules.sums_of_squares:
            return [value for value in node.inputs[:1] if value is not None]
        if node.op == self.rules.add and len(node.inputs) == 2:
            squares = [self._root(value) for value in node.inputs]
            return [] if None in squares else [value for value in squares if value is not None]
        if node.op in self.rules.sums and node.inputs:
            root = self._root(node.inputs[0])
            return [] if root is None else [root]
        return []

    def _root(self, value: int | None) -> int | None:
        """What a value is the square of."""
        maker = self._maker_behind(value)
        if maker is None or len(maker.inputs) != 2:
            return None
        first, second = maker.inputs
        is_square = maker.op == self.rules.multiply and first == second
        is_power = maker.op == self.rules.power and self._constant_behind(second) is not None
        return first if is_square or is_power else None

    def _data(self, node: Node) -> list[int]:
        """The inputs of a linear operator that are no constants; of another one, nothing."""
        if node.op in (self.rules.multiply, self.rules.add):
            values = node.inputs
        elif node.op in self.rules.convolutions | self.rules.signs_and_pads:
            values = node.inputs[:1]
        else:
            values = self._carried(node)
        return [value for value in values if value is not None and self._constant_behind(value) is None]

    def _is_linear(self, start: int, known: dict[int, bool]) -> bool:
        """Whether a value is made of the graph's inputs by linear operators with fixed kernels alone."""
        queue = [(start, False)]
        while queue:
            value, is_back = queue.pop()
            if value in known and not is_back:
                continue
            if value in self.given:
                known[value] = True
                continue
            makers = self.makers.get(value, [])
            data = self._data(makers[0]) if len(makers) == 1 and self._may_be_linear(makers[0]) else []
            if is_back or not data:
                known[value] = bool(data) and all(known.get(before, False) for before in data)
                continue
            known[value] = False
            queue.append((value, True))
            queue += [(before, False) for before in data]
        return known[start]

    def _may_be_linear(self, node: Node) -> bool:
        if node.op in self.rules.convolutions:
            kernel = self._constant_behind(node.inputs[1]) if len(node.inputs) > 1 else None
            shape = () if kernel is None else self.constants[kernel].shape
            return len(shape) > 2 and shape[1] == 1 and sum(size > 1 for size in shape[2:]) == 1
        if node.op in (self.rules.multiply, self.rules.add):
            return len(self._data(node)) == 1
        return node.op in self.follows | self.rules.signs_and_pads and node.op not in self.rules.look_ups
