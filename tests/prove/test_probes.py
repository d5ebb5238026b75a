"""Do the questions have the answers that they say, and do the tests tell right functions from wrong ones?"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter

import pytest

from weighbridge.prove.probes import EXAMPLES, KINDS, arithmetic, code, program_of
from weighbridge.prove.sandbox import run

ROWS = code()
NAMES = [row["entry_point"] for row in ROWS]


def sums(text: str) -> list[tuple[str, int, str]]:
    """The questions of a text with the answers worked out anew and those given."""
    signs = {"+": operator.add, "-": operator.sub, "*": operator.mul}
    found = re.findall(r"^Q: (\d+) ([-+*]) (\d+)\nA: ?(\d*)$", text, re.MULTILINE)
    return [(f"{a} {sign} {b}", signs[sign](int(a), int(b)), given) for a, sign, b, given in found]


def test_answers_are_right_and_none_is_given_away() -> None:
    for row in arithmetic(400, seed=1):
        found = sums(row["prompt"] + row["completion"])
        assert len(found) == len({question for question, _, _ in found}) == EXAMPLES + 1
        assert all(answer >= 0 and str(answer) == given for _, answer, given in found)
        assert row["prompt"].endswith("\nA:") and row["completion"] == f" {found[-1][1]}"
        assert found[-1][1] not in [answer for _, answer, _ in found[:-1]]


def test_slices_are_balanced_and_are_what_they_say() -> None:
    rows = arithmetic(403, seed=2)
    counts = Counter(row["slice"] for row in rows)
    assert set(counts) == set(KINDS) and set(counts.values()) == {50, 51}
    signs = {"addition": "+", "subtraction": "-", "multiplication": "*"}
    for row in rows:
        name, digits = re.fullmatch(r"(\w+) of (\d) digits?", row["slice"]).groups()  # type: ignore[union-attr]
        first, sign, second = sums(row["prompt"])[-1][0].split()
        assert sign == signs[name] and {len(first), len(second)} == {int(digits)}


def test_sums_are_drawn_by_the_seed() -> None:
    assert arithmetic(80, seed=3) == arithmetic(80, seed=3)
    assert arithmetic(80, seed=3)[:40] == arithmetic(40, seed=3)
    assert arithmetic(80, seed=3) != arithmetic(80, seed=4)
    assert arithmetic(0, seed=3) == []


def test_no_sum_is_asked_twice_before_all_of_its_kind_were() -> None:
    asked: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for row in arithmetic(len(KINDS) * 90, seed=5):
        asked[row["slice"]].append(sums(row["prompt"])[-1][0])
    there = {"addition of 1 digit": 81, "multiplication of 1 digit": 81, "subtraction of 1 digit": 45}
    for kind, questions in asked.items():
        all_of_them = there.get(kind, 90)
        assert len(set(questions[:all_of_them])) == len(set(questions)) == all_of_them


def test_the_problems_are_in_one_format() -> None:
    keys = {"task_id", "prompt", "entry_point", "test", "canonical_solution", "slice"}
    assert len(ROWS) == 30 == len(set(NAMES)) == len({row["task_id"] for row in ROWS})
    assert set(Counter(row["slice"] for row in ROWS).values()) == {6}
    for row in ROWS:
        assert set(row) == keys and all(row.values())
        (function,) = ast.parse(row["prompt"] + row["canonical_solution"]).body
        assert isinstance(function, ast.FunctionDef) and function.name == row["entry_point"]
        assert function.returns is not None and all(word.annotation is not None for word in function.args.args)
        assert ">>> " + row["entry_point"] in (ast.get_docstring(function) or "")
        assert row["canonical_solution"].strip() not in row["prompt"]
        (check,) = ast.parse(row["test"]).body
        assert isinstance(check, ast.FunctionDef) and check.name == "check" and len(check.body) >= 4
        assert all(isinstance(step, ast.Assert) for step in check.body)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_right_functions_pass_and_empty_ones_fail(row: dict[str, str]) -> None:
    assert run(program_of(row, row["canonical_solution"]), seconds=30).reason == "passed"
    assert run(program_of(row, "    pass\n"), seconds=30).reason.startswith("failed: ")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_worked_examples_of_a_problem_are_right(row: dict[str, str]) -> None:
    tried = "import doctest\nfound = doctest.testmod()\nassert found.attempted and not found.failed\n"
    assert run(row["prompt"] + row["canonical_solution"] + tried, seconds=30).reason == "passed"


@pytest.mark.parametrize(
    "rest",
    ["", "\n\n", "print(one())", "\n\ndef two():\n    pass\n", "# and so on", "if __name__ == '__main__':\n    one()",
     "class A:\n    x = 1\n", "```\nThat is all.", "assert one() == 2"],
)  # fmt: skip
def test_a_completion_ends_where_its_function_does(rest: str) -> None:
    row = {"prompt": 'def one():\n    """1."""\n', "test": "def check(f):\n    assert f() == 1\n", "entry_point": "one"}
    body = "    found = [\n        1,\n]\n\n    # a remark\n\tif False:\n\t    pass\n    return found[0]\n"
    body = body.replace("\t", "    ")
    program = program_of(row, body + rest)
    assert program.split("def check")[0].rstrip() == (row["prompt"] + body).rstrip()
    assert program.endswith("assert f() == 1\n\ncheck(one)\n")
    exec(compile(program, "program", "exec"), {})
