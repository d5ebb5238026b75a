"""Are the names and shapes of diffusion's parts those of diffusers, which is no dependency and was asked beforehand?"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from tests.golden_models import FOLDER

from weighbridge.inspection import inspect

CASES = json.loads((FOLDER / "diffusers_shrunk.json").read_text(encoding="utf-8"))["shrunk"]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['config']['_class_name']}-{n}" for n, case in enumerate(CASES)])
def test_names_and_shapes_are_those_of_the_reference_class(case: dict[str, Any]) -> None:
    found = inspect(case["config"])
    lines = sorted(f"{t.name} {list(t.shape)}" for t in found.tensors if t.kind.value == "parameter")
    assert found.parameters.total == case["total"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == case["sha256"]
