"""Hiera: a plain transformer in stages; the first layer of a stage widens and pools its queries.

Source: transformers `models/hiera` (Ryali et al. 2023). Pre-training and use as a backbone are not described.
"""

from __future__ import annotations

import math

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, FeedForward, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, one_image, pair, ratio, spread, token
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages and the norm of their mean, with a classifier where the class has one."""
    suffix = head_class(hyperparameters, ("Hiera",), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, ("HieraModel", "HieraForImageClassification"))
    base = "" if suffix == "Model" else "hiera."
    depths = counts(hyperparameters, "depths", (2, 3, 16, 3), most=MOST_LAYERS)
    heads = counts(hyperparameters, "num_heads", (1, 2, 4, 8))
    if len(depths) != len(heads) or len(depths) > 16:
        read = f"{hyperparameters.source} has {len(depths)} depths and {len(heads)} num_heads"
        raise ConfigError(read, "one of each for a few stages", "correct the keys")
    image, stride = pair(hyperparameters, "image_size", 224), pair(hyperparameters, "patch_stride", 4)
    patch, first = pair(hyperparameters, "patch_size", 7), hyperparameters.count("embed_dim", 96)
    rows = hyperparameters.derived("patches of the image", (image[0] // stride[0]) * (image[1] // stride[1]))
    cut = Convolution(kernel=patch, in_channels=hyperparameters.count("num_channels", 3), out_channels=first, bias=True,
                      positions=rows, component=Component.EMBEDDING)  # fmt: skip
    placements = [
        Placement(base + "embeddings", token("position_embeddings", 1, rows, first)),
        Placement(base + "embeddings.patch_embeddings.projection", cut),
    ]
    growth, width, done = ratio(hyperparameters, "embed_dim_multiplier", 2.0), first, 0
    unit, step = (math.prod(pair(hyperparameters, *item)) for item in (("masked_unit_size", 8), ("query_stride", 2)))
    pools, masked = hyperparameters.count("num_query_pool", 3, least=0), _masked(hyperparameters, len(depths))
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        outputs = hyperparameters.derived("the width of a stage", int(first * growth**stage))
        for layers, inputs, within in (
            (range(1), width, masked[stage] or masked[max(0, stage - 1)]), (range(1, depth), outputs, masked[stage]),
        ):  # fmt: skip
            pooled = step if layers.start == 0 and 0 < stage <= pools else 1
            window = hyperparameters.derived("tokens of a window", pooled * (unit // step**stage)) if within else rows
            layer = [
                Placement(f"{base}encoder.stages.{stage}.layers.{{layer}}.{path}", block, layers, offset=done)
                for path, block in _layer(hyperparameters, inputs, outputs, count, rows) if layers
            ]  # fmt: skip
            placements += spread(layer, rows // pooled, window, sources=rows)
            rows //= pooled
        width, done = outputs, done + depth
    placements.append(Placement(base + "pooler.layernorm", Norm(width=width, role="final_norm")))
    if base:
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    return Architecture(family="hiera", model_type="hiera", placements=tuple(placements), num_layers=done,
                        num_heads=heads[-1], num_kv_heads=heads[-1], base_prefix="hiera.",
                        notes=one_image(hyperparameters, Grid(*image), Grid(1, rows)))  # fmt: skip


def _masked(hyperparameters: Hyperparameters, stages: int) -> list[bool]:
    """In which stages attention stays within a unit of the image."""
    value = hyperparameters.settings.get("masked_unit_attention", (True, True, False, False))
    if not isinstance(value, list | tuple) or len(value) < stages or not all(type(each) is bool for each in value):
        read = f"{hyperparameters.source} has masked_unit_attention = {repr(value)[:60]}"
        raise ConfigError(read, f"true or false for each of {stages} stages", "correct the key")
    return list(value)


def _layer(
    hyperparameters: Hyperparameters, inputs: int, outputs: int, heads: int, positions: int
) -> list[tuple[str, Block]]:
    """The parts of a layer, by their paths in it."""
    inner = hyperparameters.derived("the width of the MLP", int(outputs * ratio(hyperparameters, "mlp_ratio", 4.0)))
    attention = Attention(hidden_size=inputs, num_heads=heads, num_kv_heads=heads, names=("qkv", "proj"),
                          head_dim=hyperparameters.divided("head_dim", outputs, heads), qkv_bias=True,
                          output_bias=True, causal=False, output_size=outputs)  # fmt: skip
    mlp = FeedForward(hidden_size=outputs, intermediate_size=inner, gate=None, up="fc1", down="fc2", bias=True)
    widening: list[tuple[str, Block]] = [("proj", Linear(in_features=inputs, out_features=outputs,
                                                          positions=positions))]  # fmt: skip
    return [
        ("layernorm_before", Norm(width=inputs, role="attention_norm")),
        ("attn", attention),
        ("layernorm_after", Norm(width=outputs, role="mlp_norm")),
        ("mlp", mlp),
        *(widening if inputs != outputs else ()),
    ]


FAMILY = Family(
    name="hiera",
    title="Hiera",
    model_types=("hiera",),
    gguf={},
    source="transformers models/hiera",
    build=build,
)
