"""No test asks a server outside this machine: names that look like those of a hub are looked for in an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

VARIABLES = (
    "HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN", "TRANSFORMERS_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HTTP_PROXY", "HTTPS_PROXY",
    "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _away_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(_home(tmp_path_factory)))
    yield


def _home(factory: pytest.TempPathFactory) -> Path:
    """One empty home of the hub for all tests."""
    return factory.getbasetemp() / "hf-home"


collect_ignore_glob = ["golden/formats/make_*.py"]
"""What made the golden files needs libraries that the tests do not have."""
