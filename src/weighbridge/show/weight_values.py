"""How do the values of weights read on a terminal? Their sums, and what stands out, or a line for every tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.show.tables import table

if TYPE_CHECKING:
    from weighbridge.compress.sparse import Storage
    from weighbridge.formats.values import TensorValues, Values

MOST_SHOWN = 4
"""Of each kind of what stands out."""
LOW_RANK = 0.25
"""A sample that reaches into a smaller share of the directions that it could stands out."""


def value_lines(
    values: Values, parameters: tuple[int, int], storage: Storage | None = None, every: bool = False
) -> Iterator[str]:
    """The weights that were read: sums, what stands out or every tensor, and what matrices take without zeros.

    `parameters` are how many of the elements may be learned, and how many of those are zero.
    """
    counts = {"elements read": values.read, "not zero": values.nonzero, "zero": values.read - values.nonzero,
              "parameters among those read": parameters[0], "parameters that are zero": parameters[1],
              "in rows, columns or vectors of zeros": values.dead, "NaN": values.nan, "infinite": values.infinite,
              "elements not read": values.unread, "distinct by content": values.distinct}  # fmt: skip
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    yield from table("values (exact)", ("what", "elements"), rows, right=(1,))
    yield from _every_tensor(values) if every else _what_stands_out(values)
    if storage is not None:
        sizes = [("all values", f"{storage.dense_bytes:,}", "", "")]
        for form, size in storage.bytes_by_form.items():
            known = "does not fit" if size is None else f"{size:,}"
            share = "" if size is None else f"{size / storage.dense_bytes:.1%}"
            sizes.append((form, known, share, f"{storage.break_even[form]:.1%}"))
        heads = ("stored as", "bytes", "share", "pays above zeros")
        yield from table(
            f"matrices that may be learned, with {storage.zero_share:.1%} zeros (exact)", heads, sizes, right=(1, 2, 3)
        )
        if storage.bytes_by_form["2:4"] is not None:
            yield "note: 2:4 needs two zeros in each four elements of a row, which was not looked at"
    yield from (f"note: {note}" for note in values.notes)


def _what_stands_out(values: Values) -> Iterator[str]:
    """The gravest first, and of each kind the tensors that have most of it."""
    kinds = [
        [found for one in values.tensors if (found := look(one)) is not None]
        for look in (_broken, _dead, _constant, _outlying, _flat)
    ]
    kinds.insert(1, _copies(values))
    rows = []
    for kind in kinds:
        rows += [(name, what) for _, name, what in sorted(kind, key=lambda found: (-found[0], found[1]))[:MOST_SHOWN]]
        if len(kind) > MOST_SHOWN:
            rows.append((f"... and {len(kind) - MOST_SHOWN:,} more", ""))
    if rows:
        title = "what stands out (exact; an effective rank is measured on a sample)"
        yield from table(title, ("tensor", "what"), rows, right=())
        yield from ("an outlier lies more than 6 standard deviations from its tensor's mean", "")


_Found = tuple[float, str, str] | None
"""How much of it there is, in which tensor, and what it is."""


def _broken(one: TensorValues) -> _Found:
    if one.statistics is None or not one.statistics.nan + one.statistics.infinite:
        return None
    nan, infinite = one.statistics.nan, one.statistics.infinite
    return nan + infinite, one.name, f"{nan:,} NaN, {infinite:,} infinite"


def _copies(values: Values) -> list[tuple[float, str, str]]:
    elements = {one.name: one.elements for one in values.tensors}
    return [
        (elements[name] * len(others), others[0],
         f"a copy of {name}" + (f", as are {len(others) - 1:,} more" if len(others) > 1 else ""))
        for name, others in values.duplicates.items()
    ]  # fmt: skip


def _dead(one: TensorValues) -> _Found:
    if not one.zero_rows and not one.zero_columns:
        return None
    return one.dead, one.name, f"{one.zero_rows or 0:,} rows and {one.zero_columns or 0:,} columns of zeros"


def _constant(one: TensorValues) -> _Found:
    if one.statistics is None or not one.statistics.is_constant or one.elements == 1:
        return None
    return one.elements, one.name, f"every element is {one.statistics.minimum:g}"


def _outlying(one: TensorValues) -> _Found:
    if one.statistics is None or not one.statistics.outliers or one.statistics.farthest is None:
        return None
    farthest = one.statistics.farthest
    return (
        farthest,
        one.name,
        f"outliers: {one.statistics.outliers:,}, the farthest at {farthest:.1f} standard deviations",
    )


def _flat(one: TensorValues) -> _Found:
    rank = one.effective_rank
    if rank is None or rank.value is None or not one.nonzero or not one.rank_at_most:
        return None
    share = rank.value / one.rank_at_most
    return None if share >= LOW_RANK else (-share, one.name, f"effective rank {rank.value:.1f} {rank.note}")


def _every_tensor(values: Values) -> Iterator[str]:
    heads = (
        "tensor",
        "min",
        "max",
        "mean",
        "std",
        "zeros",
        "NaN",
        "inf",
        "outliers",
        "zero rows",
        "zero columns",
        "rank",
    )
    rows = []
    for one in values.tensors:
        found, rank = one.statistics, one.effective_rank
        if found is None or one.nonzero is None:
            rows.append((one.name, *[""] * 11))
            continue
        numbers = (found.minimum, found.maximum, found.mean, found.deviation)
        counts = (found.nan, found.infinite, found.outliers, one.zero_rows, one.zero_columns)
        rows.append((
            one.name, *("" if number is None else f"{number:.4g}" for number in numbers),
            f"{(one.elements - one.nonzero) / max(1, one.elements):.2%}",
            *("" if count is None else f"{count:,}" for count in counts),
            "" if rank is None or rank.value is None else f"{rank.value:.1f} of {one.rank_at_most}",
        ))  # fmt: skip
    title = "values of every tensor (exact; the effective rank is measured on a sample)"
    yield from table(title, heads, rows, right=range(1, 12))
