"""Answers that contradict each other: each with its source, its day and its basis, and no number for all of them."""

from __future__ import annotations

import dataclasses

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.estimate import Basis
from weighbridge.predict.disputed import disputes, find_dispute
from weighbridge.predict.scaling_laws.supply import supply
from weighbridge.show.disputes import dispute_lines


def test_every_answer_has_a_source_a_day_and_a_basis() -> None:
    known = {"claimed", *(basis.value for basis in Basis)}
    for dispute in disputes().values():
        assert len(dispute.answers) > 1, "one answer contradicts nothing"
        for one in dispute.answers:
            assert one.source and one.checked.year >= 2026 and one.of
            assert one.basis in known
            assert bool(one.url) is (one.basis != "claimed"), "who claims shows nothing, who publishes has an address"
            if one.low is not None and one.high is not None:
                assert one.low <= one.high


def test_emergence_has_three_thresholds_and_none_that_all_allow() -> None:
    """C11: 60 to 100 billion, a trillion, 13 to 70 billion; and papers: one for each ability, or none."""
    found = find_dispute("emergence")
    claimed = [(one.low, one.high) for one in found.answers if one.basis == "claimed"]
    assert claimed == [(60e9, 100e9), (1e12, None), (13e9, 70e9)]
    assert found.common is None
    wei, schaeffer = (one for one in found.answers if one.basis == "measured")
    assert (wei.low, wei.high) == (40e6, 540e9)
    assert not schaeffer.has_bounds
    text = "\n".join(dispute_lines([found]))
    for words in ("60B to 100B", "1T or more", "13B to 70B", "40M to 540B", "no value lies in all of them", "claimed"):
        assert words in text


def test_the_year_is_that_of_the_supply() -> None:
    """C12: the projection of 2024 is told once as a fact and once as an answer."""
    newest = find_dispute("data-exhaustion").answers[-1]
    assert (newest.low, newest.high) == supply().years
    assert str(supply().median_year) in newest.of
    assert newest.source == supply().source


def test_what_all_allow_is_worked_out() -> None:
    found = find_dispute("synthetic-share")
    assert found.common is None, "10 to 20% and 30 to 50% share nothing"
    assert dataclasses.replace(found, answers=found.answers[1:]).common == (0.3, 0.3)
    with pytest.raises(UnknownNameError):
        find_dispute("meaning")
