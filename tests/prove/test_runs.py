"""Is a proof of two models whole: data cleaned, answers kept, failures named, slices and ladders right?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.prove.scripted import Letters, Scripted

from weighbridge.cli import main
from weighbridge.errors import ConfigError, FormatError, SourceError, UnitError, UnknownNameError, WeighbridgeError
from weighbridge.prove import answers, ladder, runs, sandbox
from weighbridge.prove.comparison import Rule
from weighbridge.prove.engines.model import Model
from weighbridge.prove.plan import Plan
from weighbridge.prove.proof import Proof
from weighbridge.prove.scores import UserMetric

Given = Callable[..., None]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Opens these models by their names."""

    def use(**models: Model) -> None:
        monkeypatch.setattr(runs, "open_model", lambda source, how, other: models[str(source)])

    return use


def questions(path: Path, n: int = 40, **fields: Callable[[int], Any]) -> Path:
    """Sums of which half are even."""
    lines = [{"prompt": f"{number}+{number}=", "completion": str(2 * number),
              **{name: make(number) for name, make in fields.items()}} for number in range(n)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def doubled(prompt: str) -> str:
    return str(2 * int(prompt.split("+")[0]))


def worse_where(wrong: Callable[[int], bool]) -> Callable[[str], str]:
    return lambda prompt: "?" if wrong(int(prompt.split("+")[0])) else doubled(prompt)


def prove(data: Path, rule: Rule | None = None, **plan: Any) -> Proof:
    return runs.of_models("base", "candidate", Plan(data=data, **plan), rule or Rule(margin=0.1))


def test_a_failure_that_the_average_hides_is_found_and_a_clean_part_is_not_blamed(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 400, group=lambda n: "rare" if n % 10 == 0 else f"common {n % 4}")
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=worse_where(lambda n: n % 20 == 0)))
    plain = prove(data)
    assert plain.verdict == "equivalent" and plain.metrics[0].candidate == 0.95
    sliced = prove(data, slices=("group",))
    assert sliced.verdict == "worse" and sliced.reason == "exact_match is worse where group=rare"
    assert {part.verdict for name, part in sliced.metrics[0].slices.items() if name != "group=rare"} == {"equivalent"}
    by_rule = prove(data, slices=("length>7",))
    assert set(by_rule.metrics[0].slices) == {"length>7", "not length>7"}


def test_the_field_slice_is_used_without_being_asked(given: Given, tmp_path: Path) -> None:
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=doubled))
    found = prove(questions(tmp_path / "a.jsonl", slice=lambda n: n % 2))
    assert set(found.metrics[0].slices) == {"0", "1"}


def test_a_model_that_fails_half_way_names_the_row_and_loses_nothing(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 10)
    text = data.read_text().replace('"7+7="', '"7+7 broken="')
    data.write_text(text)
    base, candidate = Scripted("b", write=doubled), Scripted("c", write=doubled)
    given(base=base, candidate=candidate)
    with pytest.raises(ConfigError, match="line 8: the server does not answer"):
        prove(data, cache=tmp_path / "kept")
    assert len(base.prompts) == 7 and not candidate.prompts
    data.write_text(text.replace("7+7 broken=", "7+7="))
    found = prove(data, cache=tmp_path / "kept")
    assert len(base.prompts) == 10 and len(candidate.prompts) == 10
    assert "7 of 10 answers of b were there already" in found.notes and found.seconds[0] is not None
    again = prove(data, cache=tmp_path / "kept")
    assert len(base.prompts) == 10 and again.seconds == (None, None) and again.metrics == found.metrics
    prove(data, cache=tmp_path / "kept", fresh=True)
    assert len(base.prompts) == 20
    prove(data, cache=tmp_path / "kept", most_tokens=3)
    assert len(base.prompts) == 30  # another question


def test_half_a_line_of_a_killed_run_is_asked_again(given: Given, tmp_path: Path) -> None:
    data, kept = questions(tmp_path / "a.jsonl", 3), tmp_path / "kept"
    base = Scripted("b", write=doubled)
    given(base=base, candidate=Scripted("c", write=doubled))
    prove(data, cache=kept)
    for path in (kept / "answers").iterdir():
        path.write_bytes(path.read_bytes()[:-4])
    assert prove(data, cache=kept).metrics[0].base == 1.0 and len(base.prompts) == 4
    assert prove(data, cache=kept).metrics[0].base == 1.0 and len(base.prompts) == 4


def test_a_cache_that_cannot_be_written_is_said(given: Given, tmp_path: Path) -> None:
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=doubled))
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="finished answers cannot be kept"):
        prove(questions(tmp_path / "a.jsonl"), cache=tmp_path / "file")


def test_texts_are_read_once_and_the_base_not_again_for_another_candidate(given: Given, tmp_path: Path) -> None:
    data, kept = tmp_path / "a.jsonl", tmp_path / "kept"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("abca", "ddab", "cabd")))
    base, one, two = (Letters(*p, letters="abcd") for p in ((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4), (0.25,) * 4))
    given(base=base, candidate=one)
    first = prove(data, cache=kept)
    given(base=base, candidate=two)
    prove(data, cache=kept)
    assert base.asked == 3 and one.asked == 3 and two.asked == 3
    given(base=base, candidate=one)
    assert prove(data, cache=kept).metrics == first.metrics and one.asked == 3
    assert [found.name for found in first.metrics if found.gates] == ["perplexity"]


def test_what_is_kept_makes_room_for_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 100)
    model = answers.Remembered(Letters(0.25, 0.25, 0.25, 0.25), tmp_path)
    for tokens in ([4, 0, 1, 2], [4, 1, 1, 2], [4, 2, 1, 2]):
        model.log_probabilities(tokens)
    first = list(tmp_path.rglob("*.npy"))
    other = answers.Remembered(Letters(0.1, 0.2, 0.3, 0.4), tmp_path)
    other.log_probabilities([4, 0, 1, 2])
    assert len(first) == 1 and not first[0].exists()
    assert len(list(tmp_path.rglob("*.npy"))) == 1 and not list(tmp_path.rglob("*.part"))


def test_leaked_and_over_long_and_repeated_rows_are_left_out_and_named(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 10)
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "5+5=", "completion": "10"}) + "\n")
        file.write(json.dumps({"prompt": "3+ too long", "completion": "6"}) + "\n")
    (tmp_path / "calibration.jsonl").write_text(json.dumps({"text": "4+4="}) + "\n")
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=doubled))
    found = prove(data, calibration=tmp_path / "calibration.jsonl")
    assert found.metrics[0].n == 9 and found.settings["examples"] == 9
    assert any("line 5" in note and "calibration" in note for note in found.notes)
    assert any("line 11" in note and "there already" in note for note in found.notes)
    assert any("line 12" in note and "longer" in note for note in found.notes)
    (tmp_path / "calibration.jsonl").write_bytes(data.read_bytes())
    with pytest.raises(FormatError, match="every example is in"):
        prove(data, calibration=tmp_path / "calibration.jsonl")


def test_clusters_stand_and_fall_together(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 200, document=lambda n: n // 50)
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=worse_where(lambda n: n < 50)))
    alone, together = prove(data).metrics[0], prove(data, cluster="document").metrics[0]
    assert (alone.clusters, together.clusters) == (200, 4) and alone.verdict == "worse"
    assert together.verdict == "undecided" and together.delta.low < alone.delta.low


def test_worked_examples_are_recorded_and_not_proved_on(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 10)
    base = Scripted("b", write=lambda prompt: doubled(prompt.rsplit("\n", 1)[-1]))
    given(base=base, candidate=Scripted("c", write=base.written))
    found = prove(data, shots=5)
    assert found.settings["shots"] == 5 and found.metrics[0].n == 5 and base.prompts[0].count("\n\n") == 5
    assert prove(data).settings["shots"] == 0
    other = questions(tmp_path / "b.jsonl", 3)
    assert prove(data, shots_from=other, shots=2).settings["shots"] == 2 and prove(data).metrics[0].n == 10
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(FormatError, match=r"c\.jsonl has texts"):
        prove(data, shots_from=tmp_path / "c.jsonl")


def test_a_planted_loss_of_precision_is_found_by_the_arithmetic_probe(given: Given) -> None:
    def sums(prompt: str) -> str:
        one, sign, other = prompt.rsplit("Q: ", 1)[-1].split("\n")[0].split(" ")
        return str({"+": int(one) + int(other), "-": int(one) - int(other), "*": int(one) * int(other),
                    "×": int(one) * int(other), "x": int(one) * int(other)}[sign])  # fmt: skip

    def rounded(prompt: str) -> str:
        exact = int(sums(prompt))
        return str(round(exact, -1) if abs(exact) > 100 else exact)

    given(base=Scripted("b", write=sums), candidate=Scripted("c", write=rounded))
    found = runs.of_models("base", "candidate", Plan(probe="arithmetic"), Rule(margin=0.02))
    assert found.verdict == "worse" and found.metrics[0].base == 1.0 and found.settings["probe"] == "arithmetic"
    small = found.metrics[0].slices["addition of 1 digit"]
    assert small.candidate == 1.0
    with pytest.raises(UnknownNameError, match="probe"):
        runs.of_models("base", "candidate", Plan(probe="history"), Rule())


def test_code_is_run_only_where_that_is_asked(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: "in a box")
    ran: list[str] = []

    def run(program: str, *, seconds: float) -> Any:
        ran.append(program)
        return sandbox.Outcome("return 0" in program, "")

    monkeypatch.setattr(sandbox, "run", run)
    given(base=Scripted("b", write=lambda p: "    return 0"), candidate=Scripted("c", write=lambda p: "    pass"))
    with pytest.raises(UnitError, match="--run-code"):
        runs.of_models("base", "candidate", Plan(probe="code"), Rule())
    assert not ran
    found = runs.of_models("base", "candidate", Plan(probe="code", run_code=True, limit=12), Rule(margin=0.1))
    assert len(ran) == 24 and found.verdict == "worse" and found.metrics[0].name == "pass_at_1"
    assert "what the models wrote was run: in a box" in found.notes and not any("neither" in one for one in found.notes)
    given(base=Scripted("n", write=lambda p: "    pass"), candidate=Scripted("c", write=lambda p: "    pass"))
    nothing = runs.of_models("base", "candidate", Plan(probe="code", run_code=True, limit=12), Rule(margin=0.1))
    assert any(one.startswith("neither model passed any test") for one in nothing.notes)


def test_a_metric_of_ones_own_comes_by_its_entry_point(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Entry:
        name, value = "digits", "somewhere:digits"

        def __init__(self, loaded: object) -> None:
            self.loaded = loaded

        def load(self) -> object:
            return self.loaded

    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=worse_where(lambda n: True)))
    metric = UserMetric("digits", lambda fields, said: sum(letter.isdigit() for letter in said))
    data = questions(tmp_path / "a.jsonl")
    offered: dict[str, object] = {"weighbridge.metrics": metric}
    monkeypatch.setattr(runs, "entry_points", lambda group: [Entry(offered[group])])
    found = prove(data, metrics=("digits",))
    assert [one.name for one in found.metrics] == ["digits"] and found.verdict == "worse"
    offered["weighbridge.metrics"] = len
    with pytest.raises(ConfigError, match="no UserMetric"):
        prove(data, metrics=("digits",))
    assert [one.name for one in prove(data).metrics] == ["exact_match", "flips", "f1"]
    with pytest.raises(UnitError, match="metric perplexity for completions"):
        prove(data, metrics=("perplexity",))
    asked = Scripted("b", write=doubled)
    given(base=asked, candidate=asked)
    with pytest.raises(UnknownNameError, match="'nope' is not known"):
        prove(data, metrics=("nope",))
    assert not asked.prompts


def test_the_smallest_candidate_that_passes_is_found(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = questions(tmp_path / "a.jsonl", 200)
    models: Mapping[str, Model] = {
        "base": Scripted("b", write=doubled), "tiny": Scripted("t", write=worse_where(lambda n: n % 2 == 0)),
        "small": Scripted("s", write=doubled), "large": Scripted("l", write=doubled)}  # fmt: skip
    given(**models)
    monkeypatch.chdir(tmp_path)
    for name, size in {"large": 300, "tiny": 100, "small": 200}.items():
        Path(name).write_bytes(bytes(size))
    found = ladder.climb("base", ("large", "tiny", "small"), Plan(data=data), Rule(margin=0.05))
    assert found.candidate == "small" and found.verdict == "equivalent"
    steps = found.settings["ladder"]
    assert [(step["candidate"], step["verdict"]) for step in steps] == [("tiny", "worse"), ("small", "equivalent"),
                                                                        ("large", None)]  # fmt: skip
    assert found.metrics[0].confidence == pytest.approx(1 - 0.05 / 3)
    none = ladder.climb("base", ("tiny",), Plan(data=data), Rule(margin=0.05))
    assert none.verdict == "worse" and none.reason.startswith("none of 1 candidates passes; the last, tiny: ")
    with pytest.raises(SourceError, match="no such model does not exist"):
        ladder.climb("base", ("tiny", "no such model"), Plan(data=data), Rule())
    assert not isinstance(models["large"], Scripted) or not models["large"].prompts


def test_a_proof_says_what_was_run(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl")
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=worse_where(lambda n: n == 3)))
    found = prove(data, limit=20)
    document = json.loads(json.dumps(found.to_json()))
    assert document["settings"]["models"][1] == {"path": "c", "sha256": "c", "engine": "script"}
    assert document["settings"]["examples"] == 20 and len(document["settings"]["data_sha256"]) == 64
    assert document["flipped"] == [{"example": "line 4", "prompt": "3+3=", "expected": "6", "base": "6",
                                    "candidate": "?", "lost": True}]  # fmt: skip
    assert document["metrics"][0]["verdict"] == "undecided" and document["seconds_per_example"]["base"] >= 0
    assert replace(found, flipped=()).to_json()["flipped"] == []


def test_retrieval_needs_its_passages(given: Given, tmp_path: Path) -> None:
    data, held = tmp_path / "q.jsonl", tmp_path / "p.jsonl"
    data.write_text(json.dumps({"query": "x", "relevant": ["1"]}) + "\n" + json.dumps({"query": "y", "relevant": [2]}))
    held.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate("zxy")))
    points = {"x": (1.0, 0.0), "y": (0.0, 1.0), "z": (1.0, 1.0)}
    given(base=Scripted("b", embed=points.__getitem__), candidate=Scripted("c", embed=points.__getitem__))
    found = prove(data, passages=held)
    assert {one.name: one.base for one in found.metrics} == {"ndcg_at_10": 1.0, "recall_at_10": 1.0}
    with pytest.raises(UnitError, match="--passages"):
        prove(data)
    held.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate("zx")))
    with pytest.raises(WeighbridgeError, match="line 2 has '2' as relevant"):
        prove(data, passages=held)


def test_a_better_model_wins_and_a_right_answer_has_a_price(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 200)
    given(base=Scripted("b", write=worse_where(lambda n: n % 2 == 0)), candidate=Scripted("c", write=doubled))
    found = prove(data)
    assert found.verdict == "better"
    cost = found.priced((0.001, 0.0015)).cost
    assert cost is not None and cost.turns  # dearer by the request, cheaper by the right answer
    assert (cost.base_usd, cost.candidate_usd) == pytest.approx((0.002, 0.0015)) and cost.ratio == pytest.approx(0.75)
    assert cost.low < 0.75 < cost.high
    document = json.loads(json.dumps(found.priced((0.001, 0.0015)).to_json()))["cost_per_correct"]
    assert document["ranking_flips"] is True and document["metric"] == "exact_match"
    for prices in ((0.0, 1.0), (1.0, float("nan"))):
        with pytest.raises(UnitError, match="prices"):
            found.priced(prices)
    given(base=Scripted("n", write=lambda p: "?"), candidate=Scripted("c", write=doubled))
    nothing = prove(data).priced((1.0, 1.0)).to_json()["cost_per_correct"]
    assert nothing["base_usd"] is None and nothing["candidate_usd"] == 1.0


def test_examples_are_told_apart_by_what_the_template_makes_of_them(given: Given, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    lines = [{"prompt": "Sum?", "context": f"{n}+{n}", "completion": str(2 * n)} for n in range(20)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=doubled))
    assert prove(data, template="{context}: {prompt}").metrics[0].n == 20


def test_worked_examples_are_not_proved_on(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 12)
    given(
        base=Scripted("b", write=lambda p: doubled(p.rsplit("\n", 1)[-1])), candidate=Scripted("c", write=lambda p: "?")
    )
    found = prove(data, shots_from=data, shots=5)
    assert found.metrics[0].n == 7 and any("5 examples are worked" in note for note in found.notes)
    with pytest.raises(FormatError, match="every example is in"):
        prove(data, shots_from=data)


def test_flips_can_be_asked_for(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 200)
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=worse_where(lambda n: n < 10)))
    found = prove(data, metrics=("flips",))
    assert [one.name for one in found.metrics] == ["flips"] and found.metrics[0].gates and found.verdict == "equivalent"
    assert prove(data, rule=Rule(margin=0.01), metrics=("flips",)).verdict == "worse"


def test_a_field_slice_of_names_makes_no_slices(given: Given, tmp_path: Path) -> None:
    given(base=Scripted("b", write=doubled), candidate=Scripted("c", write=doubled))
    found = prove(questions(tmp_path / "a.jsonl", 250, slice=lambda n: f"name {n}"))
    assert not found.metrics[0].slices and any("makes no slices" in note for note in found.notes)


def test_fresh_reads_the_base_again_and_a_full_disk_leaves_nothing(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, kept = tmp_path / "a.jsonl", tmp_path / "kept"
    data.write_text('{"text": "abca"}\n{"text": "dd"}\n')
    base, candidate = Letters(0.4, 0.3, 0.2, 0.1), Letters(0.1, 0.2, 0.3, 0.4)
    given(base=base, candidate=candidate)
    prove(data, cache=kept)
    prove(data, cache=kept, fresh=True)
    assert (base.asked, candidate.asked) == (4, 4)

    def full(*rest: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    prove(data, cache=tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.npy*"))


def test_a_base_that_is_never_right_has_no_price(given: Given, tmp_path: Path) -> None:
    data = questions(tmp_path / "a.jsonl", 50)
    given(base=Scripted("b", write=lambda p: "?"), candidate=Scripted("c", write=worse_where(lambda n: n % 2 == 0)))
    cost = prove(data).priced((1.0, 2.0)).cost
    assert cost is not None and cost.to_json() == {
        "metric": "exact_match", "usd_per_request": [1.0, 2.0], "base_usd": None, "candidate_usd": 4.0, "ratio": None,
        "ratio_interval": [None, None], "ranking_flips": True}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("--samples", "a", "b", "--cluster", "d"), ("--samples", "a", "b", "--shots", "3"),
        ("m", "n", "--task", "t", "--cluster", "d"), ("m", "n", "--task", "t", "--calibration", "c"),
        ("m", "n", "--task", "t", "--template", "x"), ("m", "n", "--task", "t", "--cache", "c"),
    ],
)  # fmt: skip
def test_no_option_is_taken_and_not_used(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["prove", *words])
    assert done.exit_code == 2 and f"has no use for {words[-2]}" in done.stderr


def test_what_nobody_got_right_is_shown(given: Given, tmp_path: Path) -> None:
    given(base=Scripted("b", write=lambda p: " 0. "), candidate=Scripted("c", write=lambda p: "?"))
    found = prove(questions(tmp_path / "a.jsonl", 12))
    assert any(
        "neither model got any right; line 1 expected '0', and the base wrote '0.'" in one for one in found.notes
    )


def test_a_base_is_asked_once_also_where_tokenizers_differ(given: Given, tmp_path: Path) -> None:
    data, kept = tmp_path / "a.jsonl", tmp_path / "kept"
    data.write_text('{"text": "abca"}\n{"text": "ddab"}\n')
    base, one, two = Letters(0.4, 0.3, 0.2, 0.1), Letters(0.25, 0.25, 0.25, 0.25, letters="dcba"), Letters(
        0.1, 0.2, 0.3, 0.4, letters="badc")  # fmt: skip
    for candidate in (one, two):
        given(base=base, candidate=candidate)
        found = prove(data, cache=kept)
        assert [metric.name for metric in found.metrics] == ["bits_per_byte"]
    assert (base.asked, one.asked, two.asked) == (2, 2, 2)


def test_texts_that_an_encoder_cuts_are_told(given: Given, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("ab", "abcabcabc", "ba")))

    class Encoder(Scripted):
        positions = 6

        def tokens(self, text: str) -> list[int]:
            return list(range(len(text)))

    models = [Encoder(name, embed=lambda text: (len(text), 1.0, float(text[0] == "a"))) for name in "bc"]
    given(base=models[0], candidate=models[1])
    assert "b reads only the first 6 tokens of 1 texts" in prove(data).notes
