"""Do claims get the verdict that the arithmetic gives them, and is nothing wrong ever confirmed?"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from weighbridge.claims.check import Report, check
from weighbridge.claims.claim import Claim, Finding, Verdict
from weighbridge.claims.source import check_sources

GOLDEN = Path(__file__).parents[1] / "golden" / "claims.csv"
SENTENCES = Path(__file__).parents[1] / "golden" / "claim_sentences.csv"
CLAIMS = Path(__file__).resolve().parents[3] / "shared" / "data" / "claims.csv"
LEAST_SHARE = 0.85


def _class(verdict: str) -> str:
    if verdict.startswith(("confirmed", "approx")):
        return "right"
    return "wrong" if verdict.startswith(("wrong", "internally")) else "not verifiable"


def _read(path: Path) -> tuple[list[dict[str, str]], Report]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    claims = [Claim(row["quote_short"], row["quantity_kind"], row["claimed_value"], row["inputs"], row["id"],
                    row["article"], row["section"]) for row in rows]  # fmt: skip
    return rows, check(claims)


def _one(quote: str, kind: str = "", claimed: str = "", inputs: str = "") -> Finding:
    return check([Claim(quote, kind, claimed, inputs)]).findings[0]


def test_every_golden_claim_has_its_class() -> None:
    rows, report = _read(GOLDEN)
    pairs = zip(rows, report.findings, strict=True)
    wrong = [(row, one) for row, one in pairs if _class(one.verdict.value) != row["expected"]]
    assert len(rows) > 60
    assert wrong == []


def test_plain_sentences_have_their_class_and_nothing_wrong_is_confirmed() -> None:
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(row, _one(row["sentence"]).verdict.value) for row in rows]
    assert [row for row, verdict in found if row["expected"] != "right" and _class(verdict) == "right"] == []
    assert [row for row, verdict in found if row["expected"] != "wrong" and _class(verdict) == "wrong"] == []
    assert sum(_class(verdict) == row["expected"] for row, verdict in found) >= 0.95 * len(found) > 55


@pytest.mark.skipif(not CLAIMS.exists(), reason="the published claims are not beside this clone")
def test_published_claims_meet_the_bar_and_nothing_wrong_is_confirmed() -> None:
    rows, report = _read(CLAIMS)
    pairs = list(zip(rows, report.findings, strict=True))
    scored = [(row, one) for row, one in pairs
              if row["computable"] == "yes" and re.search(r"\d", row["claimed_value"])
              and not row["verdict"].startswith("internally")]  # fmt: skip
    right = [row["id"] for row, one in scored if _class(one.verdict.value) == _class(row["verdict"])]
    confirmed = [row["id"] for row, one in pairs if row["verdict"].startswith("wrong") and one.verdict.is_right]
    assert confirmed == []
    assert len(right) >= LEAST_SHARE * len(scored), sorted({row["id"] for row, _ in scored} - set(right))


@pytest.mark.skipif(not CLAIMS.exists(), reason="the published claims are not beside this clone")
def test_the_known_contradictions_are_found() -> None:
    _, report = _read(CLAIMS)
    pairs = {frozenset(one.names) for one in report.contradictions}
    assert {"C006", "C415"} in pairs, "10,000x and 5,000x growth"
    assert {"C236", "C329"} in pairs, "one bill for daily and for monthly requests"
    assert {"C003", "C042"} in pairs, "1.75T and 1.56T of one model"
    assert len(pairs) <= 8, "few enough that a reader looks at each"


@pytest.mark.parametrize(
    ("sentence", "verdict", "told"),
    [
        ("Llama 2 70B needs 80 GB of KV cache for 4,096 tokens", Verdict.WRONG, "1.342 GB"),
        ("Llama 2 70B has exactly 70,015,266,816 parameters", Verdict.WRONG, "68,976,648,192"),
        ("Llama 2 70B has 68,976,648,192 parameters", Verdict.CONFIRMED, "68,976,648,192"),
        ("Mixtral 8x7B activates 13B parameters per token", Verdict.CONFIRMED, "12,879,925,248"),
        ("GPT-3 was trained on 300B tokens with 3.14e23 FLOPs", Verdict.CONFIRMED, "3.143e+23"),
        ("140B tokens is 140 billion words", Verdict.WRONG, "105,000,000,000 words"),
        ("A 7B model takes 70 ms for 100 tokens on an A100", Verdict.WRONG, "686.6 ms"),
        ("A 70B model fine-tunes with QLoRA on one RTX 4090", Verdict.WRONG, "35 GB"),
        ("Llama 2 7B runs on an RTX 4090", Verdict.CONFIRMED, "13.48 GB"),
        ("Llama 3.1 405B fits on 8x H100", Verdict.WRONG, "811.7 GB"),
        ("LoRA with r=8 on q,v of Llama 2 70B trains 16,384,000 parameters", Verdict.CONFIRMED, "16,384,000"),
        ("Training took 1,720,320 GPU-hours at 400 W, about 4,000 MWh", Verdict.WRONG, "688.1 MWh"),
        ("GPT-3 has a context window of 4,096 tokens", Verdict.WRONG, "2,048"),
        ("The EU AI Act presumes systemic risk above 1e25 FLOPs", Verdict.CONFIRMED, "1e+25"),
        ("GPT-4 has 1.76 trillion parameters", Verdict.UNVERIFIABLE, ""),
        ("Our model makes customers 40% happier", Verdict.UNVERIFIABLE, ""),
    ],
)
def test_plain_sentences(sentence: str, verdict: Verdict, told: str) -> None:
    found = _one(sentence)
    assert found.verdict is verdict, found
    assert told in found.computed


def test_an_undisclosed_model_stays_unverifiable_and_says_who_would_know() -> None:
    found = _one("GPT-4 has 1.76 trillion parameters", "model_param_count", "1.76T")
    assert found.verdict is Verdict.UNVERIFIABLE
    assert found.settles == "a statement of its developer"
    assert "not disclosed" in found.steps[0]


def test_arithmetic_on_an_undisclosed_model_is_still_arithmetic() -> None:
    assert _one("GPT-4 FP16 is 3.52 TB", "storage_size", "3.52 TB", "1.76T").verdict is Verdict.CONFIRMED


def test_a_statement_takes_its_model_from_the_one_before_in_its_section_only() -> None:
    above = Claim("GPT-3 could be 174.6B", "model_param_count", "174.6B", section="S1")
    below = Claim("or 176.2B by another method", "model_param_count", "176.2B", section="S1")
    elsewhere = Claim("or 176.2B by another method", "model_param_count", "176.2B", section="S2")
    verdicts = [one.verdict for one in check([above, below, elsewhere]).findings]
    assert verdicts == [Verdict.CONFIRMED, Verdict.WRONG, Verdict.UNVERIFIABLE]


def test_a_named_stranger_is_not_taken_for_the_model_before() -> None:
    above = Claim("DINOv2-g: 1.1B", "model_param_count", "1.1B", section="S1")
    stranger = Claim("Zephyrus Pro about 175B", "model_param_count", "175B", section="S1")
    assert check([above, stranger]).findings[1].verdict is Verdict.UNVERIFIABLE


def test_the_derivation_says_steps_and_sources() -> None:
    found = _one("KV cache of 80 GB", "kv_cache", "80 GB", "L=80 kv=8 hd=128 s=4096 FP16")
    assert found.steps[0] == "2 x 80 layers x 8 heads x 128 x 2 B = 327,680 B a token"
    document = check([Claim("KV cache of 80 GB", "kv_cache", "80 GB", "L=80 kv=8 hd=128 s=4096 FP16")]).to_json()
    assert document["claims"][0]["derivation"].startswith(found.steps[0])
    assert {"id", "verdict", "claimed", "computed", "derivation", "sources"} <= document["claims"][0].keys()


def test_sentences_checked_together_contradict_each_other() -> None:
    report = check_sources(["Orion-X has 20B parameters", "Falcon 180B has 180B parameters", "BERT has 340M parameters",
                            "BERT has 3.4B parameters"])  # fmt: skip
    assert [one.values for one in report.contradictions] == [("340M parameters", "3.4B parameters")]
    assert report.is_wrong
