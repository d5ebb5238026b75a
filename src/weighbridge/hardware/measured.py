"""What was measured on one machine: rates by number of threads, what a weight costs by encoding, what a process takes.

`weigh probe` measures it, the cache keeps it as TOML, and it outranks every assumption about a processor of its kind.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import FormatError, SourceError
from weighbridge.hardware.torch_training import TrainingRates

HERE = "here"
"""The name of this machine among the devices."""
FEW, MANY = (2, 4, 8), 64
"""Tokens with which each encoding is multiplied when it is timed, beside one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """What an engine's own kernels take on this machine; None is not measured.

    `weight_ps` are the picoseconds that one thread takes for a weight of an encoding when one token is multiplied and
    the weights come from memory; `few_ps` are those for a weight and token when `FEW` tokens are, as for sequences that
    are decoded together, and `prompt_ps` when many are. An engine whose kernels were timed without `few_ps` is taken to
    work on them like on prompts. A layer takes
    `layer_s` seconds beside its products for a token, and `hidden_ps` picoseconds for each element of the hidden states
    of a prompt. `process_bytes` is what the engine's process holds before it has a model. `decode_factor` and
    `prefill_factor` are measured over predicted seconds of models that ran here (`weigh measure --save`), by `runs` of
    them.
    """

    engine: str
    weight_ps: Mapping[str, float]
    prompt_ps: Mapping[str, float]
    few_ps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    layer_s: float | None = None
    hidden_ps: float | None = None
    process_bytes: int | None = None
    decode_factor: float | None = None
    prefill_factor: float | None = None
    runs: int = 0

    def with_run(self, decode: float, prefill: float) -> Kernels:
        """The same with one more model that ran here: factors are geometric means over the runs kept.

        Example:
            >>> found = Kernels(engine="x", weight_ps={}, prompt_ps={}).with_run(2.0, 1.0)
            >>> again = found.with_run(0.5, 4.0)
            >>> round(again.decode_factor, 3), round(again.prefill_factor, 3), again.runs
            (1.0, 2.0, 2)
        """

        def mean(old: float | None, new: float) -> float:
            return math.exp((math.log(old or 1.0) * self.runs + math.log(new)) / (self.runs + 1))

        return replace(self, decode_factor=mean(self.decode_factor, decode),
                       prefill_factor=mean(self.prefill_factor, prefill), runs=self.runs + 1)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rates as measured, with one thread and with all cores, the kernels of each runtime that is installed, and the
    parts of a training step under torch.
    """

    threads: int
    bytes_per_s_one: float
    bytes_per_s_all: float
    fp32_flops_per_s_one: float | None = None
    fp32_flops_per_s_all: float | None = None
    kernels: Mapping[str, Kernels] = field(default_factory=dict)
    training: TrainingRates | None = None

    def kernels_of(self, runtime: str) -> Kernels | None:
        """The kernels of a runtime where they were timed; Ollama runs those of llama.cpp."""
        return self.kernels.get("llama.cpp" if runtime == "ollama" else runtime)

    def to_json(self) -> dict[str, Any]:
        """The part `measured` of `weigh probe --json`; null is not measured."""
        return asdict(self)


def measured(document: Mapping[str, Any]) -> Measured:
    """What `to_json` wrote, checked.

    Raises:
        FormatError: when a key is unknown or missing, or a number is none that can be measured.
    """
    try:
        kernels = {name: Kernels(**facts) for name, facts in document.get("kernels", {}).items()}
        facts = document.get("training")
        training = None if facts is None else TrainingRates(**facts)
        found = Measured(**{**document, "kernels": kernels, "training": training})
        numbers = [getattr(found, one.name) for one in fields(Measured) if one.name not in ("kernels", "training")]
        if training is not None:
            numbers += [getattr(training, one.name) for one in fields(TrainingRates) if one.name != "engine"]
        for one in kernels.values():
            numbers += [*one.weight_ps.values(), *one.prompt_ps.values(), one.process_bytes, one.decode_factor]
            numbers += [ps for few in one.few_ps.values() for ps in few]
            numbers += [one.prefill_factor, 1 + (one.layer_s or 0), 1 + (one.hidden_ps or 0), 1 + one.runs]
        complete = all({"fp32", "fp16"} <= one.weight_ps.keys() and one.weight_ps.keys() <= one.prompt_ps.keys()
                       and all(len(few) == len(FEW) for few in one.few_ps.values())
                       for one in kernels.values())  # fmt: skip
        good = complete and all(x is None or (isinstance(x, int | float) and 0 < x < math.inf) for x in numbers)
    except (TypeError, AttributeError) as error:
        raise FormatError(f"measured values that do not fit ({error})", "what `weigh probe` writes",
                          "run `weigh probe` again") from error  # fmt: skip
    if not good:
        raise FormatError("a measured value that is missing or no positive number", "what `weigh probe` writes",
                          "run `weigh probe` again")  # fmt: skip
    return found


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values as TOML; None is left out, and a mapping in a table becomes an inline table.

    Example:
        >>> print(toml({"a": {"b": 1, "c": None, "d": {"x y": 2.5}, "e": ["s"]}}), end="")
        [a]
        b = 1
        d = {"x y" = 2.5}
        e = ["s"]
    """

    def value(item: Any) -> str:
        if isinstance(item, Mapping):
            pairs = (f"{json.dumps(k)} = {value(v)}" for k, v in item.items() if v is not None)
            return "{" + ", ".join(pairs) + "}"
        if isinstance(item, list | tuple):
            return "[" + ", ".join(map(value, item)) + "]"
        if isinstance(item, bool):
            return str(item).lower()
        return repr(item) if isinstance(item, int | float) else json.dumps(item)

    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {value(item)}" for key, item in table.items() if item is not None]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a saved probe.

    Raises:
        SourceError: when there is none, or it cannot be read.
        FormatError: when it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError("this machine has not been measured", "a saved probe", "run `weigh probe` first") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({error})", "a saved probe", "run `weigh probe` again") from error
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"{path} is no TOML ({error})", "a saved probe", "run `weigh probe` again") from error
