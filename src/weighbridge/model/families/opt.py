"""OPT, XGLM and BioGPT: decoders in fairseq's spelling, with LayerNorm and biases throughout, and a tied head.

Source: transformers `models/{opt,xglm,biogpt}/{configuration,modeling}_*.py`. Learned positions have two rows more than
`max_position_embeddings`; those of XGLM are fixed sinusoids. OPT-350m embeds tokens in `word_embed_proj_dim` numbers,
which are projected in and out, and has no norm at the end (`do_layer_norm_before` false); Galactica has no biases.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

# The base of the tensor names, the class prefix, the keys of heads and inner size, and the path of the head.
_SPELLINGS = {
    "opt": ("model.decoder.", "OPT", "num_heads", "ffn_dim", "lm_head"),
    "xglm": ("model.", "XGLM", "attention_heads", "ffn_dim", "lm_head"),
    "biogpt": ("biogpt.", "BioGpt", "num_heads", "intermediate_size", "output_projection"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hyperparameters.refuse("add_cross_attention", "which this family does not describe")
    kind = hyperparameters.model_type
    base, prefix, heads_key, inner_key, head_path = _SPELLINGS[kind]
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count(heads_key)
    opt = kind == "opt"
    bias = not opt or hyperparameters.flag("enable_bias", True)
    learned = not opt or hyperparameters.flag("layer_norm_elementwise_affine", True)
    width = hyperparameters.count("word_embed_proj_dim", hidden) if opt else hidden
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("q_proj", "k_proj", "v_proj", "out_proj"), qkv_bias=bias, output_bias=bias,
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count(inner_key), gate=None,
                               up="fc1", down="fc2", bias=bias)  # fmt: skip
    narrow = replace(hyperparameters, settings={**hyperparameters.settings, "hidden_size": width})
    head = language_head(narrow, (prefix,), embedding=base + "embed_tokens.weight", tied=True, path=head_path)
    layers, layer, norm = range(num_layers), base + "layers.{layer}.", Norm(width=hidden)
    projected = [
        Placement(base + "project_in", Linear(in_features=width, out_features=hidden, bias=False)),
        Placement(base + "project_out", Linear(in_features=hidden, out_features=width, bias=False)),
    ]
    norms = [
        Placement(layer + "self_attn_layer_norm", replace(norm, role="attention_norm"), layers),
        Placement(layer + "final_layer_norm", replace(norm, role="mlp_norm"), layers),
    ]
    if not opt or _ends_in_norm(hyperparameters):
        path = base + ("final_layer_norm" if opt else "layer_norm")
        norms.append(Placement(path, replace(norm, role="final_norm")))
    return Architecture(
        family="opt",
        model_type=kind,
        placements=(
            Placement(base + "embed_tokens", Embedding(rows=vocab, width=width)),
            *([] if kind == "xglm" else [_positions(hyperparameters, base, hidden)]),
            *(projected if width != hidden else []),
            Placement(layer + "self_attn", attention, layers),
            Placement(layer.rstrip("."), feed_forward, layers),
            *(norms if learned else []),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="biogpt." if kind == "biogpt" else "model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


def _ends_in_norm(hyperparameters: Hyperparameters) -> bool:
    removed = hyperparameters.flag("_remove_final_layer_norm", False)
    return hyperparameters.flag("do_layer_norm_before", True) and not removed


def _positions(hyperparameters: Hyperparameters, base: str, hidden: int) -> Placement:
    rows = hyperparameters.count("max_positions", 2048 if hyperparameters.model_type == "opt" else 1024) + 2
    return Placement(base + "embed_positions", Embedding(rows=rows, width=hidden, role="position_embedding"))


FAMILY = Family(
    name="opt",
    title="OPT, Galactica, XGLM and BioGPT",
    model_types=tuple(_SPELLINGS),
    gguf={},
    source="transformers models/opt, models/xglm, models/biogpt",
    build=build,
)
