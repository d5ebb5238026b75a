"""How does a smaller model read as a file that is kept? One page: what it became, what that costs, and the proof."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.compress.shrink import Shrunk
from weighbridge.errors import printable
from weighbridge.show import cost_chart, growth_interval, pages, proof_pages, shrinking, size_bars
from weighbridge.show.forest_plot import HUES
from weighbridge.show.pages import Page, Part, cut, short
from weighbridge.show.proofs import VERDICTS, number
from weighbridge.units import format_bytes


def write(path: str, found: Shrunk, command: str) -> None:
    """Writes the report; the ending says in which format.

    Args:
        path: of the file: .md, .markdown, .html or .htm.
        found: what was planned or written.
        command: what repeats it.

    Raises:
        UnitError: when the ending is another.
        SourceError: when the file cannot be written.
    """
    pages.write(path, _page(found, command))


def html(found: Shrunk, command: str) -> str:
    """The report as one self-contained page, for light and dark."""
    return pages.html(_page(found, command))


def markdown(found: Shrunk, command: str) -> str:
    """The same in Markdown, without the figures."""
    return pages.markdown(_page(found, command))


def _page(found: Shrunk, command: str) -> Page:
    size, verdict = found.plan.size_bytes, None if found.proof is None else found.proof.verdict
    sizes = f"{format_bytes(found.input_bytes)} to {format_bytes(size)}, {size / found.input_bytes:.1%}"
    return Page(f"{found.source} made smaller", f"{_verdict(found)}: {sizes}", "grey" if verdict is None else
                HUES[verdict], (*_parts(found), pages.to_repeat(command)))  # fmt: skip


def _verdict(found: Shrunk) -> str:
    if found.proof is None:
        return "written, not proved" if found.path else "a plan, nothing written"
    verdict = VERDICTS[found.proof.verdict]
    return verdict if found.path else f"{verdict}, nothing left"


def _parts(found: Shrunk) -> Iterator[Part]:
    yield Part("What was made", ("what", "value"), cut(_made(found)), is_words=True)
    yield Part("Bytes", picture=size_bars.svg(found, "Bytes before and after"))
    yield Part("Bytes by encoding", ("encoding", "tensors", "bytes", "share", "largest relative error"),
               size_bars.rows(found))  # fmt: skip
    known = growth_interval.growths(found)
    if known:
        title = "Growth of perplexity"
        yield Part(title, picture=growth_interval.svg(known, title))
        yield Part(title, ("what", "growth", "from", "to"), [(one.label, *one.words) for one in known])
    yield Part("Expected and measured", texts=[shrinking.prior(found)])
    yield Part("Costs", picture=cost_chart.svg(found, "What each matrix costs"))
    yield Part("What errors cost", texts=[shrinking.costs_words(found), *shrinking.unfit_words(found)])
    yield _tensors(found)
    if found.steps:
        rows = [(f"{step.size_bytes:,}", step.by, VERDICTS.get(step.verdict or "", ""), step.reason or "",
                 "" if step.divergence is None else number(step.divergence),
                 "" if step.expected is None else number(step.expected)) for step in found.steps]  # fmt: skip
        heads = ("bytes", "costs of errors", "verdict", "reason", "divergence", "expected")
        used = [place for place in range(len(heads)) if any(row[place] for row in rows)]
        yield Part("What was tried, in order", [heads[place] for place in used],
                   cut([[row[place] for place in used] for row in rows]), is_words=True)  # fmt: skip
    if found.proof is not None:
        said = f"{VERDICTS[found.proof.verdict]}: {found.proof.reason}"
        yield Part("The proof", texts=[printable(said)])
        yield from proof_pages.parts(found.proof)
    if found.notes:
        yield Part("Notes", texts=[printable(note) for note in found.notes])


def _made(found: Shrunk) -> Iterator[tuple[str, str]]:
    size, budget = found.plan.size_bytes, found.plan.budget_bytes
    yield "source", found.source
    yield "result", found.path or "none"
    yield "format", found.format
    yield "bytes before", f"{found.input_bytes:,}"
    yield "bytes after", f"{size:,} ({size / found.input_bytes:.1%})"
    yield "budget in bytes", f"{budget:,}" if budget else ""
    yield "bits a weight", f"{found.bits_per_weight:.3f}"
    yield "costs of errors", found.costs.basis
    yield "seconds", f"{found.seconds:.1f}"


def _tensors(found: Shrunk) -> Part:
    """Every tensor, the costliest first."""
    shares, rows = cost_chart.shares(found), []
    for one in sorted(found.tensors, key=lambda tensor: -shares.get(tensor.name, 0.0)):
        encoding = found.plan.encodings[one.name]
        error = found.errors.get(one.name)
        rows.append((short(one.name), " x ".join(map(str, one.shape)), one.encoding.name, encoding.name,
                     f"{encoding.size_bytes(one.shape):,}", "" if error is None else number(error**0.5),
                     f"{shares[one.name]:.2%}" if one.name in shares else ""))  # fmt: skip
    heads = ("tensor", "shape", "before", "encoding", "bytes", "relative error", "of all costs")
    return Part(f"All {len(rows):,} tensors, the costliest first", heads, rows, is_folded=True)
