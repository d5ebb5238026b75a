"""What do a weight and a layer cost here under torch? Products by number format, and a small model of transformers.

A process of its own (`python -m weighbridge.hardware.torch_kernels`), with one thread; it prints one JSON document of
the form of `kernels`. A layer does more than products: what is left of the time of a small random model, for one token
and for each element of the hidden states of a prompt, is timed too.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from weighbridge.hardware.kernels import resident_bytes

TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ROWS, COLUMNS, TOKENS = 1536, 768, 256
DECODE_BYTES = 256 << 20
"""Larger than the caches of servers, so that weights come from memory."""
TIMES = 3
HIDDEN, INNER, HEADS = 256, 768, 4
FEW_LAYERS, MANY_LAYERS = 2, 10


def median_s(work: Callable[[], Any], times: int = TIMES) -> float:
    """The median time of some work, after a pass that is not counted."""
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def product_ps(torch: Any, name: str, matrices: int, tokens: int) -> float:
    """Picoseconds for a weight and token, the weights of so many matrices multiplied one after another."""
    kind = getattr(torch, TYPES[name])
    matrix = torch.randn(ROWS, COLUMNS).to(kind)
    held = [matrix.clone() for _ in range(matrices)]
    inputs = torch.randn(1, tokens, COLUMNS).to(kind)
    seconds = median_s(lambda: [torch.nn.functional.linear(inputs, matrix) for matrix in held])
    return seconds / (matrices * ROWS * COLUMNS * tokens) * 1e12


def layer_s(torch: Any, transformers: Any, tokens: int) -> float:
    """Seconds that one layer of a small model takes for so many new tokens, in bf16."""
    taken = []
    for layers in (FEW_LAYERS, MANY_LAYERS):
        config = transformers.LlamaConfig(
            hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=layers, num_attention_heads=HEADS,
            num_key_value_heads=HEADS, vocab_size=256,
        )  # fmt: skip
        model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
        ids = torch.zeros(1, tokens, dtype=torch.long)
        first = model(input_ids=torch.zeros(1, TOKENS, dtype=torch.long), use_cache=True).past_key_values

        def work(model: Any = model, ids: Any = ids, first: Any = first) -> Any:
            return model(input_ids=ids, past_key_values=first if tokens == 1 else None, use_cache=True)

        taken.append(median_s(work, 3 * TIMES))
    return max(0.0, taken[1] - taken[0]) / (MANY_LAYERS - FEW_LAYERS)


def main() -> None:
    """Times every format and a layer, and prints the document."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.set_num_threads(1)
    with torch.inference_mode():
        one, many = layer_s(torch, transformers, 1), layer_s(torch, transformers, TOKENS)
        process_bytes = resident_bytes()
        weight, prompt = {}, {}
        for name in TYPES:
            size = ROWS * COLUMNS * (4 if name == "fp32" else 2)
            weight[name] = round(product_ps(torch, name, DECODE_BYTES // size, 1), 2)
            prompt[name] = round(product_ps(torch, name, 2, TOKENS), 2)
    products = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER
    document = {
        "engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "weight_ps": weight, "prompt_ps": prompt, "process_bytes": process_bytes,
        "layer_s": max(0.0, one - products * weight["bf16"] * 1e-12),
        "hidden_ps": max(0.0, many * 1e12 / TOKENS - products * prompt["bf16"]) / HIDDEN,
    }  # fmt: skip
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
