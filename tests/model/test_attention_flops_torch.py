"""Attention that computes more than one score for two tokens, against what PyTorch counts as the reference class runs.

With T tokens that attend to each other a pass costs a*T + b*T*T: a is what a token costs without context, b what each
position adds. Two lengths give both, a third confirms them.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden_models import family_files

from weighbridge.inspection import inspect

pytestmark = pytest.mark.torch

FILES = family_files()
CASES = [
    pytest.param(case["config"], id=f"{family}-{number}")
    for family in ("llama_relatives", "xlnet")
    for number, case in enumerate(FILES[family]["shrunk"])
    if case["config"]["architectures"][0] in ("DiffLlamaForCausalLM", "XLNetLMHeadModel")
]


@pytest.mark.parametrize("config", CASES)
def test_every_position_costs_what_the_reference_class_computes(config: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    short, long = (_passed(config, tokens) for tokens in (2, 4))
    quadratic, rest = divmod(long - 2 * short, 8)
    assert rest == 0
    linear = short // 2 - 2 * quadratic
    assert _passed(config, 8) == 8 * linear + 64 * quadratic
    alone = inspect(config).flops_per_token
    assert alone is not None
    assert (alone, inspect(config, context_tokens=1).flops_per_token) == (linear, linear + quadratic)


def test_one_sided_distances_cost_their_map_once_and_one_distance_more() -> None:
    pytest.importorskip("torch")
    config = {**FILES["xlnet"]["shrunk"][1]["config"], "attn_type": "uni"}
    layers, width = config["n_layer"], config["d_model"]
    for tokens in (2, 4):
        more = 2 * layers * width * (width + tokens)
        flops = inspect(config, context_tokens=tokens).flops_per_token
        assert flops is not None
        assert _passed(config, tokens) == tokens * flops + more


def _passed(config: dict[str, Any], tokens: int) -> int:
    """FLOPs of a pass over so many tokens."""
    torch = pytest.importorskip("torch")
    reference = getattr(pytest.importorskip("transformers"), config["architectures"][0])
    from torch.utils.flop_counter import FlopCounterMode

    settings = {key: value for key, value in config.items() if key != "model_type"}
    model = reference(reference.config_class(**settings, attn_implementation="eager")).eval()
    ids = torch.zeros(1, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    return int(counter.get_total_flops())
