"""Which questions can a model be asked that have one right answer: sums, and small functions to write?

Sums are drawn by a seed: worked examples and a question in text, and a number that follows. Functions are a set of the
project's own in the format of HumanEval (Chen and others 2021, "Evaluating large language models trained on code"):
the model writes the body, and tests tell whether it is right when they are run.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from importlib import resources

EXAMPLES = 3
"""Worked examples before each question; their answers all differ from the one asked for, so that none can be copied."""
KINDS = {
    "addition of 1 digit": ("+", 1, 9), "addition of 2 digits": ("+", 10, 99), "addition of 3 digits": ("+", 100, 999),
    "subtraction of 1 digit": ("-", 1, 9), "subtraction of 2 digits": ("-", 10, 99),
    "subtraction of 3 digits": ("-", 100, 999),
    "multiplication of 1 digit": ("*", 1, 9), "multiplication of 2 digits": ("*", 10, 99),
}  # fmt: skip
"""Each kind of sum: its sign, and the smallest and the largest number in it."""


def arithmetic(count: int, seed: int) -> list[dict[str, str]]:
    """Sums to work out, of all kinds in turn; no kind asks the same twice before it has asked all that there is.

    Args:
        count: how many.
        seed: the same seed draws the same sums.

    Example:
        >>> row = arithmetic(4, seed=0)[3]
        >>> row["prompt"].splitlines()[-2:], row["completion"], row["slice"]
        (['Q: 5 - 3', 'A:'], ' 2', 'subtraction of 1 digit')
    """
    generator = random.Random(seed)
    asked: dict[str, set[str]] = {kind: set() for kind in KINDS}
    rows = []
    for kind in itertools.islice(itertools.cycle(KINDS), count):
        sign, low, high = KINDS[kind]
        numbers = high - low + 1
        if len(asked[kind]) == (numbers * (numbers + 1) // 2 if sign == "-" else numbers * numbers):
            asked[kind].clear()
        question, answer = _sum(kind, generator)
        while question in asked[kind]:
            question, answer = _sum(kind, generator)
        asked[kind].add(question)
        worked: dict[str, int] = {}
        while len(worked) < EXAMPLES:
            example, other = _sum(kind, generator)
            if other != answer:
                worked[example] = other
        shown = "".join(f"Q: {example}\nA: {other}\n\n" for example, other in worked.items())
        rows.append({"prompt": f"{shown}Q: {question}\nA:", "completion": f" {answer}", "slice": kind})
    return rows


def _sum(kind: str, generator: random.Random) -> tuple[str, int]:
    sign, low, high = KINDS[kind]
    first, second = generator.randint(low, high), generator.randint(low, high)
    if sign == "-":
        first, second = max(first, second), min(first, second)
    answer = {"+": first + second, "-": first - second, "*": first * second}[sign]
    return f"{first} {sign} {second}", answer


def code() -> list[dict[str, str]]:
    """Functions to write: the `prompt` that begins each, a `canonical_solution`, and the `test` of its `entry_point`.

    Example:
        >>> len(code()), code()[0]["entry_point"]
        (30, 'change_back')
    """
    text = resources.files("weighbridge.prove").joinpath("code_problems.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def program_of(row: Mapping[str, str], completion: str) -> str:
    r"""The program that tests a completion: the function up to the first line outside it, the tests, and their call.

    Args:
        row: a function to write, as `code` gives it.
        completion: what a model wrote after the prompt.

    Example:
        >>> row = {"prompt": "def one():\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "one"}
        >>> print(program_of(row, "    return 1\nprint(one())"))
        def one():
            return 1
        <BLANKLINE>
        def check(f):
            assert f() == 1
        <BLANKLINE>
        check(one)
        <BLANKLINE>
    """
    body: list[str] = []
    for line in completion.split("\n"):
        if body and line.strip() and line[0] not in " \t)]}":
            break
        body.append(line)
    return row["prompt"] + "\n".join([*body, "", row["test"], f"check({row['entry_point']})", ""])
