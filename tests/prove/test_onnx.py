"""Are ONNX files of each kind run as their own arithmetic has it? Small graphs that are made here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weighbridge.errors import ConfigError, SourceError
from weighbridge.prove.engines import Opening, digest_of, open_model
from weighbridge.prove.engines.model import Model, TooLongError

onnx = pytest.importorskip("onnx")
helper = onnx.helper
WORDS = ["[UNK]", "[CLS]", "[SEP]", "a", "b", "c"]
TABLE = np.array([[0, 0], [1, 1], [2, 0], [3, 1], [0, 4], [1, 2]], dtype=np.float32)


def tokenizer(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])  # fmt: skip
    made.add_special_tokens(["[CLS]", "[SEP]"])
    made.save(str(folder / "tokenizer.json"))


def save(folder: Path, nodes: list[Any], weights: dict[str, Any], name: str, dims: list[Any], *inputs: str) -> Path:
    """A graph of `input_ids` (and other inputs that it does not use) with one output."""
    given = [helper.make_tensor_value_info(one, onnx.TensorProto.INT64, ["n", "t"]) for one in ("input_ids", *inputs)]
    output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
    held = [onnx.numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, "toy", given, [output], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def encoder(folder: Path, name: str = "last_hidden_state", *inputs: str) -> Path:
    return save(folder, [helper.make_node("Gather", ["table", "input_ids"], [name])], {"table": TABLE}, name,
                ["n", "t", 2], *inputs)  # fmt: skip


def opened(path: Path, **settings: Any) -> Model:
    return open_model(path, Opening(**settings))


def test_token_vectors_are_pooled_as_the_folder_says(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    path = encoder(tmp_path, "last_hidden_state", "attention_mask", "token_type_ids")
    rows = TABLE[[1, 3, 4, 2]]  # [CLS] a b [SEP]
    model = opened(path)
    assert model.embed(["a b"])[0] == pytest.approx(rows.mean(axis=0)) and "their mean is taken" in model.notes[0]
    (tmp_path / "1_Pooling").mkdir()
    for key, expected in (("cls_token", rows[0]), ("max_tokens", rows.max(axis=0)), ("lasttoken", rows[-1])):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{key}": True}))
        assert opened(path).embed(["a b"])[0] == pytest.approx(expected) and not opened(path).notes
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    with pytest.raises(ConfigError, match="weightedmean"):
        opened(path)
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ConfigError, match="Dense"):
        opened(path)


def test_a_long_text_is_cut_where_the_folder_says(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    model = opened(encoder(tmp_path))
    assert model.embed(["a b c c c"])[0] == pytest.approx(TABLE[[1, 3, 4, 2]].mean(axis=0))


def test_a_classifier_gives_the_probability_of_its_labels(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["each"]),
             helper.make_node("ReduceSum", ["each", "axis"], ["logits"], keepdims=0)]  # fmt: skip
    path = save(tmp_path, nodes, {"table": TABLE / 10, "axis": np.array([1])}, "logits", ["n", 2])
    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": {"0": "no", "1": "yes"}, "max_position_embeddings": 5})
    )
    model = opened(path)
    total = TABLE[[1, 3, 4, 2]].sum(axis=0) / 10
    expected = np.exp(total) / np.exp(total).sum()
    assert model.abilities == {"labels"}
    assert model.label_probabilities("a b") == pytest.approx({"no": expected[0], "yes": expected[1]})
    with pytest.raises(TooLongError):
        model.label_probabilities("a b c c")


def test_a_language_model_reads_and_writes(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    steps = np.full((6, 6), -20.0, dtype=np.float32)
    for here, there in ((3, 4), (4, 5), (5, 2)):  # a is followed by b, b by c, c by the end
        steps[here, there] = 0.0
    steps[3, 3] = -1.0
    path = save(tmp_path, [helper.make_node("Gather", ["table", "input_ids"], ["logits"])], {"table": steps}, "logits",
                ["n", "t", 6])  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2, "max_position_embeddings": 8}))
    model = opened(path)
    assert model.begin == 2 and model.write("a", 5, []) == " b c" and model.write("a", 1, []) == " b"
    found = model.likelihood("a", " b")
    assert found.total == pytest.approx(-math.log1p(math.exp(-1.0)), abs=1e-5) and found.is_greedy
    assert model.log_probabilities([3, 4, 5], 1).shape == (1, 6)


def test_a_tokenizer_of_elsewhere_is_said(tmp_path: Path) -> None:
    bare, other = tmp_path / "bare", tmp_path / "other"
    bare.mkdir()
    other.mkdir()
    path = encoder(bare)
    with pytest.raises(ConfigError, match="--tokenizer"):
        open_model(path)
    tokenizer(other)
    beside = open_model(path, None, other)
    assert any("no tokenizer beside it" in note for note in beside.notes) and beside.embed(["a"]).shape == (1, 2)
    asked = open_model(path, Opening(tokenizer=str(other)))
    assert not any("beside it" in note for note in asked.notes) and asked.digest == beside.digest


def test_files_that_are_no_text_model_are_refused(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    (tmp_path / "bad.onnx").write_bytes(b"not one")
    with pytest.raises(ConfigError, match="onnxruntime cannot load"):
        open_model(tmp_path / "bad.onnx")
    with pytest.raises(ConfigError, match="strange"):
        open_model(encoder(tmp_path, "strange"))
    with pytest.raises(ConfigError, match="past_key"):
        open_model(encoder(tmp_path, "last_hidden_state", "past_key"))
    for engine in ("transformers", "llama.cpp", "endpoint"):
        with pytest.raises(ConfigError, match="its engine, onnxruntime"):
            opened(tmp_path / "model.onnx", engine=engine)
    with pytest.raises(SourceError, match="does not exist"):
        open_model(tmp_path / "none.onnx")


def test_the_pooler_comes_last_and_the_folder_decides(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"]),
             helper.make_node("ReduceMax", ["last_hidden_state"], ["pooler_output"], axes=[1], keepdims=0)]  # fmt: skip
    path = save(tmp_path, nodes, {"table": TABLE}, "pooler_output", ["n", 2])
    assert opened(path).embed(["a b"])[0] == pytest.approx(TABLE[[1, 3, 4, 2]].max(axis=0))
    assert "pooler" in opened(path).notes[0]
    before = opened(path).digest
    whole = onnx.load(path)
    whole.graph.output.append(helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["n", "t", 2]))
    onnx.save(whole, path)
    assert opened(path).embed(["a b"])[0] == pytest.approx(TABLE[[1, 3, 4, 2]].mean(axis=0))
    found = opened(path).digest
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert len({before, found, opened(path).digest}) == 3  # what is made of the outputs is content, too


def test_settings_of_another_shape_are_refused(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    path = encoder(tmp_path)
    for name, text in (("config.json", "[]"), ("sentence_bert_config.json", "3"), ("modules.json", "{}")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            opened(path)
        (tmp_path / name).unlink()


def test_weights_beside_a_file_are_content(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"..location..")
    (tmp_path / "weights.bin").write_bytes(b"1")
    first = digest_of(path)
    (tmp_path / "weights.bin").write_bytes(b"2")
    assert digest_of(path) != first
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(b"x")
    first = digest_of(parts[0])
    parts[1].write_bytes(b"y")
    assert digest_of(parts[0]) != first
