"""Kosmos-2: a decoder with a norm inside attention and feed-forward, CLIP's image encoder, and queries that read it.

Source: transformers `models/kosmos2/{configuration,modeling}_kosmos2.py` (5.x). Positions are sines. The decoder's head
is tied.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import check_class, tower, with_defaults
from weighbridge.model.families.clip import vision_encoder
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")
_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_layers": 24, "num_heads": 16, "patch_size": 14}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its image encoder and the queries between them."""
    check_class(hyperparameters, "Kosmos2")
    text = hyperparameters.part("text_config")
    text.refuse("add_cross_attention", "which this family does not describe")
    for key in ("hidden_size", "num_layers", "num_heads"):
        text.refuse(key, "which published files spell embed_dim, layers and attention_heads")
    images, seen = vision_encoder(with_defaults(hyperparameters.part("vision_config"), _VISION), "vision_model.model")
    width, heads = text.count("embed_dim", 2048), text.count("attention_heads", 32)
    inner, vocab = text.count("ffn_dim", 8192), text.count("vocab_size", 65037)
    layers, base = range(text.count("layers", 24, most=MOST_LAYERS)), "text_model.model."
    layer, norm = base + "layers.{layer}.", Norm(width=width)

    def attention(causal: bool) -> Attention:
        return Attention(hidden_size=width, num_heads=heads, num_kv_heads=heads,
                         head_dim=text.divided("head_dim", width, heads), names=_NAMES, qkv_bias=True,
                         output_bias=True, causal=causal)  # fmt: skip

    parts: dict[str, Block] = {
        "self_attn": attention(causal=True), "self_attn.inner_attn_ln": norm, "self_attn_layer_norm": norm,
        "ffn": FeedForward(hidden_size=width, intermediate_size=inner, gate=None, up="fc1", down="fc2", bias=True),
        "ffn.ffn_layernorm": Norm(width=inner), "final_layer_norm": norm,
    }  # fmt: skip
    tied = hyperparameters.flag("tie_embeddings", True) or text.flag("tie_embeddings", True)
    projection, queries = "image_to_text_projection", hyperparameters.count("latent_query_num", 64)
    return Architecture(
        family="kosmos2",
        model_type=hyperparameters.model_type,
        placements=(
            *tower((
                *images,
                Placement(projection + ".dense", Linear(in_features=seen.hidden_size, out_features=width)),
                Placement(projection, Array(name="latent_query", shape=(queries, width))),
                Placement(projection + ".x_attn", attention(causal=False)),
            )),
            Placement(base + "embed_tokens", Embedding(rows=vocab, width=width)),
            *(Placement(layer + name, block, layers) for name, block in parts.items()),
            Placement(base + "layer_norm", Norm(width=width, role="final_norm")),
            Placement("text_model.lm_head", Linear(
                in_features=width, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                tied_to=base + "embed_tokens.weight" if tied else None)),
        ),
        num_layers=len(layers),
        num_heads=heads,
        num_kv_heads=heads,
        tie_embeddings=tied,
    )  # fmt: skip


FAMILY = Family(
    name="kosmos2",
    title="Kosmos-2",
    model_types=("kosmos-2",),
    gguf={},
    source="transformers models/kosmos2",
    build=build,
)
