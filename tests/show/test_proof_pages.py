"""The report of a proof: the same numbers in both formats, a picture that shows the verdict, no markup of others."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from weighbridge.errors import SourceError, UnitError
from weighbridge.prove.comparison import Comparison, Pairs, Rule, compare, overall
from weighbridge.prove.metrics import METRICS, mean_of
from weighbridge.prove.proof import Proof, flips
from weighbridge.prove.scores import Flip
from weighbridge.show import forest_plot, proof_pages

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert(1)</script>|a\n# b \x1b[2J `c` [d](e) _f_ &lt; \ud800"
SHOWN = r"<script>alert(1)</script>|a\n# b \x1b[2J `c` [d](e) _f_ &lt; \ud800"
COMMAND = "weigh prove base candidate --on data.jsonl --margin 0.05"


def shares(lost: int, won: int, examples: int = 200) -> Pairs:
    """Right and wrong answers: the base has 150 of 200 right, or as large a share, some of which change."""
    right = round(0.75 * examples)
    base, candidate = np.zeros(examples), np.zeros(examples)
    base[:right] = candidate[:right] = candidate[right : right + won] = 1
    candidate[:lost] = 0
    one = np.ones(examples)
    return Pairs(METRICS["accuracy"], np.stack([base, one], 1), np.stack([candidate, one], 1), np.arange(examples))


def numbers(metric: str | bool, gain: float, examples: int = 200) -> Pairs:
    """A number of each example, of a known metric or of an own one, of which it is then said whether more is better."""
    generator = np.random.default_rng(7)
    base, one = (
        generator.normal(-3 if metric in ("perplexity", "bits_per_byte") else 5, 0.3, examples),
        np.ones(examples),
    )
    candidate = base + generator.normal(gain, 0.1, examples)
    found = METRICS[metric] if isinstance(metric, str) else mean_of("own", higher_is_better=metric)
    return Pairs(found, np.stack([base, one], 1), np.stack([candidate, one], 1), np.arange(examples))


def halves(examples: int = 200) -> dict[str, Any]:
    return {"kind=even": np.arange(examples) % 2 == 0, "kind=odd": np.arange(examples) % 2 == 1}


def proof(*metrics: Comparison, rule: Rule | None = None, **more: Any) -> Proof:
    verdict, reason = overall(metrics)
    return Proof("base", "candidate", metrics, verdict, reason, rule or Rule(margin=0.05), **more)


def both(found: Proof) -> tuple[str, str]:
    return proof_pages.html(found, COMMAND), proof_pages.markdown(found, COMMAND)


class Reader(HTMLParser):
    """The rows of tables, the texts of lists and code, the tags and the attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.open = ""
        self.feed(page)
        self.texts = [text.removesuffix("\n") for text in self.texts]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        self.open = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag in ("h1", "h2", "h3", "li", "code"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.open in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.texts and self.open in ("h1", "h2", "h3", "li", "code"):
            self.texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = ""


def read(page: str) -> Reader:
    """A page of either format; Markdown as CommonMark with tables has it."""
    return Reader(page if page.startswith("<!doctype") else MarkdownIt("commonmark").enable("table").render(page))


def full() -> Proof:
    """All that a proof can have."""
    rule = Rule(margin=0.05)
    right = shares(6, 4)
    flipped = tuple(Flip(f"line {n}", "p" * 400, "yes", "yes", "no", lost=n % 3 > 0) for n in range(60))
    models = [{"path": "base", "sha256": "ab" * 32, "engine": "transformers"},
              {"path": "candidate", "sha256": "not known: x", "engine": "llama.cpp"}]  # fmt: skip
    ladder = [{"candidate": "tiny", "bytes": 1_000_000, "verdict": "worse", "reason": "accuracy: lost"},
              {"candidate": "candidate", "bytes": None, "verdict": "equivalent", "reason": "within"},
              {"candidate": "large", "bytes": 3_000_000, "verdict": None, "reason": "not tried"}]  # fmt: skip
    settings = {"data": "data.jsonl", "probe": None, "data_sha256": "cd" * 32, "examples": 200, "shots": 3,
                "stop": ["\n"], "models": models, "ladder": ladder}  # fmt: skip
    return proof(compare(right, rule, halves()), compare(flips(right), rule),
                 compare(numbers("perplexity", 0.0), rule, halves()), rule=rule, settings=settings, flipped=flipped,
                 notes=("2 empty documents are left out",), seconds=(0.5, None))  # fmt: skip


def test_both_formats_have_the_same_content() -> None:
    html, markdown = (read(page) for page in both(full()))
    assert html.rows == markdown.rows and len(html.rows) > 60
    assert len(html.texts) > 10 and set(html.texts) <= set(markdown.texts)
    assert html.texts[0] == markdown.texts[0] == f"{full().verdict}: {full().reason}"


def test_it_says_what_was_compared_and_found() -> None:
    found = full()
    for page in both(found):
        told = read(page)
        rows = {row[0]: row[1:] for row in told.rows}
        assert rows["base"] == ["base (SHA-256 abababababab)"] and "candidate" in rows
        assert rows["data"] == ["data.jsonl (SHA-256 cdcdcdcdcdcd)"] and rows["stop"] == [r"\n"]
        assert (rows["engine"], rows["examples"]) == (["transformers and llama.cpp"], ["200"])
        assert (rows["seed"], rows["worked examples before each"]) == (["0"], ["3"])
        assert rows["what may be lost"] == ["a margin of 0.05 of each metric, in its own unit"]
        assert rows["seconds per example"] == ["base 0.5"] and rows["confidence"][0].startswith("95%")
        accuracy = found.metrics[0]
        cells = [f"{value + 0.0:.4g}" for value in (accuracy.delta.value, accuracy.delta.low, accuracy.delta.high)]
        assert rows["accuracy"] == [
            "0.75", "0.74", cells[0], f"{cells[1]} to {cells[2]}", "200", "200", accuracy.verdict, "0.754",
            f"{accuracy.needed:,}" if accuracy.needed else ""]  # fmt: skip
        assert rows["flips"][6] == "told only"
        assert rows["tiny"] == ["1,000,000", "WORSE", "accuracy: lost"] and rows["large"][1:] == ["", "not tried"]
        assert [row[0] for row in told.rows].count("kind=odd") == 2
        assert any("by slice, at 97.5% each so that 95% hold for all" in text for text in told.texts)
        assert "note: 2 empty documents are left out" in told.texts
        changed = [row for row in told.rows if row[0].startswith("line ")]
        assert len(changed) == 50 and changed[0][1:] == ["lost", "p" * 300 + "…", "yes", "yes", "no"]
        assert changed[-1][1] == "won" and COMMAND in told.texts
        assert any(": 60 (40 lost, 20 won), 50 of them shown" in text for text in told.texts)


def test_what_others_wrote_is_text() -> None:
    rule = Rule(margin=0.05)
    odd = compare(shares(6, 4), rule, {NASTY: halves()["kind=odd"]})
    found = Proof(
        NASTY, NASTY, (replace(odd, name=NASTY, reason=NASTY, warnings=(NASTY,)),), "worse", NASTY, rule, (NASTY,),
        {"data": NASTY, "template": NASTY, "stop": [NASTY], "labels": [NASTY],
         "ladder": [{"candidate": NASTY, "bytes": 1, "verdict": "worse", "reason": NASTY}]},
        (Flip(NASTY, NASTY, NASTY, NASTY, NASTY, lost=True),))  # fmt: skip
    wanted = {"html", "head", "meta", "title", "body", "div", "style", "svg", "g", "rect", "line", "text", "circle",
              "polygon", "h1", "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre",
              "code"}  # fmt: skip
    for page in (proof_pages.html(found, NASTY), proof_pages.markdown(found, NASTY)):
        assert all(letter.isprintable() or letter == "\n" for letter in page)
        page.encode()
        told = read(page)
        assert told.tags <= wanted
        for name in ("base", "candidate", "data", "template", "stop", "labels"):
            assert [name, SHOWN] in told.rows
        assert [row for row in told.rows if len(row) == 6 and row[1] == "lost"] == [[SHOWN, "lost", *[SHOWN] * 4]]
        assert told.texts[0] == f"WORSE: {SHOWN}" and f"note: {SHOWN}" in told.texts
        assert SHOWN.replace(r"\n", "\n") in told.texts  # a command may have lines
    ET.fromstring(re.findall(r"<svg.*?</svg>", proof_pages.html(found, COMMAND), re.DOTALL)[0])


def test_backticks_do_not_end_a_block_of_code() -> None:
    command = "weigh prove --template '\n```\n# out\n````'"
    assert command in read(proof_pages.markdown(full(), command)).texts


def test_the_page_needs_nothing_from_outside() -> None:
    page = proof_pages.html(full(), COMMAND)
    told = read(page)
    assert not told.tags & {"script", "link", "img", "iframe", "object", "a", "image", "use"}
    assert not {key for key, _ in told.attributes} & {"src", "href", "xlink:href", "onclick", "onload"}
    assert "@import" not in page and "url(" not in page
    assert page.replace('xmlns="http://www.w3.org/2000/svg"', "").count("http") == 0
    assert page.count("prefers-color-scheme:dark") >= 2


RULES = (Rule(), Rule(margin=0.05), Rule(margin=0.5), Rule(margin=0.05, sequential=True), Rule(keep=0.98),
         Rule(keep=0.8))  # fmt: skip
CASES = [shares(6, 4), shares(40, 0), shares(0, 40), shares(0, 0), shares(2, 2, 12), numbers("perplexity", 0.0),
         numbers("perplexity", 0.1), numbers("perplexity", -0.1), numbers("bits_per_byte", 0.5), numbers(True, 0.2),
         numbers(False, 0.2), numbers(False, -0.2), numbers("perplexity", 0.0, 12)]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_place_of_an_interval_shows_its_verdict(rule: Rule) -> None:
    seen = set()
    for pairs in CASES:
        one = compare(pairs, rule, halves(len(pairs.base)))
        drawn = forest_plot.group(one, rule)
        assert drawn.bound <= drawn.neutral
        for row in drawn.rows:
            seen.add(row.verdict)
            assert 0 <= row.low <= row.high <= 1
            if one.name == "own" and one.verdict not in ("better", "worse"):
                continue  # which way an own metric is good is then not known
            if row.verdict == "better":
                assert row.low >= drawn.neutral
            elif row.verdict == "worse":
                assert row.high <= drawn.bound
            elif row.verdict == "equivalent":
                assert row.low >= drawn.bound - 1e-9 and not row.goes_on[0]
            elif not row.goes_on[0]:
                assert row.low <= drawn.bound
    assert len(seen) >= 3


def test_places_are_those_of_the_numbers() -> None:
    """The distance from no difference to the margin is 0.05, and from there all others follow; mirrored for less."""
    for pairs, side in ((shares(12, 4), 1), (numbers("perplexity", -0.01), -1)):
        rule = Rule(margin=0.05)
        one = compare(pairs, rule)
        drawn = forest_plot.group(one, rule)
        unit, row = (drawn.neutral - drawn.bound) / 0.05, drawn.rows[0]
        ends = sorted((side * one.delta.low, side * one.delta.high))
        assert row.value is not None
        found = [(place - drawn.neutral) / unit for place in (row.low, row.value, row.high)]
        assert found == pytest.approx([ends[0], side * one.delta.value, ends[1]], abs=1e-9)
        assert ("mirrored: less is better" in drawn.scale) == (side < 0)
    keep = forest_plot.group(compare(numbers("perplexity", 0.0), Rule(keep=0.8)), Rule(keep=0.8))
    assert (keep.neutral_words, keep.bound_words) == ("1", "keep 0.8 (up to 1.25)") and keep.scale.startswith("ratio")


def test_losses_of_metrics_from_logs_are_to_the_left() -> None:
    rule = Rule(margin=0.5)
    one = compare(numbers("perplexity", 0.0), rule)
    assert "less is better" in forest_plot.group(replace(one, name="wikitext: perplexity,none"), rule).scale
    assert "less" not in forest_plot.group(replace(one, higher_is_better=True), rule).scale


def test_bounds_that_are_none_are_said() -> None:
    rule = Rule(margin=0.05, sequential=True)
    few, never = compare(shares(1, 1, 12), rule), numbers("perplexity", 0.0, 40)
    never.candidate[0, 0] = -math.inf
    found = proof(few, compare(never, rule), rule=rule)
    html, markdown = both(found)
    for page in (html, markdown):
        rows = {row[0]: row[1:] for row in read(page).rows}
        assert rows["accuracy"][3] == "unbounded" and rows["perplexity"][1:4] == ["unbounded"] * 3
        assert "nan" not in page and not re.search(r"\binf\b", page)
        assert rows["sequential"][0].startswith("yes")
    assert html.count("<polygon") == 4
    assert len(re.findall(r"^\w+ +<-+:-[-o]+!?-*>|^\w+ +<-+:-+o->", markdown, re.MULTILINE)) == 2


def test_slices_far_beyond_their_metric_go_off_its_scale() -> None:
    pairs = numbers(True, 0.0)
    pairs.candidate[0, 0] -= 30
    chosen = np.arange(200) < 2
    drawn = forest_plot.group(compare(pairs, Rule(margin=0.1), {"few": chosen, "others": ~chosen}), Rule(margin=0.1))
    whole, few, others = drawn.rows
    assert few.goes_on == (True, True) and whole.high - whole.low > 0.1 and not any(others.goes_on)


def test_no_metric_decides() -> None:
    for page in both(proof(compare(flips(shares(6, 4)), Rule()), rule=Rule())):
        assert "no metric decides" in page and "told only" in page
        assert {row[0]: row[1:] for row in read(page).rows}["what may be lost"] == ["nothing"]
    for page in both(proof(rule=Rule())):
        assert read(page).texts[0].startswith("undecided: no metric decides")


def test_ratios_stand_where_they_decide() -> None:
    rule = Rule(keep=0.9)
    one = compare(shares(6, 4), rule)
    for page in both(proof(one, rule=rule)):
        head = next(row for row in read(page).rows if row[0] == "metric")
        assert head[5:7] == ["ratio", "interval of the ratio"]
        assert f"{one.ratio.low:.4g} to {one.ratio.high:.4g}" in page
    assert "ratio" not in {cell for row in read(both(full())[0]).rows for cell in row}


def test_warnings_are_told_once_with_their_slices() -> None:
    rule = Rule(margin=0.05)
    pairs = shares(6, 4)
    chosen = np.arange(200) < 20
    metrics = compare(pairs, rule, {"few": chosen, "others": ~chosen}), compare(flips(pairs), rule, {"few": chosen})
    for page in both(proof(*metrics, rule=rule)):
        warned = [text for text in read(page).texts if "only 20 examples" in text]
        assert len(warned) == 1 and warned[0].startswith("note: few: only 20 examples")


def test_words_of_the_picture_do_not_lie_on_each_other() -> None:
    """Lines of text with the width that letters of their size take at least."""
    wide = {f"{'s' * 60}={n}": chosen for n, chosen in enumerate(halves().values())}
    for rule in RULES:
        metrics = [compare(pairs, rule, wide if len(pairs.base) == 200 else None) for pairs in CASES]
        root = ET.fromstring(forest_plot.svg([forest_plot.group(one, rule) for one in metrics], "Intervals"))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        boxes = []
        for element in root.iter(f"{SVG}text"):
            letters = 6.2 * len(element.text or "") * float(element.attrib["font-size"]) / 13
            left = float(element.attrib["x"])
            left -= {"start": 0.0, "end": letters}[element.attrib.get("text-anchor", "start")]
            boxes.append((left, left + letters, float(element.attrib["y"]), element.text))
            assert left >= 0 and left + letters <= width and 0 < boxes[-1][2] < height
        for place, (left, right, y, words) in enumerate(boxes):
            for start, end, other, more in boxes[place + 1 :]:
                assert abs(y - other) >= 11 or left >= end or start >= right, (words, more)
        told = [title.text or "" for title in root.iter(f"{SVG}title")]
        for one in metrics:
            assert any(text.startswith(f"{one.name}: ") and text.lower().endswith(one.verdict) for text in told)


def test_text_lines_are_of_one_shape() -> None:
    rule = Rule(margin=0.05)
    groups = [forest_plot.group(compare(pairs, rule, halves(len(pairs.base))), rule) for pairs in CASES]
    lines = list(forest_plot.lines(groups))
    assert len(lines) == 4 * len(CASES)
    label = max(len(row.label) for one in groups for row in one.rows) + 2
    for place, line in enumerate(lines):
        strip = line[label : label + 41]
        assert set(strip) <= set(" -|o<>!:") and line[label + 41 : label + 43] == "  "
        assert ("o" in strip or "<" in strip or ">" in strip) == (place % 4 < 3)


@pytest.mark.parametrize("name", ["a.md", "a.markdown", "a.html", "A.HTM"])
def test_it_is_written_by_its_ending(tmp_path: Path, name: str) -> None:
    proof_pages.write(str(tmp_path / name), full(), COMMAND)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text == both(full())[0 if "HTM" in name.upper() else 1]


@pytest.mark.parametrize("name", ["a.pdf", "a", "html", "a.md.txt"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnitError, match=r"expected \.md, \.markdown, \.html, \.htm") as caught:
        proof_pages.write(str(tmp_path / name), full(), COMMAND)
    assert caught.value.read and caught.value.action and not list(tmp_path.iterdir())
    with pytest.raises(SourceError):
        proof_pages.write(str(tmp_path / "none" / "a.md"), full(), COMMAND)
