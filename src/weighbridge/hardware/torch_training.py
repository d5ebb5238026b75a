"""What do the parts of a training step cost here under torch, on one thread? Each is timed alone, forward and backward.

A process of its own (`python -m weighbridge.hardware.torch_training`); it prints one JSON document, the fields of
`TrainingRates`. Seconds are those of the processor, the least of several, so that other programs do not count. What
lies between the products of a layer (norms, rotary positions, activation functions, residual sums) is timed with the
functions of transformers.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOKENS, ROWS, COLUMNS, RANK = 512, 1536, 768, 8
HEADS, HEAD_DIM, SEQUENCE = 8, 64, 512
VOCABULARY = 20_000
UPDATED = 4 << 20
"""Parameters of the matrix whose update is timed: larger than the caches of a core."""
HIDDEN, INNER = 384, 1024
TIMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRates:
    """Picoseconds on one thread, in fp32.

    `product_ps` is for a multiply-add of a product with weights, the mean of forward, inputs' and weights' gradients;
    `forward_score_ps` and `backward_score_ps` for a query's score of one head's dimension, causal, the later positions
    not counted; `logit_ps` for a logit's loss and gradient; `element_ps` for an element that a layer keeps for the
    backward pass, all that lies between its products; `adapter_ps` for a token and a row or column of an adapted
    matrix, all passes of the adapter; `update_ps` for a parameter that AdamW updates. `runtime_bytes` is what the
    process takes once it trains, beside tensors and imported code.
    """

    product_ps: float
    forward_score_ps: float
    backward_score_ps: float
    logit_ps: float
    element_ps: float
    adapter_ps: float
    update_ps: float
    runtime_bytes: int | None = None
    engine: str = ""


def kept_elements(hidden_size: int, inner_size: int, num_heads: int) -> int:
    """What a layer of a small Llama keeps of each token when all of it is trained."""
    return 10 * hidden_size + 4 * inner_size + num_heads + 2


def least_s(work: Callable[[], Any], times: int = TIMES) -> float:
    """The least processor time of some work, after a pass that is not counted."""
    work()
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def product_ps(torch: Any) -> float:
    """Of the three products of a matrix in training."""
    weight, inputs, outputs = torch.randn(ROWS, COLUMNS), torch.randn(TOKENS, COLUMNS), torch.randn(TOKENS, ROWS)
    seconds = least_s(lambda: (inputs @ weight.T, outputs @ weight, outputs.T @ inputs), 2 * TIMES)
    return seconds / (3 * ROWS * COLUMNS * TOKENS) * 1e12


def score_ps(torch: Any) -> tuple[float, float]:
    """Of causal attention, forward and backward."""
    heads = [torch.randn(2, HEADS, SEQUENCE, HEAD_DIM, requires_grad=True) for _ in range(3)]
    attend = torch.nn.functional.scaled_dot_product_attention
    gradient = torch.randn(2, HEADS, SEQUENCE, HEAD_DIM)
    forward = least_s(lambda: attend(*heads, is_causal=True))
    both = least_s(lambda: torch.autograd.grad(attend(*heads, is_causal=True), heads, gradient))
    scale = 1e12 / (2 * HEADS * HEAD_DIM * SEQUENCE * SEQUENCE / 2)
    return forward * scale, max(both - forward, 0.0) * scale


def logit_ps(torch: Any) -> float:
    """Of the loss of a token over the vocabulary."""
    logits = torch.randn(TOKENS, VOCABULARY, requires_grad=True)
    labels = torch.randint(0, VOCABULARY, (TOKENS,))
    seconds = least_s(lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), logits))
    return seconds / (TOKENS * VOCABULARY) * 1e12


def adapter_ps(torch: Any) -> float:
    """Of a low-rank adapter: its four sides' products and gradients, its scale and its sum."""
    down, up = torch.randn(RANK, COLUMNS, requires_grad=True), torch.randn(COLUMNS, RANK, requires_grad=True)
    inputs = torch.randn(TOKENS, COLUMNS, requires_grad=True)
    linear = torch.nn.functional.linear
    gradient = torch.randn(TOKENS, COLUMNS)

    def work() -> Any:
        outputs = gradient + 2.0 * linear(linear(inputs, down), up)
        found = torch.autograd.grad(outputs, (inputs, down, up), gradient)
        return found[0] + gradient

    return least_s(work, 4 * TIMES) / (TOKENS * 2 * COLUMNS) * 1e12


def update_ps(torch: Any) -> float:
    """Of AdamW."""
    weight = torch.nn.Parameter(torch.randn(UPDATED // 1024, 1024))
    weight.grad = torch.randn_like(weight)
    return least_s(torch.optim.AdamW([weight], lr=1e-6).step) / UPDATED * 1e12


def element_ps(torch: Any, llama: Any) -> float:
    """Of what lies between the products of a layer, forward and backward, as transformers writes it."""
    norms = [llama.LlamaRMSNorm(HIDDEN) for _ in range(2)]
    functional = torch.nn.functional
    stream, mixed, fed = (torch.randn(2, TOKENS // 2, HIDDEN, requires_grad=True) for _ in range(3))
    gate, up = (torch.randn(2, TOKENS // 2, INNER, requires_grad=True) for _ in range(2))
    leaves = (stream, mixed, fed, gate, up, *(norm.weight for norm in norms))
    angles = torch.randn(1, TOKENS // 2, HEAD_DIM)
    grown = torch.randn(2, TOKENS // 2, INNER)

    def work() -> Any:
        inputs = norms[0](stream)
        heads = inputs.view(2, TOKENS // 2, -1, HEAD_DIM).transpose(1, 2)
        query, key = llama.apply_rotary_pos_emb(heads, heads * 1.0, angles, angles)
        middle = stream + mixed
        again = norms[1](middle)
        ends = (query, key, inputs, again, again, functional.silu(gate) * up, middle + fed)
        given = [grown if end.shape == grown.shape else torch.ones_like(end) for end in ends]
        return torch.autograd.grad(ends, leaves, given)

    return least_s(work, 4 * TIMES) / (TOKENS * kept_elements(HIDDEN, INNER, HIDDEN // HEAD_DIM)) * 1e12


def status_bytes(key: str) -> int | None:
    """What Linux says of the memory of this process: VmRSS now, VmHWM at most; None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(f"{key}:")), None)
    except OSError:
        return None


def runtime_bytes(torch: Any, transformers: Any) -> int | None:
    """What a process takes beside its tensors once it trains: code that only then is read in, buffers of products."""
    before = status_bytes("VmRSS")
    config = transformers.LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=1, vocab_size=256,
                                      num_attention_heads=1, num_key_value_heads=1, use_cache=False)  # fmt: skip
    model = transformers.LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.zeros(2, 64, dtype=torch.long)
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = status_bytes("VmHWM")
    return None if before is None or after is None else after - before


def main() -> None:
    """Times every part and prints the document."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    llama: Any = importlib.import_module("transformers.models.llama.modeling_llama")
    torch.set_num_threads(1)
    taken = runtime_bytes(torch, transformers)
    forward, backward = score_ps(torch)
    document = {
        "product_ps": product_ps(torch),
        "forward_score_ps": forward,
        "backward_score_ps": backward,
        "logit_ps": logit_ps(torch),
        "element_ps": element_ps(torch, llama),
        "adapter_ps": adapter_ps(torch),
        "update_ps": update_ps(torch),
        "runtime_bytes": taken,
        "engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
