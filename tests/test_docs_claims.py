"""Are the numbers of the documentation right, by the checker that it documents?

Every page is checked as an article. What it calls wrong has to be a number that the page itself calls wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from weighbridge.claims.source import check_sources

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
QUOTED: dict[str, tuple[str, ...]] = {}
"""Wrong numbers that a page quotes to refute them, by the page and a part of the sentence."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_in_the_pages_is_wrong(path: Path) -> None:
    report = check_sources([str(path)])
    quoted = QUOTED.get(path.relative_to(ROOT).as_posix(), ())
    wrong = [one for one in report.findings if one.verdict.is_wrong and not any(q in one.claim.quote for q in quoted)]
    assert [(one.claim.line, one.claim.quote, one.computed, one.steps) for one in wrong] == []
    assert [one.to_json() for one in report.contradictions] == []


def test_enough_of_the_pages_is_checked_for_the_test_to_mean_something() -> None:
    report = check_sources([str(path) for path in PAGES])
    right = [one for one in report.findings if one.verdict.is_right]
    assert len(right) >= 15
