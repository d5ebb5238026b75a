"""MiniMax-M3: attention with an indexer that picks blocks, experts with a shared one, a vision tower.

Source: transformers `models/minimax_m3_vl/{configuration,modeling}_minimax_m3_vl.py`; tensor names are those of the
published checkpoints (`conversion_mapping.py`). The original spells the layers `sparse_attention_config` and
`moe_layer_freq`. The bias that balances the router is a buffer. Next-token-prediction layers are not described.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import composite, mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Experts, FeedForward, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component

_NOTE = "the indexer's keys are kept in a cache of their own, which is not in the state"
_KINDS = ("full_attention", "minimax_m3_sparse")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The tower, the projector and the decoder."""
    composite.check_class(hyperparameters, "MiniMaxM3Sparse")
    part, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    tied = composite.tied_anywhere(hyperparameters, part)
    text = _text(replace(part, classes=(), settings={**part.settings, "tie_embeddings": tied}))
    tower = _tower(vision, part.count("hidden_size"), hyperparameters.count("projector_hidden_size", 6144))
    return composite.joined(hyperparameters, "minimax_m3_vl", text, composite.tower(tower), [("", "language_model.")])


def _text(hyperparameters: Hyperparameters) -> Architecture:
    hyperparameters.refuse("attention_output_gate", "which this family does not describe")
    attention = mixture.attention(hyperparameters, num_kv_heads=4, head_dim=128)
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, 128, 4)
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 3072),
        num_experts=num_experts, experts_per_token=active, correction="e_score_correction_bias",
    )  # fmt: skip
    shared = mixture.shared_experts(hidden, hyperparameters.count("shared_intermediate_size", 3072))
    wide = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("dense_intermediate_size", 12288))
    routed = _marked(hyperparameters, "mlp_layer_types", ("dense", "sparse"), hyperparameters, "moe_layer_freq", True)
    dense = [layer for layer in range(num_layers) if not routed[layer]]
    sparse = [layer for layer in range(num_layers) if routed[layer]]
    layers = range(num_layers)
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        *mixture.head_norms(attention.head_dim, attention.head_dim, layers),
        *_indexer(hyperparameters, hidden),
        Placement(LAYER + "mlp", wide, dense),
        Placement(LAYER + "block_sparse_moe", experts, sparse),
        Placement(LAYER + "block_sparse_moe.shared_experts", shared, sparse),
    ]
    return mixture.decoder(hyperparameters, "minimax_m3_vl", ("MiniMaxM3VL",), body, attention=attention,
                           num_experts=num_experts, notes=(_NOTE,))  # fmt: skip


def _sparse_settings(hyperparameters: Hyperparameters) -> Hyperparameters:
    if hyperparameters.settings.get("sparse_attention_config") is None:
        return replace(hyperparameters, settings={})
    return hyperparameters.part("sparse_attention_config")


def _marked(
    hyperparameters: Hyperparameters, named: str, kinds: tuple[str, str], source: Hyperparameters, numbered: str,
    default: bool,
) -> list[bool]:  # fmt: skip
    """Which layers are of the second kind, in either spelling."""
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    names = mixture.named_layers(hyperparameters, named, num_layers, kinds)
    if names is not None:
        return [name == kinds[1] for name in names]
    numbers = mixture.whole_numbers(source, numbered)
    if numbers is not None and len(numbers) != num_layers:
        raise ConfigError(f"{source.source} has {numbered} = {repr(numbers)[:60]}", f"{num_layers} entries",
                          "correct the key")  # fmt: skip
    return [bool(number) for number in numbers] if numbers is not None else [default] * num_layers


def _indexer(hyperparameters: Hyperparameters, hidden: int) -> list[Placement]:
    """What picks the blocks to attend to, in the layers that have it."""
    part = _sparse_settings(hyperparameters)
    marked = _marked(hyperparameters, "layer_types", _KINDS, part, "sparse_attention_freq", False)
    layers = [layer for layer, indexed in enumerate(marked) if indexed]
    heads = part.count("sparse_num_index_heads", hyperparameters.count("index_n_heads", 4))
    width = part.count("sparse_index_dim", hyperparameters.count("index_head_dim", 128))
    maps: tuple[tuple[str, Block], ...] = (
        ("index_q_proj", Linear(in_features=hidden, out_features=heads * width, bias=False, role="indexer_q",
                                component=Component.ATTENTION)),
        ("index_k_proj", Linear(in_features=hidden, out_features=width, bias=False, role="indexer_k",
                                component=Component.ATTENTION)),
        ("index_q_norm", Norm(width=width, bias=False, role="indexer_q_norm")),
        ("index_k_norm", Norm(width=width, bias=False, role="indexer_k_norm")),
    )  # fmt: skip
    return [Placement(LAYER + "self_attn." + name, block, layers) for name, block in maps]


def _tower(vision: Hyperparameters, text_hidden: int, project: int) -> list[Placement]:
    hidden, inner = vision.count("hidden_size", 1280), vision.count("intermediate_size", 5120)
    heads, patch = vision.count("num_heads", 16), vision.count("patch_size", 14)
    layers = range(vision.count("num_layers", 32, most=MOST_LAYERS))
    kernel = (vision.count("temporal_patch_size", 2), patch, patch)
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=heads,
                          head_dim=vision.divided("head_dim", hidden, heads), qkv_bias=True, output_bias=True,
                          causal=False, names=("q_proj", "k_proj", "v_proj", "out_proj"))  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="fc1", down="fc2", bias=True)
    merged = text_hidden * vision.count("spatial_merge_size", 2) ** 2
    channels, base = vision.count("num_channels", 3), "vision_tower.vision_model."
    layer = base + "encoder.layers.{layer}."
    parts: list[tuple[str, Block, Sequence[int] | None]] = [
        (base + "embeddings.patch_embedding",
         Convolution(kernel=kernel, in_channels=channels, out_channels=hidden), None),
        (base + "pre_layrnorm", Norm(width=hidden), None),
        (layer + "self_attn", attention, layers), (layer + "mlp", feed_forward, layers),
        (layer + "layer_norm1", Norm(width=hidden), layers), (layer + "layer_norm2", Norm(width=hidden), layers),
        ("multi_modal_projector.linear_1", Linear(in_features=hidden, out_features=project, role="projector"), None),
        ("multi_modal_projector.linear_2", Linear(in_features=project, out_features=text_hidden, role="projector"),
         None),
        ("patch_merge_mlp.linear_1", Linear(in_features=merged, out_features=project, role="projector"), None),
        ("patch_merge_mlp.linear_2", Linear(in_features=project, out_features=text_hidden, role="projector"), None),
    ]  # fmt: skip
    return [Placement(path, block, where) for path, block, where in parts]


FAMILY = Family(
    name="minimax_m3_vl",
    title="MiniMax-M3",
    model_types=("minimax_m3_vl",),
    gguf={},
    source="transformers models/minimax_m3_vl",
    build=build,
)
