"""Is a folder written in the format of compressed-tensors what other readers read, whole or not at all?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from weighbridge.compress import blocks, safetensors_folder, schemes
from weighbridge.compress.folder_source import FolderSource
from weighbridge.compress.quantization_config import quantization_config
from weighbridge.compress.safetensors_folder import size_of, write
from weighbridge.compress.schemes import QUANTIZED, Scheme, find
from weighbridge.errors import ConfigError, FormatError, SourceError

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 40,
         "tie_word_embeddings": False}  # fmt: skip
MAPS = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64), "mlp.gate_proj": (128, 64), "mlp.up_proj": (128, 64),
        "mlp.down_proj": (64, 128)}  # fmt: skip


def model(folder: Path, bad: float | None = None, **settings: Any) -> Path:
    """A folder with a small Llama of random weights, one matrix of zeros, and small files beside."""
    generator = np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (40, 64), "lm_head.weight": (40, 64), "model.norm.weight": (64,)}
    for layer in range(2):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in MAPS.items()}
        shapes |= {f"model.layers.{layer}.{name}.weight": (64,)
                   for name in ("input_layernorm", "post_attention_layernorm")}  # fmt: skip
    tensors = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    tensors["model.layers.0.self_attn.k_proj.weight"][:] = 0
    if bad is not None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = bad
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA | settings))
    (folder / "tokenizer.json").write_text("{}")
    modules = [{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": "mean"}')
    (folder / "pytorch_model.bin").write_bytes(b"other weights")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"other weights")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def mixed(source: FolderSource) -> dict[str, Scheme]:
    """Each scheme that fits somewhere, and a plain type for the table."""
    chosen = {"model.embed_tokens.weight": find("bf16"), "lm_head.weight": find("fp16")}
    for number, name in enumerate(sorted(source.linear_names)):
        shape = next(tensor.shape for tensor in source.tensors if tensor.name == name)
        fitting = [scheme for scheme in QUANTIZED if scheme.fits(shape)]
        chosen[name] = fitting[number % len(fitting)]
    return chosen


def weight_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_only_weights_of_linear_modules_are_found(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path / "a"))
    assert source.linear_names == {f"model.layers.{layer}.{name}.weight" for layer in range(2) for name in MAPS}
    assert not source.notes
    unknown = FolderSource(model(tmp_path / "b", model_type="unheard-of"))
    assert unknown.linear_names == frozenset() and "no family" in unknown.notes[0]
    gpt2 = tmp_path / "c"
    gpt2.mkdir()
    (gpt2 / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2,
                                                  "vocab_size": 20, "n_positions": 8}))  # fmt: skip
    names = {"wte.weight": (20, 16), "wpe.weight": (8, 16), "h.0.attn.c_attn.weight": (16, 48),
             "h.0.attn.c_proj.weight": (16, 16), "h.0.mlp.c_fc.weight": (16, 64)}  # fmt: skip
    save_file({name: np.ones(shape, np.float32) for name, shape in names.items()}, gpt2 / "model.safetensors")
    assert FolderSource(gpt2).linear_names == frozenset()  # Conv1D, stored (in, out)
    assert "no weight" in FolderSource(gpt2).notes[0]
    mixture: dict[str, Any] = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 2,
               "num_experts_per_tok": 1}  # fmt: skip
    unread = FolderSource(model(tmp_path / "d", **mixture))
    assert unread.linear_names == frozenset() and "of mixtral: they stay plain" in unread.notes[0]


def test_the_folder_is_what_was_asked_for_and_other_readers_read_it(tmp_path: Path) -> None:
    source, target = FolderSource(model(tmp_path / "a")), tmp_path / "b"
    chosen = mixed(source)
    written = write(source, target, chosen)
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == {
        "model.safetensors", "config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"}  # fmt: skip
    assert (target / "model.safetensors").stat().st_size == written.size_bytes == size_of(source, chosen)
    assert not list(tmp_path.glob("*.part*"))
    with safe_open(target / "model.safetensors", "np") as file, safe_open(source.paths[0], "np") as before:
        assert file.metadata() == {"format": "pt"}
        for tensor in source.tensors:
            exact = before.get_tensor(tensor.name).astype(np.float64)
            scheme = chosen.get(tensor.name, schemes.plain(tensor.encoding))
            if scheme.bits is None:
                name = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[scheme.name]
                assert file.get_slice(tensor.name).get_dtype() == name
                continue
            module = tensor.name.removesuffix("weight")
            stored = {part.name: file.get_slice(module + part.name) for part in scheme.parts(tensor.shape)}
            assert {name: tuple(found.get_shape()) for name, found in stored.items()} == {
                part.name: part.shape for part in scheme.parts(tensor.shape)}  # fmt: skip
            if scheme.is_packed:
                assert file.get_tensor(module + "weight_shape").tolist() == list(tensor.shape)
            whole = source.rows(tensor, 0, tensor.shape[0])
            found = schemes.decode(schemes.encode(whole, scheme), scheme, tensor.shape[1])
            error = np.square(found - exact).sum() / max(np.square(exact).sum(), 1e-300)
            assert written.errors[tensor.name] == pytest.approx(error, rel=1e-4, abs=1e-12)
    assert json.loads((target / "config.json").read_text())["hidden_size"] == 64


def test_every_scheme_alone_has_the_bytes_that_were_said(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path / "a"))
    for scheme in schemes.SCHEMES.values():
        chosen = {tensor.name: scheme for tensor in source.tensors
                  if tensor.name in source.linear_names and scheme.fits(tensor.shape)}  # fmt: skip
        written = write(source, tmp_path / scheme.name, chosen)
        files = weight_files(tmp_path / scheme.name)
        assert sum(map(len, files.values())) == written.size_bytes == size_of(source, chosen)
    assert size_of(source, {}) == (tmp_path / "fp32" / "model.safetensors").stat().st_size
    config = json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert "quantization_config" not in config


def test_parts_begin_where_their_elements_can_be_viewed(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path / "a"))
    write(source, tmp_path / "b", mixed(source))
    data = (tmp_path / "b" / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    size = {"I64": 8, "I32": 4, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}
    assert length % 8 == 0
    for name, entry in header.items():
        assert name == "__metadata__" or entry["data_offsets"][0] % size[entry["dtype"]] == 0


def test_shards_are_cut_and_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FolderSource(model(tmp_path / "a"))
    chosen = mixed(source)
    write(source, tmp_path / "b", chosen)
    monkeypatch.setattr(safetensors_folder, "SHARD_BYTES", 20_000)
    written = write(source, tmp_path / "c", chosen)
    files = weight_files(tmp_path / "c")
    index = json.loads((tmp_path / "c" / "model.safetensors.index.json").read_text())
    assert len(files) > 2 and set(index["weight_map"].values()) == set(files)
    assert sum(map(len, files.values())) == written.size_bytes == size_of(source, chosen)
    with safe_open(tmp_path / "b" / "model.safetensors", "np") as whole:
        assert set(whole.keys()) == set(index["weight_map"])
        for name, file in index["weight_map"].items():
            with safe_open(tmp_path / "c" / file, "np") as shard:
                one, other = whole.get_slice(name), shard.get_slice(name)
                assert (one.get_shape(), one.get_dtype()) == (other.get_shape(), other.get_dtype())
    write(source, tmp_path / "cut", {})
    again = FolderSource(tmp_path / "cut")
    assert len(again.paths) > 2 and again.linear_names == source.linear_names
    monkeypatch.setattr(safetensors_folder, "SHARD_BYTES", 5_000_000_000)
    write(again, tmp_path / "d", chosen)
    assert weight_files(tmp_path / "d") == weight_files(tmp_path / "b")


class KilledError(Exception):
    """In the place of a signal."""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path / "a"))
    chosen = mixed(source)
    write(source, tmp_path / "whole", chosen)
    expected = weight_files(tmp_path / "whole")
    target = tmp_path / "b"
    for stop in range(1, len(source.tensors) + 1, 3):

        def tell(name: str, done: int, of: int, stop: int = stop) -> None:
            if done == stop:
                raise KilledError

        with pytest.raises(KilledError):
            write(source, target, chosen, tell=tell)
        assert not target.exists()
        part = tmp_path / "b.part" / "model.safetensors"
        if stop % 2:  # a flipped bit in the last of the finished
            place = safetensors_folder._layout(source, chosen).places[source.tensors[stop - 1].name][0]
            data = bytearray(part.read_bytes())
            data[place.first] ^= 1
            part.write_bytes(data)
        found = write(source, target, chosen)
        assert weight_files(target) == expected and found.resumed == stop - stop % 2
        assert found.errors.keys() == {tensor.name for tensor in source.tensors}
        shutil.rmtree(target)


def test_what_was_left_by_another_run_is_replaced_and_what_is_foreign_is_kept(tmp_path: Path) -> None:
    source, target = FolderSource(model(tmp_path / "a")), tmp_path / "b"
    chosen = mixed(source)

    def tell(name: str, done: int, of: int) -> None:
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        write(source, target, chosen, tell=tell)
    assert write(source, target, {}).resumed == 0
    with pytest.raises(SourceError, match="holds something"):
        write(source, target, chosen)
    assert len(weight_files(target)) == 1
    (tmp_path / "c.part").mkdir()
    (tmp_path / "c.part" / "mine").write_text("kept")
    with pytest.raises(SourceError, match="no unfinished work"):
        write(source, tmp_path / "c", chosen)
    assert (tmp_path / "c.part" / "mine").exists()
    (tmp_path / "empty").mkdir()
    assert write(source, tmp_path / "empty", chosen).resumed == 0


def test_memory_and_jobs_do_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FolderSource(model(tmp_path / "a"))
    chosen = mixed(source)
    write(source, tmp_path / "b", chosen)
    monkeypatch.setattr(blocks, "LEAST_BLOCK_BYTES", 999)
    write(source, tmp_path / "c", chosen, memory_bytes=1, jobs=3)
    assert weight_files(tmp_path / "b") == weight_files(tmp_path / "c")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, bad: float) -> None:
    source = FolderSource(model(tmp_path / "a", bad=bad))
    with pytest.raises(ConfigError, match=r"layers\.1\.mlp\.up_proj\.weight: a weight is no finite number"):
        write(source, tmp_path / "b", mixed(source))
    assert not (tmp_path / "b").exists()


def test_a_target_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FolderSource(model(tmp_path / "a"))
    with pytest.raises(SourceError, match="bytes of room"):
        write(source, tmp_path / "none" / "b", {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SourceError, match="No space left"):
        write(source, tmp_path / "b", mixed(source))
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path / "a"))
    q_proj = "model.layers.0.self_attn.q_proj.weight"
    for name, scheme in ((q_proj, "int4-g128"), ("lm_head.weight", "int8"), ("none", "int8"),
                         ("model.norm.weight", "fp8")):  # fmt: skip
        with pytest.raises(ConfigError):
            size_of(source, {name: find(scheme)})
    with pytest.raises(ConfigError, match="too large for fp16"):
        write(FolderSource(model(tmp_path / "c", bad=1e6)), tmp_path / "d",
              {"model.layers.1.mlp.up_proj.weight": find("fp16")})  # fmt: skip
    written = write(source, tmp_path / "b", {q_proj: find("int8")})
    with pytest.raises(ConfigError, match="packed already"):
        FolderSource(written.path)
    for path in (tmp_path / "a" / "model.safetensors", tmp_path / "a" / "config.json"):
        with pytest.raises(ConfigError):
            FolderSource(path)
    with pytest.raises(SourceError):
        FolderSource(tmp_path / "nothing")
    taken = model(tmp_path / "e")
    tensors = {q_proj: np.ones((64, 64), np.float32), q_proj + "_scale": np.ones(64, np.float32)}
    save_file(tensors, taken / "model.safetensors")
    with pytest.raises(FormatError, match="weight_scale"):
        size_of(FolderSource(taken), {q_proj: find("int8")})


def test_single_elements_scalars_and_empty_tensors_are_written(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    tensors: dict[str, Any] = {"one": np.ones((1, 1), np.float32), "scalar": np.array(2, np.float32),
                               "index": np.arange(3), "empty": np.ones((0, 4), np.float32),
                               "cube": np.ones((2, 3, 4), np.float32)}  # fmt: skip
    save_file(tensors, folder / "model.safetensors")
    source = FolderSource(folder)
    write(source, tmp_path / "b", {name: find("bf16") for name in tensors if name != "index"})
    with safe_open(tmp_path / "b" / "model.safetensors", "np") as file:
        assert file.get_tensor("index").tolist() == [0, 1, 2]
        assert {name: file.get_slice(name).get_shape() for name in tensors} == {
            name: list(values.shape) for name, values in tensors.items()}  # fmt: skip


def test_the_configuration_names_each_module_once(tmp_path: Path) -> None:
    import re

    source = FolderSource(model(tmp_path / "a"))
    chosen = mixed(source)
    found = quantization_config(source, chosen)
    assert found["quant_method"] == "compressed-tensors" and found["quantization_status"] == "compressed"
    assert found["format"] == "mixed-precision" and "re:" + r"(?:.*\.)?lm_head" + "$" in found["ignore"]
    groups = list(found["config_groups"].values())
    for tensor in source.tensors:
        if len(tensor.shape) == 2:
            module = tensor.name.removesuffix(".weight")
            for name in (module, module.removeprefix("model."), "deeper." + module):
                hits = [group for group in groups if any(re.match(one[3:], name) for one in group["targets"])]
                is_ignored = any(re.match(one[3:], name) for one in found["ignore"])
                is_packed = chosen[tensor.name].bits is not None
                assert len(hits) == is_packed and is_ignored is not is_packed
                assert not hits or hits[0]["weights"]["num_bits"] == chosen[tensor.name].bits
    same = quantization_config(source, dict.fromkeys(source.linear_names, find("int8")))
    assert same["format"] == "pack-quantized" and len(same["config_groups"]["group_0"]["targets"]) == len(MAPS)
