"""ColPali, ColQwen2, ColModernVBERT and ShieldGemma 2: a model of images and text described elsewhere, inside another.

Source: transformers `models/{colpali,colqwen2,colmodernvbert,shieldgemma2}/modeling_*.py` (5.x). The retrievers take
the model without its head and map each of its outputs to `embedding_dim` numbers; ShieldGemma 2 reads two tokens of the
whole model's answer.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import families
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear
from weighbridge.model.composite import moved, tied_anywhere
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters

_CLASSES = {
    "colpali": ("ColPaliForRetrieval", ("paligemma",)),
    "colmodernvbert": ("ColModernVBertForRetrieval", ("modernvbert",)),
    "colqwen2": ("ColQwen2ForRetrieval", ("qwen2_vl", "qwen2_5_vl")),
    "shieldgemma2": ("ShieldGemma2ForImageClassification", ("gemma3",)),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The model inside, and the map to embeddings where there is one."""
    kind = hyperparameters.model_type
    known, inside = _CLASSES[kind]
    if hyperparameters.classes not in ((), (known,)):
        raise unknown_class(hyperparameters, (known,))
    if kind == "shieldgemma2":
        tied = tied_anywhere(hyperparameters, hyperparameters.part("text_config"), default=True)
        settings = {**hyperparameters.settings, "tie_embeddings": tied}
        whole = replace(hyperparameters, model_type=inside[0], classes=(), settings=settings)
        return _under("model.", families.build(whole), kind)
    whole = hyperparameters.part("vlm_config")
    name = inside[0] if whole.model_type == "part" else whole.model_type
    if name not in inside:
        raise ConfigError(f"{whole.source} is of the model type {name[:60]}", f"one of {', '.join(inside)}",
                          "ask for support of this combination")  # fmt: skip
    text = whole.settings.get("text_config")
    hidden = (text if isinstance(text, Hyperparameters) else whole).count("hidden_size")
    # the head is left out, so it does not matter whether it would be tied
    settings = {**whole.settings, "tie_embeddings": True}
    classes = ("ModernVBertModel",) if name == "modernvbert" else ()
    model = _under("vlm.", families.build(replace(whole, model_type=name, classes=classes, settings=settings)), kind)
    body = tuple(placement for placement in model.placements if not placement.path.endswith("lm_head"))
    width = hyperparameters.count("embedding_dim", 128)
    mapped = Placement("embedding_proj_layer", Linear(in_features=hidden, out_features=width, role="projection"))
    return replace(model, placements=(*body, mapped), tie_embeddings=False)


def _under(prefix: str, model: Architecture, model_type: str) -> Architecture:
    return replace(model, family="wrapped", model_type=model_type, placements=moved(model.placements, [("", prefix)]),
                   base_prefix="", gguf_architecture=None, notes=())  # fmt: skip


FAMILY = Family(
    name="wrapped",
    title="ColPali, ColQwen2, ColModernVBERT and ShieldGemma 2",
    model_types=tuple(_CLASSES),
    gguf={},
    source="transformers models/colpali, models/colqwen2, models/colmodernvbert, models/shieldgemma2",
    build=build,
)
