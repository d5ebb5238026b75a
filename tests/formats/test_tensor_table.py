"""Tensors held in columns are the tensors that they stand for, one by one and in groups."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from weighbridge import family_guess
from weighbridge.formats.tensor_table import Columns, TensorTable, groups
from weighbridge.inspection import is_parameter
from weighbridge.model.encodings import ENCODINGS
from weighbridge.model.tensors import TensorSpec

KINDS = {"a": ((2, 3), ENCODINGS["bf16"]), "b": ((1, 1, 4, 4), ENCODINGS["uint8"]), "c": ((), ENCODINGS["fp32"])}
SIZES = {"a": 12, "b": 16, "c": 4}


def table(*files: list[tuple[str, str]]) -> TensorTable:
    columns = []
    for number, rows in enumerate(files):
        ends, at = [], 0
        for _, kind in rows:
            at += SIZES[kind]
            ends.append(at)
        columns.append(Columns(f"{number}.st", 100, [n for n, _ in rows], [k for _, k in rows], KINDS, ends))
    return TensorTable(columns)


def test_a_table_is_a_sequence_of_its_tensors() -> None:
    rows = table([("x", "a"), ("y", "c")], [], [("z", "b")])
    assert len(rows) == 3 and [t.name for t in rows] == ["x", "y", "z"] == [t.name for t in rows[:]]
    assert rows[1] == TensorSpec("y", (), ENCODINGS["fp32"], file="0.st", byte_range=(112, 116))
    assert rows[-1].file == "2.st" and rows[2].byte_range == (100, 116)
    assert rows == tuple(rows) and rows != [] and table() == ()


def test_groups_of_numbered_names() -> None:
    rows = table([(f"h.{n}.w", "a") for n in range(30)], [("h.7.w", "c"), ("conv1.w", "a"), ("conv2.w", "a")])
    found = {(tensor.name, tensor.shape): count for tensor, count in rows.groups()}
    assert found == {("h.0.w", (2, 3)): 10, ("h.00.w", (2, 3)): 20, ("h.0.w", ()): 1, ("conv1.w", (2, 3)): 1,
                     ("conv2.w", (2, 3)): 1}  # fmt: skip
    assert list(groups((rows[0],))) == [(rows[0], 1)]


PARTS = (
    "0",
    "1",
    "12",
    "7",
    "a",
    "b",
    "conv",
    "w",
    ".",
    "_",
    "attn",
    "bias",
    "running_mean",
    "position_ids",
    "\n",
    "é",
)
NAMES = st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join), unique=True, max_size=30)


@given(NAMES, st.lists(st.sampled_from("abc"), min_size=30, max_size=30))
def test_groups_say_what_the_tensors_say(names: list[str], kinds: list[str]) -> None:
    """Elements, what is a parameter and the open names of the guess are those of the tensors one by one."""
    rows = table(list(zip(names, kinds, strict=False)))

    def count(pairs: list[tuple[TensorSpec, int]], kind: bool) -> int:
        return sum(tensor.elements * number for tensor, number in pairs if is_parameter(tensor) is kind)

    single, grouped = [(tensor, 1) for tensor in rows], list(rows.groups())
    assert sum(number for _, number in grouped) == len(names)
    assert count(single, True) == count(grouped, True) and count(single, False) == count(grouped, False)
    assert {opened(t.name) for t, _ in single} == {opened(t.name) for t, _ in grouped}


def opened(name: str) -> str:
    """As the guess opens names."""
    return re.sub(r"(?<![A-Za-z])\d+(?![A-Za-z])", "#", name)


def test_the_names_of_the_families_are_those_of_today() -> None:
    """`python -m weighbridge.family_guess` writes the file anew."""
    assert family_guess.KEPT.read_text(encoding="utf-8") == family_guess.kept_text()
