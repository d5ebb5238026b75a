"""ModernBERT: rotary positions, norms first, gated feed-forward blocks, windows in two layers of three, few biases.

Source: transformers `models/modernbert/{configuration,modeling}_modernbert.py`. The first layer has no norm before its
attention, as the one on the embeddings serves. An encoder keeps no cache, so windows change no count.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "ForMaskedLM": ("transform", "masked"),
    "ForSequenceClassification": ("transform", "classifier"),
    "ForTokenClassification": ("transform", "classifier"),
    "ForQuestionAnswering": ("transform", "classifier"),
    "ForMultipleChoice": ("transform", "choice"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    suffix = bert.known_class(hyperparameters, ("ModernBert",), _CLASSES)
    base, hidden = "" if suffix == "Model" else "model.", hyperparameters.count("hidden_size")
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "layers.{layer}."
    bias, norm_bias = hyperparameters.flag("attention_bias", False), hyperparameters.flag("norm_bias", False)
    vocab, table = hyperparameters.count("vocab_size"), base + "embeddings.tok_embeddings"
    tied = suffix == "ForMaskedLM" and hyperparameters.flag("tie_embeddings", True)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads), names=("Wqkv", "Wo"),
                          qkv_bias=bias, output_bias=bias, causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               up="Wi", down="Wo", fused=True,
                               bias=hyperparameters.flag("mlp_bias", False))  # fmt: skip

    def norm(role: str, component: Component = Component.NORM) -> Norm:
        return Norm(width=hidden, bias=norm_bias, role=role, component=component)

    transform = Linear(in_features=hidden, out_features=hidden, bias=hyperparameters.flag("classifier_bias", False),
                       role="head_transform", component=Component.HEAD)  # fmt: skip
    decoder = Linear(in_features=hidden, out_features=vocab, bias=hyperparameters.flag("decoder_bias", True),
                     role="head", component=Component.HEAD, tied_to=f"{table}.weight" if tied else None)  # fmt: skip
    parts: dict[str, Callable[[], list[Placement]]] = {
        "transform": lambda: [
            Placement("head.dense", transform), Placement("head.norm", norm("head_norm", Component.HEAD)),
        ],
        "masked": lambda: [Placement("decoder", decoder)],
        "classifier": lambda: [bert.output("classifier", hidden, hyperparameters.count("num_labels", 2))],
        "choice": lambda: [bert.output("classifier", hidden, 1)],
    }  # fmt: skip
    return Architecture(
        family="modernbert",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(table, Embedding(rows=vocab, width=hidden)),
            Placement(base + "embeddings.norm", norm("embedding_norm")),
            Placement(layer + "attn_norm", norm("attention_norm"), layers[1:]),
            Placement(layer + "attn", attention, layers),
            Placement(layer + "mlp_norm", norm("mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(base + "final_norm", norm("final_norm")),
            *(placement for name in _CLASSES[suffix] for placement in parts[name]()),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="model.",
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )


FAMILY = Family(
    name="modernbert",
    title="ModernBERT",
    model_types=("modernbert",),
    gguf={},
    source="transformers models/modernbert",
    build=build,
)
