"""Llama and all that is wired like it: RMSNorm, rotary grouped-query attention, gated feed-forward, untied by default.

Source: transformers `models/{llama,mistral,qwen2}/{configuration,modeling}_*.py` (5.x). They differ in biases (Qwen2
has them on queries, keys and values; Llama only with `attention_bias`, then on the output too), in windows (Mistral in
every layer, Qwen2 from `max_window_layers` on when `use_sliding_window` is set) and in what a missing key means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Block
from weighbridge.model.decoder import (
    Windows,
    attention,
    decoder,
    feed_forward,
    number_of_layers,
    sliding_from_max_window_layers,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters

_PREFIXES = ("Llama", "Mistral", "Qwen2")


def _no_window(hyperparameters: Hyperparameters, layers: range) -> Windows:
    return [(None, layers)]


def _one_window(hyperparameters: Hyperparameters, layers: range) -> Windows:
    return [(hyperparameters.optional_count("sliding_window"), layers)]


def _upper_window(hyperparameters: Hyperparameters, layers: range) -> Windows:
    """Qwen2's: off unless it is switched on, then by `layer_types`, or from `max_window_layers` on."""
    if not hyperparameters.flag("use_sliding_window", False):
        return [(None, layers)]
    hyperparameters = with_defaults(hyperparameters, {"sliding_window": 4096, "max_window_layers": 28})
    return windows_by_type(hyperparameters, sliding_from_max_window_layers(hyperparameters))


@dataclass(frozen=True, slots=True)
class _Variant:
    """In what a model type differs: biases, the default of `num_key_value_heads` (None for as many as heads), windows.

    `bias_keys` says whether the class reads `attention_bias` and `mlp_bias`; the others hard-code theirs.
    """

    windows: Callable[[Hyperparameters, range], Windows]
    num_kv_heads: int | None = None
    bias_keys: bool = False
    qkv_bias: bool = False
    gguf_architecture: str = "llama"


_VARIANTS = {
    "llama": _Variant(_no_window, bias_keys=True),
    "mistral": _Variant(_one_window, num_kv_heads=8),
    "mixtral": _Variant(_one_window, num_kv_heads=8),
    "qwen2": _Variant(_upper_window, num_kv_heads=32, qkv_bias=True, gguf_architecture="qwen2"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with one gated feed-forward block a layer."""
    hyperparameters.refuse("num_experts", "which this dense family does not describe")
    bias = _VARIANTS[hyperparameters.model_type].bias_keys and hyperparameters.flag("mlp_bias", False)
    return wired(hyperparameters, "llama", _PREFIXES, feed_forward(hyperparameters, bias=bias))


def wired(
    hyperparameters: Hyperparameters, family: str, prefixes: tuple[str, ...], mlp: Block, mlp_path: str = "mlp"
) -> Architecture:
    """The wiring that this family and its mixtures of experts share."""
    variant = _VARIANTS[hyperparameters.model_type]
    if variant.num_kv_heads is not None:
        hyperparameters = with_defaults(hyperparameters, {"num_kv_heads": variant.num_kv_heads})
    bias = variant.bias_keys and hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=variant.qkv_bias or bias,
                      output_bias=hyperparameters.flag("attention_output_bias", bias))  # fmt: skip
    windows = variant.windows(hyperparameters, range(number_of_layers(hyperparameters)))
    return decoder(hyperparameters, family, prefixes, heads, mlp, mlp_path=mlp_path, windows=windows,
                   gguf_architecture=variant.gguf_architecture, notes=_notes(hyperparameters))  # fmt: skip


def _notes(hyperparameters: Hyperparameters) -> tuple[str, ...]:
    if hyperparameters.model_type != "mistral" or "sliding_window" in hyperparameters.settings:
        return ()
    # Trimmed copies of later models, which have no window, leave the key out; a window of 4096 would flatter them.
    return ("sliding_window is missing and taken as none; the reference class would default to 4096",)


FAMILY = Family(
    name="llama",
    title="Llama 1-3, Mistral, Qwen 1.5-2.5, Yi, SmolLM, TinyLlama and all that is spelled like them",
    model_types=("llama", "mistral", "qwen2"),
    gguf={"llama": GgufMeaning("llama", "LlamaForCausalLM"), "qwen2": GgufMeaning("qwen2", "Qwen2ForCausalLM")},
    source="transformers models/llama, models/mistral, models/qwen2",
    build=build,
)
