"""MobileBERT: deep and narrow layers behind bottlenecks, several feed-forward blocks in each, a table of three tokens.

Source: transformers `models/mobilebert/{configuration,modeling}_mobilebert.py`. Each word enters with its neighbours
(`trigram_input`). Layers work at `intra_bottleneck_size`; values are computed from the full width. The norms are scales
and shifts whichever `normalization_type` they are. The head keeps a table of what the token table is too narrow for.
Files name the width of the layers as `true_hidden_size` too; another one there would not fit what stands around them.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.lean_attention import LeanAttention
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {name: parts for name, parts in bert.CLASSES.items() if name != "ForCausalLM"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    names = _CLASSES[suffix := bert.known_class(hyperparameters, ("MobileBert",), _CLASSES)]
    base = "" if suffix == "Model" else "mobilebert."
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    tied = "masked" in names and hyperparameters.flag("tie_embeddings", True)
    if not hyperparameters.flag("classifier_activation", True):
        names = tuple(name for name in names if name != "pooler")
    top = [placement for name in names
           for placement in (_head(hyperparameters, base, tied) if name == "masked"
                             else bert.heads(hyperparameters, (name,), base, tied))]  # fmt: skip
    return Architecture(
        family="mobilebert",
        model_type=hyperparameters.model_type,
        placements=(
            *_tables(hyperparameters, base + "embeddings.", hidden),
            *(Placement(f"{base}encoder.layer.{{layer}}.{path}".rstrip("."), block, layers)
              for path, block in _layer(hyperparameters, hidden, num_heads)),
            *top,
        ),
        num_layers=len(layers),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="mobilebert.",
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )  # fmt: skip


def _tables(hyperparameters: Hyperparameters, path: str, hidden: int) -> Iterator[Placement]:
    width = hyperparameters.count("embedding_size", 128)
    rows = (("word_embeddings", "vocab_size", None, width, "token_embedding"),
            ("position_embeddings", "max_positions", 512, hidden, "position_embedding"),
            ("token_type_embeddings", "num_token_types", 2, hidden, "type_embedding"))  # fmt: skip
    for name, key, default, size, role in rows:
        yield Placement(path + name, Embedding(rows=hyperparameters.count(key, default), width=size, role=role))
    inputs = 3 * width if hyperparameters.flag("trigram_input", True) else width
    project = Linear(in_features=inputs, out_features=hidden, role="embedding_projection")
    yield Placement(path + "embedding_transformation", project)
    yield Placement(path + "LayerNorm", Norm(width=hidden, role="embedding_norm"))


def _layer(hyperparameters: Hyperparameters, hidden: int, num_heads: int) -> Iterator[tuple[str, Block]]:
    """The parts of every layer, each behind its path."""
    narrows = hyperparameters.flag("use_bottleneck", True)
    width = hyperparameters.count("intra_bottleneck_size", 128) if narrows else hidden
    hyperparameters.same("true_hidden_size", hyperparameters.count("true_hidden_size", width), width)
    whole = Attention(hidden_size=width, num_heads=num_heads, num_kv_heads=num_heads,
                      head_dim=hyperparameters.divided("head_dim", width, num_heads), qkv_bias=True, output_bias=True,
                      names=("self.query", "self.key", "self.value", "output.dense"), causal=False)  # fmt: skip
    yield "attention", LeanAttention(whole=whole)
    inputs = width if hyperparameters.flag("use_bottleneck_attention", False) else hidden
    yield "attention.self.value", Linear(in_features=inputs, out_features=width, role="attention_v",
                                         component=Component.ATTENTION)  # fmt: skip
    yield "attention.output.LayerNorm", Norm(width=width, role="attention_output_norm")
    block = FeedForward(hidden_size=width, intermediate_size=hyperparameters.count("intermediate_size"), gate=None,
                        up="intermediate.dense", down="output.dense", bias=True)  # fmt: skip
    further = range(hyperparameters.count("num_feedforward_networks", 4, most=MOST_LAYERS) - 1)
    for path in ("", *(f"ffn.{number}." for number in further)):
        yield path.rstrip("."), block
        yield f"{path}output.LayerNorm", Norm(width=width, role="mlp_output_norm")
    if narrows:
        shared = hyperparameters.flag("key_query_shared_bottleneck", True)
        for name in ("input", "attention") if shared else ("input",):
            yield f"bottleneck.{name}.dense", Linear(in_features=hidden, out_features=width, role="bottleneck")
            yield f"bottleneck.{name}.LayerNorm", Norm(width=width)
        yield "output.bottleneck.dense", Linear(in_features=width, out_features=hidden, role="bottleneck")
        yield "output.bottleneck.LayerNorm", Norm(width=hidden)


def _head(hyperparameters: Hyperparameters, base: str, tied: bool) -> list[Placement]:
    """Transform and norm; the decoder, tied to the narrow token table, and a table for the rest of the width."""
    hidden, vocab, path = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size"), "cls.predictions"
    width, part = hyperparameters.count("embedding_size", 128), Component.HEAD
    rest = hyperparameters.derived("hidden_size - embedding_size", hidden - width)
    decoder = Linear(in_features=width, out_features=vocab, bias=False, role="head", component=part,
                     tied_to=f"{base}embeddings.word_embeddings.weight" if tied else None)  # fmt: skip
    return [
        bert.output(f"{path}.transform.dense", hidden, hidden, "head_transform"),
        Placement(f"{path}.transform.LayerNorm", Norm(width=hidden, component=part)),
        Placement(f"{path}.dense", Linear(in_features=vocab, out_features=rest, bias=False, role="head",
                                          component=part)),
        Placement(f"{path}.decoder", decoder),
        Placement(path, Vector(name="bias", width=vocab, role="head", component=part)),
        Placement(f"{path}.decoder", Vector(name="bias", width=vocab, role="head_bias", component=part,
                                            tied_to=f"{path}.bias" if tied else None)),
    ]  # fmt: skip


FAMILY = Family(
    name="mobilebert",
    title="MobileBERT",
    model_types=("mobilebert",),
    gguf={},
    source="transformers models/mobilebert",
    build=build,
)
