"""One page for one model: the picture, the tables and what each number rests on, with no outside reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from weighbridge.inspection import Inspection
from weighbridge.show import treemap
from weighbridge.units import format_bytes, format_count

STYLE = """
.weighbridge{--ink:#1a1a1a;--soft:#555;--line:#ddd;--ground:#fff;color:var(--ink);background:var(--ground);
font:15px/1.5 system-ui,sans-serif;max-width:62rem;padding:1rem}
@media (prefers-color-scheme:dark){.weighbridge{--ink:#f2f2f2;--soft:#b5b5b5;--line:#3a3d44;--ground:#16181c}}
.weighbridge table{border-collapse:collapse;margin:.5rem 0 1.5rem;font-variant-numeric:tabular-nums}
.weighbridge th,.weighbridge td{padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);text-align:left}
.weighbridge td.n,.weighbridge th.n{text-align:right}
.weighbridge .soft{color:var(--soft)}
.weighbridge svg{width:100%;height:auto}
"""


def fragment(inspection: Inspection) -> str:
    """The report as a part of a page, for notebooks and the local page."""
    counted = inspection.parameters
    known, basis = inspection.architecture is not None, inspection.basis.value
    family = inspection.architecture.family if inspection.architecture else "unknown"
    parts = [
        f"<h2>{escape(inspection.source)}</h2>",
        f'<p class="soft">{escape(inspection.format)}, family {escape(family)}: '
        f"{counted.total:,} parameters ({format_count(counted.total)}), {basis}</p>",
        treemap.svg(inspection),
        table(f"Parameters by component ({basis})", ("component", "parameters", "share"), [
            (name.replace("_", " "), f"{count:,}", f"{count / counted.total:.2%}")
            for name, count in counted.by_component.items() if count
        ]),
    ]  # fmt: skip
    if known:
        parts.append(table(f"The same model by every convention ({basis})", ("convention", "parameters"),
                            [(name, f"{count:,}") for name, count in counted.conventions.items()]))  # fmt: skip
    sizes = [(name, f"{size:,}", format_bytes(size)) for name, size in inspection.bytes_by_encoding.items()]
    parts.append(
        table("Bytes of its tensors by encoding (specified block sizes)", ("encoding", "bytes", "for people"), sizes)
    )
    if known:
        state = inspection.state_json()
        parts.append(table(f"State and work per token ({basis})", ("quantity", "value"), [
            *((f"KV cache per token, {name}", "not possible" if size is None else f"{size:,} B")
              for name, size in state["kv_bytes_per_token"].items()),
            ("recurrent state per sequence, bf16", f"{state['recurrent_bytes_per_sequence']:,} B"),
            (f"FLOPs, forward, at a context of {inspection.context_tokens:,}", f"{inspection.flops_per_token:,}"),
        ]))  # fmt: skip
    reconciliation = inspection.reconciliation
    parts.append(f"<p>Reconciliation: <b>{reconciliation.status.value}</b> "
                 f'<span class="soft">{escape(reconciliation.note)}</span></p>')  # fmt: skip
    parts.append(
        items([f"{d.kind}: {d.name} ({d.elements:+,} elements): {d.note}" for d in reconciliation.differences[:40]])
    )
    parts.append(items(inspection.notes))
    return f'<div class="weighbridge"><style>{STYLE}</style>{"".join(parts)}</div>'


def page(inspection: Inspection) -> str:
    """The report as one self-contained HTML page."""
    return document(inspection.source, fragment(inspection))


def document(title: str, body: str) -> str:
    """A page of this title around a fragment, with no outside reference."""
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>{escape(title)} - Weighbridge</title></head>"
            f'<body style="margin:0">{body}</body></html>\n')  # fmt: skip


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table, titled where it has a title; all columns but the first, or those named, are set to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{'' if place in left else ' class=n'}>{escape(cell)}</{tag}>"
                       for place, cell in enumerate(row))  # fmt: skip

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f"{heading}<table><thead><tr>{cells('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def items(texts: Iterable[str]) -> str:
    """A list of sentences; nothing where there are none."""
    found = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{found}</ul>" if found else ""
