"""What does llama.cpp's own parser make of a command line of its server, and does the server then answer so?

Run with a JSON document on standard input: `arguments` of `llama-server`, and with `requests` also how many prompts are
sent at once. The wheel `xllamacpp` exports `common_params_parse`; its `CommonParams` holds the C++ structure, which
begins with `n_predict`. The number that the parser knows the server by is found by an option that only the server has.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PARSE = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
ONLY_THE_SERVER_HAS = "--metrics"
MARK = 1_234_567


def begins_at(params: Any) -> int:
    """The offset of the structure in the object."""
    before, params.n_predict = params.n_predict, MARK
    size = type(params).__basicsize__
    found = [place for place in range(0, size - 4, 4) if ctypes.c_int.from_address(id(params) + place).value == MARK]
    params.n_predict = before
    assert len(found) == 1, found
    return found[0]


def parse(arguments: list[str], example: int) -> Any:
    """The parameters, or None where the parser refuses."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    library = ctypes.CDLL(sys.modules["xllamacpp.xllamacpp"].__file__ or "")
    function = library[PARSE]
    function.restype = ctypes.c_bool
    params = xllamacpp.CommonParams()
    words = [text.encode() for text in ("llama-server", *arguments)]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words)
    place = ctypes.c_void_p(id(params) + begins_at(params))
    return params if function(len(words), argv, place, example, None) else None


def values(params: Any) -> dict[str, Any]:
    """What the tests look at."""
    return {
        "model": params.model.path, "n_ctx": params.n_ctx, "n_parallel": params.n_parallel,
        "kv_unified": params.kv_unified, "n_ubatch": params.n_ubatch, "flash": int(params.flash_attn_type),
        "type_k": int(params.cache_type_k), "type_v": int(params.cache_type_v), "n_gpu_layers": params.n_gpu_layers,
        "threads": params.cpuparams.n_threads, "fit": params.fit_params, "cache_ram_mib": params.cache_ram_mib,
        "split_mode": int(params.split_mode), "tensor_split": list(params.tensor_split)[:4],
        "adapters": [adapter.path for adapter in params.lora_adapters], "draft": params.speculative.draft.mparams.path,
        "draft_tokens": params.speculative.draft.n_max,
    }  # fmt: skip


def main() -> None:
    order = json.load(sys.stdin)
    example = next(number for number in range(64) if parse([ONLY_THE_SERVER_HAS], number) is not None)
    params = parse(order["arguments"], example)
    if params is None:
        json.dump(None, sys.stdout)
        return
    found = values(params)
    if order.get("requests"):
        params.warmup, params.verbosity = False, 0
        server = importlib.import_module("xllamacpp").Server(params)
        prompts = [list(range(100 + n, 100 + n + order["prompt"])) for n in range(order["requests"])]

        def ask(prompt: list[int]) -> dict[str, Any]:
            answer = server.handle_completions({"prompt": prompt, "max_tokens": order["output"], "temperature": 0,
                                                "ignore_eos": True, "cache_prompt": False})  # fmt: skip
            return dict(json.loads(answer) if isinstance(answer, str | bytes) else answer)

        with ThreadPoolExecutor(len(prompts)) as pool:
            found["answers"] = [answer.get("usage") or answer for answer in pool.map(ask, prompts)]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
