"""Of what does the time of a pass consist? Terms in seconds, one for each thing that takes time, to be weighed.

Every function takes plain numbers or arrays of them, so that one plan and a million come from the same lines. A term is
what the machine would take at its specified rates; its factor says how far from that it is in practice.

Terms of a step that serves many sequences (engines that batch continuously): dense weights, touched experts, FLOPs, the
cache, overhead a layer and a routed layer, what devices exchange, host work a sequence, and the prompts of other
clients that are worked on in between. Of a step that decodes for one user (llama.cpp): weights and cache, unpacking of
quantized weights, overhead a layer, hops between devices. A static batch, whose prompts are all worked on before the
first token and which no other client joins, has the terms of serving without prompts of others, what attention reads
once more for each head that shares keys and values with others, and its own prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from weighbridge.predict.demand import Demand, StoredWeights

SERVED_STEP = ("dense", "experts", "flops", "cache", "layers", "routed_layers", "exchange", "host", "prompts")
STATIC = (*SERVED_STEP[:-1], "rereads", "burst")
STATIC_KINDS = {
    "dense": "reading", "experts": "reading", "cache": "reading", "flops": "compute", "burst": "compute",
    "layers": "overhead", "routed_layers": "overhead", "host": "overhead", "exchange": "exchange",
    "rereads": "rereads",
}  # fmt: skip
"""What each term of a static batch is a matter of: an engine on a device has one factor of its own for each kind."""
READ_IN_FULL = ("dense", "experts")
"""Terms of a static batch that can never be faster than specified: their factors are 1 and what is fitted."""
FIRST_TOKEN = (
    "start", "prefill", "step", "burst", "queue", "tokens", "exchange", "burst_exchange", "burst_reading",
)  # fmt: skip
PROMPT_TOKENS = 8192
"""The most prompt tokens of one pass, which reads the weights once; the engines' usual limit."""
DECODE = ("weights", "cache", "unpack", "layers", "hops")
PREFILL = ("flops", "quantized", "scores", "chunks")
PIPELINE_GAIN = 0.5
"""How much of the ideal gain of devices that work on different chunks at once is had, as an exponent (llama.cpp)."""

Number = Any
"""A number, or an array of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What each device can do, as specified, and how many of them work in which way; fields may be arrays."""

    bytes_per_s: Number
    flops_per_s: Number
    link_bytes_per_s: Number
    devices: Number = 1
    tensor: Number = 1
    pipeline: Number = 1
    data: Number = 1


def cache_bytes(demand: Demand, tokens: Number, tensor: Number, bytes_per_element: Number) -> Number:
    """Bytes of one sequence's cache that a device of a tensor-parallel group holds: heads divide, a latent does not."""
    total: Number = 0.0
    for cache in demand.caches:
        held = tokens if cache.window is None else np.minimum(tokens, cache.window)
        total = total + cache.elements_per_token * held / np.minimum(tensor, cache.heads)
    return total * bytes_per_element


def reread_bytes(demand: Demand, tokens: Number, tensor: Number, bytes_per_element: Number) -> Number:
    """Bytes that a kernel reads beside the cache itself when each query head reads its keys and values anew.

    Kernels of NVIDIA's cards share them between the heads of a group, those of the others mostly did not when they
    were measured. A cache of one head, as that of a latent, is shared by every kernel.
    """
    total: Number = 0.0
    for cache in demand.caches:
        if cache.heads > 1:
            held = tokens if cache.window is None else np.minimum(tokens, cache.window)
            each = demand.num_heads / cache.heads / tensor - 1 / np.minimum(tensor, cache.heads)
            total = total + cache.elements_per_token * held * np.maximum(0.0, each)
    return total * bytes_per_element


def touched_share(demand: Demand, tokens: Number) -> Number:
    """The share of the routed experts that so many tokens of one pass use."""
    if not demand.num_experts:
        return 0.0 * tokens
    return 1.0 - (1.0 - demand.experts_per_token / demand.num_experts) ** tokens


def read_once(demand: Demand, stored: StoredWeights, rates: Rates, tokens: Number) -> Number:
    """Seconds to read, once, the weights that a pass over so many tokens needs: no prompt is faster."""
    experts = stored.expert_bytes * touched_share(demand, tokens) / rates.devices
    return (stored.dense_bytes / rates.tensor / np.maximum(1, rates.pipeline) + experts) / rates.bytes_per_s


def prefill_flops(demand: Demand, rates: Rates, prompt: Number) -> Number:
    """FLOPs of one prompt on each device of the group that works on it, all groups of layers one after another."""
    routed = demand.expert_elements * demand.experts_per_token / demand.num_experts if demand.num_experts else 0.0
    attention: Number = 0.0
    for window, flops in demand.flops_per_position:
        seen = prompt / 2 if window is None else np.minimum(prompt / 2, window)
        attention = attention + flops * seen
    multiplied = 2 * (demand.dense_elements / rates.tensor + routed * rates.data / rates.devices)
    return (multiplied + attention / rates.tensor) * prompt


def served_step(
    demand: Demand,
    stored: StoredWeights,
    rates: Rates,
    *,
    running: Number,
    prompt: Number,
    output: Number,
    cache_bytes_per_element: Number,
) -> list[Number]:
    """The terms `SERVED_STEP` of one step in which so many sequences decode a token each, in seconds.

    A replica of the attention holds whole sequences. Groups of layers work on as many parts of the batch at once, and
    a token passes all of them: they divide what a batch costs, and not what one token waits for.
    """
    local = np.ceil(running / rates.data)
    parts = np.minimum(rates.pipeline, local)
    local, together = local / parts, running / parts
    several = rates.devices > 1
    cache = cache_bytes(demand, prompt + output / 2, rates.tensor, cache_bytes_per_element)
    routed = demand.expert_elements * demand.experts_per_token / demand.num_experts if demand.num_experts else 0.0
    stage = rates.devices / rates.pipeline
    flops = 2 * (demand.dense_elements * local / rates.tensor + routed * together / stage)
    exchanged = 4 * demand.num_layers * local * demand.hidden_size * 2 / rates.link_bytes_per_s
    return [
        stored.dense_bytes / rates.tensor / rates.bytes_per_s + 0.0 * running,
        stored.expert_bytes * touched_share(demand, together) / stage / rates.bytes_per_s,
        flops / rates.flops_per_s,
        local * cache / rates.bytes_per_s,
        demand.num_layers + 0.0 * running,
        demand.routed_layers + 0.0 * running,
        np.where(several, exchanged, 0.0),
        running + 0.0,
        np.minimum(np.maximum(0.0, local - 1) / np.maximum(output, 1), np.maximum(1.0, PROMPT_TOKENS / prompt))
        * prefill_flops(demand, rates, prompt)
        / rates.flops_per_s,
    ]


def static_batch(
    demand: Demand, stored: StoredWeights, rates: Rates, *, running: Number, prompt: Number, output: Number,
    cache_bytes_per_element: Number,
) -> tuple[list[Number], Number]:  # fmt: skip
    """The terms of one step of a static batch, and the seconds of all its prompts at the specified rate.

    Each replica works on its own prompts, and groups of layers on different ones at once.
    """
    terms = served_step(demand, stored, rates, running=running, prompt=prompt, output=output,
                        cache_bytes_per_element=cache_bytes_per_element)[:-1]  # fmt: skip
    again = reread_bytes(demand, prompt + output / 2, rates.tensor, cache_bytes_per_element)
    terms.append(np.ceil(running / rates.data) / np.minimum(rates.pipeline, np.ceil(running / rates.data)) * again
                 / rates.bytes_per_s)  # fmt: skip
    each = prefill_flops(demand, rates, prompt) / rates.flops_per_s
    return terms, each * (np.ceil(running / rates.data) + rates.pipeline - 1) / rates.pipeline


def first_token(
    demand: Demand,
    stored: StoredWeights,
    rates: Rates,
    *,
    step_s: Number,
    running: Number,
    clients: Number,
    prompt: Number,
    output: Number,
) -> list[Number]:
    """The terms `FIRST_TOKEN`: from a request to its first token, in a closed loop of so many clients.

    Those that run have the other terms among themselves. With n times as many clients, a request waits until n - 1
    whole answers have gone before it (Little's law): n times the other terms, and the tokens of those answers.
    """
    prefill = prefill_flops(demand, rates, prompt) / rates.flops_per_s
    turns = np.maximum(1.0, clients / running)
    clients = np.minimum(clients, running)
    exchange = np.where(rates.devices > 1, 4 * demand.num_layers * prompt * demand.hidden_size * 2
                        / rates.link_bytes_per_s, 0.0)  # fmt: skip
    read = (stored.dense_bytes / rates.tensor + stored.expert_bytes / rates.devices) / rates.bytes_per_s
    passes = np.ceil(clients / rates.data * prompt / PROMPT_TOKENS)
    return [
        turns,
        turns * prefill,
        turns * step_s,
        turns * clients / rates.data / rates.pipeline * prefill,
        (turns - 1.0) * np.maximum(output - 1, 0) * step_s,
        turns * prompt * 1e-6,
        turns * exchange,
        turns * clients / rates.data * exchange,
        turns * passes * read,
    ]


def decode_step(
    demand: Demand,
    stored: StoredWeights,
    rates: Rates,
    *,
    sequences: Number,
    context: Number,
    cache_bytes_per_element: Number,
    unpack_s: Number,
) -> list[Number]:
    """The terms `DECODE` of one step on devices that each hold a part of the layers and work one after another.

    `unpack_s` is what unpacking all of the weights takes.
    """
    weights = stored.dense_bytes + stored.expert_bytes * touched_share(demand, sequences)
    share = weights / max(1, stored.dense_bytes + stored.expert_bytes)
    cache = sequences * cache_bytes(demand, context, 1, cache_bytes_per_element)
    return [
        weights / rates.bytes_per_s + 0.0 * sequences,
        cache / rates.bytes_per_s,
        share * unpack_s,
        demand.num_layers + 0.0 * sequences,
        rates.devices - 1 + 0.0 * sequences,
    ]


def prefill_pass(demand: Demand, stored: StoredWeights, rates: Rates, *, prompt: Number, chunk: int) -> list[Number]:
    """The terms `PREFILL` of a whole prompt that is worked on in chunks: FLOPs, those of quantized weights once more,
    the scores of attention written and read, overhead a layer and chunk.

    Devices that hold a part of the layers each work on different chunks at once: n of them would need
    (chunks + n - 1) / n times what a chunk takes on one.
    """
    chunks = np.ceil(prompt / chunk)
    share = ((chunks + rates.devices - 1) / rates.devices / chunks) ** PIPELINE_GAIN
    alone = Rates(bytes_per_s=1.0, flops_per_s=1.0, link_bytes_per_s=1.0)
    seconds = prefill_flops(demand, alone, prompt) / rates.flops_per_s
    multiplied = max(1, demand.dense_elements + demand.expert_elements)
    scores = 4 * demand.num_layers * demand.num_heads * prompt * prompt / 2 / rates.bytes_per_s
    return [
        share * seconds,
        share * seconds * stored.quantized_elements / multiplied,
        share * scores,
        share * chunks * demand.num_layers,
    ]


def weighted(terms: list[Number], factors: list[float]) -> Number:
    """The sum of terms times factors."""
    return sum(term * factor for term, factor in zip(terms, factors, strict=True))
