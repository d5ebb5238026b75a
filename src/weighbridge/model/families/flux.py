"""FLUX.1: a transformer over latent patches and text, first in two streams that attend to each other, then in one.

Source: diffusers `models/transformers/transformer_flux.py` (defaults of `FluxTransformer2DModel.__init__`). Each norm
is scaled and shifted by a map of the embedded time step; those maps count as norms, as they stand in them. Its
configurations name `_class_name` in place of a model type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Linear, Norm
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASS = "FluxTransformer2DModel"
_TIME = 256


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both kinds of layers between the maps of patches, text and time."""
    heads, head_dim = hyperparameters.count("num_heads", 24), hyperparameters.count("attention_head_dim", 128)
    width = heads * head_dim
    double = hyperparameters.count("num_layers", 19, most=MOST_LAYERS)
    single = hyperparameters.count("num_single_layers", 38, most=MOST_LAYERS)
    inputs = hyperparameters.count("in_channels", 64)
    outputs = hyperparameters.count("out_channels", inputs) * hyperparameters.count("patch_size", 1) ** 2
    steps = ["timestep_embedder", "guidance_embedder"]
    steps = steps if hyperparameters.flag("guidance_embeds", False) else steps[:1]
    embedders = [(f"time_text_embed.{step}", _TIME) for step in steps]
    embedders.append(("time_text_embed.text_embedder", hyperparameters.count("pooled_projection_dim", 768)))
    return Architecture(
        family="flux",
        model_type=hyperparameters.model_type,
        placements=(
            *(placement for path, size in embedders for placement in (
                Placement(path + ".linear_1", Linear(in_features=size, out_features=width)),
                Placement(path + ".linear_2", Linear(in_features=width, out_features=width)),
            )),
            Placement("context_embedder", Linear(in_features=hyperparameters.count("joint_attention_dim", 4096),
                                                 out_features=width)),
            Placement("x_embedder", Linear(in_features=inputs, out_features=width)),
            *_double(width, heads, head_dim, range(double)),
            *_single(width, head_dim, range(single), double),
            Placement("norm_out.linear", Linear(in_features=width, out_features=2 * width, component=Component.NORM)),
            Placement("proj_out", Linear(in_features=width, out_features=outputs, component=Component.HEAD)),
        ),
        num_layers=double + single,
        num_heads=heads,
        num_kv_heads=heads,
    )  # fmt: skip


def _double(width: int, heads: int, head_dim: int, layers: range) -> list[Placement]:
    """Image and text with their own maps and one attention over both."""
    path = "transformer_blocks.{layer}"
    placements = []
    for norm, feed_forward in (("norm1", "ff"), ("norm1_context", "ff_context")):
        placements += [
            Placement(f"{path}.{norm}.linear", _linear(width, 6 * width, Component.NORM), layers),
            Placement(f"{path}.{feed_forward}.net.0.proj", _linear(width, 4 * width, Component.MLP), layers),
            Placement(f"{path}.{feed_forward}.net.2", _linear(4 * width, width, Component.MLP), layers),
        ]
    for names in (("to_q", "to_k", "to_v", "to_out.0"), ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")):
        maps = Attention(hidden_size=width, num_heads=heads, num_kv_heads=heads, head_dim=head_dim, names=names,
                         qkv_bias=True, output_bias=True, causal=False)  # fmt: skip
        placements.append(Placement(path + ".attn", maps, layers))
    norms = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
    return [*placements, *(Placement(f"{path}.attn.{norm}", Norm(width=head_dim, bias=False), layers)
                           for norm in norms)]  # fmt: skip


def _single(width: int, head_dim: int, layers: range, after: int) -> list[Placement]:
    """Attention and feed-forward side by side, joined by one map."""
    path = "single_transformer_blocks.{layer}"
    maps = [("norm.linear", _linear(width, 3 * width, Component.NORM)),
            ("proj_mlp", _linear(width, 4 * width, Component.MLP)),
            ("proj_out", _linear(5 * width, width, Component.HEAD)),
            *((f"attn.to_{part}", _linear(width, width, Component.ATTENTION)) for part in "qkv"),
            *((f"attn.norm_{part}", Norm(width=head_dim, bias=False)) for part in "qk")]  # fmt: skip
    return [Placement(f"{path}.{name}", block, layers, offset=after) for name, block in maps]


def _linear(inputs: int, outputs: int, component: Component) -> Linear:
    return Linear(in_features=inputs, out_features=outputs, component=component)


def recognise(config: Mapping[str, Any]) -> str | None:
    """By the class it names."""
    return "flux" if config.get("_class_name") == _CLASS else None


FAMILY = Family(
    name="flux",
    title="FLUX.1",
    model_types=("flux",),
    gguf={},
    source="diffusers models/transformers/transformer_flux.py",
    build=build,
    recognise=recognise,
)
