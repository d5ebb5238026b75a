"""ChatGLM 2 and 3, GLM-4 9B in its first spelling: few key-value heads, biases on fused attention, gated feed-forward.

Source: `modeling_chatglm.py` beside the published weights (its class is not part of transformers). The head belongs to
`ChatGLMModel` itself and is never tied. `ffn_hidden_size` is that of gate and up each, which one matrix holds.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, Linear, Norm
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its head."""
    _check(hyperparameters)
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("padded_vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    grouped = hyperparameters.flag("multi_query_attention", False)
    num_kv_heads = hyperparameters.count("multi_query_group_num") if grouped else num_heads
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    bias = hyperparameters.flag("add_bias_linear", False)
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads,
        head_dim=hyperparameters.count("kv_channels"), names=("query_key_value", "dense"),
        qkv_bias=bias or hyperparameters.flag("add_qkv_bias", False), output_bias=bias,
    )  # fmt: skip
    inner = hyperparameters.count("ffn_hidden_size")
    up = Linear(in_features=hidden, out_features=2 * inner, bias=bias, role="mlp_up", component=Component.MLP)
    down = Linear(in_features=inner, out_features=hidden, bias=bias, role="mlp_down", component=Component.MLP)
    head = Linear(in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD)
    layers, base = range(num_layers), "transformer.encoder."
    layer, norm = base + "layers.{layer}.", Norm(width=hidden, bias=not hyperparameters.flag("rmsnorm", True))
    final = Placement(base + "final_layernorm", replace(norm, role="final_norm"))
    return Architecture(
        family="chatglm",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.embedding.word_embeddings", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "self_attention", attention, layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "mlp.dense_h_to_4h", up, layers),
            Placement(layer + "mlp.dense_4h_to_h", down, layers),
            *((final,) if hyperparameters.flag("post_layer_norm", True) else ()),
            Placement("transformer.output_layer", head),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        base_prefix="transformer.",
    )


def _check(hyperparameters: Hyperparameters) -> None:
    for part in ("vision_config", "pre_seq_len"):
        hyperparameters.refuse(part, "which this family does not describe")
    suffix = head_class(hyperparameters, ("ChatGLM",), "ForConditionalGeneration")
    if suffix not in ("Model", "ForConditionalGeneration"):
        raise unknown_class(hyperparameters, ("ChatGLMModel", "ChatGLMForConditionalGeneration"))


FAMILY = Family(
    name="chatglm",
    title="ChatGLM2, ChatGLM3, CodeGeeX2, GLM-4 9B of 2024",
    model_types=("chatglm",),
    gguf={},
    source="modeling_chatglm.py beside the published weights",
    build=build,
)
