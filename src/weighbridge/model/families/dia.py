"""Dia: an encoder over the bytes of a script, and a decoder of sound in several channels that attends to it.

Source: transformers `models/dia/{configuration,modeling}_dia.py` (5.x). One table holds the codes of all channels, and
one map gives the scores of all. The codec that turns codes into sound is a model of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, CrossAttention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.composite import with_defaults
from weighbridge.model.decoder import attention, number_of_layers
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = ("DiaForConditionalGeneration", "DiaModel")
_ENCODER: Mapping[str, int] = MappingProxyType({
    "hidden_size": 1024, "intermediate_size": 4096, "num_layers": 12, "num_heads": 16, "num_kv_heads": 16,
    "head_dim": 128, "vocab_size": 256,
})  # fmt: skip
_DECODER: Mapping[str, int] = MappingProxyType({
    "hidden_size": 2048, "intermediate_size": 8192, "num_layers": 18, "num_heads": 16, "num_kv_heads": 4,
    "head_dim": 128, "vocab_size": 1028, "num_channels": 9, "cross_num_attention_heads": 16,
    "cross_num_key_value_heads": 16, "cross_head_dim": 128, "cross_hidden_size": 1024,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder, with the map to scores unless the class has none."""
    name = hyperparameters.classes[0] if hyperparameters.classes else _CLASSES[0]
    if name not in _CLASSES or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, _CLASSES)
    base = "" if name == "DiaModel" else "model."
    script = with_defaults(hyperparameters.part("encoder_config"), _ENCODER)
    sound = with_defaults(hyperparameters.part("decoder_config"), _DECODER)
    first, layers, width = number_of_layers(script), number_of_layers(sound), sound.count("hidden_size")
    sound.same("cross_hidden_size and the encoder's width", sound.count("cross_hidden_size"),
               script.count("hidden_size"))  # fmt: skip
    heads = sound.count("cross_num_attention_heads")
    sound.same("heads and key-value heads of cross-attention", heads, sound.count("cross_num_key_value_heads"))
    cross = CrossAttention(hidden_size=width, num_heads=heads, head_dim=sound.count("cross_head_dim"),
                           positions=script.count("max_positions", 1024),
                           source_size=script.count("hidden_size"))  # fmt: skip
    norm, own = Norm(width=width, bias=False), attention(sound)
    codes = sound.count("vocab_size") * sound.count("num_channels")
    head = Linear(in_features=width, out_features=codes, bias=False, role="head", component=Component.HEAD)
    reading: dict[str, Block] = {
        "self_attention": attention(script, causal=False), "mlp": _mlp(script),
        "pre_sa_norm": Norm(width=script.count("hidden_size"), bias=False, role="attention_norm"),
        "post_sa_norm": Norm(width=script.count("hidden_size"), bias=False, role="mlp_norm"),
    }  # fmt: skip
    writing: dict[str, Block] = {
        "self_attention": own, "cross_attention": cross, "mlp": _mlp(sound), "pre_sa_norm": norm, "pre_ca_norm": norm,
        "pre_mlp_norm": norm,
    }  # fmt: skip
    before, after = f"{base}encoder.", f"{base}decoder."
    table = Embedding(rows=script.count("vocab_size"), width=script.count("hidden_size"))
    return Architecture(
        family="dia",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(before + "embedding", table),
            *(Placement(before + "layers.{layer}." + part, block, range(first)) for part, block in reading.items()),
            Placement(before + "norm", Norm(width=script.count("hidden_size"), bias=False, role="encoder_norm")),
            Placement(after + "embeddings.embed", Embedding(rows=codes, width=width)),
            *(Placement(after + "layers.{layer}." + part, block, range(layers), offset=first)
              for part, block in writing.items()),
            Placement(after + "norm", Norm(width=width, bias=False, role="final_norm")),
            *((Placement("logits_dense", head),) if base else ()),
        ),
        num_layers=first + layers,
        num_heads=own.num_heads,
        num_kv_heads=own.num_kv_heads,
        base_prefix="model.",
    )  # fmt: skip


def _mlp(part: Hyperparameters) -> FeedForward:
    return FeedForward(hidden_size=part.count("hidden_size"), up="gate_up_proj", fused=True,
                       intermediate_size=part.count("intermediate_size"))  # fmt: skip


FAMILY = Family(
    name="dia",
    title="Dia",
    model_types=("dia",),
    gguf={},
    source="transformers models/dia",
    build=build,
)
