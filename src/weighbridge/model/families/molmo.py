"""Molmo: a decoder with fused maps beside CLIP's image encoder and a pooling attention over neighbouring patches.

Source: the model code published with the weights (`config_molmo.py`, `modeling_molmo.py`) and the tensor names of their
shard map. The configuration says nothing of the tower, which is the same in all: 23 layers of ViT-L/14 at 336 pixels,
of which two are fed on. The token table has 128 rows of its own for the added tokens.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.composite import tower
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Encoder, Names
from weighbridge.model.tensors import Component

_ADDED_TOKENS = 128
_WIDTH, _PATCH, _POSITIONS, _FED_ON = 1024, 3 * 14 * 14, 24 * 24 + 1, 2
_NAMES = Names(attention="attention", projections=("wq", "wk", "wv", "wo"), norms=("attention_norm", "ffn_norm"),
               mlp="feed_forward", up="w1", down="w2")  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its tower."""
    if hyperparameters.classes not in ((), ("MolmoForCausalLM",)):
        raise unknown_class(hyperparameters, ("MolmoForCausalLM",))
    for key in ("attention_layer_norm", "weight_tying", "tie_embeddings", "clip_qkv"):
        hyperparameters.refuse(key, "which this family does not describe")
    if hyperparameters.settings.get("layer_norm_type") not in (None, "rms"):
        hyperparameters.refuse("layer_norm_type", "of which this family describes rms alone")
    hidden, heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    kv_heads = hyperparameters.count("num_kv_heads", heads)
    hyperparameters.divided("query heads by key-value heads", heads, kv_heads)
    wide = hyperparameters.count("intermediate_size")
    inner = hyperparameters.divided("gate and up", wide, 2)
    vocab = hyperparameters.count("vocab_size")
    rows = hyperparameters.count("embedding_size", vocab)
    if rows < vocab:
        raise ConfigError(f"{hyperparameters.source} has a table of {rows} rows for {vocab} tokens", "a row for each",
                          "correct embedding_size")  # fmt: skip
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=kv_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, heads), names=("att_proj", "attn_out"),
                          qkv_bias=hyperparameters.flag("qkv_bias", True))  # fmt: skip
    base, layer, norm = "model.transformer.", "model.transformer.blocks.{layer}.", Norm(width=hidden, bias=False)
    up = Linear(in_features=hidden, out_features=wide, bias=False, role="mlp_gate_up", component=Component.MLP)
    down = Linear(in_features=inner, out_features=hidden, bias=False, role="mlp_down", component=Component.MLP)
    table = Array(name="embedding", shape=(rows, hidden), role="token_embedding", component=Component.EMBEDDING,
                  use=Use.LOOKUP)  # fmt: skip
    head = Linear(in_features=hidden, out_features=rows, bias=False, role="head", component=Component.HEAD)
    return Architecture(
        family="molmo",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(base + "wte", table),
            Placement(base + "wte", replace(table, name="new_embedding", shape=(_ADDED_TOKENS, hidden))),
            Placement(layer + "attn_norm", replace(norm, role="attention_norm"), layers),
            Placement(layer.rstrip("."), attention, layers),
            Placement(layer + "ff_norm", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "ff_proj", up, layers),
            Placement(layer + "ff_out", down, layers),
            Placement(base + "ln_f", replace(norm, role="final_norm")),
            Placement(base + "ff_out", head),
            *_tower(hidden, inner),
        ),
        num_layers=len(layers),
        num_heads=heads,
        num_kv_heads=kv_heads,
    )


def _tower(hidden: int, inner: int) -> tuple[Placement, ...]:
    base, pool, fed = "model.vision_backbone.", "model.vision_backbone.image_pooling_2d.", _FED_ON * _WIDTH
    layers = Encoder(hidden_size=_WIDTH, intermediate_size=4 * _WIDTH, num_layers=23, num_heads=16, names=_NAMES)
    maps = {name: Linear(in_features=_WIDTH, out_features=inner, bias=False) for name in ("w1", "w3")}
    maps["w2"] = Linear(in_features=inner, out_features=hidden, bias=False)
    return tower((
        Placement(base.rstrip("."), Array(name="pad_embed", shape=(2, fed))),
        Placement(base + "image_vit", Array(name="class_embedding", shape=(_WIDTH,))),
        Placement(base + "image_vit", Array(name="positional_embedding", shape=(_POSITIONS, _WIDTH))),
        Placement(base + "image_vit.patch_embedding", Linear(in_features=_PATCH, out_features=_WIDTH, bias=False)),
        Placement(base + "image_vit.pre_ln", Norm(width=_WIDTH)),
        *layers.placements(base + "image_vit.transformer.resblocks.{layer}"),
        *(Placement(pool + name, Linear(in_features=fed, out_features=_WIDTH)) for name in ("wq", "wk", "wv")),
        Placement(pool + "wo", Linear(in_features=_WIDTH, out_features=_WIDTH)),
        *(Placement(f"{base}image_projector.{name}", block) for name, block in maps.items()),
    ))  # fmt: skip


FAMILY = Family(
    name="molmo",
    title="Molmo",
    model_types=("molmo",),
    gguf={},
    source="the model code published with allenai/Molmo-7B-D-0924",
    build=build,
)
