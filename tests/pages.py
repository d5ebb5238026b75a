"""The pages of the documentation, as the tests read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

DEMO = re.compile(r"<!-- demo output -->.*?<!-- end demo output -->", re.DOTALL)
GENERATED = re.compile(r"<!-- (generated|fitted): .*?<!-- end \1 -->", re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def own_text(path: Path) -> str:
    """A page without the output that the demonstration printed: `make demo` checks that itself."""
    return DEMO.sub("", path.read_text(encoding="utf-8"))


def blocks(path: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(own_text(path)) if name == language]


def pages_with(language: str) -> list[Any]:
    return [pytest.param(path, id=page_name(path)) for path in PAGES if blocks(path, language)]


def in_code(name: str, text: str) -> bool:
    return f"`{name}`" in text


def small_llama() -> dict[str, Any]:
    """The configuration that the tutorial writes."""
    config: dict[str, Any] = json.loads(blocks(DOCS / "tutorial/first-weighing.md", "json")[0])
    return config
