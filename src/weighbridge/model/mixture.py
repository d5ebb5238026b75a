"""Which layers of a decoder are routed, windowed or wide, and what do all decoders with experts share?

The usual wiring of a mixture of experts: token table, and in each layer a norm, attention, a norm, then either a dense
feed-forward block or experts with a router and, in some, shared experts; a final norm and a head. Families give the
blocks; the names are those of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.family import Head, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

LAYER = "model.layers.{layer}."
GATED = ("experts.{expert}.gate_proj", "experts.{expert}.up_proj", "experts.{expert}.down_proj")
"""The names of the experts' matrices in most published checkpoints."""

T = TypeVar("T")


def grouped(values: Iterable[T]) -> list[tuple[T, tuple[int, ...]]]:
    """The layers that share a value, in order of first occurrence.

    Example:
        >>> grouped(["dense", "sparse", "sparse"])
        [('dense', (0,)), ('sparse', (1, 2))]
    """
    layers: dict[T, list[int]] = {}
    for layer, value in enumerate(values):
        layers.setdefault(value, []).append(layer)
    return [(value, tuple(members)) for value, members in layers.items()]


def natural(hyperparameters: Hyperparameters, name: str, default: int = 0) -> int:
    """A whole number that may be zero; the default stands in for a key that is missing or null.

    Example:
        >>> natural(Hyperparameters("a.json", "a", {"first_k_dense_replace": 0}), "first_k_dense_replace", 3)
        0
    """
    value = hyperparameters.settings.get(name)
    if value == 0 and not isinstance(value, bool):
        return 0
    return hyperparameters.count(name, default)


def named_layers(
    hyperparameters: Hyperparameters, name: str, num_layers: int, kinds: tuple[str, ...]
) -> list[str] | None:
    """A list with one of `kinds` for every layer, or None for a key that is missing or null.

    Raises:
        ConfigError: when the list is of another length or holds anything else.
    """
    value = hyperparameters.settings.get(name)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != num_layers or not all(kind in kinds for kind in value):
        raise ConfigError(
            f"{hyperparameters.source} has {name} = {repr(value)[:60]}",
            f"a list of {num_layers} entries, each of {', '.join(kinds)}", "correct the key",
        )  # fmt: skip
    return list(value)


def whole_numbers(hyperparameters: Hyperparameters, name: str) -> list[int] | None:
    """A list of whole numbers from 0, such as layers or sizes by layer, or None for a missing or null key.

    Raises:
        ConfigError: when the key holds anything else.
    """
    value = hyperparameters.settings.get(name)
    if value is None:
        return None
    valid = isinstance(value, list | tuple) and len(value) <= MOST_LAYERS
    if not valid or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**40 for n in value):
        raise ConfigError(
            f"{hyperparameters.source} has {name} = {repr(value)[:60]}", "a list of whole numbers", "correct the key"
        )
    return list(value)


def routing(hyperparameters: Hyperparameters, experts: int | None, active: int | None) -> tuple[int, int]:
    """How many experts there are and how many a token uses, with the family's defaults.

    Raises:
        ConfigError: when a token uses more than there are.
    """
    key = "n_routed_experts" if hyperparameters.settings.get("n_routed_experts") is not None else "num_experts"
    num_experts = hyperparameters.count(key, experts, most=MOST_EXPERTS)
    experts_per_token = hyperparameters.count("experts_per_token", active)
    hyperparameters.check_experts(num_experts, experts_per_token)
    return num_experts, experts_per_token


def num_shared(hyperparameters: Hyperparameters, default: int) -> int:
    """`n_shared_experts`: none when the key is null, the default when it is missing."""
    if "n_shared_experts" in hyperparameters.settings and hyperparameters.settings["n_shared_experts"] is None:
        return 0
    return natural(hyperparameters, "n_shared_experts", default)


def shared_experts(hidden: int, intermediate: int, bias: bool = False) -> FeedForward:
    """Experts that every token uses: one feed-forward block of their width together."""
    return FeedForward(hidden_size=hidden, intermediate_size=intermediate, bias=bias, kind="shared",
                       component=Component.SHARED_EXPERTS)  # fmt: skip


def attention(
    hyperparameters: Hyperparameters, *, num_kv_heads: int | None = None, head_dim: int | None = None,
    qkv_bias: bool = False, output_bias: bool = False, num_heads: int | None = None,
) -> Attention:  # fmt: skip
    """Grouped-query attention in the usual spelling; the arguments are the family's defaults.

    Raises:
        ConfigError: when the query heads cannot be shared out among the key-value heads.
    """
    hidden = hyperparameters.count("hidden_size")
    heads = hyperparameters.count("num_heads", num_heads)
    default = heads if "num_kv_heads" in hyperparameters.settings else num_kv_heads or heads
    kv_heads = hyperparameters.count("num_kv_heads", default)  # a null means one for each head, a missing key not
    hyperparameters.divided("query heads by key-value heads", heads, kv_heads)
    width = hyperparameters.optional_count("head_dim") or head_dim or hyperparameters.divided("head_dim", hidden, heads)
    return Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=kv_heads, head_dim=width,
                     qkv_bias=qkv_bias, output_bias=output_bias)  # fmt: skip


def head_norms(
    query_width: int, key_width: int, layers: Sequence[int], names: tuple[str, str] = ("q_norm", "k_norm"),
    path: str = LAYER + "self_attn.", mtp: bool = False,
) -> tuple[Placement, Placement]:  # fmt: skip
    """The norms of queries and keys."""
    query, key = names
    return (
        Placement(path + query, Norm(width=query_width, bias=False, role="attention_q_norm"), layers, mtp=mtp),
        Placement(path + key, Norm(width=key_width, bias=False, role="attention_k_norm"), layers, mtp=mtp),
    )


def decoder(
    hyperparameters: Hyperparameters,
    family: str,
    prefixes: tuple[str, ...],
    body: Sequence[Placement],
    *,
    attention: Attention | None = None,
    heads: tuple[int, int] | None = None,
    num_experts: int,
    norm_bias: bool = False,
    norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm"),
    embedding: str = "model.embed_tokens",
    layer: str = LAYER,
    final: str = "model.norm",
    head: Head | None = None,
    base_prefix: str = "model.",
    gguf: str | None = None,
    notes: tuple[str, ...] = (),
) -> Architecture:
    """The wiring around `body`, the attention and feed-forward placements of all layers.

    `prefixes` are those of the class names; `head` replaces the usual language head. `attention` gives the heads,
    or `heads` the numbers of query and key-value heads.
    """
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    if attention is not None:
        heads = attention.num_heads, attention.num_kv_heads
    num_heads, num_kv_heads = heads or (hyperparameters.count("num_heads"),) * 2
    layers, norm = range(num_layers), Norm(width=hidden, bias=norm_bias)
    head = head or language_head(hyperparameters, prefixes, embedding=f"{embedding}.weight")
    before, after = norms
    return Architecture(
        family=family,
        model_type=hyperparameters.model_type,
        placements=(
            Placement(embedding, Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            *(placement for placement in body if placement.layers is None or len(placement.layers)),
            Placement(layer + before, replace(norm, role="attention_norm"), layers),
            Placement(layer + after, replace(norm, role="mlp_norm"), layers),
            Placement(final, replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        num_experts=num_experts,
        base_prefix=base_prefix,
        tie_embeddings=head.tied,
        gguf_architecture=gguf,
        notes=(*notes, *head.notes),
    )


def next_token_layers(
    hyperparameters: Hyperparameters, parts_of_layer: Sequence[Placement], *, repeats_tables: bool,
    norm_path: str = "shared_head.norm", head_path: str | None = None,
) -> tuple[Placement, ...]:  # fmt: skip
    """Next-token-prediction layers as DeepSeek-V3 stores them, after the model's own: a full layer and its joint.

    `parts_of_layer` are the attention and experts of a routed layer. `repeats_tables`: token table and head are stored
    again; `head_path` is where the head is that is stored without the table.
    """
    extra = natural(hyperparameters, "num_nextn_predict_layers")
    if not extra:
        return ()
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    first = hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers = range(first, first + min(extra, MOST_LAYERS))
    norm = Norm(width=hidden, bias=False)
    join = Linear(in_features=2 * hidden, out_features=hidden, bias=False, role="mtp_join")
    head = Linear(in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD)
    tables = (("embed_tokens", Embedding(rows=vocab, width=hidden)), ("shared_head.head", head))
    parts: tuple[tuple[str, Block], ...] = (
        ("input_layernorm", norm), ("post_attention_layernorm", norm), ("enorm", norm), ("hnorm", norm),
        ("eh_proj", join), (norm_path, norm), *(tables if repeats_tables else ()),
        *(((head_path, head),) if head_path else ()),
    )  # fmt: skip
    return (
        *(replace(placement, layers=layers, mtp=True) for placement in parts_of_layer),
        *(Placement(LAYER + name, block, layers, mtp=True) for name, block in parts),
    )


def dense_and_sparse(
    hyperparameters: Hyperparameters, num_layers: int, first: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The layers with a dense feed-forward block and those with experts.

    `mlp_layer_types` names them one by one; else the first `first_k_dense_replace` (default `first`) are dense, and of
    the others those that `moe_layer_freq` steps over.

    Raises:
        ConfigError: when the list of layers is not one for this model.
    """
    kinds = named_layers(hyperparameters, "mlp_layer_types", num_layers, ("dense", "sparse"))
    if kinds is None:
        dense = natural(hyperparameters, "first_k_dense_replace", first)
        every = hyperparameters.count("moe_layer_freq", 1)
        kinds = ["sparse" if layer >= dense and layer % every == 0 else "dense" for layer in range(num_layers)]
    layers = dict(grouped(kinds))
    return layers.get("dense", ()), layers.get("sparse", ())
