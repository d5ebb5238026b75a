"""Does a folder of safetensors run through transformers, and is it held against a plan from torch's own kernels?"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.hardware import kernels

pytestmark = pytest.mark.torch

SHAPE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 8000}  # fmt: skip


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def measure(*words: str) -> Any:
    return CliRunner().invoke(main, ["measure", *words, "--repeat", "2", "--prompt", "64", "--output", "8"])


def test_a_folder_runs_and_is_compared(transformers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SHAPE))
    model.to(importlib.import_module("torch").bfloat16).save_pretrained(tmp_path / "model", max_shard_size="5MB")
    assert CliRunner().invoke(main, ["probe", "--quick", "--json"]).exit_code == 0
    kept = (tmp_path / "cache/weighbridge/here.toml").read_text()
    done = measure(str(tmp_path / "model"), "--save", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["runtime"] == "transformers"
    assert any("kernels timed" in note for note in found["notes"])
    assert 0.5 < found["memory"]["total_bytes"]["ratio"] < 1.5
    for name in ("prefill_tok_s", "decode_tok_s", "ttft_s", "tpot_s"):
        assert found["speed"][name]["measured"]["n"] == 2
        assert 1 / 5 < found["speed"][name]["ratio"] < 5, name  # a small model on a busy machine
    again = json.loads(measure(str(tmp_path / "model"), "--json").stdout)
    assert (tmp_path / "cache/weighbridge/here.toml").read_text() != kept
    before, after = (document["speed"]["tpot_s"]["predicted"]["value"] for document in (found, again))
    assert after == pytest.approx(before * found["speed"]["tpot_s"]["ratio"])


def test_what_transformers_does_not_run_is_refused(transformers: Any, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("weighbridge.hardware.probe.time_kernels", lambda: ({}, []))
    assert CliRunner().invoke(main, ["probe", "--quick", "--json"]).exit_code == 0
    shape = {**SHAPE, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    bert = {name: value for name, value in shape.items() if name != "num_key_value_heads"}
    transformers.BertModel(transformers.BertConfig(**bert)).save_pretrained(tmp_path / "bert")
    refused = measure(str(tmp_path / "bert"))
    assert refused.exit_code == 2 and "does not generate" in refused.stderr
    folder = tmp_path / "llama"
    transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**shape)).save_pretrained(folder)
    kept = measure(str(folder), "--save")
    assert kept.exit_code == 2 and "weigh probe" in kept.stderr
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert measure(str(folder)).exit_code == 0
    assert not (tmp_path / "ran").exists()


def test_kernels_are_timed(transformers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "is_installed", lambda runtime: runtime == "transformers")
    found, notes = kernels.time_kernels()
    timed = found["transformers"]
    assert len(notes) == 1 and "llama.cpp" in notes[0]
    assert set(timed.weight_ps) == set(timed.prompt_ps) == {"fp32", "fp16", "bf16"}
    assert 1 < timed.weight_ps["fp32"] < 5000
    assert 1e-5 < (timed.layer_s or 0) < 0.1
    assert 10e6 < (timed.process_bytes or 0) < 3e9
