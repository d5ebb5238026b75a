"""DeepSeek-V4: several residual streams, mixed around each part; compressed attention; hash-routed layers.

Source: transformers `models/deepseek_v4/{configuration,modeling}_deepseek_v4.py`; tensor names are those of the
published checkpoints, which `conversion_mapping.py` lists. `compress_ratios` gives each layer's attention: 0 a window
alone, 4 compressed with an indexer, 128 compressed. Of `num_hash_layers` layers a fixed table picks the experts, a
buffer, and the others have a bias that balances the router, a buffer too. The list goes on over the layers that predict
further tokens, each with streams, experts and a last norm of its own; token table and head are the model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Experts, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.compressed_attention import CompressedAttention
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_LAYER = "layers.{layer}."
_RATES = {"sliding_attention": None, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
_NAMES = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with experts in every layer."""
    for name in ("attention_bias", "mlp_bias", "compress_rate_csa", "compress_rate_hca"):
        hyperparameters.refuse(name, "which this family does not describe")
    if hyperparameters.settings.get("compress_rates") not in (None, {k: v for k, v in _RATES.items() if v}):
        hyperparameters.refuse("compress_rates", "which are not those of the published models")
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, 256, 6)
    inner = hyperparameters.count("moe_intermediate_size", 2048)
    hashed = min(mixture.natural(hyperparameters, "num_hash_layers", 3), num_layers)
    layers = range(num_layers)
    names = ("experts.{expert}.w1", "experts.{expert}.w3", "experts.{expert}.w2")
    first, rest = (
        Experts(hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, experts_per_token=active,
                names=names, correction=name, correction_shape=shape)
        for name, shape in (("gate.tid2eid", (vocab, active)), ("gate.bias", None))
    )  # fmt: skip
    shared = FeedForward(hidden_size=hidden, intermediate_size=inner, gate="w1", up="w3", down="w2", kind="shared",
                         component=Component.SHARED_EXPERTS)  # fmt: skip
    if hyperparameters.count("n_shared_experts", 1) != 1:
        raise ConfigError(f"{hyperparameters.source} has several shared experts", "one, as the reference class has",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    kinds = _kinds(hyperparameters, num_layers)
    body = [
        *(Placement(_LAYER + "attn", _attention(hyperparameters, kind), members)
          for kind, members in mixture.grouped(kinds)),
        Placement(_LAYER + "ffn", first, layers[:hashed]),
        Placement(_LAYER + "ffn", rest, layers[hashed:]),
        Placement(_LAYER + "ffn.shared_experts", shared, layers),
        *_streams(hyperparameters, _LAYER, layers),
        *_last_streams(hyperparameters, ""),
        *_next_token_layers(hyperparameters, num_layers, {"ffn": rest, "ffn.shared_experts": shared}),
    ]  # fmt: skip
    heads = hyperparameters.count("num_heads", 64), hyperparameters.count("num_kv_heads", 1)
    head = language_head(hyperparameters, ("DeepseekV4",), embedding="embed.weight", path="head")
    return mixture.decoder(
        hyperparameters, "deepseek_v4", ("DeepseekV4",), body, heads=heads, num_experts=num_experts,
        norms=("attn_norm", "ffn_norm"), embedding="embed", layer=_LAYER, final="norm", head=head, base_prefix="",
        notes=("the indexer's keys are kept in a cache of their own, which is not in the state",),
    )  # fmt: skip


def _kinds(hyperparameters: Hyperparameters, num_layers: int) -> list[str]:
    """The attention of each layer; lists may go on over next-token-prediction layers."""
    ratios = mixture.whole_numbers(hyperparameters, "compress_ratios")
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, tuple(_RATES))
    if kinds is not None:
        return kinds
    if ratios is None:
        raise ConfigError(f"{hyperparameters.source} has no compress_ratios", "the key with a number for each layer",
                          "use the model's full config.json")  # fmt: skip
    if len(ratios) < num_layers or not set(ratios) <= set(_NAMES):
        raise ConfigError(f"{hyperparameters.source} has compress_ratios = {repr(ratios)[:60]}",
                          f"{num_layers} entries, each 0, 4 or 128", "correct the key")  # fmt: skip
    return [_NAMES[ratio] for ratio in ratios[:num_layers]]


def _attention(hyperparameters: Hyperparameters, kind: str) -> CompressedAttention:
    num_heads, head_dim = hyperparameters.count("num_heads", 64), hyperparameters.count("head_dim", 512)
    groups, rate = hyperparameters.count("o_groups", 8), _RATES[kind]
    hyperparameters.divided("the width of a group", num_heads * head_dim, groups)
    sparse = kind == "compressed_sparse_attention"
    return CompressedAttention(
        hidden_size=hyperparameters.count("hidden_size"),
        num_heads=num_heads,
        head_dim=head_dim,
        q_lora_rank=hyperparameters.count("q_lora_rank", 1024),
        o_groups=groups,
        o_lora_rank=hyperparameters.count("o_lora_rank", 1024),
        window=hyperparameters.count("sliding_window", 128),
        rate=rate,
        index_heads=hyperparameters.count("index_n_heads", 64) if sparse else 0,
        index_head_dim=hyperparameters.count("index_head_dim", 128) if sparse else 0,
    )


def _streams(hyperparameters: Hyperparameters, layer: str, layers: range) -> list[Placement]:
    """What mixes the residual streams around attention and around the experts."""
    streams = hyperparameters.count("hc_mult", 4)
    width, mixes = streams * hyperparameters.count("hidden_size"), (2 + streams) * streams
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (("fn", (mixes, width)), ("base", (mixes,)), ("scale", (3,)))
    return [
        Placement(layer.rstrip("."), Array(name=f"hc_{part}_{name}", shape=shape, role="streams", component=component),
                  layers)
        for part, component in (("attn", Component.ATTENTION), ("ffn", Component.MLP)) for name, shape in shapes
    ]  # fmt: skip


def _last_streams(hyperparameters: Hyperparameters, path: str, layers: range | None = None) -> list[Placement]:
    """What makes one of the streams before a head."""
    streams = hyperparameters.count("hc_mult", 4)
    width = streams * hyperparameters.count("hidden_size")
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (("fn", (streams, width)), ("base", (streams,)), ("scale", (1,)))
    return [Placement(path, Array(name=f"hc_head_{name}", shape=shape, role="streams"), layers)
            for name, shape in shapes]  # fmt: skip


def _next_token_layers(
    hyperparameters: Hyperparameters, num_layers: int, experts: Mapping[str, Block]
) -> Iterator[Placement]:
    """Layers that take the last hidden state and the next token's embedding, each by a map of its own."""
    extra = min(mixture.natural(hyperparameters, "num_nextn_predict_layers"), MOST_LAYERS)
    ratios = mixture.whole_numbers(hyperparameters, "compress_ratios") or []
    kinds = {_NAMES[ratio] for ratio in ratios[num_layers : num_layers + extra]}
    if not extra or len(kinds) > 1:
        return
    hidden, layers, layer = hyperparameters.count("hidden_size"), range(extra), "mtp.{layer}."
    square = Linear(in_features=hidden, out_features=hidden, bias=False, role="mtp_join")
    norm = Norm(width=hidden, bias=False)
    parts: dict[str, Block] = {
        "attn": _attention(hyperparameters, (kinds or {"sliding_attention"}).pop()), **experts,
        "e_proj": square, "h_proj": square,
        **dict.fromkeys(("attn_norm", "ffn_norm", "enorm", "hnorm", "norm"), norm),
    }  # fmt: skip
    yield from (Placement(layer + path, block, layers, mtp=True) for path, block in parts.items())
    streams = [*_streams(hyperparameters, layer, layers), *_last_streams(hyperparameters, layer.rstrip("."), layers)]
    yield from (replace(placement, mtp=True) for placement in streams)


FAMILY = Family(
    name="deepseek_v4",
    title="DeepSeek-V4",
    model_types=("deepseek_v4",),
    gguf={},
    source="transformers models/deepseek_v4",
    build=build,
)
