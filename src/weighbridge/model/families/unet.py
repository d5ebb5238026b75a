"""The UNet of Stable Diffusion 1, 2 and XL: residual blocks and attention to a text, down to a middle and up again.

Source: diffusers `models/unets/unet_2d_condition.py` and `models/controlnets/controlnet.py` (defaults of
`UNet2DConditionModel.__init__` and `ControlNetModel.__init__`). Each step up takes in the outputs of the step down at
its resolution, which widens its first convolutions. A ControlNet is the way down and the middle, and its outputs are
added to those of the UNet. Configurations name `_class_name` in place of a model type.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.diffusion import PLAIN, TEXT, block_kinds, convolution, linear, norm, residual, transformer
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image

_PASS = f"one pass with a text of {TEXT} tokens over a latent"
_CLASSES = {"UNet2DConditionModel": "unet", "ControlNetModel": "controlnet"}
_CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
_UNDESCRIBED = (
    "class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type", "dual_cross_attention",
    "only_cross_attention", "mid_block_only_cross_attention", "cross_attention_norm", "time_embedding_dim",
    "class_embeddings_concat", "reverse_transformer_layers_per_block", "num_heads",
)  # fmt: skip
_ONLY = {"time_embedding_type": "positional", "resnet_time_scale_shift": "default", "attention_type": "default",
         "addition_embed_type": "text_time", "mid_block_type": "UNetMidBlock2DCrossAttn"}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The whole of it; what is not described is refused."""
    for key in _UNDESCRIBED:
        hyperparameters.refuse(key, "which this family does not describe")
    for key, value in _ONLY.items():
        if hyperparameters.settings.get(key) not in (None, value):
            hyperparameters.refuse(key, f"of which this family describes {value} alone")
    if "norm_num_groups" in hyperparameters.settings:
        hyperparameters.count("norm_num_groups")
    widths = counts(hyperparameters, "block_out_channels", (320, 640, 1280, 1280))
    last, context = len(widths) - 1, hyperparameters.count("cross_attention_dim", 1280)
    downs = block_kinds(hyperparameters, "down_block_types", (*[_CROSS[0]] * 3, PLAIN[0]), last + 1, _CROSS)
    controls = hyperparameters.model_type == "controlnet"
    ups = []
    if not controls:
        ups = block_kinds(hyperparameters, "up_block_types", (PLAIN[1], *[_CROSS[1]] * 3), last + 1, _CROSS)
    layers = _by_block(hyperparameters, "layers_per_block", 2, last + 1)
    depths = _by_block(hyperparameters, "transformer_layers_per_block", 1, last + 1)
    heads = _by_block(hyperparameters, "attention_head_dim", 8, last + 1)
    flat = hyperparameters.flag("use_linear_projection", False)
    time = 4 * widths[0]
    latent = image_grid(hyperparameters, "sample_size", 64)
    kernels = [3 if controls else hyperparameters.count(key, 3) for key in ("conv_in_kernel", "conv_out_kernel")]

    grids = [latent.after(kernels[0], 1, (kernels[0] - 1) // 2 * 2)]
    padding = 2 * hyperparameters.count("downsample_padding", 1, least=0) or 1  # below and to the right where it is 0
    for _ in range(last):
        grids.append(grids[-1].after(3, 2, padding))

    def block(path: str, number: int, inputs: int, crossed: bool, stage: int, width: int) -> list[Placement]:
        at = grids[stage].positions
        placements = residual(f"{path}.resnets.{number}", inputs, width, time, at)
        if crossed:
            hyperparameters.divided("channels by heads", width, heads[stage])
            placements += transformer(f"{path}.attentions.{number}", width, context, depths[stage], flat, at)
        return placements

    placements = [convolution("conv_in", hyperparameters.count("in_channels", 4), widths[0], grids[0].positions,
                              kernels[0])]  # fmt: skip
    placements += _time(hyperparameters, widths[0], time)
    width = widths[0]
    for stage, (outputs, crossed) in enumerate(zip(widths, downs, strict=True)):
        path = f"down_blocks.{stage}"
        for number in range(layers[stage]):
            placements += block(path, number, width, crossed, stage, outputs)
            width = outputs
        if stage < last:
            placements.append(convolution(path + ".downsamplers.0.conv", width, width, grids[stage + 1].positions))
    if controls or hyperparameters.settings.get("mid_block_type", "") is not None:
        placements += block("mid_block", 0, width, True, last, width)
        placements += residual("mid_block.resnets.1", width, width, time, grids[last].positions)
    if controls:
        placements += _controls(hyperparameters, widths, layers, latent, grids)
    else:
        for step, crossed in enumerate(ups):
            stage, path = last - step, f"up_blocks.{step}"
            outputs, narrower = widths[stage], widths[max(stage - 1, 0)]
            for number in range(layers[stage] + 1):
                skipped = narrower if number == layers[stage] else outputs
                placements += block(path, number, width + skipped, crossed, stage, outputs)
                width = outputs
            if stage:
                placements.append(convolution(path + ".upsamplers.0.conv", width, width, grids[stage - 1].positions))
        colours = hyperparameters.count("out_channels", 4)
        ends = grids[0].after(kernels[1], 1, (kernels[1] - 1) // 2 * 2).positions
        placements += [norm("conv_norm_out", width), convolution("conv_out", width, colours, ends, kernels[1])]
    return Architecture(family="unet", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=max(heads), num_kv_heads=max(heads),
                        notes=one_image(hyperparameters, latent, grids[last], _PASS))  # fmt: skip


def _controls(hyperparameters: Hyperparameters, widths: tuple[int, ...], layers: tuple[int, ...], latent: Grid,
              grids: list[Grid]) -> list[Placement]:  # fmt: skip
    """What a ControlNet has in place of the way up: maps of the image that controls, and of every output so far."""
    base, narrow = "controlnet_cond_embedding.", counts(hyperparameters, "conditioning_embedding_out_channels",
                                                        (16, 32, 96, 256))  # fmt: skip
    grid = latent
    for _ in narrow[1:]:
        grid = grid.doubled()
    colours = hyperparameters.count("conditioning_channels", 3)
    placements = [convolution(base + "conv_in", colours, narrow[0], grid.positions)]
    for number, (inputs, outputs) in enumerate(pairwise(narrow)):
        placements.append(convolution(f"{base}blocks.{2 * number}", inputs, inputs, grid.positions))
        grid = grid.halved()
        placements.append(convolution(f"{base}blocks.{2 * number + 1}", inputs, outputs, grid.positions))
    placements.append(convolution(base + "conv_out", narrow[-1], widths[0], grid.positions))
    maps = [(widths[0], grids[0])]
    for stage, width in enumerate(widths):
        maps += [(width, grids[stage])] * layers[stage] + [(width, after) for after in grids[stage + 1 : stage + 2]]
    placements += [convolution(f"controlnet_down_blocks.{number}", width, width, at.positions, 1)
                   for number, (width, at) in enumerate(maps)]  # fmt: skip
    return [*placements, convolution("controlnet_mid_block", widths[-1], widths[-1], grids[-1].positions, 1)]


def _time(hyperparameters: Hyperparameters, width: int, time: int) -> list[Placement]:
    """The embedded time step, with the guidance and the sizes and pooled text where they are fed in."""
    placements = [linear("time_embedding.linear_1", width, time), linear("time_embedding.linear_2", time, time)]
    guidance = hyperparameters.optional_count("time_cond_proj_dim")
    if guidance and hyperparameters.model_type == "unet":
        placements.append(linear("time_embedding.cond_proj", guidance, width, bias=False))
    if hyperparameters.settings.get("addition_embed_type"):
        inputs = hyperparameters.count("projection_class_embeddings_input_dim")
        placements += [linear("add_embedding.linear_1", inputs, time), linear("add_embedding.linear_2", time, time)]
    return placements


def _by_block(hyperparameters: Hyperparameters, key: str, default: int, blocks: int) -> tuple[int, ...]:
    """A number for each block, spelled once for all or one by one."""
    if isinstance(hyperparameters.settings.get(key), list | tuple):
        numbers = counts(hyperparameters, key, (), most=MOST_LAYERS)
    else:
        numbers = (hyperparameters.count(key, default, most=MOST_LAYERS),) * blocks
    if len(numbers) != blocks:
        read = f"{hyperparameters.source} has {key} for {len(numbers)} blocks of {blocks}"
        raise ConfigError(read, "a number for each", "correct the key")
    return numbers


def recognise(config: Mapping[str, Any]) -> str | None:
    """A UNet by the class it names, or by settings that only it has."""
    classes = config.get("architectures")
    named = config.get("_class_name") or (classes[0] if isinstance(classes, list) and classes else None)
    if named is None and {"block_out_channels", "cross_attention_dim", "up_block_types"} <= config.keys():
        return "unet"
    return _CLASSES.get(named) if isinstance(named, str) else None


FAMILY = Family(
    name="unet",
    title="The UNet of Stable Diffusion 1, 2 and XL, and ControlNet beside it",
    model_types=("unet", "controlnet"),
    gguf={},
    source="diffusers models/unets/unet_2d_condition.py, models/controlnets/controlnet.py",
    build=build,
    recognise=recognise,
)
