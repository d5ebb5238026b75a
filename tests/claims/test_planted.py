"""In three planted articles: are contradictions found, restatements in other units left alone, claims judged?"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from weighbridge.claims.check import Report
from weighbridge.claims.claim import Finding
from weighbridge.claims.source import check_sources

ARTICLES = Path(__file__).parent / "articles"
PLANTED: dict[str, Any] = json.loads((ARTICLES / "planted.json").read_text(encoding="utf-8"))


@functools.cache
def _report() -> Report:
    return check_sources([str(ARTICLES / name) for name in ("memory.md", "costs.txt", "energy.html")])


def _finding(article: str, sentence: str) -> Finding:
    return next(one for one in _report().findings if one.claim.article == article and one.claim.quote == sentence)


def _are_told_apart(pair: dict[str, Any]) -> bool:
    """Whether a contradiction names both sentences."""
    both = {pair["one"]["sentence"], pair["other"]["sentence"]}
    return any(both <= set(one.quotes) for one in _report().contradictions)


@pytest.mark.parametrize("pair", PLANTED["contradictions"], ids=lambda pair: pair["about"])
def test_planted_contradictions_are_found(pair: dict[str, Any]) -> None:
    assert _are_told_apart(pair)


@pytest.mark.parametrize("pair", PLANTED["restatements"], ids=lambda pair: pair["about"])
def test_restatements_are_no_contradictions(pair: dict[str, Any]) -> None:
    assert not _are_told_apart(pair)


def test_nothing_else_is_called_a_contradiction() -> None:
    planted = [{pair["one"]["sentence"], pair["other"]["sentence"]} for pair in PLANTED["contradictions"]]
    wrong = {claim["sentence"] for claim in PLANTED["claims"] if claim["class"] == "wrong"}
    others = [one.quotes for one in _report().contradictions
              if not any(pair <= set(one.quotes) for pair in planted) and not wrong & set(one.quotes)]  # fmt: skip
    assert others == []


def test_planted_claims_are_judged() -> None:
    planted = [(one, _finding(one["article"], one["sentence"])) for one in PLANTED["claims"]]
    refuted = [one for wanted, one in planted if wanted["class"] == "right" and one.verdict.is_wrong]
    confirmed = [one for wanted, one in planted if wanted["class"] != "right" and one.verdict.is_right]
    assert refuted == []
    assert confirmed == []
    missed = [one.claim.quote for wanted, one in planted
              if (wanted["class"] == "right") != one.verdict.is_right
              or (wanted["class"] == "wrong") != one.verdict.is_wrong]  # fmt: skip
    assert len(missed) <= 0.2 * len(planted), missed
