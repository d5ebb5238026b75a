"""The UNet of DDPM: residual blocks down to a middle and up again, some with attention among the positions, no text.

Source: diffusers `models/unets/unet_2d.py` (defaults of `UNet2DModel.__init__`). Configurations name `_class_name` in
place of a model type.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding
from weighbridge.model.diffusion import PLAIN, block_kinds, convolution, image_attention, linear, norm, residual
from weighbridge.model.diffusion_transformer import named, one_of
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, image_grid, one_image

_ATTENDING = ("AttnDownBlock2D", "AttnUpBlock2D")
_ONLY = {"time_embedding_type": "positional", "resnet_time_scale_shift": "default", "downsample_type": "conv",
         "upsample_type": "conv"}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The whole of it; what is not described is refused."""
    hyperparameters.refuse("class_embed_type", "which this family does not describe")
    for key, value in _ONLY.items():
        one_of(hyperparameters, key, value)
    middle = one_of(hyperparameters, "mid_block_type", "UNetMidBlock2D", None)
    widths = counts(hyperparameters, "block_out_channels", (224, 448, 672, 896))
    last, layers = len(widths) - 1, hyperparameters.count("layers_per_block", 2, most=MOST_LAYERS)
    downs = block_kinds(hyperparameters, "down_block_types", (PLAIN[0], *[_ATTENDING[0]] * 3), last + 1, _ATTENDING)
    ups = block_kinds(hyperparameters, "up_block_types", (*[_ATTENDING[1]] * 3, PLAIN[1]), last + 1, _ATTENDING)
    head_dim = hyperparameters.count("attention_head_dim", 8)
    whole = hyperparameters.settings.get("attention_head_dim", head_dim) is None
    image = image_grid(hyperparameters, "sample_size", 32)
    padding = 2 * hyperparameters.count("downsample_padding", 1, least=0) or 1  # below and to the right where it is 0
    grids = [image]
    for _ in range(last):
        grids.append(grids[-1].after(3, 2, padding))
    time = hyperparameters.count("time_embedding_dim", 4 * widths[0])

    def block(path: str, number: int, inputs: int, attends: bool, stage: int, width: int) -> list[Placement]:
        at = grids[stage].positions
        placements = residual(f"{path}.resnets.{number}", inputs, width, time, at)
        if attends:
            hyperparameters.divided("heads", width, 1 if whole else head_dim)
            placements += image_attention(f"{path}.attentions.{number}", width, at)
        return placements

    width = widths[0]
    placements = [convolution("conv_in", hyperparameters.count("in_channels", 3), width, image.positions)]
    placements += [linear("time_embedding.linear_1", width, time), linear("time_embedding.linear_2", time, time)]
    classes = hyperparameters.optional_count("num_class_embeds")
    if classes is not None:
        placements.append(Placement("class_embedding", Embedding(rows=classes, width=time, role="class_embedding")))
    for stage, (outputs, attends) in enumerate(zip(widths, downs, strict=True)):
        path = f"down_blocks.{stage}"
        for number in range(layers):
            placements += block(path, number, width, attends, stage, outputs)
            width = outputs
        if stage < last:
            placements.append(convolution(path + ".downsamplers.0.conv", width, width, grids[stage + 1].positions))
    if middle is not None:
        placements += block("mid_block", 0, width, hyperparameters.flag("add_attention", True), last, width)
        placements += block("mid_block", 1, width, False, last, width)
    for step, attends in enumerate(ups):
        stage, path = last - step, f"up_blocks.{step}"
        outputs, narrower = widths[stage], widths[max(stage - 1, 0)]
        for number in range(layers + 1):
            skipped = narrower if number == layers else outputs
            placements += block(path, number, width + skipped, attends, stage, outputs)
            width = outputs
        if stage:
            placements.append(convolution(path + ".upsamplers.0.conv", width, width, grids[stage - 1].positions))
    colours = hyperparameters.count("out_channels", 3)
    placements += [norm("conv_norm_out", width), convolution("conv_out", width, colours, image.positions)]
    heads = max(1, widths[-1] // head_dim)
    return Architecture(family="unet_2d", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=heads, num_kv_heads=heads,
                        notes=one_image(hyperparameters, image, grids[last], "one pass over an image"))  # fmt: skip


FAMILY = Family(
    name="unet_2d",
    title="The UNet of DDPM",
    model_types=("unet_2d",),
    gguf={},
    source="diffusers models/unets/unet_2d.py",
    build=build,
    recognise=named({"UNet2DModel": "unet_2d"}),
)
