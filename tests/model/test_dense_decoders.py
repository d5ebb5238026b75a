"""What the newer dense decoders keep between tokens, and the settings that they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import ConfigError
from weighbridge.inspection import inspect

FOLDER = Path(__file__).parents[1] / "golden" / "families"
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 48,
                         "vocab_size": 50, "num_key_value_heads": 4, "head_dim": 8}  # fmt: skip
LAYER = 2 * 4 * 8  # keys and values of one layer for one token


def elements(config: dict[str, Any]) -> tuple[int, int, tuple[int, ...]]:
    """Cache elements a token adds in all layers and in those without a window, and the windows."""
    state = inspect({**SMALL, **config}).state
    assert state is not None
    return state.kv_per_token // LAYER, state.kv_per_token_global // LAYER, state.windows


@pytest.mark.parametrize(
    ("config", "full", "windows"),
    [
        ({"model_type": "qwen3", "sliding_window": 16, "max_window_layers": 6}, 8, ()),
        ({"model_type": "qwen3", "sliding_window": 16, "max_window_layers": 6, "use_sliding_window": True}, 6, (16,)),
        ({"model_type": "gemma"}, 8, ()),
        ({"model_type": "gemma2"}, 4, (4096,)),
        ({"model_type": "gemma3_text", "sliding_window": 512}, 1, (512,)),
        ({"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 4}, 2, (512,)),
        ({"model_type": "gemma2", "layer_types": ["full_attention"] * 8}, 8, ()),
        ({"model_type": "phi3", "sliding_window": 2047, "max_position_embeddings": 4096}, 0, (2047,)),
        ({"model_type": "phi3", "sliding_window": 262144, "max_position_embeddings": 131072}, 8, ()),
        ({"model_type": "phi3"}, 8, ()),
        ({"model_type": "olmo2"}, 8, ()),
        ({"model_type": "olmo3"}, 2, (4096,)),
        ({"model_type": "cohere"}, 8, ()),
        ({"model_type": "cohere2"}, 2, (4096,)),
        ({"model_type": "cwm"}, 2, (8192,)),
        ({"model_type": "granite_swa"}, 2, (128,)),
        ({"model_type": "ministral"}, 0, (4096,)),
        ({"model_type": "ministral", "sliding_window": None}, 8, ()),
        ({"model_type": "ministral3"}, 8, ()),
        ({"model_type": "exaone4"}, 2, (4096,)),
        ({"model_type": "exaone4", "sliding_window": None}, 8, ()),
        ({"model_type": "exaone4", "sliding_window_pattern": "LLLG"}, 2, (4096,)),
        ({"model_type": "exaone4", "sliding_window_pattern": "L"}, 1, (4096,)),
        ({"model_type": "smollm3", "sliding_window": 64}, 8, ()),
        ({"model_type": "smollm3", "sliding_window": 64, "use_sliding_window": True,
          "layer_types": ["sliding_attention", "full_attention"] * 4}, 4, (64,)),
        ({"model_type": "mimo", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 3}, 3, (64,)),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else None,
)  # fmt: skip
def test_which_layers_have_a_window(config: dict[str, Any], full: int, windows: tuple[int, ...]) -> None:
    assert elements(config) == (8, full, windows)


def test_an_encoder_keeps_nothing() -> None:
    assert elements({"model_type": "gemma3_text", "architectures": ["Gemma3TextModel"],
                     "use_bidirectional_attention": True}) == (0, 0, ())  # fmt: skip


def test_layers_that_share_a_cache_keep_none() -> None:
    config = {"model_type": "gemma4_text", "global_head_dim": 16, "num_kv_shared_layers": 2}
    # of eight layers the sixth and the last have the full context; the last two keep nothing
    assert elements(config) == (5 + 2, 2, (512,))


def test_next_token_layers_are_apart_from_the_total() -> None:
    without = inspect({**SMALL, "model_type": "mimo"}).parameters
    found = inspect({**SMALL, "model_type": "mimo", "num_nextn_predict_layers": 2}).parameters
    assert found.total == without.total and without.mtp == 0
    assert found.mtp == 2 * (4 * 32 * 32 + 3 * 32 + 3 * 32 * 48 + 2 * 32 * 32 + 5 * 32)


@pytest.mark.parametrize(
    ("family", "number", "change", "told"),
    [
        ("gemma", 0, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma2", 0, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma2", 0, {"layer_types": ["full_attention"]}, "layer_types"),
        ("gemma2", 0, {"layer_types": ["chunked_attention"] * 42}, "layer_types"),
        ("gemma2", 0, {"layer_types": "full_attention"}, "layer_types"),
        ("gemma2", 0, {"num_key_value_heads": 3}, "query heads by key-value heads"),
        ("gemma3", 0, {"text_config": None}, "text_config"),
        ("gemma3", 0, {"vision_config": 3}, "vision_config"),
        ("gemma3", 0, {"architectures": ["Gemma3Model", "Gemma3ForCausalLM"]}, "Gemma3Model"),
        ("gemma4", 0, {"architectures": ["Gemma4AssistantForCausalLM"]}, "Gemma4AssistantForCausalLM"),
        ("qwen3", 0, {"num_experts": 128}, "num_experts"),
        ("qwen3", 0, {"use_sliding_window": True, "max_window_layers": "x"}, "max_window_layers"),
        ("mimo", 0, {"use_sliding_window": True, "max_window_layers": [1]}, "max_window_layers"),
        ("llama_relatives", 2, {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("llama_relatives", 2, {"num_experts": 8}, "num_experts"),
        ("llama_relatives", 0, {"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
        ("exaone4", 0, {"layer_types": None, "sliding_window_pattern": "LLX"}, "sliding_window_pattern"),
        ("nemotron_nas", 1, {"block_configs": None}, "block_configs"),
        ("nemotron_nas", 1, {"block_configs": [{}] * 3}, "attention"),
        ("nemotron_nas", 1, {"num_hidden_layers": 4}, "block_configs"),
    ],
)
def test_what_is_not_described_is_refused(family: str, number: int, change: dict[str, Any], told: str) -> None:
    config = json.loads((FOLDER / f"{family}.json").read_text(encoding="utf-8"))["models"][number]["config"]
    with pytest.raises(ConfigError, match=told):
        inspect({**config, **change})


def test_smollm3_refuses_windows_in_unnamed_layers() -> None:
    with pytest.raises(ConfigError, match="use_sliding_window"):
        elements({"model_type": "smollm3", "sliding_window": 64, "use_sliding_window": True})


@pytest.mark.parametrize(
    "layer",
    [
        {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": None}},
        {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": True}},
        {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": 1e12}},
        {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": 1.0, "sparsify": ["2:4"]}},
        {"attention": {"n_heads_in_group": 3}, "ffn": {"no_op": True}},
        {"attention": {"no_op": "yes"}, "ffn": {"no_op": True}},
        {"attention": {"n_heads_in_group": 1, "num_sink_tokens": 4}, "ffn": {"no_op": True}},
    ],
)
def test_nemotron_nas_refuses_impossible_layers(layer: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        inspect({**SMALL, "model_type": "nemotron-nas", "num_key_value_heads": None, "block_configs": [layer] * 8})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"per_layer_config": {"0": {}}}, "per_layer_config"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        (
            {"enable_moe_block": True, "num_experts": 2, "top_k_experts": 4, "moe_intermediate_size": 8},
            "4 of 2 experts",
        ),
        ({"enable_moe_block": True}, "moe_intermediate_size"),
    ],
)
def test_gemma4_refuses(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        elements({"model_type": "gemma4_text", **change})


@pytest.mark.parametrize("channels", [None, [16], "16,8", [16, 0]])
def test_gemma4_refuses_other_convolutions(channels: Any) -> None:
    config = {"model_type": "gemma4", "text_config": SMALL, "audio_config": {"subsampling_conv_channels": channels}}
    with pytest.raises(ConfigError, match="subsampling_conv_channels"):
        inspect(config)
