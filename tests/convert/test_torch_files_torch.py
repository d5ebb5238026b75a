"""PyTorch checkpoints to safetensors, against torch and the safetensors library's own way of saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weighbridge.convert.conversion import convert
from weighbridge.errors import ConfigError

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


def saved(place: Path, value: Any) -> Path:
    torch.save(value, place)
    return place


def bits(tensor: Any) -> Any:
    return tensor.contiguous().flatten().view(torch.uint8)


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether names, types, shapes and bits agree."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and ours[name].shape == theirs[name].shape
        and bits(ours[name]).equal(bits(theirs[name])) for name in ours
    )  # fmt: skip


def some(*shape: int, dtype: Any = None) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype or torch.float32)


def test_every_type_and_every_view_comes_out_as_torch_loads_it(tmp_path: Path) -> None:
    base = some(6, 8)
    state = {
        "plain": some(3, 5), "half": some(4, 4, dtype=torch.float16), "brain": some(2, 3, dtype=torch.bfloat16),
        "double": some(3, dtype=torch.float64), "eight": some(5, dtype=torch.float8_e4m3fn), "complex": some(3, 2) * 1j,
        "long": torch.arange(7), "bool": torch.tensor([True, False]), "byte": torch.arange(9, dtype=torch.uint8),
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "turned": some(5, 7).T, "rows": base[2:4],
        "columns": base[:, 1:3], "strided": base[::2], "cube": some(2, 3, 4).permute(2, 0, 1),
        "spread": some(1, 4).expand(3, 4), "nan": torch.tensor([float("nan"), -0.0, float("inf")]),
    }  # fmt: skip
    source = saved(tmp_path / "pytorch_model.bin", state)
    found = convert(source, tmp_path / "out")
    assert [file.name for file in found.files] == ["model.safetensors"] and found.dropped == {}
    ours = safetensors_torch.load_file(tmp_path / "out/model.safetensors")
    assert same(ours, torch.load(source, weights_only=True))
    theirs = safetensors_torch.save(
        {name: value.contiguous().clone() for name, value in state.items()}, {"format": "pt"}
    )
    assert (tmp_path / "out/model.safetensors").read_bytes() == theirs


def tied() -> Any:
    """A table, two heads that share its storage, and one that only has its values."""
    module = torch.nn.ModuleDict({"table": torch.nn.Embedding(10, 4)})
    for name in ("head", "again", "twin"):
        module[name] = torch.nn.Linear(4, 10, bias=False)
        module[name].weight = module["table"].weight
    module["twin"].weight = torch.nn.Parameter(module["table"].weight.detach().clone())
    return module


def test_one_name_of_a_storage_is_kept_as_save_model_keeps_it(tmp_path: Path) -> None:
    module = tied()
    source = saved(tmp_path / "m.pt", module.state_dict())
    found = convert(source, tmp_path / "ours.safetensors")
    safetensors_torch.save_model(module, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    ours, theirs = (safetensors_torch.load_file(tmp_path / f"{name}.safetensors") for name in ("ours", "theirs"))
    assert same(ours, theirs) and set(ours) == {"again.weight", "twin.weight"}
    assert found.dropped == {"head.weight": "again.weight", "table.weight": "again.weight"}
    words = [
        safetensors_torch.safe_open(tmp_path / f"{name}.safetensors", "pt").metadata() for name in ("ours", "theirs")
    ]
    assert words[0] == words[1]
    fresh = tied()
    safetensors_torch.load_model(fresh, tmp_path / "ours.safetensors")
    assert same(fresh.state_dict(), module.state_dict())


def test_views_that_only_look_alike_are_all_written(tmp_path: Path) -> None:
    base = some(4, 4)
    state = {"a": base, "b": base.T, "c": base.view(16), "d": base[:2]}
    source = saved(tmp_path / "m.pt", state)
    assert convert(source, tmp_path / "m.safetensors").dropped == {}
    assert same(safetensors_torch.load_file(tmp_path / "m.safetensors"), state)


def test_the_name_that_the_model_ties_is_the_one_left_out(tmp_path: Path) -> None:
    from tests.pages import small_llama

    import weighbridge

    (tmp_path / "m").mkdir()
    config = {**small_llama(), "tie_word_embeddings": True}
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    described = weighbridge.inspect(config).architecture
    assert described is not None
    state = {tensor.name: some(*tensor.shape) for tensor in described.tensors()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    saved(tmp_path / "m/pytorch_model.bin", state)
    found = convert(tmp_path / "m", tmp_path / "out", shard_bytes=100_000)
    assert found.dropped == {"lm_head.weight": "model.embed_tokens.weight"}
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["metadata"]["lm_head.weight"] == "model.embed_tokens.weight"
    assert (tmp_path / "out/config.json").exists()
    assert weighbridge.inspect(tmp_path / "out").parameters == weighbridge.inspect(tmp_path / "m").parameters


def test_shards_become_those_of_the_hubs_client(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    state = {f"layers.{number}.weight": some(number % 5 + 1, 8) for number in range(20)}
    for name in ("bins", "theirs"):
        (tmp_path / name).mkdir()
    hub.save_torch_state_dict(state, tmp_path / "bins", max_shard_size=400, safe_serialization=False)
    assert len(list((tmp_path / "bins").glob("pytorch_model-*.bin"))) > 3
    hub.save_torch_state_dict(state, tmp_path / "theirs", max_shard_size=300)
    convert(tmp_path / "bins", tmp_path / "ours", shard_bytes=300)
    theirs, ours = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("theirs", "ours")
    )
    assert ours == theirs


def test_what_is_no_tensor_is_told(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.pt", {"state_dict": {"w": some(2, 2)}, "epoch": 3, "lr": 0.1})
    found = convert(source, tmp_path / "m.safetensors")
    assert set(safetensors_torch.load_file(tmp_path / "m.safetensors")) == {"w"}
    assert "epoch, lr" in found.notes[0]


def test_a_type_that_safetensors_lacks_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.pt", {"w": torch.zeros(2, dtype=torch.complex128)})
    with pytest.raises(ConfigError, match="w holds complex128"):
        convert(source, tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]
