"""The engine from files to numbers: headers and descriptions together, on files written here."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from tests.pickles import Writer

import weighbridge
from weighbridge.errors import ConfigError, FormatError, SourceError, UnknownNameError, WeighbridgeError
from weighbridge.formats import config as config_format
from weighbridge.formats import safetensors as safetensors_format
from weighbridge.formats.byte_source import MemoryFile
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import inspect
from weighbridge.model import families
from weighbridge.show import tables

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 50,
    "tie_word_embeddings": True, "attention_dropout": 0.1, "temperature": 0.7, "batch_size": 8,
}  # fmt: skip
# Embedding 50*32; a layer: queries and output 2*32*32, keys and values 2*32*16, feed-forward 3*32*64, norms 2*32.
LLAMA_TOTAL = 1600 + 2 * (2048 + 1024 + 6144 + 64) + 32


def weights(config: dict[str, Any], dtype: str = "float16") -> dict[str, np.ndarray[Any, Any]]:
    model = families.build(config_format.hyperparameters(config, "config.json"))
    return {t.name: np.ones(t.shape, dtype) for t in model.tensors() if t.tied_to is None}


def save(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], config: dict[str, Any] | None = LLAMA) -> Path:
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_folder_with_weights_and_config_agrees(tmp_path: Path) -> None:
    found = inspect(save(tmp_path, weights(LLAMA)))
    document = found.to_json()
    assert found.parameters.total == LLAMA_TOTAL == document["parameters"]["stored_elements"]
    assert document["format"] == "safetensors" and document["family"] == "llama"
    assert document["reconciliation"]["status"] == "agrees" and document["reconciliation"]["differences"] == []
    size = (tmp_path / "model.safetensors").stat().st_size
    assert document["bytes"]["stored"] == size == 2 * LLAMA_TOTAL + document["bytes"]["header"]
    assert document["bytes"]["by_encoding"]["bf16"] == document["bytes"]["tensors"] == 2 * LLAMA_TOTAL


Change = Callable[[dict[str, np.ndarray[Any, Any]]], object]


@pytest.mark.parametrize(
    ("change", "kind", "elements"),
    [
        (lambda t: t.pop("model.norm.weight"), "missing", -32),
        (lambda t: t.update({"model.norm.weight": np.ones((31,), "float16")}), "shape", -1),
        (lambda t: t.update({"model.layers.0.self_attn.q_norm.weight": np.ones((8,), "float16")}), "unexpected", 8),
        (lambda t: t.update({"model.layers.2.mlp.up_proj.weight": np.ones((64, 32), "float16")}), "unexpected", 2048),
    ],
)
def test_any_change_of_the_file_is_a_difference(tmp_path: Path, change: Change, kind: str, elements: int) -> None:
    tensors = weights(LLAMA)
    change(tensors)
    result = inspect(save(tmp_path, tensors)).reconciliation
    assert result.status is Status.DIFFERS
    assert [(d.kind, d.elements, d.explained) for d in result.differences] == [(kind, elements, False)]


def test_explained_differences_account_for_every_element(tmp_path: Path) -> None:
    tensors = weights(LLAMA)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones((4,), "float32")
    found = inspect(save(tmp_path, tensors))
    assert found.reconciliation.status is Status.AGREES
    assert {d.kind for d in found.reconciliation.differences} == {"tied_copy", "buffer"}
    assert found.stored is not None
    assert found.stored.elements - found.parameters.total == sum(d.elements for d in found.reconciliation.differences)


def test_a_body_saved_without_its_prefix_agrees_and_says_so(tmp_path: Path) -> None:
    tensors = {name.removeprefix("model."): array for name, array in weights(LLAMA).items()}
    result = inspect(save(tmp_path, tensors)).reconciliation
    assert result.status is Status.AGREES and "leaves the prefix 'model.' out" in result.note


def test_a_bare_file_counts_floating_point_elements_that_are_no_buffers(tmp_path: Path) -> None:
    tensors = {"conv.weight": np.ones((4, 3), "float32"), "bn.running_mean": np.ones((4,), "float32"),
               "bn.num_batches_tracked": np.ones((), "int64"), "stft.basis": np.ones((6, 1, 5), "float32")}  # fmt: skip
    document = inspect(save(tmp_path, tensors, None) / "model.safetensors").to_json()
    assert document["family"] is None and document["parameters"]["total"] == 12
    assert (document["parameters"]["stored_elements"], document["parameters"]["buffers"]) == (47, 35)
    assert document["parameters"]["active_per_token"] is None and document["flops"]["per_token_forward"] is None
    assert document["state"]["kv_bytes_per_token"] is None and "unknown" in document["state"]["note"]
    assert any("by rules of name, type and place" in note for note in document["notes"])


def test_a_config_of_another_model_beside_a_file_is_left_aside(tmp_path: Path) -> None:
    save(tmp_path, {"encoder.0.weight": np.ones((3, 3), "float32")})
    found = inspect(tmp_path / "model.safetensors")
    assert found.architecture is None and found.parameters.total == 9
    assert any("describes another model" in note for note in found.notes)
    assert inspect(tmp_path).reconciliation.status is Status.DIFFERS  # the folder was named as one model


def test_a_config_beside_a_file_without_tensors_is_left_aside(tmp_path: Path) -> None:
    save(tmp_path, {})
    file = Writer().file({"epoch": 3})
    (tmp_path / "training_args.bin").write_bytes(file.read(0, file.size))
    found = inspect(tmp_path / "training_args.bin")
    assert found.architecture is None and found.parameters.total == 0
    assert any("describes another model" in note for note in found.notes)


def test_settings_are_labelled_and_never_counted(tmp_path: Path) -> None:
    document = inspect(LLAMA).to_json()
    assert document["settings"]["hidden_size"] == "architecture"
    assert document["settings"]["attention_dropout"] == document["settings"]["batch_size"] == "training"
    assert document["settings"]["temperature"] == "inference"
    without = {k: v for k, v in LLAMA.items() if k not in ("attention_dropout", "temperature", "batch_size")}
    assert inspect(without).parameters == inspect(LLAMA).parameters


def write_gguf(path: Path, architecture: str = "llama", layers: int = 2, extra: bool = False) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_vocab_size(50)
    model = families.build(config_format.hyperparameters({**LLAMA, "num_hidden_layers": 2}, "config.json"))
    for tensor in (t for t in model.tensors("gguf") if t.tied_to is None):
        writer.add_tensor(tensor.name, np.ones(tensor.shape, "float32"))
    if extra:
        writer.add_tensor("rope_freqs.weight", np.ones((4,), "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_proves_its_own_description(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", extra=True)
    found = inspect(tmp_path / "a.gguf")
    assert found.parameters.total == LLAMA_TOTAL and found.parameters.tied_embeddings
    assert found.reconciliation.status is Status.AGREES
    assert [d.kind for d in found.reconciliation.differences] == ["buffer"]
    assert found.reconciliation.inferred == ("tie_embeddings",)
    document = found.to_json()
    assert document["bytes"]["stored"] == (tmp_path / "a.gguf").stat().st_size
    assert document["bytes"]["stored"] == sum(document["bytes"][part] for part in ("tensors", "header", "padding"))


def test_a_gguf_file_whose_metadata_lie_differs(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", layers=3)
    result = inspect(tmp_path / "a.gguf").reconciliation
    assert result.status is Status.DIFFERS and {d.kind for d in result.differences} == {"missing"}


def test_a_gguf_architecture_without_a_family_is_counted_by_its_header(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", architecture="plamo")
    found = inspect(tmp_path / "a.gguf")
    assert found.architecture is None and found.parameters.total == LLAMA_TOTAL
    assert any("plamo" in note and "llama" in note for note in found.notes)


def test_shards_and_index_through_the_folder(tmp_path: Path) -> None:
    tensors = weights(LLAMA)
    names = list(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, part in parts.items():
        safetensors.numpy.save_file({name: tensors[name] for name in part}, tmp_path / file)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    without_index = inspect(tmp_path)
    index = {"metadata": {"total_size": 0}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for source in (tmp_path, tmp_path / "model.safetensors.index.json", tmp_path / "model-00002-of-00002.safetensors"):
        found = inspect(source)
        assert found.parameters.total == LLAMA_TOTAL and found.reconciliation.status is Status.AGREES
        assert found.checkpoint.tensors == without_index.checkpoint.tensors
        assert len(found.checkpoint.files) == 2
    assert any("total_size 0" in note for note in inspect(tmp_path).notes)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model-00002-of-00002\.safetensors"):
        inspect(tmp_path)


def test_tied_heads_count_once_and_per_use() -> None:
    tied, untied = inspect(LLAMA).parameters, inspect({**LLAMA, "tie_word_embeddings": False}).parameters
    assert untied.total == tied.total + 1600 == tied.tied_per_use == untied.tied_per_use
    assert (tied.by_component["head"], untied.by_component["head"]) == (0, 1600)


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({**LLAMA, "model_type": "lama"}, UnknownNameError, "llama"),
        ({k: v for k, v in LLAMA.items() if k not in ("model_type", "architectures")}, ConfigError, "model_type"),
        ({k: v for k, v in LLAMA.items() if k != "hidden_size"}, ConfigError, "hidden_size"),
        ({**LLAMA, "hidden_size": -32}, ConfigError, "whole number"),
        ({**LLAMA, "hidden_size": "32"}, ConfigError, "whole number"),
        ({**LLAMA, "hidden_size": True}, ConfigError, "whole number"),
        ({**LLAMA, "hidden_size": 2**70}, ConfigError, "whole number"),
        ({**LLAMA, "hidden_size": 33}, ConfigError, "head_dim"),
        ({**LLAMA, "num_hidden_layers": 10**9}, ConfigError, "10,000"),
        ({**LLAMA, "num_key_value_heads": 3}, ConfigError, "key-value"),
        ({**LLAMA, "n_layer": 7}, ConfigError, "n_layer"),
        ({**LLAMA, "tie_word_embeddings": "yes"}, ConfigError, "true or false"),
        ({**LLAMA, "num_experts": 8}, ConfigError, "num_experts"),
        ({**LLAMA, "architectures": ["MyLlamaForCausalLM"]}, ConfigError, "MyLlamaForCausalLM"),
        ({**LLAMA, "architectures": ["LlamaForCausalLM", "LlamaModel"]}, ConfigError, "LlamaModel"),
        ({**LLAMA, "architectures": "LlamaForCausalLM"}, ConfigError, "list of class names"),
        ({"model_type": "mixtral", **{k: v for k, v in LLAMA.items() if k not in ("model_type", "architectures")},
          "num_local_experts": 2, "num_experts_per_tok": 3}, ConfigError, "3 of 2 experts"),
        ({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9, "add_cross_attention": True},
         ConfigError, "add_cross_attention"),
        ({"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9,
          "intermediate_size": 8, "position_embedding_type": "relative_key"}, ConfigError, "position_embedding_type"),
    ],
)  # fmt: skip
def test_what_is_not_described_is_refused(config: dict[str, Any], error: type[WeighbridgeError], words: str) -> None:
    """No count is better than a wrong one."""
    with pytest.raises(error, match=words) as caught:
        inspect(config)
    assert caught.value.exit_code == 2 and str(caught.value).endswith(".")


def test_a_missing_class_is_an_assumption_that_is_told() -> None:
    found = inspect({k: v for k, v in LLAMA.items() if k != "architectures"})
    assert found.parameters.total == LLAMA_TOTAL
    assert "no class is named; taken as a causal language model" in found.notes


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", b"", FormatError),
        ("config.json", b"[1]", ConfigError),
        ("config.json", b'{"a": 1', FormatError),
        ("model.xyz", b"", SourceError),
        ("model.gguf", b"", FormatError),
        ("model.safetensors", b"", FormatError),
        ("model.pt", b"", FormatError),
        ("pytorch_model.bin", pickle.dumps({"a": 1}), FormatError),
    ],
)
def test_files_that_are_nothing_are_refused(tmp_path: Path, name: str, content: bytes, error: type[Exception]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        inspect(tmp_path / name)


def test_folders_that_are_ambiguous_or_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no model"):
        inspect(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        safetensors.numpy.save_file({"w": np.ones(1)}, tmp_path / name)
    with pytest.raises(SourceError, match="several models"):
        inspect(tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        inspect(tmp_path / "nothing")


def test_a_state_dict_of_arrays_is_a_source() -> None:
    arrays = {"a.weight": np.ones((3, 4), "float32"), "a.running_mean": np.ones((3,), "float32")}
    found = inspect(arrays)
    assert (found.parameters.total, found.format) == (12, "torch")


def test_a_cache_whose_rows_are_no_whole_blocks_is_not_priced() -> None:
    """A row of 8 keys is no whole number of 32-element blocks: q8_0 cannot hold it, whatever the layers add up to."""
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 4, "n_head": 1, "vocab_size": 5}
    state = inspect(config).to_json()["state"]
    assert state["kv_bytes_per_token"] == {"bf16": 128, "fp8": 64, "q8_0": None} and "q8_0" in state["note"]


def test_what_gguf_files_leave_out_is_told() -> None:
    config = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64, "num_hidden_layers": 1,
              "num_attention_heads": 2, "vocab_size": 9, "intermediate_size": 64}  # fmt: skip
    assert any("leave 4,160 parameters out: pooler" in note for note in inspect(config).notes)
    assert not any("leave" in note for note in inspect(LLAMA).notes)


def test_the_library_door_draws_itself_in_a_notebook() -> None:
    found = weighbridge.inspect(LLAMA)
    assert found.parameters.total == inspect(LLAMA).parameters.total
    html = found._repr_html_()
    assert (
        "<svg" in html
        and f"{LLAMA_TOTAL:,}" in html
        and "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    )


def test_nothing_is_sent_anywhere(tmp_path: Path) -> None:
    """The command runs in a process whose sockets raise."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit(99)\n"
        "socket.socket = socket.create_connection = refuse\n"
        "from weighbridge.cli import main\n"
        f"main(['inspect', {str(tmp_path / 'config.json')!r}, '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["parameters"]["total"] == LLAMA_TOTAL


def test_each_tensor_says_how_it_counts() -> None:
    header = {
        "w.weight": {"dtype": "F16", "shape": [4, 4], "data_offsets": [0, 32]},
        "rope.inv_freq": {"dtype": "F32", "shape": [2], "data_offsets": [32, 40]},
        "q.qweight": {"dtype": "I32", "shape": [8, 64], "data_offsets": [40, 2088]},
        "q.qzeros": {"dtype": "I32", "shape": [2, 8], "data_offsets": [2088, 2152]},
        "q.scales": {"dtype": "F16", "shape": [2, 64], "data_offsets": [2152, 2408]},
        "steps": {"dtype": "I64", "shape": [1], "data_offsets": [2408, 2416]},
    }
    text = json.dumps(header).encode()
    file = MemoryFile("m.safetensors", len(text).to_bytes(8, "little") + text + bytes(2416))
    found = inspect(safetensors_format.read(file))
    told = {t["name"]: (t["kind"], t["what"], t["stands_for"]) for t in found.tensors_json()}
    assert told == {
        "w.weight": ("parameter", None, None),
        "rope.inv_freq": ("buffer", "rotary frequencies", None),
        "q.qweight": ("parameter", None, {"name": "q.weight", "shape": [64, 64]}),
        "q.qzeros": ("quantization", "zero point", None),
        "q.scales": ("quantization", "scale", None),
        "steps": ("buffer", "int64 numbers, which no gradient trains", None),
    }
    lines = "\n".join(tables.tensor_lines(found))
    assert "stands for q.weight of 64x64" in lines and "quantization: zero point" in lines
    assert found.parameters.total == 16 + 64 * 64
