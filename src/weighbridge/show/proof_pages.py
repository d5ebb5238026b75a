"""How does a proof read as a file that is kept? One page in HTML or Markdown: the verdict first, then what it rests on.

Both are made of the same parts. Names, prompts and answers come from models, files and data that nobody vouches for:
control characters are written out when a part is made, and markup is escaped when it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from weighbridge.errors import SourceError, UnitError, printable
from weighbridge.output_file import write_text
from weighbridge.prove.comparison import Comparison
from weighbridge.prove.proof import Proof
from weighbridge.show import chart, forest_plot, report
from weighbridge.show.forest_plot import HUES, interval_words
from weighbridge.show.proofs import VERDICTS, cost_line, number

MOST_FLIPPED, MOST_CHARACTERS, DIGEST = 50, 300, 12
HEADS = ("base", "candidate", "difference", "interval", "ratio", "interval of the ratio", "n", "clusters", "verdict",
         "p (McNemar)", "examples needed")  # fmt: skip
NAMED = ("data", "probe", "tasks", "data_sha256", "base_sha256", "candidate_sha256", "models", "examples", "shots",
         "shots_sha256", "ladder")  # fmt: skip
"""Settings with words of their own; others are told by name."""
MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
STYLE = """
body{background:#fff}.weighbridge{margin:auto;max-width:72rem}.weighbridge .wide{overflow-x:auto;font-size:14px}
.weighbridge .wide td:first-child{min-width:4.5rem;max-width:24rem;overflow-wrap:anywhere}
.weighbridge .wide td.n{white-space:nowrap}.weighbridge .wide th{vertical-align:bottom}
.weighbridge .words td,.weighbridge .words th{text-align:left;vertical-align:top}
.weighbridge .words td.n{min-width:3rem;max-width:32rem;white-space:normal;overflow-wrap:anywhere}
.weighbridge pre{border:1px solid var(--line);padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{background:#16181c}}
"""
PLOT_WORDS = ("A loss lies to the left. `!` is no difference, `:` what may be lost at most; `<` and `>` go on beyond "
              "the scale.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A table, sentences, a plot, or text that stands as it is. `is_words` sets a table to the left."""

    title: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    is_words: bool = False
    texts: Sequence[str] = ()
    plot: Sequence[forest_plot.Group] | None = None
    code: str = ""


def write(path: str, proof: Proof, command: str) -> None:
    """Writes the report; the ending says in which format.

    Args:
        path: of the file: .md, .markdown, .html or .htm.
        proof: what was found.
        command: what repeats it.

    Raises:
        UnitError: when the ending is another.
        SourceError: when the file cannot be written.

    Example:
        >>> from weighbridge.prove.comparison import Rule
        >>> proof = Proof("a", "b", (), "undecided", "no metric decides", Rule())
        >>> write("a.pdf", proof, "weigh prove")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        weighbridge.errors.UnitError: the report a.pdf ends in .pdf; expected .md, ...
    """
    write_text(path, check(path)(proof, command))


def check(path: str) -> Callable[[Proof, str], str]:
    """What makes the report of this ending, before the work that it is about.

    Raises:
        UnitError: when the ending is another.
        SourceError: when its folder does not exist.
    """
    made = {".md": markdown, ".markdown": markdown, ".html": html, ".htm": html}
    ending = Path(path).suffix.lower()
    if ending not in made:
        raise UnitError(f"the report {path} ends in {ending or 'nothing'}", ", ".join(made), "choose one of these")
    if not Path(path).resolve().parent.is_dir():
        raise SourceError(f"the folder of the report {path} does not exist", "a folder that does", "make it")
    return made[ending]


def html(proof: Proof, command: str) -> str:
    """The proof as one self-contained page, for light and dark.

    Example:
        >>> from weighbridge.prove.comparison import Rule
        >>> page = html(Proof("<a>", "b", (), "undecided", "no metric decides", Rule()), "weigh prove")
        >>> page.startswith("<!doctype html>"), "<a>" in page, "&lt;a&gt;" in page
        (True, False, True)
    """
    mark = f"border-left:.5rem solid {chart.HUES[HUES[proof.verdict]][0]};padding-left:.7rem"
    heading = f'<h2 style="{mark}">{VERDICTS[proof.verdict]}: {escape(printable(proof.reason))}</h2>'
    body = f"<style>{report.STYLE}{STYLE}</style>{heading}{''.join(map(_html, _parts(proof, command)))}"
    title = printable(f"{proof.verdict}: {proof.candidate} against {proof.base}")
    return report.document(title, f'<div class="weighbridge">{body}</div>')


def markdown(proof: Proof, command: str) -> str:
    r"""The proof in Markdown, with the plot as text.

    Example:
        >>> from weighbridge.prove.comparison import Rule
        >>> page = markdown(Proof("a|b", "c", (), "undecided", "no metric decides", Rule()), "weigh prove")
        >>> print(page.splitlines()[0], next(line for line in page.splitlines() if "base" in line), sep="\n")
        # undecided: no metric decides
        | base | a\|b |
    """
    heading = f"# {VERDICTS[proof.verdict]}: {_plain(printable(proof.reason))}\n"
    return "\n".join([heading, *filter(None, map(_markdown, _parts(proof, command)))])


def _parts(proof: Proof, command: str) -> Iterator[Part]:
    share, has_ratio = _percent(proof.rule.confidence), proof.rule.keep is not None
    looked = ", whenever it is looked at" if proof.rule.sequential else ""
    deciding = [one for one in proof.metrics if one.gates]
    yield Part("What was compared", ("what", "value"), _cut(_compared(proof)), is_words=True)
    yield Part(f"Metrics that decide, at {share}{looked}", plot=[forest_plot.group(o, proof.rule) for o in deciding])
    yield _table(f"Metrics, at {share}{looked}", "metric", [(one.name, one) for one in proof.metrics], has_ratio)
    costs = [] if proof.cost is None else [cost_line(proof.cost)]
    yield Part(texts=[*(printable(f"{one.name}: {one.reason}") for one in deciding), *costs])
    for one in proof.metrics:
        if one.slices:
            each = _percent(next(iter(one.slices.values())).confidence)
            title = printable(f"{one.name} by slice, at {each} each so that {share} hold for all")
            yield _table(title, "slice", one.slices.items(), has_ratio)
    if ladder := proof.settings.get("ladder"):
        rows = [(step["candidate"], "unknown" if step["bytes"] is None else f"{step['bytes']:,}",
                 VERDICTS.get(step["verdict"], ""), step["reason"]) for step in ladder]  # fmt: skip
        yield Part("Candidates in the order tried, up to the first that passes",
                   ("candidate", "bytes", "verdict", "reason"), _cut(rows), is_words=True)  # fmt: skip
    yield Part(texts=[f"note: {printable(note)}" for note in (*_warnings(proof.metrics), *proof.notes)])
    if proof.flipped:
        yield _flips(proof)
    yield Part("To repeat it", code="\n".join(map(printable, command.split("\n"))))


def _compared(proof: Proof) -> Iterator[tuple[str, str]]:
    settings, rule = proof.settings, proof.rule
    models = settings.get("models") or [{}, {}]
    for side, name, model in zip(("base", "candidate"), (proof.base, proof.candidate), models, strict=True):
        yield side, name + _digest(model.get("sha256") or settings.get(f"{side}_sha256"))
    yield "engine", " and ".join(dict.fromkeys(model["engine"] for model in models if "engine" in model))
    probe, tasks = settings.get("probe"), settings.get("tasks", ())
    data = settings.get("data") or (f"the probe {probe}" if probe else ", ".join(tasks))
    yield "data", data + _digest(settings.get("data_sha256"))
    yield "examples", f"{settings.get('examples') or max((one.n for one in proof.metrics), default=0):,}"
    if (shots := settings.get("shots")) is not None:
        yield "worked examples before each", f"{shots}{_digest(settings.get('shots_sha256'))}"
    yield "confidence", _percent(rule.confidence) + (" for each candidate tried" if settings.get("ladder") else "")
    lost = f"a margin of {rule.margin:g} of each metric, in its own unit" if rule.margin else "nothing"
    yield "what may be lost", lost if rule.keep is None else f"all but a share of {rule.keep:g} of each metric"
    yield "sequential", "yes: intervals, not p, hold however often looked at" if rule.sequential else "no: one look"
    yield "seed", str(rule.seed)
    timed = zip(("base", "candidate"), proof.seconds, strict=True)
    yield "seconds per example", ", ".join(f"{side} {number(took)}" for side, took in timed if took is not None)
    for key, value in settings.items():
        if key not in NAMED and value is not None:
            yield key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _digest(found: object) -> str:
    """The beginning of a SHA-256; nothing where there is none, as of an address."""
    return f" (SHA-256 {str(found)[:DIGEST]})" if re.fullmatch("[0-9a-f]{64}", str(found)) else ""


def _percent(share: float) -> str:
    return f"{100 * share:.5g}%"


def _table(title: str, first: str, found: Iterable[tuple[str, Comparison]], has_ratio: bool) -> Part:
    """Comparisons in rows, without the columns in which nothing stands."""
    rows = [(_short(name), *_cells(one, has_ratio)) for name, one in found]
    used = [place for place in range(len(HEADS) + 1) if any(row[place] for row in rows)]
    return Part(title, [(first, *HEADS)[place] for place in used], [[row[place] for place in used] for row in rows])


def _cells(one: Comparison, has_ratio: bool) -> tuple[str, ...]:
    return (number(one.base), number(one.candidate), number(one.delta.value), interval_words(one.delta),
            *((number(one.ratio.value), interval_words(one.ratio)) if has_ratio else ("", "")),
            f"{one.n:,}", f"{one.clusters:,}", VERDICTS[one.verdict] if one.gates else "told only",
            "" if one.p_value is None else f"{one.p_value:.3g}",
            f"{one.needed:,}" if one.needed and one.gates else "")  # fmt: skip


def _warnings(metrics: Iterable[Comparison]) -> Iterator[str]:
    """Each warning once, with the slices that it is about, unless it is about all examples."""
    where: dict[str, dict[str, None]] = {}
    for one in metrics:
        for name, part in (("", one), *one.slices.items()):
            for warning in part.warnings:
                where.setdefault(warning, {})[name] = None
    for warning, names in where.items():
        yield warning if "" in names else f"{', '.join(names)}: {warning}"


def _flips(proof: Proof) -> Part:
    found = sorted(proof.flipped, key=lambda flip: not flip.lost)
    lost = sum(flip.lost for flip in found)
    title = f"Examples that flipped between right and wrong: {len(found):,} ({lost:,} lost, {len(found) - lost:,} won)"
    rows = [(flip.place, "lost" if flip.lost else "won", flip.prompt, flip.expected, flip.base, flip.candidate)
            for flip in found[:MOST_FLIPPED]]  # fmt: skip
    title += f", {MOST_FLIPPED} of them shown, those lost first" if len(found) > MOST_FLIPPED else ""
    return Part(title, ("example", "change", "prompt", "expected", "base", "candidate"), _cut(rows), is_words=True)


def _cut(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Rows of words, without those that say nothing behind the first."""
    return [[_short(cell) for cell in row] for row in rows if any(row[1:])]


def _short(cell: str) -> str:
    return printable(cell[:MOST_CHARACTERS]) + ("…" if len(cell) > MOST_CHARACTERS else "")


def _html(part: Part) -> str:
    if part.plot is not None:
        return forest_plot.svg(part.plot, part.title)
    if part.heads:
        words = " words" if part.is_words else ""
        return f'<div class="wide{words}">{report.table(part.title, part.heads, part.rows)}</div>'
    if part.code:
        return f"<h3>{escape(part.title)}</h3><pre><code>{escape(part.code)}</code></pre>"
    return report.items(part.texts)


def _markdown(part: Part) -> str:
    title = f"## {_plain(part.title)}\n\n"
    if part.heads:
        sides = [":--" if part.is_words or not place else "--:" for place in range(len(part.heads))]
        rows = (map(_plain, part.heads), sides, *(map(_plain, row) for row in part.rows))
        return title + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    if part.plot is None and not part.code:
        return "".join(f"- {_plain(text)}\n" for text in part.texts)
    words = "" if part.plot is None else f"{PLOT_WORDS}\n\n"
    code = part.code if part.plot is None else "\n".join(forest_plot.lines(part.plot)) or "no metric decides"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{title}{words}{fence}\n{code}\n{fence}\n"


def _plain(text: str) -> str:
    """Text with the signs escaped that Markdown would read as markup."""
    return MARKUP.sub(r"\\\g<0>", text)
