"""Are examples of every kind read, and is what cannot be used named by its line? Are leaks and slices found?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weighbridge.errors import FormatError
from weighbridge.prove.examples import Example, read_examples, read_passages
from weighbridge.prove.leakage import leaks
from weighbridge.prove.slices import clusters_of, slices_of

CHOICE = {"prompt": "1+1=", "choices": ["1", "2"], "answer": 1}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("texts", {"text": "a"}), ("completions", {"prompt": "a", "completion": "b"}), ("choices", CHOICE),
        ("labels", {"text": "a", "label": 3}), ("pairs", {"sentence1": "a", "sentence2": "b", "score": 0.5}),
        ("retrieval", {"query": "a", "relevant": ["x"]}), ("retrieval", {"query": "a", "relevant": {"x": 2, "y": 0}}),
        ("code", {"prompt": "a", "test": "b", "entry_point": "c"}),
    ],
)  # fmt: skip
def test_the_kind_follows_from_the_fields(tmp_path: Path, kind: str, line: dict[str, Any]) -> None:
    found = read_examples(write(tmp_path / "a.jsonl", {**line, "slice": "s"}))
    assert found.kind == kind and found.rows[0].fields["slice"] == "s" and found.rows[0].place == "line 1"


def test_an_answer_is_a_place_or_a_choice(tmp_path: Path) -> None:
    lines = [CHOICE, {**CHOICE, "prompt": "2-1=", "answer": "1"}]
    assert [row.fields["answer"] for row in read_examples(write(tmp_path / "a.jsonl", *lines)).rows] == [1, 0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({**CHOICE, "answer": 2}, "line 2: the answer is 2"), ({**CHOICE, "answer": True}, "the answer is true"),
        ({**CHOICE, "answer": "3"}, 'the answer is "3"'), ({**CHOICE, "choices": ["1"]}, "two choices"),
        ({**CHOICE, "choices": "12"}, "two choices"), ({**CHOICE, "choices": ["1", " "]}, "not empty"),
        ({**CHOICE, "prompt": 3}, "prompt is 3"), ({"prompt": "a"}, "lacks choices, answer"),
        ({"text": "a"}, "line 2 is one of the texts, line 1 one of the choices"), ({}, "lacks prompt"),
        ({**CHOICE, "prompt": "a\ud800"}, "half of a letter"), ({**CHOICE, "choices": ["a", "\udfff"]}, "half of"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_examples(write(tmp_path / "a.jsonl", CHOICE, line))
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        {"sentence1": "a", "sentence2": "b", "score": "1"}, {"sentence1": "a", "sentence2": "b", "score": None},
        {"query": "a", "relevant": []}, {"query": "a", "relevant": "x"}, {"query": "a", "relevant": {"x": 0}},
        {"query": "a", "relevant": {"x": -1, "y": 1}}, {"query": "a", "relevant": {"x": 10**400}},
        {"sentence1": "a", "sentence2": "b", "score": 10**400},
        {"text": "a", "more": ["\udc00"]}, {"text": "a", "label": ""}, {"text": "a", "label": [1]},
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused(tmp_path: Path, line: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="line 1"):
        read_examples(write(tmp_path / "a.jsonl", line))


def test_lines_that_are_too_long_or_of_another_encoding_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    monkeypatch.setattr("weighbridge.prove.json_lines.MOST_LINE_BYTES", 100)
    path.write_text('{"text": "a"}\n' + json.dumps({"text": "a" * 200}))
    with pytest.raises(FormatError, match="line 2 is longer than 100"):
        read_examples(path)
    path.write_bytes(json.dumps({"text": "a"}).encode("utf-16"))
    with pytest.raises(FormatError, match="UTF-8"):
        read_examples(path)


def test_passages_have_an_id_each(tmp_path: Path) -> None:
    good = {"id": 1, "text": "a"}
    assert read_passages(write(tmp_path / "p.jsonl", good, {"id": "b", "text": "c"})) == {"1": "a", "b": "c"}
    for bad in ({"id": "1", "text": "b"}, {"text": "b"}, {"id": 2, "text": " "}):
        with pytest.raises(FormatError, match="line 2"):
            read_passages(write(tmp_path / "p.jsonl", good, bad))
    with pytest.raises(FormatError, match="1 passages"):
        read_passages(write(tmp_path / "p.jsonl", good))


def rows(*texts: str) -> list[Example]:
    return [Example({"text": text}, f"line {number}") for number, text in enumerate(texts, start=1)]


def test_leaks_are_found_by_whole_and_by_runs_of_words() -> None:
    words = [f"w{number}" for number in range(40)]
    own = rows(" ".join(words), "A short one.", " ".join(["x"] * 13 + words[:14]), "another", "")
    others = ["before " + " ".join(words[:35]) + " after", "a  SHORT one", ""]
    assert leaks("texts", own, others) == [0, 1, 4]
    assert leaks("texts", own, ["nothing of it"]) == []


def test_slices_by_value_and_by_rule() -> None:
    documents = [{"a": 1, "b": "North Sea"}, {"a": 20, "b": "south"}, {"a": 3, "b": "sea"}]

    def chosen(*asked: str) -> dict[str, list[bool]]:
        return {name: one.tolist() for name, one in slices_of(documents, asked, [5, 60, 7]).items()}

    assert chosen("a>=3") == {"a>=3": [False, True, True], "not a>=3": [True, False, False]}
    assert chosen("b~sea")["b~sea"] == [True, False, True]
    assert chosen("b!=sea")["b!=sea"] == [True, True, False]
    assert chosen("length>50")["length>50"] == [False, True, False]
    assert chosen("a<100") == {"a<100": [True, True, True]}  # a side without an example is none
    for bad, said in (("c>1", "no field c"), ("b>1", "compared with"), ("a>x", "two numbers")):
        with pytest.raises(FormatError, match=said):
            chosen(bad)


def test_clusters_are_those_of_a_field() -> None:
    documents = [{"d": "x"}, {"d": "y"}, {"d": "x"}]
    assert clusters_of(documents, "d").tolist() == [0, 1, 0] and clusters_of(documents, None).tolist() == [0, 1, 2]
    with pytest.raises(FormatError, match="no field e"):
        clusters_of(documents, "e")
    assert np.issubdtype(clusters_of(documents, "d").dtype, np.int64)
