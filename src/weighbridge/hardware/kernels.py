"""What does a weight cost here, by encoding? The kernels of the engine itself, timed on synthetic matrices.

The shared object of the wheel `xllamacpp` exports ggml's functions: one matrix of each encoding is multiplied with one
token (larger than the caches, so that it comes from memory), with a few tokens, as of sequences that are decoded
together, and with many, by one thread. A few are dear where the weights come from memory: Q8_0 took 111 picoseconds for
each of 2 tokens and 34 from a cache, where 1 took 54 and 64 took 27 each (an EPYC of family 26). A process of its own
(`python -m weighbridge.hardware.kernels`), so that a kernel that this processor lacks ends that process only; it
prints one JSON document.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from weighbridge.hardware.ggml import library
from weighbridge.hardware.measured import FEW, MANY, Kernels
from weighbridge.hardware.torch_training import TrainingRates

TYPES = {"fp32": 0, "fp16": 1, "bf16": 30, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10,
         "q3_k": 11, "q4_k": 12, "q5_k": 13, "q6_k": 14, "iq4_nl": 20, "iq4_xs": 23}  # fmt: skip
"""The encodings that are timed, with their numbers in `ggml.h`."""
COLUMNS = 1024
DECODE_BYTES, FEW_BYTES, PROMPT_BYTES = 48 << 20, 24 << 20, 1 << 20
TIMES, ROUNDS, FEW_ROUNDS = 4, 5, 2
"""Passes that count, in rounds over all encodings: a busy machine changes its pace from second to second."""
SECONDS = 60


class _Parameters(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Ggml:
    """ggml's matrix multiplication, through ctypes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        for name, result, arguments in (
            ("ggml_cpu_init", None, ()), ("ggml_init", pointer, (_Parameters,)), ("ggml_free", None, (pointer,)),
            ("ggml_new_tensor_2d", pointer, (pointer, ctypes.c_int, number, number)),
            ("ggml_get_data", pointer, (pointer,)), ("ggml_mul_mat", pointer, (pointer, pointer, pointer)),
            ("ggml_new_graph", pointer, (pointer,)), ("ggml_build_forward_expand", None, (pointer, pointer)),
            ("ggml_graph_compute_with_ctx", ctypes.c_int, (pointer, pointer, ctypes.c_int)),
            ("ggml_row_size", ctypes.c_size_t, (ctypes.c_int, number)),
            ("ggml_quantize_chunk", ctypes.c_size_t, (ctypes.c_int, pointer, pointer, number, number, number, pointer)),
        ):  # fmt: skip
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.ggml: Any = library
        self.ggml.ggml_cpu_init()

    def picoseconds(self, encoding: int, tensor_bytes: int, tokens: int) -> float:
        """The median time for one weight and token, with one thread, after a pass that is not counted."""
        import numpy as np

        ggml = self.ggml
        row_bytes = ggml.ggml_row_size(encoding, COLUMNS)
        rows = max(256, tensor_bytes // row_bytes)
        room = rows * row_bytes + 16 * tokens * (COLUMNS + rows) + (16 << 20)
        context = ggml.ggml_init(_Parameters(room, None, False))
        try:
            weights = ggml.ggml_new_tensor_2d(context, encoding, COLUMNS, rows)
            inputs = ggml.ggml_new_tensor_2d(context, 0, COLUMNS, tokens)
            values = np.random.default_rng(0).standard_normal(COLUMNS).astype("float32")
            row = ctypes.create_string_buffer(values.tobytes() if encoding == 0 else row_bytes, row_bytes)
            if encoding:
                ggml.ggml_quantize_chunk(encoding, values.ctypes.data, row, 0, 1, COLUMNS, None)
            _bytes(ggml.ggml_get_data(weights), (rows, row_bytes))[:] = np.frombuffer(row.raw, "uint8")
            _bytes(ggml.ggml_get_data(inputs), (tokens, 4 * COLUMNS))[:] = values.view("uint8")
            graph = ggml.ggml_new_graph(context)
            ggml.ggml_build_forward_expand(graph, ggml.ggml_mul_mat(context, weights, inputs))
            seconds = []
            for _ in range(TIMES + 1):
                start = time.perf_counter()
                if ggml.ggml_graph_compute_with_ctx(context, graph, 1):
                    raise RuntimeError(f"ggml could not multiply type {encoding}")
                seconds.append(time.perf_counter() - start)
        finally:
            ggml.ggml_free(context)
        weights_and_tokens: int = rows * COLUMNS * tokens
        return statistics.median(seconds[1:]) / weights_and_tokens * 1e12


def _bytes(address: int, shape: tuple[int, int]) -> Any:
    import numpy as np

    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), shape)


def resident_bytes() -> int | None:
    """What this process holds in memory now, on Linux; None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:")), None)
    except OSError:
        return None


def main() -> None:
    """Times every encoding and prints the document."""
    importlib.import_module("xllamacpp")
    process_bytes = resident_bytes()
    kernels = Ggml(library())
    weight: dict[str, list[float]] = {name: [] for name in TYPES}
    prompt: dict[str, list[float]] = {name: [] for name in TYPES}
    few: dict[str, list[list[float]]] = {name: [[] for _ in FEW] for name in TYPES}
    for _ in range(ROUNDS):
        for name, number in TYPES.items():
            weight[name].append(kernels.picoseconds(number, DECODE_BYTES, 1))
            prompt[name].append(kernels.picoseconds(number, PROMPT_BYTES, MANY))
    for _ in range(FEW_ROUNDS):
        for name, number in TYPES.items():
            for times, tokens in zip(few[name], FEW, strict=True):
                times.append(kernels.picoseconds(number, FEW_BYTES, tokens))
    engine = f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    tables: dict[str, Any] = {key: {name: round(statistics.median(times), 2) for name, times in table.items()}
                              for key, table in (("weight_ps", weight), ("prompt_ps", prompt))}  # fmt: skip
    tables["few_ps"] = {name: [round(statistics.median(times), 2) for times in found] for name, found in few.items()}
    json.dump({"engine": engine, **tables, "process_bytes": process_bytes}, sys.stdout)


ENGINES = {
    "llama.cpp": (("xllamacpp",), "weighbridge.hardware.kernels"),
    "transformers": (("torch", "transformers"), "weighbridge.hardware.torch_kernels"),
}
"""Runtimes whose kernels can be timed: the packages that they need, and the module that times them."""


def is_installed(runtime: str) -> bool:
    """Whether the packages that a runtime needs are there."""
    try:
        return all(importlib.util.find_spec(package) is not None for package in ENGINES[runtime][0])
    except (ImportError, ValueError):
        return False


def time_kernels() -> tuple[dict[str, Kernels], list[str]]:
    """The kernels of each runtime that is installed, timed in a process of its own, and notes on those that failed.

    A runtime that is not installed is left out; of llama.cpp's, which is a small download, a note says so.
    """
    found: dict[str, Kernels] = {}
    notes = []
    if not is_installed("llama.cpp"):
        notes.append("llama.cpp's kernels were not timed: install the extra `run` (pip install 'weighbridge[run]')")
    for runtime in filter(is_installed, ENGINES):
        command = [sys.executable, "-P", "-m", ENGINES[runtime][1]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
            found[runtime] = Kernels(**json.loads(done.stdout))
        except subprocess.TimeoutExpired:
            notes.append(f"the kernels of {runtime} were not timed: they took more than {SECONDS} s")
        except (subprocess.CalledProcessError, OSError, ValueError, TypeError) as error:
            notes.append(f"the kernels of {runtime} could not be timed here ({type(error).__name__})")
    return found, notes


def time_training() -> tuple[TrainingRates | None, list[str]]:
    """The parts of a training step under torch, timed in a process of its own; None with a note where that failed, and
    without one where torch or transformers is not installed.
    """
    if not is_installed("transformers"):
        return None, []
    command = [sys.executable, "-P", "-m", "weighbridge.hardware.torch_training"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
        return TrainingRates(**json.loads(done.stdout)), []
    except (subprocess.SubprocessError, OSError, ValueError, TypeError) as error:
        return None, [f"the parts of a training step could not be timed here ({type(error).__name__})"]


if __name__ == "__main__":
    main()
