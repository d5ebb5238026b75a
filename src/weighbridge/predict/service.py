"""What is asked of a model that runs: how long prompts and answers are, how many at once, by which engine.

`RUNTIMES` has what is known of each engine's habits: how its cache is cut into pages, what share of a device it
reserves, in what it keeps recurrent state. Sources: llama.cpp `src/llama-kv-cache.cpp` (a cache is padded to 256
cells), vLLM `config/cache.py` (pages of 16 tokens, 0.9 of the device), TensorRT-LLM `llmapi` (pages of 32 tokens, 0.9
of what is free), SGLang `server_args.py` (pages of 1 token, about 0.88).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An engine's habits. `reserves` is the share of a device that it takes at start; None when it takes what it needs.

    `splits_layers` says that several devices each hold a part of the layers. `steps` names the fitted model of its
    speed. `page_tokens` is the granularity of its cache, `batched_tokens` the most tokens of one pass over a prompt.
    """

    name: str
    page_tokens: int
    reserves: float | None
    splits_layers: bool
    steps: str
    recurrent_encoding: str
    batched_tokens: int

    @property
    def caches(self) -> tuple[str, ...]:
        """Encodings that it can keep a cache in."""
        return ENGINE_CACHES[self.steps]


ENGINE_CACHES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "llama.cpp": ("bf16", "fp16", "fp32", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"),
    "served": ("bf16", "fp16", "fp32", "fp8", "int8", "nvfp4"),
})  # fmt: skip
"""Sources: llama.cpp `common/arg.cpp` (`kv_cache_types`), vLLM `config/cache.py` and TensorRT-LLM's KV cache page."""


def _runtime(name: str, page: int, reserves: float | None, steps: str, batched: int, *, layers: bool = False,
             recurrent: str = "bf16") -> Runtime:  # fmt: skip
    return Runtime(name=name, page_tokens=page, reserves=reserves, splits_layers=layers, steps=steps,
                   recurrent_encoding=recurrent, batched_tokens=batched)  # fmt: skip


BF16 = encodings.find("bf16")

RUNTIMES: Mapping[str, Runtime] = MappingProxyType({
    "llama.cpp": _runtime("llama.cpp", 256, None, "llama.cpp", 512, layers=True, recurrent="fp32"),
    "ollama": _runtime("ollama", 256, None, "llama.cpp", 512, layers=True, recurrent="fp32"),
    "vllm": _runtime("vllm", 16, 0.9, "served", 8192),
    "sglang": _runtime("sglang", 1, 0.88, "served", 8192),
    "tensorrt-llm": _runtime("tensorrt-llm", 32, 0.9, "served", 8192),
    "transformers": _runtime("transformers", 1, None, "served", 1 << 30),
    "onnxruntime": _runtime("onnxruntime", 1, None, "llama.cpp", 1 << 30),
})  # fmt: skip

_ALIASES = {"trtllm": "tensorrt-llm", "trt-llm": "tensorrt-llm", "llamacpp": "llama.cpp", "llama-cpp": "llama.cpp",
            "ort": "onnxruntime", "hf": "transformers", "ik-llama.cpp": "llama.cpp"}  # fmt: skip


def find_runtime(name: str) -> Runtime:
    """The engine of this name.

    Raises:
        UnknownNameError: when none has it.
    """
    plain = name.strip().lower().replace("_", "-")
    found = RUNTIMES.get(_ALIASES.get(plain, plain))
    if found is None:
        raise UnknownNameError("runtime", name, RUNTIMES, "name one of these")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is asked: `batch` sequences decoded together, or `concurrency` clients that each wait for their answer.

    `max_sequences` is the most that the engine works on at once; without it, memory alone bounds them. `context_tokens`
    is what a sequence may grow to. `flash_attention` is llama.cpp's, which it has on where the device can.
    `key_encoding` and `value_encoding` are those of the cache.
    """

    runtime: Runtime
    prompt_tokens: int = 512
    output_tokens: int = 128
    context_tokens: int = 640
    batch: int = 1
    concurrency: int | None = None
    key_encoding: Encoding = BF16
    value_encoding: Encoding = BF16
    utilization: float | None = None
    threads: int | None = None
    max_sequences: int | None = None
    flash_attention: bool = True

    @property
    def sequences(self) -> int:
        """Sequences that are in the machine at once when nothing holds them back."""
        return self.concurrency or self.batch

    @property
    def is_static(self) -> bool:
        """Whether the sequences start and end together, and no other client comes in between."""
        return self.concurrency is None

    @property
    def reserves(self) -> float | None:
        """The share of a device that the engine takes at start."""
        return self.runtime.reserves if self.utilization is None else self.utilization

    @property
    def kv(self) -> str:
        """The encodings of the cache as they are written."""
        key, value = self.key_encoding.name, self.value_encoding.name
        return key if key == value else f"{key}/{value}"

    @property
    def cache_bytes_per_element(self) -> float:
        """Bytes of one element of the cache, keys and values together on average."""
        return sum(e.bytes_per_block / e.elements_per_block for e in (self.key_encoding, self.value_encoding)) / 2

    def paged(self, tokens: Any) -> Any:
        """Cache cells that so many tokens take: whole pages. Takes arrays too.

        Example:
            >>> Service(runtime=RUNTIMES["vllm"]).paged(100)
            112
        """
        page = self.runtime.page_tokens
        return -(-tokens // page) * page


def service(
    runtime: str = "llama.cpp",
    *,
    prompt_tokens: int = 512,
    output_tokens: int = 128,
    context_tokens: int | None = None,
    batch: int | None = None,
    concurrency: int | None = None,
    kv: str | None = None,
    utilization: float | None = None,
    threads: int | None = None,
    max_sequences: int | None = None,
    flash_attention: bool = True,
) -> Service:
    """What is asked, checked: the context defaults to prompt and output together, and the batch to 1.

    Raises:
        UnknownNameError: for an unknown runtime or encoding of the cache.
        UnitError: when a number is none that can be asked for.
    """
    context = prompt_tokens + output_tokens if context_tokens is None else context_tokens
    if batch is not None and concurrency is not None:
        read = f"a batch of {batch} and {concurrency} clients"
        raise UnitError(read, "sequences decoded together, or clients of a closed loop", "leave one of them out")
    batch = 1 if batch is None else batch
    given = {"concurrency": concurrency, "number of threads": threads, "number of sequences": max_sequences}
    for name, value in (("prompt", prompt_tokens), ("context", context), ("batch", batch),
                        *((name, value) for name, value in given.items() if value is not None)):  # fmt: skip
        if not 1 <= value < 2**40:
            raise UnitError(f"the {name} is {value}", "a whole number of 1 or more", "correct it")
    if output_tokens < 0:
        raise UnitError(f"the output is {output_tokens}", "a whole number of 0 or more", "correct it")
    if utilization is not None and not 0 < utilization <= 1:
        raise UnitError(f"the utilization is {utilization}", "a share above 0 and up to 1", "correct it")
    if context < prompt_tokens + output_tokens:
        read = f"a context of {context:,} for prompts of {prompt_tokens:,} and answers of {output_tokens:,}"
        raise UnitError(read, "room for both", "enlarge --context, or shorten --prompt or --output")
    keys, _, values = (kv or "bf16").partition("/")
    engine = find_runtime(runtime)
    for name in (keys, values or keys):
        try:
            known = encodings.find(name).name in engine.caches
        except UnknownNameError:
            known = False
        if not known:
            raise UnknownNameError(f"cache encoding of {engine.name}", name, engine.caches, "name one of these")
    if not flash_attention and engine.splits_layers and encodings.find(values or keys).elements_per_block > 1:
        read = f"values of the cache in {values or keys} without flash attention"
        raise UnitError(read, "flash attention, which llama.cpp demands for them", "leave --no-flash-attention out")
    return Service(
        runtime=engine, prompt_tokens=prompt_tokens, output_tokens=output_tokens,
        context_tokens=context, batch=batch, concurrency=concurrency, key_encoding=encodings.find(keys),
        value_encoding=encodings.find(values or keys), utilization=utilization, threads=threads,
        max_sequences=max_sequences, flash_attention=flash_attention,
    )  # fmt: skip
