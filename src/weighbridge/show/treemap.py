"""Where are a model's parameters? A treemap: areas in proportion to counts, grouped by component.

The layout is the squarified treemap (Bruls, Huizing, van Wijk 2000), which keeps rectangles near squares. The SVG has
no script and no outside reference, carries its own colours for light and dark, and names each part in a `title`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from weighbridge.errors import printable
from weighbridge.inspection import Inspection, is_parameter
from weighbridge.model.tensors import Kind
from weighbridge.units import format_count

WIDTH, HEIGHT, TITLE = 960, 560, 64

# One hue a component, after the Okabe-Ito palette, which colour-blind readers can tell apart; all light enough for the
# dark text on them (WCAG 2 contrast of 4.5 and more).
COLOURS = {
    "embedding": "#56b4e9", "attention": "#e69f00", "mlp": "#009e73", "experts": "#ef8a8a", "shared_experts": "#cc79a7",
    "router": "#f0e442", "norm": "#999999", "ssm": "#d55e00", "vision_audio": "#a6761d", "head": "#a9a4e6",
    "other": "#bbbbbb",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """One rectangle: a part of the model, its component and its parameters."""

    label: str
    component: str
    parameters: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on the page, in pixels."""

    x: float
    y: float
    width: float
    height: float


def tiles(inspection: Inspection) -> list[Tile]:
    """The parts to draw: like tensors of all layers together; without a description, the stored tensors' groups."""
    if inspection.architecture is None:
        return _stored_tiles(inspection)
    found: dict[tuple[str, str], int] = {}
    repeats: dict[tuple[str, str], int] = {}
    for group in inspection.architecture.groups:
        if group.weight.tied_to is None and group.weight.kind is Kind.PARAMETER and not group.mtp:
            key = group.weight.role.replace("_", " "), group.component.value
            found[key] = found.get(key, 0) + group.elements
            repeats[key] = max(repeats.get(key, 0), group.count)
    return [Tile(*key, count, f"{repeats[key]} tensors" if repeats[key] > 1 else "") for key, count in found.items()]


def _stored_tiles(inspection: Inspection, most: int = 40) -> list[Tile]:
    learned = [t for t in inspection.checkpoint.tensors if t.tied_to is None and is_parameter(t)]
    stored = sorted(learned, key=lambda tensor: -tensor.weights)
    shown = [Tile(tensor.name, "other", tensor.weights, tensor.encoding.name) for tensor in stored[:most]]
    rest = sum(tensor.weights for tensor in stored[most:])
    tiles_ = [*shown, Tile(f"{len(stored) - most} smaller tensors", "other", rest)] if rest else shown
    assert sum(tile.parameters for tile in tiles_) == inspection.parameters.total
    return tiles_


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """A box for each value, in order, with areas in proportion; values must be positive and descending.

    Example:
        >>> [round(b.width * b.height) for b in squarify([6, 3, 1], Box(0, 0, 100, 10))]
        [600, 300, 100]
    """
    boxes: list[Box] = []
    rest, area = list(values), box.width * box.height / sum(values) if values else 0.0
    while rest:
        short, count, best = min(box.width, box.height), 0, float("inf")
        if short * area <= 0:  # too thin to draw: what is left has no area on the page
            return [*boxes, *(Box(box.x, box.y, 0, 0) for _ in rest)]
        while count < len(rest):
            row = [value * area for value in rest[: count + 1]]
            worst = max(max(short**2 * v / sum(row) ** 2, sum(row) ** 2 / (short**2 * v)) for v in row)
            if worst > best:
                break
            best, count = worst, count + 1
        row = [value * area for value in rest[:count]]
        thick, along = sum(row) / short, 0.0
        for value in row:
            length = value / thick
            upright = box.width >= box.height
            boxes.append(
                Box(box.x, box.y + along, thick, length) if upright else Box(box.x + along, box.y, length, thick)
            )
            along += length
        upright = box.width >= box.height
        box = (Box(box.x + thick, box.y, max(box.width - thick, 0.0), box.height) if upright
               else Box(box.x, box.y + thick, box.width, max(box.height - thick, 0.0)))  # fmt: skip
        rest = rest[count:]
    return boxes


def svg(inspection: Inspection) -> str:
    """The treemap as one SVG document, readable on light and dark ground."""
    found = [tile for tile in tiles(inspection) if tile.parameters]
    total = sum(tile.parameters for tile in found)
    groups: dict[str, list[Tile]] = {}
    for tile in sorted(found, key=lambda tile: -tile.parameters):
        groups.setdefault(tile.component, []).append(tile)
    parts = sorted(groups.items(), key=lambda item: -sum(t.parameters for t in item[1]))
    frame = Box(0, TITLE, WIDTH, HEIGHT - TITLE)
    drawn = [
        _tile(tile, inner, total)
        for (_, members), outer in zip(
            parts, squarify([sum(t.parameters for t in m) for _, m in parts], frame), strict=True
        )
        for tile, inner in zip(members, squarify([t.parameters for t in members], outer), strict=True)
    ]
    name = inspection.architecture.family if inspection.architecture else "stored elements"
    heading = f"{format_count(total)} parameters by part ({total:,})"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 40}" role="img" '
        f'aria-label="{escape(heading)}" font-family="system-ui, sans-serif">',
        "<style>.w-ink{fill:#1a1a1a}.w-soft{fill:#555}.w-ground{fill:#fff}.w-tile{stroke:#fff}"
        "@media (prefers-color-scheme:dark){.w-ink{fill:#f2f2f2}.w-soft{fill:#b5b5b5}.w-ground{fill:#16181c}"
        ".w-tile{stroke:#16181c}}</style>",
        f'<rect class="w-ground" width="{WIDTH}" height="{HEIGHT + 40}"/>',
        f'<text class="w-ink" x="8" y="26" font-size="20" font-weight="600">{escape(heading)}</text>',
        f'<text class="w-soft" x="8" y="48" font-size="13">{escape(_caption(inspection, name))}</text>',
        *drawn,
        *_legend([component for component, _ in parts]),
        "</svg>",
    ])  # fmt: skip


def _caption(inspection: Inspection, family: str) -> str:
    name = printable(inspection.source.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    return f"{name} · family: {family} · areas are counts ({inspection.basis.value})"


def _tile(tile: Tile, box: Box, total: int) -> str:
    share = f"{tile.parameters / total:.1%}"
    label = printable(tile.label)
    lines = [label, f"{format_count(tile.parameters)} · {share}"]
    detail = f", {tile.detail}" if tile.detail else ""
    title = f"{label} ({tile.component}{detail}): {tile.parameters:,} = {share}"
    text = "".join(
        f'<text x="{box.x + 7:.1f}" y="{box.y + 20 + 17 * place:.1f}" font-size="13" fill="#111"'
        f"{' font-weight=' + chr(34) + '600' + chr(34) if place == 0 else ''}>{escape(line)}</text>"
        for place, line in enumerate(lines)
        if box.height > 26 + 17 * place and box.width > 14 + 7.4 * len(line)
    )
    return (f'<g><title>{escape(title)}</title><rect class="w-tile" x="{box.x:.2f}" y="{box.y:.2f}" '
            f'width="{box.width:.2f}" height="{box.height:.2f}" fill="{COLOURS[tile.component]}" stroke-width="2"/>'
            f"{text}</g>")  # fmt: skip


def _legend(components: Sequence[str]) -> list[str]:
    marks, x = [], 8.0
    for component in components:
        label = component.replace("_", " ")
        place, colour = f'x="{x:.0f}" y="{HEIGHT + 14}"', COLOURS[component]
        marks.append(f'<rect {place} width="14" height="14" fill="{colour}"/>')
        marks.append(f'<text class="w-ink" x="{x + 20:.0f}" y="{HEIGHT + 26}" font-size="13">{label}</text>')
        x += 44 + 7.2 * len(label)
    return marks
