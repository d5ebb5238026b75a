"""How are most decoders wired? A token table, layers of attention and feed-forward with norms around them, a head.

The families that differ only in where their norms stand, in norms on queries and keys, in windows and in biases share
this wiring; each says in its own file which of them it has, and by which names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, Experts, FeedForward, Norm
from weighbridge.model.family import language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

PRE_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
"""The role and name of each norm of a layer that norms what goes into its two parts."""
POST_NORMS = {"attention_post_norm": "post_attention_layernorm", "mlp_post_norm": "post_feedforward_layernorm"}
"""Likewise for what comes out of them."""
SANDWICH_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
"""Likewise for both."""

Windows = Sequence[tuple[int | None, Sequence[int]]]
"""Which layers have which attention window; None is the whole context."""


def with_defaults(hyperparameters: Hyperparameters, defaults: Mapping[str, Any]) -> Hyperparameters:
    """The settings with the reference class's defaults for the keys that are missing; a null key stays null.

    Example:
        >>> found = with_defaults(Hyperparameters("a.json", "gemma", {"num_layers": 18}), {"head_dim": 256})
        >>> found.count("num_layers"), found.count("head_dim")
        (18, 256)
    """
    return replace(hyperparameters, settings={**defaults, **hyperparameters.settings})


def number_of_layers(hyperparameters: Hyperparameters) -> int:
    """The number of layers, bounded."""
    return hyperparameters.count("num_layers", most=MOST_LAYERS)


def attention(
    hyperparameters: Hyperparameters,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    causal: bool = True,
) -> Attention:
    """Grouped-query attention from the usual settings; as many key-value heads as heads where there is no key."""
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    num_kv_heads = hyperparameters.count("num_kv_heads", num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    head_dim = hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads)
    return Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim,
                     names=names, qkv_bias=qkv_bias, output_bias=output_bias, causal=causal)  # fmt: skip


def feed_forward(
    hyperparameters: Hyperparameters,
    *,
    gate: str | None = "gate_proj",
    up: str = "up_proj",
    down: str = "down_proj",
    bias: bool = False,
) -> FeedForward:
    """A feed-forward block of the usual two sizes."""
    return FeedForward(hidden_size=hyperparameters.count("hidden_size"), gate=gate, up=up, down=down, bias=bias,
                       intermediate_size=hyperparameters.count("intermediate_size"))  # fmt: skip


def windows_by_type(
    hyperparameters: Hyperparameters, default: Iterable[str], window: str = "sliding_window"
) -> Windows:
    """The windows that `layer_types` gives, layer by layer; `default` are the types where the key is missing or null.

    Raises:
        ConfigError: for a list of another length, or a type other than full and sliding attention.

    Example:
        >>> settings = {"num_layers": 3, "sliding_window": 512}
        >>> found = Hyperparameters("a.json", "gemma2", settings)
        >>> windows_by_type(found, ["sliding_attention", "full_attention", "sliding_attention"])
        [(None, (1,)), (512, (0, 2))]
    """
    types = hyperparameters.settings.get("layer_types")
    types = list(default) if types is None else types
    num_layers = number_of_layers(hyperparameters)
    known = ("full_attention", "sliding_attention")
    if not isinstance(types, list) or len(types) != num_layers or any(kind not in known for kind in types):
        raise ConfigError(
            f"{hyperparameters.source} has layer_types = {repr(types)[:60]}",
            f"a list of {num_layers} entries, each one of {', '.join(known)}",
            "correct the key, or ask for support of this variant",
        )
    full = tuple(layer for layer, kind in enumerate(types) if kind == "full_attention")
    sliding = tuple(layer for layer, kind in enumerate(types) if kind == "sliding_attention")
    span = hyperparameters.optional_count(window)
    return [pair for pair in ((None, full), (span, sliding)) if pair[1]]


def sliding_but_every(nth: int, num_layers: int) -> list[str]:
    """Sliding attention in all layers but each `nth`, counted from 1.

    Example:
        >>> sliding_but_every(2, 3)
        ['sliding_attention', 'full_attention', 'sliding_attention']
    """
    return ["sliding_attention" if (layer + 1) % nth else "full_attention" for layer in range(num_layers)]


def sliding_from_max_window_layers(hyperparameters: Hyperparameters) -> list[str]:
    """Qwen's rule: with `use_sliding_window` the layers from `max_window_layers` on have the window.

    Example:
        >>> settings = {"num_layers": 3, "use_sliding_window": True, "max_window_layers": 2}
        >>> sliding_from_max_window_layers(Hyperparameters("a.json", "qwen3", settings))
        ['full_attention', 'full_attention', 'sliding_attention']
    """
    num_layers = first = number_of_layers(hyperparameters)
    if hyperparameters.flag("use_sliding_window", False):
        given = hyperparameters.settings.get("max_window_layers")
        first = min(num_layers, hyperparameters.count("max_window_layers") if given else 0)
    return ["full_attention"] * first + ["sliding_attention"] * (num_layers - first)


def decoder(
    hyperparameters: Hyperparameters,
    family: str,
    prefixes: tuple[str, ...],
    attention: Attention,
    mlp: Block,
    *,
    mlp_path: str = "mlp",
    norms: Mapping[str, str] = PRE_NORMS,
    norm: Norm | None = None,
    final_norm: bool = True,
    query_norm: Norm | None = None,
    key_norm: Norm | None = None,
    query_key_names: tuple[str, str] = ("q_norm", "k_norm"),
    windows: Windows | None = None,
    in_layers: Sequence[tuple[str, Block]] = (),
    tied: bool = False,
    default_class: str = "ForCausalLM",
    prefix: str = "",
    before: tuple[Placement, ...] = (),
    after: tuple[Placement, ...] = (),
    gguf_architecture: str | None = None,
    notes: tuple[str, ...] = (),
) -> Architecture:
    """A decoder of equal layers, up to its windows.

    Args:
        hyperparameters: The settings; vocabulary, width and layers are read here.
        family: The name of the family.
        prefixes: What the classes of the family begin with.
        attention: The attention of each layer, without a window.
        mlp: What follows it in each layer.
        mlp_path: Its name in the layer.
        norms: The name of each norm of a layer, by its role.
        norm: The norm at those places and before the head; RMSNorm of the width without one.
        final_norm: Whether a norm with parameters stands before the head.
        query_norm: The norm on the queries, where there is one.
        key_norm: The norm on the keys.
        query_key_names: The names of those two inside the attention.
        windows: Which layers have which window; None for the whole context in all of them.
        in_layers: Further blocks of each layer, each behind its path in it.
        tied: Whether the head is tied where `tie_embeddings` does not say.
        default_class: What follows the prefix in the usual class.
        prefix: The path of the decoder in a larger model, with its dot.
        before: Placements ahead of the decoder, such as a tower.
        after: Placements behind its head.
        gguf_architecture: llama.cpp's name, where its files hold what is described.
        notes: What the reader should know.
    """
    num_layers = number_of_layers(hyperparameters)
    hidden = hyperparameters.count("hidden_size")
    norm = norm or Norm(width=hidden, bias=False)
    body = prefix + "model."
    layers, layer = range(num_layers), body + "layers.{layer}."
    head = language_head(hyperparameters, prefixes, default=default_class, tied=tied, path=prefix + "lm_head",
                         embedding=body + "embed_tokens.weight")  # fmt: skip
    roles = ("attention_q_norm", "attention_k_norm")
    query_key = list(zip(query_key_names, (query_norm, key_norm), roles, strict=True))
    return Architecture(
        family=family,
        model_type=hyperparameters.model_type,
        placements=(
            *before,
            Placement(body + "embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            *(Placement(layer + "self_attn", replace(attention, window=window), part)
              for window, part in (windows if windows is not None else [(None, layers)])),
            *(Placement(f"{layer}self_attn.{name}", replace(block, role=role), layers)
              for name, block, role in query_key if block is not None),
            Placement(layer + mlp_path, mlp, layers),
            *(Placement(layer + name, replace(norm, role=role), layers) for role, name in norms.items()),
            *(Placement(layer + path, block, layers) for path, block in in_layers),
            *([Placement(body + "norm", replace(norm, role="final_norm"))] if final_norm else []),
            *head.placements,
            *after,
        ),
        num_layers=num_layers,
        num_heads=attention.num_heads,
        num_kv_heads=attention.num_kv_heads,
        num_experts=mlp.num_experts if isinstance(mlp, Experts) else 0,
        base_prefix=body,
        tie_embeddings=head.tied,
        gguf_architecture=gguf_architecture,
        notes=(*notes, *head.notes),
    )  # fmt: skip


def layered(
    hyperparameters: Hyperparameters,
    family: str,
    prefixes: tuple[str, ...],
    default_class: str,
    body: str,
    layers: Iterable[Iterable[tuple[str, Block]]],
    *,
    before: tuple[Placement, ...] = (),
    after: Iterable[Placement] = (),
    num_experts: int = 0,
) -> Architecture:
    """A decoder whose layers differ: the parts of each one after another, each behind its path in the layer.

    Equal parts come together in one placement. The head is tied unless `tie_embeddings` says otherwise.
    """
    hidden, num_layers = hyperparameters.count("hidden_size"), number_of_layers(hyperparameters)
    head = language_head(hyperparameters, prefixes, default=default_class, tied=True,
                         embedding=body + "embed_tokens.weight")  # fmt: skip
    kinds: dict[tuple[str, Block], list[int]] = defaultdict(list)
    for number, layer in enumerate(layers):
        for path, part in layer:
            kinds[path, part].append(number)
    return Architecture(
        family=family,
        model_type=hyperparameters.model_type,
        placements=(
            *before,
            Placement(body + "embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            *(Placement(body + "layers.{layer}." + path, part, tuple(numbers))
              for (path, part), numbers in kinds.items()),
            Placement(body + "norm", Norm(width=hidden, bias=False, role="final_norm")),
            *after,
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=hyperparameters.count("num_heads"),
        num_kv_heads=hyperparameters.count("num_kv_heads"),
        num_experts=num_experts,
        base_prefix=body if not before else "",
        tie_embeddings=head.tied,
        notes=head.notes,
    )  # fmt: skip
