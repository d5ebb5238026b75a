"""XLNet: an encoder with relative positions and segments in its attention, LayerNorm after each part.

Source: transformers `models/xlnet/{configuration,modeling}_xlnet.py`. It keeps hidden states of earlier segments rather
than keys and values; they are not counted as a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.relative_attention import RelativeAttention
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "LMHeadModel": ("head",),
    "ForSequenceClassification": ("summary", "labels"),
    "ForMultipleChoice": ("summary", "choice"),
    "ForTokenClassification": ("token",),
    "ForQuestionAnsweringSimple": ("answer",),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    names = _CLASSES[suffix := bert.known_class(hyperparameters, ("XLNet",), _CLASSES, "LMHeadModel")]
    base, hidden = "" if suffix == "Model" else "transformer.", hyperparameters.count("hidden_size")
    num_heads, vocab = hyperparameters.count("num_heads"), hyperparameters.count("vocab_size")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    head_dim = hyperparameters.divided("d_head", hidden, num_heads)
    hyperparameters.same("d_head", hyperparameters.count("d_head", head_dim), head_dim)
    attention = RelativeAttention(hidden_size=hidden, num_heads=num_heads, head_dim=head_dim,
                                  sides=_sides(hyperparameters))  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("d_inner", 4096), gate=None,
                               up="layer_1", down="layer_2", bias=True)  # fmt: skip
    tied = suffix == "LMHeadModel" and hyperparameters.flag("tie_embeddings", True)
    head = Linear(in_features=hidden, out_features=vocab, role="head", component=Component.HEAD,
                  tied_to=f"{base}word_embedding.weight" if tied else None)  # fmt: skip
    parts: dict[str, Callable[[], list[Placement]]] = {
        "head": lambda: [Placement("lm_loss", head)],
        "summary": lambda: bert.summary(hyperparameters, hidden),
        "labels": lambda: [bert.output("logits_proj", hidden, hyperparameters.count("num_labels", 2),
                                       per_sequence=True)],
        "choice": lambda: [bert.output("logits_proj", hidden, 1, per_sequence=True)],
        "token": lambda: bert.heads(hyperparameters, ("token",), base, tied),
        "answer": lambda: bert.heads(hyperparameters, ("answer",), base, tied),
    }  # fmt: skip
    norm, layer = Norm(width=hidden, role="attention_output_norm"), base + "layer.{layer}."
    return Architecture(
        family="xlnet",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(base + "word_embedding", Embedding(rows=vocab, width=hidden)),
            Placement(base.rstrip("."), Array(name="mask_emb", shape=(1, 1, hidden), component=Component.EMBEDDING)),
            Placement(layer + "rel_attn", attention, layers),
            Placement(layer + "rel_attn.layer_norm", norm, layers),
            Placement(layer + "ff", feed_forward, layers),
            Placement(layer + "ff.layer_norm", replace(norm, role="mlp_output_norm"), layers),
            *(placement for name in names for placement in parts[name]()),
        ),
        num_layers=len(layers),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=tied,
        notes=() if hyperparameters.classes else ("no class is named; taken as a language model",),
    )


def _sides(hyperparameters: Hyperparameters) -> int:
    """On how many sides of a token distances have scores: on both, unless `attn_type` is `uni`."""
    kind = hyperparameters.settings.get("attn_type", "bi")
    if kind not in ("bi", "uni"):
        raise ConfigError(f"{hyperparameters.source} has attn_type = {repr(kind)[:60]}", "bi or uni", "correct the key")
    return 2 if kind == "bi" else 1


FAMILY = Family(
    name="xlnet",
    title="XLNet",
    model_types=("xlnet",),
    gguf={},
    source="transformers models/xlnet",
    build=build,
)
