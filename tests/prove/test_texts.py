"""Are texts scored as by hand, by any model that gives log-probabilities? No model is run here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from tests.prove.scripted import Letters

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.errors import ConfigError, FormatError, SourceError
from weighbridge.formats.reconcile import Status
from weighbridge.prove.comparison import Pairs, Rule, compare, overall
from weighbridge.prove.examples import Example, read_examples
from weighbridge.prove.language import are_alike, by_bytes, cost, paired, together, windows

DECODERS = Path(__file__).resolve().parents[2] / "examples" / "small_decoder"


def documents(*texts: str) -> list[Example]:
    return [Example({"text": text}, f"line {number}") for number, text in enumerate(texts, start=1)]


def score(base: Letters, candidate: Letters, texts: list[Example], window: int) -> dict[str, Pairs]:
    if are_alike(base, candidate, texts):
        rows = [together(base, candidate, one, window) for one in texts]
    else:
        rows = [by_bytes([cost(model, one, window) for model in (base, candidate)], one) for one in texts]
    return paired(rows, np.arange(len(rows)))


def values(base: Letters, candidate: Letters, *texts: str, window: int = 3) -> dict[str, tuple[float, float]]:
    found = score(base, candidate, documents(*texts), window)
    compared = {name: compare(pairs, Rule()) for name, pairs in found.items()}
    return {name: (one.base, one.candidate) for name, one in compared.items()}


def test_scores_are_those_worked_out_by_hand() -> None:
    even, sure = Letters(0.25, 0.25, 0.25, 0.25), Letters(0.5, 0.25, 0.125, 0.125)
    found = values(even, sure, "aab", "cd")
    likely = 2 * math.log(0.5) + math.log(0.25) + 2 * math.log(0.125)
    assert found["perplexity"][0] == pytest.approx(4, rel=1e-6)
    assert found["perplexity"][1] == pytest.approx(math.exp(-likely / 5), rel=1e-6)
    assert found["bits_per_byte"][0] == pytest.approx(2, rel=1e-6)
    assert found["bits_per_byte"][1] == pytest.approx(-likely / 5 / math.log(2), rel=1e-6)
    divergence = sum(0.25 * math.log(0.25 / p) for p in (0.5, 0.25, 0.125, 0.125))
    assert found["kl_divergence"][0] == 0.0
    assert found["kl_divergence"][1] == pytest.approx(divergence, abs=1e-6)
    assert found["top1_agreement"] == (1.0, 1.0)  # of equals the first is taken
    assert values(sure, Letters(0.1, 0.7, 0.1, 0.1), "abcd")["top1_agreement"] == (1.0, 0.0)


def test_a_model_against_itself_differs_by_nothing() -> None:
    model = Letters(0.5, 0.25, 0.125, 0.125)
    found = score(model, model, documents("abc", "dda"), 8)
    assert compare(found["kl_divergence"], Rule()).delta.value == 0.0
    perplexity = compare(found["perplexity"], Rule())
    assert (perplexity.delta.low, perplexity.delta.high, perplexity.verdict) == (0.0, 0.0, "equivalent")


def test_windows_do_not_change_what_a_model_without_memory_scores() -> None:
    even, sure = Letters(0.25, 0.25, 0.25, 0.25), Letters(0.5, 0.25, 0.125, 0.125)
    assert values(even, sure, "abcdabcd", window=3) == values(even, sure, "abcdabcd", window=64)
    assert windows(list(range(5)), None, 2) == [[0, 1], [2, 3], [4]]


def test_other_tokenizers_are_compared_by_the_byte_alone() -> None:
    found = values(Letters(0.25, 0.25, 0.25, 0.25), Letters(0.5, 0.25, 0.125, 0.125, letters="dcba"), "aab")
    assert set(found) == {"bits_per_byte"}


def test_distances_decide_only_where_they_are_asked_for() -> None:
    even, sure = Letters(0.25, 0.25, 0.25, 0.25), Letters(0.26, 0.25, 0.25, 0.24)
    pairs = score(even, sure, documents("ab", "cd", "abcd"), 8)["kl_divergence"]
    told = compare(pairs, Rule(margin=0.01))
    assert not told.gates and overall([told])[0] == "undecided"
    assert not compare(pairs, Rule(keep=0.9), is_asked=True).gates and not compare(pairs, Rule(), is_asked=True).gates
    many = [f"{'abcd'[n % 4]}{'abcd'[n // 4 % 4]}{'abcd'[n // 16]}" for n in range(60)]
    agreed = score(even, sure, documents(*many), 8)["top1_agreement"]
    assert compare(agreed, Rule(keep=0.9), is_asked=True).verdict == "equivalent" and not compare(agreed, Rule()).gates
    assert compare(pairs, Rule(margin=0.01), is_asked=True).verdict == "equivalent"
    assert compare(pairs, Rule(margin=1e-9), is_asked=True).verdict == "worse"


class Broken(Letters):
    """Gives no number for a window with a b."""

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        found = super().log_probabilities(tokens, start)
        return found * np.float32(np.nan) if 1 in tokens else found


def test_a_model_that_gives_no_number_is_named_with_the_document() -> None:
    good, broken = Letters(0.25, 0.25, 0.25, 0.25), Broken(0.25, 0.25, 0.25, 0.25)
    with pytest.raises(ConfigError, match="line 2"):
        score(good, broken, documents("aa", "ab"), 8)


def test_texts_are_read_and_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    lines = [{"text": "one", "kind": "a"}, {"text": " "}, {"text": "one"}, {"text": "two", "kind": "b"}]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_examples(path)
    assert [document.text for document in found.rows] == ["one", "two"]
    assert found.rows[1].fields["kind"] == "b" and found.rows[1].place == "line 4"
    assert found.notes == ("1 empty example (line 2) is left out", "1 example (line 3) is there already and left out")
    assert len(read_examples(path, 1).rows) == 1
    (tmp_path / "plain.txt").write_text("first\nline\n\n\nsecond\n")
    plain = read_examples(tmp_path / "plain.txt").rows
    assert [(document.text, document.place) for document in plain] == [("first\nline", "line 1"), ("second", "line 5")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"prompt": "y"}\n', "line 2 has no text"), ("a.jsonl", b'{"text": 1}', "line 1"),
        ("a.jsonl", b'{"text": "x"\n', "line 1 is no JSON"), ("a.txt", b"", "no text"), ("a.txt", b"\xff", "UTF-8"),
        ("a.jsonl", b'{"text": ""}\n', "no text"), ("a.json", b'{"text": "x"}', "is JSON"),
        ("a.jsonl", b'{"text": "x\\ud800"}\n', "half of a letter"),
    ],
)  # fmt: skip
def test_bad_data_is_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=said):
        read_examples(tmp_path / name)
    done = CliRunner().invoke(main, ["prove", "a", "b", "--on", str(tmp_path / name)])
    assert done.exit_code == 2 and "Traceback" not in done.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_examples(tmp_path / "none.txt")
    for words in ([], ["a", "b"], ["a", "--on", "x"], ["a", "b", "--on", "x", "--samples", "c", "d"]):
        assert CliRunner().invoke(main, ["prove", *words]).exit_code == 2


@pytest.mark.parametrize(("size", "parameters"), [("small", 3_017_472), ("large", 4_196_608)])
def test_the_decoders_of_the_project_are_what_they_say(size: str, parameters: int) -> None:
    found = inspect(DECODERS / size)
    assert found.parameters.total == parameters
    assert found.reconciliation.status is Status.AGREES
    assert found.stored is not None and set(found.stored.by_encoding) == {"bf16"}
    log = [json.loads(line) for line in (DECODERS / size / "log.jsonl").read_text().splitlines()]
    losses = [line["held_out_loss"] for line in log if "held_out_loss" in line]
    assert losses == sorted(losses, reverse=True) and log[-1]["parameters"] == parameters


def test_the_weights_of_the_decoders_are_small() -> None:
    assert sum(path.stat().st_size for path in DECODERS.rglob("*.safetensors")) <= 15_000_000


def test_models_without_a_first_token_in_common_leave_it_out() -> None:
    even, other = Letters(0.25, 0.25, 0.25, 0.25), Letters(0.5, 0.25, 0.125, 0.125, begin=3)
    found = values(even, other, "aab", window=8)
    assert found["perplexity"][1] == pytest.approx(math.exp(-(math.log(0.5) + math.log(0.25)) / 2), rel=1e-6)
    with pytest.raises(ConfigError, match="begins a text"):
        values(even, Letters(0.25, 0.25, 0.25, 0.25, letters="dcba", begin=None), "aab")


def test_a_padded_vocabulary_is_compared_where_both_have_words() -> None:
    class Padded(Letters):
        def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
            found = super().log_probabilities(tokens, start)
            return np.hstack([found, np.full((len(found), 3), -40.0, dtype=np.float32)])

    found = values(Letters(0.25, 0.25, 0.25, 0.25), Padded(0.25, 0.25, 0.25, 0.25), "abcd")
    assert found["kl_divergence"][1] == pytest.approx(0, abs=1e-6) and found["top1_agreement"] == (1.0, 1.0)


def test_what_is_impossible_in_the_base_costs_nothing_and_in_the_candidate_all() -> None:
    never = Letters(0.5, 0.5, 0.25, 0.25)
    never.row[2] = -np.inf
    same = score(never, never, documents("ab"), 8)["kl_divergence"]
    assert compare(same, Rule()).candidate == 0.0
    lost = score(Letters(0.25, 0.25, 0.25, 0.25), never, documents("ab", "ba"), 8)["kl_divergence"]
    assert compare(lost, Rule(margin=1.0), is_asked=True).verdict == "worse"
