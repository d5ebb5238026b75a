"""What happens to models that no family describes: taken for another, counted in their class, guessed from names."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.errors import ConfigError, UnitError, UnknownNameError
from weighbridge.family_guess import guess
from weighbridge.formats.reconcile import Status
from weighbridge.model import families

UNKNOWN: dict[str, Any] = {
    "model_type": "newest_llm", "architectures": ["NewestForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100,
}  # fmt: skip


def write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """A file of fp16 zeros, laid out by hand."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def test_an_unknown_type_is_refused_and_the_refusal_names_the_ways_out(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(UNKNOWN))
    refused = CliRunner().invoke(main, ["inspect", str(config)])
    assert refused.exit_code == 2
    assert "--like" in refused.stderr and "--with-transformers" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_taken_for_another_every_number_is_assumed(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(UNKNOWN))
    result = CliRunner().invoke(main, ["inspect", str(config), "--like", "llama", "--json"])
    document = json.loads(result.stdout)
    known = inspect({**UNKNOWN, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}).to_json()
    assert document["parameters"] == known["parameters"]
    assert {document["basis"][key] for key in ("parameters", "state", "flops", "bytes.by_encoding")} == {"assumed"}
    assert any("assumption" in note for note in document["notes"])
    shown = CliRunner().invoke(main, ["inspect", str(config), "--like", "llama"]).stdout
    assert "assumed" in shown and "exact" not in shown


def test_a_family_can_be_named_by_its_file_or_by_a_model_type() -> None:
    assert inspect(UNKNOWN, like="llama_relatives").basis.value == "assumed"
    assert inspect(UNKNOWN, like="qwen2").parameters.total > inspect(UNKNOWN, like="llama").parameters.total  # biases
    with pytest.raises(UnknownNameError, match="llama"):
        inspect(UNKNOWN, like="lama")


def test_like_is_for_unknown_types_and_usual_heads_alone() -> None:
    with pytest.raises(ConfigError, match="which is known"):
        inspect({**UNKNOWN, "model_type": "llama"}, like="qwen2")
    with pytest.raises(ConfigError, match="head"):
        inspect({**UNKNOWN, "architectures": ["NewestForSequenceClassification"]}, like="llama")
    with pytest.raises(UnitError, match="one of them"):
        inspect(UNKNOWN, like="llama", with_transformers=True)


def test_an_assumption_is_held_against_the_weights(tmp_path: Path) -> None:
    described = inspect(UNKNOWN, like="llama")
    write_safetensors(tmp_path / "model.safetensors", {t.name: t.shape for t in described.tensors})
    (tmp_path / "config.json").write_text(json.dumps(UNKNOWN))
    found = inspect(tmp_path, like="llama")
    assert found.reconciliation.status is Status.AGREES
    assert inspect(tmp_path, like="olmo").reconciliation.status is Status.DIFFERS


def test_a_bare_header_gives_exact_counts_and_a_guess_that_is_called_one(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    tensors = {t.name: t.shape for t in inspect("gpt-2").tensors if t.tied_to is None}
    write_safetensors(weights, {**{name: (1,) * len(shape) for name, shape in tensors.items()}, "x.y": (3, 4)})
    document = json.loads(CliRunner().invoke(main, ["inspect", str(weights), "--json"]).stdout)
    assert document["family"] is None and document["parameters"]["total"] == len(tensors) + 12
    assert "gpt2" in document["family_guess"]["families"] and document["family_guess"]["basis"] == "assumed"
    assert 0.9 < document["family_guess"]["overlap"] < 1
    shown = CliRunner().invoke(main, ["inspect", str(weights)]).stdout
    assert "family unknown" in shown and "a guess by the names of its tensors: " in shown


def test_names_of_no_family_are_not_guessed() -> None:
    assert guess(["a.weight", "b.weight"]) is None
    assert guess([]) is None
    assert inspect(UNKNOWN, like="llama").family_guess is None


@pytest.mark.torch
def test_the_reference_class_counts_what_no_family_describes() -> None:
    config = {"model_type": "fnet", "architectures": ["FNetForMaskedLM"], "hidden_size": 32, "num_hidden_layers": 2,
              "intermediate_size": 48, "vocab_size": 90}  # fmt: skip
    with pytest.raises(UnknownNameError):
        inspect(config)
    found = inspect(config, with_transformers=True)
    document = found.to_json()
    assert document["parameters"]["total"] == _counted(config)
    assert document["basis"]["parameters"] == "specified" and document["parameters"]["stored_elements"] is None
    assert document["parameters"]["active_per_token"] is None and document["state"]["kv_bytes_per_token"] is None
    known = {**UNKNOWN, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert inspect(known, with_transformers=True).parameters.total == inspect(known).parameters.total


def _counted(config: dict[str, Any]) -> int:
    import torch
    import transformers

    with torch.device("meta"):
        settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
        model = transformers.FNetForMaskedLM(transformers.FNetConfig(**settings))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.torch
@pytest.mark.parametrize(
    "config",
    [{"model_type": "no_such_type"}, {"model_type": "fnet", "architectures": ["NoSuchClass"]},
     {"model_type": "fnet", "hidden_size": "wide"}, {"model_type": "fnet", "architectures": ["AutoTokenizer"]}],
)  # fmt: skip
def test_what_transformers_cannot_build_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="transformers"):
        inspect(config, with_transformers=True)


def test_without_torch_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    result = CliRunner().invoke(main, ["inspect", "gpt-2", "--with-transformers"])
    assert result.exit_code == 2 and "[torch]" in result.stderr


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("LlamaForCausalLM", "llama"), ("Qwen2MoeForCausalLM", "qwen2_moe"), ("GPT2LMHeadModel", "gpt2"),
     ("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl"), ("XLMRobertaModel", "xlm-roberta"),
     ("Gemma3ForCausalLM", "gemma3_text"), ("CLIPTextModelWithProjection", "clip_text_model")],
)  # fmt: skip
def test_a_class_tells_the_model_type_that_is_missing(name: str, model_type: str) -> None:
    assert families.recognise({"architectures": [name], "hidden_size": 8}) == model_type


def test_an_unknown_class_tells_nothing() -> None:
    for classes in (["NewestForCausalLM"], ["Llama"], ["LlamaForCausalLM", "LlamaModel"], "LlamaForCausalLM", [3]):
        with pytest.raises(ConfigError, match="no model_type"):
            inspect({**{k: v for k, v in UNKNOWN.items() if k != "model_type"}, "architectures": classes})
    named = {**{k: v for k, v in UNKNOWN.items() if k != "model_type"}, "architectures": ["LlamaForCausalLM"]}
    assert inspect(named).parameters == inspect({**named, "model_type": "llama"}).parameters


def test_settings_reach_where_they_are_written() -> None:
    deep = inspect("gemma-3-27b", settings={"text_config.num_hidden_layers": 10})
    assert deep.architecture is not None and deep.architecture.num_layers == 10
    with pytest.raises(UnknownNameError, match=r"text_config\.num_hidden_layers"):
        inspect("gemma-3-27b", settings={"num_hidden_layers": 10})
    with pytest.raises(ConfigError, match="leads into"):
        inspect("gpt-2", settings={"text_config.num_hidden_layers": 10})
    assert (
        inspect("gpt-2", settings={"num_hidden_layers": 24}).parameters
        == inspect("gpt-2", settings={"n_layer": 24}).parameters
    )
    pipeline = inspect("sdxl", settings={"unet_config.in_channels": 9}).parameters.by_part["unet"]
    assert pipeline - inspect("sdxl").parameters.by_part["unet"] == 5 * 320 * 9


def test_a_setting_without_effect_is_told() -> None:
    def told(**settings: Any) -> bool:
        return any("changes nothing that is counted" in note for note in inspect("llama-7b", settings=settings).notes)

    assert told(foo=1) and told(rope_theta=3)
    assert not told(num_hidden_layers=3)


def test_a_family_that_cannot_be_carried_over_is_no_success(tmp_path: Path) -> None:
    described = inspect(UNKNOWN, like="llama")
    write_safetensors(tmp_path / "model.safetensors", {t.name: t.shape for t in described.tensors})
    (tmp_path / "config.json").write_text(json.dumps(UNKNOWN))
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--like", "mamba2"])
    assert result.exit_code == 2 and "cannot be counted like mamba2" in result.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_hidden_layers": 200_000},
        {"text_config": {"n_layer": 200_000}},
        {"num_local_experts": 10**6},
        {"architectures": ["LlamaModel", "GPT2Model"]},
    ],
)
def test_a_class_is_not_built_in_sizes_that_no_model_has(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"at most 10,000|one class"):
        inspect({"model_type": "llama", **wrong}, with_transformers=True)


def test_configurations_do_not_lie_in_each_other_without_end() -> None:
    nested: dict[str, Any] = {}
    for _ in range(900):
        nested = {"model_type": "pipeline", "unet_config": nested}
    with pytest.raises(ConfigError, match="lies in more than"):
        inspect(nested)
