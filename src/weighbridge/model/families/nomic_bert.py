"""Nomic Embed: BERT's layout with rotary positions, gated feed-forward blocks and no biases on its matrices.

Source: transformers `models/nomic_bert/modeling_nomic_bert.py`, and for the published files, which are spelled like
GPT-2 (`n_embd`) and fuse the projections, vLLM's mapping of their names (`model_executor/models/bert_with_rope.py`).
The body alone is described, which has no pooler.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

# What a file that is spelled like GPT-2 must say, for the wiring below to be its own.
_PUBLISHED = {"qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "activation_function": "swiglu",
              "prenorm": False, "rotary_emb_fraction": 1.0}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder without a head."""
    bert.known_class(hyperparameters, ("NomicBert",), {"Model": ()}, "Model")
    published = hyperparameters.spellings.get("hidden_size") == "n_embd"
    for name in ("num_experts", "moe_every_n_layers", "use_rms_norm"):
        hyperparameters.refuse(name, "which is not described")
    if published:
        _check(hyperparameters)
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), "encoder.layers.{layer}." if published else "layers.{layer}."
    head_dim = hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads)
    names = ("Wqkv", "out_proj") if published else ("q_proj", "k_proj", "v_proj", "o_proj")
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=names, causal=False)  # fmt: skip
    gate, up, down = ("fc12", "fc11", "fc2") if published else ("gate_proj", "up_proj", "down_proj")
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=gate, up=up, down=down)  # fmt: skip
    norms = ("emb_ln", "norm1", "norm2")
    if not published:
        norms = ("embeddings.LayerNorm", "post_attention_layernorm", "post_mlp_layernorm")
    rows = (
        ("word_embeddings", hyperparameters.count("vocab_size"), "token_embedding"),
        ("token_type_embeddings", hyperparameters.count("num_token_types", 2), "type_embedding"),
    )
    return Architecture(
        family="nomic_bert",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement(f"embeddings.{name}", Embedding(rows=n, width=hidden, role=role)) for name, n, role in rows),
            Placement(norms[0], Norm(width=hidden, role="embedding_norm")),
            Placement(layer + ("attn" if published else "self_attn"), attention, layers),
            Placement(layer + norms[1], Norm(width=hidden, role="attention_output_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + norms[2], Norm(width=hidden, role="mlp_output_norm"), layers),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
    )


def _check(hyperparameters: Hyperparameters) -> None:
    """Refuses a published file with other parts than those that are described.

    Raises:
        ConfigError: when it has, or leaves open whether it has.
    """
    for name, expected in _PUBLISHED.items():
        found = hyperparameters.settings.get(name)
        if found != expected:
            raise ConfigError(f"{hyperparameters.source} has {name} = {repr(found)[:60]}", repr(expected),
                              "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    rows = hyperparameters.count("vocab_size")
    hyperparameters.divided("rows of the token table", rows, hyperparameters.count("pad_vocab_size_multiple", 1))


FAMILY = Family(
    name="nomic_bert",
    title="Nomic Embed Text 1 and 1.5",
    model_types=("nomic_bert",),
    gguf={},
    source="transformers models/nomic_bert; vLLM bert_with_rope.py",
    build=build,
)
