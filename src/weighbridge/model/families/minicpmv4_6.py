"""MiniCPM-V 4.6: Qwen3.5's language model beside SigLIP's encoder, which merges patches inside and behind it.

Source: transformers `models/minicpmv4_6/{configuration,modeling}_minicpmv4_6.py` (5.x). After one of the encoder's
layers windows of patches attend to each other and become one vector each; behind the encoder so do squares of them.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, Linear, Norm
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, encoder, patches

_TEXT = TextClass("qwen3_5_text", "Qwen3_5ForCausalLM", {
    "vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_layers": 32, "num_heads": 16,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder and mergers."""
    check_class(hyperparameters, "MiniCPMV4_6")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    if text.model_type not in ("part", "qwen3_5_text"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "qwen3_5_text",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _TEXT, tied=hyperparameters.flag("tie_embeddings", False))
    layers, cut, path = encoder(vision, 768, 3072, 12, 12), patches(vision, 224, 16), "model.vision_tower."
    width, inside = layers.hidden_size, path + "vit_merger."
    window = counts(vision, "window_kernel_size", (2, 2))
    vision.same("the sides of window_kernel_size", len(window), 2)
    wide, inner = (size * window[0] * window[1] for size in (width, layers.intermediate_size))
    attention = Attention(hidden_size=width, num_heads=layers.num_heads, num_kv_heads=layers.num_heads,
                          head_dim=width // layers.num_heads, names=("q_proj", "k_proj", "v_proj", "out_proj"),
                          qkv_bias=True, output_bias=True, causal=False)  # fmt: skip
    times, four = hyperparameters.count("merger_times", 1, most=MOST_LAYERS), 4 * width
    outputs = [width] * (times - 1) + [text.count("hidden_size", 4096)]
    beside = tower((
        Placement(path + "embeddings.patch_embedding", cut.convolution(width)),
        Placement(path + "embeddings.position_embedding", Embedding(rows=cut.count, width=width,
                                                                     role="position_embedding")),
        *layers.placements(path + "encoder.layers.{layer}"),
        Placement(path + "post_layernorm", Norm(width=width, role="final_norm")),
        Placement(inside + "self_attn", attention),
        Placement(inside + "layer_norm1", Norm(width=width)),
        Placement(inside + "pre_norm", Norm(width=wide)),
        Placement(inside + "linear_1", Linear(in_features=wide, out_features=inner)),
        Placement(inside + "linear_2", Linear(in_features=inner, out_features=width)),
        *(placement for number, output in enumerate(outputs) for placement in (
            Placement(f"model.merger.mlp.{number}.pre_norm", Norm(width=four)),
            Placement(f"model.merger.mlp.{number}.linear_1", Linear(in_features=four, out_features=four)),
            Placement(f"model.merger.mlp.{number}.linear_2", Linear(in_features=four, out_features=output)),
        )),
    ))  # fmt: skip
    return joined(hyperparameters, "minicpmv4_6", language, beside, [("model.", "model.language_model.")])


FAMILY = Family(
    name="minicpmv4_6",
    title="MiniCPM-V 4.6",
    model_types=("minicpmv4_6",),
    gguf={},
    source="transformers models/minicpmv4_6",
    build=build,
)
