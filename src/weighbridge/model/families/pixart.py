"""PixArt and DiT: a transformer over latent patches. PixArt attends to a text, DiT is told a class.

Source: diffusers `models/transformers/{pixart,dit}_transformer_2d.py` (defaults of their `__init__`) and
`models/attention.py`. Published configurations name `Transformer2DModel` too, which diffusers takes for one or the
other by `norm_type`. Each layer of DiT embeds time and class by itself; PixArt does it once and learns a table a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding
from weighbridge.model.diffusion_transformer import (
    OWN,
    SINES,
    Heads,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    one_of,
    outputs,
    patch_map,
    shifts,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_NORMS = {"pixart": "ada_norm_single", "dit": "ada_norm_zero"}
_KINDS = {norm: kind for kind, norm in _NORMS.items()}
_CLASSES = {"PixArtTransformer2DModel": "pixart", "DiTTransformer2DModel": "dit"}
_SIZES = ("resolution_embedder", "aspect_ratio_embedder")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the map of the patches and the last map."""
    one_of(hyperparameters, "norm_type", _NORMS[hyperparameters.model_type])
    one_of(hyperparameters, "activation_fn", "gelu-approximate", "gelu")
    one_of(hyperparameters, "attention_type", "default", None)
    for key in ("norm_elementwise_affine", "double_self_attention", "only_cross_attention", "num_vector_embeds"):
        hyperparameters.refuse(key, "which this family does not describe")
    shape = heads(hyperparameters, 16, 72, bias=hyperparameters.flag("attention_bias", True))
    width, layers = shape.width, range(hyperparameters.count("num_layers", 28, most=MOST_LAYERS))
    inputs, patch = hyperparameters.count("in_channels", 4), hyperparameters.count("patch_size", 2)
    pixart = hyperparameters.model_type == "pixart"
    numbers = patch**2 * outputs(hyperparameters, inputs, 8 if pixart else None)
    path, parts = "transformer_blocks.{layer}.", _pixart if pixart else _dit
    placements = [
        patch_map("pos_embed.proj", (patch, patch), inputs, width),
        shape.attention(path + "attn1", layers, output_bias=True),
        feed_forward(path + "ff", width, 4 * width, layers),
        *parts(hyperparameters, shape, path, layers, numbers),
    ]
    return architecture(hyperparameters, "pixart", shape, len(layers), placements)


def _pixart(hyperparameters: Hyperparameters, shape: Heads, path: str, layers: range, numbers: int) -> list[Placement]:
    """Time once for all layers, attention to the text, and the text's own maps."""
    width, time = shape.width, "adaln_single.emb."
    placements = [shifts("", 2, width), shifts(path.rstrip("."), 6, width, layers=layers)]
    context = hyperparameters.count("cross_attention_dim", 1152)
    if hyperparameters.settings.get("cross_attention_dim", context) is not None:
        sizes = (width, context, context, width)
        placements += [
            mapped(path + "attn2." + name, size, width, layers, component=Component.ATTENTION,
                   bias=shape.bias or name == OWN[3])
            for name, size in zip(OWN, sizes, strict=True)
        ]  # fmt: skip
    placements += embedder(time + "timestep_embedder", SINES, width)
    known = hyperparameters.settings.get("use_additional_conditions")
    if hyperparameters.count("sample_size", 128) == 128 if known is None else known:
        third = hyperparameters.divided("the width of a size", width, 3)
        placements += [placement for name in _SIZES for placement in embedder(time + name, SINES, third)]
    placements.append(Heads(shape.number, shape.size).modulation("adaln_single.linear", 6))
    text = hyperparameters.optional_count("caption_channels")
    placements += [] if text is None else embedder("caption_projection", text, width, once=False)
    return [*placements, mapped("proj_out", width, numbers, component=Component.HEAD)]


def _dit(hyperparameters: Hyperparameters, shape: Heads, path: str, layers: range, numbers: int) -> list[Placement]:
    """Time and class in every layer; the table has one row more, for no class."""
    width, embedded = shape.width, path + "norm1.emb."
    table = Embedding(rows=hyperparameters.count("num_embeds_ada_norm", 1000) + 1, width=width, role="class_embedding")
    whole = Heads(shape.number, shape.size)
    return [
        *(Placement(p.path, p.block, layers) for p in embedder(embedded + "timestep_embedder", SINES, width)),
        Placement(embedded + "class_embedder.embedding_table", table, layers),
        whole.modulation(path + "norm1.linear", 6, layers),
        *whole.ends(numbers, "proj_out_1", "proj_out_2"),
    ]


def recognise(config: Mapping[str, Any]) -> str | None:
    """By the class it names, or by the norms of the class that both once were."""
    norm = config.get("norm_type")
    if config.get("_class_name") == "Transformer2DModel" and isinstance(norm, str):
        return _KINDS.get(norm)
    return named(_CLASSES)(config)


FAMILY = Family(
    name="pixart",
    title="PixArt and DiT",
    model_types=("pixart", "dit"),
    gguf={},
    source="diffusers models/transformers/pixart_transformer_2d.py, dit_transformer_2d.py",
    build=build,
    recognise=recognise,
)
