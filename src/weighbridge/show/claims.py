"""How do checked claims read? The wrong ones first, each with its derivation, then the others and contradictions."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from weighbridge.claims.check import Report
from weighbridge.claims.claim import Finding, Verdict
from weighbridge.errors import printable
from weighbridge.show.report import STYLE, document, table
from weighbridge.show.tables import bold

_ORDER = (Verdict.WRONG, Verdict.INCONSISTENT, Verdict.NEAR, Verdict.CLOSE, Verdict.CONFIRMED, Verdict.UNVERIFIABLE)
_COLOURS = {"wrong": "#d55e00", "inconsistent": "#d55e00", "right": "#009e73", "unknown": "#777"}
FEW = 5
"""Up to so many claims are all printed, whatever their verdict."""


def claim_lines(report: Report, *, everything: bool = False) -> Iterator[str]:
    """The report of `weigh check`; without `everything`, long documents leave out what nothing settles."""
    shown = list(_sorted(report, everything or len(report.findings) <= FEW))
    for finding in shown:
        yield from _finding_lines(finding)
    if report.contradictions:
        yield bold("contradictions")
        for one in report.contradictions:
            yield printable(f"{one.quantity}: {' against '.join(one.values)}")
            for name, quote in zip(one.names, one.quotes, strict=True):
                yield printable(f"  {name}: {quote}" if name != quote else f"  {quote}")
        yield ""
    yield ", ".join(f"{count} {verdict}" for verdict, count in report.counts().items() if count)
    hidden = len(report.findings) - len(shown)
    if hidden:
        yield f"{hidden} claims that nothing here settles are not shown: --all shows them"


def _sorted(report: Report, everything: bool) -> Iterator[Finding]:
    for verdict in _ORDER:
        for finding in report.findings:
            if finding.verdict is verdict and (everything or verdict is not Verdict.UNVERIFIABLE):
                yield finding


def _finding_lines(finding: Finding) -> Iterator[str]:
    claim = finding.claim
    name = f"{claim.name}: " if claim.name else ""
    yield bold(printable(f"{finding.verdict.value}: {name}{claim.quote}"))
    if finding.computed:
        basis = f" ({finding.basis.value})" if finding.basis else ""
        claimed = f"claimed {finding.claimed}; " if finding.claimed else ""
        yield printable(f"  {claimed}computed {finding.computed}{basis}")
    yield from (printable(f"  {step}") for step in finding.steps)
    yield from (printable(f"  source: {source}") for source in finding.sources)
    if finding.settles:
        yield printable(f"  what would settle it: {finding.settles}")
    yield ""


def markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = ["# Claims checked", "", _summary(report), ""]
    for verdict in _ORDER:
        found = [one for one in report.findings if one.verdict is verdict]
        if not found:
            continue
        lines += [f"## {verdict.value}", ""]
        for one in found:
            lines.append(f"- **{_plain(one.claim.quote)}**{_place(one)}")
            lines += [f"  - {_plain(text)}" for text in _told(one)]
        lines.append("")
    if report.contradictions:
        lines += ["## contradictions", ""]
        for pair in report.contradictions:
            lines.append(f"- {_plain(pair.quantity)}: {_plain(' against '.join(pair.values))}")
            lines += [f"  - {_plain(quote)}" for quote in pair.quotes]
        lines.append("")
    return "\n".join(lines)


def page(report: Report) -> str:
    """The report as one self-contained HTML page, readable in dark and light."""
    parts = ["<h2>Claims checked</h2>", f'<p class="soft">{escape(_summary(report))}</p>']
    for verdict in _ORDER:
        found = [one for one in report.findings if one.verdict is verdict]
        if not found:
            continue
        group = "right" if verdict.is_right else "wrong" if verdict.is_wrong else "unknown"
        parts.append(f'<h3><span style="border-left:.5rem solid {_COLOURS[group]};padding-left:.5rem">'
                     f"{escape(verdict.value)}</span></h3><ul>")  # fmt: skip
        for one in found:
            told = "".join(f"<li>{escape(text)}</li>" for text in _told(one))
            parts.append(f'<li><b>{escape(one.claim.quote)}</b><span class="soft">{escape(_place(one))}</span>'
                         f"<ul>{told}</ul></li>")  # fmt: skip
        parts.append("</ul>")
    if report.contradictions:
        rows = [(one.quantity, " against ".join(one.values), " / ".join(one.quotes)) for one in report.contradictions]
        parts.append(table("Contradictions", ("quantity", "values", "where"), rows, left=(0, 1, 2)))
    return document("Claims", f'<div class="weighbridge"><style>{STYLE}</style>{"".join(parts)}</div>')


def _summary(report: Report) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts().items() if count)
    return f"{len(report.findings)} claims: {counts}; {len(report.contradictions)} contradictions."


def _place(finding: Finding) -> str:
    claim = finding.claim
    place = ", ".join(part for part in (claim.name, claim.section) if part)
    return f" ({place})" if place else ""


def _told(finding: Finding) -> Iterator[str]:
    if finding.computed:
        basis = f" ({finding.basis.value})" if finding.basis else ""
        claimed = f"claimed {finding.claimed}; " if finding.claimed else ""
        yield f"{claimed}computed {finding.computed}{basis}"
    yield from finding.steps
    yield from (f"source: {source}" for source in finding.sources)
    if finding.settles:
        yield f"what would settle it: {finding.settles}"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in printable(text))
