"""Relatives of ViT: masked autoencoders of pictures and videos, ViT-MSN, I-JEPA, TimeSformer, ViViT, YOLOS, AST.

Source: transformers `models/{vit_mae,vit_msn,ijepa,videomae,timesformer,vivit,yolos,audio_spectrogram_transformer}`.
They share ViT's layer and differ in what is cut into patches, in the tokens beside them, and in what stands on the
encoder. Tensor names are those of published files, which transformers 5 renames when it loads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from operator import floordiv

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.families import vit
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Encoder, counts, encoder, pair, patches, token
from weighbridge.model.tensors import Component

# For each model type the name of its class, the prefix of its body, and the classes that are described.
_KINDS = {
    "vit_mae": ("ViTMAE", "vit.", ("Model", "ForPreTraining")),
    "vit_msn": ("ViTMSN", "vit.", ("Model", "ForImageClassification")),
    "ijepa": ("IJepa", "ijepa.", ("Model", "ForImageClassification")),
    "videomae": ("VideoMAE", "videomae.", ("Model", "ForPreTraining", "ForVideoClassification")),
    "timesformer": ("Timesformer", "timesformer.", ("Model", "ForVideoClassification")),
    "vivit": ("Vivit", "vivit.", ("Model", "ForVideoClassification")),
    "yolos": ("Yolos", "vit.", ("Model", "ForObjectDetection")),
    "audio-spectrogram-transformer": ("AST", "audio_spectrogram_transformer.", ("Model", "ForAudioClassification")),
}
_TIMES = ("divided_space_time", "joint_space_time", "space_only")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    kind = hyperparameters.model_type
    name, prefix, known = _KINDS[kind]
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in known:
        raise unknown_class(hyperparameters, tuple(name + part for part in known))
    hyperparameters.refuse("head_dim", "which is not described")
    layers = encoder(hyperparameters, 768, 3072, 12, 12, vit.NAMES)
    base = "" if suffix == "Model" else prefix
    body, rows = _layers(hyperparameters, layers, base), _patches(hyperparameters, layers.hidden_size, base)
    top = _TOPS[kind](hyperparameters, suffix, layers)
    depth = layers.num_layers + max((len(p.layers) for p in top if p.layers), default=0)
    return Architecture(
        family="vit_relatives", model_type=kind, placements=(*rows, *body, *_norm(hyperparameters, layers, base), *top),
        num_layers=depth, num_heads=layers.num_heads, num_kv_heads=layers.num_heads, base_prefix=prefix,
    )  # fmt: skip


def _patches(hyperparameters: Hyperparameters, width: int, base: str) -> list[Placement]:
    """What makes vectors of the input: tokens, tables of positions, and the convolution."""
    kind, path = hyperparameters.model_type, base + "embeddings"
    if kind == "videomae":
        return [_cut(path, (hyperparameters.count("tubelet_size", 2), *pair(hyperparameters, "patch_size", 16)), width,
                     hyperparameters.count("num_channels", 3))]  # fmt: skip
    if kind == "vivit":
        cube = counts(hyperparameters, "tubelet_size", (2, 16, 16))
        if len(cube) != 3:
            raise ConfigError(f"{hyperparameters.source} has {len(cube)} sizes of a tubelet", "three", "correct it")
        volume = (hyperparameters.count("num_frames", 32), *pair(hyperparameters, "image_size", 224))
        found = hyperparameters.derived("tubelets", math.prod(map(floordiv, volume, cube)))
        return [*_tables(path, width, found + 1, "cls_token"),
                _cut(path, cube, width, hyperparameters.count("num_channels", 3))]  # fmt: skip
    if kind == "audio-spectrogram-transformer":
        size = hyperparameters.count("patch_size", 16)
        rows = _steps(hyperparameters, "num_mel_bins", 128, "frequency_stride", size)
        columns = _steps(hyperparameters, "max_length", 1024, "time_stride", size)
        return [*_tables(path, width, rows * columns + 2, "cls_token", "distillation_token"),
                _cut(path, (size, size), width, 1)]  # fmt: skip
    if kind == "yolos":
        return _detecting(hyperparameters, width, base)
    cut = patches(hyperparameters)
    tokens = () if kind == "ijepa" else ("cls_token",)
    tables = _tables(path, width, cut.count + len(tokens), *tokens)
    if kind == "timesformer" and _times(hyperparameters) != "space_only":
        tables.append(Placement(path, token("time_embeddings", 1, hyperparameters.count("num_frames", 8), width)))
    return [*tables, Placement(path + ".patch_embeddings.projection", cut.convolution(width))]


def _detecting(hyperparameters: Hyperparameters, width: int, base: str) -> list[Placement]:
    """YOLOS: a token for each object that may be found, and positions that are added again after every layer."""
    path, patch = base + "embeddings", hyperparameters.count("patch_size", 16)
    size = hyperparameters.settings.get("image_size", (512, 864))
    sized = replace(hyperparameters, settings={**hyperparameters.settings, "image_size": size})
    cut, objects = patches(sized, patch=patch), hyperparameters.count("num_detection_tokens", 100)
    rows = [
        *_tables(path, width, cut.count + objects + 1, "cls_token"),
        Placement(path, token("detection_tokens", 1, objects, width)),
        Placement(path + ".patch_embeddings.projection", cut.convolution(width)),
    ]
    if hyperparameters.flag("use_mid_position_embeddings", True):
        height, breadth = pair(sized, "image_size", 0)
        between = hyperparameters.derived("positions between layers", hyperparameters.count("num_layers", 12) - 1)
        middle = token("mid_position_embeddings", between, 1, 1 + height * breadth // patch**2 + objects, width)
        rows.append(Placement(base + "encoder", middle))
    return rows


def _tables(path: str, width: int, rows: int, *tokens: str) -> list[Placement]:
    return [*(Placement(path, token(name, 1, 1, width)) for name in tokens),
            Placement(path, token("position_embeddings", 1, rows, width))]  # fmt: skip


def _cut(path: str, kernel: tuple[int, ...], width: int, channels: int) -> Placement:
    return Placement(path + ".patch_embeddings.projection",
                     Convolution(kernel=kernel, in_channels=channels, out_channels=width, bias=True,
                                 component=Component.EMBEDDING))  # fmt: skip


def _steps(hyperparameters: Hyperparameters, whole: str, default: int, stride: str, patch: int) -> int:
    """How many patches, which overlap, lie along one side of a spectrogram."""
    rest = hyperparameters.count(whole, default) - patch
    return hyperparameters.derived("patches of the spectrogram", rest // hyperparameters.count(stride, 10) + 1)


def _times(hyperparameters: Hyperparameters) -> str:
    value = hyperparameters.settings.get("attention_type", _TIMES[0])
    if not isinstance(value, str) or value not in _TIMES:
        read = f"{hyperparameters.source} has attention_type = {repr(value)[:60]}"
        raise ConfigError(read, " or ".join(_TIMES), "correct the key")
    return value


def _layers(hyperparameters: Hyperparameters, layers: Encoder, base: str) -> list[Placement]:
    path = base + "encoder.layer.{layer}"
    if hyperparameters.model_type == "videomae":
        return _half_biased(hyperparameters, layers, path)
    biased = hyperparameters.flag("qkv_bias", True)
    if hyperparameters.model_type != "timesformer":
        return list(replace(layers, qkv_bias=biased).placements(path))
    fused = replace(vit.NAMES, projections=("attention.qkv", "output.dense"))
    placements = list(replace(layers, qkv_bias=biased, names=fused).placements(path))
    if _times(hyperparameters) == _TIMES[0]:
        width, every = layers.hidden_size, range(layers.num_layers)
        again = next(p.block for p in placements if isinstance(p.block, Attention))
        placements += [
            Placement(path + ".temporal_layernorm", Norm(width=width, role="attention_norm"), every),
            Placement(path + ".temporal_attention", again, every),
            Placement(path + ".temporal_dense", Linear(in_features=width, out_features=width,
                                                       component=Component.ATTENTION), every),
        ]  # fmt: skip
    return placements


def _half_biased(hyperparameters: Hyperparameters, layers: Encoder, path: str) -> list[Placement]:
    """The layers of VideoMAE: queries and values have biases, stored by themselves, and keys have none."""
    placements = list(replace(layers, qkv_bias=False).placements(path))
    if hyperparameters.flag("qkv_bias", hyperparameters.flag("qv_bias", True)):
        placements += [
            Placement(path + ".attention.attention", Vector(name=f"{part}_bias", width=layers.hidden_size,
                                                            role=f"attention_{part}", component=Component.ATTENTION),
                      range(layers.num_layers), offset=layers.offset)
            for part in ("q", "v")
        ]  # fmt: skip
    return placements


def _norm(hyperparameters: Hyperparameters, layers: Encoder, base: str) -> list[Placement]:
    if hyperparameters.model_type == "videomae" and hyperparameters.flag("use_mean_pooling", True):
        return []
    return [Placement(base + "layernorm", Norm(width=layers.hidden_size, role="final_norm"))]


def _score(hyperparameters: Hyperparameters, width: int, path: str = "classifier") -> Placement:
    labels = hyperparameters.count("num_labels", 2)
    return Placement(path, Linear(in_features=width, out_features=labels, role="score", component=Component.HEAD))


def _labelled(hyperparameters: Hyperparameters, suffix: str, layers: Encoder) -> list[Placement]:
    return [] if suffix == "Model" else [_score(hyperparameters, layers.hidden_size)]


def _pooled(hyperparameters: Hyperparameters, suffix: str, layers: Encoder) -> list[Placement]:
    width = layers.hidden_size
    if suffix == "Model":
        outputs = hyperparameters.count("pooler_output_size", width)
        return [Placement("pooler.dense", Linear(in_features=width, out_features=outputs, role="pooler"))]
    return [_score(hyperparameters, width)]


def _spectral(hyperparameters: Hyperparameters, suffix: str, layers: Encoder) -> list[Placement]:
    if suffix == "Model":
        return []
    return [Placement("classifier.layernorm", Norm(width=layers.hidden_size)),
            _score(hyperparameters, layers.hidden_size, "classifier.dense")]  # fmt: skip


def _objects(hyperparameters: Hyperparameters, suffix: str, layers: Encoder) -> list[Placement]:
    width = layers.hidden_size
    if suffix == "Model":
        return [Placement("pooler.dense", Linear(in_features=width, out_features=width, role="pooler"))]
    heads = (("class_labels_classifier", hyperparameters.count("num_labels", 2) + 1), ("bbox_predictor", 4))
    return [
        Placement(f"{path}.layers.{place}", Linear(in_features=width, out_features=to, role="score",
                                                   component=Component.HEAD))
        for path, outputs in heads for place, to in enumerate((width, width, outputs))
    ]  # fmt: skip


def _decoder(
    hyperparameters: Hyperparameters, before: Encoder, hidden: int, inner: int, depth: int, heads: int
) -> Encoder:
    """The smaller stack that paints the hidden patches."""
    width = hyperparameters.count("decoder_hidden_size", hidden)
    count = hyperparameters.count("decoder_num_attention_heads", heads)
    hyperparameters.divided("decoder head_dim", width, count)
    return Encoder(
        hidden_size=width, intermediate_size=hyperparameters.count("decoder_intermediate_size", inner),
        num_layers=hyperparameters.count("decoder_num_hidden_layers", depth, most=MOST_LAYERS), num_heads=count,
        names=vit.NAMES, offset=before.num_layers,
    )  # fmt: skip


def _picture(hyperparameters: Hyperparameters, suffix: str, layers: Encoder) -> list[Placement]:
    if suffix == "Model":
        return []
    stack = replace(
        _decoder(hyperparameters, layers, 512, 2048, 8, 16), qkv_bias=hyperparameters.flag("qkv_bias", True)
    )
    width, cut = stack.hidden_size, patches(hyperparameters)
    pixels = hyperparameters.count("patch_size", 16) ** 2 * cut.channels
    path = "decoder.decoder_layers.{layer}"
    return [
        Placement("decoder", token("mask_token", 1, 1, width)),
        Placement("decoder", token("decoder_pos_embed", 1, cut.count + 1, width)),
        Placement("decoder.decoder_embed", Linear(in_features=layers.hidden_size, out_features=width)),
        *stack.placements(path),
        Placement("decoder.decoder_norm", Norm(width=width, role="final_norm")),
        Placement("decoder.decoder_pred", Linear(in_features=width, out_features=pixels, component=Component.HEAD)),
    ]


def _video(hyperparameters: Hyperparameters, suffix: str, layers: Encoder) -> list[Placement]:
    if suffix == "Model":
        return []
    if suffix == "ForVideoClassification":
        pooled = hyperparameters.flag("use_mean_pooling", True)
        norm = [Placement("fc_norm", Norm(width=layers.hidden_size, role="final_norm"))] if pooled else []
        return [*norm, _score(hyperparameters, layers.hidden_size)]
    stack = _decoder(hyperparameters, layers, 384, 1536, 4, 6)
    width, patch = stack.hidden_size, hyperparameters.count("patch_size", 16)
    pixels = patch**2 * hyperparameters.count("num_channels", 3) * hyperparameters.count("tubelet_size", 2)
    path = "decoder.decoder_layers.{layer}"
    return [
        Placement("", token("mask_token", 1, 1, width)),
        Placement("encoder_to_decoder", Linear(in_features=layers.hidden_size, out_features=width, bias=False)),
        *_half_biased(hyperparameters, stack, path),
        Placement("decoder.norm", Norm(width=width, role="final_norm")),
        Placement("decoder.head", Linear(in_features=width, out_features=pixels, component=Component.HEAD)),
    ]


_TOPS: dict[str, Callable[[Hyperparameters, str, Encoder], list[Placement]]] = {
    "vit_mae": _picture, "vit_msn": _labelled, "ijepa": _labelled, "videomae": _video, "timesformer": _labelled,
    "vivit": _pooled, "yolos": _objects, "audio-spectrogram-transformer": _spectral,
}  # fmt: skip

FAMILY = Family(
    name="vit_relatives",
    title="ViTMAE, ViT-MSN, I-JEPA, VideoMAE, TimeSformer, ViViT, YOLOS, AST",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/vit_mae, vit_msn, ijepa, videomae, timesformer, vivit, yolos, "
    "audio_spectrogram_transformer",
    build=build,
)
