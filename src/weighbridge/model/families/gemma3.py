"""Gemma 3: Gemma 2's four norms a layer, norms on queries and keys, five of six layers with a window, a SigLIP tower.

Source: transformers `models/{gemma3,siglip}/{configuration,modeling}_*.py` (5.x). Published files leave out of
`text_config` and `vision_config` what the reference class has by default. Tensor names are those of the published
files; transformers 5 moves the parts under `model.` when it loads them. EmbeddingGemma attends in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.matrix import Matrix
from weighbridge.model.decoder import (
    SANDWICH_NORMS,
    attention,
    decoder,
    feed_forward,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_SHARED = {"num_kv_heads": 4, "head_dim": 256, "sliding_window": 4096}
_TEXT = {**_SHARED, "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_layers": 26,
         "num_heads": 8}  # fmt: skip
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_layers": 12, "num_heads": 12, "num_channels": 3,
           "image_size": 224, "patch_size": 16}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone (`gemma3_text`), or with tower and projector (`gemma3`)."""
    if hyperparameters.model_type == "gemma3_text":
        return _decoder(with_defaults(hyperparameters, _SHARED), "ForCausalLM", "", ())
    text, vision = with_defaults(hyperparameters.part("text_config"), _TEXT), hyperparameters.part("vision_config")
    # the whole says which class it is and whether the head is tied; the part, everything else
    own = {"tie_embeddings": hyperparameters.settings.get("tie_embeddings", True)}
    whole = replace(hyperparameters, settings={**text.settings, **own})
    before = tuple(
        Placement(path, block, layers, component=Component.VISION_AUDIO)
        for path, block, layers in _tower(with_defaults(vision, _VISION), text.count("hidden_size"))
    )
    return _decoder(whole, "ForConditionalGeneration", "language_model.", before)


def _decoder(
    hyperparameters: Hyperparameters, default_class: str, prefix: str, before: tuple[Placement, ...]
) -> Architecture:
    bidirectional = hyperparameters.flag("use_bidirectional_attention", False)
    if bidirectional:
        window = hyperparameters.count("sliding_window") // 2 + 1
        hyperparameters = replace(hyperparameters, settings={**hyperparameters.settings, "sliding_window": window})
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias, causal=not bidirectional)
    norm = Norm(width=heads.head_dim, bias=False)
    pattern = hyperparameters.count("sliding_window_pattern", 6)
    return decoder(
        hyperparameters, "gemma3", ("Gemma3Text", "Gemma3"), heads, feed_forward(hyperparameters),
        norms=SANDWICH_NORMS, query_norm=norm, key_norm=norm, tied=True, default_class=default_class, prefix=prefix,
        windows=windows_by_type(hyperparameters, sliding_but_every(pattern, number_of_layers(hyperparameters))),
        before=before, gguf_architecture="gemma3" if not before else None,
    )  # fmt: skip


def _tower(vision: Hyperparameters, width: int) -> Iterator[tuple[str, Block, range | None]]:
    """The SigLIP tower and the projector into the decoder's width."""
    hidden, patch = vision.count("hidden_size"), vision.count("patch_size")
    layers, norm = range(number_of_layers(vision)), Norm(width=hidden)
    tower, layer = "vision_tower.vision_model.", "vision_tower.vision_model.encoder.layers.{layer}."
    side = vision.count("image_size") // patch
    mlp = FeedForward(hidden_size=hidden, intermediate_size=vision.count("intermediate_size"), gate=None, up="fc1",
                      down="fc2", bias=True)  # fmt: skip
    yield (
        tower + "embeddings.patch_embedding",
        Convolution(kernel=(patch, patch), in_channels=vision.count("num_channels"), out_channels=hidden, bias=True),
        None,
    )
    yield tower + "embeddings.position_embedding", Embedding(rows=side**2, width=hidden, role="patch_position"), None
    yield layer + "layer_norm1", norm, layers
    yield layer + "self_attn", attention(vision, names=("q_proj", "k_proj", "v_proj", "out_proj"), qkv_bias=True,
                                         output_bias=True, causal=False), layers  # fmt: skip
    yield layer + "layer_norm2", norm, layers
    yield layer + "mlp", mlp, layers
    yield tower + "post_layernorm", norm, None
    if vision.flag("vision_use_head", True):
        yield from _pooling_head(tower + "head", vision, norm, mlp)
    yield "multi_modal_projector.mm_soft_emb_norm", Norm(width=hidden, bias=False), None
    yield "multi_modal_projector", Matrix(name="mm_input_projection_weight", shape=(hidden, width)), None


def _pooling_head(
    path: str, vision: Hyperparameters, norm: Norm, mlp: FeedForward
) -> Iterator[tuple[str, Block, range | None]]:
    """SigLIP's attention pooling, whose queries, keys and values lie in one tensor as in PyTorch's own class."""
    hidden = norm.width
    yield path, Matrix(name="probe", shape=(1, 1, hidden)), None
    yield path + ".attention", Matrix(name="in_proj_weight", shape=(3 * hidden, hidden)), None
    yield path + ".attention", Vector(name="in_proj_bias", width=3 * hidden), None
    yield path + ".attention.out_proj", Linear(in_features=hidden, out_features=hidden), None
    yield path + ".layernorm", norm, None
    yield path + ".mlp", mlp, None


FAMILY = Family(
    name="gemma3",
    title="Gemma 3, MedGemma, EmbeddingGemma",
    model_types=("gemma3", "gemma3_text"),
    gguf={"gemma3": GgufMeaning("gemma3_text", "Gemma3ForCausalLM")},
    source="transformers models/gemma3, models/siglip",
    build=build,
)
