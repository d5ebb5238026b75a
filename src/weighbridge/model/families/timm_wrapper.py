"""Models of timm by the name of their architecture: ResNet, ViT and DeiT, ConvNeXt, MobileNet 3 and 4, EfficientNet 2.

Sources: transformers `models/timm_wrapper` and timm 1.0.31. The configuration is that of timm's files, in which
`architecture` names everything; `num_classes` sizes the classifier, `input_size` the image. Tensor names are timm's,
without the prefix `timm_model.` of the wrapper. Other architectures are refused, and so are settings that change the
named one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.families import convnext, mobilenet_v4, resnet
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, Names, Patches, token
from weighbridge.model.tensors import Component

_CLASSES = ("TimmWrapperForImageClassification", "TimmWrapperModel")
_RESNETS = {
    "18": ("basic", (2, 2, 2, 2)), "34": ("basic", (3, 4, 6, 3)), "50": ("bottleneck", (3, 4, 6, 3)),
    "101": ("bottleneck", (3, 4, 23, 3)), "152": ("bottleneck", (3, 8, 36, 3)),
}  # fmt: skip
_CONVNEXTS = {"tiny": (96, 9), "small": (96, 27), "base": (128, 27), "large": (192, 27), "xlarge": (256, 27)}
_VITS = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
_VIT_NAMES = Names(attention="attn", projections=("qkv", "proj"), norms=("norm1", "norm2"))
_RESNET_NAMES = (
    (r"resnet\.embedder\.embedder\.convolution", "conv1"), (r"resnet\.embedder\.embedder\.normalization", "bn1"),
    (r"classifier\.1", "fc"), (r"\.shortcut\.convolution", ".downsample.0"),
    (r"\.shortcut\.normalization", ".downsample.1"), (r"resnet\.encoder\.stages\.(\d+)\.layers\.", r"layer<\1>."),
    *((rf"\.layer\.{part}\.{ours}", f".{theirs}{part + 1}") for part in range(3)
      for ours, theirs in (("convolution", "conv"), ("normalization", "bn"))),
)  # fmt: skip
_CONVNEXT_NAMES = (
    (r"convnext\.embeddings\.patch_embeddings", "stem.0"), (r"convnext\.embeddings\.layernorm", "stem.1"),
    (r"convnext\.encoder\.", ""), (r"convnext\.layernorm", "head.norm"), (r"^classifier", "head.fc"),
    (r"\.downsampling_layer\.", ".downsample."), (r"\.layers\.", ".blocks."), (r"\.dwconv", ".conv_dw"),
    (r"\.layernorm", ".norm"), (r"\.pwconv", ".mlp.fc"),
)  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The model that the architecture names."""
    classes = hyperparameters.classes
    if len(classes) > 1 or not set(classes) <= set(_CLASSES):
        raise unknown_class(hyperparameters, _CLASSES)
    name = hyperparameters.settings.get("architecture", "resnet50")
    for pattern, described in _ARCHITECTURES.items():
        match = re.fullmatch(pattern, name.split(".")[0]) if isinstance(name, str) else None
        if match:
            labels = 0 if classes == ("TimmWrapperModel",) else _labels(hyperparameters)
            settings = {"num_labels": labels, "image_size": _image_size(hyperparameters, match)}
            plain = Hyperparameters(hyperparameters.source, "timm_wrapper", settings)
            return replace(described(plain, *match.groups()), family="timm_wrapper", model_type="timm_wrapper",
                           base_prefix="timm_model.")  # fmt: skip
    read = f"{hyperparameters.source} has architecture = {repr(name)[:60]}"
    raise ConfigError(read, "an architecture of timm that is described", "weigh the weight files themselves")


def _labels(hyperparameters: Hyperparameters) -> int:
    """The size of the classifier, which must be the same wherever it is said."""
    names = hyperparameters.settings.get("label_names")
    said = [hyperparameters.count(key, least=0) for key in ("num_classes", "num_labels")
            if hyperparameters.settings.get(key) is not None]  # fmt: skip
    said += [len(names)] if isinstance(names, list | tuple) else []
    for other in said[1:]:
        hyperparameters.same("the number of classes", said[0], other)
    return said[0] if said else hyperparameters.count("num_classes")


def _image_size(hyperparameters: Hyperparameters, match: re.Match[str]) -> list[int] | None:
    """Height and width of the input; arguments, and an input or a pooling of another architecture are refused."""
    hyperparameters.refuse("model_args", "which change the architecture")
    trained = hyperparameters.settings.get("pretrained_cfg")
    settings = {**(trained if isinstance(trained, Mapping) else {}), **hyperparameters.settings}
    transformer = "patch" in match[0]
    pooled, size = settings.get("global_pool"), settings.get("input_size")
    if pooled not in (None, "token" if transformer else "avg"):
        raise ConfigError(f"{hyperparameters.source} has global_pool = {repr(pooled)[:60]}",
                          "the pooling of the architecture itself", "weigh the weight files themselves")  # fmt: skip
    if size is None:
        return None
    usable = isinstance(size, list | tuple) and len(size) == 3 and size[0] == 3
    if not usable or (transformer and list(size[1:]) != [int(match[0].split("_")[-1])] * 2):
        raise ConfigError(f"{hyperparameters.source} has input_size = {repr(size)[:60]}",
                          "the size that the architecture names, in three colours",
                          "weigh the weight files themselves")  # fmt: skip
    return list(size[1:])


def _renamed(model: Architecture, names: tuple[tuple[str, str], ...], labelled: bool) -> Architecture:
    """The description with timm's names, and without its classifier where there are no classes."""
    placements = []
    for placement in model.placements if labelled else model.placements[:-1]:
        path = placement.path
        for pattern, other in names:
            path = re.sub(pattern, other, path)
        path = re.sub(r"layer<(\d+)>", lambda stage: f"layer{int(stage[1]) + 1}", path)
        block = replace(placement.block, name="gamma") if isinstance(placement.block, Vector) else placement.block
        placements.append(replace(placement, path=path, block=block))
    return replace(model, placements=tuple(placements))


def residual(plain: Hyperparameters, depth: str) -> Architecture:
    """A ResNet of so many layers with timm's names, and with a classifier of `num_labels` where that is above 0."""
    kind, depths = _RESNETS[depth]
    widths = [width if kind == "basic" else 4 * width for width in (64, 128, 256, 512)]
    settings = {"layer_type": kind, "depths": depths, "hidden_sizes": widths}
    return _converted(resnet.build, plain, "resnet", "ResNetForImageClassification", settings, _RESNET_NAMES)


def _convnext(plain: Hyperparameters, size: str) -> Architecture:
    width, depth = _CONVNEXTS[size]
    settings = {"hidden_sizes": [width, 2 * width, 4 * width, 8 * width], "depths": (3, 3, depth, 3)}
    return _converted(convnext.build, plain, "convnext", "ConvNextForImageClassification", settings, _CONVNEXT_NAMES)


def _converted(
    built: Callable[[Hyperparameters], Architecture], plain: Hyperparameters, model_type: str, name: str,
    settings: Mapping[str, Any], names: tuple[tuple[str, str], ...],
) -> Architecture:  # fmt: skip
    labels = plain.count("num_labels", least=0)
    settings = {**plain.settings, **settings, "num_labels": max(1, labels)}
    return _renamed(built(Hyperparameters(plain.source, model_type, settings, (name,))), names, labels > 0)


def _vit(plain: Hyperparameters, size: str, patch: str, image: str) -> Architecture:
    width, depth, heads = _VITS[size]
    cut = Patches((int(patch), int(patch)), (int(image) // int(patch)) ** 2, 3)
    labels = plain.count("num_labels", least=0)
    layers = Encoder(hidden_size=width, intermediate_size=4 * width, num_layers=depth, num_heads=heads,
                     names=_VIT_NAMES)  # fmt: skip
    score = Linear(in_features=width, out_features=max(1, labels), role="score", component=Component.HEAD)
    return Architecture(
        family="timm_wrapper", model_type="timm_wrapper",
        placements=(
            Placement("", token("cls_token", 1, 1, width)),
            Placement("", token("pos_embed", 1, cut.count + 1, width)),
            Placement("patch_embed.proj", cut.convolution(width)),
            *layers.placements("blocks.{layer}"),
            Placement("norm", Norm(width=width, role="final_norm")),
            *((Placement("head", score),) if labels else ()),
        ),
        num_layers=depth, num_heads=heads, num_kv_heads=heads,
    )  # fmt: skip


_ARCHITECTURES: dict[str, Callable[..., Architecture]] = {
    r"resnet(18|34|50|101|152)": residual,
    r"convnext_(tiny|small|base|large|xlarge)": _convnext,
    r"vit_(tiny|small|base|large)_patch(16)_(224|384)": _vit,
    r"vit_(small|base|large)_patch(32)_(224|384)": _vit,
    r"vit_(small|base)_patch(8)_(224)": _vit,
    r"deit_(tiny|small|base)_patch(16)_(224)": _vit,
    r"(?:tf_)?mobilenetv3_(large|small)_100": lambda plain, size: mobilenet_v4.network(plain, "mobilenet_v3", size),
    r"mobilenetv4_(conv_small|conv_medium|conv_large)":
        lambda plain, size: mobilenet_v4.network(plain, "mobilenet_v4", size),
    r"(?:tf_)?efficientnetv2_(s|m|l|xl)": lambda plain, size: mobilenet_v4.network(plain, "efficientnet_v2", size),
}  # fmt: skip


def _recognise(config: Mapping[str, Any]) -> str | None:
    return "timm_wrapper" if "architecture" in config and "pretrained_cfg" in config else None


FAMILY = Family(
    name="timm_wrapper",
    title="timm: ResNet, ViT, DeiT, ConvNeXt, MobileNet 3 and 4, EfficientNet 2 by name",
    model_types=("timm_wrapper",),
    gguf={},
    source="transformers models/timm_wrapper, timm 1.0.31",
    build=build,
    recognise=_recognise,
)
