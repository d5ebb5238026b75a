"""Settings of older decoders that change the wiring and are not described: refused, never counted around."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import ConfigError
from weighbridge.inspection import inspect

FOLDER = Path(__file__).parents[1] / "golden" / "families"

CASES = [
    ("bloom", 0, {"n_inner": 4096}, "n_inner"),
    ("chatglm", 0, {"vision_config": {"hidden_size": 8}}, "vision_config"),
    ("chatglm", 0, {"architectures": ["ChatGLMForSequenceClassification"]}, "ChatGLMForSequenceClassification"),
    ("ctrl", 0, {"architectures": ["CTRLForSequenceClassification"]}, "CTRLForSequenceClassification"),
    ("falcon", 0, {"multi_query": False, "num_kv_heads": 7}, "num_kv_heads"),
    ("falcon", 2, {"n_head_kv": None}, "num_kv_heads"),
    ("falcon", 3, {"multi_query": None}, "multi_query"),
    ("gpt_bigcode", 0, {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt_neo", 0, {"attention_types": [[["global", "local"], 5]]}, "attention_types"),
    ("gpt_neo", 0, {"attention_types": [[["global"], 10**15], [["local"], 1]]}, "attention_types"),
    ("gpt_neo", 0, {"attention_types": [[["sparse"], 12]]}, "attention_types"),
    ("gpt_neo", 0, {"attention_types": 3}, "attention_types"),
    ("internlm", 0, {"num_key_value_heads": 8}, "num_key_value_heads"),
    ("internlm", 0, {"num_experts": 8}, "num_experts"),
    ("mpt", 1, {"attn_config": {"alibi": False}}, "alibi"),
    ("mpt", 1, {"attn_config": {"qk_ln": True}}, "qk_ln"),
    ("mpt", 1, {"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 8}}, "attn_type"),
    ("mpt", 1, {"ffn_config": {"ffn_type": "mptglu"}}, "ffn_type"),
    ("mpt", 1, {"ffn_config": {"ffn_hidden_size": 64}}, "ffn_hidden_size"),
    ("mpt", 1, {"no_bias": False}, "no_bias"),
    ("mpt", 1, {"expansion_ratio": 2}, "expansion_ratio"),
    ("phi", 2, {"architecture": {"block_cls": "sequential"}}, "block_cls"),
    ("phi", 2, {"architectures": ["MixFormerSequentialModel"]}, "MixFormerSequentialModel"),
    ("phi", 3, {"qk_layernorm": True}, "qk_layernorm"),
    ("qwen", 0, {"visual": {"layers": 48}}, "visual"),
    ("qwen", 0, {"num_key_value_heads": 2}, "num_key_value_heads"),
    ("qwen", 0, {"intermediate_size": 11009}, "11009"),
]


@pytest.mark.parametrize(("family", "number", "settings", "named"), CASES)
def test_what_is_not_described_is_refused_by_name(
    family: str, number: int, settings: dict[str, Any], named: str
) -> None:
    golden = json.loads((FOLDER / f"{family}.json").read_text(encoding="utf-8"))["models"][number]
    assert inspect(golden["config"]).parameters.total == golden["total"]
    with pytest.raises(ConfigError) as refusal:
        inspect({**golden["config"], **settings})
    assert named in str(refusal.value)
