"""Does transformers, with compressed-tensors, compute with a written folder what our own decoding says it holds?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden_models import family_files

from weighbridge.compress import schemes
from weighbridge.compress.folder_source import READ, FolderSource
from weighbridge.compress.safetensors_folder import write
from weighbridge.compress.schemes import QUANTIZED, Scheme, find

pytestmark = pytest.mark.torch
SYMMETRIC = [scheme for scheme in QUANTIZED if scheme.symmetric]
SMALL: dict[str, Any] = {"vocab_size": 50, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "max_position_embeddings": 32}  # fmt: skip


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("compressed_tensors")
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def saved(folder: Path, kind: str, **settings: Any) -> Any:
    """The class of a small model with random weights, and its folder."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.LlamaConfig if kind.startswith("Llama") else transformers.BertConfig
    made = getattr(transformers, kind)(config(**SMALL, **settings)).eval()
    made.to(getattr(torch, settings.get("dtype", "float32"))).save_pretrained(folder)
    return getattr(transformers, kind)


def same(torch: Any, kind: Any, source: FolderSource, chosen: dict[str, Scheme], target: Path, **given: Any) -> None:
    """Holds what the written folder computes against the source with the decoded weights in it."""
    write(source, target, chosen)
    loaded, expected = kind.from_pretrained(target, **given).eval(), kind.from_pretrained(source.path).eval()
    named = dict(expected.named_parameters())
    for tensor in source.tensors:
        if tensor.name in chosen:
            scheme, columns = chosen[tensor.name], tensor.shape[-1]
            rows = source.rows(tensor, 0, tensor.elements // columns)
            found = schemes.decode(schemes.encode(rows, scheme), scheme, columns)
            hits = [name for name in named if name == tensor.name or name.endswith("." + tensor.name)]
            named[hits[0]].data.copy_(torch.from_numpy(found))
    with torch.no_grad():
        one, other = (each(input_ids=torch.arange(20)[None])[0].float().numpy() for each in (loaded, expected))
    noise = 1e-6 if not given and named[hits[0]].dtype == torch.float32 else 0.02
    assert np.abs(one - other).max() <= noise * max(1.0, np.abs(other).max()), np.abs(one - other).max()


@pytest.mark.parametrize("scheme", SYMMETRIC, ids=lambda one: one.name)
def test_a_decoder_in_each_scheme(torch: Any, tmp_path: Path, scheme: Scheme) -> None:
    kind = saved(tmp_path / "a", "LlamaForCausalLM", num_key_value_heads=2, tie_word_embeddings=False)
    source = FolderSource(tmp_path / "a")
    same(torch, kind, source, dict.fromkeys(source.linear_names, scheme), tmp_path / "b")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_mixed_decoder_with_a_tied_head(torch: Any, tmp_path: Path, dtype: str) -> None:
    kind = saved(tmp_path / "a", "LlamaForCausalLM", tie_word_embeddings=True, dtype=dtype)
    source = FolderSource(tmp_path / "a")
    names = sorted(source.linear_names)[:-2]  # two stay as they are
    chosen = {name: SYMMETRIC[number % len(SYMMETRIC)] for number, name in enumerate(names)}
    same(torch, kind, source, chosen, tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["quantization_config"]["format"] == (
        "mixed-precision"
    )


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
def test_a_mixed_encoder(torch: Any, tmp_path: Path, kind: str) -> None:
    made = saved(tmp_path / "a", kind)
    source = FolderSource(tmp_path / "a")
    chosen = {name: SYMMETRIC[number % len(SYMMETRIC)] for number, name in enumerate(sorted(source.linear_names))}
    assert len(chosen) >= 12
    same(torch, made, source, chosen, tmp_path / "b")


def test_a_body_is_loaded_from_the_folder_of_a_model_with_a_head(torch: Any, tmp_path: Path) -> None:
    import transformers

    saved(tmp_path / "a", "BertForMaskedLM")
    source = FolderSource(tmp_path / "a")
    chosen = {name: find("int8") for name in source.linear_names if name.startswith("bert.encoder")}
    write(source, tmp_path / "b", chosen)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        whole = transformers.BertForMaskedLM.from_pretrained(tmp_path / "b").eval()(ids, output_hidden_states=True)
        body = transformers.BertModel.from_pretrained(tmp_path / "b", add_pooling_layer=False).eval()(ids)
    assert torch.equal(whole.hidden_states[-1], body.last_hidden_state)


@pytest.mark.parametrize("scheme", [one for one in QUANTIZED if not one.symmetric], ids=lambda one: one.name)
def test_zero_points_are_read_where_weights_are_dequantized(torch: Any, tmp_path: Path, scheme: Scheme) -> None:
    import transformers

    kind = saved(tmp_path / "a", "LlamaForCausalLM", num_key_value_heads=2)
    source = FolderSource(tmp_path / "a")
    given = {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)}
    same(torch, kind, source, dict.fromkeys(source.linear_names, scheme), tmp_path / "b", **given)


@pytest.mark.slow
def test_every_model_type_that_is_packed_is_read_back(torch: Any, tmp_path: Path) -> None:
    import transformers

    compressors = pytest.importorskip("compressed_tensors.compressors")
    (tmp_path / "packed").mkdir()
    scheme, left = find("int8"), set(READ)
    plain = [SMALL | {"model_type": name.lower(), "architectures": [f"{name}ForCausalLM"], "num_key_value_heads": 2}
             for name in ("Llama", "Mistral", "Qwen2")]  # fmt: skip
    shrunk = (case["config"] for golden in family_files().values() for case in golden.get("shrunk", ()))
    for config in (*plain, *shrunk):
        kind, name = getattr(transformers, config["architectures"][0]), config["model_type"]
        if name not in left:
            continue
        left.remove(name)
        settings = {key: value for key, value in config.items() if key != "model_type"}
        kind(kind.config_class(**settings)).save_pretrained(tmp_path / name)
        source = FolderSource(tmp_path / name)
        write(source, tmp_path / "packed" / name, dict.fromkeys(source.linear_names, scheme))
        modules = dict(kind.from_pretrained(tmp_path / "packed" / name).named_modules())
        packed = {path for path, module in modules.items() if hasattr(module, "quantization_scheme")}
        assert source.architecture is not None and len(packed) == len(source.linear_names) > 0, name
        for tensor in (tensor for tensor in source.tensors if tensor.name in source.linear_names):
            bare = tensor.name.removesuffix(".weight").removeprefix(source.architecture.base_prefix)
            (path,) = (path for path in packed if path == bare or path.endswith("." + bare))
            assert isinstance(modules[path], torch.nn.Linear)
            compressors.decompress_module(modules[path])
            rows = source.rows(tensor, 0, tensor.shape[0])
            found = schemes.decode(schemes.encode(rows, scheme), scheme, tensor.shape[1])
            assert np.array_equal(modules[path].weight.detach().float().numpy(), found), tensor.name
    assert not left
