"""XLM and FlauBERT: an encoder with a table of languages, LayerNorm after each part, lists of like parts in its names.

Source: transformers `models/{xlm,flaubert}/{configuration,modeling}_*.py`. Sines are stored like learned positions. The
inner width is always four times the width. Cross-lingual models with an adaptive softmax (`asm`) are not described.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "WithLMHeadModel": ("head",),
    "ForSequenceClassification": ("summary",),
    "ForTokenClassification": ("token",),
    "ForQuestionAnsweringSimple": ("answer",),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    names = _CLASSES[suffix := bert.known_class(hyperparameters, ("XLM", "Flaubert"), _CLASSES, "WithLMHeadModel")]
    hyperparameters.refuse("asm", "which this family does not describe")
    if not hyperparameters.flag("is_encoder", True):
        raise ConfigError(f"{hyperparameters.source} has is_encoder = false", "an encoder", "correct the key")
    hidden = hyperparameters.count("emb_dim", hyperparameters.optional_count("hidden_size"))
    hyperparameters = replace(hyperparameters, settings={**hyperparameters.settings, "hidden_size": hidden})
    vocab = hyperparameters.count("vocab_size", hyperparameters.optional_count("n_words"))
    base, num_heads = "" if suffix == "Model" else "transformer.", hyperparameters.count("num_heads")
    layers, languages = (
        range(hyperparameters.count("num_layers", most=MOST_LAYERS)),
        hyperparameters.count("n_langs", 1),
    )
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads), qkv_bias=True, output_bias=True,
        names=("q_lin", "k_lin", "v_lin", "out_lin"), causal=hyperparameters.flag("causal", False),
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gate=None, up="lin1", down="lin2",
                               bias=True)  # fmt: skip
    tables = [("embeddings", vocab, "token_embedding"),
              ("position_embeddings", hyperparameters.count("max_positions", 512), "position_embedding")]  # fmt: skip
    if languages > 1 and hyperparameters.flag("use_lang_emb", True):
        tables.append(("lang_embeddings", languages, "type_embedding"))
    tied = suffix == "WithLMHeadModel" and hyperparameters.flag("tie_embeddings", True)
    head = Linear(in_features=hidden, out_features=vocab, role="head", component=Component.HEAD,
                  tied_to=f"{base}embeddings.weight" if tied else None)  # fmt: skip
    parts: dict[str, Callable[[], list[Placement]]] = {
        "head": lambda: [Placement("pred_layer.proj", head)],
        "summary": lambda: bert.summary(hyperparameters, hidden, to_labels=True),
        "token": lambda: bert.heads(hyperparameters, ("token",), base, tied),
        "answer": lambda: bert.heads(hyperparameters, ("answer",), base, tied),
    }
    norm = Norm(width=hidden, role="attention_output_norm")
    return Architecture(
        family="xlm",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement(base + name, Embedding(rows=rows, width=hidden, role=role)) for name, rows, role in tables),
            Placement(base + "layer_norm_emb", replace(norm, role="embedding_norm")),
            Placement(base + "attentions.{layer}", attention, layers),
            Placement(base + "layer_norm1.{layer}", norm, layers),
            Placement(base + "ffns.{layer}", feed_forward, layers),
            Placement(base + "layer_norm2.{layer}", replace(norm, role="mlp_output_norm"), layers),
            *(placement for name in names for placement in parts[name]()),
        ),
        num_layers=len(layers),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=tied,
        notes=() if hyperparameters.classes else ("no class is named; taken as a language model",),
    )


FAMILY = Family(
    name="xlm",
    title="XLM and FlauBERT",
    model_types=("xlm", "flaubert"),
    gguf={},
    source="transformers models/xlm, models/flaubert",
    build=build,
)
