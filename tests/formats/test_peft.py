"""Adapters as PEFT writes them: what they train is what PEFT says, and they are held against their base."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from weighbridge.adapted import adapted
from weighbridge.cli import main
from weighbridge.errors import ConfigError, FormatError, SourceError
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import inspect

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/formats/peft.json").read_text(encoding="utf-8"))


def write_tensors(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of fp32 zeros."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def write_adapter(folder: Path, name: str, **changes: Any) -> Path:
    golden = GOLDEN["adapters"][name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(golden["config"] | changes))
    write_tensors(folder / "adapter_model.safetensors", golden["tensors"])
    return folder


def write_base(folder: Path, name: str = "llama", **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(GOLDEN["bases"][name] | changes))
    return folder


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["inspect", *arguments])


@pytest.mark.parametrize("name", GOLDEN["adapters"])
def test_what_an_adapter_trains_is_what_peft_says(tmp_path: Path, name: str) -> None:
    golden = GOLDEN["adapters"][name]
    found = inspect(write_adapter(tmp_path / "adapter", name))
    assert found.format == "peft" and found.parameters.total == golden["trainable"]
    base = inspect(write_base(tmp_path / "base", golden["base"]))
    held = adapted(found, base)
    assert (
        held.adapter.parameters == golden["trainable"] and held.adapter.method == golden["config"]["peft_type"].lower()
    )
    expected = Status.NOT_APPLICABLE if name in ("prompt", "prefix") else Status.AGREES
    assert held.reconciliation.status is expected, held.reconciliation.differences
    assert held.merged_parameters == base.parameters.total


def test_the_document_of_an_adapter_and_its_base(tmp_path: Path) -> None:
    adapter, base = write_adapter(tmp_path / "a", "lora"), write_base(tmp_path / "b")
    document = json.loads(weigh(str(adapter), "--base", str(base), "--json").stdout)
    assert document["format"] == "peft" and document["parameters"]["total"] == 896
    found = document["adapter"]
    assert found["by_target"] == {"q_proj": {"modules": 2, "parameters": 512},
                                  "v_proj": {"modules": 2, "parameters": 384}}  # fmt: skip
    assert (found["ranks"], found["alpha"], found["modules"], found["base_parameters"]) == ([4], 8.0, 4, 24_992)
    assert found["merged"] == {"parameters": 24_992, "bytes": {"fp32": 99_968, "bf16": 49_984}}
    assert found["trainable_share"] == 896 / (896 + 24_992)
    assert document["reconciliation"]["status"] == "agrees" and document["reconciliation"]["tensors_matched"] == 4


def test_the_base_of_the_catalogue_is_found_by_the_name_that_the_adapter_gives(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-2-70b-hf", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    path = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    shapes = {path.format(n, "A"): [1, 8192] for n in range(80)} | {path.format(n, "B"): [8192, 1] for n in range(80)}
    write_tensors(folder / "adapter_model.safetensors", shapes)
    document = json.loads(weigh(str(folder), "--json").stdout)
    assert document["adapter"]["base_parameters"] == 68_976_648_192
    assert document["adapter"]["trainable_parameters"] == 80 * 2 * 8192
    assert document["reconciliation"]["status"] == "agrees"


def test_without_its_base_it_is_counted_and_not_held(tmp_path: Path) -> None:
    document = json.loads(weigh(str(write_adapter(tmp_path, "dora")), "--json").stdout)
    assert document["parameters"]["total"] == 992 and document["adapter"]["merged"] is None
    assert document["reconciliation"]["status"] == "not_applicable"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"hidden_size": 64, "head_dim": 8}, "shape"), ({"num_hidden_layers": 1}, "unexpected"),
     ({"num_hidden_layers": 3}, "missing")],
)  # fmt: skip
def test_the_wrong_base_is_told(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    adapter, base = write_adapter(tmp_path / "a", "lora"), write_base(tmp_path / "b", **changes)
    held = adapted(inspect(adapter), inspect(base))
    assert held.reconciliation.status is Status.DIFFERS
    assert {difference.kind for difference in held.reconciliation.differences} == {kind}
    result = weigh(str(adapter), "--base", str(base), "--strict")
    assert result.exit_code == 1 and kind in result.stdout


def test_a_head_trained_as_a_whole_is_added_where_the_base_ties_it(tmp_path: Path) -> None:
    adapter = inspect(write_adapter(tmp_path / "a", "saved"))
    tied = inspect(write_base(tmp_path / "b", tie_word_embeddings=True))
    assert adapted(adapter, tied).merged_parameters == tied.parameters.total + 3200 == 24_992


def test_an_mlx_adapter_is_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        '{"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "keys": ["self_attn.q_proj"]}}'
    )
    path = "model.layers.0.self_attn.q_proj.lora_"
    write_tensors(tmp_path / "adapters.safetensors", {path + "a": [32, 2], path + "b": [2, 32]})
    held = adapted(inspect(tmp_path), inspect(GOLDEN["bases"]["llama"] | {"num_hidden_layers": 1}))
    assert held.adapter.ranks == (2,) and held.adapter.parameters == 128
    assert held.reconciliation.status is Status.AGREES


def test_matrices_the_wrong_way_round_do_not_fit(tmp_path: Path) -> None:
    """v_proj is 16 x 32 in the base: a change of 32 x 16 is one of another matrix."""
    adapter = write_adapter(tmp_path / "a", "lora", target_modules=["v_proj"])
    path = "base_model.model.model.layers.{}.self_attn.v_proj.lora_{}.weight"
    for rows, columns, status in ((16, 32, Status.AGREES), (32, 16, Status.DIFFERS)):
        shapes = {path.format(n, "A"): [4, columns] for n in range(2)} | {
            path.format(n, "B"): [rows, 4] for n in range(2)
        }
        write_tensors(adapter / "adapter_model.safetensors", shapes)
        assert adapted(inspect(adapter), inspect(write_base(tmp_path / "b"))).reconciliation.status is status


def test_a_table_of_tokens_lies_on_its_side_in_an_adapter(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", "lora", target_modules=["embed_tokens"])
    path = "base_model.model.model.embed_tokens.lora_embedding_"
    for tokens, width, status in ((100, 32, Status.AGREES), (32, 100, Status.DIFFERS)):
        write_tensors(adapter / "adapter_model.safetensors", {path + "A": [4, tokens], path + "B": [width, 4]})
        assert adapted(inspect(adapter), inspect(write_base(tmp_path / "b"))).reconciliation.status is status


@pytest.mark.parametrize(
    ("settings", "targets", "alpha"),
    [({"target_modules": 5}, (), None), ({"target_modules": True}, (), None), ({"lora_alpha": 10**400}, (), None),
     ({"lora_alpha": math.inf}, (), None), ({"lora_alpha": math.nan}, (), None), ({"lora_alpha": True}, (), None),
     ({"lora_parameters": {"keys": 7}}, (), None), ({"target_modules": ["q", 3, None]}, ("q",), None),
     ({"target_modules": "q", "lora_alpha": 8}, ("q",), 8.0)],
)  # fmt: skip
def test_settings_of_any_kind_are_taken_or_left_aside(
    tmp_path: Path, settings: dict[str, Any], targets: tuple[str, ...], alpha: float | None
) -> None:
    write_adapter(tmp_path, "lora")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **settings}))
    found = adapted(inspect(tmp_path)).adapter
    assert (found.targets, found.alpha) == (targets, alpha)


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    with pytest.raises(SourceError, match="no adapter but config"):
        adapted(inspect(base), None)
    assert weigh(str(base), "--base", str(base)).exit_code == 2
    adapter = write_adapter(tmp_path / "a", "lora")
    assert weigh(str(adapter), "--base", str(adapter)).exit_code == 2
    with pytest.raises(ConfigError, match="names no method"):
        inspect(write_adapter(tmp_path / "b", "lora", peft_type=7))
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceError, match="no files of weights"):
        inspect(adapter)


def test_matrices_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path, "lora")
    path = "base_model.model.q.lora_"
    write_tensors(adapter / "adapter_model.safetensors", {path + "A.weight": [4, 32], path + "B.weight": [32, 5]})
    with pytest.raises(FormatError, match="rank x inputs"):
        adapted(inspect(adapter))
    assert weigh(str(adapter)).exit_code == 2


def test_a_regular_expression_of_targets_is_not_run(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", "lora", target_modules="(a+)+$" * 50)
    assert adapted(inspect(adapter), inspect(write_base(tmp_path / "b"))).reconciliation.status is Status.AGREES
