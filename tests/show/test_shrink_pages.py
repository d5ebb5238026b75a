"""The report of a smaller model: the same numbers in both formats and in the pictures, no markup of others."""

from __future__ import annotations

import math
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.show.test_proof_pages import COMMAND, NASTY, SHOWN, Reader, full, numbers, proof, read

from weighbridge.cli import main
from weighbridge.compress.plan import Plan
from weighbridge.compress.schemes import find as find_scheme
from weighbridge.compress.sensitivity import Sensitivity
from weighbridge.compress.shrink import Shrunk, Step
from weighbridge.errors import SourceError, UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.model.encodings import find
from weighbridge.model.tensors import TensorSpec
from weighbridge.prove.comparison import Rule, compare
from weighbridge.show import chart, cost_chart, growth_interval, shrink_pages, size_bars

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
TAKEN = ("q4_k", "q3_k", "q6_k", "iq3_xxs", "q4_k", "q5_k", "iq2_s")


def specs(layers: int, names: tuple[str, ...] = NAMES) -> list[TensorSpec]:
    """The tensors of a decoder in bf16, with a vector in each layer."""
    bf16, fp32 = find("bf16"), find("fp32")
    found = [TensorSpec("token_embd.weight", (512, 256), bf16), TensorSpec("output_norm.weight", (256,), fp32)]
    for layer in range(layers):
        found += [TensorSpec(f"blk.{layer}.{name}.weight", (256, 256), bf16) for name in names]
        found.append(TensorSpec(f"blk.{layer}.attn_norm.weight", (256,), fp32))
    return found


def shrunk(tensors: list[TensorSpec], losses: Mapping[str, float] | None = None, **changes: Any) -> Shrunk:
    """A result with an error of 0.1 in each matrix; costs grow with the layer where none are given."""
    chosen: dict[str, Any] = {}
    for place, one in enumerate(tensors):
        is_matrix = len(one.shape) > 1
        chosen[one.name] = find(TAKEN[place % len(TAKEN)]) if is_matrix else one.encoding
    if losses is None:
        losses = {one.name: (1.0 + place) * (len(one.shape) > 1) for place, one in enumerate(tensors)}
    errors = {one.name: 0.01 if len(one.shape) > 1 else 0.0 for one in tensors}
    size = sum(chosen[one.name].size_bytes(one.shape) for one in tensors) + 1000
    found = Shrunk(
        "base", "small.gguf", "gguf", sum(one.size_bytes for one in tensors) + 2000, 4.321, tuple(tensors),
        Plan(chosen, size, size + 10, errors, losses), errors, Sensitivity({}, unit="nats"),
        {tensors[0].name: ("q4_k", "q6_k")}, Estimate(0.05, 0.01, 900.0, "", Basis.MODELLED, "tokens unknown"), 12.3,
        full(), (Step(900, "shares by role", "worse", "perplexity: lost"), Step(size, "texts", divergence=0.04)),
        ("the source is already quantized",))  # fmt: skip
    return replace(found, **changes)


def both(found: Shrunk) -> tuple[str, str]:
    return shrink_pages.html(found, COMMAND), shrink_pages.markdown(found, COMMAND)


def pictures(page: str) -> list[ET.Element]:
    return [ET.fromstring(one) for one in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def titles(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}title")]


def test_both_formats_have_the_same_content() -> None:
    html, markdown = (read(page) for page in both(shrunk(specs(4))))
    assert html.rows == markdown.rows and len(html.rows) > 100
    assert len(html.texts) > 10 and set(html.texts) <= set(markdown.texts)
    assert "<svg" not in both(shrunk(specs(4)))[1]


def test_it_says_what_was_made_and_found() -> None:
    tensors = specs(3)
    found = shrunk(tensors)
    size, before = found.plan.size_bytes, found.input_bytes
    perplexity = next(one for one in full().metrics if one.name == "perplexity")
    for page in both(found):
        told = read(page)
        rows = {row[0]: row[1:] for row in told.rows}
        assert told.texts[0].startswith(f"{full().verdict}: ") and f"{size / before:.1%}" in told.texts[0]
        assert rows["bytes before"] == [f"{before:,}"] and rows["bytes after"] == [f"{size:,} ({size / before:.1%})"]
        assert rows["bits a weight"] == ["4.321"] and rows["result"] == ["small.gguf"]
        assert rows["expected before, 90%"] == ["+5.1%", "+1.0%", "no known bound"]
        assert rows["measured, 95%"] == [f"{one - 1:+.1%}" for one in (
            perplexity.ratio.value, perplexity.ratio.low, perplexity.ratio.high)]  # fmt: skip
        assert sum(int(row[2].replace(",", "")) for row in told.rows if len(row) == 5 and row[3][-1:] == "%") == size
        assert rows["no tensor"][:2] == ["0", "1,000"]
        last = tensors[-2]
        assert rows[last.name][0] == "256 x 256" and rows[last.name][4] == "0.1" and rows[last.name][1] == "bf16"
        listed = [row for row in told.rows if len(row) == 7 and row[2] in ("bf16", "fp32")]
        assert len(listed) == len(tensors) and listed[0][0] == last.name
        assert sum(float(row[6][:-1]) for row in listed) == pytest.approx(100, abs=0.3)
        assert rows["900"] == ["shares by role", "WORSE", "perplexity: lost", ""]
        assert any(
            "the rows of 1 tensors are no whole number of blocks of q4_k, q6_k: they became" in one
            for one in told.texts
        )
        assert "the source is already quantized" in told.texts and COMMAND in told.texts
        assert any("by slice" in text for text in told.texts) and rows["flips"][6] == "told only"
        assert any(text.startswith("costs of errors: ") and "nats expected" in text for text in told.texts)


@pytest.mark.parametrize("place", [None, "small.gguf"])
def test_the_heading_says_what_was_left(place: str | None) -> None:
    left = "" if place else ", nothing left"
    for page in both(shrunk(specs(1), path=place)):
        assert read(page).texts[0].startswith(f"{full().verdict}{left}: ")
    for page in both(shrunk(specs(1), path=place, proof=None, steps=())):
        assert read(page).texts[0].startswith("written, not proved: " if place else "a plan, nothing written: ")


def test_what_others_wrote_is_text() -> None:
    odd = TensorSpec(f"blk.0.{NASTY}.weight", (256, 256), find("bf16"))
    outside = TensorSpec(NASTY, (256, 256), find("bf16"))
    found = shrunk([odd, outside, *specs(1)], source=NASTY, path=NASTY, notes=(NASTY,),
                   costs=Sensitivity({}, basis=NASTY), steps=(Step(1, NASTY, "worse", NASTY),),
                   proof=replace(full(), reason=NASTY))  # fmt: skip
    wanted = {"html", "head", "meta", "title", "body", "div", "style", "svg", "g", "rect", "line", "text", "circle",
              "polygon", "h1", "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code",
              "details", "summary"}  # fmt: skip
    for page in (shrink_pages.html(found, NASTY), shrink_pages.markdown(found, NASTY)):
        assert all(letter.isprintable() or letter == "\n" for letter in page)
        page.encode()
        told = read(page)
        assert told.tags <= wanted
        assert ["source", SHOWN] in told.rows and ["result", SHOWN] in told.rows
        assert [row for row in told.rows if row[0] == SHOWN and len(row) == 7] and SHOWN in told.texts
        assert f"costs of errors: {SHOWN}" in told.texts
    assert len(pictures(shrink_pages.html(found, COMMAND))) == 4


def test_the_page_needs_nothing_from_outside_and_knows_the_dark() -> None:
    page = both(shrunk(specs(4)))[0]
    told = Reader(page)
    assert not told.tags & {"script", "link", "img", "iframe", "object", "a", "image", "use"}
    assert not {key for key, _ in told.attributes} & {"src", "href", "xlink:href", "onclick", "onload"}
    assert "@import" not in page and "url(" not in page
    assert page.replace('xmlns="http://www.w3.org/2000/svg"', "").count("http") == 0
    assert page.count("prefers-color-scheme:dark") >= 6
    assert page.index("<details>") < page.index(f"All {len(specs(4))} tensors") < page.index("</details>")


@pytest.mark.parametrize("layers", [1, 4, 80])
def test_each_cell_has_the_shade_of_its_cost(layers: int) -> None:
    tensors = specs(layers)
    found = shrunk(tensors)
    root = ET.fromstring(cost_chart.svg(found, "Costs"))
    whole = found.plan.loss
    most = max(loss for name, loss in found.plan.losses.items() if name.startswith("blk."))
    seen = {}
    for group in root.iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and box is not None and "fill-opacity" in box.attrib:
            name, _, rest = (title.text or "").partition(": ")
            share = found.plan.losses[name] / whole
            assert rest == f"{found.plan.encodings[name].name}, relative error 0.1, {share:.2%} of all costs"
            assert float(box.attrib["fill-opacity"]) == pytest.approx(
                cost_chart.SHADE * found.plan.losses[name] / most, abs=6e-4)  # fmt: skip
            labels = [one.text for one in group.iter(f"{SVG}text")]
            assert labels == [found.plan.encodings[name].name]
            seen[name] = float(box.attrib["y"]), float(box.attrib["x"])
    assert seen.keys() == {one.name for one in tensors if one.name.startswith("blk.") and len(one.shape) > 1}
    for name, (y, x) in seen.items():
        layer = int(name.split(".")[1])
        assert all(y > seen[other][0] for other in seen if int(other.split(".")[1]) < layer)
        assert x == seen[f"blk.0.{name.split('.')[2]}.weight"][1]
    bars = [title for title in titles(root) if title.startswith("token_embd") or "tensors, " in title]
    assert len(bars) == 2


def test_experts_of_one_place_are_one_cell() -> None:
    experts = tuple(f"experts.{number}.w1" for number in range(3))
    found = shrunk(specs(2, experts))
    root = ET.fromstring(cost_chart.svg(found, "Costs"))
    first = next(title for title in titles(root) if title.startswith("3 tensors, blk.0.experts.0"))
    mine = [found.plan.losses[f"blk.0.{name}.weight"] for name in experts]
    assert first.endswith(f"{sum(mine) / found.plan.loss:.2%} of all costs") and "at most 0.1" in first
    assert "experts.*.w1" in titles(root)


def test_names_without_layers_are_bars() -> None:
    many = [TensorSpec(f"part{number}.weight", (256, 256), find("bf16")) for number in range(60)]
    root = ET.fromstring(cost_chart.svg(shrunk(many), "Costs"))
    assert len(titles(root)) == cost_chart.BARS + 1 and titles(root)[0].startswith("part59.weight: ")
    assert any((one.text or "").startswith(f"and {60 - cost_chart.BARS} others, ") for one in root.iter(f"{SVG}text"))
    wide = [TensorSpec(f"blk.0.part{'ab'[n % 2] * n}.weight", (256, 256), find("bf16")) for n in range(1, 40)]
    assert len(titles(ET.fromstring(cost_chart.svg(shrunk(wide), "Costs")))) == cost_chart.BARS + 1


def test_what_is_not_known_is_not_drawn() -> None:
    """A method that was named and not written has no errors; models of other kinds have no perplexity."""
    tensors = specs(2)
    unknown = Estimate(None, None, None, "", Basis.MODELLED, "no published losses of such models")
    found = shrunk(tensors, {}, errors={}, proof=None, steps=(), path=None, expected=unknown)
    html, markdown = both(found)
    assert (
        len(pictures(html)) == 2 and "What errors cost is not known here" in html and "of all costs</text>" not in html
    )
    for page in (html, markdown):
        told = read(page)
        assert "no published losses of such models" in told.texts and "nan" not in page
        assert next(row for row in told.rows if row[0] == tensors[0].name)[4:] == [
            "69,632" * 0 + row_bytes(found),
            "",
            "",
        ]
    empty = shrunk([TensorSpec("norm.weight", (256,), find("fp32"))])
    assert "there is no matrix" in both(empty)[0]


def row_bytes(found: Shrunk) -> str:
    first = found.tensors[0]
    return f"{found.plan.encodings[first.name].size_bytes(first.shape):,}"


def test_schemes_of_safetensors_have_sizes_too() -> None:
    tensors = [TensorSpec("model.layers.0.self_attn.q_proj.weight", (256, 256), find("bf16"), "attention_q")]
    scheme = find_scheme("int4-g128")
    size = scheme.size_bytes((256, 256))
    found = shrunk(tensors, format="safetensors", plan=Plan({tensors[0].name: scheme}, size, 0, {}, {}))
    assert size_bars.rows(found) == [("int4-g128", "1", f"{size:,}", "100.0%", "0.1")]
    assert "int4-g128" in both(found)[0] and "budget in bytes" not in both(found)[1]


def test_bars_are_as_long_as_their_bytes() -> None:
    found = shrunk(specs(4))
    root = ET.fromstring(size_bars.svg(found, "Bytes"))
    widths = {}
    for group in root.iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None and box is not None
        widths[(title.text or "").split(":")[0]] = float(box.attrib["width"])
    scale = widths["before"] / found.input_bytes
    assert widths["after"] == pytest.approx(scale * found.plan.size_bytes, abs=0.1)
    for one in size_bars.held(found):
        assert widths[one.encoding] == pytest.approx(scale * one.size_bytes, abs=0.1)
    assert sum(widths.values()) == pytest.approx(widths["before"] + 2 * widths["after"], abs=1)


def test_places_of_growths_are_those_of_the_numbers() -> None:
    found = shrunk(specs(1), expected=Estimate(0.1, 0.02, 0.2, "", Basis.MODELLED))
    known = growth_interval.growths(found)
    root = ET.fromstring(growth_interval.svg(known, "Growth"))
    ticks = {one.text: float(one.attrib["x"]) for one in root.iter(f"{SVG}text") if "middle" in one.attrib.values()}
    (one, first), (other, second) = [(words or "", x) for words, x in ticks.items() if words != "0"][:2]
    unit = (second - first) / (float(other[:-1]) - float(one[:-1]))
    circles = [float(circle.attrib["cx"]) for circle in root.iter(f"{SVG}circle")]
    assert circles == pytest.approx([ticks["0"] + 100 * unit * each.value for each in known], abs=0.2)
    assert known[0].value == pytest.approx(math.expm1(0.1)) and not list(root.iter(f"{SVG}polygon"))


def test_bounds_that_are_absurd_are_arrows() -> None:
    found = shrunk(specs(1), expected=Estimate(800.0, 0.1, 9000.0, "", Basis.MODELLED))
    expected = growth_interval.growths(found)[0]
    assert expected.words == ("no known bound", "+10.5%", "no known bound")
    root = ET.fromstring(growth_interval.svg([expected], "Growth"))
    assert len(list(root.iter(f"{SVG}polygon"))) == 1
    for page in both(found):
        assert "perplexity no known bound (+10.5% to no known bound)" in page
    alone = growth_interval.Growth("expected before, 90%", "orange", 0.006, 0.001, 0.132)
    assert "<polygon" not in growth_interval.svg([alone], "Growth")  # far from its value, and no absurd bound
    never = numbers("perplexity", 0.0, 40)
    never.candidate[0, 0] = -math.inf
    rule = Rule(keep=0.9)
    page = both(shrunk(specs(1), proof=proof(compare(never, rule), rule=rule)))[0]
    assert "nan" not in page and not re.search(r"\binf\b", page)


def test_words_of_the_pictures_do_not_lie_on_each_other() -> None:
    long = "a.very.long.name.of.a.tensor.in.a.model.that.nobody.knows.weight"
    wide = tuple(f"module_{'abcdefghijklmno'[n]}_projection" for n in range(15))
    cases = [specs(4), specs(80), specs(2, wide), [*specs(3), TensorSpec(long, (64, 256), find("bf16"))],
             [replace(one, name=f"model.language.{one.name}") for one in specs(3)]]  # fmt: skip
    cases.append([*cases[0], *cases[-1]])
    for tensors in cases:
        for root in pictures(both(shrunk(tensors))[0]):
            _, _, width, height = map(float, root.attrib["viewBox"].split())
            boxes: list[tuple[float, float, float, str]] = []
            for element in root.iter(f"{SVG}text"):
                words = element.text or ""
                letters = 6.2 * len(words) * float(element.attrib["font-size"]) / 13
                left = float(element.attrib["x"])
                left -= {"start": 0.0, "middle": letters / 2, "end": letters}[
                    element.attrib.get("text-anchor", "start")
                ]
                boxes.append((left, left + letters, float(element.attrib["y"]), words))
                assert left >= -0.5 and left + letters <= width + 0.5 and 0 < boxes[-1][2] < height, words
            for place, (left, right, y, words) in enumerate(boxes):
                for start, end, other, more in boxes[place + 1 :]:
                    assert abs(y - other) >= 11 or left >= end or start >= right, (words, more)


def test_shades_leave_words_legible() -> None:
    """The darkest cell against its words, by the contrast of WCAG 2."""

    def light(colour: list[float]) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    def parts(colour: str) -> list[float]:
        return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]

    for ground, ink, hue in zip(
        ("#ffffff", "#16181c"), ("#1a1a1a", "#f2f2f2"), chart.HUES[cost_chart.HUE], strict=True
    ):
        shade = [cost_chart.SHADE * over + (1 - cost_chart.SHADE) * under
                 for over, under in zip(parts(hue), parts(ground), strict=True)]  # fmt: skip
        dark, bright = sorted((light(shade), light(parts(ink))))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("name", ["a.md", "a.markdown", "a.html", "A.HTM"])
def test_it_is_written_by_its_ending(tmp_path: Path, name: str) -> None:
    found = shrunk(specs(1))
    shrink_pages.write(str(tmp_path / name), found, COMMAND)
    assert (tmp_path / name).read_text(encoding="utf-8") == both(found)[0 if "HTM" in name.upper() else 1]


def test_the_command_writes_it_and_says_what_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    from tests.compress.test_shrink import model

    source = model(tmp_path / "a model.gguf")
    html, markdown = (str(tmp_path / name) for name in ("a.html", "a.md"))
    words = [
        "shrink",
        str(source),
        "-o",
        str(tmp_path / "b.gguf"),
        "--to",
        "60000",
        "--report",
        html,
        "--report",
        markdown,
    ]
    monkeypatch.setattr("sys.argv", ["weigh", *words])
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    size = (tmp_path / "b.gguf").stat().st_size
    for name in (html, markdown):
        told = read(Path(name).read_text(encoding="utf-8"))
        rows = {row[0]: row[1:] for row in told.rows}
        assert told.texts[0].startswith("written, not proved: ") and rows["bytes after"][0].startswith(f"{size:,} ")
        assert rows["blk.0.up.weight"][:2] == ["64 x 256", "fp16"] and shlex.join(["weigh", *words]) in told.texts
        held = {row[0]: int(row[2].replace(",", "")) for row in told.rows if len(row) == 5 and row[3][-1:] == "%"}
        assert sum(held.values()) == size and held["no tensor"] < 1500


def test_another_ending_is_refused_before_the_work(tmp_path: Path) -> None:
    for name, error in (("a.pdf", UnitError), ("none/a.md", SourceError)):
        with pytest.raises(error):
            shrink_pages.write(str(tmp_path / name), shrunk(specs(1)), COMMAND)
        words = ["shrink", str(tmp_path / "no-model"), "--plan-only", "--bits", "4", "--report", str(tmp_path / name)]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2 and "report" in done.stderr and not list(tmp_path.iterdir())
