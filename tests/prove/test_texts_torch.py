"""Are real models scored as transformers itself scores them? The two decoders that the project trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main

pytestmark = pytest.mark.torch

DECODERS = Path(__file__).resolve().parents[2] / "examples" / "small_decoder"


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def prove(*words: str | Path) -> Any:
    return CliRunner().invoke(main, ["prove", *map(str, words)])


def test_perplexity_is_that_of_the_models_own_loss(transformers: Any) -> None:
    import torch

    done = prove(DECODERS / "large", DECODERS / "small", "--on", DECODERS / "held_out.jsonl", "--limit", "3",
                 "--window", "128", "--json")  # fmt: skip
    assert done.exit_code == 1, done.stderr
    found = {metric["name"]: metric for metric in json.loads(done.stdout)["metrics"]}
    for side, size in (("base", "large"), ("candidate", "small")):
        tokenizer = transformers.AutoTokenizer.from_pretrained(DECODERS / size)
        model = transformers.AutoModelForCausalLM.from_pretrained(DECODERS / size, dtype="auto").eval()
        total = count = 0.0
        for line in (DECODERS / "held_out.jsonl").read_text().splitlines()[:3]:
            tokens = tokenizer(json.loads(line)["text"])["input_ids"]
            for start in range(0, len(tokens), 127):
                part = torch.tensor([[tokenizer.bos_token_id, *tokens[start : start + 127]]])
                with torch.inference_mode():
                    logits = model(input_ids=part[:, :-1]).logits[0].float()
                    total += float(torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="sum"))
                count += part.shape[1] - 1
        assert found["perplexity"][side] == pytest.approx(math.exp(total / count), rel=1e-6)


def test_a_model_against_itself_is_exactly_the_same(transformers: Any) -> None:
    done = prove(DECODERS / "small", DECODERS / "small", "--on", DECODERS / "held_out.jsonl", "--limit", "2", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "equivalent" and found["settings"]["window"] == 256
    for metric in found["metrics"]:
        assert metric["delta"] == 0.0 and (metric["interval"] == [0.0, 0.0]) is (metric["name"] != "top1_agreement")
    assert prove(DECODERS / "small", DECODERS / "small", "--on", DECODERS / "held_out.jsonl", "--limit", "2",
                 "--metric", "kl_divergence", "--margin", "0.01").exit_code == 0  # fmt: skip


def test_the_smaller_model_is_worse_and_bad_folders_are_refused(transformers: Any, tmp_path: Path) -> None:
    text = prove(DECODERS / "large", DECODERS / "small", "--on", DECODERS / "held_out.jsonl", "--limit", "8").stdout
    assert text.startswith("WORSE: perplexity")
    for bad in (tmp_path, DECODERS / "small" / "config.json"):
        done = prove(bad, DECODERS / "small", "--on", DECODERS / "held_out.jsonl")
        assert done.exit_code == 2 and "Traceback" not in done.stderr
    done = prove(DECODERS / "small", DECODERS / "small", "--on", DECODERS / "held_out.jsonl", "--window", "300")
    assert done.exit_code == 2 and "256" in done.stderr
