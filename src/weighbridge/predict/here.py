"""How fast will it run on this machine, whose kernels were timed? Weights by encoding at what each costs here.

One step: every weight at its measured picoseconds on one thread for so many sequences, shared by the threads and no
faster than the measured bandwidth of all of them; attention at those of 16-bit numbers; overhead a layer. A prompt:
the same with the picoseconds of many tokens at once; the head works on the last token only. No factor is fitted on
other machines, so this predicts only for runtimes whose kernels were timed here, and for encodings that they were timed
with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TypeVar

from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.machine import Machine
from weighbridge.hardware.measured import FEW, MANY, Kernels
from weighbridge.predict.demand import Demand, Read, StoredWeights
from weighbridge.predict.service import Service
from weighbridge.predict.speed import Speed, output_rate, per_second, request
from weighbridge.predict.steps import touched_share

T = TypeVar("T")

LAYER_S = 1e-4
"""Under llama.cpp, between the products of a layer: norms, positions, small vectors, about 20 operations of 5
microseconds."""
SCORE = 350
"""Under llama.cpp, what a score of attention costs beside its products, in products of fp16: heads of 64 and 256 told
them apart."""
COPIES = 4.0
"""Under transformers, what a product of attention costs in products with weights: the cache is copied for each token
and spread over the heads that share it. SmolLM2-135M at 4,016 tokens."""
SPREAD = {"decode": 0.45, "prefill": 0.45}
"""Half of the 90% interval in logarithms. SmolLM2-135M and Gemma-3-270M, one thread, on one busy machine whose own
rates moved by 1.5 between minutes; docs/how-to/measure-this-machine.md has the runs."""
SPREAD_TORCH = 0.6
"""The same under transformers: shapes that the probe did not time, random weights, the same machine."""
SPREAD_MIXTURE = 1.5
"""The same of the prompts of a mixture under transformers, which works on one expert after another: a small one of
eight experts took 3.7 times as long as its products."""
SPREAD_AFTER_RUNS = 0.30
RUNS_THAT_NARROW = 3
"""The same once so many runs of models here have corrected the factors; one run may have met a busy moment."""
NOT_TIMED = "a few sequences together are taken to cost what tokens of a prompt do: products of a few were not timed"
KIN = {"q5_k": "q5_1", "q2_k": "q3_k", "iq3_s": "iq4_xs", "iq3_xxs": "iq4_xs", "iq2_s": "iq4_xs", "iq2_xs": "iq4_xs",
       "iq2_xxs": "iq4_xs", "mxfp4": "iq4_nl"}  # fmt: skip


def is_timed(stored: StoredWeights, found: Kernels) -> bool:
    """Whether every encoding that a pass reads was timed, or one like it."""
    return bool(stored.read) and all(_ps(found.weight_ps, one.encoding) is not None for one in stored.read)


def speed(demand: Demand, stored: StoredWeights, machine: Machine, service: Service, kernels: Kernels) -> Speed:
    """The speed on the machine that was measured, under a runtime whose kernels were timed there."""
    found = machine.device.measured
    assert found is not None
    by_layers = service.runtime.splits_layers
    cores = machine.device.cores or found.threads
    threads = min(service.threads or cores, cores)
    sequences, prompt = service.sequences, service.prompt_tokens
    bytes_per_s = found.bytes_per_s_one if threads == 1 else found.bytes_per_s_all
    context = prompt + service.output_tokens / 2
    weights_s = 0.0
    for one in stored.read:
        touched = float(touched_share(demand, sequences)) if one.routed else 1.0
        alone = _ps(kernels.weight_ps, one.encoding)
        assert alone is not None
        more = together_ps(kernels, one.encoding, sequences) - alone
        weights_s += (touched * one.elements * alone + _worked(demand, one) * more) * 1e-12 / threads
    floor_s = (stored.dense_bytes + stored.expert_bytes * float(touched_share(demand, sequences))) / bytes_per_s
    is_bound = floor_s > weights_s
    widest = sum(flops for _, flops in demand.flops_per_position)
    share = demand.attention_flops(context) / (widest * context) if widest else 0.0
    score, cost = (SCORE, kernels.weight_ps["fp16"]) if by_layers else (0.0, COPIES * _widest_ps(stored, kernels))
    products = demand.attention_flops(context) / 2 + score * share * context * demand.num_heads * demand.num_layers
    attention_s = sequences * products * cost * 1e-12 / threads
    overhead_s = demand.num_layers * (LAYER_S if kernels.layer_s is None else kernels.layer_s)
    step_s = (max(weights_s, floor_s) + attention_s + overhead_s) * (kernels.decode_factor or 1.0)
    products = sum(_worked(demand, one) * (1 if one.is_head else prompt) * (_ps(kernels.prompt_ps, one.encoding) or 0.0)
                   for one in stored.read)  # fmt: skip
    scores = prompt * demand.attention_flops(prompt / 2) / 2 * kernels.prompt_ps["fp32"]
    between = prompt * demand.num_layers * demand.hidden_size * (kernels.hidden_ps or 0.0)
    chunks = math.ceil(prompt / service.runtime.batched_tokens)
    prefill_s = (products + scores + between) * 1e-12 / threads + chunks * overhead_s
    prefill_s *= kernels.prefill_factor or 1.0
    if not by_layers:
        prefill_s = max(prefill_s, step_s)  # a short prompt costs a token's launches
    spread = SPREAD if by_layers else {"decode": SPREAD_TORCH, "prefill": SPREAD_TORCH}
    if not by_layers and demand.num_experts:
        spread = {**spread, "prefill": SPREAD_MIXTURE}
    if kernels.runs >= RUNS_THAT_NARROW:
        spread = dict.fromkeys(spread, SPREAD_AFTER_RUNS)
    tpot, first = _interval(step_s, spread["decode"]), _interval(prefill_s, spread["prefill"])
    corrected = f", corrected by {kernels.runs} of the models that ran here" if kernels.runs else ""
    bound = "bandwidth" if is_bound else "overhead" if overhead_s > weights_s else "compute"
    notes = [f"from the kernels timed on this machine ({kernels.engine}), {threads} of {cores} cores{corrected}"]
    if 1 < sequences < MANY and not kernels.few_ps:
        notes.append(NOT_TIMED)
    whole = request(first.times(sequences), tpot, service.output_tokens)
    return Speed(
        prefill_tok_s=per_second(first, prompt), decode_tok_s=per_second(tpot, 1.0), ttft_s=first.times(sequences),
        tpot_s=tpot, request_s=whole, bound_by=bound,
        output_tok_s=output_rate(whole, service.output_tokens, sequences), notes=tuple(notes),
    )  # fmt: skip


def together_ps(kernels: Kernels, encoding: str, tokens: float) -> float:
    """Picoseconds of a weight for all tokens of a step: straight lines between the numbers of tokens that were timed.

    Example:
        >>> timed = Kernels(engine="x", weight_ps={"q4_0": 40.0}, few_ps={"q4_0": (60.0, 50.0, 30.0)},
        ...                 prompt_ps={"q4_0": 25.0})
        >>> [together_ps(timed, "q4_0", tokens) for tokens in (1, 2, 3, 64, 128)]
        [40.0, 120.0, 160.0, 1600.0, 3200.0]
    """
    alone, many = _ps(kernels.weight_ps, encoding), _ps(kernels.prompt_ps, encoding)
    assert alone is not None
    assert many is not None
    points = [(1.0, alone), (float(MANY), MANY * many)]
    if (few := _ps(kernels.few_ps, encoding)) is not None:
        points[1:1] = [(float(count), count * ps) for count, ps in zip(FEW, few, strict=True)]
    if tokens >= MANY:
        return tokens * many
    (before, low), (after, high) = next(pair for pair in pairwise(points) if tokens <= pair[1][0])
    return low + (high - low) * (tokens - before) / (after - before)


def _widest_ps(stored: StoredWeights, kernels: Kernels) -> float:
    """What a weight costs in the encoding that is slowest here, which is that of the cache under transformers."""
    return max(_ps(kernels.weight_ps, one.encoding) or 0.0 for one in stored.read)


def _worked(demand: Demand, one: Read) -> float:
    """Weights that one token is multiplied with."""
    return one.elements * (demand.experts_per_token / demand.num_experts if one.routed and demand.num_experts else 1.0)


def _ps(table: Mapping[str, T], encoding: str) -> T | None:
    return table.get(encoding, table.get(KIN.get(encoding, "")))


def _interval(seconds: float, spread: float) -> Estimate:
    return Estimate(seconds, seconds * math.exp(-spread), seconds * math.exp(spread), "s", Basis.MODELLED,
                    "from measurements of this machine")  # fmt: skip
