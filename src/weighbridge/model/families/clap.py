"""CLAP: a RoBERTa for text and a Swin over spectrograms (HTS-AT) that meet in one space.

Source: transformers `models/clap` (Wu et al. 2023). With fusion, convolutions weigh the parts of a long recording
against its whole. Only both encoders together are described.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import moved, optional_part, tower, with_defaults
from weighbridge.model.families import roberta, swin
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, pair

_TEXT = {"vocab_size": 50265, "hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072,
         "max_positions": 514, "num_token_types": 1}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both encoders with their projections."""
    if head_class(hyperparameters, ("Clap",), "Model") != "Model":
        raise unknown_class(hyperparameters, ("ClapModel",))
    words = with_defaults(optional_part(hyperparameters, "text_config"), _TEXT)
    text = roberta.build(replace(words, model_type="roberta", classes=("RobertaModel",)))
    shared = hyperparameters.count("projection_dim", 512)
    audio, width = _audio(with_defaults(optional_part(hyperparameters, "audio_config"), {"window_size": 8}))
    scales = [Placement("", Array(name=f"logit_scale_{side}", shape=())) for side in "at"]
    return Architecture(
        family="clap", model_type="clap",
        placements=(
            *scales,
            *moved(text.placements, [("", "text_model.")]),
            *_projection("text_projection", words.count("hidden_size"), shared),
            *tower([*audio, *_projection("audio_projection", width, shared)]),
        ),
        num_layers=text.num_layers, num_heads=text.num_heads, num_kv_heads=text.num_kv_heads,
    )  # fmt: skip


def _projection(path: str, inputs: int, outputs: int) -> list[Placement]:
    return [Placement(f"{path}.linear1", Linear(in_features=inputs, out_features=outputs)),
            Placement(f"{path}.linear2", Linear(in_features=outputs, out_features=outputs))]  # fmt: skip


def _audio(part: Hyperparameters) -> tuple[list[Placement], int]:
    """The stages over the spectrogram, and the width that they are said to give."""
    depths = counts(part, "depths", (2, 2, 6, 2), most=MOST_LAYERS)
    heads = counts(part, "num_heads", (4, 8, 16, 32))
    width, done, base = part.count("patch_embeds_hidden_size", 96), 0, "audio_model.audio_encoder."
    if len(depths) != len(heads) or len(depths) > 16:
        read = f"{part.source} has {len(depths)} depths and {len(heads)} num_attention_heads"
        raise ConfigError(read, "one of each for a few stages", "correct the keys")
    placements = [Placement(f"{base}patch_embed.{path}", block) for path, block in _patches(part, width)]
    stages = replace(part, model_type="swin")
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        path = f"{base}layers.{stage}"
        placements += swin.stage_of(stages, path, width, depth, count, done)
        done += depth
        if stage + 1 < len(depths):
            merged = Linear(in_features=4 * width, out_features=2 * width, bias=False)
            placements += [Placement(path + ".downsample.reduction", merged),
                           Placement(path + ".downsample.norm", Norm(width=4 * width))]  # fmt: skip
            width *= 2
    mels = Norm(width=part.count("num_mel_bins", 64), running_statistics=True)
    placements += [Placement(base + "batch_norm", mels),
                   Placement(base + "norm", Norm(width=width, role="final_norm"))]  # fmt: skip
    return placements, part.count("hidden_size", 768)


def _patches(part: Hyperparameters, width: int) -> list[tuple[str, Block]]:
    """The convolution over the spectrogram, and with fusion what joins the parts of a recording."""
    size, channels = pair(part, "patch_size", 4), part.count("patch_embed_input_channels", 1)
    fused = part.flag("enable_fusion", False)
    inputs = channels * (4 if fused and part.settings.get("fusion_type") == "channel_map" else 1)
    blocks: list[tuple[str, Block]] = [
        ("proj", Convolution(kernel=size, in_channels=inputs, out_channels=width, bias=True)),
    ]
    if part.flag("enable_patch_layer_norm", True):
        blocks.append(("norm", Norm(width=width)))
    if not fused:
        return blocks
    inner = part.derived("the width of the fusion", width // part.count("aff_block_r", 4))
    longer = Convolution(kernel=(size[0], 3 * size[1]), in_channels=channels, out_channels=width, bias=True)
    blocks.append(("mel_conv2d", longer))
    for branch, first in (("local_att", 0), ("global_att", 1)):  # a pooling stands before the second
        for place, one, other in ((first, width, inner), (first + 3, inner, width)):
            weighing = Convolution(kernel=(1, 1), in_channels=one, out_channels=other, bias=True)
            blocks += [(f"fusion_model.{branch}.{place}", weighing),
                       (f"fusion_model.{branch}.{place + 1}", Norm(width=other, running_statistics=True))]  # fmt: skip
    return blocks


FAMILY = Family(
    name="clap",
    title="CLAP",
    model_types=("clap",),
    gguf={},
    source="transformers models/clap",
    build=build,
)
