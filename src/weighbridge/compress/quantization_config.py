"""What does `config.json` say of weights that are packed, so that compressed-tensors finds the modules?

Sources: transformers 5.23, `quantizers/quantizer_compressed_tensors.py`; compressed-tensors 0.20,
`quantization/quant_config.py`, `utils/match.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.compress.folder_source import FolderSource, names_of
from weighbridge.compress.schemes import Scheme


def quantization_config(source: FolderSource, chosen: Mapping[str, Scheme]) -> dict[str, Any]:
    """What `config.json` says of the schemes: one group each, with the modules that have it, and the rest ignored.

    Modules are named by patterns, one for those that differ in the layer only, as the model's class decides what stands
    before their names in the file.
    """
    by_scheme: dict[Scheme, list[str]] = {}
    for name in sorted(source.linear_names, key=[tensor.name for tensor in source.tensors].index):
        scheme = chosen.get(name)
        if scheme is not None and scheme.bits is not None:
            by_scheme.setdefault(scheme, []).append(name)
    packed = {name for names in by_scheme.values() for name in names}
    prefix = source.architecture.base_prefix if source.architecture is not None else ""
    matrices = {tensor.name: tensor.shape for tensor in source.tensors}
    if source.architecture is not None:
        matrices |= {name: group.weight.shape for group in source.architecture.groups if group.weight.tied_to
                     for name in names_of(group)}  # fmt: skip
    rest = [name for name, shape in matrices.items()
            if name not in packed and len(shape) == 2 and name.endswith(".weight")]  # fmt: skip
    front = _front([name.removesuffix(".weight") for name in (*packed, *rest)], prefix)
    groups = {
        f"group_{number}": {
            "targets": _patterns(names, prefix, front), "weights": _weights(scheme), "input_activations": None,
            "output_activations": None, "format": _format(scheme),
        } for number, (scheme, names) in enumerate(by_scheme.items())
    }  # fmt: skip
    formats = sorted({_format(scheme) for scheme in by_scheme})
    return {
        "config_groups": groups, "format": formats[0] if len(formats) == 1 else "mixed-precision",
        "ignore": _patterns(rest, prefix, front), "kv_cache_scheme": None, "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }  # fmt: skip


def _format(scheme: Scheme) -> str:
    return "pack-quantized" if scheme.is_packed else "float-quantized"


def _weights(scheme: Scheme) -> dict[str, Any]:
    return {"num_bits": scheme.bits, "type": "int" if scheme.is_packed else "float", "symmetric": scheme.symmetric,
            "strategy": "group" if scheme.group else "channel", "group_size": scheme.group,
            "dynamic": False}  # fmt: skip


def _front(modules: Sequence[str], prefix: str) -> str:
    """What may stand before a module's name: anything, unless one name is then the end of another."""
    bare = {name.removeprefix(prefix) for name in modules}
    ends = {name[at + 1 :] for name in bare for at in range(len(name)) if name[at] == "."}
    return rf"(?:{re.escape(prefix)})?" if bare & ends else r"(?:.*\.)?"


def _patterns(weights: Sequence[str], prefix: str, front: str) -> list[str]:
    """Patterns that match the modules of these weights: one for those that differ in the layer only."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for weight in weights:
        name = weight.removesuffix(".weight").removeprefix(prefix)
        found = re.search(r"(?<=\.)\d+(?=\.)", name)
        head, layer, tail = (name, "", "") if found is None else (name[: found.start()], found[0], name[found.end() :])
        numbers.setdefault((head, tail), []).append(layer)
    return ["re:" + front + re.escape(head) + (f"(?:{'|'.join(layers)})" if layers != [""] else "") + re.escape(tail)
            + "$" for (head, tail), layers in numbers.items()]  # fmt: skip
