"""Do two logs of lm-evaluation-harness pair, score as it does, and fail by name when they cannot?"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn import metrics as sklearn_metrics

from weighbridge.cli import main
from weighbridge.errors import FormatError, SourceError
from weighbridge.prove import json_lines, samples
from weighbridge.prove.comparison import Rule
from weighbridge.prove.metrics import METRICS, f1_sums
from weighbridge.prove.proof import of_logs

Line = dict[str, Any]


def line(number: int, **values: Any) -> Line:
    """One sample as `lm_eval --log_samples` writes it."""
    return {"doc_id": number, "doc": {"kind": "odd" if number % 2 else "even"}, "target": "x", "arguments": {},
            "resps": [], "filtered_resps": [], "filter": "none", "metrics": list(values), "doc_hash": f"d{number}",
            "prompt_hash": "p", "target_hash": "t", **values}  # fmt: skip


def write(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def two(folder: Path, make: Callable[[int, bool], Line], n: int = 200) -> tuple[Path, Path]:
    """Logs of a base and a candidate."""
    return (write(folder / "base.jsonl", [make(i, False) for i in range(n)]),
            write(folder / "candidate.jsonl", [make(i, True) for i in range(n)]))  # fmt: skip


def prove(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["prove", "--samples", *map(str, words)])


def document(*words: str | Path) -> Any:
    return json.loads(prove(*words, "--json").stdout)


def test_metrics_are_those_of_independent_implementations() -> None:
    draw = random.Random(1)
    gold, found = ([draw.random() < 0.3 for _ in range(500)] for _ in range(2))
    sums = np.sum([f1_sums(int(g), int(f)) for g, f in zip(gold, found, strict=True)], axis=0)
    assert METRICS["f1"].value(sums) == pytest.approx(sklearn_metrics.f1_score(gold, found), abs=1e-12)
    right = np.array([[float(g == f), 1.0] for g, f in zip(gold, found, strict=True)]).sum(axis=0)
    assert METRICS["acc"].value(right) == pytest.approx(sklearn_metrics.accuracy_score(gold, found), abs=1e-12)
    # Three texts by hand: 3, 5 and 2 words with -6, -12 and -3 nats.
    texts = np.array([[-6.0, 3.0], [-12.0, 5.0], [-3.0, 2.0]]).sum(axis=0)
    assert METRICS["word_perplexity"].value(texts) == pytest.approx(math.exp(21 / 10), abs=1e-12)
    assert METRICS["bits_per_byte"].value(texts) == pytest.approx(2.1 / math.log(2), abs=1e-12)


def test_a_log_against_itself_is_exactly_unchanged(tmp_path: Path) -> None:
    base, _ = two(tmp_path, lambda i, _: line(i, word_perplexity=[-30.5 - i % 7, 10 + i % 3]))
    found = document(base, base)
    (metric,) = found["metrics"]
    assert (metric["delta"], metric["interval"], metric["ratio"]) == (0.0, [0.0, 0.0], 1.0)
    assert (found["verdict"], metric["base"]) == ("equivalent", metric["candidate"])
    assert prove(base, base).exit_code == 0


def test_verdicts_and_exit_codes(tmp_path: Path) -> None:
    draw = random.Random(2)
    fate = [draw.random() for _ in range(1000)]

    def lost(share: float) -> tuple[Path, Path]:
        return two(tmp_path, lambda i, other: line(i, acc=float(fate[i] < 0.8 - share * other)), 1000)

    worse, same = prove(*lost(0.1), "--margin", "0.03"), prove(*lost(0.0), "--margin", "0.03")
    assert (worse.exit_code, same.exit_code) == (1, 0)
    assert worse.stdout.startswith("WORSE: acc") and same.stdout.startswith("equivalent: acc")
    half = document(*lost(0.02), "--margin", "0.03")["metrics"][0]
    assert half["verdict"] == "undecided" and half["examples_needed"] > 1000
    better = document(*lost(-0.1))
    assert better["verdict"] == "better" and better["metrics"][0]["p_value"] < 1e-6
    assert document(*lost(0.1), "--keep", "0.8")["verdict"] == "equivalent"
    assert document(*lost(0.1), "--keep", "0.95")["verdict"] == "worse"
    assert prove(*lost(0.02), "--margin", "0.03").exit_code == 1


def test_less_is_better_for_perplexity(tmp_path: Path) -> None:
    draw = random.Random(3)
    noise = [draw.gauss(0, 0.5) for _ in range(300)]
    logs = two(tmp_path, lambda i, other: line(i, word_perplexity=[-300 - i % 50 - other * (3 + noise[i]), 100]), 300)
    (metric,) = document(*logs)["metrics"]
    assert metric["verdict"] == "worse"
    assert metric["ratio"] == pytest.approx(math.exp(0.03), rel=0.002)
    assert metric["ratio_interval"][0] < math.exp(0.03) < metric["ratio_interval"][1]
    assert document(*logs, "--keep", "0.96")["verdict"] == "equivalent"  # 1.03 is below 1 / 0.96
    assert document(*logs, "--keep", "0.98")["verdict"] == "worse"


def test_a_slice_that_fails_is_found_though_the_average_is_fine(tmp_path: Path) -> None:
    draw = random.Random(4)
    fate = [(draw.random(), draw.random(), draw.random()) for _ in range(1000)]

    def make(i: int, other: bool) -> Line:
        kind = "fraud" if i % 20 == 0 else f"group {i % 4}"
        share = 0.4 if other and kind == "fraud" else 0.9
        return line(i, acc=float(fate[i][other] < share)) | {"doc": {"kind": kind}}

    logs = two(tmp_path, make, 1000)
    assert document(*logs, "--margin", "0.05")["verdict"] == "equivalent"
    found = document(*logs, "--margin", "0.05", "--slice", "kind")
    slices = {part["slice"]: part["verdict"] for part in found["metrics"][0]["slices"]}
    assert found["metrics"][0]["verdict"] == "equivalent" and found["verdict"] == "worse"
    assert slices.pop("kind=fraud") == "worse"
    assert "worse" not in slices.values() and len(slices) == 4
    text = prove(*logs, "--margin", "0.05", "--slice", "kind").stdout
    assert "WORSE: acc is worse where kind=fraud" in text


def test_no_slice_is_invented(tmp_path: Path) -> None:
    """Twenty slices of equals, fifty times: at most 5% of the runs call one of them better or worse."""
    draw, alarms = random.Random(5), 0
    for _ in range(50):
        fate = [(draw.random(), draw.random()) for _ in range(600)]
        logs = two(tmp_path, lambda i, other, fate=fate: line(i, acc=float(fate[i][other] < 0.8))
                   | {"doc": {"g": i % 20}}, 600)  # type: ignore[misc]  # fmt: skip
        (found, _) = of_logs(*logs, Rule(), fields=["g"]).metrics
        alarms += any(part.verdict in ("better", "worse") for part in found.slices.values())
    assert alarms <= 6  # 2.5 are expected; 7 or more have a chance of 1%


def test_flips_are_told_and_do_not_decide(tmp_path: Path) -> None:
    logs = two(tmp_path, lambda i, other: line(i, acc=float((i % 10 == 0) != (other and i % 20 == 0))))
    accuracy, flips = document(*logs)["metrics"]
    assert (flips["name"], flips["candidate"], flips["gates"]) == ("flips", 0.05, False)
    assert accuracy["delta"] == pytest.approx(-0.05)


def test_filters_are_apart_and_unknown_metrics_are_named(tmp_path: Path) -> None:
    def both(other: bool) -> list[Line]:
        return [line(i, exact_match=float(kind == "loose" or other), novelty=1.0) | {"filter": kind}
                for i in range(50) for kind in ("strict", "loose")]  # fmt: skip

    base, candidate = write(tmp_path / "a", both(False)), write(tmp_path / "b", both(True))
    found = document(base, candidate)
    assert [m["name"] for m in found["metrics"]] == ["exact_match,loose", "flips of exact_match,loose",
                                                     "exact_match,strict", "flips of exact_match,strict"]  # fmt: skip
    assert [m["base"] for m in found["metrics"]][::2] == [1.0, 0.0]
    assert any("novelty" in note for note in found["notes"])


def test_f1_of_labels_and_of_words(tmp_path: Path) -> None:
    labels = two(tmp_path, lambda i, other: line(i, f1=[int(i % 3 == 0), int(i % 3 == 0 and not (other and i % 2))]))
    (metric,) = document(*labels)["metrics"]
    assert metric["base"] == 1.0 and metric["candidate"] == pytest.approx(2 / 3, abs=0.01)
    words = two(tmp_path, lambda i, other: line(i, f1=0.5 + 0.1 * (i % 3) - 0.1 * other))
    (metric,) = document(*words)["metrics"]
    assert metric["delta"] == pytest.approx(-0.1)


def test_few_examples_are_warned_of(tmp_path: Path) -> None:
    found = document(*two(tmp_path, lambda i, _: line(i, acc=1.0), 12), "--margin", "0.01")
    assert found["metrics"][0]["warnings"] and found["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no sample"), ('{"doc_id": 1\n', "line 1 is no JSON"), ("[1]\n", "line 1 is no object"),
        ('{"a": 1}\n', "line 1 is no sample"), (json.dumps(line(1, acc=1)) * 2, "line 1 is no JSON"),
        ((json.dumps(line(1, acc=1)) + "\n") * 2, "line 2 repeats question 1"),
        (json.dumps(line(1, acc="yes")), 'has "yes" as acc'), (json.dumps(line(1, acc=math.nan)), "NaN as acc"),
        (json.dumps(line(1, acc=1) | {"doc_hash": "other"}), "another one"),
        (json.dumps(line(7, acc=1)), "no question in common"),
    ],
)  # fmt: skip
def test_bad_logs_are_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    good = write(tmp_path / "good.jsonl", [line(1, acc=1.0)])
    bad = tmp_path / "bad.jsonl"
    bad.write_text(text, encoding="utf-8")
    done = prove(good, bad)
    assert done.exit_code == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_other_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write(tmp_path / "good.jsonl", [line(i, acc=1.0) for i in range(3)])
    with pytest.raises(SourceError, match="cannot be read"):
        samples.pair(good, tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"doc_id": "\xe9"}\n')
    with pytest.raises(FormatError, match="line 1 is not UTF-8"):
        samples.pair(good, tmp_path / "latin.jsonl")
    monkeypatch.setattr(json_lines, "MOST_LINE_BYTES", 100)
    with pytest.raises(FormatError, match="line 1 is longer"):
        samples.pair(good, good)
    monkeypatch.undo()
    for words in (["--slice", "colour"], ["--metric", "bleu"], ["--margin", "-1"], ["--keep", "2"],
                  ["--confidence", "95"], ["--keep", "0.9", "--margin", "0.1"]):  # fmt: skip
        assert prove(good, good, *words).exit_code == 2, words


def test_lines_without_a_partner_are_told(tmp_path: Path) -> None:
    base = write(tmp_path / "a", [line(i, acc=1.0) for i in range(5)])
    candidate = write(tmp_path / "b", [line(i, acc=1.0) | {"prompt_hash": "q"} for i in range(2, 9)])
    notes = document(base, candidate)["notes"]
    assert any("6 lines have no partner" in note for note in notes)
    assert any("prompts differ" in note for note in notes)


def test_a_sequence_that_is_looked_at_has_wider_intervals(tmp_path: Path) -> None:
    logs = two(tmp_path, lambda i, other: line(i, acc=float(i % 10 != 0 or (other and i % 20 == 0))))
    once, always = (document(*logs, *words)["metrics"][0]["interval"] for words in ([], ["--sequential"]))
    assert always[0] < once[0] and once[1] < always[1]


def test_a_log_of_answers_against_itself_leaves_open_what_it_cannot_know(tmp_path: Path) -> None:
    """No answer differs: that is no proof that none would, and how many would prove it is told."""
    few, _ = two(tmp_path, lambda i, _: line(i, acc=float(i % 3 > 0)), 60)
    open_ = document(few, few)
    assert open_["verdict"] == "undecided" and open_["metrics"][0]["interval"][0] < 0
    asked = document(few, few, "--margin", "0.01")["metrics"][0]["examples_needed"]
    assert 300 < asked < 500
    assert document(few, few, "--margin", "0.2")["verdict"] == "equivalent"
    for value in ([1, 1], [0, 1]):
        pair, _ = two(tmp_path, lambda i, _, value=value: line(i, f1=value), 5)  # type: ignore[misc]
        assert document(pair, pair)["verdict"] == "undecided"


def test_few_looks_decide_nothing_in_a_sequence(tmp_path: Path) -> None:
    lost = two(tmp_path, lambda i, other: line(i, acc=float(not other)), 2)
    assert document(*lost, "--sequential")["verdict"] == "undecided"
    same, _ = two(tmp_path, lambda i, _: line(i, acc=1.0), 40)
    once, always = (document(same, same, *words)["metrics"][0]["interval"] for words in ([], ["--sequential"]))
    assert always[0] < once[0] < 0 < once[1] < always[1]


def test_scores_between_right_and_wrong_are_no_shares(tmp_path: Path) -> None:
    draw = random.Random(9)
    base = [draw.random() for _ in range(400)]
    logs = two(tmp_path, lambda i, other: line(i, acc=base[i] - other * (0.02 + 0.001 * (i % 7))), 400)
    (metric,) = document(*logs)["metrics"]
    assert metric["verdict"] == "worse" and metric["p_value"] is None
    assert metric["interval"][0] == pytest.approx(-0.023, abs=0.001)


def test_a_metric_that_cannot_be_read_does_not_sink_the_others(tmp_path: Path) -> None:
    logs = two(tmp_path, lambda i, _: line(i, acc=float(i % 2), f1=[i % 3, 2], score={"a": 1}))
    found = document(*logs, "--margin", "0.1")
    assert [metric["name"] for metric in found["metrics"]] == ["acc", "flips"]
    assert any("f1 is not compared" in note for note in found["notes"])
    refused = prove(*logs, "--metric", "f1")
    assert refused.exit_code == 2 and "labels of 0 and 1" in refused.stderr


def test_slices_follow_each_filter(tmp_path: Path) -> None:
    def log(name: str) -> Path:
        rows = [line(i, acc=float(i % 2)) | {"filter": "a"} for i in range(40)]
        rows += [line(i, acc=float(i % 2)) | {"filter": "b"} for i in reversed(range(2, 40))]
        return write(tmp_path / name, rows)

    found = document(log("x"), log("y"), "--slice", "kind", "--margin", "0.5")
    for metric in (one for one in found["metrics"] if one["name"].startswith("acc")):
        assert {part["slice"]: part["base"] for part in metric["slices"]} == {"kind=even": 0.0, "kind=odd": 1.0}


@pytest.mark.parametrize("value", [10**400, math.inf, [1, "x"], None, {"a": 1}])
def test_values_that_are_none_are_named(tmp_path: Path, value: Any) -> None:
    done = prove(*two(tmp_path, lambda i, _: line(i, acc=value)))
    assert done.exit_code == 2 and "Traceback" not in done.stderr and "acc" in done.stderr
