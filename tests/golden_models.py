"""Golden models: counts from elsewhere, in one table and in a file for each family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"


def family_files() -> dict[str, dict[str, Any]]:
    """The golden file of each family that has one, by the family's name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((FOLDER / "families").glob("*.json"))
    }


def models() -> list[dict[str, Any]]:
    """Every golden model: name, config, total, and what else is known of it."""
    rows = list(json.loads((FOLDER / "counts.json").read_text(encoding="utf-8"))["models"])
    for golden in family_files().values():
        rows += golden["models"]
    return rows
