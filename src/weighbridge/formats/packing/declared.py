"""What do the files beside the weights say of how they are packed?

Transformers keeps it as `quantization_config` in `config.json`, of a part or of the whole; MLX as `quantization`, which
names modules with settings of their own; AutoGPTQ, AutoAWQ and modelopt wrote files of their own before. Patterns over
the names of modules are not evaluated, as a stranger's pattern can take any time: a module may then have any of the
schemes.

Sources: transformers 5.23 `utils/quantization_config.py`; compressed-tensors 0.20 `quantization/quant_scheme.py`;
GPTQModel 7.7 `quantization/config.py`; AutoAWQ 0.2.9 `models/_config.py`; mlx-lm 0.32 `utils.py`; modelopt
`torch/export/convert_hf_config.py`; auto-round 0.16 `export/export_to_autoround/export.py` (`extra_config`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import config as config_format
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.packing.module import Declared, Scheme

NEIGHBOURS = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files of AutoGPTQ, AutoAWQ and modelopt."""
MOST_SCHEMES = 64


def declared(config: Mapping[str, Any] | None, folder: Folder | None) -> Declared:
    """What `config.json` says, or else one of the neighbours in the folder."""
    said = quantization_config(config or {})
    if said is None and folder is not None:
        said = _neighbour(folder)
    if said is None:
        return Declared()
    method = said.get("quant_method")
    if not isinstance(method, str):
        method = "modelopt" if "quant_algo" in said else ""
    return Declared(method[:40], _distinct(_schemes(said)), dict(_modules(said)), said.get("weight_block_size"))


def quantization_config(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The packing's part of a configuration; None where there is none."""
    for key in ("quantization_config", "quantization", "compression_config"):
        if isinstance(config.get(key), Mapping):
            return _plain(config[key])
    for key, part in config.items():
        if (
            key.endswith("_config")
            and isinstance(part, Mapping)
            and isinstance(part.get("quantization_config"), Mapping)
        ):
            return _plain(part["quantization_config"])
    return None


def _plain(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Older files of compressed-tensors put one object into another."""
    inner = said.get("quantization_config")
    return inner if isinstance(inner, Mapping) else said


def _neighbour(folder: Folder) -> Mapping[str, Any] | None:
    names = set(folder.names())
    for name in NEIGHBOURS:
        if name in names:
            try:
                said = config_format.parse(folder.open(name))
            except WeighbridgeError:
                continue
            inner = said.get("quantization")
            return {"quant_method": "modelopt", **inner} if isinstance(inner, Mapping) else said
    return None


def _first(said: Mapping[str, Any], *keys: str) -> Any:
    return next((said[key] for key in keys if said.get(key) is not None), None)


def _scheme(said: Mapping[str, Any]) -> Scheme:
    return Scheme(_first(said, "bits", "num_bits", "w_bit", "nbits"), _first(said, "group_size", "q_group_size"))


def _schemes(said: Mapping[str, Any]) -> Iterator[Scheme]:
    """The schemes that any module may have. An average number of bits, as EXL2 and EXL3 have it, is none."""
    groups = said.get("config_groups")
    if isinstance(groups, Mapping):
        for group in groups.values():
            weights = group.get("weights") if isinstance(group, Mapping) else None
            if isinstance(weights, Mapping):
                yield _scheme(weights)
        return
    inner = said.get("quant_config")
    if isinstance(inner, Mapping):
        for one in (inner, *inner.values()):
            weights = one.get("weight_quant_params") if isinstance(one, Mapping) else None
            if isinstance(weights, Mapping):
                yield _scheme(weights)
        return
    own = _scheme(said)
    if said.get("quant_method") not in ("exl2", "exl3") and own != Scheme():
        yield own
        dynamic = said.get("dynamic")
        if isinstance(dynamic, Mapping):
            for change in dynamic.values():
                if isinstance(change, Mapping):
                    one = _scheme(change)
                    yield Scheme(own.bits if one.bits is None else one.bits,
                                 own.group if one.group is None else one.group)  # fmt: skip


def _distinct(schemes: Iterator[Scheme]) -> tuple[Scheme, ...]:
    found: list[Scheme] = []
    for scheme in schemes:
        if len(found) == MOST_SCHEMES:
            break
        if scheme not in found:
            found.append(scheme)
    return tuple(found)


def _modules(said: Mapping[str, Any]) -> Iterator[tuple[str, Scheme]]:
    """Settings of single modules: MLX puts them beside its own, auto-round into `extra_config`."""
    own = _scheme(said)
    for place in (said, said.get("extra_config")):
        if isinstance(place, Mapping):
            for name, one in place.items():
                if isinstance(one, Mapping) and _scheme(one) != Scheme():
                    change = _scheme(one)
                    yield name, Scheme(own.bits if change.bits is None else change.bits,
                                       own.group if change.group is None else change.group)  # fmt: skip
