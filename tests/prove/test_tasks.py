"""Are answers counted as scikit-learn, scipy, lm-evaluation-harness and hand count them?"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from tests.prove.scripted import Letters, Scripted

from weighbridge.errors import ConfigError, FormatError, UnitError
from weighbridge.prove import scores, tasks, vectors
from weighbridge.prove.comparison import Pairs, Rule, compare
from weighbridge.prove.engines.model import TooLongError, cut
from weighbridge.prove.examples import Example, Examples, Kind
from weighbridge.prove.metrics import METRICS, calibration_sums, macro_f1, macro_f1_sums
from weighbridge.prove.scores import UserMetric
from weighbridge.prove.tasks import Asking


def examples(kind: Kind, *rows: Mapping[str, Any]) -> Examples:
    return Examples(kind, tuple(Example(row, f"line {n}") for n, row in enumerate(rows, start=1)), "digest")


def ask(of: Examples, *models: Any, shots: Sequence[Example] = (), template: str | None = None) -> Asking:
    return tasks.asking(of, models, shots, template=template, most_tokens=None, stop=None)


def values(how: Asking, of: Examples, base: Any, candidate: Any, **more: Any) -> dict[str, tuple[float, float]]:
    first, second = ([tasks.answer(model, how, row) for row in of.rows] for model in (base, candidate))
    pairs, _ = scores.metrics_of(how, of.rows, first, second, np.arange(len(of.rows)), **more)
    compared = {name: compare(one, Rule()) for name, one in pairs.items()}
    return {name: (one.base, one.candidate) for name, one in compared.items()}


def test_likelihoods_are_worked_out_by_hand() -> None:
    letters = Letters(0.5, 0.25, 0.15, 0.1)
    assert letters.likelihood("a", "b").total == pytest.approx(math.log(0.25), rel=1e-6)
    assert letters.likelihood("d", "ab").total == pytest.approx(math.log(0.5 * 0.25), rel=1e-6)
    assert letters.likelihood("a", "a").is_greedy and not letters.likelihood("a", "b").is_greedy
    assert letters.likelihood("", "ab").tokens == 2  # the first has the token that begins a text before it


def test_a_trailing_space_belongs_to_the_continuation_as_in_the_harness() -> None:
    model = Letters(0.5, 0.25, 0.125, 0.125, letters="abc ", begin=4)
    assert model.likelihood("a ", "b").tokens == 2 and model.likelihood("a", " b").tokens == 2
    assert model.likelihood("a ", "b").total == model.likelihood("a", " b").total


def test_what_is_longer_than_the_positions_is_said() -> None:
    model = Letters(0.25, 0.25, 0.25, 0.25)
    model.positions = 3
    assert model.likelihood("a", "bc").tokens == 2
    with pytest.raises(TooLongError):
        model.likelihood("ab", "cd")


def test_accuracy_by_likelihood_and_by_length() -> None:
    of = examples("choices", {"prompt": "a ", "choices": ["b", "aaa"], "answer": 1},
                  {"prompt": "b ", "choices": ["b", "c"], "answer": 1})  # fmt: skip
    base = Letters(0.6, 0.3, 0.05, 0.05, letters="abc ")
    how = ask(of, base, base)
    answers = [tasks.answer(base, how, row) for row in of.rows]
    space = math.log(0.05)
    assert answers[0] == pytest.approx([space + math.log(0.3), space + 3 * math.log(0.6)], rel=1e-5)
    found = values(how, of, base, base)
    # by likelihood 0.3 beats 0.216; by the character 0.216 for three beats 0.3 for one, the space's share aside
    first = [one / long for one, long in zip(answers[0], (1, 3), strict=True)]
    assert found["accuracy"] == (0.0, 0.0) and first[1] > first[0] and found["acc_norm"] == (0.5, 0.5)


def test_calibration_error_by_hand_and_by_another_way() -> None:
    generator = random.Random(3)
    pairs = [(generator.uniform(0.34, 1.0), generator.random() < 0.6) for _ in range(500)]
    sums = np.array([calibration_sums(*one) for one in pairs]).sum(axis=0)
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = [(c, r) for c, r in pairs if low < c <= high]
        if inside:
            expected += (
                len(inside) / 500 * float(abs(np.mean([r for _, r in inside]) - np.mean([c for c, _ in inside])))
            )
    assert METRICS["calibration_error"].value(sums) == pytest.approx(expected, abs=1e-12)
    one = np.array([calibration_sums(0.8, True), calibration_sums(0.8, False)]).sum(axis=0)
    assert METRICS["calibration_error"].value(one) == pytest.approx(0.3)


@pytest.mark.parametrize("labels", [2, 5])
def test_macro_f1_is_that_of_scikit_learn(labels: int) -> None:
    generator = np.random.default_rng(labels)
    gold, found = generator.integers(0, labels, 300), generator.integers(0, labels, 300)
    gold[gold == labels - 1] = 0  # a label that is found and never right
    sums = np.array([macro_f1_sums(int(g), int(f), labels) for g, f in zip(gold, found, strict=True)]).sum(axis=0)
    expected = sklearn_metrics.f1_score(gold, found, average="macro")
    assert float(macro_f1(labels).value(sums)) == pytest.approx(expected, abs=1e-12)


def test_correlations_are_those_of_scipy_also_in_a_slice() -> None:
    generator = np.random.default_rng(5)
    given = np.round(generator.normal(size=80), 1)  # with ties
    found = np.stack([given + generator.normal(size=80), given + 2 * generator.normal(size=80)])
    for name, expected in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
        pairs = Pairs(METRICS[name], np.stack([given, found[0]], 1), np.stack([given, found[1]], 1), np.arange(80))
        chosen = np.arange(80) < 30
        compared = compare(pairs, Rule(), {"first": chosen})
        assert compared.base == pytest.approx(expected(given, found[0])[0], abs=1e-9)
        assert compared.candidate == pytest.approx(expected(given, found[1])[0], abs=1e-9)
        assert compared.slices["first"].base == pytest.approx(expected(given[:30], found[0][:30])[0], abs=1e-9)
        assert compared.gates is (name == "spearman")


def test_rankings_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(7)
    for _ in range(20):
        grades = generator.integers(0, 3, 25).astype(float)
        grades[0] = 2.0
        scores = generator.permutation(25).astype(float)
        names = [str(place) for place in range(25)]
        order = [names[place] for place in np.argsort(-scores)]
        wanted = vectors.grades_of(dict(zip(names, grades.tolist(), strict=True)))
        expected = sklearn_metrics.ndcg_score(grades[None], scores[None], k=10)
        assert vectors.ndcg(order, wanted) == pytest.approx(expected, abs=1e-9)
        top = set(order[:10])
        assert vectors.recall(order, wanted) == sum(grades[int(n)] > 0 for n in top) / (grades > 0).sum()


def test_cosines_and_neighbours_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(9)
    first, second = generator.normal(size=(2, 40, 8)).astype(np.float32)
    expected = np.diag(sklearn_metrics.pairwise.cosine_similarity(first.astype(float), second.astype(float)))
    assert vectors.cosines(first, second) == pytest.approx(expected, abs=1e-12)
    like = sklearn_metrics.pairwise.cosine_similarity(first.astype(float))
    np.fill_diagonal(like, -2)
    assert vectors.nearest(first).tolist() == like.argmax(axis=1).tolist()
    assert vectors.cosines(first, first).tolist() == [1.0] * 40


def test_vectors_of_texts_and_of_queries() -> None:
    points = {"x": (1.0, 0.0), "y": (0.0, 1.0), "z": (0.9, 0.1), "q": (1.0, 0.05)}
    base = Scripted("base", embed=points.__getitem__)
    turned = Scripted("turned", embed=lambda text: (points[text][1], points[text][0]))
    texts = examples("texts", *({"text": text} for text in "xyz"))
    how = ask(texts, base, turned)
    found = values(how, texts, base, turned)
    assert found["neighbour_agreement"] == (1.0, 1.0) and found["cosine"][0] == 1.0 and found["cosine"][1] < 0.2
    queries = examples("retrieval", {"query": "q", "relevant": ["z"]})
    held = {name: points[name] for name in "xyz"}
    how = ask(queries, base, base)
    found = values(how, queries, base, base, passages=(held, {name: points[name][::-1] for name in "xyz"}))
    assert found["ndcg_at_10"][0] == pytest.approx(1 / math.log2(3)) and found["recall_at_10"] == (1.0, 1.0)
    scored = (("x", "z", 5), ("x", "y", 0), ("z", "y", 1), ("x", "x", 4))
    pairs = examples("pairs", *({"sentence1": a, "sentence2": b, "score": s} for a, b, s in scored))
    cosine = [0.9 / math.hypot(0.9, 0.1), 0.0, 0.1 / math.hypot(0.9, 0.1), 1.0]
    found = values(ask(pairs, base, base), pairs, base, base)
    assert found["spearman"][0] == pytest.approx(stats.spearmanr([5, 0, 1, 4], cosine)[0])


def test_completions_labels_and_flips() -> None:
    of = examples("completions", {"prompt": "1+1=", "completion": " 2"}, {"prompt": "2+2=", "completion": "4"})
    right, wrong = (
        Scripted("right", write=lambda p: {"1+1=": " 2 ", "2+2=": " 4 "}[p]),
        Scripted("wrong", write=lambda p: "2"),
    )
    how = ask(of, right, wrong)
    assert how.stop == ("\n",) and values(how, of, right, wrong)["exact_match"] == (1.0, 0.5)
    first, second = ([tasks.answer(model, how, row) for row in of.rows] for model in (right, wrong))
    _, flipped = scores.metrics_of(how, of.rows, first, second, np.arange(2))
    expected = {"example": "line 2", "prompt": "2+2=", "expected": "4", "base": "4", "candidate": "2", "lost": True}
    assert [flip.to_json() for flip in flipped] == [expected]
    labels = examples("labels", {"text": "good", "label": "yes"}, {"text": "bad", "label": "no"})
    sure = Scripted("sure", labels=lambda t: {"yes": 0.9 if t == "good" else 0.2, "no": 0.1 if t == "good" else 0.8})
    other = Scripted("other", labels=lambda t: {"yes": 0.4, "no": 0.3, "maybe": 0.3})
    found = values(ask(labels, sure, other), labels, sure, other)
    assert found["accuracy"] == (1.0, 0.5) and found["f1_macro"][1] == pytest.approx(1 / 3)
    assert found["calibration_error"][0] == pytest.approx(0.15)
    with pytest.raises(ConfigError, match="not yes"):
        tasks.answer(Scripted("few", labels=lambda t: {"no": 1.0}), ask(labels, sure, sure), labels.rows[0])


def test_f1_of_words_is_that_of_squad() -> None:
    for found, wanted, expected in (("The cat", "a cat!", 1.0), ("red cat sat", "cat", 0.5), ("x", "", 0.0),
                                    ("cat cat", "cat", 2 / 3)):  # fmt: skip
        assert scores.f1_of_words(found, wanted) == pytest.approx(expected)


def test_worked_examples_and_templates_stand_in_the_prompt_and_the_settings() -> None:
    of = examples("completions", {"prompt": "1+1=", "completion": "2"}, {"prompt": "2+2=", "completion": " 4"},
                  {"prompt": "3+3=", "completion": "6", "n": 7}, {"prompt": "4+4=", "completion": "8"})  # fmt: skip
    model = Scripted("m", write=lambda prompt: "6")
    shots, left = tasks.draw_shots(of, 2, seed=1)
    assert len(left) == 2 and {row.place for row in shots}.isdisjoint(of.rows[place].place for place in left)
    assert tasks.draw_shots(of, 2, seed=1) == (shots, left)
    how = ask(of, model, model, shots=of.rows[:2])
    tasks.answer(model, how, of.rows[2])
    assert model.prompts[-1] == "1+1= 2\n\n2+2= 4\n\n3+3=" and how.to_json()["shots"] == 2
    templated = ask(of, model, model, template="{n}: {prompt}")
    assert tasks.prompt_of(templated, of.rows[2]) == "7: 3+3="
    with pytest.raises(FormatError, match="line 1 has no field n"):
        tasks.prompt_of(templated, of.rows[0])
    with pytest.raises(UnitError, match="3 worked examples of 4"):
        tasks.draw_shots(of, 3, seed=0)


def test_what_models_cannot_do_is_said() -> None:
    writer = Scripted("writer", write=str)
    with pytest.raises(ConfigError, match="writer writes"):
        ask(examples("pairs", {"sentence1": "a", "sentence2": "b", "score": 1}), writer, writer)
    reader = Letters(0.25, 0.25, 0.25, 0.25)
    texts = examples("texts", {"text": "a"})
    with pytest.raises(UnitError, match="template"):
        ask(texts, reader, reader, template="x")
    with pytest.raises(UnitError, match="max-tokens"):
        tasks.asking(texts, (reader, reader), (), template=None, most_tokens=3, stop=None)
    one = examples("labels", {"text": "a", "label": "x"}, {"text": "b", "label": "x"})
    with pytest.raises(FormatError, match="two labels"):
        ask(one, reader, reader)


def test_a_metric_of_ones_own_and_its_faults() -> None:
    of = examples("completions", {"prompt": "a", "completion": "bb"})
    model = Scripted("m", write=lambda prompt: "bbb")
    how = ask(of, model, model)
    own = UserMetric("length", lambda fields, said: len(said) - len(fields["completion"]), higher_is_better=False)
    assert values(how, of, model, model, own=[own])["length"] == (1.0, 1.0)
    for bad, said in ((lambda f, s: 1 / 0, "ZeroDivisionError"), (lambda f, s: math.nan, "gives nan")):
        with pytest.raises(ConfigError, match=said):
            values(how, of, model, model, own=[UserMetric("bad", bad)])


def test_a_model_that_gives_no_number_is_named_with_the_example() -> None:
    of = examples("texts", {"text": "x"}, {"text": "y"})
    model = Scripted("m", embed=lambda text: (math.nan, 1.0) if text == "y" else (1.0, 1.0))
    how = ask(of, model, model)
    assert tasks.answer(model, how, of.rows[0]) == [1.0, 1.0]
    with pytest.raises(ConfigError, match="line 2"):
        tasks.answer(model, how, of.rows[1])
    assert tasks.answer(Scripted("w", write=str), Asking("completions", "writes", most_tokens=1),
                        Example({"prompt": "too long"}, "line 1")) is None  # fmt: skip
    assert cut("a", []) == "a" and cut("ab\n", ["\n", ""]) == "ab"


def test_with_a_share_to_keep_nothing_left_of_a_fault_is_better() -> None:
    generator = np.random.default_rng(11)
    base = np.stack([generator.uniform(1, 3, 60), np.ones(60)], axis=1)
    none = np.stack([np.zeros(60), np.ones(60)], axis=1)
    faults = replace(METRICS["ndcg_at_10"], name="faults", higher_is_better=False)
    found = compare(Pairs(faults, base, none, np.arange(60)), Rule(keep=0.9))
    assert found.verdict == "better" and found.ratio.value == 0.0
    assert compare(Pairs(faults, base, base * [1.05, 1], np.arange(60)), Rule(keep=0.9)).verdict == "equivalent"
    assert compare(Pairs(faults, base, base * [1.2, 1], np.arange(60)), Rule(keep=0.9)).verdict == "worse"


def test_an_f1_that_rests_on_one_example_says_that_it_is_too_little() -> None:
    sums = np.zeros((12, 3))
    sums[0] = 1, 0, 0
    other = sums.copy()
    other[0] = 0, 0, 1
    found = compare(Pairs(METRICS["f1"], sums, other, np.arange(12)), Rule(margin=0.1))
    assert found.verdict == "undecided" and found.delta.low == -1.0  # all that it can lose


def test_many_looks_at_what_is_impossible_bound_nothing() -> None:
    likely = np.stack([np.full(40, -1.0), np.ones(40)], axis=1)
    never = likely.copy()
    never[3, 0] = -np.inf
    found = compare(Pairs(METRICS["perplexity"], likely, never, np.arange(40)), Rule(margin=1.0, sequential=True))
    assert found.verdict == "worse" and found.delta.low == -math.inf and found.delta.high == math.inf


def right_in(clusters: int, each: int, lost: int) -> Pairs:
    base = np.ones((clusters * each, 2))
    candidate = base.copy()
    candidate[:lost, 0] = 0
    return Pairs(METRICS["accuracy"], base, candidate, np.repeat(np.arange(clusters), each))


def test_one_cluster_says_nothing_and_few_say_little() -> None:
    one = compare(right_in(1, 200, 40), Rule(margin=0.05))
    assert one.verdict == "undecided" and one.p_value is None
    assert compare(right_in(200, 1, 40), Rule(margin=0.05)).verdict == "worse"
    few, many = compare(right_in(4, 50, 20), Rule()), compare(right_in(200, 1, 20), Rule())
    assert few.delta.high - few.delta.low > 2 * (many.delta.high - many.delta.low) and many.p_value is not None


@pytest.mark.parametrize("clusters", [3, 5, 8])
def test_intervals_of_few_clusters_cover(clusters: int) -> None:
    generator = np.random.default_rng(clusters)
    inside = 0
    for _ in range(400):
        effect = np.repeat(generator.normal(0, 0.15, clusters), 40)
        base = generator.random(len(effect)) < 0.7
        candidate = generator.random(len(effect)) < np.clip(0.6 + effect, 0, 1)
        first, second = (np.stack([one.astype(float), np.ones(len(effect))], 1) for one in (base, candidate))
        pairs = Pairs(METRICS["accuracy"], first, second, np.repeat(np.arange(clusters), 40))
        found = compare(pairs, Rule()).delta
        inside += found.low <= -0.1 <= found.high
    assert inside / 400 > 0.92


def test_counts_that_do_not_differ_are_not_called_equal() -> None:
    same = np.ones((2, 2))
    for name in ("ndcg_at_10", "recall_at_10", "neighbour_agreement", "top1_agreement"):
        found = compare(Pairs(METRICS[name], same, same, np.arange(2)), Rule(margin=0.001), is_asked=True)
        assert found.verdict == "undecided", name
    of = examples("completions", *({"prompt": f"{n}", "completion": "x"} for n in range(3)))
    model = Scripted("m", write=lambda prompt: "x")
    own = UserMetric("right", lambda fields, said: float(said == "x"))
    pairs, _ = scores.metrics_of(ask(of, model, model), of.rows, ["x"] * 3, ["x"] * 3, np.arange(3), own=[own])
    assert compare(pairs["right"], Rule()).verdict == "undecided"


def test_of_a_base_below_nothing_no_share_can_be_kept() -> None:
    base = np.stack([np.full(50, -1.0) + np.arange(50) / 500, np.ones(50)], 1)
    metric = replace(METRICS["ndcg_at_10"], name="own", is_count=False)
    found = compare(Pairs(metric, base, base * [2, 1], np.arange(50)), Rule(keep=0.95))
    assert found.verdict == "undecided" and "name a --margin" in found.reason


def test_a_label_that_the_data_do_not_have_counts_as_in_scikit_learn() -> None:
    of = examples("labels", {"text": "a", "label": "yes"}, {"text": "b", "label": "no"}, {"text": "c", "label": "no"})
    table = {"a": "yes", "b": "no", "c": "maybe"}
    model = Scripted("m", labels=lambda text: {label: 0.8 if table[text] == label else 0.1
                                               for label in ("yes", "no", "maybe")})  # fmt: skip
    expected = sklearn_metrics.f1_score(["yes", "no", "no"], [table[text] for text in "abc"], average="macro")
    assert values(ask(of, model, model), of, model, model)["f1_macro"][0] == pytest.approx(expected)


def test_an_answer_without_a_token_is_an_error() -> None:
    class Dropping(Letters):
        def tokens(self, text: str) -> list[int]:
            return super().tokens(text.replace("d", ""))

    with pytest.raises(ConfigError, match="no token of its own"):
        Dropping(0.25, 0.25, 0.25, 0.25).likelihood("ab", "d")


def test_whatever_a_library_raises_names_the_row() -> None:
    class FaultError(Exception):
        pass

    def write(prompt: str) -> str:
        raise FaultError("inside\nof it")

    how = Asking("completions", "writes", most_tokens=1)
    with pytest.raises(ConfigError, match=r"line 3: w fails \(inside\)"):
        tasks.answer(Scripted("w", write=write), how, Example({"prompt": "a"}, "line 3"))


@pytest.mark.parametrize(("n", "right", "margin"), [(100, 0.5, 0.02), (200, 0.5, 0.05), (50, 0.5, 0.05)])
def test_a_loss_as_large_as_the_margin_is_seldom_called_equivalent(n: int, right: float, margin: float) -> None:
    generator, wrong = np.random.default_rng(n), 0
    for _ in range(600):
        base = generator.random(n) < right
        candidate = base & ~(generator.random(n) < margin / right)
        first, second = (np.stack([one.astype(float), np.ones(n)], 1) for one in (base, candidate))
        pairs = Pairs(METRICS["accuracy"], first, second, np.arange(n))
        wrong += compare(pairs, Rule(margin=margin)).verdict in ("equivalent", "better")
    assert wrong / 600 <= 0.04  # 2.5% are meant


@pytest.mark.parametrize("n", [2, 4, 5, 10])
def test_few_equal_models_raise_few_alarms(n: int) -> None:
    generator, alarms = np.random.default_rng(n), 0
    for _ in range(600):
        first, second = (np.stack([(generator.random(n) < 0.5).astype(float), np.ones(n)], 1) for _ in range(2))
        found = compare(Pairs(METRICS["accuracy"], first, second, np.arange(n)), Rule())
        alarms += found.verdict in ("worse", "better")
        assert found.p_value is not None and (found.verdict not in ("worse", "better") or found.p_value <= 0.05)
    assert alarms / 600 <= 0.05


def test_all_answers_lost_is_not_said_to_be_none_changed() -> None:
    found = compare(right_in(30, 1, 30), Rule(margin=0.9))
    assert "no answer changed" not in found.reason and found.delta.high < -0.5


def test_intervals_stay_within_what_a_metric_can_be() -> None:
    flips = Pairs(METRICS["flips"], np.array([[0.0, 1.0]] * 5), np.array([[1.0, 1.0]] * 4 + [[0.0, 1.0]]), np.arange(5))
    found = compare(flips, Rule()).delta
    assert 0.0 <= found.low <= 0.8 <= found.high <= 1.0
