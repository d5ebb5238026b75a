"""ALBERT: layers that share their weights, on narrow embeddings. Every layer is computed, the weights are held once.

Source: transformers `models/albert/{configuration,modeling}_albert.py` (Lan et al. 2020). `num_hidden_groups` sets of
weights serve all layers (one, in the published models), each of `inner_group_num` layers.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm
from weighbridge.model.blocks.repeated import Repeated
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_CLASSES = {
    "Model": ("pooler",),
    "ForMaskedLM": ("masked",),
    "ForPreTraining": ("pooler", "masked", "order"),
    "ForSequenceClassification": ("pooler", "classifier"),
    "ForTokenClassification": ("classifier",),
    "ForQuestionAnswering": ("answer",),
    "ForMultipleChoice": ("pooler", "choice"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    suffix = bert.known_class(hyperparameters, ("Albert",), _CLASSES)
    bert.check_encoder(hyperparameters)
    base, hidden = "" if suffix == "Model" else "albert.", hyperparameters.count("hidden_size")
    width, labels = hyperparameters.count("embedding_size", 128), hyperparameters.count("num_labels", 2)
    tied = "masked" in _CLASSES[suffix] and hyperparameters.flag("tie_embeddings", True)
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    parts: dict[str, Callable[[], list[Placement]]] = {
        "pooler": lambda: [
            Placement(base + "pooler", Linear(in_features=hidden, out_features=hidden, role="pooler"))
        ],
        "masked": lambda: bert.masked_head(
            hyperparameters, ("predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions"),
            f"{base}embeddings.word_embeddings.weight" if tied else None, width),
        "order": lambda: [bert.output("sop_classifier.classifier", hidden, labels)],
        "classifier": lambda: [bert.output("classifier", hidden, labels)],
        "choice": lambda: [bert.output("classifier", hidden, 1)],
        "answer": lambda: [bert.output("qa_outputs", hidden, labels)],
    }  # fmt: skip
    project = Linear(in_features=width, out_features=hidden, role="embedding_projection")
    return Architecture(
        family="albert",
        model_type=hyperparameters.model_type,
        placements=(
            *bert.tables(hyperparameters, base + "embeddings.", width),
            Placement(base + "encoder.embedding_hidden_mapping_in", project),
            *_layers(hyperparameters, base, num_layers),
            *(placement for name in _CLASSES[suffix] for placement in parts[name]()),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="albert.",
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )


def _layers(hyperparameters: Hyperparameters, base: str, num_layers: int) -> list[Placement]:
    """The sets of weights, and how often each is applied; `by_layer` shows a set at its first layers."""
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    groups = hyperparameters.count("num_hidden_groups", 1, most=MOST_LAYERS)
    times = hyperparameters.divided("layers by groups", num_layers, groups)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
                          names=("query", "key", "value", "dense"), qkv_bias=True, output_bias=True,
                          causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="ffn", down="ffn_output", bias=True)  # fmt: skip
    placements = []
    for inner in range(hyperparameters.count("inner_group_num", 1, most=MOST_LAYERS)):
        path = f"{base}encoder.albert_layer_groups.{{layer}}.albert_layers.{inner}"
        for name, block in (
            (".attention", attention),
            (".attention.LayerNorm", Norm(width=hidden, role="attention_output_norm")),
            ("", feed_forward),
            (".full_layer_layer_norm", Norm(width=hidden, role="mlp_output_norm")),
        ):
            placements.append(Placement(path + name, Repeated(block=block, times=times), range(groups)))
    return placements


FAMILY = Family(
    name="albert",
    title="ALBERT",
    model_types=("albert",),
    gguf={},
    source="transformers models/albert",
    build=build,
)
