"""Which encoding does each tensor get, so that the file has at most so many bytes and loses the least?

Each tensor may stay as it is or take an encoding that is smaller and whose blocks fit its rows. What one costs is its
bytes, with the padding behind them; what it loses is its relative squared error, measured on rows of the tensor itself,
times what an error of this tensor costs (`sensitivity`). The choice that loses the least within the budget is the exact
answer of a multiple-choice knapsack (scipy's HiGHS, gap 0), not a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress.codecs import Values, decode, encode, needs_importance
from weighbridge.compress.gguf_file import GgufModel, size_of
from weighbridge.compress.sensitivity import Sensitivity, by_role, completed, role_of
from weighbridge.errors import ConfigError, UnitError
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import TensorSpec

CHOICES = ("iq2_xxs", "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "iq3_s", "q3_k", "iq4_xs", "q4_0", "iq4_nl", "q4_k", "q4_1",
           "q5_0", "q5_k", "q5_1", "q6_k", "q8_0", "bf16", "fp16")  # fmt: skip
"""Encodings that a matrix may take; of those that need an importance matrix only where there is one."""
KEPT = ("position_embedding", "type_embedding", "router")
"""Roles that stay as they are, as in llama.cpp's own quantizer: its engine looks rows of the first two up in fp32."""
SAMPLE_WEIGHTS = 1 << 16
"""Weights of a tensor that its error is measured on, in rows spread over it."""


@dataclass(frozen=True, slots=True)
class Option:
    """An encoding of a tensor: its bytes with padding, its relative squared error, and what the model loses by it."""

    encoding: Encoding
    size_bytes: int
    error: float
    loss: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The encoding of each tensor, the bytes of the file, the sum of what is lost, and what no encoding would fit.

    `errors` are relative squared errors, `losses` what the model loses by each tensor.
    """

    encodings: Mapping[str, Encoding]
    errors: Mapping[str, float]
    losses: Mapping[str, float]
    size_bytes: int
    budget_bytes: int
    unfit: Mapping[str, tuple[str, ...]]

    @property
    def loss(self) -> float:
        """The sum over all tensors."""
        return sum(self.losses.values())


def options_of(source: GgufModel, costs: Sensitivity | None = None) -> dict[str, tuple[Option, ...]]:
    """What each tensor may take; the first is as it is.

    Args:
        source: what is read.
        costs: of an error of each tensor; shares by role without.
    """
    costs = completed(source.tensors, costs or by_role(source.tensors))
    step = source.alignment

    def padded(encoding: Encoding, tensor: TensorSpec) -> int:
        return -(-encoding.size_bytes(tensor.shape) // step) * step

    found = {}
    for tensor in source.tensors:
        own = [Option(tensor.encoding, padded(tensor.encoding, tensor), 0.0, 0.0)]
        if len(tensor.shape) > 1 and tensor.encoding.is_float and role_of(tensor) not in KEPT:
            rows, matrix = _sample(source, tensor), costs.columns.get(tensor.name)
            if matrix is not None and matrix.ndim > 1:
                matrix = matrix.mean(axis=0)  # of all experts, whose rows are among the sample
            for name in CHOICES:
                encoding = encodings.find(name)
                if not encoding.fits(tensor.shape[-1]) or padded(encoding, tensor) >= own[0].size_bytes:
                    continue
                if matrix is None and name != "bf16" and needs_importance(encoding):
                    continue
                apart = decode(encode(rows, encoding, matrix), encoding, tensor.shape[-1]) - rows
                error, weighed = (_share(apart, rows, each) for each in (None, matrix))
                own.append(Option(encoding, padded(encoding, tensor), error, costs.costs[tensor.name] * weighed))
        found[tensor.name] = tuple(own)
    return found


def _share(apart: Values, rows: Values, weights: Values | None = None) -> float:
    """The squares of what is apart over those of the rows, columns weighed; 0 where all rows are zero."""
    lost, whole = (np.square(each, dtype=np.float64).sum(axis=0) for each in (apart, rows))
    if weights is not None:
        lost, whole = lost * weights, whole * weights
    return float(lost.sum() / whole.sum()) if whole.any() else 0.0


def _sample(source: GgufModel, tensor: TensorSpec) -> Values:
    """Rows spread evenly over a tensor, eight at a time."""
    columns = tensor.shape[-1]
    rows = tensor.elements // columns
    wanted = max(8, SAMPLE_WEIGHTS // columns)
    if rows <= wanted:
        return source.rows(tensor, 0, rows)
    starts = np.linspace(0, rows - 8, wanted // 8).astype(int)
    return np.concatenate([source.rows(tensor, int(start), 8) for start in starts])


class BudgetError(UnitError):
    """No choice is small enough: the answer is no."""

    exit_code = 1


def smallest(source: GgufModel, options: Mapping[str, Sequence[Option]]) -> int:
    """Bytes of the smallest file that the options allow."""
    return size_of(source, {name: _least(some).encoding for name, some in options.items()})


def choose(source: GgufModel, options: Mapping[str, Sequence[Option]], budget_bytes: int) -> Plan:
    """The choice that loses the least within a budget of bytes of the whole file.

    Raises:
        BudgetError: when no choice is small enough, which names the smallest.
    """
    fixed = smallest(source, options)
    if fixed > budget_bytes:
        raise BudgetError(f"{source.path} takes {fixed:,} bytes at least", f"a budget of as many, not {budget_bytes:,}",
                          "ask for more bytes, or take a smaller model")  # fmt: skip
    head = fixed - sum(_least(some).size_bytes for some in options.values())
    chosen = knapsack(list(options.values()), budget_bytes - head)
    found = made(source, dict(zip(options, chosen, strict=True)), budget_bytes)
    assert found.size_bytes <= budget_bytes, (found.size_bytes, budget_bytes)
    return found


def made(source: GgufModel, picked: Mapping[str, Option], budget_bytes: int) -> Plan:
    """The plan of these choices."""
    chosen = {name: one.encoding for name, one in picked.items()}
    unfit = {tensor.name: tuple(name for name in CHOICES if not encodings.find(name).fits(tensor.shape[-1]))
             for tensor in source.tensors if len(tensor.shape) > 1}  # fmt: skip
    return Plan(chosen, {name: one.error for name, one in picked.items()},
                {name: one.loss for name, one in picked.items()}, size_of(source, chosen), budget_bytes,
                {name: found for name, found in unfit.items() if found})  # fmt: skip


def _least(options: Sequence[Option]) -> Option:
    return min(options, key=lambda one: one.size_bytes)


def knapsack(options: Sequence[Sequence[Option]], budget_bytes: int) -> list[Option]:
    """One option of each list, within the budget, with the least loss.

    Example:
        >>> q4, q8 = (encodings.find(name) for name in ("q4_0", "q8_0"))
        >>> lists = [[Option(q8, 8, 0, 0), Option(q4, 4, 1, 1)], [Option(q8, 8, 0, 0), Option(q4, 5, 0.1, 0.1)]]
        >>> [one.encoding.name for one in knapsack(lists, 13)]
        ['q8_0', 'q4_0']
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
    assert found.x is not None, found.message
    taken = np.round(found.x).astype(bool)
    assert taken.sum() == len(options)
    return [one for one, is_taken in zip(flat, taken, strict=True) if is_taken]


def _scaled(losses: Sequence[float]) -> NDArray[np.float64]:
    """The same with 1,000 as the largest: the solver takes what is within 1e-7 of zero for nothing."""
    found = np.array(losses)
    most = found.max(initial=0.0)
    return found * (1000 / most) if most > 0 else found
