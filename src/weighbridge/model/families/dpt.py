"""DPT and Depth Anything: the maps of several layers of an encoder, brought to four resolutions and fused into depth.

Source: transformers `models/{dpt,depth_anything}` (Ranftl et al. 2021, Yang et al. 2024). The encoder is a ViT, or the
DINOv2 of `backbone_config`. Tensor names are those of published files. The hybrid with a BiT, other backbones and
segmentation are not described.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.families import dinov2, vit
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import ONCE, counts, encoder, patches, token
from weighbridge.model.tensors import Component

_NAMES = {"dpt": "DPT", "depth_anything": "DepthAnything"}
_BACKBONES = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder, the neck and the head that estimates depth."""
    kind = hyperparameters.model_type
    suffix = head_class(hyperparameters, (_NAMES[kind],), "ForDepthEstimation")
    if suffix != "ForDepthEstimation":
        raise unknown_class(hyperparameters, (_NAMES[kind] + "ForDepthEstimation",))
    for key in ("is_hybrid", "backbone", "use_timm_backbone"):
        hyperparameters.refuse(key, "whose encoder is not described")
    part = hyperparameters.settings.get("backbone_config")
    if isinstance(part, Hyperparameters) and part.model_type in _BACKBONES:
        model = dinov2.build(replace(part, classes=(_BACKBONES[part.model_type],)))
        body = [replace(placement, path="backbone." + placement.path) for placement in model.placements]
        width, layers, heads = part.count("hidden_size", 768), model.num_layers, model.num_heads
    elif part is None and kind == "dpt":
        body, width, layers, heads = _vit(hyperparameters)
    else:
        read = f"{hyperparameters.source} has a backbone_config that is not described"
        raise ConfigError(read, f"one of {', '.join(_BACKBONES)}", "weigh the weight files themselves")
    return Architecture(
        family="dpt", model_type=kind,
        placements=(*body, *_neck(hyperparameters, width), *_head(hyperparameters)),
        num_layers=layers, num_heads=heads, num_kv_heads=heads, notes=(ONCE,),
    )  # fmt: skip


def _vit(hyperparameters: Hyperparameters) -> tuple[list[Placement], int, int, int]:
    """DPT's own encoder, its width, layers and heads."""
    layers = encoder(hyperparameters, 768, 3072, 12, 12, vit.NAMES)
    layers = replace(layers, qkv_bias=hyperparameters.flag("qkv_bias", True))
    width, cut = layers.hidden_size, patches(hyperparameters, 384, 16)
    return [
        Placement("dpt.embeddings", token("cls_token", 1, 1, width)),
        Placement("dpt.embeddings", token("position_embeddings", 1, cut.count + 1, width)),
        Placement("dpt.embeddings.patch_embeddings.projection", cut.convolution(width)),
        *layers.placements("dpt.encoder.layer.{layer}"),
        Placement("dpt.layernorm", Norm(width=width, role="final_norm")),
    ], width, layers.num_layers, layers.num_heads  # fmt: skip


def _convolution(kernel: int, inputs: int, outputs: int, bias: bool = True) -> Convolution:
    return Convolution(kernel=(kernel, kernel), in_channels=inputs, out_channels=outputs, bias=bias)


def _neck(hyperparameters: Hyperparameters, width: int) -> list[Placement]:
    """Each map is projected and resized, brought to one width, and added to the next with two convolutions before."""
    first = hyperparameters.model_type == "dpt"
    sizes = counts(hyperparameters, "neck_hidden_sizes", (96, 192, 384, 768) if first else (48, 96, 192, 384))
    factors = hyperparameters.settings.get("reassemble_factors", (4, 2, 1, 0.5))
    usable = isinstance(factors, list | tuple) and len(factors) == len(sizes)
    if not usable or not all(type(f) in (int, float) and 0 < f < 2**20 and (f <= 1 or f % 1 == 0) for f in factors):
        read = f"{hyperparameters.source} has reassemble_factors = {repr(factors)[:60]}"
        raise ConfigError(read, "one factor for each of neck_hidden_sizes", "correct the key")
    if not first:
        hyperparameters.same("the width of the encoder", width, hyperparameters.count("reassemble_hidden_size", 384))
    joined, stage = hyperparameters.count("fusion_hidden_size", 256 if first else 64), "neck.reassemble_stage"
    placements = []
    for place, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
        path = f"{stage}.layers.{place}"
        placements.append(Placement(path + ".projection", _convolution(1, width, size)))
        if factor > 1:  # a transposed convolution, from as many channels to as many
            placements.append(Placement(path + ".resize", _convolution(int(factor), size, size)))
        elif factor < 1:
            placements.append(Placement(path + ".resize", _convolution(3, size, size)))
        placements.append(Placement(f"neck.convs.{place}", _convolution(3, size, joined, False)))
        placements += [Placement(f"neck.fusion_stage.layers.{place}.{name}", block)
                       for name, block in _fusion(hyperparameters, joined)]  # fmt: skip
        if first and _reads(hyperparameters):
            readout = Linear(in_features=2 * width, out_features=width)
            placements.append(Placement(f"{stage}.readout_projects.{place}.0", readout))
    return placements


def _fusion(hyperparameters: Hyperparameters, width: int) -> list[tuple[str, Block]]:
    normed = hyperparameters.model_type == "dpt" and hyperparameters.flag("use_batch_norm_in_fusion_residual", False)
    biased = not normed
    if hyperparameters.model_type == "dpt" and hyperparameters.settings.get("use_bias_in_fusion_residual") is not None:
        biased = hyperparameters.flag("use_bias_in_fusion_residual", biased)
    parts: list[tuple[str, Block]] = [("projection", _convolution(1, width, width))]
    for branch in (1, 2):
        for place in (1, 2):
            parts.append((f"residual_layer{branch}.convolution{place}", _convolution(3, width, width, biased)))
            if normed:
                parts.append((f"residual_layer{branch}.batch_norm{place}", Norm(width=width, running_statistics=True)))
    return parts


def _reads(hyperparameters: Hyperparameters) -> bool:
    """Whether the class token is mixed into every patch by a map."""
    kind = hyperparameters.settings.get("readout_type", "project")
    if kind not in ("project", "ignore", "add"):
        read = f"{hyperparameters.source} has readout_type = {repr(kind)[:60]}"
        raise ConfigError(read, "project, ignore or add", "correct the key")
    return bool(kind == "project")


def _head(hyperparameters: Hyperparameters) -> list[Placement]:
    first = hyperparameters.model_type == "dpt"
    width = hyperparameters.count("fusion_hidden_size", 256 if first else 64)
    inner = 32 if first else hyperparameters.count("head_hidden_size", 32)
    half = hyperparameters.derived("half of fusion_hidden_size", width // 2)
    names = ("head.head.0", "head.head.2", "head.head.4") if first else ("head.conv1", "head.conv2", "head.conv3")
    shapes = [(names[0], 3, width, half), (names[1], 3, half, inner), (names[2], 1, inner, 1)]
    if first and hyperparameters.flag("add_projection", False):
        shapes.append(("head.projection", 3, 256, 256))
    return [Placement(name, replace(_convolution(kernel, inputs, outputs), component=Component.HEAD))
            for name, kernel, inputs, outputs in shapes]  # fmt: skip


FAMILY = Family(
    name="dpt",
    title="DPT, Depth Anything",
    model_types=tuple(_NAMES),
    gguf={},
    source="transformers models/dpt, models/depth_anything",
    build=build,
)
