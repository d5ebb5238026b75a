"""ModernBERT: rotary positions, norms first, gated feed-forward blocks, windows in two layers of three, few biases.

Source: transformers `models/{modernbert,modernbert_decoder}/{configuration,modeling}_*.py`. The first layer has no norm
before its attention, as the one on the embeddings serves. An encoder keeps no cache, so windows change no count; the
decoder's window is half of `local_attention`, and its projections are apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.decoder import Windows, windows_by_type
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
_DECODER_CLASSES = {
    "Model": (),
    "ForCausalLM": ("transform", "masked"),
    "ForSequenceClassification": ("transform", "classifier"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder, or the decoder, with what its class puts on it."""
    decodes = hyperparameters.model_type == "modernbert-decoder"
    classes: dict[str, tuple[str, ...]] = _DECODER_CLASSES if decodes else _CLASSES
    usual = "ForCausalLM" if decodes else "ForMaskedLM"
    suffix = bert.known_class(hyperparameters, ("ModernBertDecoder" if decodes else "ModernBert",), classes, usual)
    base, hidden = "" if suffix == "Model" else "model.", hyperparameters.count("hidden_size")
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "layers.{layer}."
    bias, norm_bias = hyperparameters.flag("attention_bias", False), hyperparameters.flag("norm_bias", False)
    vocab, table = hyperparameters.count("vocab_size"), base + "embeddings.tok_embeddings"
    tied = suffix == usual and hyperparameters.flag("tie_embeddings", True)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
                          names=("q_proj", "k_proj", "v_proj", "Wo") if decodes else ("Wqkv", "Wo"),
                          qkv_bias=bias, output_bias=bias, causal=decodes)  # fmt: skip
    windows = _windows(hyperparameters, num_layers) if decodes else [(None, layers)]
    head = "lm_head" if suffix == "ForCausalLM" else "head"
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               up="Wi", down="Wo", fused=True,
                               bias=hyperparameters.flag("mlp_bias", False))  # fmt: skip

    def norm(role: str, component: Component = Component.NORM) -> Norm:
        return Norm(width=hidden, bias=norm_bias, role=role, component=component)

    transform = Linear(in_features=hidden, out_features=hidden, bias=hyperparameters.flag("classifier_bias", False),
                       role="head_transform", component=Component.HEAD)  # fmt: skip
    decoder = Linear(in_features=hidden, out_features=vocab, bias=hyperparameters.flag("decoder_bias", True),
                     role="head", component=Component.HEAD, tied_to=f"{table}.weight" if tied else None)  # fmt: skip
    classifier = replace(transform, out_features=hyperparameters.count("num_labels", 2), role="score",
                         bias=transform.bias if decodes else True)  # fmt: skip
    parts: dict[str, Callable[[], list[Placement]]] = {
        "transform": lambda: [
            Placement(f"{head}.dense", transform),
            Placement(f"{head}.norm", norm("head_norm", Component.HEAD)),
        ],
        "masked": lambda: [Placement("decoder", decoder)],
        "classifier": lambda: [Placement("classifier", classifier)],
        "choice": lambda: [bert.output("classifier", hidden, 1)],
    }  # fmt: skip
    return Architecture(
        family="modernbert",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(table, Embedding(rows=vocab, width=hidden)),
            Placement(base + "embeddings.norm", norm("embedding_norm")),
            Placement(layer + "attn_norm", norm("attention_norm"), layers[1:]),
            *(Placement(layer + "attn", replace(attention, window=window), part) for window, part in windows),
            Placement(layer + "mlp_norm", norm("mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(base + "final_norm", norm("final_norm")),
            *(placement for name in classes[suffix] for placement in parts[name]()),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="model.",
        tie_embeddings=tied,
        notes=() if decodes else bert.unnamed(hyperparameters),
    )


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> Windows:
    """The decoder's windows: in all layers but the first and every third after it, unless `layer_types` says."""
    every = hyperparameters.count("global_attn_every_n_layers", 3)
    types = ["sliding_attention" if layer % every else "full_attention" for layer in range(num_layers)]
    if "local_attention" in hyperparameters.settings and not hyperparameters.settings["local_attention"]:
        raise ConfigError(f"{hyperparameters.source} has no window", "local_attention", "correct the key")
    window = hyperparameters.derived("half of local_attention", hyperparameters.count("local_attention", 128) // 2)
    settings = {**hyperparameters.settings, "sliding_window": window}
    return windows_by_type(replace(hyperparameters, settings=settings), types)


FAMILY = Family(
    name="modernbert",
    title="ModernBERT and its decoder, Ettin",
    model_types=("modernbert", "modernbert-decoder"),
    gguf={},
    source="transformers models/modernbert, models/modernbert_decoder",
    build=build,
)
