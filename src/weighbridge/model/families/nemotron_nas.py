"""Nemotron-NAS (Super, Ultra, DeciLM): Llama's wiring in which every layer has its own key-value heads and width.

Source: `modeling_decilm.py` and `block_config.py` of the published repositories. `block_configs` says for each layer
whether attention and feed-forward block are left out (with their norms), are one matrix, or are there:
`n_heads_in_group` query heads share a key-value head, and the inner width is 2/3 * `ffn_mult` * width, rounded up to a
multiple of 256. Llama-3.3-Nemotron-Super-49B-v1 has 49,867,145,216 parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.decoder import number_of_layers
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_MULTIPLE = 256
_WIDEST = 1000.0


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder, layer by layer; layers of one kind share a row."""
    hidden, num_layers = hyperparameters.count("hidden_size"), number_of_layers(hyperparameters)
    blocks = hyperparameters.settings.get("block_configs")
    if not isinstance(blocks, list) or len(blocks) != num_layers:
        raise ConfigError(f"{hyperparameters.source} has no block_configs for {num_layers} layers",
                          "a list with an entry for each layer", "use the model's full config.json")  # fmt: skip
    kinds: dict[tuple[str, Block], list[int]] = defaultdict(list)
    for number, block in enumerate(blocks):
        for path, part in _layer(hyperparameters, block):
            kinds[path, part].append(number)
    head = language_head(hyperparameters, ("DeciLM",))
    num_heads = hyperparameters.count("num_heads")
    most = max((part.num_kv_heads for _, part in kinds if isinstance(part, Attention)), default=num_heads)
    return Architecture(
        family="nemotron_nas",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            *(Placement("model.layers.{layer}." + path, part, tuple(layers)) for (path, part), layers in kinds.items()),
            Placement("model.norm", Norm(width=hidden, bias=False, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=most,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )  # fmt: skip


def _layer(hyperparameters: Hyperparameters, block: Any) -> Iterator[tuple[str, Block]]:
    """The parts of one layer, each behind its path."""
    hidden, norm = hyperparameters.count("hidden_size"), Norm(width=hyperparameters.count("hidden_size"), bias=False)
    one = Linear(in_features=hidden, out_features=hidden, bias=False)
    mixer, mlp = _part(hyperparameters, block, "attention"), _part(hyperparameters, block, "ffn")
    if not mixer.flag("no_op", False):
        yield "input_layernorm", replace(norm, role="attention_norm")
        if mixer.flag("replace_with_linear", False):
            yield "self_attn.linear_attn", replace(one, role="attention_linear", component=Component.ATTENTION)
        else:
            yield "self_attn", _attention(hyperparameters, mixer)
    if not mlp.flag("no_op", False):
        yield "post_attention_layernorm", replace(norm, role="mlp_norm")
        if mlp.flag("replace_with_linear", False):
            yield "mlp.linear_mlp", replace(one, role="mlp_linear", component=Component.MLP)
        else:
            yield "mlp", FeedForward(hidden_size=hidden, intermediate_size=_width(mlp, hidden),
                                     bias=hyperparameters.flag("mlp_bias", False))  # fmt: skip


def _part(hyperparameters: Hyperparameters, block: Any, name: str) -> Hyperparameters:
    """The settings of one part of a layer."""
    settings = block.get(name) if isinstance(block, Mapping) else None
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{hyperparameters.source} has a layer in block_configs without {name}",
                          "attention and ffn in each of them", "use the model's full config.json")  # fmt: skip
    part = Hyperparameters(f"block_configs of {hyperparameters.source}", hyperparameters.model_type, settings)
    for key in ("sparsify", "num_sink_tokens"):
        part.refuse(key, "which this family does not describe")
    return part


def _attention(hyperparameters: Hyperparameters, mixer: Hyperparameters) -> Attention:
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    groups = hyperparameters.divided("key-value heads", num_heads, mixer.count("n_heads_in_group"))
    head_dim = hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads)
    bias = hyperparameters.flag("attention_bias", False)
    return Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=groups, head_dim=head_dim, qkv_bias=bias,
                     output_bias=bias, window=mixer.optional_count("window_length"))  # fmt: skip


def _width(mlp: Hyperparameters, hidden: int) -> int:
    """The inner width that a multiplier means, as the reference rounds it."""
    multiplier = mlp.settings.get("ffn_mult")
    if isinstance(multiplier, bool) or not isinstance(multiplier, int | float) or not 0 < multiplier <= _WIDEST:
        raise ConfigError(f"{mlp.source} has ffn_mult = {repr(multiplier)[:60]}", f"a number up to {_WIDEST:g}",
                          "correct the key")  # fmt: skip
    width = int(2 * multiplier * hidden / 3)
    return -(-width // _MULTIPLE) * _MULTIPLE


FAMILY = Family(
    name="nemotron_nas",
    title="Llama-Nemotron Super, Ultra and 51B, DeciLM",
    model_types=("nemotron-nas", "deci"),
    gguf={},
    source="modeling_decilm.py of the published repositories",
    build=build,
)
