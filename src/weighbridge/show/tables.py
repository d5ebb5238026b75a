"""How does a result read on a terminal or in a pipe? Lines of text: tables with shares and bars, no wider than needed.

Names come from files that nobody vouches for, so control characters in them are written out and cannot move the cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.errors import printable
from weighbridge.estimate import Basis, Estimate
from weighbridge.formats.reconcile import Difference, Reconciliation, Status
from weighbridge.inspection import Inspection, what_it_is
from weighbridge.units import format_bytes, format_count

if TYPE_CHECKING:
    from weighbridge.adapted import Adapted
    from weighbridge.growth import Point
    from weighbridge.layer import LayerCount
    from weighbridge.model.catalogue import NamedModel
    from weighbridge.model.encodings import Encoding
    from weighbridge.model.family import Family
    from weighbridge.model.recipes import Recipe
    from weighbridge.shapes import Design
    from weighbridge.side_by_side import Cell, SideBySide

BAR = 24
SHOWN_RECIPES = ("fp32", "bf16", "int8", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "int4", "q3_k_m", "q2_k")
MOST_KINDS_OF_DIFFERENCES = 12


def bar(share: float, width: int = BAR) -> str:
    """A bar of blocks, to an eighth of a character; no longer than its width.

    Example:
        >>> bar(0.5, 4), bar(0.03125, 4)
        ('██', '▏')
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def bold(text: str) -> str:
    """Text in bold; `click.echo` takes the codes out again where there is no terminal."""
    return f"\x1b[1m{text}\x1b[0m"


def table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = (1, 2)
) -> Iterator[str]:
    r"""A titled table in aligned columns, and an empty line; the columns in `right` are set to the right.

    Example:
        >>> print(*table("", ("a", "n"), [("x", "10"), ("longer", "9")], right=(1,)), sep="\n")
        a        n
        ──────────
        x       10
        longer   9
        <BLANKLINE>
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *cells, strict=True)]
    if title:
        yield bold(title)
    for place, row in enumerate([list(heads), *cells]):
        line = "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield line.rstrip()
        if place == 0:
            yield "─" * (sum(widths) + 2 * (len(widths) - 1))
    yield ""


def inspection_lines(inspection: Inspection) -> Iterator[str]:
    """The whole report of `weigh inspect`."""
    counted = inspection.parameters
    known = inspection.architecture is not None
    family = inspection.architecture.family if inspection.architecture else "unknown"
    yield bold(printable(inspection.source))
    yield f"{inspection.format}, family {family}"
    if inspection.family_guess is not None:
        nearest, share = ", ".join(inspection.family_guess.families), inspection.family_guess.overlap
        yield f"a guess by the names of its tensors: {nearest} ({share:.0%} of the names in common)"
    if inspection.reconciliation.status is Status.DIFFERS:
        yield "the counts are those of the description, and the file DIFFERS from it: see the end"
    yield ""
    how = inspection.basis.value + (
        "" if known or inspection.basis is not Basis.EXACT else ", by the rules of the note"
    )
    title = f"{counted.total:,} parameters ({format_count(counted.total)}, {how})"
    rows = [
        (name.replace("_", " "), f"{count:,}", f"{count / counted.total:.2%}", bar(count / counted.total))
        for name, count in counted.by_component.items()
        if count
    ]
    yield from table(title, ("component", "parameters", "share", ""), rows)
    yield from _parts(inspection)
    if known:
        yield from _conventions(inspection)
    yield from _bytes(inspection)
    if known:
        yield from _one_token(inspection)
    yield from _stored(inspection)
    yield from _packing(inspection)
    yield from _fallbacks(inspection)
    if inspection.format != "peft":
        yield from _reconciliation(inspection.reconciliation)
    remote = inspection.checkpoint.remote
    if remote is not None:
        revision = f", commit {remote.revision}" if remote.revision else ""
        yield (
            f"read from afar: {remote.requests:,} requests, {remote.bytes_read:,} bytes"
            + (" (all of it lay in the shared cache)" if remote.cached else "")
            + revision
        )
    yield from (f"note: {printable(note)}" for note in inspection.notes)


def _parts(inspection: Inspection) -> Iterator[str]:
    """The parts of a pipeline: what each weighs, and what one pass of it costs."""
    flops = inspection.flops_by_part
    if flops is None:
        return
    total = inspection.parameters.total
    rows = [(name, f"{count:,}", f"{count / total:.2%}", f"{flops[name]:,}")
            for name, count in inspection.parameters.by_part.items()]  # fmt: skip
    heads = ("part", "parameters", "share", "FLOPs of one token or pass")
    yield from table(f"parts ({inspection.basis.value})", heads, rows, right=(1, 2, 3))


def _conventions(inspection: Inspection) -> Iterator[str]:
    texts = {
        "tied_per_use": "a tied head counted as if it were stored",
        "non_embedding": "without the tables of tokens, positions and types",
        "without_embedding_and_head": "without these tables and without the head",
        "active_per_token": "used by one token: routed experts that it skips are left out",
    }
    conventions = inspection.parameters.conventions
    rows = [(name, f"{conventions[name]:,}", text) for name, text in texts.items()]
    yield from table(
        f"by other conventions ({inspection.basis.value})",
        ("convention", "parameters", "what it counts"),
        rows,
        right=(1,),
    )
    layers = inspection.parameters.by_layer
    if len(set(layers)) == 1:
        yield from (f"each of {len(layers)} layers: {layers[0]:,} parameters", "")
    elif layers:
        yield from (f"{len(layers)} layers: {min(layers):,} to {max(layers):,} parameters each", "")


def _bytes(inspection: Inspection) -> Iterator[str]:
    basis = "specified block sizes" if inspection.basis is Basis.EXACT else inspection.basis.value
    sizes = inspection.bytes_for(SHOWN_RECIPES)
    total = max(1, inspection.parameters.total)
    rows = [(name, f"{size:,}", format_bytes(size), f"{size * 8 / total:.2f}") for name, size in sizes.items()]
    yield from table(f"bytes of the tensors at other encodings ({basis}; a file's header comes on top)",
                     ("encoding", "bytes", "for people", "bits/parameter"), rows, right=(1, 2, 3))  # fmt: skip


def _fallbacks(inspection: Inspection) -> Iterator[str]:
    replaced = [
        (name, f"{fallback.row:,}", fallback.meant, fallback.stored, f"{sum(fallback.tensors.values()):,}")
        for name, fallbacks in inspection.fallbacks_for(SHOWN_RECIPES).items()
        for fallback in fallbacks
    ]
    if replaced:
        yield from table("fallbacks: rows that are no whole number of blocks (specified by llama.cpp's quantizer)",
                         ("encoding", "row", "meant", "stored as", "tensors"), replaced, right=(1, 4))  # fmt: skip


def _one_token(inspection: Inspection) -> Iterator[str]:
    state, counted = inspection.state_json(), inspection.parameters
    per_token, growing = state["kv_bytes_per_token"], state["kv_bytes_per_token_global"]["bf16"]
    rows = [("parameters that it uses, of those that are held", f"{counted.active_per_token:,} of {counted.total:,}")]
    if any(per_token.values()):
        rows += [(f"KV cache, {name}", "not possible: rows are no whole blocks" if size is None else f"{size:,} B")
                 for name, size in per_token.items()]  # fmt: skip
    else:
        rows.append(("KV cache", "none: an encoder keeps no cache"))
    if growing != per_token["bf16"]:
        rows.append(("KV cache once the windows are full, bf16", f"{growing:,} B"))
    if state["bytes_at_context"]["bf16"]:
        rows.append((f"cache and state at a context of {inspection.context_tokens:,}, bf16",
                     format_bytes(state["bytes_at_context"]["bf16"])))  # fmt: skip
    if state["recurrent_bytes_per_sequence"]:
        rows.append(("recurrent state per sequence, bf16", f"{state['recurrent_bytes_per_sequence']:,} B"))
    where = (
        f"context {inspection.context_tokens:,}" if inspection.context_tokens else "without attention: see --context"
    )
    rows.append((f"FLOPs, forward ({where})", f"{inspection.flops_per_token:,}"))
    yield from table(f"for one token ({inspection.basis.value})", ("quantity", "value"), rows, right=(1,))


def _stored(inspection: Inspection) -> Iterator[str]:
    stored, checkpoint = inspection.stored, inspection.checkpoint
    if stored is None:
        return
    parts = sorted(stored.by_encoding.items(), key=lambda item: -item[1])
    counts = [(f"{name} elements", count) for name, count in parts]
    counts += [("buffers among them", stored.buffers), ("scales and the like of packed weights", stored.quantization),
               ("second names of tied storage", stored.tied)]  # fmt: skip
    rows = [(name, f"{count:,}", f"{count / stored.elements:.2%}") for name, count in counts if count]
    header = sum(file.header_bytes for file in checkpoint.files)
    padding = sum(file.padding_bytes for file in checkpoint.files)
    sizes = {"tensors": checkpoint.tensor_bytes, "header and metadata": header, "padding": padding,
             "all files": checkpoint.size_bytes}  # fmt: skip
    rows += [(name, f"{size:,} B", "") for name, size in sizes.items()]
    if inspection.parameters.total:
        rows.append(("bits a parameter", f"{checkpoint.tensor_bytes * 8 / inspection.parameters.total:.2f}", ""))
    files = f"{len(checkpoint.files)} file" + ("s" if len(checkpoint.files) != 1 else "")
    title = f"stored: {stored.elements:,} elements in {len(checkpoint.tensors):,} tensors, {files} (exact)"
    yield from table(title, ("what", "amount", "share"), rows)


def _packing(inspection: Inspection) -> Iterator[str]:
    """What is packed, and what scales and the like add to each weight."""
    found = inspection.packing
    if found is None:
        return
    bits = "" if found.weight_bits is None else f" of {found.weight_bits} bits"
    title = f"packed by {printable(found.method)}: {found.weights:,} weights{bits}"
    yield f"{title}, {found.bits_per_weight:.3f} bits each with all that belongs to them (exact)"
    beside = [f"{role.replace('_', ' ')} {bits:.4f}" for role, bits in found.overhead_bits_per_weight.items()]
    if beside:
        yield f"  beside each weight, in bits: {', '.join(beside)}"
    yield f"  kept as plain numbers: {inspection.unpacked_elements:,} parameters"
    yield ""


def _reconciliation(result: Reconciliation) -> Iterator[str]:
    if result.status is Status.NOT_APPLICABLE:
        yield f"reconciliation: not applicable ({printable(result.note)})"
        return
    agrees = result.status is Status.AGREES
    meaning = "header and description prove each other" if agrees else "they are not the same model"
    matched = f"{result.matched:,} tensors match by name and shape"
    yield f"reconciliation: {bold(result.status.value)} - {meaning}: {matched}"
    if result.inferred:
        yield f"  taken from the file itself, so not proved: {', '.join(result.inferred)}"
    if result.note:
        yield f"  {printable(result.note)}"
    yield from (f"  {printable(line)}" for line in _difference_lines(result.differences))


def _difference_lines(differences: Sequence[Difference]) -> Iterator[str]:
    """Differences of one kind and reason in one line, with how many there are and what they hold together."""
    groups: dict[tuple[bool, str, str], list[Difference]] = {}
    for difference in sorted(differences, key=lambda difference: difference.explained):
        note = difference.note if difference.explained else ""
        groups.setdefault((difference.explained, difference.kind, note), []).append(difference)
    for place, ((explained, kind, _), members) in enumerate(groups.items()):
        if place == MOST_KINDS_OF_DIFFERENCES:
            yield f"... and {len(groups) - place} more kinds; --json lists all"
            return
        elements = sum(difference.elements for difference in members)
        names = ", ".join(d.name for d in members[:2]) + (f" and {len(members) - 2} more" if len(members) > 2 else "")
        word = "explained" if explained else f"DIFFERENCE, {kind}"
        yield f"{word}: {elements:+,} elements in {names}: {members[0].note}"


def adapter_lines(found: Adapted) -> Iterator[str]:
    """What an adapter trains, and what it makes of its base."""
    adapter = found.adapter
    rows = [(name, f"{number:,}", f"{parameters:,}") for name, (number, parameters) in adapter.by_target().items()]
    rows += [(f"{name}, as a whole", "1", f"{tensor.elements:,}") for name, tensor in adapter.whole.items()]
    rows += [("learned prompt and the like", "", f"{adapter.others:,}")] if adapter.others else []
    ranks = ", ".join(map(str, adapter.ranks))
    title = f"adapter: {printable(adapter.method)}" + (f", rank {ranks}" if ranks else "") + " (exact)"
    yield from table(title, ("module", "how many", "parameters"), rows)
    if found.base is not None and found.trainable_share is not None:
        base = found.base.parameters.total
        yield f"base {printable(found.base.source)}: {base:,} parameters; trained: {found.trainable_share:.4%} of both"
        sizes = ", ".join(f"{format_bytes(size)} in {name}" for name, size in found.merged_bytes.items())
        yield f"merged: {found.merged_parameters:,} parameters, {sizes}"
    yield from _reconciliation(found.reconciliation)


def tensor_lines(inspection: Inspection) -> Iterator[str]:
    """Every tensor, a line each with tabs between: those of the file, or of the description where there is no file."""
    stored = inspection.stored is not None
    for tensor in inspection.tensors:
        shape = "x".join(str(size) for size in tensor.shape) or "scalar"
        cells = [printable(tensor.name), shape, str(tensor.elements)]
        cells += [tensor.encoding.name, str(tensor.size_bytes)] if stored else []
        found = what_it_is(tensor)
        if found["kind"] != "parameter":
            cells.append(": ".join(printable(word) for word in found.values() if word))
        if tensor.stands_for is not None:
            shape = "x".join(map(str, tensor.stands_for.shape))
            cells.append(f"stands for {printable(tensor.stands_for.name)} of {shape}")
        yield "\t".join([*cells, *([f"= {printable(tensor.tied_to)}"] if tensor.tied_to else [])])


def encoding_lines(encodings: Iterable[Encoding], mixes: Iterable[Recipe]) -> Iterator[str]:
    """The tables of `weigh encodings`."""
    rows = [(e.name, str(e.elements_per_block), str(e.bytes_per_block), f"{e.bits_per_weight:g}", ", ".join(e.aliases))
            for e in encodings]  # fmt: skip
    heads = ("name", "elements a block", "bytes a block", "bits a weight", "also spelled")
    yield from table("encodings (specified)", heads, rows, right=(1, 2, 3))
    kinds = [(r.name, r.kind, r.default.name) for r in mixes]
    yield from table("mixes", ("name", "kind", "mostly"), kinds, right=())


def family_lines(families: Iterable[Family]) -> Iterator[str]:
    """The table of `weigh families`."""
    rows = [(f.name, ", ".join(f.model_types), f.title) for f in families]
    yield from table("families", ("name", "model types", "models"), rows, right=())


def number(estimate: Estimate) -> str:
    """An estimate for people: whole where it is whole, a range where it is one, its basis where it is not exact.

    Example:
        >>> number(Estimate.exact(1_235_814_400, "parameters"))
        '1,235,814,400'
        >>> number(Estimate(1.5e9, 1e9, 2e9, "parameters", Basis.ASSUMED))
        '1B to 2B (assumed)'
        >>> number(Estimate(None, None, None, "parameters", Basis.ASSUMED, "not disclosed"))
        'unknown'
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "unknown"
    basis = "" if estimate.basis is Basis.EXACT else f" ({estimate.basis.value})"
    if estimate.low < estimate.high:
        return f"{format_count(round(estimate.low))} to {format_count(round(estimate.high))}{basis}"
    whole = isinstance(estimate.value, int) or estimate.value >= 1000
    return (f"{round(estimate.value):,}" if whole else f"{estimate.value:.3g}") + basis


def cell(content: Cell) -> str:
    """One cell of a comparison."""
    if isinstance(content.content, Estimate):
        return number(content.content)
    return "unknown" if content.content is None else content.content


def comparison_lines(found: SideBySide) -> Iterator[str]:
    """The table of `weigh compare`: quantities in rows, models in columns, and where each column comes from."""
    rows = [(row.name, *map(cell, row.cells)) for row in found.rows]
    yield from table("", ("", *found.titles), rows, right=tuple(range(1, len(found.titles) + 1)))
    yield "numbers without a word behind them are exact"
    for place, title in enumerate(found.titles):
        sources = dict.fromkeys(row.cells[place].source for row in found.rows if row.cells[place].is_known)
        shown = ", ".join(source for source in sources if source and source != found.sources[place])
        yield printable(f"{title}: {shown}") if shown else printable(f"{title}: counted in {found.sources[place]}")
    yield from (f"note: {printable(note)}" for note in found.notes)


def history_lines(points: Sequence[Point]) -> Iterator[str]:
    """The table of `weigh history`."""

    def times(growth: Estimate | None) -> str:
        if growth is None or growth.value is None or growth.low is None or growth.high is None:
            return ""
        if growth.low < growth.high:
            return f"{growth.low:,.4g} to {growth.high:,.4g}"
        return f"{growth.value:,.4g}"

    rows = [
        (point.released.isoformat(), point.model.title, point.model.developer, number(point.quoted),
         cell(point.parameters), times(point.growth), times(point.growth_from_first))
        for point in points
    ]  # fmt: skip
    heads = (
        "released",
        "model",
        "developer",
        "as quoted",
        "counted or known",
        "times the one before",
        "times the first",
    )
    yield from table("parameters over time", heads, rows, right=(3, 4, 5, 6))


def model_lines(models: Iterable[NamedModel]) -> Iterator[str]:
    """The table of `weigh models`."""
    rows = [
        (model.name, model.title, model.developer, model.released.isoformat() if model.released else "unknown",
         "shape" if model.config else "stated" if model.stated else "claims" if model.claims else "unknown",
         model.licence or ("unknown" if model.access == "open weights" else "closed"))
        for model in models
    ]  # fmt: skip
    yield from table("models", ("name", "title", "developer", "released", "size from", "licence"), rows, right=())


def design_lines(designs: Sequence[Design]) -> Iterator[str]:
    """The table of `weigh design`; a wiring that has no key for a column takes what its family does."""
    keys = {"layers": ("num_hidden_layers",), "width": ("hidden_size",), "heads": ("num_attention_heads",),
            "KV heads": ("num_key_value_heads",),
            "inner size": ("moe_intermediate_size", "intermediate_size", "n_inner")}  # fmt: skip

    def cells(config: Mapping[str, Any]) -> Iterator[str]:
        for names in keys.values():
            yield next((f"{config[name]:,}" for name in names if name in config), "as the family")

    rows = [(f"{d.total:,}", f"{d.deviation:+.2%}", *cells(d.config)) for d in designs]
    yield from table("shapes (exact)", ("parameters", "off by", *keys), rows, right=tuple(range(2 + len(keys))))


def layer_lines(layer: LayerCount) -> Iterator[str]:
    """One layer's count with its formula."""
    yield f"{bold(printable(layer.spec))}: {layer.parameters:,} parameters (exact)"
    yield f"  = {layer.formula}"
    rows = [(name, " x ".join(map(str, shape)) or "scalar") for name, shape in layer.tensors]
    if rows:
        yield ""
        yield from table("", ("tensor", "shape"), rows, right=())
    if layer.with_bias != layer.without_bias:
        yield f"with biases {layer.with_bias:,}, without {layer.without_bias:,}"
    if layer.buffers:
        yield f"beside them {layer.buffers:,} buffer elements, which are not parameters"
    if layer.active_per_token != layer.parameters:
        yield f"used by one token: {layer.active_per_token:,}"
    if layer.flops_per_token:
        yield f"one token: {layer.flops_per_token:,} FLOPs"
    yield layer.note
