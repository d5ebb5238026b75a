"""GPT-NeoX: parallel attention and feed-forward, LayerNorm, fused attention with biases, untied head.

Source: transformers `models/gpt_neox/{configuration,modeling}_gpt_neox.py` and `models/gpt_neox_japanese/`. Published
checkpoints call the head `embed_out`, which transformers 5 renames when it loads them. The Japanese variant has no
biases but one on the attention output of the last layer, and its head is tied. Parallel or not, the weights are alike.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm, Vector
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    japanese = hyperparameters.model_type == "gpt_neox_japanese"
    bias = not japanese and hyperparameters.flag("attention_bias", True)
    inner = (
        hidden * hyperparameters.count("intermediate_multiple_size", 4)
        if japanese
        else hyperparameters.count("intermediate_size")
    )
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("query_key_value", "dense"), qkv_bias=bias, output_bias=bias,
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="dense_h_to_4h",
                               down="dense_4h_to_h", bias=not japanese)  # fmt: skip
    base = "gpt_neox_japanese." if japanese else "gpt_neox."
    prefixes = ("GPTNeoXJapanese",) if japanese else ("GPTNeoX",)
    head = language_head(hyperparameters, prefixes, embedding=base + "embed_in.weight", tied=japanese, path="embed_out")
    layers, layer, norm = range(num_layers), base + "layers.{layer}.", Norm(width=hidden)
    last = Vector(name="dense_bias", width=hidden, role="attention_output", component=Component.ATTENTION)
    return Architecture(
        family="gpt_neox",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(base + "embed_in", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "attention", attention, layers),
            *((Placement(layer + "attention", last, layers[-1:]),) if japanese else ()),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(base + "final_layer_norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix=base,
        tie_embeddings=head.tied,
        gguf_architecture=None if japanese else "gptneox",
        notes=head.notes,
    )


FAMILY = Family(
    name="gpt_neox",
    title="GPT-NeoX-20B, Pythia, RedPajama, Dolly 2, StableLM-Alpha, GPT-NeoX Japanese",
    model_types=("gpt_neox", "gpt_neox_japanese"),
    gguf={"gptneox": GgufMeaning("gpt_neox", "GPTNeoXForCausalLM")},
    source="transformers models/gpt_neox, models/gpt_neox_japanese",
    build=build,
)
