"""What a method trains, against published counts and those of PEFT itself.

`PEFT` are the counts of `get_nb_trainable_parameters()` for `LoraConfig(r=8)` on the class that a configuration names,
built on the meta device (PEFT 0.21.2, transformers 5.23.0). A mixture of Mixtral's kind gets more there than here: what
was two matrices of an expert is one, and has twice the rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.formats.test_peft import GOLDEN, write_adapter, write_base

from weighbridge.errors import ConfigError, UnknownNameError
from weighbridge.formats.peft import adapter_of
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.counts import count
from weighbridge.predict.training.methods import ALL_LINEAR, Method
from weighbridge.predict.training.trained import trained


def described(source: str | dict[str, Any]) -> Architecture:
    architecture = inspect(source).architecture
    assert architecture is not None
    return architecture


def trains(source: str | dict[str, Any], name: str = "lora", *targets: str, rank: int = 8, **settings: Any) -> int:
    if targets:
        settings["targets"] = targets
    return trained(described(source), Method(name=name, rank=rank, **settings)).trainable


def test_published_counts_of_llama_2() -> None:
    assert trains("llama-2-70b") == 16_384_000
    assert trains("llama-2-70b", rank=16) == 32_768_000
    assert trains("llama-2-70b", "qlora", ALL_LINEAR) == 103_546_880
    assert trains("llama-2-7b") == 4_194_304
    small = trained(described("llama-2-7b"), Method(name="lora", rank=8)).trainable_share
    large = trained(described("llama-2-7b"), Method(name="lora", rank=64, targets=(ALL_LINEAR,))).trainable_share
    assert (round(100 * small, 2), round(100 * large, 1)) == (0.06, 2.4)


FALCON_40B = {"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
              "num_kv_heads": 8, "new_decoder_architecture": True, "vocab_size": 65024, "bias": False,
              "architectures": ["FalconForCausalLM"]}  # fmt: skip
STABLELM_ALPHA = {"model_type": "gpt_neox", "hidden_size": 4096, "num_hidden_layers": 16, "num_attention_heads": 32,
                  "intermediate_size": 16384, "vocab_size": 50688,
                  "architectures": ["GPTNeoXForCausalLM"]}  # fmt: skip


def test_queries_and_values_of_a_fused_matrix_are_parts_of_it_as_litgpt_trains_them() -> None:
    """litgpt, tutorials/resource-tables.md: LoRA of rank 8 on queries and values."""
    assert trains(FALCON_40B) == 12_042_240
    assert trains(STABLELM_ALPHA) == 2_097_152
    assert trains("phi-1.5") == 1_572_864


def test_by_name_a_fused_matrix_is_one() -> None:
    assert trains(FALCON_40B, "lora", "query_key_value") == 60 * 8 * (8192 + 8192 + 2 * 512)
    assert trains("gpt-2", "lora", "c_attn") == 294_912
    assert trains("gpt-2", "lora", "c_attn", "attention_q") == 294_912, "the whole matrix has its parts"


PEFT = [
    ("llama-2-70b", 103_546_880, None),
    ("pythia-1.4b", 6_291_456, 6_733_824),
    ("pythia-6.9b", 16_777_216, 17_956_864),
    ("llama-3.2-1b", 5_636_096, 6_012_928),
    ("llama-3.2-3b", 12_156_928, 12_931_072),
    ("deepseek-r1-distill-qwen-32b", 67_108_864, 71_761_920),
]


@pytest.mark.parametrize(("name", "lora", "dora"), PEFT)
def test_all_linear_is_what_peft_makes_of_it(name: str, lora: int, dora: int | None) -> None:
    assert trains(name, "lora", ALL_LINEAR) == lora
    if dora is not None:
        assert trains(name, "dora", ALL_LINEAR) == dora


def test_experts_that_files_hold_one_by_one_are_linear_maps() -> None:
    """PEFT makes 179,832,832 of it: gate and up are one there, of twice the rank: 2*r*14336 more for each expert."""
    assert trains("mixtral-8x7b", "lora", ALL_LINEAR) == 179_832_832 - 32 * 8 * 2 * 8 * 14336
    by_role = trains("mixtral-8x7b", "lora", "experts_gate", "experts_up", "experts_down")
    assert by_role == trains("mixtral-8x7b", "lora", "w1", "w2", "w3") == 32 * 8 * 3 * 8 * (4096 + 14336)


def test_experts_in_one_tensor_have_to_be_named() -> None:
    found = trained(described("gpt-oss-20b"), Method(name="lora", rank=8, targets=(ALL_LINEAR,)))
    attention = 24 * 8 * (2 * (2880 + 4096) + 2 * (2880 + 512))
    assert found.trainable == attention and "experts" in found.notes[0]
    assert trains("gpt-oss-20b", "lora", "experts_down") == 24 * 32 * 8 * (2880 + 2880)


ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"name": "dora"},
    "all": {},
    "saved": {"modules_to_save": ("lm_head",)},
    "emb": {},
    "gpt2lora": {},
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_on_disc_has_what_is_predicted_for_its_configuration(tmp_path: Path, name: str) -> None:
    config = GOLDEN["adapters"][name]["config"]
    base = described(str(write_base(tmp_path / "base", GOLDEN["adapters"][name]["base"])))
    settings: dict[str, Any] = {"name": "lora", "rank": config["r"], "targets": tuple(config["target_modules"])}
    found = trained(base, Method(**(settings | ADAPTERS[name])))
    checkpoint = inspect(str(write_adapter(tmp_path / "adapter", name))).checkpoint
    assert checkpoint is not None
    adapter = adapter_of(checkpoint)
    assert found.trainable == adapter.parameters == GOLDEN["adapters"][name]["trainable"]
    low_rank = sum(row.elements for row in found.rows if ".lora_" in row.path)
    assert low_rank == sum(module.parameters for module in adapter.modules)
    assert found.frozen == count(base).total


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_a_learned_prompt_has_what_peft_makes(tmp_path: Path, name: str) -> None:
    base = described(str(write_base(tmp_path)))
    found = trained(base, Method(name=name, prompt_tokens=5))
    assert found.trainable == GOLDEN["adapters"][name]["trainable"]


def test_a_prompt_is_its_tokens_times_the_width() -> None:
    assert trains("llama-2-70b", "prompt", prompt_tokens=20) == 20 * 8192
    with pytest.raises(ConfigError, match="reads no tokens"):
        trains("resnet-50", "prompt", prompt_tokens=20)


def test_a_target_in_one_layer() -> None:
    one = trained(described("llama-2-7b"), Method(name="lora", rank=8, targets=("layers.3.mlp.up_proj",)))
    rows = [row for row in one.rows if row.is_adapter]
    assert one.trainable == 8 * (4096 + 11008) and {row.layers for row in rows} == {(3,)}
    assert trains("mixtral-8x7b", "lora", "layers.3.block_sparse_moe.experts.5.w1") == 8 * (4096 + 14336)


def test_convolutions() -> None:
    """PEFT gives A the kernel, and B none: [8, 3, 7, 7] and [64, 8, 1, 1] beside the stem of ResNet."""
    assert trains("resnet-50", "lora", "embedder.convolution") == 8 * 3 * 49 + 64 * 8
    with pytest.raises(UnknownNameError, match="in_proj"):
        trains("mamba-2.8b", "lora", "conv1d")


@pytest.mark.parametrize("name", ["llama-2-7b", "gpt-2", "mixtral-8x7b", "t5-small", "resnet-50", "mamba-2.8b"])
def test_full_trains_every_parameter_once(name: str) -> None:
    found = trained(described(name), Method())
    assert (found.trainable, found.frozen) == (count(described(name)).total, 0)


def test_biases_alone() -> None:
    """GPT-2: 2304 + 768 + 3072 + 768 of maps and 2*768 of norms in each of 12 layers, and the last norm."""
    assert trains("gpt-2", "bitfit") == 12 * 8448 + 768
    with pytest.raises(ConfigError, match="trains nothing"):
        trains("llama-2-7b", "bitfit")


def test_the_last_layers_and_what_follows_them() -> None:
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    found = trained(described("llama-2-7b"), Method(name="freeze", trained_layers=2))
    assert found.trainable == 2 * layer + 4096 + 32000 * 4096
    assert found.total == count(described("llama-2-7b")).total
    all_but_table = trains("llama-2-7b", "freeze", trained_layers=32)
    assert all_but_table == count(described("llama-2-7b")).total - 32000 * 4096


def test_a_head_that_is_the_table_is_trained_with_it() -> None:
    assert trains("gpt-2", "freeze", trained_layers=0) == 2 * 768 + 50257 * 768


def test_an_encoder_decoder_is_trained_from_its_end() -> None:
    found = trained(described("t5-small"), Method(name="freeze", trained_layers=6))
    assert not any(row.is_trained for row in found.rows if row.path.startswith("encoder.block"))
    assert all(row.is_trained for row in found.rows if row.path.startswith("decoder.block"))


@pytest.mark.parametrize(
    ("method", "said"),
    [(Method(name="lorra"), "lora"),
     (Method(name="lora", targets=("query_key_value",)), "q_proj, token_embedding, up_proj, v_proj"),
     (Method(name="lora", modules_to_save=("score",)), "lm_head")],
)  # fmt: skip
def test_an_unknown_name_is_told_with_what_there_is(method: Method, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        trained(described("llama-2-7b"), method)


@pytest.mark.parametrize(
    "method",
    [Method(name="lora", rank=0), Method(name="prompt"), Method(name="lora", targets=()),
     Method(name="freeze", trained_layers=33), Method(name="freeze", trained_layers=-1)],
)  # fmt: skip
def test_what_no_run_can_be_is_refused(method: Method) -> None:
    with pytest.raises(ConfigError):
        trained(described("llama-2-7b"), method)


def test_frozen_weights_are_in_4_bits_under_qlora_alone() -> None:
    encodings = [Method(name=name).frozen_encoding for name in ("qlora", "lora", "full")]
    assert encodings == ["nf4", None, None] and Method(name="qlora", frozen="int8").frozen_encoding == "int8"
