"""Gemma 3: Gemma 2's four norms a layer, norms on queries and keys, five of six layers with a window, a SigLIP tower.

Source: transformers `models/{gemma3,siglip}/{configuration,modeling}_*.py` (5.x). Published files leave out of
`text_config` and `vision_config` what the reference class has by default. Tensor names are those of the published
files; transformers 5 moves the parts under `model.` when it loads them. EmbeddingGemma attends in both directions.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.composite import tower
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
from weighbridge.model.families.siglip import vision_encoder
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters

_SHARED = {"num_kv_heads": 4, "head_dim": 256, "sliding_window": 4096}
_TEXT = {**_SHARED, "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_layers": 26,
         "num_heads": 8}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone (`gemma3_text`), or with tower and projector (`gemma3`)."""
    if hyperparameters.model_type == "gemma3_text":
        return _decoder(with_defaults(hyperparameters, _SHARED), "ForCausalLM", "", ())
    text, vision = with_defaults(hyperparameters.part("text_config"), _TEXT), hyperparameters.part("vision_config")
    # the whole says which class it is and whether the head is tied; the part, everything else
    own = {"tie_embeddings": hyperparameters.settings.get("tie_embeddings", True)}
    whole = replace(hyperparameters, settings={**text.settings, **own})
    images, encoder = vision_encoder(vision, "vision_tower.vision_model")
    width = encoder.hidden_size
    projection = Array(name="mm_input_projection_weight", shape=(width, text.count("hidden_size")), use=Use.MATMUL)
    projector = (
        Placement("multi_modal_projector.mm_soft_emb_norm", Norm(width=width, bias=False)),
        Placement("multi_modal_projector", projection),
    )
    return _decoder(whole, "ForConditionalGeneration", "language_model.", tower((*images, *projector)))


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


FAMILY = Family(
    name="gemma3",
    title="Gemma 3, MedGemma, EmbeddingGemma",
    model_types=("gemma3", "gemma3_text"),
    gguf={"gemma3": GgufMeaning("gemma3_text", "Gemma3ForCausalLM")},
    source="transformers models/gemma3, models/siglip",
    build=build,
)
