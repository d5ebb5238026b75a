"""What does an adapter train, and which modules of its base does it change?

A folder as PEFT writes it: `adapter_config.json` names the method, the base and the modules; the weights are in
`adapter_model.safetensors` or `adapter_model.bin`. A tensor's name is `base_model.model.`, the module's path in the
base, and what the method adds there (`lora_A.weight`). What has no such part is a module that was trained as a whole
(`modules_to_save`). Two low-rank matrices A [rank, inputs] and B [outputs, rank] stand for a change of their product's
shape. MLX writes `adapters.safetensors` with `lora_a` [inputs, rank] and `lora_b` [rank, outputs].

Sources: huggingface/peft 0.21, `utils/save_and_load.py` and `tuners/*/layer.py` (names of the parts), ml-explore/mlx-lm
`tuner/lora.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.errors import ConfigError, FormatError, SourceError
from weighbridge.formats import config as config_format
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.marks import ADAPTER, ADAPTER_WEIGHTS
from weighbridge.model.tensors import Kind, TensorSpec

ALL_LINEAR = "all-linear"
"""What `target_modules` says for all linear maps but the head."""

_METHODS = (
    "adamss|beft|boft|c3a|deft|delora|fourierft|frod|glora|gralora|hada|hira|hra|ia3|lily|ln_tuning|lokr|lora|miss|oft|"
    "osf|peanut|poly|psoft|pvera|randlora|road|shira|supertuning|tinylora|trainable_tokens|unilora|vblora|vera|waveft"
)
_PART = re.compile(
    rf"(?:^|\.)((?:{_METHODS})_\w+|prompt_embeddings|prompt_encoder|adaption_prompt|adaption_gate)(?:\.|$)"
)
_FROZEN = ("vera_A", "vera_B", "pvera_A", "pvera_B", "randlora_A", "randlora_B", "base_layer")
"""Random projections that are stored so that they need not be made again, and the base's own table under an adapter of
it: they are not trained."""
_PREFIXES = ("base_model.model.", "base_model.")


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the base that the adapter changes. `inputs`, `outputs` and `rank` are known for low-rank matrices."""

    path: str
    parameters: int
    inputs: int | None = None
    outputs: int | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter's configuration and table of tensors say.

    `modules` are those that the method changes, `whole` the parameters of those that were trained as a whole, `others`
    the parameters that belong to no module of the base, such as a learned prompt.
    """

    method: str
    base: str | None
    targets: tuple[str, ...]
    alpha: float | None
    modules: tuple[Module, ...]
    whole: Mapping[str, TensorSpec]
    others: int

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, smallest first."""
        return tuple(sorted({module.rank for module in self.modules if module.rank is not None}))

    @property
    def parameters(self) -> int:
        """Everything that was trained."""
        whole = sum(tensor.elements for tensor in self.whole.values())
        return sum(module.parameters for module in self.modules) + whole + self.others

    def by_target(self) -> dict[str, tuple[int, int]]:
        """The last part of the modules' names, with how many there are and their parameters."""
        found: dict[str, tuple[int, int]] = {}
        for module in self.modules:
            name = module.path.rpartition(".")[2]
            number, parameters = found.get(name, (0, 0))
            found[name] = number + 1, parameters + module.parameters
        return found


def read(folder: Folder, weights: Checkpoint) -> Checkpoint:
    """The checkpoint of an adapter's folder, from that of its weight file.

    Raises:
        ConfigError: when its configuration is none of an adapter.

    Example:
        >>> from weighbridge.formats import safetensors
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> header = b'{"base_model.model.q.lora_A.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}'
        >>> files = {"adapter_model.safetensors": len(header).to_bytes(8, "little") + header + bytes(12),
        ...          ADAPTER: b'{"peft_type": "LORA", "target_modules": ["q"]}'}
        >>> folder = MemoryFolder(files)
        >>> checkpoint = read(folder, safetensors.read(folder.open("adapter_model.safetensors")))
        >>> checkpoint.format, adapter_of(checkpoint).by_target()
        ('peft', {'q': (1, 6)})
    """
    settings = config_format.parse(folder.open(ADAPTER))
    if not isinstance(settings.get("peft_type", settings.get("fine_tune_type")), str):
        raise ConfigError(
            f"{folder.name}/{ADAPTER} names no method", 'a "peft_type" such as "LORA"', "get the file that PEFT wrote"
        )
    tensors = tuple(
        replace(tensor, kind=Kind.BUFFER) if any(part in _FROZEN for part in tensor.name.split(".")) else tensor
        for tensor in weights.tensors
    )
    return replace(weights, source=folder.name, format="peft", tensors=tensors, config=None,
                   metadata={**weights.metadata, "adapter": settings})  # fmt: skip


def weights_name(folder: Folder, names: Iterable[str]) -> str:
    """The file with an adapter's weights.

    Raises:
        SourceError: when there is none, or more than one.
    """
    found = [name for name in ADAPTER_WEIGHTS if name in names]
    if len(found) == 2 and found == list(ADAPTER_WEIGHTS[:2]):
        found.pop()  # the same weights in both forms
    if len(found) != 1:
        read_ = f"{folder.name} has an {ADAPTER} and {len(found) or 'no'} files of weights"
        raise SourceError(read_, " or ".join(ADAPTER_WEIGHTS), "get the missing file, or name the one that is meant")
    return found[0]


def adapter_of(checkpoint: Checkpoint) -> Adapter:
    """What a checkpoint of format `peft` trains.

    Raises:
        FormatError: when its low-rank matrices are none.
    """
    settings = checkpoint.metadata["adapter"]
    parts: dict[str, dict[str, TensorSpec]] = {}
    whole: dict[str, TensorSpec] = {}
    others = 0
    for tensor in checkpoint.tensors:
        if tensor.kind is Kind.BUFFER or tensor.tied_to is not None:
            continue
        name = next((tensor.name.removeprefix(p) for p in _PREFIXES if tensor.name.startswith(p)), tensor.name)
        match = _PART.search(name)
        if match is None:
            whole[name.replace(".modules_to_save.default.", ".")] = tensor
        elif not name[: match.start()]:
            others += tensor.elements
        else:
            parts.setdefault(name[: match.start()], {})[match[1]] = tensor
    targets = settings.get("target_modules")
    if targets is None and isinstance(settings.get("lora_parameters"), Mapping):
        targets = settings["lora_parameters"].get("keys")
    listed = targets if isinstance(targets, list) else [targets]
    alpha = settings.get("lora_alpha")
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool) and abs(alpha) < 1e300
    return Adapter(
        str(settings.get("peft_type", settings.get("fine_tune_type"))).lower(),
        settings["base_model_name_or_path"] if isinstance(settings.get("base_model_name_or_path"), str) else None,
        tuple(target for target in listed if isinstance(target, str)),
        float(alpha) if is_number and alpha is not None else None,
        tuple(_module(checkpoint.source, path, tensors) for path, tensors in parts.items()),
        whole,
        others,
    )


def expected_modules(adapter: Adapter, settings: Mapping[str, Any], modules: Iterable[str]) -> set[str] | None:
    """Which of the base's modules the configuration asks for; None where a list of endings does not say.

    An ending names a module when it is its whole path or the end of it after a dot. Regular expressions are not run, as
    a file of strangers could hold one that never ends.
    """
    selects = any(settings.get(key) for key in ("layers_to_transform", "layers_pattern", "exclude_modules"))
    if selects or not adapter.targets or isinstance(settings.get("target_modules"), str):
        return None
    endings = tuple("." + target for target in adapter.targets)
    return {path for path in modules if ("." + path).endswith(endings)}


def _module(source: str, path: str, tensors: Mapping[str, TensorSpec]) -> Module:
    parameters = sum(tensor.elements for tensor in tensors.values())
    if "lora_A" in tensors and "lora_B" in tensors:
        a, b = tensors["lora_A"].shape, tensors["lora_B"].shape
    elif "lora_a" in tensors and "lora_b" in tensors:
        a, b = tensors["lora_a"].shape[::-1], tensors["lora_b"].shape[::-1]
    elif "lora_embedding_A" in tensors and "lora_embedding_B" in tensors:
        a, b = tensors["lora_embedding_B"].shape[::-1], tensors["lora_embedding_A"].shape[::-1]
    else:
        return Module(path, parameters)
    if len(a) < 2 or len(b) < 2 or a[0] != b[1]:
        read_ = f"{source} has low-rank matrices of shapes {list(a)} and {list(b)} at {path[:100]}"
        raise FormatError(
            read_, "A of rank x inputs and B of outputs x rank", "get the adapter again from its publisher"
        )
    return Module(path, parameters, math.prod(a[1:]), b[0], a[0])
