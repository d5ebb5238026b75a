"""EXAONE 3 and 3.5: Llama's wiring under names like those of GPT-2.

Source: `modeling_exaone.py` of the published repositories (7,818,448,896 parameters in the 7.8B model, 2,405,327,360 in
the tied 2.4B one).
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Norm
from weighbridge.model.decoder import attention, feed_forward, number_of_layers
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head."""
    hidden, num_layers = hyperparameters.count("hidden_size"), number_of_layers(hyperparameters)
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden, bias=False)
    heads = attention(hyperparameters, names=("q_proj", "k_proj", "v_proj", "out_proj"))
    head = language_head(hyperparameters, ("Exaone",), embedding="transformer.wte.weight")
    return Architecture(
        family="exaone",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(layer + "ln_1", replace(norm, role="attention_norm"), layers),
            Placement(layer + "attn.attention", heads, layers),
            Placement(layer + "ln_2", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward(hyperparameters, gate="c_fc_0", up="c_fc_1", down="c_proj"), layers),
            Placement("transformer.ln_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        gguf_architecture="exaone",
        notes=head.notes,
    )


FAMILY = Family(
    name="exaone",
    title="EXAONE 3 and 3.5",
    model_types=("exaone",),
    gguf={},
    source="modeling_exaone.py of the published repositories",
    build=build,
)
