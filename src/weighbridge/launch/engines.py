"""Which engines can a plan be launched with? Each has a module with its options and where they were read."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.launch.line import Launch
from weighbridge.planning import Plan
from weighbridge.predict.service import find_runtime

ENGINES: Mapping[str, str] = MappingProxyType({
    "vllm": "vllm", "llama-server": "llama_server", "sglang": "sglang", "tensorrt-llm": "tensorrt_llm",
})  # fmt: skip
"""The names of programs, and the modules that write their lines."""


def runtime_of(engine: str, runtime: str | None = None) -> str:
    """The runtime to plan with for an engine; a runtime that was asked for has to be it.

    Raises:
        UnknownNameError: for an engine or a runtime that is none.
        UnitError: when the two contradict each other.

    Example:
        >>> runtime_of("llama-server"), runtime_of("vllm", "VLLM")
        ('llama.cpp', 'vllm')
    """
    needed: str = _module(engine).RUNTIME
    if runtime is not None and find_runtime(runtime).name != needed:
        read = f"a plan for {runtime} to launch with {engine}"
        raise UnitError(read, f"the runtime {needed}", "leave --runtime out, or launch with the engine of the plan")
    return needed


def launch(plan: Plan, engine: str) -> Launch:
    """The line with which an engine does what was planned.

    Raises:
        UnknownNameError: for an engine that is none.
        WeighbridgeError: for a plan that the engine cannot carry out, with the reason.

    Example:
        >>> from weighbridge.planning import fit
        >>> launch(fit("llama-3.1-8b", "rtx-4090", weights="q4_k_m", batch=2), "llama-server").arguments[2:6]
        ('--ctx-size', '1536', '--parallel', '2')
    """
    runtime_of(engine, plan.service.runtime.name)
    if not plan.memory.state_bytes.value:
        read = f"{plan.source}, which keeps nothing of the tokens that it has read, to launch with {engine}"
        raise UnitError(read, "a model that generates", "see the engine's own options for embeddings and the like")
    found: Launch = _module(engine).launch(plan)
    return found


def _module(engine: str) -> Any:
    if engine not in ENGINES:
        raise UnknownNameError("engine to launch", engine, ENGINES, f"name one of {', '.join(ENGINES)}")
    return importlib.import_module(f"weighbridge.launch.{ENGINES[engine]}")
