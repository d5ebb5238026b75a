"""xLSTM 7B: matrix memories in place of attention, gated feed-forward blocks, RMSNorm before both.

Source: transformers `models/xlstm/{configuration,modeling}_xlstm.py` (5.x). Widths are factors of the model's; that of
the feed-forward block is rounded up. Fused maps (`weight_mode`) and biases are not described.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, FeedForward, Norm
from weighbridge.model.blocks.matrix_memory import MatrixMemory
from weighbridge.model.decoder import with_defaults
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ratio

_DEFAULTS = {"vocab_size": 50304, "hidden_size": 4096, "num_layers": 32, "num_heads": 8}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Blocks of a matrix memory and a feed-forward block."""
    hyperparameters.refuse("use_bias", "which this family does not describe")
    hyperparameters.refuse("tie_embeddings", "which the reference class does not do")
    if hyperparameters.settings.get("weight_mode", "single") != "single":
        hyperparameters.refuse("weight_mode", "of which only single is described")
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    hyperparameters.same("embedding_dim", hyperparameters.count("embedding_dim", hidden), hidden)
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers = range(hyperparameters.count("num_blocks", num_layers, most=MOST_LAYERS))
    keys, values = (
        hyperparameters.derived(f"the width by {name}", int(hidden * ratio(hyperparameters, name, default)))
        for name, default in (("qk_dim_factor", 0.5), ("v_dim_factor", 1))
    )
    for name, width in (("queries by heads", keys), ("values by heads", values)):
        hyperparameters.divided(name, width, num_heads)
    multiple = hyperparameters.count("ffn_round_up_to_multiple_of", 64)
    wide = hidden * ratio(hyperparameters, "ffn_proj_factor", 2.667)
    inner = hyperparameters.derived("the inner width", int((wide + multiple - 1) // multiple * multiple))
    mixer = MatrixMemory(hidden_size=hidden, key_size=keys, value_size=values, num_heads=num_heads)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate="proj_up_gate", up="proj_up",
                               down="proj_down")  # fmt: skip
    head = language_head(hyperparameters, ("xLSTM",), embedding="backbone.embeddings.weight")
    block = "backbone.blocks.{layer}."
    return Architecture(
        family="xlstm",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("backbone.embeddings", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(block + "norm_mlstm", Norm(width=hidden, bias=False, role="attention_norm"), layers),
            Placement(block + "mlstm_layer", mixer, layers),
            Placement(block + "norm_ffn", Norm(width=hidden, bias=False, role="mlp_norm"), layers),
            Placement(block + "ffn", feed_forward, layers),
            Placement("backbone.out_norm", Norm(width=hidden, bias=False, role="final_norm")),
            *head.placements,
        ),
        num_layers=len(layers),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="backbone.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="xlstm",
    title="xLSTM",
    model_types=("xlstm",),
    gguf={},
    source="transformers models/xlstm",
    build=build,
)
