"""MiMo-V2-Flash: keys wider than values, windows with sinks in most layers, small experts after a dense first layer.

Source: transformers `models/mimo_v2_flash/{configuration,modeling}_mimo_v2_flash.py`; tensor names are those of the
published checkpoints. Windowed layers have twice the key-value heads. The original configuration spells the layers
`hybrid_layer_pattern` (1 is a window) and `moe_layer_freq` (1 is routed), and repeats the sizes of windowed layers as
`swa_*`; others than those that transformers takes are refused. The bias that balances the router is a buffer.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward, Vector
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with full and windowed layers, dense and routed ones."""
    hyperparameters.refuse("n_shared_experts", "which this family does not describe")
    hyperparameters.refuse("add_full_attention_sink_bias", "which this family does not describe")
    bias = hyperparameters.flag("attention_bias", False)
    full = replace(mixture.attention(hyperparameters, num_kv_heads=4, head_dim=192, qkv_bias=bias),
                   value_dim=hyperparameters.count("v_head_dim", 128))  # fmt: skip
    near = replace(full, num_kv_heads=2 * full.num_kv_heads, window=_window(hyperparameters))
    hyperparameters.divided("query heads by key-value heads", near.num_heads, near.num_kv_heads)
    for name, size in (("swa_num_attention_heads", near.num_heads), ("swa_num_key_value_heads", near.num_kv_heads),
                       ("swa_head_dim", near.head_dim), ("swa_v_head_dim", near.value_dim),
                       ("add_swa_attention_sink_bias", True)):  # fmt: skip
        if hyperparameters.settings.get(name) not in (None, size):
            raise ConfigError(f"{hyperparameters.source} has {name} = {repr(hyperparameters.settings[name])[:60]}",
                              f"{size}, as the reference class takes it", "correct the key")  # fmt: skip
    hidden, num_layers = full.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, 256, 8)
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 2048),
        num_experts=num_experts, experts_per_token=active, names=mixture.GATED,
        correction="gate.e_score_correction_bias",
    )  # fmt: skip
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 16384))
    windowed = _marked(hyperparameters, "hybrid_layer_pattern", "layer_types", "sliding_attention", "full_attention",
                       [not (layer == 0 or (layer + 1) % 6 == 0) for layer in range(num_layers)])  # fmt: skip
    routed = _marked(hyperparameters, "moe_layer_freq", "mlp_layer_types", "sparse", "dense",
                     [layer > 0 for layer in range(num_layers)])  # fmt: skip
    spans, kinds = dict(mixture.grouped(windowed)), dict(mixture.grouped(routed))
    sinks = Vector(name="attention_sink_bias", width=near.num_heads, role="attention_sinks",
                   component=Component.ATTENTION)  # fmt: skip
    body = [
        Placement(LAYER + "self_attn", full, spans.get(False, ())),
        Placement(LAYER + "self_attn", near, spans.get(True, ())),
        Placement(LAYER + "self_attn", sinks, spans.get(True, ())),
        Placement(LAYER + "mlp", dense_block, kinds.get(False, ())),
        Placement(LAYER + "mlp", experts, kinds.get(True, ())),
    ]
    return mixture.decoder(hyperparameters, "mimo_v2_flash", ("MiMoV2Flash",), body, attention=full,
                           num_experts=num_experts)  # fmt: skip


def _window(hyperparameters: Hyperparameters) -> int:
    """The reference class counts the token itself besides the published `sliding_window_size`."""
    size = hyperparameters.optional_count("sliding_window_size")
    return hyperparameters.count("sliding_window", 129) if size is None else size + 1


def _marked(
    hyperparameters: Hyperparameters, numbered: str, named: str, yes: str, no: str, default: list[bool]
) -> list[bool]:
    """Which layers are marked, in either spelling; both together must agree."""
    names = mixture.named_layers(hyperparameters, named, len(default), (yes, no))
    numbers = mixture.whole_numbers(hyperparameters, numbered)
    if numbers is not None and (len(numbers) != len(default) or not set(numbers) <= {0, 1}):
        raise ConfigError(f"{hyperparameters.source} has {numbered} = {repr(numbers)[:60]}",
                          f"{len(default)} entries, each 0 or 1", "correct the key")  # fmt: skip
    found = [[name == yes for name in names]] if names is not None else []
    found += [[bool(number) for number in numbers]] if numbers is not None else []
    if len(found) == 2 and found[0] != found[1]:
        raise ConfigError(f"{hyperparameters.source} has {numbered} and {named} that differ", "one order of layers",
                          "remove the wrong one")  # fmt: skip
    return found[0] if found else default


FAMILY = Family(
    name="mimo_v2_flash",
    title="MiMo-V2-Flash",
    model_types=("mimo_v2_flash",),
    gguf={},
    source="transformers models/mimo_v2_flash",
    build=build,
)
