"""DETR and Table Transformer: a ResNet, an encoder over its last map, and a decoder with a query for each object.

Source: transformers `models/{detr,table_transformer}` (Carion et al. 2020). The batch normalisation of the ResNet is
frozen: its scales and shifts are buffers there. Queries are all decoded at once, so no cache is kept. Tensor names are
those of published files, in which the ResNet is timm's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, CrossAttention, Embedding, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import with_defaults
from weighbridge.model.encoder_decoder import Stack, stack
from weighbridge.model.families import resnet, timm_wrapper
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import ONCE, counts
from weighbridge.model.tensors import Component, Kind

_NAMES = {"detr": "Detr", "table-transformer": "TableTransformer"}
_DEFAULTS = {
    "hidden_size": 256, "encoder_layers": 6, "encoder_ffn_dim": 2048, "encoder_attention_heads": 8,
    "decoder_layers": 6, "decoder_ffn_dim": 2048, "decoder_attention_heads": 8,
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The ResNet, the encoder and the decoder, with what tells objects and their boxes."""
    name = _NAMES[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (name,), "ForObjectDetection")
    if suffix not in ("Model", "ForObjectDetection"):
        raise unknown_class(hyperparameters, (name + "Model", name + "ForObjectDetection"))
    if hyperparameters.settings.get("position_embedding_type", "sine") != "sine":
        hyperparameters.refuse("position_embedding_type", "whose tables are not described")
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    base = "" if suffix == "Model" else "model."
    body, channels = _backbone(hyperparameters, base + "backbone.conv_encoder.model")
    encoder = stack(hyperparameters, base, "encoder")
    for key, value in (("num_layers", encoder.num_layers), ("num_heads", encoder.num_heads)):  # other names of these
        hyperparameters.same(key, hyperparameters.count(key, value), value)
    decoder = stack(hyperparameters, base, "decoder", positions=1, offset=encoder.num_layers)
    width, norm = encoder.hidden_size, Norm(width=encoder.hidden_size, role="final_norm")
    queries = Embedding(rows=hyperparameters.count("num_queries", 100), width=width, role="position_embedding")
    flat = Convolution(kernel=(1, 1), in_channels=channels, out_channels=width, bias=True)
    last = [Placement(base + "encoder.layernorm", norm)] if hyperparameters.model_type == "table-transformer" else []
    return Architecture(
        family="detr", model_type=hyperparameters.model_type,
        placements=(
            *body,
            Placement(base + "input_projection", flat),
            Placement(base + "query_position_embeddings", queries),
            *encoder.placements(),
            *last,
            *_at_once(decoder),
            Placement(base + "decoder.layernorm", norm),
            *(_objects(hyperparameters, width) if base else ()),
        ),
        num_layers=encoder.num_layers + decoder.num_layers, num_heads=encoder.num_heads,
        num_kv_heads=encoder.num_heads, base_prefix="model.", notes=(ONCE,),
    )  # fmt: skip


def _at_once(decoder: Stack) -> list[Placement]:
    """The decoder's layers, in which nothing waits for the next token."""
    placements = []
    for placement in decoder.placements():
        block = placement.block
        if isinstance(block, Attention):
            block = replace(block, causal=False)
        elif isinstance(block, CrossAttention):
            block = Attention(hidden_size=block.hidden_size, num_heads=block.num_heads, num_kv_heads=block.num_heads,
                              head_dim=block.head_dim, names=block.names, qkv_bias=True, output_bias=True,
                              causal=False)  # fmt: skip
        placements.append(replace(placement, block=block))
    return placements


def _objects(hyperparameters: Hyperparameters, width: int) -> list[Placement]:
    """One class more than there are labels, for no object; and four numbers of a box."""

    def head(inputs: int, outputs: int) -> Linear:
        return Linear(in_features=inputs, out_features=outputs, role="score", component=Component.HEAD)

    return [
        Placement("class_labels_classifier", head(width, hyperparameters.count("num_labels", 2) + 1)),
        *(Placement(f"bbox_predictor.layers.{place}", head(width, outputs))
          for place, outputs in enumerate((width, width, 4))),
    ]  # fmt: skip


def _backbone(hyperparameters: Hyperparameters, path: str) -> tuple[list[Placement], int]:
    """The ResNet that the settings name, its norms frozen, and the width of its last map."""
    placements, channels = [], 0
    for placement in _resnet(hyperparameters).placements:
        block, at = placement.block, f"{path}.{placement.path}"
        if isinstance(block, Norm):
            channels = block.width
            placements += [
                Placement(at, Array(name=stored, shape=(channels,), role="norm", kind=Kind.BUFFER))
                for stored in ("weight", "bias", "running_mean", "running_var")
            ]
        elif isinstance(block, Convolution):
            placements.append(Placement(at, replace(block, positions=1)))
    return placements, channels


def _resnet(hyperparameters: Hyperparameters) -> Architecture:
    """A ResNet of timm by its name, or one of transformers by its configuration, down to the last stage."""
    part = hyperparameters.settings.get("backbone_config")
    if isinstance(part, Hyperparameters) and part.model_type == "resnet":
        stages = counts(part, "depths", (3, 4, 6, 3))
        if part.settings.get("out_features") in (None, [f"stage{len(stages)}"]) and not part.settings.get(
            "out_indices"
        ):
            return resnet.build(replace(part, classes=("ResNetModel",)))
    elif part is None and hyperparameters.settings.get("use_timm_backbone", True) is True:
        found = _named(hyperparameters.settings, hyperparameters.settings.get("backbone_kwargs"))
        if found and hyperparameters.count("num_channels", 3) == 3:
            return found
    elif isinstance(part, Hyperparameters) and part.model_type == "timm_backbone":
        found = _named(part.settings, part.settings)
        if found:
            return found
    read = f"{hyperparameters.source} has a backbone that is not described"
    raise ConfigError(read, "a ResNet down to its last stage, on three colours", "weigh the weight files themselves")


def _named(settings: Mapping[str, Any], more: object) -> Architecture | None:
    """The ResNet of timm that `backbone` names, unless other settings cut it short."""
    name, more = settings.get("backbone") or "resnet50", more if isinstance(more, Mapping) else {}
    match = re.fullmatch(r"resnet(18|34|50|101|152)", name) if isinstance(name, str) else None
    stages = more.get("out_indices", [4])
    whole = isinstance(stages, list | tuple) and list(stages)[-1:] == [4]
    if match is None or not whole or any(more.get(key, 3) != 3 for key in ("in_chans", "num_channels")):
        return None
    return timm_wrapper.residual(Hyperparameters("", "timm_wrapper", {"num_labels": 0}), match[1])


FAMILY = Family(
    name="detr",
    title="DETR, Table Transformer",
    model_types=tuple(_NAMES),
    gguf={},
    source="transformers models/detr, models/table_transformer",
    build=build,
)
