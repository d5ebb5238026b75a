"""Which encoding does each tensor get, so that the file has at most so many bytes and loses the least?

Each tensor may stay as it is or take an encoding that is smaller and whose blocks fit its rows. What one costs is its
bytes, with the padding behind them; what it loses is the squared error over the squares of the weights, measured on
rows of the tensor itself. Matrices count alike, whatever their size: each works on an input of its own that a norm has
brought to one scale, so that a relative error of the weights is one of what comes out. The choice that loses the least
within the budget is the exact answer of a multiple-choice knapsack (scipy's HiGHS, gap 0), not a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weighbridge.compress.codecs import Values, decode, encode, needs_importance
from weighbridge.compress.gguf_file import GgufModel, size_of
from weighbridge.errors import ConfigError, UnitError
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import TensorSpec

CHOICES = ("q2_k", "q3_k", "iq4_xs", "q4_0", "iq4_nl", "q4_k", "q4_1", "q5_0", "q5_k", "q5_1", "q6_k", "q8_0", "bf16")
"""Encodings that a matrix may take; of those that need an importance matrix only where there is one."""
SAMPLE_WEIGHTS = 1 << 16
"""Weights of a tensor that its error is measured on, in rows spread over it."""


@dataclass(frozen=True, slots=True)
class Option:
    """An encoding of a tensor: its bytes with padding, and what it loses."""

    encoding: Encoding
    size_bytes: int
    error: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The encoding of each tensor, the bytes of the file, the sum of what is lost, and what no encoding would fit."""

    encodings: Mapping[str, Encoding]
    errors: Mapping[str, float]
    size_bytes: int
    loss: float
    budget_bytes: int
    unfit: Mapping[str, tuple[str, ...]]


def options_of(source: GgufModel, importance: Mapping[str, Values] | None = None) -> dict[str, tuple[Option, ...]]:
    """What each tensor may take; the first is as it is."""
    step = source.alignment

    def padded(encoding: Encoding, tensor: TensorSpec) -> int:
        return -(-encoding.size_bytes(tensor.shape) // step) * step

    found = {}
    for tensor in source.tensors:
        own = [Option(tensor.encoding, padded(tensor.encoding, tensor), 0.0)]
        if len(tensor.shape) > 1 and tensor.encoding.is_float:
            rows = _sample(source, tensor)
            matrix = (importance or {}).get(tensor.name)
            for name in CHOICES:
                encoding = encodings.find(name)
                if not encoding.fits(tensor.shape[-1]) or padded(encoding, tensor) >= own[0].size_bytes:
                    continue
                if matrix is None and name != "bf16" and needs_importance(encoding):
                    continue
                apart = decode(encode(rows, encoding, matrix), encoding, tensor.shape[-1]) - rows
                squares = float(np.square(rows, dtype=np.float64).sum())
                error = float(np.square(apart, dtype=np.float64).sum()) / squares if squares else 0.0
                own.append(Option(encoding, padded(encoding, tensor), error))
        found[tensor.name] = tuple(own)
    return found


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
    chosen = _knapsack(list(options.values()), budget_bytes - head)
    found = made(source, dict(zip(options, chosen, strict=True)), budget_bytes)
    assert found.size_bytes <= budget_bytes, (found.size_bytes, budget_bytes)
    return found


def made(source: GgufModel, picked: Mapping[str, Option], budget_bytes: int) -> Plan:
    """The plan of these choices."""
    chosen = {name: one.encoding for name, one in picked.items()}
    unfit = {tensor.name: tuple(name for name in CHOICES if not encodings.find(name).fits(tensor.shape[-1]))
             for tensor in source.tensors if len(tensor.shape) > 1}  # fmt: skip
    return Plan(chosen, {name: one.error for name, one in picked.items()}, size_of(source, chosen),
                sum(one.error for one in picked.values()), budget_bytes,
                {name: found for name, found in unfit.items() if found})  # fmt: skip


def _least(options: Sequence[Option]) -> Option:
    return min(options, key=lambda one: one.size_bytes)


def _knapsack(options: Sequence[Sequence[Option]], budget_bytes: int) -> list[Option]:
    """One option of each list, within the budget, with the least error.

    Example:
        >>> q4, q8 = (encodings.find(name) for name in ("q4_0", "q8_0"))
        >>> lists = [[Option(q8, 8, 0.0), Option(q4, 4, 1.0)], [Option(q8, 8, 0.0), Option(q4, 5, 0.1)]]
        >>> [one.encoding.name for one in _knapsack(lists, 13)]
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
        np.array([one.error for one in flat]),
        constraints=[optimize.LinearConstraint(each, 1, 1),
                     optimize.LinearConstraint(sizes / scale, 0, budget_bytes / scale)],
        integrality=np.ones(len(flat)), bounds=optimize.Bounds(0, 1), options={"mip_rel_gap": 0.0})  # fmt: skip
    assert found.x is not None, found.message
    taken = np.round(found.x).astype(bool)
    assert taken.sum() == len(options)
    return [one for one, is_taken in zip(flat, taken, strict=True) if is_taken]
