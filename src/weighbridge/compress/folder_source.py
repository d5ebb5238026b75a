"""What lies in a folder of safetensors, read by rows, and which of its weights are those of Linear modules?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from weighbridge.compress import codecs, schemes
from weighbridge.compress.codecs import Values
from weighbridge.errors import ConfigError
from weighbridge.formats.byte_source import ByteSource, LocalFolder
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.model.layouts import TensorGroup
from weighbridge.model.tensors import Component, Kind, TensorSpec

KEPT_PLAIN = frozenset({Component.EMBEDDING, Component.HEAD, Component.ROUTER, Component.EXPERTS})
"""Parts whose weights stay plain: engines multiply with tables, heads, routers and routed experts in code of their
own, which reads no packed weights (transformers 5 stacks the experts of a layer into one tensor)."""
READ = frozenset({
    "albert", "apertus", "arcee", "aria_text", "bamba", "bart", "bert", "big_bird", "bigbird_pegasus", "biogpt",
    "bitnet", "blenderbot", "blenderbot-small", "blip", "blip-2", "bloom", "camembert", "clip", "codegen", "cohere",
    "cohere2", "convnext", "convnextv2", "ctrl", "cwm", "data2vec-text", "data2vec-vision", "dbrx", "deberta",
    "deberta-v2", "dia", "diffllama", "distilbert", "electra", "ernie", "ernie4_5", "esm", "eurobert", "exaone4",
    "exaone4_5", "falcon_h1", "flaubert", "florence2", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "git",
    "glm", "glm4", "glm46v", "glm4v", "glm4v_moe_text", "glm4v_text", "gpt_neo", "gpt_neox", "gpt_neox_japanese",
    "gpt_oss", "gptj", "granite", "granite_swa", "granitemoe", "granitemoehybrid", "granitemoeshared", "helium",
    "hubert", "hunyuan_v1_dense", "hyperclovax", "idefics2", "idefics3", "instructblip", "internlm3", "iquestcoder",
    "jais2", "jetmoe", "layoutlm", "led", "lfm2", "lighton_ocr", "llama", "llama4", "llama4_text", "longformer",
    "m2m_100", "marian", "mbart", "megatron-bert", "metaclip_2", "metaclip_2_vision_model", "minicpm3",
    "minicpmv4_6", "ministral", "ministral3", "mistral", "mistral4", "mobilebert", "mobilevit", "moonshine",
    "mpnet", "mpt", "nemotron", "nemotron_h", "nllb-moe", "olmo", "olmo2", "olmo3", "opt", "ovis2",
    "paddleocr_vl_text", "parakeet_ctc", "parakeet_encoder", "parakeet_rnnt", "parakeet_tdt", "pegasus",
    "pegasus_x", "persimmon", "phi", "phi3", "plbart", "qwen2", "qwen2_5_omni_text", "qwen2_5_vl_text",
    "qwen2_vl_text", "qwen3", "qwen3_5", "qwen3_5_text", "qwen3_asr", "qwen3_vl", "qwen3_vl_moe",
    "qwen3_vl_moe_text", "qwen3_vl_text", "rembert", "roberta", "roberta-prelayernorm", "roformer", "sam",
    "seed_oss", "sew", "smollm3", "speech_to_text", "stablelm", "starcoder2", "swinv2", "t5gemma", "vaultgemma",
    "video_llama_3", "videomae", "vilt", "whisper", "xglm", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet",
    "yolos", "youtu",
})  # fmt: skip
"""Model types whose packed weights transformers 5.23 with compressed-tensors 0.20 reads back as they were written.

It does not for those whose modules it calls otherwise than their files do, whose routed experts it stacks when it loads
them, or that set weights by name before they are there; their weights stay plain."""


class FolderSource:
    """A folder with one model in safetensors, whose tensors are read by rows."""

    def __init__(self, path: str | Path) -> None:
        """Reads the headers and the configuration.

        Raises:
            ConfigError: when it is no such folder, or its weights are packed already.
            SourceError: when nothing there can be read.
        """
        self.path = Path(path)
        self._inspection = inspect(path)
        self.checkpoint = self._inspection.checkpoint
        if not self.path.is_dir() or self.checkpoint.format != "safetensors" or self.checkpoint.config is None:
            raise ConfigError(f"{path} is {self.checkpoint.format}", "a folder with config.json and *.safetensors",
                              "name such a folder")  # fmt: skip
        if self.checkpoint.config.get("quantization_config"):
            raise ConfigError(f"the weights of {path} are packed already", "weights as they were trained",
                              "name the folder of the original")  # fmt: skip
        self._files: dict[str, ByteSource] = {}

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        """The tensors in the order of the files."""
        return self.checkpoint.tensors

    @property
    def paths(self) -> list[Path]:
        """The files that hold them."""
        return [self.path / file.name for file in self.checkpoint.files]

    @property
    def size_bytes(self) -> int:
        """Bytes of these files."""
        return self.checkpoint.size_bytes

    @property
    def digest(self) -> str:
        """Of the headers and the configuration."""
        config = json.dumps(self.checkpoint.config, sort_keys=True, default=str)
        return hashlib.sha256(f"{self.checkpoint.digest} {config}".encode()).hexdigest()

    @cached_property
    def architecture(self) -> Architecture | None:
        """The description of the model; None where no family describes it, and then no weight is known for a Linear."""
        return self._inspection.architecture

    @cached_property
    def linear_names(self) -> frozenset[str]:
        """The stored weights of Linear modules that can take a scheme with scales."""
        if self.architecture is None or self.architecture.model_type not in READ:
            return frozenset()
        shapes = linear_weights(self.architecture)
        prefix = self.architecture.base_prefix
        return frozenset(
            tensor.name for tensor in self.tensors
            if tensor.encoding.name in schemes.READABLE
            and any(shapes.get(name) == tensor.shape
                    for name in (tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix)))
        )  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """Why no weight can take a scheme with scales, where none can."""
        if self.architecture is None:
            return ("no family describes this model: which weights are those of Linear modules is not known",)
        if self.linear_names:
            return ()
        kind = self.architecture.model_type
        if kind not in READ and linear_weights(self.architecture):
            return (f"transformers is not known to read packed weights of {kind}: they stay plain",)
        return ("no weight is that of a Linear module, as which it could be packed",)

    def bytes_of(self, tensor: TensorSpec, first: int, count: int) -> bytes:
        """So many bytes of a tensor, from the first on."""
        assert tensor.byte_range is not None
        if tensor.file not in self._files:
            self._files[tensor.file] = LocalFolder(self.path).open(tensor.file)
        return self._files[tensor.file].read(tensor.byte_range[0] + first, count)

    def rows(self, tensor: TensorSpec, first: int, count: int) -> Values:
        """Rows of a tensor of a plain type, (rows, columns) in fp32; its leading axes are one.

        Raises:
            ConfigError: when its elements are of another type.
        """
        if tensor.encoding.name not in schemes.READABLE:
            raise ConfigError(f"{tensor.name} holds {tensor.encoding.name}", f"one of {', '.join(schemes.READABLE)}",
                              "leave it as it is")  # fmt: skip
        columns = tensor.shape[-1] if tensor.shape else 1
        each = columns * tensor.encoding.bytes_per_block
        return codecs.decode(self.bytes_of(tensor, first * each, count * each), tensor.encoding, columns)


def linear_weights(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The described weights of Linear modules that engines multiply with as such, with their shapes.

    Example:
        >>> found = inspect({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 9,
        ...                  "num_attention_heads": 2, "intermediate_size": 128}).architecture
        >>> [name.split(".")[-2] for name in linear_weights(found)]
        ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
    """
    return {name: group.weight.shape for group in architecture.groups if _is_linear(group) for name in names_of(group)}


def _is_linear(group: TensorGroup) -> bool:
    weight = group.weight
    return (weight.use is Use.MATMUL and weight.kind is Kind.PARAMETER and len(weight.shape) == 2
            and weight.role != "convolution" and weight.tied_to is None
            and not weight.transposed and weight.experts == weight.stacked == 1 and not group.mtp
            and group.component not in KEPT_PLAIN and group.name.endswith(".weight"))  # fmt: skip


def names_of(group: TensorGroup) -> Iterator[str]:
    """The name of a group in each layer and for each expert."""
    for layer in group.layers if group.layers is not None else (None,):
        for expert in range(group.weight.experts):
            yield group.name.format(layer=layer, expert=expert)
