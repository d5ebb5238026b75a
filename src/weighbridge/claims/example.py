"""What is the number of a term for a model that everybody can look up? Each is computed when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import Inspection, inspect
from weighbridge.layer import count_layer
from weighbridge.model.architecture import Workload
from weighbridge.model.catalogue import find_model
from weighbridge.model.encodings import find
from weighbridge.planning import fit
from weighbridge.predict.counts import state_bytes
from weighbridge.predict.scaling_laws.laws import find_law
from weighbridge.predict.scaling_laws.optimum import RULE, predicted_loss
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import find_optimizer
from weighbridge.predict.training.schedule import implied_mfu
from weighbridge.predict.training.trained import trained
from weighbridge.training import train
from weighbridge.training_wish import Wish
from weighbridge.units import format_bytes, format_count, format_seconds

LARGE = "llama-2-70b"
SMALL = "llama-2-7b"
TOKENS_PER_WORD = 4 / 3
"""English: 100 tokens are about 75 words (OpenAI)."""


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence with its number, which the engine computed."""

    text: str
    value: float


def _model(name: str) -> Inspection:
    return inspect(find_model(name))


def _bytes(size: float) -> str:
    return format_bytes(round(size))


def cache_bytes(name: str, tokens: int) -> int:
    """Bytes that a named model keeps of so many tokens, at 16 bits."""
    architecture = _model(name).architecture
    assert architecture is not None
    return state_bytes(architecture, Workload(new_tokens=tokens), find("bf16"))


def adapter_parameters(name: str, rank: int, targets: tuple[str, ...] = ("q_proj", "v_proj")) -> int:
    """Parameters that adapters of a rank add to a named model."""
    architecture = _model(name).architecture
    assert architecture is not None
    return trained(architecture, Method(name="lora", rank=rank, targets=targets)).trainable


def states_bytes(name: str) -> int:
    """Bytes of weights, gradients and AdamW's states of a full training on one device."""
    return train(name, "h100-sxm", Wish(tokens=10**9, is_searched=False)).memory.states_bytes


def training_flops(name: str) -> float:
    """6 x active parameters x the tokens that its developer states."""
    model = find_model(name)
    assert model.training_tokens is not None
    return find_law(RULE).training_flops(_model(name).parameters.active_per_token, model.training_tokens)


def floor_s(name: str, device: str) -> float:
    """Seconds that one token takes at least: all active weights at 16 bits through the memory once."""
    bandwidth = find_device(device).memory_bytes_per_s
    assert bandwidth is not None
    return 2 * _model(name).parameters.active_per_token / bandwidth


def _cache() -> Example:
    size = cache_bytes(LARGE, 4096)
    return Example(f"Llama 2 70B keeps {size // 4096:,} bytes a token, {_bytes(size)} of 4,096 tokens", size)


def _lora() -> Example:
    count = adapter_parameters(LARGE, 8)
    return Example(f"rank 8 on queries and values of Llama 2 70B adds {count:,} parameters", count)


def _adapter() -> Example:
    size = 2 * adapter_parameters(LARGE, 16)
    return Example(f"an adapter of rank 16 on Llama 2 70B takes {_bytes(size)} beside "
                   f"{_bytes(2 * _model(LARGE).parameters.total)} of the model", size)  # fmt: skip


def _chinchilla() -> Example:
    law = find_law(RULE)
    tokens = law.optimal_tokens(law.flops_for_parameters(70e9))
    return Example(f"70B parameters suit {format_count(round(tokens))} tokens", tokens)


def _flops() -> Example:
    flops = training_flops("gpt-3")
    return Example(f"training GPT-3 took 6 x parameters x tokens = {flops:.4g} FLOP", flops)


def _moe() -> Example:
    counts = _model("mixtral-8x7b").parameters
    return Example(f"Mixtral 8x7B holds {counts.total:,} parameters and uses {counts.active_per_token:,} for a token",
                   counts.active_per_token)  # fmt: skip


def _quantization() -> Example:
    sizes = _model(LARGE).bytes_by_encoding
    return Example(f"Llama 2 70B: {_bytes(sizes['fp16'])} at 16 bits, {_bytes(sizes['q4_k_m'])} as q4_k_m",
                   sizes["q4_k_m"])  # fmt: skip


def _encoded(name: str, words: str) -> Callable[[], Example]:
    def made() -> Example:
        size = _model(SMALL).bytes_by_encoding[name]
        return Example(f"Llama 2 7B {words} takes {_bytes(size)}", size)

    return made


def _bits(name: str) -> Callable[[], Example]:
    def made() -> Example:
        bits = find(name).bits_per_weight
        return Example(f"{name} takes {bits:g} bits a weight", bits)

    return made


def _layer(spec: str) -> Callable[[], Example]:
    def made() -> Example:
        found = count_layer(spec)
        return Example(f"{spec}: {found.formula} = {found.parameters:,} parameters", found.parameters)

    return made


def _embedding() -> Example:
    counts = _model("smollm2-135m").parameters
    share = counts.embedding / counts.total
    return Example(f"SmolLM2 135M: {counts.embedding:,} of {counts.total:,} parameters, {share:.0%}", counts.embedding)


def _context() -> Example:
    longest = _model("gpt-3").longest_context or 0
    return Example(f"GPT-3 has {longest:,} positions", longest)


def _distillation() -> Example:
    small, large = (_model(name).parameters.total for name in ("distilbert-base", "bert-base"))
    return Example(f"DistilBERT has {1 - small / large:.1%} fewer parameters than BERT base", 1 - small / large)


def _gqa() -> Example:
    architecture = _model(LARGE).architecture
    assert architecture is not None
    ratio = architecture.num_heads / architecture.num_kv_heads
    return Example(f"Llama 2 70B has {architecture.num_heads} query heads on {architecture.num_kv_heads} key-value "
                   f"heads: a cache {ratio:g} times smaller", ratio)  # fmt: skip


def _mla() -> Example:
    small, large = cache_bytes("deepseek-v3", 1), cache_bytes(LARGE, 1)
    return Example(f"DeepSeek-V3 keeps {small:,} bytes a token, Llama 2 70B {large:,}", small)


def _fine_tuning() -> Example:
    size = states_bytes(LARGE)
    return Example(f"all of Llama 2 70B with AdamW: {_bytes(size)} before any activation", size)


def _zero() -> Example:
    size = states_bytes(LARGE) / 16
    return Example(f"stage 3 over 16 devices: {_bytes(size)} each of Llama 2 70B", size)


def _optimizer() -> Example:
    kept = find_optimizer("adamw").state_bytes
    size = kept * _model(SMALL).parameters.total
    return Example(f"AdamW keeps {kept:g} bytes a parameter: {_bytes(size)} for Llama 2 7B", size)


def _mfu() -> Example:
    share = implied_mfu(training_flops(LARGE), 1_720_320, find_device("a100-sxm-80").flops_per_s["bf16"])
    return Example(f"Llama 2 70B in 1,720,320 hours of an A100: {share:.1%}", share)


def _qlora() -> Example:
    size = 70e9 * find("q4_0").bits_per_weight / 8
    room = find_device("rtx-4090").memory_bytes or 0
    return Example(f"70B parameters in blocks of 4 bits take {_bytes(size)}, an RTX 4090 has {_bytes(room)}", size)


def _tpot() -> Example:
    seconds = floor_s(SMALL, "a100-sxm-80")
    return Example(f"Llama 2 7B at 16 bits on an A100: no less than {format_seconds(seconds)} a token", seconds)


def _latency() -> Example:
    plan = fit(SMALL, "a100-sxm-80", alternatives=False)
    seconds = plan.speed.request_s.value or 0.0
    return Example(f"Llama 2 7B on an A100 answers 128 tokens in about {format_seconds(seconds)}", seconds)


def _inference() -> Example:
    flops = 100 * (_model(SMALL).flops_per_token or 0)
    return Example(f"100 tokens of Llama 2 7B take {flops:.3g} FLOP, without attention to what came before", flops)


def _parameter() -> Example:
    total = _model(LARGE).parameters.total
    return Example(f"Llama 2 70B has {total:,}", total)


def _perplexity() -> Example:
    loss = predicted_loss("chinchilla-corrected", 70e9, 1.4e12).value or 0.0
    return Example(f"a loss of {loss:.2f} is a perplexity of {math.exp(loss):.2f}", math.exp(loss))


def _prompt() -> Example:
    architecture = _model(SMALL).architecture
    assert architecture is not None
    count = trained(architecture, Method(name="prompt", prompt_tokens=20)).trainable
    return Example(f"20 tokens before Llama 2 7B: {count:,} parameters", count)


def _pruning() -> Example:
    share = 0.01 * (4 + 4) / 4
    return Example(f"99% zeros in 32 bits: 1% x (4 + 4 bytes) / 4 bytes = {share:.0%} of the dense size", share)


def _roofline() -> Example:
    device = find_device("a100-sxm-80")
    assert device.memory_bytes_per_s is not None
    balance = device.flops_per_s["bf16"] / device.memory_bytes_per_s
    return Example(f"an A100 does {balance:.0f} operations in the time of reading one byte", balance)


def _square() -> Example:
    architecture = _model(SMALL).architecture
    assert architecture is not None
    short, long = (
        sum(one.flops for one in architecture.operations(Workload(new_tokens=n)) if one.path.endswith("scores"))
        for n in (2048, 4096)
    )
    return Example(f"twice the length, {long / short:.2f} times the operations of its scores", long / short)


def _token() -> Example:
    words = 140e9 / TOKENS_PER_WORD
    return Example(f"140B tokens are about {words / 1e9:.0f} billion English words, not 140", words)


def _data() -> Example:
    size, tokens = 2 * _model(LARGE).parameters.total, find_model(LARGE).training_tokens or 0
    return Example(f"Llama 2 70B read {format_count(tokens)} tokens, about {_bytes(4 * tokens)} of text, and holds "
                   f"{_bytes(size)} at 16 bits", 4 * tokens / size)  # fmt: skip


def _transformer() -> Example:
    parts = _model(LARGE).parameters.by_component
    share = parts["mlp"] / _model(LARGE).parameters.total
    return Example(f"{share:.0%} of Llama 2 70B lie in its feed-forward blocks", share)


EXAMPLES: Mapping[str, Callable[[], Example]] = {
    "adapter": _adapter, "attention": _layer("attention:768:12"), "batch normalization": _layer("batchnorm:64"),
    "bias": _layer("neuron:3"), "chinchilla": _chinchilla, "context window": _context, "distillation": _distillation,
    "embedding": _embedding, "fine-tuning": _fine_tuning, "flops": _flops, "fp8": _encoded("fp8", "in FP8"),
    "gqa": _gqa, "inference": _inference, "int8": _encoded("int8", "in INT8"),
    "k-quants": _encoded("q4_k_m", "as q4_k_m"), "kv cache": _cache, "latency": _latency, "lora": _lora, "mfu": _mfu,
    "mla": _mla, "moe": _moe, "mxfp4": _bits("mxfp4"), "nvfp4": _bits("nvfp4"), "optimizer": _optimizer,
    "parameter": _parameter, "perplexity": _perplexity, "prompt tuning": _prompt, "pruning": _pruning, "qlora": _qlora,
    "quantization": _quantization, "recurrent": _layer("lstm:128:256"), "roofline": _roofline,
    "self-attention": _square, "token": _token, "tpot": _tpot, "training data": _data, "transformer": _transformer,
    "zero": _zero,
}  # fmt: skip
"""What computes the example that a term of the glossary names."""
