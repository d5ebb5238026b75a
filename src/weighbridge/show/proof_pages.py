"""How does a proof read as a file that is kept? One page: the verdict first, then what it rests on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from weighbridge.errors import printable
from weighbridge.prove.comparison import Comparison
from weighbridge.prove.proof import Proof
from weighbridge.show import forest_plot, pages
from weighbridge.show.forest_plot import HUES, interval_words
from weighbridge.show.pages import Page, Part, cut, short
from weighbridge.show.proofs import VERDICTS, cost_line, number

MOST_FLIPPED, DIGEST = 50, 12
HEADS = ("base", "candidate", "difference", "interval", "ratio", "interval of the ratio", "n", "clusters", "verdict",
         "p (McNemar)", "examples needed")  # fmt: skip
NAMED = ("data", "probe", "tasks", "data_sha256", "base_sha256", "candidate_sha256", "models", "examples", "shots",
         "shots_sha256", "ladder")  # fmt: skip
"""Settings with words of their own; others are told by name."""
PLOT_WORDS = ("A loss lies to the left. `!` is no difference, `:` what may be lost at most; `<` and `>` go on beyond "
              "the scale.")  # fmt: skip


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
    pages.write(path, _page(proof, command))


def html(proof: Proof, command: str) -> str:
    """The proof as one self-contained page, for light and dark.

    Example:
        >>> from weighbridge.prove.comparison import Rule
        >>> page = html(Proof("<a>", "b", (), "undecided", "no metric decides", Rule()), "weigh prove")
        >>> page.startswith("<!doctype html>"), "<a>" in page, "&lt;a&gt;" in page
        (True, False, True)
    """
    return pages.html(_page(proof, command))


def markdown(proof: Proof, command: str) -> str:
    r"""The proof in Markdown, with the plot as text.

    Example:
        >>> from weighbridge.prove.comparison import Rule
        >>> page = markdown(Proof("a|b", "c", (), "undecided", "no metric decides", Rule()), "weigh prove")
        >>> print(page.splitlines()[0], next(line for line in page.splitlines() if "base" in line), sep="\n")
        # undecided: no metric decides
        | base | a\|b |
    """
    return pages.markdown(_page(proof, command))


def _page(proof: Proof, command: str) -> Page:
    return Page(f"{proof.verdict}: {proof.candidate} against {proof.base}",
                f"{VERDICTS[proof.verdict]}: {proof.reason}", HUES[proof.verdict],
                (*parts(proof), pages.to_repeat(command)))  # fmt: skip


def parts(proof: Proof) -> Iterator[Part]:
    """What a page tells of a proof below its verdict."""
    share, has_ratio = _percent(proof.rule.confidence), proof.rule.keep is not None
    looked = ", whenever it is looked at" if proof.rule.sequential else ""
    deciding = [one for one in proof.metrics if one.gates]
    yield Part("What was compared", ("what", "value"), cut(_compared(proof)), is_words=True)
    yield _plot(f"Metrics that decide, at {share}{looked}", [forest_plot.group(one, proof.rule) for one in deciding])
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
                   ("candidate", "bytes", "verdict", "reason"), cut(rows), is_words=True)  # fmt: skip
    yield Part(texts=[f"note: {printable(note)}" for note in (*_warnings(proof.metrics), *proof.notes)])
    if proof.flipped:
        yield _flips(proof)


def _plot(title: str, groups: Sequence[forest_plot.Group]) -> Part:
    code = "\n".join(forest_plot.lines(groups)) or "no metric decides"
    return Part(title, picture=forest_plot.svg(groups, title), code=code, legend=PLOT_WORDS)


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
    rows = [(short(name), *_cells(one, has_ratio)) for name, one in found]
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
    return Part(title, ("example", "change", "prompt", "expected", "base", "candidate"), cut(rows), is_words=True)
