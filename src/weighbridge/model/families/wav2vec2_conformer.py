"""Conformers that listen: wav2vec 2.0 with Conformer layers, and w2v-BERT 2.0 over a spectrogram.

Source: transformers `models/{wav2vec2_conformer,wav2vec2_bert}`. A layer has a feed-forward block at each end, and
attention and a convolution between them (Gulati et al. 2020). Positions are rotary, relative with a map and two biases
for each head, or a table of distances.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import with_defaults
from weighbridge.model.families import bert, wav2vec2
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE
from weighbridge.model.tensors import Component

_CLASSES = ("Model", "ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")

# For each model type the name of its class, the classes, and the defaults of its configuration class.
_KINDS = {
    "wav2vec2-conformer": ("Wav2Vec2Conformer", (*_CLASSES, "ForPreTraining"), {
        "hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072,
        "position_embeddings_type": "relative",
    }),
    "wav2vec2-bert": ("Wav2Vec2Bert", _CLASSES, {
        "hidden_size": 1024, "num_layers": 24, "num_heads": 16, "intermediate_size": 4096,
        "position_embeddings_type": "relative_key", "classifier_proj_size": 768,
    }),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    kind = hyperparameters.model_type
    name, known, defaults = _KINDS[kind]
    suffix = bert.known_class(hyperparameters, (name,), dict.fromkeys(known), "Model")
    for key in ("add_adapter", "use_intermediate_ffn_before_adapter"):
        hyperparameters.refuse(key, "which adds weights that are not described")
    hyperparameters = with_defaults(hyperparameters, defaults)
    if suffix == "ForCTC":
        hyperparameters.count("vocab_size")  # the reference has no default
    body, hidden = kind.replace("-", "_") + ".", hyperparameters.count("hidden_size")
    base, num_layers = "" if suffix == "Model" else body, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_heads = hyperparameters.count("num_heads")
    notes: tuple[str, ...] = ()
    if kind == "wav2vec2-bert":
        first, path = hyperparameters.count("feature_projection_input_dim", 160), base + "feature_projection"
        stem = [
            *wav2vec2.mask(hyperparameters, base, hidden),
            Placement(path + ".layer_norm", Norm(width=first)),
            Placement(path + ".projection", Linear(in_features=first, out_features=hidden,
                                                   role="embedding_projection")),
        ]  # fmt: skip
    else:
        notes = (ONCE,)
        stem = [*wav2vec2.stem(hyperparameters, base, hidden),
                Placement(base + "encoder.layer_norm", Norm(width=hidden, role="encoder_norm"))]  # fmt: skip
    return Architecture(
        family="wav2vec2_conformer",
        model_type=kind,
        placements=(
            *stem,
            *(Placement(f"{base}encoder.layers.{{layer}}.{path}", block, range(num_layers))
              for path, block in _layer(hyperparameters, hidden, num_heads)),
            *wav2vec2.heads(hyperparameters, suffix, hidden, num_layers),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix=body,
        notes=notes,
    )  # fmt: skip


def _layer(hyperparameters: Hyperparameters, hidden: int, heads: int) -> list[tuple[str, Block]]:
    """The parts of every layer, by their paths in it."""
    size = hyperparameters.divided("head_dim", hidden, heads)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="intermediate_dense", down="output_dense", bias=True)  # fmt: skip
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=heads, head_dim=size, causal=False,
                          names=("linear_q", "linear_k", "linear_v", "linear_out"), qkv_bias=True,
                          output_bias=True)  # fmt: skip
    depthwise = Convolution(kernel=(hyperparameters.count("conv_depthwise_kernel_size", 31),), in_channels=hidden,
                            out_channels=hidden, groups=hidden)  # fmt: skip
    first = hyperparameters.model_type == "wav2vec2-conformer"
    norm = Norm(width=hidden)
    return [
        ("ffn1_layer_norm", norm),
        ("ffn1", feed_forward),
        ("self_attn_layer_norm", Norm(width=hidden, role="attention_norm")),
        ("self_attn", attention),
        *_positions(hyperparameters, hidden, heads, size),
        ("conv_module.layer_norm", norm),
        ("conv_module.pointwise_conv1", Convolution(kernel=(1,), in_channels=hidden, out_channels=2 * hidden)),
        ("conv_module.depthwise_conv", depthwise),
        ("conv_module.batch_norm" if first else "conv_module.depthwise_layer_norm",
         Norm(width=hidden, running_statistics=first)),
        ("conv_module.pointwise_conv2", Convolution(kernel=(1,), in_channels=hidden, out_channels=hidden)),
        ("ffn2_layer_norm", norm),
        ("ffn2", feed_forward),
        ("final_layer_norm", norm),
    ]  # fmt: skip


def _positions(hyperparameters: Hyperparameters, hidden: int, heads: int, size: int) -> list[tuple[str, Block]]:
    """What the attention of every layer knows of positions; rotary positions have no weights, nor has none at all."""
    kind = hyperparameters.settings.get("position_embeddings_type")
    if kind == "relative":
        biases = [("self_attn", Array(name=name, shape=(heads, size), component=Component.ATTENTION))
                  for name in ("pos_bias_u", "pos_bias_v")]  # fmt: skip
        return [*biases, ("self_attn.linear_pos", Linear(in_features=hidden, out_features=hidden, bias=False,
                                                         component=Component.ATTENTION))]  # fmt: skip
    if kind == "relative_key" and hyperparameters.model_type == "wav2vec2-bert":
        before, after = (hyperparameters.count(f"{side}_max_position_embeddings", most, least=0)
                         for side, most in (("left", 64), ("right", 8)))  # fmt: skip
        return [("self_attn.distance_embedding", Embedding(rows=before + after + 1, width=size,
                                                           role="position_embedding"))]  # fmt: skip
    if kind not in (None, "rotary"):
        hyperparameters.refuse("position_embeddings_type", "which is not described")
    return []


FAMILY = Family(
    name="wav2vec2_conformer",
    title="wav2vec 2.0 Conformer, w2v-BERT 2.0",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/wav2vec2_conformer, models/wav2vec2_bert",
    build=build,
)
