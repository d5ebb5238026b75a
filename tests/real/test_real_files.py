"""Every real file is read, and holds what the list of real files says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.real.files import FILES, RealFile
from tests.real.test_real_models import find

from weighbridge.inspection import inspect

pytestmark = pytest.mark.real
HEAD_BYTES = 12_000_000
WHOLE_BYTES = 2_000_000_000


@pytest.mark.parametrize("listed", FILES, ids=lambda listed: f"{listed.package}/{listed.pattern}")
def test_a_real_file_holds_what_the_list_says(listed: RealFile, tmp_path: Path) -> None:
    path = find(listed.package, listed.pattern)
    if path.name == "part01.bin":
        whole = tmp_path / "whole.gguf"
        with path.open("rb") as part, whole.open("wb") as file:
            file.write(part.read(HEAD_BYTES))
            file.truncate(WHOLE_BYTES)
        path = whole
    found = inspect(path)
    assert found.stored is not None
    assert (found.format, found.stored.elements, found.parameters.total) == (
        listed.format, listed.stored, listed.parameters
    )  # fmt: skip
    assert found.stored.parameters == listed.parameters
