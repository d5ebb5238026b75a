"""Runs a folder of safetensors through transformers, on the processor and in the number format that it is stored in.

A process of its own: `python -m weighbridge.measuring.transformers`. Nothing is fetched, no code of the folder is run
and nothing is unpickled. The time of the prompt is that until its last logits, those of the tokens after it are a mean.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from weighbridge.measuring.process import follow


def load(order: dict[str, Any]) -> Callable[[list[int]], dict[str, Any]]:
    """What runs a prompt."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.set_num_threads(order["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        order["path"],
        dtype=getattr(torch, order["dtype"]),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    ).eval()

    def answer(prompt: list[int]) -> dict[str, Any]:
        with torch.inference_mode():
            start = time.perf_counter()
            found = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
            token = found.logits[:, -1:].argmax(-1)
            first = time.perf_counter()
            for _ in range(order["output"] - 1):
                found = model(input_ids=token, past_key_values=found.past_key_values, use_cache=True)
                token = found.logits[:, -1:].argmax(-1)
            step_s = (time.perf_counter() - first) / (order["output"] - 1)
        return {"timings": {"prompt_ms": 1000 * (first - start), "prompt_n": len(prompt),
                            "predicted_per_token_ms": 1000 * step_s}}  # fmt: skip

    return answer


if __name__ == "__main__":
    follow(load)
