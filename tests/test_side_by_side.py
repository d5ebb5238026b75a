"""Do comparisons, growth and designs say what the engine says, and what each number rests on?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge import Wish, compare, design, history, inspect
from weighbridge.cli import main
from weighbridge.errors import ConfigError, SourceError, UnitError, UnknownNameError
from weighbridge.estimate import Estimate
from weighbridge.model import catalogue
from weighbridge.show import timeline
from weighbridge.side_by_side import ORDER, SideBySide


def cells(found: SideBySide, key: str) -> list[Any]:
    return [cell.content for row in found.rows if row.key == key for cell in row.cells]


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_columns_are_what_the_engine_counts() -> None:
    names = ["mixtral-8x7b", "llama-2-70b", "falcon-mamba-7b"]
    found = compare(names, context_tokens=4096)
    for place, name in enumerate(names):
        one = inspect(name, context_tokens=4096)
        assert cells(found, "parameters.total")[place].value == one.parameters.total
        assert cells(found, "parameters.active_per_token")[place].value == one.parameters.active_per_token
        assert cells(found, "flops_per_token")[place].value == one.flops_per_token
        mix = cells(found, "bytes.q4_k_m")[place]
        assert (mix and mix.value) == one.bytes_by_encoding.get("q4_k_m")  # llama.cpp runs no Falcon-Mamba
        held = one.state_json()["bytes_at_context"]["bf16"]
        assert cells(found, "state_bytes_at_context")[place].value == held
    assert cells(found, "state_bytes_at_context")[1].value == 1_342_177_280
    assert cells(found, "kv_bytes_per_token")[2].value == 0  # a state-space model keeps no cache
    assert [cell.value for cell in cells(found, "recurrent_bytes_per_sequence")[:2]] == [0, 0]
    assert cells(found, "attention_heads")[2] is None  # nor has it heads


def test_rows_that_say_nothing_of_a_model_are_left_out() -> None:
    pair = compare(["clip-vit-large-patch14", "stable-diffusion-1.5"])
    assert not cells(pair, "layers") and not cells(pair, "attention_heads")
    assert not cells(compare(["llama-2-70b"]), "recurrent_bytes_per_sequence")
    assert not cells(compare(["bert-base"]), "kv_bytes_per_token")
    latent = compare(["deepseek-v3"])
    assert cells(latent, "attention_heads")[0].value == 128 and not cells(latent, "kv_heads")
    assert cells(compare(["gemma-3-27b"]), "hidden_size")[0].value == 5376  # of its language model
    assert cells(compare(["roberta-base"]), "max_positions")[0].value == 512  # of 514 rows, two belong to padding


@pytest.mark.parametrize("source", [5, {"model_type": "llama"}, "a" * 5000, "a\0b"])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(SourceError):
        compare([source])


def test_a_mixture_weighs_all_of_it_and_computes_a_part() -> None:
    found = compare(["mixtral-8x7b", "llama-2-70b"])
    total, active, dense = (
        cells(found, key)[0]
        for key in ("parameters.total", "parameters.active_per_token", "parameters.dense_equivalent")
    )
    assert (total.value, active.value) == (46_702_792_704, 12_879_925_248)
    assert dense.value**2 <= total.value * active.value < (dense.value + 1) ** 2
    assert dense.basis.value == "assumed"
    assert cells(found, "bytes.bf16")[0].value == 2 * 46_702_792_704  # memory goes by all of it
    assert cells(found, "parameters.dense_equivalent")[1].value == 68_976_648_192
    assert not cells(compare(["llama-2-70b"]), "experts")


def test_known_and_unknown_are_told_apart() -> None:
    found = compare(["gpt-2", "palm-540b", "gpt-4", "gpt-5"])
    exact, stated, claimed, unknown = cells(found, "parameters.total")
    assert (exact.basis.value, exact.value) == ("exact", 124_439_808)
    assert (stated.basis.value, stated.value) == ("specified", 540_350_000_000)
    assert (claimed.basis.value, claimed.low, claimed.high) == ("assumed", 1_760_000_000_000, 1_800_000_000_000)
    assert unknown.value is None and unknown.note
    shown = CliRunner().invoke(main, ["compare", "gpt-2", "palm-540b", "gpt-4", "gpt-5"]).stdout
    line = next(line for line in shown.splitlines() if line.startswith("parameters "))
    assert line.split("  ")[-1].strip() == "unknown" and "1.76T to 1.8T (assumed)" in line


def test_every_known_cell_has_a_source() -> None:
    document = run("compare", "llama-3.1-8b", "gpt-4", "chinchilla")
    assert [row["key"] for row in document["rows"]] == [
        key for key in ORDER if key in {r["key"] for r in document["rows"]}
    ]
    for row in document["rows"]:
        for cell in row["cells"]:
            assert cell["value"] is None or cell["source"]


def test_files_and_names_stand_beside_each_other(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(dict(catalogue.find_model("gpt-2").config)))
    document = run("compare", str(config), "gpt-2")
    total = next(row for row in document["rows"] if row["key"] == "parameters.total")
    assert [cell["value"] for cell in total["cells"]] == [124_439_808] * 2
    assert CliRunner().invoke(main, ["compare", "gpt-2", str(tmp_path / "no.json")]).exit_code == 2


def test_growth_is_that_of_the_quoted_numbers() -> None:
    points = history(["bert-large", "gpt-2-xl", "gpt-3-175b", "palm-540b", "gpt-4"])
    ratios = [point.growth.value for point in points if point.growth is not None]
    assert [round(float(ratio or 0), 2) for ratio in ratios[:3]] == [4.41, 116.67, 3.09]
    whole = points[-1].growth_from_first
    assert whole is not None and whole.low is not None and whole.high is not None
    assert round(whole.low) == 5_176 and whole.high < 10_000  # the ten thousandfold growth that is told is none
    assert whole.basis.value == "assumed"
    assert points[1].parameters.content == Estimate.exact(1_557_611_200, "parameters")


def test_records_grow_and_days_have_one() -> None:
    points = history(records=True)
    values = [float(point.quoted.value or 0) for point in points]
    assert values == sorted(values) and len(set(values)) == len(values)
    assert len({point.released for point in points}) == len(points)
    everything = history()
    assert len(everything) > 200 and [p.released for p in everything] == sorted(p.released for p in everything)
    assert {p.model.name for p in points} == {p.model.name for p in everything if p.is_record}


def test_history_by_developer_and_its_refusals() -> None:
    assert {point.model.developer for point in history(developer="meta")} == {"Meta"}
    with pytest.raises(UnknownNameError, match="OpenAI"):
        history(developer="OpenA")
    with pytest.raises(SourceError, match="no size of GPT-5 is known"):
        history(["gpt-2", "gpt-5"])
    assert len(run("history", "gpt-2", "gpt-3")) == 2
    assert "times the first" in CliRunner().invoke(main, ["history"]).stdout


def test_the_timeline_draws_every_model(tmp_path: Path) -> None:
    target = tmp_path / "history.svg"
    result = CliRunner().invoke(main, ["history", "--svg", str(target)])
    assert result.exit_code == 0
    drawn = target.read_text(encoding="utf-8")
    points = history()
    assert drawn.count("<title>") == len(points)
    assert drawn.count('class="w-ink w-name"') == len(history(records=True))
    assert "prefers-color-scheme:dark" in drawn and "<script" not in drawn and "href" not in drawn
    assert "<title>" not in timeline.svg([])


@pytest.mark.parametrize(
    ("total", "vocab", "more"),
    [
        (1_300_000_000, 50_000, {}),
        (125_000_000, 50_257, {"tied": True, "model_type": "gpt2"}),
        (7_000_000_000, 32_000, {"hidden_size": 4096}),
        (70_000_000_000, 128_256, {"num_kv_heads": 8}),
        (47_000_000_000, 32_000, {"model_type": "mixtral", "experts": 8, "experts_per_token": 2}),
        (1_000_000, 1_000, {"tied": True}),
        (8_000_000_000, 151_936, {"model_type": "qwen3", "num_layers": 36, "num_kv_heads": 8}),
    ],
)
def test_designs_come_within_one_percent_with_whole_heads(total: int, vocab: int, more: dict[str, Any]) -> None:
    found = design(Wish(parameters=total, vocab_size=vocab, **more))
    assert found
    for shape in found:
        config = shape.config
        assert abs(shape.total / total - 1) <= 0.01 and shape.total == inspect(config).parameters.total
        assert config["hidden_size"] % config["num_attention_heads"] == 0
        assert config["num_attention_heads"] % config.get("num_key_value_heads", 1) == 0
        assert config["vocab_size"] == vocab
        for key, name in (("hidden_size", "hidden_size"), ("num_hidden_layers", "num_layers")):
            assert name not in more or config[key] == more[name]


def test_a_design_is_a_config_that_can_be_inspected(tmp_path: Path) -> None:
    target = tmp_path / "config.json"
    arguments = ["design", "--parameters", "1.3B", "--vocab", "50k", "-o", str(target)]
    document = run(*arguments)
    assert inspect(target).parameters.total == document["designs"][0]["total"]
    assert "off by" in CliRunner().invoke(main, arguments).stdout


def test_what_cannot_be_designed_is_said() -> None:
    none = CliRunner().invoke(main, ["design", "--parameters", "1k", "--vocab", "50k"])
    assert none.exit_code == 1 and "no shape" in none.stderr
    assert CliRunner().invoke(main, ["design", "--parameters", "1GB", "--vocab", "50k"]).exit_code == 2
    with pytest.raises(UnitError, match="half described"):
        design(Wish(parameters=10**9, vocab_size=100, experts=4))
    with pytest.raises(UnitError, match="whole heads"):
        design(Wish(parameters=10**9, vocab_size=100, hidden_size=1000, head_dim=64))
    for model_type, told in (("resnet", "resnet"), ("t5", "cannot be built from a shape"), ("vit", "vocab_size")):
        with pytest.raises(ConfigError, match=told):
            design(Wish(parameters=10**9, vocab_size=100, model_type=model_type))
    with pytest.raises(UnknownNameError, match="llama"):
        design(Wish(parameters=10**9, vocab_size=100, model_type="lama"))


@pytest.mark.parametrize("name", ["parameters", "vocab_size", "num_layers", "hidden_size", "head_dim", "num_kv_heads"])
def test_no_number_of_a_wish_is_nothing(name: str) -> None:
    with pytest.raises(UnitError, match="1 or more"):
        design(replace(Wish(parameters=10**9, vocab_size=100), **{name: 0}))  # type: ignore[arg-type]


def test_a_design_says_nothing_that_its_wiring_does_not_read() -> None:
    gpt2, falcon, mixture = (
        design(Wish(parameters=1_300_000_000, vocab_size=50_000, **more))[0]
        for more in ({"model_type": "gpt2"}, {"model_type": "falcon"},
                     {"model_type": "qwen3_moe", "experts": 16, "experts_per_token": 2})
    )  # fmt: skip
    assert "n_inner" in gpt2.config and not {"num_key_value_heads", "intermediate_size"} & gpt2.config.keys()
    hidden, inner = gpt2.config["hidden_size"], gpt2.config["n_inner"]
    layers = gpt2.config["num_hidden_layers"]
    assert gpt2.inspection.parameters.by_component["mlp"] == layers * (2 * hidden * inner + inner + hidden)
    assert not {"num_key_value_heads", "intermediate_size"} & falcon.config.keys()
    expert = 3 * mixture.config["hidden_size"] * mixture.config["moe_intermediate_size"]
    held = mixture.inspection.parameters.by_component["experts"]
    assert held == 16 * expert * mixture.config["num_hidden_layers"]


def test_stable_diffusion_xl_is_the_sum_of_its_parts_and_fifty_steps_are_fifty_passes() -> None:
    document = run("inspect", "sdxl", "--steps", "50")
    parts = document["parameters"]["by_part"]
    assert parts == {"text_encoder": 123_060_480, "text_encoder_2": 694_659_840, "unet": 2_567_463_684,
                     "refiner_unet": 2_259_526_660, "vae": 83_653_863}  # fmt: skip
    assert document["parameters"]["total"] == sum(parts.values()) == 5_728_364_527
    assert document["flops"]["denoising"] == 50 * document["flops"]["by_part"]["unet"] == 50 * 6_761_236_398_080
    refused = CliRunner().invoke(main, ["inspect", "flux.1-dev", "--steps", "50"])
    assert refused.exit_code == 2 and "size of its latent" in refused.stderr
