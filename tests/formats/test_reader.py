"""Which of several files in a folder is the model, and is it said what was not read?"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.formats.test_peft import write_tensors
from tests.pickles import Writer

from weighbridge.errors import SourceError
from weighbridge.formats import reader

PLAIN = {"model.safetensors": (2, 3)}
"""Of each file the shape of its one tensor, so that what was read can be told."""


def fill(folder: Path, **shapes: tuple[int, ...]) -> Path:
    """A folder of safetensors and PyTorch files by their names; what has another ending is empty."""
    for name, shape in shapes.items():
        if name.endswith(".safetensors"):
            write_tensors(folder / name, {"w": list(shape)})
        elif name.endswith((".bin", ".pt", ".ckpt")):
            writer = Writer()
            file = writer.file({"state_dict": {"w": writer.tensor(shape)}})
            (folder / name).write_bytes(file.read(0, file.size))
        else:
            (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "others",
    [
        ["pytorch_model.bin"],
        ["consolidated.safetensors", "model.fp16.safetensors"],
        ["model.gguf", "model.onnx", "tf_model.h5"],
        ["flax_model.msgpack", "rust_model.ot"],
        ["optimizer.pt", "training_args.bin"],
    ],
)
def test_what_transformers_loads_is_read_and_what_lies_beside_it_is_told(tmp_path: Path, others: list[str]) -> None:
    found = reader.read(fill(tmp_path, **PLAIN, **dict.fromkeys(others, (5,)), **{"tokenizer.model": ()}))
    assert [tensor.shape for tensor in found.tensors] == [(2, 3)]
    assert found.notes == (f"beside it, and not read: {', '.join(others)}",)


def test_shards_of_the_usual_name_are_read_beside_another_model(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model-00001-of-00002.safetensors", {"a": [2]})
    write_tensors(tmp_path / "model-00002-of-00002.safetensors", {"b": [3]})
    write_tensors(tmp_path / "consolidated.safetensors", {"c": [4]})
    found = reader.read(tmp_path)
    assert {tensor.name for tensor in found.tensors} == {"a", "b"}
    assert found.notes == ("beside it, and not read: consolidated.safetensors",)


def test_nothing_beside_it_is_nothing_said(tmp_path: Path) -> None:
    assert reader.read(fill(tmp_path, **PLAIN, **{"README.md": (), "vocab.json": ()})).notes == ()


def test_two_models_of_other_names_are_not_chosen_from(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"several models: a\.safetensors, b\.safetensors.*name one of the files"):
        reader.read(fill(tmp_path, **{"a.safetensors": (1,), "b.safetensors": (2,)}))


def test_a_checkpoint_of_lightning_is_read_by_its_ending(tmp_path: Path) -> None:
    fill(tmp_path, **{"last.ckpt": (4,)})
    for source in (tmp_path, tmp_path / "last.ckpt"):
        found = reader.read(source)
        assert (found.format, [tensor.shape for tensor in found.tensors]) == ("torch", [(4,)])


def test_weights_in_a_folder_below_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"name the file itself, such as .*onnx/model\.onnx"):
        reader.read(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match=r"name one of the files, such as .*a\.gguf"):
        reader.read(tmp_path)
