"""The language models out of models of images and text, alone: without a head, and under their own model types.

Source: the text models in transformers `models/{qwen2_vl,qwen2_5_vl,qwen3_vl,qwen3_vl_moe,qwen2_5_omni,qwen3_omni_moe,
glm4v,glm4v_moe,paddleocr_vl}/modeling_*.py` (5.x). The wiring is that of the wholes.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture
from weighbridge.model.composite import TextClass, moved, text_model
from weighbridge.model.families import glm4v, paddleocr_vl, qwen2_vl, qwen3_vl, qwen_omni
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters

_PARTS: dict[str, tuple[str, TextClass]] = {
    "qwen2_vl_text": ("Qwen2VLTextModel", qwen2_vl.TEXT),
    "qwen2_5_vl_text": ("Qwen2_5_VLTextModel", qwen2_vl.TEXT),
    "qwen3_vl_text": ("Qwen3VLTextModel", qwen3_vl.DENSE),
    "qwen3_vl_moe_text": ("Qwen3VLMoeTextModel", qwen3_vl.ROUTED),
    "qwen2_5_omni_text": ("Qwen2_5OmniThinkerTextModel", qwen_omni.SECOND),
    "qwen3_omni_moe_text": ("Qwen3OmniMoeThinkerTextModel", qwen_omni.THIRD),
    "glm4v_text": ("Glm4vTextModel", glm4v.DENSE),
    "glm4v_moe_text": ("Glm4vMoeTextModel", glm4v.ROUTED),
    "paddleocr_vl_text": ("PaddleOCRTextModel", paddleocr_vl.TEXT),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder without a head."""
    kind = hyperparameters.model_type
    known, text_class = _PARTS[kind]
    if hyperparameters.classes not in ((), (known,)):
        raise unknown_class(hyperparameters, (known,))
    if kind.startswith("glm4v"):
        hyperparameters = glm4v.text_settings(hyperparameters, kind == "glm4v_moe_text")
    model = text_model(hyperparameters, replace(text_class, class_name=_bare(text_class.class_name)), tied=False)
    placements = qwen3_vl.stacked(model.placements) if kind == "qwen3_vl_moe_text" else model.placements
    return replace(model, family="text_parts", model_type=kind, base_prefix="", gguf_architecture=None, notes=(),
                   placements=moved(placements, [("model.", "")]))  # fmt: skip


def _bare(class_name: str) -> str:
    return class_name.removesuffix("ForCausalLM") + "Model"


FAMILY = Family(
    name="text_parts",
    title="The text models alone of Qwen2-VL to Qwen3-Omni, GLM-4.1V and 4.5V, PaddleOCR-VL",
    model_types=tuple(_PARTS),
    gguf={},
    source="transformers models/qwen2_vl and others",
    build=build,
)
