"""The thinkers of Qwen2.5-Omni and Qwen3-Omni, and Qwen3-ASR: a language model beside towers for images and sound.

Source: transformers `models/{qwen2_5_omni,qwen3_omni_moe,qwen3_asr}/{configuration,modeling}_*.py` (5.x). The towers
are those of Qwen2.5-VL and Qwen3-VL, and Whisper's encoder with sines that are not stored; the third generation's keys
have a bias and three convolutions shrink its spectrogram. A whole model is described where it has no talker
(`enable_audio_output`). Tensor names are those of published files, which hold the experts one by one; Qwen3-ASR's are
those of its files for transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, joined, moved, text_model, tower, with_defaults
from weighbridge.model.families.qwen2_vl import vision_tower
from weighbridge.model.families.qwen3_vl import deepstack
from weighbridge.model.families.voxtral import audio_layers
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters

SECOND = TextClass("qwen2", "Qwen2ForCausalLM", {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_layers": 28, "num_heads": 28,
    "num_kv_heads": 4, "sliding_window": 32768, "max_window_layers": 28,
})  # fmt: skip
THIRD = TextClass("qwen3_moe", "Qwen3MoeForCausalLM", {
    "vocab_size": 3584, "hidden_size": 2048, "intermediate_size": 18944, "num_layers": 28, "num_heads": 28,
    "num_kv_heads": 4, "decoder_sparse_step": 1, "moe_intermediate_size": 768, "num_experts": 128,
    "experts_per_token": 8,
})  # fmt: skip
_ASR = TextClass("qwen3", "Qwen3ForCausalLM", {
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_layers": 32, "num_heads": 32,
    "num_kv_heads": 32, "head_dim": 128,
})  # fmt: skip
_ASR_SOUND = {"hidden_size": 1024, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096}
_ASR_NAMES = (
    ("audio_tower.proj1", "model.multi_modal_projector.linear_1"),
    ("audio_tower.proj2", "model.multi_modal_projector.linear_2"),
    ("audio_tower.", "model.audio_tower."),
    ("model.", "model.language_model."),
)
_CLASSES = {
    "qwen3_asr": "Qwen3ASRForConditionalGeneration",
    "qwen2_5_omni": "Qwen2_5OmniForConditionalGeneration",
    "qwen2_5_omni_thinker": "Qwen2_5OmniThinkerForConditionalGeneration",
    "qwen3_omni_moe": "Qwen3OmniMoeForConditionalGeneration",
    "qwen3_omni_moe_thinker": "Qwen3OmniMoeThinkerForConditionalGeneration",
}
_MERGERS = (
    ("visual.merger.norm", "visual.merger.ln_q"),
    ("visual.merger.linear_fc1", "visual.merger.mlp.0"),
    ("visual.merger.linear_fc2", "visual.merger.mlp.2"),
    ("visual.deepstack_merger_list.{layer}.norm", "visual.merger_list.{layer}.ln_q"),
    ("visual.deepstack_merger_list.{layer}.linear_fc1", "visual.merger_list.{layer}.mlp.0"),
    ("visual.deepstack_merger_list.{layer}.linear_fc2", "visual.merger_list.{layer}.mlp.2"),
)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The thinker, or a whole model that has nothing else."""
    known = _CLASSES[hyperparameters.model_type]
    if hyperparameters.classes not in ((), (known,)):
        raise unknown_class(hyperparameters, (known,))
    if hyperparameters.model_type == "qwen3_asr":
        return _asr(hyperparameters)
    thinker, path = hyperparameters, ""
    if not hyperparameters.model_type.endswith("_thinker"):
        on = {**hyperparameters.settings, "enable_audio_output": hyperparameters.flag("enable_audio_output", True)}
        replace(hyperparameters, settings=on).refuse("enable_audio_output", "whose talker and voice are not described")
        thinker, path = hyperparameters.part("thinker_config"), "thinker."
    third = hyperparameters.model_type.startswith("qwen3")
    text, vision, audio = (thinker.part(name) for name in ("text_config", "vision_config", "audio_config"))
    language = text_model(text, THIRD if third else SECOND, tied=thinker.flag("tie_embeddings", False))
    if third:
        images = moved(vision_tower(vision, "visual", "qwen3_vl", deepstack(vision)), _MERGERS)
    else:
        images = tuple(_apart(vision_tower(vision, "visual", "qwen2_5_vl")))
    beside = (*tower(_sound(audio, third)), *images)
    return joined(hyperparameters, "qwen_omni", language, moved(beside, [("", path)]), [("", path)])


def _asr(hyperparameters: Hyperparameters) -> Architecture:
    """Qwen3's dense language model beside the tower for sound alone."""
    text, audio = hyperparameters.part("text_config"), hyperparameters.part("audio_config")
    if text.model_type not in ("part", "qwen3"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "qwen3",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _ASR, tied=hyperparameters.flag("tie_embeddings", True))
    sound = tower(_sound(with_defaults(audio, _ASR_SOUND), third=True))
    return joined(hyperparameters, "qwen_omni", language, moved(sound, _ASR_NAMES), _ASR_NAMES[3:])


def _apart(placements: Iterable[Placement]) -> Iterator[Placement]:
    """The same with queries, keys and values in tensors of their own."""
    for placement in placements:
        block = placement.block
        if isinstance(block, Attention):
            block = replace(block, names=("q", "k", "v", "proj"))
        yield replace(placement, block=block)


def _sound(audio: Hyperparameters, third: bool) -> tuple[Placement, ...]:
    path = "audio_tower."
    placements, layers = audio_layers(audio, path + "layers.{layer}", key_bias=third)
    width, output = layers.hidden_size, audio.count("output_dim", 3584)
    mels = audio.count("num_mel_bins", 128)
    ends: dict[str, Linear | Embedding | Norm | Convolution] = {"ln_post": Norm(width=width)}
    if third:
        narrow = audio.count("downsample_hidden_size", 480)
        square = Convolution(kernel=(3, 3), in_channels=narrow, out_channels=narrow, bias=True)
        ends |= {
            "conv2d1": replace(square, in_channels=1), "conv2d2": square, "conv2d3": square,
            "conv_out": Linear(in_features=narrow * -(-mels // 8), out_features=width, bias=False),
            "proj1": Linear(in_features=width, out_features=width),
            "proj2": Linear(in_features=width, out_features=output),
        }  # fmt: skip
    else:
        along = Convolution(kernel=(3,), in_channels=mels, out_channels=width, bias=True)
        ends |= {
            "conv1": along, "conv2": replace(along, in_channels=width),
            "audio_bos_eos_token": Embedding(rows=2, width=output),
            "proj": Linear(in_features=width, out_features=output),
        }  # fmt: skip
    return (*placements, *(Placement(path + name, block) for name, block in ends.items()))


FAMILY = Family(
    name="qwen_omni",
    title="Qwen2.5-Omni and Qwen3-Omni without their talkers, Qwen3-ASR",
    model_types=tuple(_CLASSES),
    gguf={},
    source="transformers models/qwen2_5_omni, models/qwen3_omni_moe, models/qwen3_asr",
    build=build,
)
