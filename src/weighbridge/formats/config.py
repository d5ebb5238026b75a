"""What does a `config.json` say about a model's shape? The one table that translates its spellings.

Sources: the configuration classes of transformers 5.x and the published files in which older spellings survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.formats import json_text
from weighbridge.formats.byte_source import ByteSource
from weighbridge.model import families
from weighbridge.model.hyperparameters import Hyperparameters

LARGEST_CONFIG_BYTES = 16 * 2**20

SPELLINGS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size", "n_embd": "hidden_size", "n_embed": "hidden_size", "d_model": "hidden_size",
    "num_hidden_layers": "num_layers", "n_layer": "num_layers", "num_layers": "num_layers", "n_layers": "num_layers",
    "num_attention_heads": "num_heads", "n_head": "num_heads", "num_heads": "num_heads", "n_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads", "n_head_kv": "num_kv_heads", "num_kv_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size", "n_inner": "intermediate_size",
    "max_position_embeddings": "max_positions", "n_positions": "max_positions",
    "type_vocab_size": "num_token_types",
    "num_local_experts": "num_experts", "num_experts": "num_experts",
    "num_experts_per_tok": "experts_per_token",
    "tie_word_embeddings": "tie_embeddings",
    "num_labels": "num_labels",
    **{name: name for name in ("sliding_window", "use_sliding_window", "max_window_layers", "attention_bias",
                               "mlp_bias", "position_embedding_type", "model_type", "architectures")},
}  # fmt: skip
"""Our name for each spelling of a setting that gives a model its shape; other keys keep their name."""

PARTS = frozenset({"text_encoder", "audio_encoder", "encoder", "decoder"})
"""Parts whose keys do not end in `_config`: those of MusicGen, and of two models put together."""

TRAINING = frozenset({
    "attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout", "embd_pdrop",
    "hidden_dropout", "hidden_dropout_prob", "initializer_range", "resid_pdrop", "router_aux_loss_coef",
    "summary_first_dropout",
    "gradient_checkpointing", "learning_rate", "batch_size", "weight_decay", "label_smoothing", "output_router_logits",
    "router_jitter_noise", "dropout", "num_train_epochs", "warmup_steps", "adam_beta1", "adam_beta2", "max_grad_norm",
})  # fmt: skip
"""Settings of training: they steer how parameters are learned and are not parameters."""

INFERENCE = frozenset({
    "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "max_length", "max_new_tokens", "min_length",
    "num_beams", "repetition_penalty", "temperature", "top_k", "top_p", "typical_p", "use_cache",
    "task_specific_params",
})  # fmt: skip
"""Settings of use: neither parameters nor hyperparameters of the model."""


def parse(source: ByteSource) -> dict[str, Any]:
    """The object in a `config.json`.

    Raises:
        FormatError: when it is not JSON, is too deep or too long, or repeats a key.
        ConfigError: when the JSON is not an object.
    """
    size = min(source.size, LARGEST_CONFIG_BYTES + 1)
    config = json_text.parse(source.read(0, size), source.name, allow_bom=True, allow_constants=True,
                             max_bytes=LARGEST_CONFIG_BYTES)  # fmt: skip
    if not isinstance(config, dict):
        raise ConfigError(f"{source.name} holds a JSON {type(config).__name__}", "an object with a model's settings",
                          "give a config.json")  # fmt: skip
    return config


_DEEPEST = 8


def hyperparameters(config: Mapping[str, Any], name: str, depth: int = 0) -> Hyperparameters:
    """The settings of a model in our spelling.

    Args:
        config: the keys of a `config.json`.
        name: where it comes from, for messages.
        depth: in how many other configurations it lies.

    Raises:
        ConfigError: when the config names no model type, spells one setting twice with different values, or lies in
            more configurations than any real one.

    Example:
        >>> found = hyperparameters({"model_type": "gpt2", "n_embd": 768, "n_layer": 12}, "config.json")
        >>> found.model_type, found.count("hidden_size"), found.count("num_layers")
        ('gpt2', 768, 12)
    """
    if depth > _DEEPEST:
        read = f"{name[:100]} ... lies in more than {_DEEPEST} others"
        raise ConfigError(read, "configurations of parts, and of their parts", "correct the config")
    model_type = config.get("model_type") or families.recognise(config)
    if not isinstance(model_type, str):
        raise ConfigError(f"{name} has no model_type, and its other keys mean no model that is known",
                          "a config.json that names its model type", "add the key")  # fmt: skip
    settings: dict[str, Any] = {}
    spellings: dict[str, str] = {}
    for key, value in config.items():
        ours = SPELLINGS.get(key, key)
        if ours in settings and settings[ours] != value and None not in (settings[ours], value):
            raise ConfigError(
                f"{name} has {spellings[ours]} = {repr(settings[ours])[:60]} and {key} = {repr(value)[:60]}",
                "one value for both spellings", "remove the wrong one",
            )  # fmt: skip
        if (key.endswith("_config") or key in PARTS) and isinstance(value, Mapping):
            value = _part(value, f"{key} of {name}", depth + 1)  # noqa: PLW2901
        if settings.get(ours) is None:
            settings[ours], spellings[ours] = value, key
    if isinstance(config.get("id2label"), dict):  # which decides over `num_labels` in the reference classes
        settings["num_labels"] = len(config["id2label"])
    return Hyperparameters(name, model_type, settings, _classes(config, name), spellings=spellings)


def _part(config: Mapping[str, Any], name: str, depth: int) -> Hyperparameters:
    """The settings of a part, which may leave its model type to the whole; a part of a pipeline names its class."""
    model_type = config.get("model_type") or ("_class_name" in config and families.recognise(config)) or "part"
    return hyperparameters({**config, "model_type": model_type}, name, depth)


def _classes(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    classes = config.get("architectures") or ()
    if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
        raise ConfigError(
            f"{name} has architectures = {repr(classes)[:60]}", "a list of class names", "correct the key"
        )
    return tuple(classes)


def kinds_of_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """For each setting what it is: `architecture`, `training`, `inference` or `other`. None of them is a parameter.

    Example:
        >>> kinds_of_settings({"n_layer": 12, "attn_pdrop": 0.1, "top_p": 0.9, "note": ""})
        {'n_layer': 'architecture', 'attn_pdrop': 'training', 'top_p': 'inference', 'note': 'other'}
    """
    return {
        key: "architecture" if key in SPELLINGS
        else "training" if key in TRAINING
        else "inference" if key in INFERENCE
        else "other"
        for key in config
    }  # fmt: skip
