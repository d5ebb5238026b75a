"""Llama 3.2 Vision: Llama's decoder with gated cross-attention layers between its own, and a tower in two stages.

Source: transformers `models/mllama/{configuration,modeling}_mllama.py` (5.x). A layer listed in
`cross_attention_layers` attends to the image instead of the text and keeps no cache that grows with the text. The token
table has eight rows more than the head. Tensor names are those of published files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.block import State, StateKind
from weighbridge.model.composite import check_class, tower, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Encoder, Names, patches, token
from weighbridge.model.tensors import Component

_TEXT = {"vocab_size": 128256, "hidden_size": 4096, "num_layers": 40, "num_heads": 32, "num_kv_heads": 8,
         "intermediate_size": 14336}  # fmt: skip
_VISION = {"hidden_size": 1280, "num_layers": 32, "num_global_layers": 8, "attention_heads": 16,
           "intermediate_size": 5120, "vision_output_dim": 7680, "max_num_tiles": 4}  # fmt: skip
_ADDED_TOKENS = 8
_RATIOS = 8
_NAMES = Names(projections=("q_proj", "k_proj", "v_proj", "o_proj"),
               norms=("input_layernorm", "post_attention_layernorm"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAttention(Attention):
    """Attention of text to an image, whose keys and values are kept once and do not grow with the text.

    Example:
        >>> block = ImageAttention(hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8, positions=100)
        >>> block.states()[0].elements_per_sequence
        3200
    """

    positions: int

    def states(self) -> tuple[State, ...]:
        """Keys and values of every patch of an image."""
        elements = 2 * self.num_kv_heads * self.head_dim * self.positions
        return (State(kind=StateKind.CROSS, elements_per_sequence=elements),)

    def attention_flops_per_position(self) -> int:
        """None that goes by the length of the text."""
        return 0


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its tower."""
    check_class(hyperparameters, "Mllama")
    text = with_defaults(hyperparameters.part("text_config"), _TEXT)
    vision = with_defaults(hyperparameters.part("vision_config"), _VISION)
    text.refuse("tie_embeddings", "which the published models do not")
    hyperparameters.refuse("tie_embeddings", "which the published models do not")
    hidden, heads, kv_heads = text.count("hidden_size"), text.count("num_heads"), text.count("num_kv_heads")
    text.divided("query heads by key-value heads", heads, kv_heads)
    num_layers = text.count("num_layers", most=MOST_LAYERS)
    crossed = _crossed(text, num_layers)
    own = tuple(layer for layer in range(num_layers) if layer not in crossed)
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=kv_heads,
                          head_dim=text.divided("head_dim", hidden, heads))  # fmt: skip
    cut = patches(vision, 448, 14)
    tiles = vision.count("max_num_tiles")
    across = ImageAttention(hidden_size=hidden, num_heads=heads, num_kv_heads=kv_heads, head_dim=attention.head_dim,
                            positions=tiles * (cut.count + 1))  # fmt: skip
    mlp = FeedForward(hidden_size=hidden, intermediate_size=text.count("intermediate_size"))
    norm, head_norm = Norm(width=hidden, bias=False), Norm(width=attention.head_dim, bias=False)
    base, layer, every = "language_model.model.", "language_model.model.layers.{layer}", range(num_layers)
    vocab = text.count("vocab_size")
    gates = (Vector(name=f"cross_attn_{part}_gate", width=1, role="gate", component=Component.ATTENTION)
             for part in ("attn", "mlp"))  # fmt: skip
    return Architecture(
        family="mllama",
        model_type=hyperparameters.model_type,
        placements=(
            *_tower(vision, hidden),
            Placement(base + "embed_tokens", Embedding(rows=vocab + _ADDED_TOKENS, width=hidden)),
            *((Placement(layer + ".self_attn", attention, own),) if own else ()),
            Placement(layer + ".cross_attn", across, crossed),
            Placement(layer + ".cross_attn.q_norm", replace(head_norm, role="attention_q_norm"), crossed),
            Placement(layer + ".cross_attn.k_norm", replace(head_norm, role="attention_k_norm"), crossed),
            *(Placement(layer, gate, crossed) for gate in gates),
            Placement(layer + ".mlp", mlp, every),
            Placement(layer + ".input_layernorm", replace(norm, role="attention_norm"), every),
            Placement(layer + ".post_attention_layernorm", replace(norm, role="mlp_norm"), every),
            Placement(base + "norm", replace(norm, role="final_norm")),
            Placement("language_model.lm_head", Linear(in_features=hidden, out_features=vocab, bias=False,
                                                       role="head", component=Component.HEAD)),
        ),
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
    )  # fmt: skip


def _crossed(text: Hyperparameters, num_layers: int) -> tuple[int, ...]:
    layers = text.settings.get("cross_attention_layers")
    layers = [3, 8, 13, 18, 23, 28, 33, 38] if layers is None else layers
    usable = isinstance(layers, list | tuple) and all(type(n) is int and 0 <= n < num_layers for n in layers)
    if not usable or not layers or len(set(layers)) < len(layers):
        read = f"{text.source} has cross_attention_layers = {repr(layers)[:60]} for {num_layers} layers"
        raise ConfigError(read, "a list of some of them", "correct the key")
    return tuple(sorted(layers))


def _tower(vision: Hyperparameters, hidden: int) -> tuple[Placement, ...]:
    width, heads, cut = vision.count("hidden_size"), vision.count("attention_heads"), patches(vision, 448, 14)
    vision.divided("head_dim", width, heads)
    tiles, ratios = vision.count("max_num_tiles"), vision.settings.get("supported_aspect_ratios")
    rows = 1 + (len(ratios) if isinstance(ratios, list | tuple) and ratios else _RATIOS)
    seen = cut.count + 1
    gate = Vector(name="gate", width=1)
    tables = (
        ("gated_positional_embedding", "tile_embedding", tiles * seen * width),
        ("pre_tile_positional_embedding", "embedding", tiles * width),
        ("post_tile_positional_embedding", "embedding", tiles * width),
    )
    body = Encoder(hidden_size=width, intermediate_size=vision.count("intermediate_size"), num_heads=heads,
                   num_layers=vision.count("num_layers", most=MOST_LAYERS), names=_NAMES, qkv_bias=False,
                   output_bias=False)  # fmt: skip
    gated = replace(body, num_layers=vision.count("num_global_layers", most=MOST_LAYERS))
    last, every = "vision_model.global_transformer.layers.{layer}", range(gated.num_layers)
    projector = Linear(in_features=vision.count("vision_output_dim"), out_features=hidden)
    return tower((
        Placement("vision_model", token("class_embedding", width)),
        Placement("vision_model.patch_embedding", cut.convolution(width, bias=False)),
        Placement("vision_model.gated_positional_embedding", token("embedding", seen, width)),
        *(placement for path, name, inner in tables for placement in (
            Placement(f"vision_model.{path}", gate),
            Placement(f"vision_model.{path}.{name}", Embedding(rows=rows, width=inner, role="position_embedding")),
        )),
        Placement("vision_model.layernorm_pre", Norm(width=width)),
        Placement("vision_model.layernorm_post", Norm(width=width)),
        *body.placements("vision_model.transformer.layers.{layer}"),
        *gated.placements(last),
        Placement(last, Vector(name="gate_attn", width=1), every),
        Placement(last, Vector(name="gate_ffn", width=1), every),
        Placement("multi_modal_projector", projector),
    ))  # fmt: skip


FAMILY = Family(
    name="mllama",
    title="Llama 3.2 Vision",
    model_types=("mllama",),
    gguf={},
    source="transformers models/mllama",
    build=build,
)
