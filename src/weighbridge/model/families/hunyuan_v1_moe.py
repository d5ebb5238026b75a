"""Hunyuan-A13B: head norms, routed experts and one shared expert of the same width in every layer.

Source: transformers `models/hunyuan_v1_moe/{configuration,modeling}_hunyuan_v1_moe.py`. Published configurations list
some settings layer by layer; only equal ones are described.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    for name in ("use_cla", "use_mla", "moe_layer_num_skipped", "mlp_bias"):
        hyperparameters.refuse(name, "which this family does not describe")
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    hidden, layers = attention.hidden_size, range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    inner = hyperparameters.count("intermediate_size", 11008)
    _check(hyperparameters, "moe_intermediate_size", inner)
    _check(hyperparameters, "num_shared_expert", 1)
    _check(hyperparameters, "use_qk_norm", True)
    num_experts = hyperparameters.count("num_experts", 1, most=MOST_EXPERTS)
    active = _equal(hyperparameters, "moe_topk", 1)
    hyperparameters.check_experts(num_experts, active)
    experts = Experts(hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, experts_per_token=active,
                      router="gate.wg", names=mixture.GATED)  # fmt: skip
    norms = ("query_layernorm", "key_layernorm")
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        *mixture.head_norms(attention.head_dim, attention.head_dim, layers, norms),
        Placement(LAYER + "mlp", experts, layers),
        Placement(LAYER + "mlp.shared_mlp", mixture.shared_experts(hidden, inner), layers),
    ]
    return mixture.decoder(hyperparameters, "hunyuan_v1_moe", ("HunYuanMoEV1",), body, attention=attention,
                           num_experts=num_experts)  # fmt: skip


def _check(hyperparameters: Hyperparameters, name: str, expected: int | bool) -> None:
    """Refuses a setting, alone or by layer, that is not the one that the wiring takes for granted."""
    value = hyperparameters.settings.get(name)
    values = value if isinstance(value, list) else [value]
    if value is not None and any(one != expected for one in values):
        raise ConfigError(f"{hyperparameters.source} has {name} = {repr(value)[:60]}", f"{expected} in every layer",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip


def _equal(hyperparameters: Hyperparameters, name: str, default: int) -> int:
    """A number that may be listed by layer, when it is the same in all."""
    value = hyperparameters.settings.get(name)
    if not isinstance(value, list):
        return hyperparameters.count(name, default)
    numbers = set(mixture.whole_numbers(hyperparameters, name) or ())
    if len(numbers) != 1 or 0 in numbers:
        raise ConfigError(f"{hyperparameters.source} has {name} = {repr(value)[:60]}", "the same number in every layer",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    return numbers.pop()


FAMILY = Family(
    name="hunyuan_v1_moe",
    title="Hunyuan-A13B",
    model_types=("hunyuan_v1_moe",),
    gguf={},
    source="transformers models/hunyuan_v1_moe",
    build=build,
)
