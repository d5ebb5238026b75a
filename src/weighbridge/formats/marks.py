"""Which files tell by their names what a folder holds? Read before the readers of such folders are loaded."""

from __future__ import annotations

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")
SENTENCE_TRANSFORMERS = "modules.json"
