"""Where did the bytes go? A bar of what was read, one of what it became, and one for each encoding, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.compress.shrink import Shrunk
from weighbridge.show import chart, shrinking
from weighbridge.show.chart import TOP, WIDTH, shortened, text, titled
from weighbridge.units import format_bytes

EDGE, LEFT, NUMBERS, ROW = 8, 150, 620, 26


@dataclass(frozen=True, slots=True)
class Held:
    """What an encoding holds in the result; `error` is the largest relative one."""

    encoding: str
    tensors: int
    size_bytes: int
    error: str


def held(found: Shrunk) -> list[Held]:
    """What each encoding holds, and then what is no tensor: the header, the vocabulary and padding."""
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    each = [Held(name, len(mine), sum(found.plan.encodings[one].size_bytes(shapes[one]) for one in mine),
                 shrinking.largest_error(found, mine))
            for name, mine in shrinking.by_encoding(found).items()]  # fmt: skip
    each.sort(key=lambda one: -one.size_bytes)
    rest = found.plan.size_bytes - sum(one.size_bytes for one in each)
    return [*each, Held("no tensor", 0, rest, "")] if rest > 0 else each


def svg(found: Shrunk, title: str) -> str:
    """The picture of the sizes before and after.

    Args:
        found: what was planned or written.
        title: stands above it.

    Returns:
        One SVG document.
    """
    size = found.plan.size_bytes
    before = ", ".join(dict.fromkeys(one.encoding.name for one in found.tensors))
    rows = [("before", "grey", found.input_bytes, f"{format_bytes(found.input_bytes)}, {before}", EDGE),
            ("after", "blue", size, f"{format_bytes(size)}, {size / found.input_bytes:.1%}", EDGE)]  # fmt: skip
    for one in held(found):
        count = f", {one.tensors:,} tensor{'s' * (one.tensors != 1)}" if one.tensors else ""
        rows.append((one.encoding, "blue", one.size_bytes, f"{format_bytes(one.size_bytes)}{count}", 3 * EDGE))
    most = max(found.input_bytes, size)
    drawn = [_row(row, most, TOP + ROW * place) for place, row in enumerate(rows)]
    caption = "The bars of encodings are parts of what is after; no tensor are header, vocabulary and padding."
    return chart.picture(title, caption, TOP + ROW * len(rows) + EDGE, drawn)


def _row(row: tuple[str, str, int, str, int], most: int, y: float) -> str:
    label, hue, size, said, start = row
    width = (NUMBERS - EDGE - LEFT) * size / most
    is_part = start > EDGE
    faint, low = (' fill-opacity="0.6"', 7) if is_part else ("", 4)
    bar = f'<rect class="w-f-{hue}"{faint} x="{LEFT}" y="{y + low:.1f}" width="{width:.1f}" height="{ROW - 2 * low}"/>'
    ink = "w-soft" if is_part else "w-ink"
    words = text(NUMBERS, y + 17, shortened(said, WIDTH - EDGE - NUMBERS), ink)
    return titled(
        f"{label}: {size:,} bytes, {said}", text(start, y + 17, shortened(label, LEFT - start), ink), bar, words
    )


def rows(found: Shrunk) -> Sequence[Sequence[str]]:
    """The same as the rows of a table: encoding, tensors, bytes, share, largest relative error."""
    size = found.plan.size_bytes
    return [(one.encoding, f"{one.tensors:,}", f"{one.size_bytes:,}", f"{one.size_bytes / size:.1%}", one.error)
            for one in held(found)]  # fmt: skip
