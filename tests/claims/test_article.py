"""Does an article come out as its reader sees it, from any bytes, in time that grows with its length?"""

from __future__ import annotations

import contextlib
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge.claims.article import Article, Passage, read_article, text_of
from weighbridge.errors import SourceError

ARTICLES = Path(__file__).parent / "articles"
FORMATS = ("a.md", "a.html", "a.txt")
AS_SHORT = 2.2
"""How many times longer four times the text may take, a fourth of it: noise aside, 1 is linear and 4 is quadratic."""


def texts(source: str | bytes, name: str = "a.md") -> list[str]:
    return [one.text for one in article(source, name).passages]


def article(source: str | bytes, name: str = "a.md") -> Article:
    return read_article(source if isinstance(source, bytes) else source.encode(), name)


def rows(source: str, name: str = "a.md") -> list[str]:
    return [one.text for one in article(source, name).passages if one.kind == "row"]


# Bytes


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("Für 30 €.".encode(), "utf-8"),
        ("Für 30 €.".encode("utf-8-sig"), "utf-8"),
        ("Für 30 €.".encode("utf-16"), "utf-16"),
        (b"\xfe\xff" + "Für 30 €.".encode("utf-16-be"), "utf-16"),
        ("Für 30 €.".encode("utf-32"), "utf-32"),
        ("Für 30 €.".encode("windows-1252"), "windows-1252"),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_an_encoding_is_told_from_the_bytes(data: bytes, encoding: str, name: str) -> None:
    found = read_article(data, name)
    assert (found.encoding, [one.text for one in found.passages]) == (encoding, ["Für 30 €."])


def test_bytes_that_windows_lacks_are_latin_1() -> None:
    assert text_of(b"\x81 caf\xe9", "a.txt") == ("\x81 café", "latin-1")


def test_a_few_bad_bytes_among_utf_8_are_replaced() -> None:
    assert text_of("ä ö ü € ".encode() + b"\xff", "a.txt") == ("ä ö ü € �", "utf-8")
    assert text_of("ä ö ü € 30".encode()[:-4], "a.txt")[1] == "utf-8"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="koi8-r">', "koi8-r"),
        ("<META http-equiv=Content-Type content='text/html; charset=KOI8-R'>", "koi8-r"),
        ('<?xml version="1.0" encoding="koi8-r"?>', "koi8-r"),
        ("<meta charset=koi8-r>", "koi8-r"),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_declares(head: str, encoding: str) -> None:
    found = read_article(f"{head}<p>Модель весит 14 ГБ.".encode(encoding), "a.html")
    assert (found.encoding, found.passages[-1].text) == (encoding, "Модель весит 14 ГБ.")


@pytest.mark.parametrize("declared", ["iso-8859-1", "rot13", "punycode", "hex", "utf-16", "no-such", "\xe9"])
def test_what_declares_no_encoding_of_texts_is_no_error(declared: str) -> None:
    found = read_article(f"<meta charset='{declared}'><p>30 €.".encode("windows-1252"), "a.html")
    assert (found.encoding, found.passages[-1].text) == ("windows-1252", "30 €.")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a.md is empty"),
        (b" \r\n\t", "a.md is empty"),
        (b"\xef\xbb\xbf", "a.md is empty"),
        (b"%PDF-1.7\n%\xe2\xe3", "a.md is a PDF"),
        (b"PK\x03\x04\x14\x00", "a.md is a zip archive or an office document"),
        (b"\x89PNG\r\n\x1a\n", "a.md is an image"),
        (b"\xff\xd8\xff\xe0", "a.md is an image"),
        (b"\x1f\x8b\x08", "a.md is compressed"),
        (b"{\\rtf1 text}", "a.md is rich text"),
        ("14 GB".encode("utf-16-le"), "a.md is binary"),
        (b"GGUF\x03\x00\x00\x00", "a.md is binary"),
        (bytes(range(1, 32)) * 9, "a.md is binary"),
        (b"\xff\xfe1", "a.md is marked as utf-16 and is not"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=f"^{said}.*expected an article in Markdown, HTML or plain text; "):
        read_article(data, "a.md")


def test_lines_end_as_on_any_system() -> None:
    for end in ("\n", "\r\n", "\r"):
        found = article(f"# A{end}{end}One.{end}Two.")
        assert [(one.text, one.line) for one in found.passages] == [("A", 1), ("One.", 3), ("Two.", 4)]


# Sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["Phi-2 has 2.7B parameters.", "Llama 3.1 8B has 8.03B."],
        ["It runs e.g. on a phone, i.e. in 4 GB.", "That is approx. 5 GB vs. 14 GB."],
        ["See Fig. 3 and No. 7 of Hoffmann et al. (2022), Sec. 3.", "The rest follows."],
        ["Scaling laws are by J. Kaplan and T. B. Brown.", "They hold."],
        ["The price is $1.50/h.", "Then $36 a day."],
        ["Read https://arxiv.org/abs/2203.15556v1 and example.com/a.b?c=1.", "Go."],
        ["Is it free?", "No.", "It costs $5!", "Why?"],
        ["He said “it fits.”", "(It does not.)", "So."],
        ["It runs on vLLM.", "vLLM batches.", "gpt-oss-120b needs 80 GB.", "llama.cpp does not."],
        ["A U.S. order names 10^26 FLOPs.", "The E.U. rule names 10^25."],
        ["It draws 700 W.", "Eight draw 5.6 kW."],
        ["It takes 5 min.", "The next takes 700 ms.", "This takes 0.7 s.", "After that... Nothing."],
        ["Use version 2.", "Use Qwen 2.5 or 3.", "8 GB are enough."],
        ["Meta Inc. has it, etc. and so on.", "Done."],
        ["It takes max. 8 GB, or min. GPU memory."],
        ["Wait … there is more.", "End."],
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_sentence_ends_where_its_author_ended_it(sentences: list[str], name: str) -> None:
    expected = [part for one in sentences for part in one.replace("... Nothing", "...|Nothing").split("|")]
    assert texts(" ".join(sentences), name) == expected


def test_a_sentence_has_the_line_that_it_begins_at() -> None:
    said = "One is\nlong. Two\n<b\nclass=a>three</b>.\nFour <!-- a\nb --> five. Six."
    for name in ("a.md", "a.html"):
        assert [(one.text, one.line) for one in article(said, name).passages] == [
            ("One is long.", 1), ("Two three.", 2), ("Four five.", 5), ("Six.", 6),
        ]  # fmt: skip


# Signs


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2.1 × 10²⁵ FLOPs", "2.1 × 10^25 FLOPs"),
        ("2.1·10⁻³ s", "2.1 × 10^-3 s"),
        ("It took 50–80 days and $63–$78 million", "It took 50-80 days and $63-$78 million"),
        ("7B – 13B", "7B-13B"),
        ("7 – 13 GB – as said – more", "7-13 GB – as said – more"),
        ("14\u00a0GB\u2009of\u202fit", "14 GB of it"),
        ("16\u202f384\u202f000 weights", "16,384,000 weights"),
        ("para\u00adme\u00adters", "parameters"),
        ("−5 and GPT‑4", "-5 and GPT-4"),
        ("CO₂ of n² and 70B¹", "CO2 of n^2 and 70B"),
        ("It has 70B.[3] Next[1, 2].", "It has 70B. Next."),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_signs_are_written_one_way(written: str, said: str, name: str) -> None:
    assert " ".join(texts(written, name)) == said


@pytest.mark.parametrize("name", ["a.md", "a.html"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("10<sup>25</sup> FLOPs", "10^25 FLOPs"),
        ("10<sup>−3</sup>", "10^-3"),
        ("the 1<sup>st</sup> of 2<sup>n</sup>", "the 1st of 2^n"),
        ('70B.<sup><a href="#1">1</a></sup> Next<sup>[2]</sup>', "70B. Next"),
        ("CO<sub>2</sub>", "CO2"),
        ("14&nbsp;GB &lt; 16&#8239;GB &amp; more", "14 GB < 16 GB & more"),
        ("<del>70B</del> <s>65B</s> 13B", "13B"),
        (r"\(2.1 \times 10^{25}\) and $$10{,}000$$", "2.1 × 10^25 and 10,000"),
        (r"$\frac{6ND}{C}$ of $10\,000$ at $5 or $6_x$", "6ND/C of 10,000 at $5 or 6_x"),
        ("between $5 and $80", "between $5 and $80"),
        ("a <b title='x > y' data-y=\"<p>\">bold</b> word", "a bold word"),
        ("&#" + "9" * 5000 + "; x", "� x"),
    ],
)
def test_markup_of_pages_is_read(written: str, said: str, name: str) -> None:
    assert " ".join(texts(written, name)) == said


def test_formulas_of_pages_are_said_as_typed() -> None:
    typed_in = r'<math><mn>2</mn><annotation encoding="application/x-tex">2 \times 10^{25}</annotation></math>'
    hidden = '<span aria-hidden="true"><span>2</span>×1025</span>'
    assert texts(f"<p>It took {typed_in}{hidden} FLOPs.", "a.html") == ["It took 2 × 10^25 FLOPs."]
    power = "<math><msup><mn>10</mn><mn>25</mn></msup></math>"
    assert texts(f"<p>It took {power}.", "a.html") == ["It took 10^25."]


# Markdown


def test_sections_are_paths_of_headings_below_the_title() -> None:
    found = article("# T\nA.\n## Costs ##\nB.\n### Of *training*\nC.\n\nUnder\n-----\nD.\n# Next\nE.\n")
    assert found.title == "T"
    assert [(one.section, one.text) for one in found.passages if one.kind == "sentence"] == [
        ("", "A."), ("Costs", "B."), ("Costs > Of training", "C."), ("Under", "D."), ("Next", "E."),
    ]  # fmt: skip
    assert [(one.section, one.text) for one in found.passages if one.kind == "heading"][:2] == [
        ("", "T"),
        ("Costs", "Costs"),
    ]


def test_front_matter_gives_the_title() -> None:
    found = article('---\ntitle: "The *T*"\ndate: 2024\n---\n# Costs\nA.')
    assert (found.title, found.passages[-1].section) == ("The *T*", "Costs")
    assert article("---\nA line.\n\n# T").title == "T"


def test_items_are_passages() -> None:
    found = article(
        "It has:\n- **7B:** 14 GB\n* [x] 13B\n  and more\n    + inner\n\n1. One. Two is 80 GB.\n2) Three\n\nEnd."
    )
    assert [(one.kind, one.text, one.line) for one in found.passages] == [
        ("sentence", "It has:", 1), ("item", "7B: 14 GB", 2), ("item", "13B and more", 3), ("item", "inner", 5),
        ("item", "One. Two is 80 GB.", 7), ("item", "Three", 8), ("sentence", "End.", 10),
    ]  # fmt: skip


def test_a_number_at_the_begin_of_a_line_is_no_item() -> None:
    assert texts("It costs about\n30. The rest is\n- less.") == ["It costs about 30.", "The rest is", "less."]


def test_rows_name_their_columns() -> None:
    table = "| Model | VRAM (GB) | |\n|:--|--:|---|\n| **7B** | `a|b` | c \\| d |\n| 13B || x | y |\n\nEnd."
    assert rows(table) == ["Model: 7B; VRAM (GB): a|b; c | d", "Model: 13B; x; y"]
    assert rows("a | b\n--|--\n1 | 2\nno bar") == ["a: 1; b: 2"]
    assert rows("a | b\n--|--|--\n1 | 2") == []
    assert rows("| a | b |\n|--|--|") == ["a; b"]
    assert [one.line for one in article(table).passages] == [3, 4, 6]


def test_code_says_nothing() -> None:
    code = "A.\n```python\nx = 5 GB\n~~~\n```\nB.\n~~~~\n```\n~~~\n~~~~\n\n    indented 9 GB\n\nC.\n```\nnever closed"
    assert texts(code) == ["A.", "B.", "C."]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("**Bold** __strong__ *it* _em_ ***all***", "Bold strong it em all"),
        ("2*3*4, 2 * 3, 2**10 and kv_cache_size", "2*3*4, 2 * 3, 2**10 and kv_cache_size"),
        ("[text](http://a.b/c_(d) 'title') [ref][1] <https://a.b/c>", "text ref https://a.b/c"),
        ("![alt 5 GB](a.png) [![badge](b.svg)](c) end", "end"),
        ("Cited [[1]](http://a) here[^1] and[^note]", "Cited here and"),
        ("~~70B~~ 65B, ~5 GB", "65B, ~5 GB"),
        (r"\*not\* \$5 \# 1\. `a*b*c` `<b>`", "*not* $5 # 1. a*b*c <b>"),
        ("10^25^ FLOPs", "10^25 FLOPs"),
        ("<!-- 99 GB --> 5 GB <!-- open", "5 GB"),
    ],
)
def test_inline_markup_is_removed(written: str, said: str) -> None:
    assert " ".join(texts(written)) == said


def test_quotes_notes_and_links_are_read_or_dropped() -> None:
    assert texts("> It has\n> 5 GB.\n>\n> > Two.\n\n[^1]: A note of 70B.\n[x]: http://a.b/5\n\nEnd.") == [
        "It has 5 GB.", "Two.", "A note of 70B. [x]: http://a.b/5", "End.",
    ]  # fmt: skip


def test_lines_that_the_author_ends_are_sentences() -> None:
    assert texts("7B: 14 GB  \n13B: 26 GB\\\n70B: 140 GB<br>Too much  \nfor one.") == [
        "7B: 14 GB", "13B: 26 GB", "70B: 140 GB", "Too much for one.",
    ]  # fmt: skip


def test_pages_in_markdown_are_read() -> None:
    head = '<div align="center">\n<h1>T</h1>\n</div>\n\nA.\n'
    table = "<table>\n<tr><th>a</th><th>b</th></tr>\n\n<tr><td>1</td><td>2</td>\n</table>\n"
    found = article(head + table + "\n<style>\np { 5 GB }\n\n</style>\nB. <span>c</span>\n<!--\n\nx\n-->\nD.")
    assert [(one.kind, one.text, one.line) for one in found.passages] == [
        ("heading", "T", 2), ("sentence", "A.", 5), ("row", "a: 1; b: 2", 9), ("sentence", "B. c", 16),
        ("sentence", "D.", 21),
    ]  # fmt: skip


# Pages


def test_blocks_of_a_page_are_passages() -> None:
    page = (
        "<!DOCTYPE html><html><head><title>T | Site</title><style>p{}</style><script>'<p>5 GB</p>'</script>"
        "</head><body><nav><p>Menu</p></nav><h1>The <em>t</em></h1><p>A.<p>Two. End<h2>S</h2><ul><li>One<ul><li>Two"
        "</ul><li>Three</ul><template>x</template><pre>a <b>5</b> GB</pre><div>D<br>E</div><blockquote>F</blockquote>"
        "<dl><dt>G<dd>H</dl>I"
    )
    found = read_article(page.encode(), "a.html")
    assert found.title == "The t"
    assert [(one.kind[0], one.section, one.text) for one in found.passages] == [
        ("h", "", "The t"), ("s", "", "A."), ("s", "", "Two."), ("s", "", "End"), ("h", "S", "S"), ("i", "S", "One"),
        ("i", "S", "Two"), ("i", "S", "Three"), ("s", "S", "D"), ("s", "S", "E"), ("s", "S", "F"), ("i", "S", "G"),
        ("i", "S", "H"), ("s", "S", "I"),
    ]  # fmt: skip


def test_a_page_without_a_heading_has_the_title_of_its_window() -> None:
    assert article("<title>A &amp; B</title><p>C.", "a.html").title == "A & B"
    assert article("<p>C.", "a.html").title is None


def test_what_begins_as_a_page_is_one() -> None:
    for head in ("<!doctype html>", "\n<!-- x --><HTML lang=en>", '<?xml version="1.0"?>'):
        assert texts(f"{head}<p>A</p><p>B</p>", "article") == ["A", "B"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("<thead><tr><td>A<td>B<br>(GB)</thead><tr><td>1<td>2", ["A: 1; B (GB): 2"]),
        ("<tr><td>A<td>B<tr><td>x<td>2<tr><td><td>3", ["A: x; B: 2", "B: 3"]),
        ("<tr><th>Layers<td>80<tr><th>Heads<td>64", ["Layers: 80", "Heads: 64"]),
        ("<tr><td>Layers<td>80<tr><td>Heads<td>64", ["Layers: 80", "Heads: 64"]),
        ("<tr><th rowspan=2>M<th colspan=2>GB<tr><th>w<th>kv<tr><td>7B<td>14<td>1", ["M: 7B; GB w: 14; GB kv: 1"]),
        ("<tr><th>M<th>Q<th>GB<tr><td rowspan=2>7B<td>q4<td>4<tr><td>q8<td>8<tr><td>13B<td>q4<td>8",
         ["M: 7B; Q: q4; GB: 4", "M: 7B; Q: q8; GB: 8", "M: 13B; Q: q4; GB: 8"]),
        ("<tr><th>A<th>B<tr><td colspan=2>both<tr><td>1<td>x<br>y", ["A: both", "A: 1; B: x, y"]),
        ("<tr><td>alone<td>1 GB", ["alone: 1 GB"]),
        ("<tr><td>A<td>B<tr><td>1<td><table><tr><td>c<td>d<tr><td>3<td>4</table>", ["c: 3; d: 4"]),
    ],
)  # fmt: skip
def test_cells_are_named_by_their_headers(table: str, said: list[str]) -> None:
    assert rows(f"<table>{table}</table>", "a.html") == said
    assert rows(f"<table>{table}", "a.html") == said


def test_a_table_that_arranges_a_page_is_prose() -> None:
    page = "<table><tr><td><p>A is 5.</p><p>B.</p></td></tr><tr><td>C.</td></tr></table>"
    assert [(one.kind, one.text) for one in article(page, "a.html").passages] == [
        ("sentence", "A is 5."), ("sentence", "B."), ("sentence", "C."),
    ]  # fmt: skip


# Plain text


def test_plain_text_has_headings_items_and_tables() -> None:
    text = (
        "The weight\n\nA model takes 14 GB, which\nis a lot. *So* _x_.\n\n2.1 Memory\n\n    It is.\n\nIt needs 5 GB\n"
        "\nCosts\n=====\n- one\n  two\n\na | b\n--|--\n1 | 2\n"
    )
    assert [(one.kind, one.section, one.text) for one in article(text, "a.txt").passages] == [
        ("heading", "", "The weight"), ("sentence", "", "A model takes 14 GB, which is a lot."),
        ("sentence", "", "*So* _x_."),
        ("heading", "2.1 Memory", "2.1 Memory"), ("sentence", "2.1 Memory", "It is."),
        ("sentence", "2.1 Memory", "It needs 5 GB"), ("heading", "Costs", "Costs"), ("item", "Costs", "one two"),
        ("row", "Costs", "a: 1; b: 2"),
    ]  # fmt: skip


def test_lines_of_unwrapped_text_are_paragraphs() -> None:
    long = f"It is {'very ' * 30}long."
    assert texts(f"Title\n{long}\nCosts\nIt is 5\nA is 6", "a.txt") == ["Title", long, "Costs", "It is 5", "A is 6"]


# Articles with what was planted in them


@cache
def planted() -> dict[str, list[dict[str, Any]]]:
    """Pairs of sentences that contradict each other or say the same in other units, and claims with their class."""
    found: dict[str, list[dict[str, Any]]] = json.loads((ARTICLES / "planted.json").read_text(encoding="utf-8"))
    return found


def test_planted_articles_are_read_whole() -> None:
    found = {
        path.name: read_article(path.read_bytes(), path.name) for path in ARTICLES.iterdir() if path.suffix != ".json"
    }
    assert {name: (one.title, one.encoding) for name, one in found.items()} == {
        "memory.md": ("What a model needs in memory", "utf-8"),
        "costs.txt": ("What training and serving cost", "windows-1252"),
        "energy.html": ("What a model burns", "utf-8"),
    }
    said = {(name, one.text): one.kind for name, each in found.items() for one in each.passages}
    assert not [text for _, text in said if "999 GB" in text or "10 GB" in text]
    both = [
        pair[side]
        for kind in ("contradictions", "restatements")
        for pair in planted()[kind]
        for side in ("one", "other")
    ]
    for one in (*both, *planted()["claims"]):
        assert said.get((one["article"], one["sentence"])) in ("sentence", "row", "item"), one
    for one in both:
        assert one["value"] in one["sentence"]


def test_as_much_is_planted_as_promised() -> None:
    assert len(planted()["contradictions"]) == len(planted()["restatements"]) == 10
    classes = [one["class"] for one in planted()["claims"]]
    assert set(classes) == {"right", "wrong", "not verifiable"}
    assert len({(one["article"], one["sentence"]) for one in planted()["claims"]}) == len(classes)


# Any bytes, in any length

SIGNS = (
    "<p>", "</p>", "<table>", "<tr>", "<td rowspan=3 colspan=99>", "<th>", "</table>", "<thead>", "<sup>", "</sup>",
    "<a>", "<!--", "-->", "<li>", "<ul>", "</ul>", "<h1>", "<br>", "<title>", "<math>", "<pre>", "<script>",
    "<span aria-hidden=true>", "<svg/>", "<td", "<", ">", "&", "&#", "&#x;", "=", "\"", "'", "$", "$$", "\\(", "\\)",
    "\\", "`", "```", "~~~", "~~", "*", "**", "_", "[", "]", "(", ")", "![", "[^1]:", "[^1]", ">", "#", "##", "---",
    "===", "|", "|-|-|", "-", "1.", "e.g.", "a.", "J.", ".", "!", "\u2075", "–", "\u00a0", "\u00ad", "\f", "\u000b",
    "\ue040", "5 GB", "\n", "\n\n", "    ", " ", "\t", "\r",
)  # fmt: skip
MARKUP = st.lists(st.sampled_from(SIGNS)).map("".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=300), MARKUP.map(str.encode), MARKUP.map(lambda text: text.encode("utf-16"))))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for name in (*FORMATS, "a", ""):
        try:
            found = read_article(data, name)
        except SourceError:
            continue
        for one in found.passages:
            assert isinstance(one, Passage)
            assert one.text == " ".join(one.text.split())
            assert 1 <= one.line <= data.count(b"\n") + data.count(b"\r") + 4


PATTERNS = {
    "a line": "word ", "stops": "a. ", "initials": "J. ", "marks": "...", "closers": ".)\"", "closers apart": ".)) ",
    "bars": "|", "table": "a|b\n-|-\n1|2\n", "wide": "|a", "less": "<", "less spaced": "< ", "comments": "<!--",
    "comments closed": "<!-- --", "tags": "<a ", "quotes": "<a b=\"", "equals": "<a =", "brackets": "[",
    "brackets closed": "[a]", "nested": "[[a]", "links": "[a](", "links twice": "[a](b(", "images": "![",
    "stars": "*", "starred": "*a ", "bold": "**a ", "underlines": "_a ", "ticks": "`", "ticked": "`a``",
    "dollars": "$", "formulas": "$a^", "formulas opened": "\\(", "formulas in brackets": "\\[a", "escapes": "\\",
    "entities": "&", "numbers": "&#1", "digits": "1\u202f234", "powers": "²", "dashes": "1–", "cited": "a[1,",
    "quoted": "> ", "items": "- a\n", "inner items": "  - a\n", "headings": "# a\n", "fences": "```\n",
    "rules": "a\n---\n", "notes": "[^1]", "struck": "~~a", "cells": "<td>", "rows": "<tr><td rowspan=9 colspan=9>a",
    "heads": "<tr><th>a", "tables": "<table>", "nested rows": "<table><tr><td>a", "lists": "<ul><li>",
    "high": "<sup>a", "paragraphs": "<p>a", "scripts": "<script>", "hidden": "<span aria-hidden=true>",
    "maths": "<math>", "formulas of pages": "<math><msup>", "frac": "\\frac{a}{", "blanks": " ", "lines": "\n",
    "soft": "\u00ad", "tabs": "\ta\n", "breaks": "a<br>", "titles": "<title>", "front": "+++\n",
}  # fmt: skip


def seconds(data: bytes, name: str) -> float:
    begin = time.process_time()
    with contextlib.suppress(SourceError):
        read_article(data, name)
    return time.process_time() - begin


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_time_grows_with_length(pattern: str, name: str) -> None:
    """The longer text is four times the shorter; what takes almost no time is measured on nothing longer."""
    unit = PATTERNS[pattern].encode()
    short, long = (b"x" + unit * (size // len(unit)) for size in (30_000, 120_000))
    taken = seconds(long, name)
    if taken > 0.1:
        assert min(taken, seconds(long, name)) < 4 * AS_SHORT * min(seconds(short, name) for _ in range(3))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("pattern", ["a line", "bars", "less", "brackets", "comments", "tags"])
def test_a_megabyte_and_four(pattern: str, name: str) -> None:
    unit = PATTERNS[pattern].encode()
    short, long = (b"x" + unit * ((size << 20) // len(unit)) for size in (1, 4))
    taken = seconds(long, name)
    if taken > 0.1:
        assert taken < 4 * AS_SHORT * min(seconds(short, name) for _ in range(2))


@pytest.mark.parametrize("name", FORMATS)
def test_ten_megabytes_take_seconds(name: str) -> None:
    said = "A model of 7B parameters takes 14 GB in fp16, i.e. 2 bytes for each. <b>It</b> costs *about* $1.50/h. "
    text = "\n\n".join(
        f"## Part {part}\n\n{said * 6}\n\n- one of {part} GB\n\n| a | b |\n|-|-|\n| 1 | 2 |" for part in range(15_000)
    )
    assert len(text) > 9e6
    assert seconds(text.encode(), name) < 15
