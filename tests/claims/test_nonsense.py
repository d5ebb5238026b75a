"""Does nonsense get an answer and never a traceback, in time that grows with the text and no faster?"""

from __future__ import annotations

import json
import random
import time

import pytest

from weighbridge.claims.check import check
from weighbridge.claims.claim import Claim
from weighbridge.claims.parse import read_text

PIECES = (
    "Llama 2 70B", "GPT-3", "GPT-4", "ResNet-50", "SDXL", "CLIP ViT-L/14", "a 7B model", "70-175B", "1e300B", "0B",
    "-5B", "8x H100", "A100", "2xA10G", "needs", "runs on", "fits", "cannot", "trained on", "LoRA", "r=8 q,v",
    "KV cache", "activations", "weights", "in FP16", "4-bit", "80 GB", "0 GB", "1e308 GB", "4,096 tokens",
    "300B tokens", "0 tokens", "3.14e23 FLOPs", "1e25 FLOPs", "400 W", "688 MWh", "291 t", "66 cars", "$4.6M",
    "$2-3/h", "$0.10 per 1M tokens", "10M requests daily", "1,720,320 GPU-hours", "35 days", "70 ms", "8-15 tok/s",
    "98%", "<0.1%", "10,000x", "1/0", "0x", "99% sparse", "dormant", "router", "layers", "context window",
    "batch norm", "per block", "d=768 h=12", "d=0 h=0", "L=80 kv=8 hd=128", "7x7, 3 in, 64 out", "EU AI Act",
    "O(N^9)", "N = D/0", "r*(d+k", "27K*24", "sum", "Adam copies", "words", "optimal", "0 GB/s", "=", "->", ";",
    "\x00", "\u00b2", "10^25", "9x10^400", "\u0663", "\U0001f600",
)  # fmt: skip
KINDS = (
    "", "model_param_count", "layer_param_count", "growth_ratio", "training_cost", "moe_active", "inference_memory",
    "gpu_hours", "inference_cost", "precision_ratio", "tco", "pruning", "energy", "latency", "training_flops",
    "storage_size", "regulation", "chinchilla", "kv_cache", "lora_trainable", "carbon", "distillation", "throughput",
    "activation_memory", "other", "strange",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_words_gets_a_verdict(seed: int) -> None:
    chance = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(chance.choice(PIECES) for _ in range(chance.randint(0, most)))

    for _ in range(60):
        claims = [Claim(text(8), chance.choice(KINDS), text(2), text(4), str(name)) for name in range(3)]
        report = check(claims)
        assert len(report.findings) == 3
        json.dumps(report.to_json(), allow_nan=False)


def test_time_is_linear_in_the_sentences() -> None:
    sentences = ("Llama 2 70B needs {} GB for {} tokens.", "A 7B model takes {} ms for {} tokens on an A100.",
                 "GPT-3 has {}B parameters and read {}B tokens.", "Prices rose {}x to ${} per month.")  # fmt: skip

    def seconds(count: int) -> float:
        text = "\n\n".join(sentences[n % 4].format(n % 97 + 1, n % 89 + 2) for n in range(count))
        start = time.perf_counter()
        check(read_text(text.encode(), "a.md"))
        return time.perf_counter() - start

    seconds(50)
    assert seconds(1600) < 4 * 3 * seconds(400)
