"""How does a result read on a terminal or in a pipe? Tables with shares and bars, wide enough and no wider."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from weighbridge.formats.reconcile import Difference, Status
from weighbridge.inspection import Inspection
from weighbridge.layer import LayerCount
from weighbridge.units import format_bytes, format_count

if TYPE_CHECKING:
    from rich.console import Console

    from weighbridge.formats.values import ValueCount
    from weighbridge.model.encodings import Encoding
    from weighbridge.model.family import Family
    from weighbridge.model.recipes import Recipe

BAR = 24
SHOWN_RECIPES = ("fp32", "bf16", "int8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "int4", "q3_k_m", "q2_k")
MOST_DIFFERENCES = 12


def bar(share: float, width: int = BAR) -> str:
    """A bar of blocks, to an eighth of a character.

    Example:
        >>> bar(0.5, 4), bar(0.03125, 4)
        ('██', '▏')
    """
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def show_inspection(console: Console, inspection: Inspection) -> None:
    """The whole report of `weigh inspect`."""
    counted = inspection.parameters
    known = inspection.architecture is not None
    family = inspection.architecture.family if inspection.architecture else "unknown"
    console.print(f"[bold]{_escape(inspection.source)}[/]", highlight=False, soft_wrap=True)
    console.print(f"{inspection.format}, family {family}", highlight=False)
    console.print()
    title = f"{counted.total:,} parameters ({format_count(counted.total)}, exact)"
    rows = [
        (name.replace("_", " "), f"{count:,}", f"{count / counted.total:.2%}", bar(count / counted.total))
        for name, count in counted.by_component.items()
        if count
    ]
    _table(console, title, ("component", "parameters", "share", ""), rows)
    if known:
        _conventions(console, inspection)
    _bytes(console, inspection)
    if known:
        _state(console, inspection)
    _stored(console, inspection)
    _reconciliation(console, inspection)
    for note in inspection.notes:
        console.print(f"note: {_escape(note)}", highlight=False, soft_wrap=True)


def _conventions(console: Console, inspection: Inspection) -> None:
    texts = {
        "tied_per_use": "a tied head counted as if it were stored",
        "non_embedding": "without the tables of tokens, positions and types",
        "without_embedding_and_head": "without these tables and without the head",
        "active_per_token": "used by one token: routed experts that it skips are left out",
    }
    conventions = inspection.parameters.conventions
    rows = [(name, f"{conventions[name]:,}", text) for name, text in texts.items()]
    _table(console, "by other conventions (exact)", ("convention", "parameters", "what it counts"), rows, right=(1,))
    layers = inspection.parameters.by_layer
    if len(set(layers)) == 1:
        console.print(f"each of {len(layers)} layers: {layers[0]:,} parameters\n", highlight=False)
    elif layers:
        console.print(f"{len(layers)} layers: {min(layers):,} to {max(layers):,} parameters each\n", highlight=False)


def _bytes(console: Console, inspection: Inspection) -> None:
    sizes = inspection.bytes_for(SHOWN_RECIPES)
    total = inspection.parameters.total
    rows = [(name, f"{size:,}", format_bytes(size), f"{size * 8 / total:.2f}") for name, size in sizes.items()]
    _table(console, "bytes of the tensors at other encodings (specified block sizes; a file's header comes on top)",
           ("encoding", "bytes", "for people", "bits/parameter"), rows, right=(1, 2, 3))  # fmt: skip
    if inspection.architecture is not None:
        fallbacks = inspection.fallbacks_for(sizes)
        for name, sentences in fallbacks.items():
            for sentence in sentences:
                console.print(f"fallback: {name} stores {_escape(sentence)}", highlight=False, soft_wrap=True)
        if fallbacks:
            console.print()


def _state(console: Console, inspection: Inspection) -> None:
    state, counted = inspection.to_json_state(), inspection.parameters
    per_token, growing = state["kv_bytes_per_token"], state["kv_bytes_per_token_global"]["bf16"]
    rows = [("parameters that it uses, of those that are held", f"{counted.active_per_token:,} of {counted.total:,}")]
    if any(per_token.values()):
        rows += [(f"KV cache, {name}", f"{size:,} B") for name, size in per_token.items()]
    else:
        rows.append(("KV cache", "none: an encoder keeps no cache"))
    if growing != per_token["bf16"]:
        rows.append(("KV cache once the windows are full, bf16", f"{growing:,} B"))
    if state["recurrent_bytes_per_sequence"]:
        rows.append(("recurrent state per sequence, bf16", f"{state['recurrent_bytes_per_sequence']:,} B"))
    where = (
        f"context {inspection.context_tokens:,}" if inspection.context_tokens else "without attention: see --context"
    )
    rows.append((f"FLOPs, forward ({where})", f"{inspection.flops_per_token:,}"))
    _table(console, "for one token (exact)", ("quantity", "value"), rows, right=(1,))


def _stored(console: Console, inspection: Inspection) -> None:
    stored = inspection.stored
    if stored is None:
        return
    checkpoint = inspection.checkpoint
    header = sum(file.header_bytes for file in checkpoint.files)
    padding = sum(file.padding_bytes for file in checkpoint.files)
    rows = [(f"{name} elements", f"{count:,}", f"{count / max(1, stored.elements):.2%}")
            for name, count in sorted(stored.by_encoding.items(), key=lambda item: -item[1])]  # fmt: skip
    for name, count in (("buffers among them", stored.buffers), ("second names of tied storage", stored.tied)):
        rows += [(name, f"{count:,}", f"{count / stored.elements:.2%}")] if count else []
    rows += [("tensors", f"{checkpoint.tensor_bytes:,} B", ""), ("header and metadata", f"{header:,} B", ""),
             ("padding", f"{padding:,} B", ""), ("all files", f"{checkpoint.size_bytes:,} B", "")]  # fmt: skip
    names = f"{len(checkpoint.files)} file" + ("s" if len(checkpoint.files) != 1 else "")
    _table(console, f"stored: {stored.elements:,} elements in {len(checkpoint.tensors):,} tensors, {names} (exact)",
           ("what", "amount", "share"), rows, right=(1, 2))  # fmt: skip


def _reconciliation(console: Console, inspection: Inspection) -> None:
    result = inspection.reconciliation
    if result.status is Status.NOT_APPLICABLE:
        console.print(f"reconciliation: not applicable ({_escape(result.note)})", highlight=False, soft_wrap=True)
        return
    colour = "green" if result.status is Status.AGREES else "red"
    meaning = (
        "header and description prove each other" if result.status is Status.AGREES else "they are not the same model"
    )
    outcome = f"reconciliation: [{colour}]{result.status.value}[/] - {meaning}"
    matched = f"{result.matched:,} tensors match by name and shape"
    console.print(f"{outcome}: {matched}", highlight=False, soft_wrap=True)
    if result.inferred:
        console.print(f"  taken from the file itself, so not proved: {', '.join(result.inferred)}", highlight=False)
    if result.note:
        console.print(f"  {_escape(result.note)}", highlight=False, soft_wrap=True)
    for text in _difference_lines(result.differences):
        console.print(f"  {_escape(text)}", highlight=False, soft_wrap=True)


def _difference_lines(differences: Sequence[Difference]) -> Iterable[str]:
    """Differences of one kind and reason in one line, with how many there are and what they hold together."""
    groups: dict[tuple[bool, str, str], list[Difference]] = {}
    for difference in differences:
        note = difference.note if difference.kind in ("buffer", "tied_copy") else difference.kind
        groups.setdefault((difference.explained, difference.kind, note), []).append(difference)
    for place, ((explained, kind, note), members) in enumerate(groups.items()):
        if place == MOST_DIFFERENCES:
            yield f"... and {len(groups) - place} more kinds; --json lists all"
            return
        elements = sum(difference.elements for difference in members)
        names = ", ".join(d.name for d in members[:2]) + (f" and {len(members) - 2} more" if len(members) > 2 else "")
        text = note if kind in ("buffer", "tied_copy") else f"{members[0].note}"
        yield f"{'explained' if explained else 'DIFFERENCE'}: {elements:+,} elements in {names}: {text}"


def show_tensors(console: Console, inspection: Inspection) -> None:
    """Every tensor, a line each with tabs between: those of the file, or of the description where there is no file."""
    stored = inspection.stored is not None
    for tensor in inspection.tensors:
        shape = "x".join(str(size) for size in tensor.shape) or "scalar"
        cells = [tensor.name, shape, str(tensor.elements)]
        cells += [tensor.encoding.name, str(tensor.size_bytes)] if stored else []
        console.out("\t".join([*cells, *([f"= {tensor.tied_to}"] if tensor.tied_to else [])]), highlight=False)


def show_values(console: Console, values: ValueCount) -> None:
    """Zeros among the weights that were read."""
    zero = values.read - values.nonzero
    rows = [("elements read", f"{values.read:,}"), ("not zero", f"{values.nonzero:,}"), ("zero", f"{zero:,}"),
            ("not readable here", f"{values.unread:,}")]  # fmt: skip
    _table(console, "values (exact)", ("what", "elements"), rows, right=(1,))
    for note in values.notes:
        console.print(f"note: {_escape(note)}", highlight=False, soft_wrap=True)


def show_encodings(console: Console, encodings: Iterable[Encoding], mixes: Iterable[Recipe]) -> None:
    """The tables of `weigh encodings`."""
    rows = [(e.name, str(e.elements_per_block), str(e.bytes_per_block), f"{e.bits_per_weight:g}", ", ".join(e.aliases))
            for e in encodings]  # fmt: skip
    heads = ("name", "elements a block", "bytes a block", "bits a weight", "also spelled")
    _table(console, "encodings (specified)", heads, rows,
           right=(1, 2, 3))  # fmt: skip
    kinds = [(r.name, r.kind, r.default.name) for r in mixes]
    _table(console, "mixes", ("name", "kind", "mostly"), kinds, right=())


def show_families(console: Console, families: Iterable[Family]) -> None:
    """The table of `weigh families`."""
    rows = [(f.name, ", ".join(f.model_types), f.title) for f in families]
    _table(console, "families", ("name", "model types", "models"), rows, right=())


def show_layer(console: Console, layer: LayerCount) -> None:
    """One layer's count with its formula."""
    console.print(f"[bold]{_escape(layer.spec)}[/]: {layer.parameters:,} parameters (exact)", highlight=False)
    console.print(f"  = {layer.formula}", highlight=False)
    rows = [(name, " x ".join(map(str, shape)) or "scalar") for name, shape in layer.tensors]
    if rows:
        _table(console, "", ("tensor", "shape"), rows)
    if layer.with_bias != layer.without_bias:
        console.print(f"with biases {layer.with_bias:,}, without {layer.without_bias:,}", highlight=False)
    if layer.buffers:
        console.print(f"beside them {layer.buffers:,} buffer elements, which are not parameters", highlight=False)
    if layer.active_per_token != layer.parameters:
        console.print(f"used by one token: {layer.active_per_token:,}", highlight=False)
    console.print(layer.note, highlight=False)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _table(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (1, 2)
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if title:
        console.print(f"[bold]{_escape(title)}[/]", highlight=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_escape(cell) for cell in row))
    console.print(table)
    console.print()
