"""The treemap: areas in proportion, nothing outside the frame, readable without a script."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.formats import safetensors
from weighbridge.formats.byte_source import MemoryFile
from weighbridge.inspection import inspect
from weighbridge.show import tables, treemap
from weighbridge.show.treemap import Box

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "counts.json").read_text())["models"]
SVG = "{http://www.w3.org/2000/svg}"


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30), st.integers(10, 2000), st.integers(10, 2000))
def test_areas_are_in_proportion_and_fill_the_box(values: list[int], width: int, height: int) -> None:
    values = sorted(values, reverse=True)
    boxes = treemap.squarify(values, Box(3, 5, width, height))
    for value, box in zip(values, boxes, strict=True):
        assert box.width * box.height == pytest.approx(value / sum(values) * width * height, rel=1e-6)
        slack = 1e-4 * (width + height)  # far below a pixel: values a hundred billion times apart cost digits
        assert box.x >= 3 - slack and box.x + box.width <= 3 + width + slack
        assert box.y >= 5 - slack and box.y + box.height <= 5 + height + slack
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            overlap = max(0, min(a.x + a.width, b.x + b.width) - max(a.x, b.x)) * max(
                0, min(a.y + a.height, b.y + b.height) - max(a.y, b.y))  # fmt: skip
            assert overlap <= 1e-4 * width * height


@pytest.mark.parametrize("row", GOLDEN[::3], ids=lambda row: str(row["name"]))
def test_the_picture_adds_up_to_the_model(row: dict[str, object]) -> None:
    found = inspect(row["config"])  # type: ignore[arg-type]
    root = ET.fromstring(treemap.svg(found))
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    counts = re.findall(r": ([\d,]+) =", "\n".join(titles))
    assert sum(int(count.replace(",", "")) for count in counts) == row["total"] and len(counts) == len(titles)
    assert {tile.component for tile in treemap.tiles(found)} <= set(treemap.COLOURS)
    assert "prefers-color-scheme:dark" in treemap.svg(found) and "<script" not in treemap.svg(found)


def test_packed_weights_have_the_area_of_what_they_stand_for() -> None:
    header = {
        "plain": {"dtype": "F16", "shape": [64, 32], "data_offsets": [0, 4096]},
        "q.qweight": {"dtype": "I32", "shape": [8, 64], "data_offsets": [4096, 6144]},
        "q.qzeros": {"dtype": "I32", "shape": [2, 8], "data_offsets": [6144, 6208]},
        "q.scales": {"dtype": "F16", "shape": [2, 64], "data_offsets": [6208, 6464]},
    }
    text = json.dumps(header).encode()
    file = MemoryFile("m.safetensors", len(text).to_bytes(8, "little") + text + bytes(6464))
    found = treemap.tiles(inspect(safetensors.read(file)))
    assert [(tile.label, tile.parameters) for tile in found] == [("q.qweight", 4096), ("plain", 2048)]


def test_every_component_has_a_colour() -> None:
    assert set(treemap.COLOURS) == set(inspect(GOLDEN[0]["config"]).parameters.by_component)
    assert len(set(treemap.COLOURS.values())) == len(treemap.COLOURS)


def test_text_on_every_tile_has_enough_contrast() -> None:
    """The contrast ratio of WCAG 2 between the text and each ground is at least 4.5."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert all((luminance(ground) + 0.05) / (luminance("#111111") + 0.05) >= 4.5 for ground in treemap.COLOURS.values())


@given(st.floats(0, 1))
def test_bars_grow_with_the_share(share: float) -> None:
    assert len(tables.bar(share)) <= tables.BAR
    assert len(tables.bar(share)) >= len(tables.bar(share / 2))
