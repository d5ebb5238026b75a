"""SAM: an encoder of windows over the image, points and masks that prompt, and a decoder that draws masks.

Source: transformers `models/sam` (Kirillov et al. 2023). Layers attend in windows but for a few that see the whole
image; tables of relative positions are as long as what they see. The random directions that encode places are one
parameter of the class, which two parts share.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.tied import Tied
from weighbridge.model.composite import optional_part, with_defaults
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE, Encoder, Names, patches, ratio, token
from weighbridge.model.tensors import Component

_NAMES = Names(attention="attn", projections=("qkv", "proj"), up="lin1", down="lin2")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The three parts and the places that two of them share."""
    if head_class(hyperparameters, ("Sam",), "Model") != "Model":
        raise unknown_class(hyperparameters, ("SamModel",))
    vision, prompt, decoder = (optional_part(hyperparameters, f"{part}_config")
                               for part in ("vision", "prompt_encoder", "mask_decoder"))  # fmt: skip
    places = Array(name="positional_embedding", shape=(2, vision.count("num_pos_feats", 128)),
                   role="position_embedding", component=Component.EMBEDDING)  # fmt: skip
    images, layers, width = _vision(vision)
    drawing, depth = _decoder(decoder, layers.num_layers)
    for part in (prompt, decoder):
        hyperparameters.same("the width of all parts", width, part.count("hidden_size", 256))
    return Architecture(
        family="sam", model_type="sam",
        placements=(
            Placement("shared_image_embedding", places),
            *images,
            Placement("prompt_encoder.shared_embedding", Tied(block=places, owner="shared_image_embedding")),
            *_prompts(prompt, width),
            *drawing,
        ),
        num_layers=layers.num_layers + depth, num_heads=layers.num_heads, num_kv_heads=layers.num_heads,
        notes=(ONCE,),
    )  # fmt: skip


def _vision(part: Hyperparameters) -> tuple[list[Placement], Encoder, int]:
    """The encoder and the convolutions behind it; its layers, and the width that it gives."""
    part = with_defaults(part, {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "image_size": 1024})
    width, heads = part.count("hidden_size"), part.count("num_heads")
    wide = part.derived("the width of the MLP", int(ratio(part, "mlp_ratio", 4.0) * width))
    layers = Encoder(
        hidden_size=width, intermediate_size=part.count("mlp_dim", wide), names=_NAMES, num_heads=heads,
        num_layers=part.count("num_layers", most=MOST_LAYERS), qkv_bias=part.flag("qkv_bias", True),
    )  # fmt: skip
    size, cut = part.divided("head_dim", width, heads), patches(part, 1024, 16)
    side = part.count("image_size") // part.count("patch_size", 16)
    far = part.settings.get("global_attn_indexes", (2, 5, 8, 11))
    if not isinstance(far, list | tuple) or not all(type(layer) is int for layer in far):
        read = f"{part.source} has global_attn_indexes = {repr(far)[:60]}"
        raise ConfigError(read, "a list of layers", "correct the key")
    path = "vision_encoder.layers.{layer}"
    placements = [
        *([Placement("vision_encoder", token("pos_embed", 1, side, side, width))]
          if part.flag("use_abs_pos", True) else []),
        Placement("vision_encoder.patch_embed.projection", cut.convolution(width)),
        *layers.placements(path),
    ]  # fmt: skip
    if part.flag("use_rel_pos", True):
        window = part.count("window_size", 14, least=0)
        for seen, whole in ((window or side, False), (side, True)):
            where = [layer for layer in range(layers.num_layers) if (layer in far) is whole]
            placements += [
                Placement(path + ".attn", Array(name=name, shape=(2 * seen - 1, size), role="relative_position",
                                                component=Component.ATTENTION), where)
                for name in ("rel_pos_h", "rel_pos_w") if where
            ]  # fmt: skip
    outputs, neck = part.count("output_channels", 256), "vision_encoder.neck."
    return [
        *placements,
        Placement(neck + "conv1", Convolution(kernel=(1, 1), in_channels=width, out_channels=outputs)),
        Placement(neck + "layer_norm1", Norm(width=outputs)),
        Placement(neck + "conv2", Convolution(kernel=(3, 3), in_channels=outputs, out_channels=outputs)),
        Placement(neck + "layer_norm2", Norm(width=outputs)),
    ], layers, outputs  # fmt: skip


def _prompts(part: Hyperparameters, width: int) -> list[Placement]:
    """Vectors for points and for what is missing, and convolutions over a mask."""
    channels = part.count("mask_input_channels", 16)
    few = part.derived("channels of the mask", channels // 4)
    kinds = range(part.count("num_point_embeddings", 4, most=MOST_LAYERS))
    one, path = Embedding(rows=1, width=width, role="prompt_embedding"), "prompt_encoder."
    shapes = ((1, 2, 1, few), (2, 2, few, channels), (3, 1, channels, width))
    return [
        *(Placement(f"{path}mask_embed.conv{place}", Convolution(kernel=(kernel, kernel), in_channels=inputs,
                                                                 out_channels=outputs, bias=True))
          for place, kernel, inputs, outputs in shapes),
        Placement(path + "mask_embed.layer_norm1", Norm(width=few)),
        Placement(path + "mask_embed.layer_norm2", Norm(width=4 * few)),  # of fewer channels where 4 does not divide
        Placement(path + "no_mask_embed", one),
        *(Placement(f"{path}point_embed.{kind}", one) for kind in kinds),
        Placement(path + "not_a_point_embed", one),
    ]  # fmt: skip


def _decoder(part: Hyperparameters, offset: int) -> tuple[list[Placement], int]:
    """Layers in which tokens and the image attend to each other, and the maps that make masks of them."""
    width, heads = part.count("hidden_size", 256), part.count("num_heads", 8)
    depth, masks = part.count("num_layers", 2, most=MOST_LAYERS), part.count("num_multimask_outputs", 3) + 1

    def attention(rate: int) -> Attention:
        size = part.divided("head_dim", part.divided("the width of attention", width, rate), heads)
        return Attention(hidden_size=width, num_heads=heads, num_kv_heads=heads, head_dim=size, causal=False,
                         names=("q_proj", "k_proj", "v_proj", "out_proj"), qkv_bias=True,
                         output_bias=True)  # fmt: skip

    rate = part.count("attention_downsample_rate", 2)
    mlp = FeedForward(hidden_size=width, intermediate_size=part.count("mlp_dim", 2048), gate=None, up="lin1",
                      down="lin2", bias=True)  # fmt: skip
    blocks: list[tuple[str, Block]] = [
        ("self_attn", attention(1)), ("cross_attn_token_to_image", attention(2)), ("mlp", mlp),
        ("cross_attn_image_to_token", attention(2)),
        *((f"layer_norm{place}", Norm(width=width)) for place in range(1, 5)),
    ]  # fmt: skip
    path, eighth = "mask_decoder.", part.divided("channels of a mask", width, 8)
    tokens = (("iou_token", 1), ("mask_tokens", masks))
    return [
        *(Placement(path + name, Embedding(rows=rows, width=width, role="prompt_embedding")) for name, rows in tokens),
        *(Placement(f"{path}transformer.layers.{{layer}}.{name}", block, range(depth), offset=offset)
          for name, block in blocks),
        Placement(path + "transformer.final_attn_token_to_image", attention(rate)),
        Placement(path + "transformer.layer_norm_final_attn", Norm(width=width)),
        *_widening(path + "upscale_conv1", width, width // 4),
        *_widening(path + "upscale_conv2", width // 4, eighth),
        Placement(path + "upscale_layer_norm", Norm(width=width // 4)),
        *(placement for mask in range(masks)
          for placement in _maps(f"{path}output_hypernetworks_mlps.{mask}", (width, width, eighth), 3)),
        *_maps(path + "iou_prediction_head", (width, part.count("iou_head_hidden_dim", 256), masks),
               part.count("iou_head_depth", 3, most=MOST_LAYERS, least=2)),
    ], depth  # fmt: skip


def _widening(path: str, inputs: int, outputs: int) -> list[Placement]:
    """A transposed convolution, whose weight has its inputs first."""
    kernel = Convolution(kernel=(2, 2), in_channels=outputs, out_channels=inputs, component=Component.HEAD)
    return [Placement(path, kernel), Placement(path, Vector(name="bias", width=outputs, component=Component.HEAD))]


def _maps(path: str, widths: tuple[int, int, int], depth: int) -> list[Placement]:
    """Dense layers from the first width over the second, `depth` of them in all, to the third."""
    inputs, inner, outputs = widths
    shapes = [("proj_in", inputs, inner), *((f"layers.{place}", inner, inner) for place in range(depth - 2)),
              ("proj_out", inner, outputs)]  # fmt: skip
    return [
        Placement(f"{path}.{name}", Linear(in_features=one, out_features=other, role="score", component=Component.HEAD))
        for name, one, other in shapes
    ]


FAMILY = Family(
    name="sam",
    title="SAM",
    model_types=("sam",),
    gguf={},
    source="transformers models/sam",
    build=build,
)
