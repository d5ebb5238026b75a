"""Llama and all that is wired like it: RMSNorm, rotary grouped-query attention, gated feed-forward, untied by default.

Source: transformers `models/{llama,mistral,qwen2}/{configuration,modeling}_*.py` (5.x). They differ in biases (Qwen2
has them on queries, keys and values; Llama only with `attention_bias`, then on the output too), in windows (Mistral in
every layer, Qwen2 from `max_window_layers` on when `use_sliding_window` is set) and in what a missing key means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, Experts, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_PREFIXES = ("Llama", "Mistral", "Qwen2")

Windows = list[tuple[int | None, Sequence[int]]]
"""Attention windows, each with the layers that have it."""


def _no_window(hyperparameters: Hyperparameters, layers: range) -> Windows:
    return [(None, layers)]


def _one_window(hyperparameters: Hyperparameters, layers: range) -> Windows:
    return [(hyperparameters.optional_count("sliding_window"), layers)]


def _upper_window(hyperparameters: Hyperparameters, layers: range) -> Windows:
    """Qwen2's: off unless it is switched on, then by `layer_types`, or from `max_window_layers` on."""
    if not hyperparameters.flag("use_sliding_window", False):
        return [(None, layers)]
    window = hyperparameters.optional_count("sliding_window")
    if "sliding_window" not in hyperparameters.settings:
        window = 4096
    if window is None:
        return [(None, layers)]
    types = hyperparameters.settings.get("layer_types")
    if types is None:
        first = min(hyperparameters.count("max_window_layers", 28, least=0), len(layers))
        types = ["full_attention"] * first + ["sliding_attention"] * (len(layers) - first)
    hyperparameters.check_length("layer_types", types, len(layers))
    parts = {kind: tuple(layer for layer in layers if types[layer] == kind) for kind in dict.fromkeys(types)}
    if not parts.keys() <= {"full_attention", "sliding_attention"}:
        hyperparameters.refuse("layer_types", "of which one is not described")
    return [(window if kind == "sliding_attention" else None, numbers) for kind, numbers in parts.items()]


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
    feed_forward = FeedForward(
        hidden_size=hyperparameters.count("hidden_size"),
        intermediate_size=hyperparameters.count("intermediate_size"),
        bias=_VARIANTS[hyperparameters.model_type].bias_keys and hyperparameters.flag("mlp_bias", False),
    )
    return decoder(hyperparameters, "mlp", feed_forward, _PREFIXES)


def decoder(
    hyperparameters: Hyperparameters, mlp_path: str, mlp: FeedForward | Experts, prefixes: tuple[str, ...]
) -> Architecture:
    """The wiring that this family and its mixtures of experts share."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    variant = _VARIANTS[hyperparameters.model_type]
    default = num_heads if "num_kv_heads" in hyperparameters.settings else variant.num_kv_heads or num_heads
    num_kv_heads = hyperparameters.count("num_kv_heads", default)  # a null means one for each head, a missing key not
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    head_dim = hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads)
    bias = variant.bias_keys and hyperparameters.flag("attention_bias", False)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim,
                          qkv_bias=variant.qkv_bias or bias,
                          output_bias=hyperparameters.flag("attention_output_bias", bias))  # fmt: skip
    layers = range(num_layers)
    windows = variant.windows(hyperparameters, layers)
    norm = Norm(width=hidden, bias=False)
    head = language_head(hyperparameters, prefixes)
    layer = "model.layers.{layer}."
    return Architecture(
        family="mixtral" if isinstance(mlp, Experts) else "llama",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=vocab, width=hidden)),
            *(Placement(layer + "self_attn", replace(attention, window=span), part) for span, part in windows),
            Placement(layer + mlp_path, mlp, layers),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        num_experts=mlp.num_experts if isinstance(mlp, Experts) else 0,
        base_prefix="model.",
        tie_embeddings=head.tied,
        gguf_architecture=variant.gguf_architecture,
        notes=(*_notes(hyperparameters), *head.notes),
    )  # fmt: skip


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
