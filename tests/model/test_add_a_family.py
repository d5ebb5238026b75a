"""The walk of `docs/how-to/add-a-family.md`, followed to the letter: its file is a family, its golden number holds."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.inspection import inspect
from weighbridge.model import families

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-family.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    (tmp_path / "toy.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    yield json.loads(block("json"))
    sys.modules.pop("weighbridge.model.families.toy", None)


def test_one_file_is_a_family(added: dict[str, Any]) -> None:
    (golden,) = added["models"]
    found = inspect(golden["config"])
    assert found.parameters.total == golden["total"] == 100 * 8 + 2 * (4 * 8 * 8 + 3 * 8 * 32 + 2 * 8) + 8
    assert found.to_json()["state"]["kv_bytes_per_token"]["bf16"] == golden["kv_bytes_per_token_bf16"]
    assert "toy" in {family.name for family in families.families()}
    assert inspect(golden["config"] | {"tie_word_embeddings": False}).parameters.total == golden["total"] + 800


def test_without_the_file_there_is_no_such_family() -> None:
    with pytest.raises(UnknownNameError):
        inspect({"model_type": "toy", "hidden_size": 8})
