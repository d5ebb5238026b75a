"""Which encoding does each tensor get, so that the file has at most so many bytes and loses the least?

Each tensor may stay as it is or take an encoding that is smaller and whose blocks fit its rows. What one costs is its
bytes, with the padding behind them or what the header says of it; what it loses is its relative squared error, measured
on rows of the tensor itself, times what an error of this tensor costs (`sensitivity`). The choice that loses the least
within the budget is the exact answer of a multiple-choice knapsack (scipy's HiGHS, gap 0), not a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress.codecs import Values
from weighbridge.compress.sensitivity import Sensitivity
from weighbridge.errors import ConfigError, UnitError
from weighbridge.model.tensors import TensorSpec

SAMPLE_WEIGHTS = 1 << 16
"""Weights of a tensor that its error is measured on, in rows spread over it."""


Chosen = Mapping[str, Any]
"""What each tensor becomes, by name."""


@dataclass(frozen=True, slots=True)
class Option:
    """What a tensor may become: its bytes with padding or header, its relative squared error, and what is lost by it.

    `encoding` is an `Encoding` for GGUF, a `Scheme` for compressed-tensors; both have a name.
    """

    encoding: Any
    size_bytes: int
    error: float
    loss: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The encoding of each tensor, the bytes of the result, and the budget; 0 where none was given.

    `errors` are relative squared errors, `losses` what the model loses by each tensor; both are empty where a method
    was named and nothing has been written yet.
    """

    encodings: Chosen
    size_bytes: int
    budget_bytes: int
    errors: Mapping[str, float]
    losses: Mapping[str, float]

    @property
    def loss(self) -> float:
        """The sum over all tensors."""
        return sum(self.losses.values())


Options = Mapping[str, Sequence[Option]]
SizeOf = Callable[[Chosen], int]
"""Bytes of the result with these encodings, exactly."""


class Rows(Protocol):
    """What tensors are read from."""

    def rows(self, tensor: TensorSpec, first: int, count: int, /) -> Values:
        """Rows of a tensor in fp32."""


def sample(source: Rows, tensor: TensorSpec) -> Values:
    """Rows spread evenly over a tensor, eight at a time, or fewer where the rows are long."""
    columns = tensor.shape[-1]
    rows = tensor.elements // columns
    wanted = max(8, SAMPLE_WEIGHTS // columns)
    if rows <= wanted:
        return source.rows(tensor, 0, rows)
    each = min(8, wanted // 4)
    starts = np.linspace(0, rows - each, wanted // each).astype(int)
    return np.concatenate([source.rows(tensor, int(start), each) for start in starts])


def columns_of(costs: Sensitivity, tensor: TensorSpec) -> Values | None:
    """The weights of the columns of a sample: with experts, whose rows are all in it, the mean of theirs."""
    found = costs.columns.get(tensor.name)
    return found if found is None or found.ndim == 1 else np.asarray(found.mean(axis=0))


def option(
    tensor: TensorSpec, encoding: Any, size_bytes: int, rows: Values, decoded: Values, costs: Sensitivity
) -> Option:  # fmt: skip
    """An encoding of a tensor by what a sample of its rows becomes."""
    apart = decoded - rows
    error, weighed = (_share(apart, rows, each) for each in (None, columns_of(costs, tensor)))
    return Option(encoding, size_bytes, error, costs.costs[tensor.name] * weighed)


def _share(apart: Values, rows: Values, weights: Values | None = None) -> float:
    """The squares of what is apart over those of the rows, columns weighed; 0 where all rows are zero."""
    lost, whole = (np.square(each, dtype=np.float64).sum(axis=0) for each in (apart, rows))
    if weights is not None:
        lost, whole = lost * weights, whole * weights
    return float(lost.sum() / whole.sum()) if whole.any() else 0.0


class BudgetError(UnitError):
    """No choice is small enough: the answer is no. `smallest_bytes` is the least there is, None where not known."""

    exit_code = 1

    def __init__(
        self, read: str, expected: str, action: str, budget_bytes: int, smallest_bytes: int | None = None
    ) -> None:  # fmt: skip
        """As every error, with the budget and what would have been needed."""
        super().__init__(read, expected, action)
        self.budget_bytes, self.smallest_bytes = budget_bytes, smallest_bytes


def choose(options: Options, size_of: SizeOf, budget_bytes: int, groups: Sequence[Sequence[str]] = ()) -> Plan:
    """The choice that loses the least within a budget of bytes of the whole result.

    Args:
        options: of each tensor.
        size_of: bytes of the result.
        budget_bytes: what it may take.
        groups: tensors that have to take the same encoding.

    Raises:
        BudgetError: when no choice is small enough, which names the smallest.
    """
    together, names = _together(options, groups)
    least = [min(some, key=lambda one: (one.size_bytes, one.loss)) for some in together]
    smallest = _plan(options, names, least, size_of, budget_bytes)
    if smallest.size_bytes > budget_bytes:
        read = f"{smallest.size_bytes:,} bytes at least, the smallest choice"
        raise BudgetError(f"a budget of {budget_bytes:,} bytes", read, "ask for more bytes, or take a smaller model",
                          budget_bytes, smallest.size_bytes)  # fmt: skip
    bytes_of_least = sum(one.size_bytes for one in least)
    room = bytes_of_least + budget_bytes - smallest.size_bytes
    while room >= bytes_of_least:  # the header grows with the numbers that the choice makes
        found = _plan(options, names, knapsack(together, room), size_of, budget_bytes)
        if found.size_bytes <= budget_bytes:
            return found
        room -= found.size_bytes - budget_bytes
    return smallest


def _plan(
    options: Options, names: Sequence[Sequence[str]], chosen: Sequence[Option], size_of: SizeOf, budget_bytes: int
) -> Plan:  # fmt: skip
    """What is chosen for tensors that go together, as a plan of each."""
    picked = {name: next(one for one in options[name] if one.encoding.name == common.encoding.name)
              for group, common in zip(names, chosen, strict=True) for name in group}  # fmt: skip
    encodings = {name: picked[name].encoding for name in options}
    return Plan(encodings, size_of(encodings), budget_bytes, {name: picked[name].error for name in options},
                {name: picked[name].loss for name in options})  # fmt: skip


def _together(options: Options, groups: Sequence[Sequence[str]]) -> tuple[list[list[Option]], list[list[str]]]:
    """The options of tensors that go together as those of one, and the names of each."""
    grouped = {name for group in groups for name in group}
    names = [*(list(group) for group in groups), *([name] for name in options if name not in grouped)]
    found = []
    for group in names:
        each = [{one.encoding.name: one for one in options[name]} for name in group]
        common = [name for name in each[0] if all(name in one for one in each)]
        found.append([Option(each[0][name].encoding, sum(one[name].size_bytes for one in each), 0.0,
                             sum(one[name].loss for one in each)) for name in common])  # fmt: skip
    return found, names


def knapsack(options: Sequence[Sequence[Option]], budget_bytes: int) -> list[Option]:
    """One option of each list, within the budget, with the least loss.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> q4, q8 = (find(name) for name in ("q4_0", "q8_0"))
        >>> lists = [[Option(q8, 8, 0, 0), Option(q4, 4, 1, 1)], [Option(q8, 8, 0, 0), Option(q4, 5, 0.1, 0.1)]]
        >>> [one.encoding.name for one in knapsack(lists, 13)]
        ['q8_0', 'q4_0']

    Raises:
        BudgetError: when no choice is small enough.
        ConfigError: when scipy is not installed.
    """
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        raise ConfigError("scipy is not installed, which chooses the encodings", "the extra `prove`",
                          "run: pip install 'weighbridge[prove]'") from error  # fmt: skip
    flat = [one for some in options for one in some]
    groups = np.repeat(np.arange(len(options)), [len(some) for some in options])
    each = sparse.csr_matrix((np.ones(len(flat)), (groups, np.arange(len(flat)))))
    sizes = np.array([[float(one.size_bytes) for one in flat]])
    scale = float(sizes.max())
    found = optimize.milp(
        _scaled([one.loss for one in flat]),
        constraints=[optimize.LinearConstraint(each, 1, 1),
                     optimize.LinearConstraint(sizes / scale, 0, budget_bytes / scale)],
        integrality=np.ones(len(flat)), bounds=optimize.Bounds(0, 1), options={"mip_rel_gap": 0.0})  # fmt: skip
    if found.x is None:
        raise BudgetError(f"{budget_bytes:,} bytes for the tensors", "a choice that is small enough",
                          "ask for more bytes, or take a smaller model", budget_bytes)  # fmt: skip
    taken = np.round(found.x).astype(bool)
    assert taken.sum() == len(options)
    return [one for one, is_taken in zip(flat, taken, strict=True) if is_taken]


def _scaled(losses: Sequence[float]) -> NDArray[np.float64]:
    """The same with 1,000 as the largest: the solver takes what is within 1e-7 of zero for nothing."""
    found = np.array(losses)
    most = found.max(initial=0.0)
    return found * (1000 / most) if most > 0 else found
