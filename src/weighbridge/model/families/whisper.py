"""Whisper: two convolutions over a spectrogram, an audio encoder of 1500 positions, a text decoder, a tied head.

Source: transformers `models/whisper/{configuration,modeling}_whisper.py`. Keys have no bias. The encoder's positions
are sines, stored like learned ones. Cross-attention keeps keys and values of all 1500 positions of each 30 seconds.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.encoder_decoder import position_table, stack
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = ("ForConditionalGeneration", "Model", "ForAudioClassification")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder, or the encoder with a classifier."""
    suffix = head_class(hyperparameters, ("Whisper",), "ForConditionalGeneration")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple("Whisper" + name for name in _CLASSES))
    if suffix == "ForAudioClassification":
        hyperparameters.refuse("use_weighted_layer_sum", "which adds weights that are not described")
    base = "model." if suffix == "ForConditionalGeneration" else ""
    hidden = hyperparameters.count("hidden_size")
    positions = hyperparameters.count("max_source_positions", 1500)
    encoder = stack(hyperparameters, base, "encoder", key_bias=False)
    tied = suffix == "ForConditionalGeneration" and hyperparameters.flag("tie_embeddings", True)
    mels = hyperparameters.count("num_mel_bins", 80)
    placements = [
        Placement(f"{base}encoder.conv1", Convolution(kernel=(3,), in_channels=mels, out_channels=hidden, bias=True,
                                                      positions=2)),
        Placement(f"{base}encoder.conv2", Convolution(kernel=(3,), in_channels=hidden, out_channels=hidden, bias=True)),
        position_table(encoder.path, positions, hidden),
        *encoder.placements(),
        Placement(f"{base}encoder.layer_norm", Norm(width=hidden, role="encoder_norm")),
    ]  # fmt: skip
    layers, num_heads = encoder.num_layers, encoder.num_heads
    if suffix == "ForAudioClassification":
        width = hyperparameters.count("classifier_proj_size", 256)
        labels = hyperparameters.count("num_labels", 2)
        placements += [
            Placement("projector", Linear(in_features=hidden, out_features=width, role="head_transform",
                                          component=Component.HEAD)),
            Placement("classifier", Linear(in_features=width, out_features=labels, role="score",
                                           component=Component.HEAD)),
        ]  # fmt: skip
    else:
        decoder = stack(hyperparameters, base, "decoder", positions=positions, offset=layers, key_bias=False)
        layers, num_heads = layers + decoder.num_layers, decoder.num_heads
        vocab, table = hyperparameters.count("vocab_size"), f"{base}decoder.embed_tokens"
        placements += [
            Placement(table, Embedding(rows=vocab, width=hidden)),
            position_table(decoder.path, hyperparameters.count("max_target_positions", 448), hidden),
            *decoder.placements(),
            Placement(f"{base}decoder.layer_norm", Norm(width=hidden, role="final_norm")),
        ]
        if suffix == "ForConditionalGeneration":
            placements.append(Placement("proj_out", Linear(
                in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                tied_to=f"{table}.weight" if tied else None)))  # fmt: skip
    return Architecture(
        family="whisper",
        model_type=hyperparameters.model_type,
        placements=tuple(placements),
        num_layers=layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="model.",
        tie_embeddings=tied,
    )


FAMILY = Family(
    name="whisper",
    title="Whisper and Distil-Whisper",
    model_types=("whisper",),
    gguf={},
    source="transformers models/whisper",
    build=build,
)
