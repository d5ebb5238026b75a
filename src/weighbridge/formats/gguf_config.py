"""What does a GGUF file's metadata say about a model's shape?

The keys are those of llama.cpp (`gguf-py/gguf/constants.py`, 2026-11), each under the name of its architecture. Two
settings have no key: whether the head is tied and whether projections have biases. llama.cpp itself takes them from the
tensor table; so does this reader, and lists them as inferred.
"""

from __future__ import annotations

from typing import Any

from weighbridge.errors import ConfigError, UnknownNameError
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.gguf import MetadataArray
from weighbridge.model import families
from weighbridge.model.family import GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters

KEYS = {
    "vocab_size": "vocab_size",
    "embedding_length": "hidden_size",
    "block_count": "num_layers",
    "attention.head_count": "num_heads",
    "attention.head_count_kv": "num_kv_heads",
    "attention.key_length": "head_dim",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_positions",
    "expert_count": "num_experts",
    "expert_used_count": "experts_per_token",
    "attention.sliding_window": "sliding_window",
}
"""Our name for each key of a file, without the architecture in front."""


BIASES = {
    "attention_bias": "blk.0.attn_q.bias",
    "attention_output_bias": "blk.0.attn_output.bias",
    "mlp_bias": "blk.0.ffn_up.bias",
}
"""Settings that have no key: a file has the biases or has not."""


def hyperparameters(checkpoint: Checkpoint) -> Hyperparameters:
    """The settings of the model in a GGUF file.

    Raises:
        ConfigError: when the file names no architecture, or a setting differs from layer to layer.
        UnknownNameError: when no family describes the architecture, with or without experts as in the file.
    """
    metadata = checkpoint.metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ConfigError(f"{checkpoint.source} has no general.architecture", "a GGUF file that names it",
                          "convert the model again with a current converter")  # fmt: skip
    settings: dict[str, Any] = {}
    spellings: dict[str, str] = {}
    for key, ours in KEYS.items():
        name = f"{architecture}.{key}"
        if name in metadata:
            settings[ours], spellings[ours] = _one_value(checkpoint.source, name, metadata[name]), name
    values, keys = (metadata.get(f"{architecture}.attention.{kind}_length") for kind in ("value", "key"))
    if values != keys:
        raise ConfigError(f"{checkpoint.source} has heads of {keys} for keys and {values} for values",
                          "one length for both", "ask for support of this variant")  # fmt: skip
    shapes = {tensor.name: tensor.shape for tensor in checkpoint.tensors}
    inferred = _infer(settings, shapes, metadata)
    routed = bool(settings.get("num_experts"))
    if not routed:
        settings.pop("num_experts", None)  # converters write 0 for a dense model
    meaning = _meaning(architecture, routed)
    settings |= meaning.settings
    inferred = [name for name in inferred if name not in meaning.settings]
    return Hyperparameters(checkpoint.source, meaning.model_type, settings, (meaning.class_name,), tuple(inferred),
                           spellings)  # fmt: skip


def _meaning(architecture: str, routed: bool) -> GgufMeaning:
    """The family's word for an architecture, with or without experts."""
    for family in families.mentioning(f'"{architecture}"'):
        meaning = family.gguf.get(architecture)
        if meaning is not None and meaning.routed == routed:
            return meaning
    names = [name for family in families.families() for name, m in family.gguf.items() if m.routed == routed]
    raise UnknownNameError("GGUF architecture" + (" with experts" if routed else ""), architecture, names,
                           "its stored elements are counted all the same")  # fmt: skip


def _one_value(source: str, name: str, value: Any) -> Any:
    """A setting that may be listed layer by layer, where all layers agree."""
    if not isinstance(value, MetadataArray):
        return value
    values = set(value.values or ())
    if len(values) != 1:
        raise ConfigError(f"{source} has another {name} in each layer", "one value for all layers",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    return values.pop()


def _infer(settings: dict[str, Any], shapes: dict[str, tuple[int, ...]], metadata: Any) -> list[str]:
    """Fills in what has no key; names what was taken from the tensor table."""
    inferred = ["tie_embeddings"]
    if "num_heads" in settings:
        settings.setdefault("num_kv_heads", settings["num_heads"])  # llama.cpp's own default
    settings["tie_embeddings"] = "output.weight" not in shapes
    for ours, tensor in BIASES.items():
        if tensor in shapes:
            settings[ours] = True
            inferred.append(ours)
    tokens = metadata.get("tokenizer.ggml.tokens")
    if "vocab_size" not in settings and isinstance(tokens, MetadataArray):
        settings["vocab_size"] = tokens.length
    types = metadata.get("tokenizer.ggml.token_type_count")
    if types is not None:
        settings["num_token_types"] = types
    return inferred
