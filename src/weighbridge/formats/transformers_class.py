"""What does the reference class of a configuration consist of? transformers builds it without memory.

For model types that no family describes. The class is one of the installed transformers: code that a repository brings
along is never run, and no weights are read. What comes out is a table of parameters and buffers, with no knowledge of
what a token uses or what is kept between tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weighbridge.errors import ConfigError, SourceError
from weighbridge.formats import torch_module
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.config import SPELLINGS
from weighbridge.model.hyperparameters import MOST_LAYERS

_MOST = {"num_layers": MOST_LAYERS, "encoder_layers": MOST_LAYERS, "decoder_layers": MOST_LAYERS,
         "num_experts": MOST_LAYERS}  # fmt: skip


def read(config: Mapping[str, Any], name: str) -> Checkpoint:
    """The tensors of the class that a configuration names, or of its model type's usual one.

    Raises:
        SourceError: when transformers or torch is not installed.
        ConfigError: when transformers knows no such class, or the class cannot be built from the configuration.
    """
    _bound(config, name)
    model_type, classes = config.get("model_type"), config.get("architectures") or []
    if not isinstance(classes, list) or len(classes) > 1:
        read_ = f"{name} has architectures = {str(classes)[:80]}"
        raise ConfigError(read_, "a list of one class", "leave the one to count")
    try:
        import torch
        import transformers
    except ImportError as error:
        read_ = f"the reference class needs {error.name}"
        action = "install weighbridge again with [torch] after it"
        raise SourceError(read_, "the extra `torch`", action) from error
    settings = {key: value for key, value in config.items() if key not in ("model_type", "auto_map")}
    try:
        described = transformers.AutoConfig.for_model(model_type, **settings)
        found = getattr(transformers, classes[0], None) if classes else transformers.AutoModel
        if found is None:
            raise ValueError(f"no class {str(classes[0])[:80]}")
        with torch.device("meta"):
            model = found.from_config(described) if found is transformers.AutoModel else found(described)
    except Exception as error:  # whatever a class raises for settings that it cannot have
        lines = [line for line in str(error).splitlines() if line.strip()]
        read_ = f"transformers {transformers.__version__} cannot build {name}: {lines[0][:200] if lines else error!r}"
        raise ConfigError(read_, "a model type and class of this release", "correct the config") from error
    note = (f"counted in {type(model).__name__} of transformers {transformers.__version__}: what a token uses, "
            "keeps and costs is unknown")  # fmt: skip
    found_tensors = torch_module.read_module(model, name)
    return Checkpoint(name, "config", (), found_tensors.tensors, config=config, notes=(note,))


def _bound(config: Mapping[str, Any], name: str) -> None:
    """Refuses layers and experts in numbers that no model has: a class builds them one by one.

    Raises:
        ConfigError: when there are as many.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            _bound(value, f"{key} of {name}")
        elif isinstance(value, int) and value > _MOST.get(SPELLINGS.get(key, key), value):
            read_ = f"{name} has {key} = {value:,}"
            raise ConfigError(read_, f"at most {_MOST[SPELLINGS.get(key, key)]:,}", "correct the config")
