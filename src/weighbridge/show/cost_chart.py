"""What does each tensor cost a smaller model, and in which encoding is it? Layers in rows, roles in columns.

The shade of a cell is its share of what all errors are expected to cost, and its label the encoding. Matrices outside
of layers, and all of them where names have no layers, are bars. Vectors stay as they are, and are not drawn.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.compress.sensitivity import SHARES, role_of
from weighbridge.compress.shrink import Shrunk
from weighbridge.errors import printable
from weighbridge.model.tensors import TensorSpec
from weighbridge.show import chart, shrinking
from weighbridge.show.chart import TOP, WIDTH, line, shortened, text, titled

LAYER = re.compile(r"(?:^|\.)(\d+)\.")
HUE = "orange"
SHADE = 0.55
"""Of the costliest cell, as an opacity: words on it stay legible."""
BARS, MOST_ROWS, MOST_COLUMNS = 24, 256, 20
"""Bars at most; a larger grid has no place for words, and becomes bars."""
EDGE, NAMES, NUMBERS, ROW = 8, 262, 700, 22
CELL, LOW_CELL, MANY_ROWS = 20, 16, 40
"""Heights of cells, and from how many rows on they are low."""
SMALL = 11
"""Of words in cells, in pixels."""
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """The tensors of one place and what they cost together: a share of all costs, None where costs are not known."""

    tensors: tuple[str, ...]
    encodings: tuple[str, ...]
    share: float | None
    error: str

    @property
    def label(self) -> str:
        """The encoding of most, and how many others there are."""
        counted = Counter(self.encodings).most_common()
        return counted[0][0] + (f" +{len(counted) - 1}" if len(counted) > 1 else "")

    @property
    def title(self) -> str:
        """The words that appear when a pointer rests on it."""
        count = len(self.tensors)
        name = self.tensors[0] if count == 1 else f"{count:,} tensors, {self.tensors[0]} among them"
        held = ", ".join(f"{many:,} in {one}" if count > 1 else one
                         for one, many in Counter(self.encodings).most_common())  # fmt: skip
        error = f", relative error {'at most ' if count > 1 else ''}{self.error}" if self.error else ""
        return f"{name}: {held}{error}" + ("" if self.share is None else f", {self.share:.2%} of all costs")


def shares(found: Shrunk) -> dict[str, float]:
    """What each tensor costs of all costs; empty where they are not known."""
    whole = found.plan.loss
    return {name: loss / whole for name, loss in found.plan.losses.items()} if whole else {}


def place_of(tensor: TensorSpec) -> Place | None:
    """The layer and the role of a tensor; None where its name has no layer.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> place_of(TensorSpec("blk.3.attn_q.weight", (8, 8), find("fp16")))
        ('blk.3', 'attention_q')
        >>> place_of(TensorSpec("stages.0.layers.12.conv.weight", (8, 8), find("fp16")))
        ('stages.0', 'layers.*.conv')
    """
    found = LAYER.search(tensor.name)
    if found is None:
        return None
    rest = re.sub(r"(?<![^.])\d+(?![^.])", "*", tensor.name[found.end() :].removesuffix(".weight"))
    return tensor.name[: found.end() - 1], role_of(tensor) or rest


def svg(found: Shrunk, title: str) -> str:
    """The picture of what each matrix costs.

    Args:
        found: what was planned or written.
        title: stands above it.

    Returns:
        One SVG document.
    """
    matrices = [tensor for tensor in found.tensors if len(tensor.shape) > 1]
    known, cells = shares(found), dict[Place, list[str]]()
    for tensor in matrices:
        place = place_of(tensor)
        if place is not None:
            cells.setdefault(place, []).append(tensor.name)
    layers, roles = _rows(list(cells)), _columns(list(cells))
    has_grid = 0 < len(layers) <= MOST_ROWS and len(roles) <= MOST_COLUMNS
    outside = [one.name for one in matrices if not has_grid or place_of(one) is None]
    outside.sort(key=lambda name: -known.get(name, 0.0))
    bars = [(shortened(printable(name), NAMES - 4 * EDGE), _cell(found, known, [name])) for name in outside[:BARS]]
    if has_grid:
        inside = [name for some in cells.values() for name in some]
        bars.append((f"{len(layers):,} layer{'s' * (len(layers) > 1)}", _cell(found, known, inside)))
    drawn, y = _bars(bars, TOP + 6.0)
    if rest := outside[BARS:]:
        others = _cell(found, known, rest)
        said = f"and {len(rest):,} others" + ("" if others.share is None else f", {others.share:.1%} together")
        drawn.append(titled(others.title, text(EDGE, y + 15, said, "w-soft")))
        y += ROW
    if has_grid:
        grid = {place: _cell(found, known, names) for place, names in cells.items()}
        more, y = _grid(grid, layers, roles, y + 34)
        drawn += more
    if not matrices:
        drawn, y = [text(EDGE, TOP + 12, "nothing to draw: there is no matrix")], TOP + 30.0
    caption = "Shares of what all errors are expected to cost, after the choice. Vectors stay as they are."
    if not known:
        caption = "What errors cost is not known here: encodings only. Vectors stay as they are."
    return chart.picture(title, caption, y + 6, drawn)


def _cell(found: Shrunk, known: dict[str, float], names: Sequence[str]) -> Cell:
    encodings = tuple(found.plan.encodings[name].name for name in names)
    share = sum(known.get(name, 0.0) for name in names) if known else None
    return Cell(tuple(names), encodings, share, shrinking.largest_error(found, names))


def _rows(places: Sequence[Place]) -> list[str]:
    """Layers in their order, those of one stack together."""
    stacks = list(dict.fromkeys(layer.rpartition(".")[0] for layer, _ in places))
    return sorted({layer for layer, _ in places},
                  key=lambda one: (stacks.index(one.rpartition(".")[0]), int(one.rpartition(".")[2])))  # fmt: skip


def _columns(places: Sequence[Place]) -> list[str]:
    """Roles in the order in which a layer has them, others behind."""
    known = list(SHARES)
    found = list(dict.fromkeys(role for _, role in places))
    return sorted(found, key=lambda one: known.index(one) if one in known else len(known) + found.index(one))


def _bars(named: Sequence[tuple[str, Cell]], y: float) -> tuple[list[str], float]:
    """A bar for each, and where they end."""
    most = max((one.share or 0.0 for _, one in named), default=0.0) or 1.0
    drawn = []
    for label, one in named:
        width = (NUMBERS - EDGE - NAMES) * (one.share or 0.0) / most
        said = one.label if one.share is None else f"{one.share:.1%}, {one.label}"
        bar = f'<rect class="w-f-{HUE}" x="{NAMES}" y="{y + 4:.1f}" width="{width:.1f}" height="{ROW - 8}"/>'
        drawn.append(titled(one.title, text(EDGE, y + 15, label), bar, text(NUMBERS, y + 15, said, "w-soft")))
        y += ROW
    return drawn, y


def _grid(
    cells: dict[Place, Cell], layers: Sequence[str], roles: Sequence[str], y: float
) -> tuple[list[str], float]:  # fmt: skip
    """The cells with their heads and a scale of shades, and where they end."""
    stacks = {layer.rpartition(".")[0] for layer in layers}
    labels = {layer: layer if len(stacks) > 1 else layer.rpartition(".")[2] for layer in layers}
    left = EDGE + min(160.0, 12 + max(44.0, chart.LETTER * max(map(len, labels.values()))))
    height, width = LOW_CELL if len(layers) >= MANY_ROWS else CELL, (WIDTH - EDGE - left) / len(roles)
    most = max((one.share or 0.0 for one in cells.values()), default=0.0)
    drawn = _scale(most, y) if most else []
    y += 48
    drawn.append(text(left - 10, y, "layer", "w-soft", "end", SMALL))
    for number, role in enumerate(roles):
        first, _, rest = printable(role).replace("_", " ").partition(" ")
        words = [_fitting(part, width) for part in ((first, rest) if rest else ("", first))]
        x = left + width * (number + 0.5)
        drawn.append(titled(role, *(text(x, y - 13 * (1 - at), one, "w-soft", "middle", SMALL)
                                    for at, one in enumerate(words) if one)))  # fmt: skip
    y += 8
    for row, layer in enumerate(layers):
        top = y + row * height
        name = shortened(printable(labels[layer]), left - EDGE - 10)
        drawn.append(text(left - 10, top + height / 2 + 4, name, "w-soft", "end", SMALL))
        for number, role in enumerate(roles):
            one = cells.get((layer, role))
            if one is not None:
                drawn.append(_box(one, left + width * number, top, width, height, most))
    return drawn, y + len(layers) * height


def _box(one: Cell, x: float, y: float, width: float, height: float, most: float) -> str:
    opacity = SHADE * (one.share or 0.0) / most if most else 0.0
    box = (f'<rect class="w-f-{HUE}" fill-opacity="{opacity:.3f}" x="{x + 1:.1f}" y="{y + 1:.1f}" '
           f'width="{width - 2:.1f}" height="{height - 2:.1f}"/>')  # fmt: skip
    frame = line(x + 1, y + height, x + width - 1, y + height, "w-line")
    label = _fitting(one.label, width)
    return titled(one.title, box, frame, text(x + width / 2, y + height / 2 + 4, label, "w-ink", "middle", SMALL))


def _scale(most: float, y: float) -> list[str]:
    """Shades from nothing to the costliest cell."""
    drawn = [text(EDGE, y + 11, "one cell costs", "w-ink"), text(112, y + 11, "0", "w-soft", "end")]
    for step in range(6):
        box = f'x="{118 + 22 * step}" y="{y:.1f}" width="20" height="14"'
        drawn.append(f'<rect class="w-f-{HUE}" fill-opacity="{SHADE * step / 5:.3f}" {box}/>')
    drawn.append(text(256, y + 11, f"{most:.2%} of all costs", "w-soft"))
    return drawn


def _fitting(words: str, width: float) -> str:
    """What of small words fits into a cell."""
    return shortened(words, (width - 2) * 13 / SMALL)
