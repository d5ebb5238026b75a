"""Repositories of sentence-transformers: the transformer, and the dense layer that a reader of it alone leaves out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.formats.test_peft import write_tensors

from weighbridge.cli import main
from weighbridge.errors import ConfigError, SourceError, WeighbridgeError
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Weight

BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 20, "type_vocab_size": 2,
}  # fmt: skip
"""3,680 parameters with the pooler: `sum(p.numel() for p in BertModel(BertConfig(...)).parameters())`."""
KIND = "sentence_transformers.models."


def write(folder: Path, *modules: tuple[str, str]) -> Path:
    """A repository whose own folder holds the transformer; modules are pairs of a folder and a class."""
    described = {tensor.name: list(tensor.shape) for tensor in inspect(BERT).tensors}
    write_tensors(folder / "model.safetensors", described)
    (folder / "config.json").write_text(json.dumps(BERT))
    entries = [{"idx": n, "name": str(n), "path": path, "type": KIND + kind} for n, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(entries))
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    return folder


def write_dense(folder: Path, inputs: int = 16, outputs: int = 8, **more: Any) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"in_features": inputs, "out_features": outputs, "bias": True, **more})
    )
    shapes = {"linear.weight": [outputs, inputs], "linear.bias": [outputs]}
    write_tensors(folder / "model.safetensors", shapes | ({"residual.weight": [outputs, inputs]} if more else {}))


def test_modules_without_weights_leave_an_ordinary_model(tmp_path: Path) -> None:
    found = inspect(write(tmp_path, ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))
    assert (found.format, found.parameters.total) == ("safetensors", 3680)
    assert found.reconciliation.status is Status.AGREES
    assert any("modules without weights: Pooling, Normalize" in note for note in found.notes)


def test_a_packed_transformer_beside_a_dense_layer_is_read_in_its_own_folder(tmp_path: Path) -> None:
    """The shape of an NF4 weight lies in the file, which is in the repository's folder and in none of its name."""
    write_dense(tmp_path / "2_Dense")
    write(tmp_path, ("", "Transformer"), ("2_Dense", "Dense"))
    state = b'{"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [16, 32]}'
    parts = {
        "weight": ("U8", [256, 1]), "weight.absmax": ("F32", [8]), "weight.quant_map": ("F32", [16]),
        "weight.quant_state.bitsandbytes__nf4": ("U8", [len(state)]),
    }  # fmt: skip
    header, data = {}, b""
    for name, (dtype, shape) in parts.items():
        content = state if "state" in name else bytes(math.prod(shape) * (4 if dtype == "F32" else 1))
        offsets = [len(data), len(data) + len(content)]
        header["encoder.layer.0.output.dense." + name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    found = inspect(tmp_path)
    assert found.packing is not None and found.packing.weights == 512
    assert Weight("0_Transformer.encoder.layer.0.output.dense.weight", (16, 32)) in [
        tensor.stands_for for tensor in found.checkpoint.tensors
    ]


@pytest.mark.parametrize(("more", "dense"), [({}, 8 * 16 + 8), ({"use_residual": True}, 2 * 8 * 16 + 8)])
def test_a_dense_layer_is_counted_with_the_transformer(tmp_path: Path, more: dict[str, Any], dense: int) -> None:
    write_dense(tmp_path / "2_Dense", **more)
    found = inspect(write(tmp_path, ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")))
    assert found.format == "pipeline" and found.parameters.by_part == {"0_Transformer": 3680, "2_Dense": dense}
    assert found.parameters.total == 3680 + dense and found.reconciliation.status is Status.AGREES
    assert found.stored is not None and found.stored.parameters == 3680 + dense


def test_the_weights_of_every_module_are_read(tmp_path: Path) -> None:
    write_dense(tmp_path / "2_Dense")
    write(tmp_path, ("", "Transformer"), ("2_Dense", "Dense"))
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--values", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["values"]["elements_read"] == 3680 + 8 * 16 + 8


def test_another_module_with_weights_is_counted_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "2_LayerNorm").mkdir()
    write_tensors(tmp_path / "2_LayerNorm/model.safetensors", {"norm.weight": [16], "norm.bias": [16]})
    found = inspect(write(tmp_path, ("", "Transformer"), ("2_LayerNorm", "LayerNorm")))
    assert found.stored is not None and found.stored.parameters == 3680 + 32
    assert found.parameters.total == 3680 + 32


@pytest.mark.parametrize(
    "text", ["{}", "[]", "[1]", '[{"path": 3, "type": "a"}]', '[{"path": "a"}]', "[", '[{"path":"a","type":"b"}]' * 2]
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, ("", "Transformer"))
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(WeighbridgeError):
        inspect(tmp_path)


@pytest.mark.parametrize("path", ["../other", "/etc", "..", "a/../b", "a\\b", "C:"])
def test_a_module_never_leads_out_of_the_repository(tmp_path: Path, path: str) -> None:
    write(tmp_path, ("", "Transformer"))
    (tmp_path / "modules.json").write_text(json.dumps([{"path": path, "type": "x.Transformer"}]))
    with pytest.raises(WeighbridgeError, match="points outside its own folder"):
        inspect(tmp_path)


def test_a_folder_that_leads_to_itself_ends(tmp_path: Path) -> None:
    write(tmp_path, ("loop", "Transformer"))
    (tmp_path / "loop").rmdir()
    (tmp_path / "loop").symlink_to(".")
    assert inspect(tmp_path).parameters.total == 3680


def test_without_any_weights_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "1_Pooling", "type": "x.Pooling"}]))
    (tmp_path / "1_Pooling").mkdir()
    with pytest.raises(SourceError, match="no module with weights"):
        inspect(tmp_path)
    (tmp_path / "modules.json").write_text(
        json.dumps([{"path": "1_Pooling", "type": "x.Pooling"}, {"path": "1_Pooling", "type": "x.Dense"}])
    )
    with pytest.raises(ConfigError, match="names a folder twice"):
        inspect(tmp_path)


def test_a_folder_that_is_not_there_has_no_weights(tmp_path: Path) -> None:
    """Neither git nor an archive keeps the empty folder of a module without settings."""
    write(tmp_path, ("", "Transformer"), ("2_Normalize", "Normalize"))
    (tmp_path / "2_Normalize").rmdir()
    assert inspect(tmp_path).parameters.total == 3680
