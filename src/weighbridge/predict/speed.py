"""How fast will it run? Terms of a pass times fitted factors, with an interval from what the fit got wrong elsewhere.

The factors lie in `fits/speed.toml`, apart from the makers' facts, with the measurements that they were fitted to and
the residuals on (model, device) pairs that were left out. `benchmarks/fit_speed.py` writes the file. A pair of engine
and device that nobody measured has a wider interval and says so.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.hardware.device import Device
from weighbridge.hardware.machine import Machine
from weighbridge.predict import steps
from weighbridge.predict.demand import Demand, StoredWeights
from weighbridge.predict.service import Service
from weighbridge.predict.steps import Number, Rates

FITS = Path(__file__).parent / "fits" / "speed.toml"
CLASSES = ("gpu", "hbm", "soc", "cpu")
DEFAULT_THREADS = 4
HOST_BYTES_PER_S = (25e9, 60e9, 200e9)
"""Bandwidth of a host's memory where none is named: two old channels, two of DDR5, a server's eight."""
BUS_BYTES_PER_S = (8e9, 20e9, 50e9)
"""Rate at which weights reach a card: PCIe 3 to 5 with 16 lanes, less what is lost."""
FEW_THREADS = 2.4
"""What a thread of few does over one of many: it has a fast core and a high clock. Four threads of an i9-13900K reached
0.4 of what all 24 cores did."""
LINK_BYTES_PER_S = (16e9, 100e9, 900e9)
"""Between devices whose link is unknown: PCIe, a slower and a faster link of their own."""
EAGER_LAYER_S = 7e-4
"""What transformers takes to launch a layer's kernels one by one, assumed: about thirty launches of 20 microseconds."""
UNMEASURED_WIDENS = 1.6
"""How much wider the interval is at least, in ratio, where nobody measured this engine on this device; and never
narrower than the residuals on devices that were left out whole."""

_BOUND = {
    "dense": "bandwidth", "experts": "bandwidth", "cache": "bandwidth", "weights": "bandwidth", "flops": "compute",
    "unpack": "compute", "prompts": "compute", "exchange": "link", "hops": "link", "layers": "overhead",
    "routed_layers": "overhead", "host": "overhead", "batch": "compute",
    "rereads": "bandwidth",
}  # fmt: skip


@functools.cache
def fits() -> Mapping[str, Any]:
    """The fitted factors."""
    return tomllib.loads(FITS.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one plan is. `decode_tok_s` is that of one sequence, `output_tok_s` of the whole machine, `request_s`
    from a request to the last token of its answer.
    """

    prefill_tok_s: Estimate
    decode_tok_s: Estimate
    ttft_s: Estimate
    tpot_s: Estimate
    request_s: Estimate
    output_tok_s: Estimate
    bound_by: str | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The part `speed` of the JSON contract."""
        return {
            "prefill_tok_s": self.prefill_tok_s.to_json(), "decode_tok_s": self.decode_tok_s.to_json(),
            "ttft_s": self.ttft_s.to_json(), "tpot_s": self.tpot_s.to_json(), "request_s": self.request_s.to_json(),
            "output_tok_s": self.output_tok_s.to_json(), "bound_by": self.bound_by,
        }  # fmt: skip


def device_class(device: Device) -> str:
    """The class whose factors a device has: cards with and without stacked memory, shared-memory chips, processors."""
    if device.memory_kind == "HBM":
        return "hbm"
    return {"gpu": "gpu", "accelerator": "hbm", "soc": "soc", "npu": "soc", "phone": "soc"}.get(device.kind, "cpu")


def arithmetic(recipe: str) -> str:
    """The number format that a kernel multiplies in when the weights are stored by this recipe."""
    return {"nvfp4": "fp4", "mxfp4": "fp4", "fp8": "fp8", "w8a8": "int8", "fp32": "fp32"}.get(recipe, "bf16")


def rates(machine: Machine, recipe: str) -> Rates | None:
    """The specified rates of a machine's devices; None when its memory bandwidth is unknown.

    An unknown rate of arithmetic is taken as so high that it binds nothing, which the caller has to say.
    """
    device = machine.device
    if device.memory_bytes_per_s is None:
        return None
    link = device.link_bytes_per_s or LINK_BYTES_PER_S[1]
    return Rates(
        bytes_per_s=device.memory_bytes_per_s, flops_per_s=flops_per_s(device, recipe) or math.inf,
        link_bytes_per_s=link, devices=machine.devices, tensor=machine.tensor_parallel,
        pipeline=machine.pipeline_parallel, data=machine.data_parallel,
    )  # fmt: skip


def flops_per_s(device: Device, recipe: str) -> float | None:
    """The dense peak of a device for weights stored by this recipe."""
    return device.peak_flops_per_s(arithmetic(recipe))


def prompt_flops_per_s(device: Device, threads: int | None = None) -> float | None:
    """The peak that llama.cpp's prompts run at: fp16 products summed in fp16, which GeForce cards do at twice the rate.

    Half of the int8 peak is that rate on all cards that have one. Elsewhere int8 may be that of an NPU, which llama.cpp
    does not use. A processor with few threads has their share of its peak.
    """
    rates = [device.peak_flops_per_s("fp16"), device.flops_per_s.get("int8", 0.0) / 2 if device.kind == "gpu" else None]
    peak = max((rate for rate in rates if rate), default=None)
    if peak is None or threads is None or device.cores is None or device_class(device) != "cpu":
        return peak
    return peak * min(1.0, FEW_THREADS * threads / device.cores)


def unpack_s(device: Device, demand: Demand, stored: StoredWeights, threads: int | None) -> float:
    """Seconds that a device takes to unpack and multiply all weights for one token, before its factor.

    Graphics processors unpack what is below 16 bits, at two operations a weight and the fp16 peak. Processors take so
    many picoseconds a weight and core, by encoding, as measured with four threads on one (`[cpu_weight_ps]`).
    """
    if device_class(device) != "cpu":
        peak = device.peak_flops_per_s("fp16")
        return 2.0 * stored.quantized_elements / peak if peak else 0.0
    elements = demand.dense_elements + demand.expert_elements
    cores = min(threads or DEFAULT_THREADS, device.cores or DEFAULT_THREADS)
    return elements * cpu_weight_ps(stored.recipe) * 1e-12 / cores


def cpu_weight_ps(recipe: str) -> float:
    """Picoseconds that one core takes for a weight in this encoding, or in its nearest kin that was measured."""
    table = fits()["cpu_weight_ps"]
    kin = [recipe, re.sub(r"_(s|m|l)$", "", recipe), *(name for name in table if name.startswith(recipe[:3]))]
    return float(next((table[name] for name in kin if name in table), table["others"]))


CLOSED_LOOP_ROOM = 2.0
"""Sequences that run at once in a closed loop, over those that would have room if all were at their longest: they are
not, and half of the queues that full lengths would make were not there in the measurements (docs/log.md)."""


def room(
    demand: Demand,
    stored: StoredWeights,
    rates: Rates,
    memory_bytes: float,
    share: float,
    tokens: Number,
    cache_bytes_per_element: float,
) -> Number:
    """Sequences of so many tokens that a machine's memory holds beside the weights; below 1 without room for any.

    Whole copies of the attention stand beside each other under data parallelism, and each device of a tensor-parallel
    group holds its heads of the cache.
    """
    copies = stored.dense_bytes + stored.table_bytes + stored.other_bytes
    weights = copies / (rates.tensor * rates.pipeline) + stored.expert_bytes / rates.devices
    free = share * memory_bytes - weights
    each = steps.cache_bytes(demand, tokens, rates.tensor, cache_bytes_per_element) / rates.pipeline
    return np.where(each == 0, np.where(free > 0, np.inf, 0.0), np.maximum(0.0, free) / np.maximum(each, 1e-9)
                    * rates.data)  # fmt: skip


def running(found: Number, clients: Number, together: float = 1.0) -> Number:
    """Sequences that are worked on at once: all clients, or those that have room.

    Without room for one, the speed is that of a machine that has it.
    """
    return np.where(found < 1.0, clients, np.minimum(clients, together * found))


def together(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, clients: Number, tokens: Number
) -> Number:
    """Sequences of so many tokens that a continuously batching engine works on at once in a closed loop."""
    found, inside = rates(machine, stored.recipe), clients
    if found is not None and machine.device.memory_bytes is not None:
        held = room(demand, stored, found, machine.device.memory_bytes, service.reserves or 0.9, tokens,
                    service.cache_bytes_per_element)  # fmt: skip
        inside = running(held, clients, CLOSED_LOOP_ROOM)
    return inside if service.max_sequences is None else np.minimum(inside, service.max_sequences)


@dataclass(frozen=True, slots=True)
class Step:
    """The time of a step, with what it consists of: terms, each with its factor."""

    names: tuple[str, ...]
    terms: list[Number]
    factors: list[float]
    running: Number

    @property
    def seconds(self) -> Number:
        """The whole."""
        return steps.weighted(self.terms, self.factors)


def step(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, sequences: Number, prompt: Number,
    output: Number,
) -> Step | None:  # fmt: skip
    """One step in which each sequence gets a token; None when the device's bandwidth is unknown.

    Sequences, prompts and answers may be arrays.
    """
    found, fit = rates(machine, stored.recipe), fits()
    if found is None:
        return None
    per_element = service.cache_bytes_per_element
    if service.runtime.steps == "served":
        if service.is_static:
            terms, _ = steps.static_batch(demand, stored, found, running=sequences, prompt=prompt, output=output,
                                          cache_bytes_per_element=per_element)  # fmt: skip
            own = static_factors(service.runtime.name, machine.device.name)
            return Step(steps.STATIC[:-1], terms, _launched(service, own, steps.STATIC[:-1]), sequences)
        inside = together(demand, stored, machine, service, sequences, prompt + output)
        terms = steps.served_step(demand, stored, found, running=inside, prompt=prompt, output=output,
                                  cache_bytes_per_element=per_element)  # fmt: skip
        return Step(steps.SERVED_STEP, terms, served_factors(service), inside)
    device, kind = machine.device, device_class(machine.device)
    terms = steps.decode_step(demand, stored, found, sequences=sequences, context=prompt + output / 2,
                              cache_bytes_per_element=per_element,
                              unpack_s=unpack_s(device, demand, stored, service.threads))  # fmt: skip
    device_own = math.exp(fit["decode"]["devices"].get(device.name, 0.0))
    factors = [fit["decode"][kind][name] * device_own for name in steps.DECODE]
    peak = prompt_flops_per_s(device, service.threads)
    if peak is None:
        return Step(steps.DECODE, terms, factors, sequences)
    # What more sequences multiply, at the rate of prompts; and in a closed loop the prompts of others.
    multiplied = max(1, demand.dense_elements + demand.expert_elements)
    work = fit["prefill"][kind]["flops"] + fit["prefill"][kind]["quantized"] * stored.quantized_elements / multiplied
    terms += [(sequences - 1.0) * demand.flops_per_token / peak]
    factors += [work]
    if not service.is_static:
        others = _prompt_s(demand, stored, machine, service, peak, prompt)
        terms += [np.maximum(0.0, sequences - 1.0) / np.maximum(output, 1) * others]
        factors += [1.0]
    return Step((*steps.DECODE, "batch", "prompts")[: len(terms)], terms, factors, sequences)


def served_factors(service: Service) -> list[float]:
    """Factors of the terms `SERVED_STEP` under an engine."""
    return _launched(service, fits()["served_step"], steps.SERVED_STEP)


def _launched(service: Service, factors: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Factors of terms, those of layers as transformers launches them where it is the engine."""
    slow = {"layers": EAGER_LAYER_S, "routed_layers": EAGER_LAYER_S} if service.runtime.name == "transformers" else {}
    return [slow.get(name, factors[name]) for name in names]


def speed(demand: Demand, stored: StoredWeights, machine: Machine, service: Service) -> Speed:
    """The speed of a plan.

    Example:
        >>> from weighbridge.planning import fit
        >>> fit("llama-3-8b", "rtx-3090", weights="q4_k_m").speed.bound_by
        'bandwidth'
    """
    found = step(demand, stored, machine, service, service.sequences, service.prompt_tokens, service.output_tokens)
    if found is None:
        return unknown(f"the memory bandwidth of {machine.device.title} is unknown")
    if machine.devices > 1 and machine.device.link_bytes_per_s is None and service.runtime.steps == "served":
        return _at_any_link(demand, stored, machine, service)
    kind = device_class(machine.device)
    way, metric, first = "decode", f"decode.{kind}", _single_prompt
    if service.runtime.steps == "served":
        way, metric, first = ("static", "static", _static_prompt) if service.is_static else (
            "served", "tpot", _served_prompt)  # fmt: skip
    known = is_measured(way, service.runtime.name, machine.device.name)
    notes = [] if known else [f"no data for {service.runtime.name} on {machine.device.title}: intervals are wider"]
    tpot = _interval(metric, float(found.seconds), "s", known)
    prefill, ttft = first(demand, stored, machine, service, found, tpot, known)
    if prefill.value is None:
        notes.append(prefill.note)
    if way == "decode" and not service.is_static:
        notes.append(f"closed loops were not measured under {service.runtime.name}: prompts of others are added")
    if float(found.running) < service.sequences:
        notes.append(
            f"about {float(found.running):,.0f} of the {service.sequences:,} clients run at once; the others wait"
        )
    whole = request(ttft, tpot, service.output_tokens)
    if way != "decode" and whole.value:
        fitted = _interval("static" if way == "static" else "request", whole.value, "s", known)
        whole = replace(fitted, low=max(fitted.low or 0.0, ttft.low or 0.0), note=whole.note)
    done = Speed(
        prefill_tok_s=prefill, decode_tok_s=per_second(tpot, 1.0, "token/s"), ttft_s=ttft, tpot_s=tpot,
        request_s=whole, output_tok_s=output_rate(whole, service.output_tokens, service.sequences),
        bound_by=_bound_by(found), notes=tuple(notes),
    )  # fmt: skip
    if service.runtime.name == "transformers":
        return _assumed(done, f"transformers is assumed to take {1000 * EAGER_LAYER_S:g} ms to launch a layer")
    return done


def _at_any_link(demand: Demand, stored: StoredWeights, machine: Machine, service: Service) -> Speed:
    """The speed of devices whose link is unknown: that of a middle one, between those of a slow and a fast one."""
    slow, middle, fast = (
        speed(demand, stored, replace(machine, device=replace(machine.device, link_bytes_per_s=rate)), service)
        for rate in LINK_BYTES_PER_S
    )

    spanned = middle
    for name in RATES:
        found: list[Estimate] = [getattr(one, name) for one in (slow, middle, fast)]
        if found[1].value is not None:
            bounds = [x for one in found for x in (one.low, one.high) if x is not None]
            wide = replace(found[1], low=min(bounds), high=max(bounds))
            spanned = replace(spanned, **{name: wide})  # type: ignore[arg-type]
    low, _, high = (f"{rate / 1e9:,.0f}" for rate in LINK_BYTES_PER_S)
    return _assumed(spanned, f"the link between the devices is unknown: {low} to {high} GB/s are assumed")


RATES = ("prefill_tok_s", "decode_tok_s", "ttft_s", "tpot_s", "request_s", "output_tok_s")


def _assumed(fast: Speed, note: str) -> Speed:
    """The same, resting on an assumption that a note names."""
    rates: dict[str, Any] = {name: replace(getattr(fast, name), basis=Basis.ASSUMED) for name in RATES}
    return replace(fast, notes=(*fast.notes, note), **rates)


def offloaded(
    fast: Speed, stored: StoredWeights, demand: Demand, service: Service, host_share: float, expert_share: float
) -> Speed:
    """The speed when shares of the layers, and of the experts in the others, stay with a processor that nobody named.

    Decoding reads them at the host's bandwidth; for a prompt they cross the bus once for every chunk.
    """
    if fast.tpot_s.value is None:
        return fast
    experts = host_share + (1 - host_share) * expert_share
    touched = stored.expert_bytes * float(steps.touched_share(demand, service.sequences))
    read = host_share * stored.dense_bytes + experts * touched
    tpot = _beside(fast.tpot_s.times(1 - read / (stored.dense_bytes + touched)), read, HOST_BYTES_PER_S)
    chunks = math.ceil(service.prompt_tokens / service.runtime.batched_tokens)
    moved = (host_share * stored.dense_bytes + experts * stored.expert_bytes) * chunks
    prefill, ttft = fast.prefill_tok_s, fast.ttft_s
    if prefill.value is not None:
        one = _beside(per_second(prefill, service.prompt_tokens, "s"), moved, BUS_BYTES_PER_S)
        prefill = per_second(one, service.prompt_tokens, "token/s")
        ttft = Estimate.sum([one.times(service.sequences), tpot])
    whole = request(ttft, tpot, service.output_tokens)
    return replace(
        fast, prefill_tok_s=prefill, tpot_s=tpot, ttft_s=ttft, decode_tok_s=per_second(tpot, 1.0, "token/s"),
        request_s=whole, output_tok_s=output_rate(whole, service.output_tokens, service.sequences),
        bound_by="bandwidth",
        notes=(*fast.notes, "layers on the processor: its memory is assumed to give 25 to 200 GB/s, the bus 8 to 50"),
    )  # fmt: skip


def _beside(seconds: Estimate, size_bytes: float, rate: tuple[float, float, float]) -> Estimate:
    """A time with that of so many bytes beside it, at an assumed rate: low, middle, high."""
    assert seconds.value is not None and seconds.low is not None and seconds.high is not None
    low, middle, high = rate
    return Estimate(seconds.value + size_bytes / middle, seconds.low + size_bytes / high,
                    seconds.high + size_bytes / low, seconds.unit, Basis.ASSUMED)  # fmt: skip


def request(ttft: Estimate, tpot: Estimate, output: int) -> Estimate:
    """Seconds from a request to its last token: the first token, and the others at their mean distance.

    The bounds add: those who know the residuals of the whole take them instead.

    Example:
        >>> first, each = (Estimate(x, x, x, "s", Basis.MODELLED) for x in (1.0, 0.1))
        >>> request(first, each, 11).value
        2.0
    """
    if output < 1 or ttft.value is None or tpot.value is None:
        return _missing("s", (ttft.note or tpot.note) if output else "no answers are asked for")
    assert ttft.low is not None and ttft.high is not None and tpot.low is not None and tpot.high is not None
    seconds = [first + (output - 1) * each for first, each in (
        (ttft.value, tpot.value), (ttft.low, tpot.low), (ttft.high, tpot.high))]  # fmt: skip
    return Estimate(seconds[0], seconds[1], seconds[2], "s", weakest([ttft.basis, tpot.basis]))


def output_rate(whole: Estimate, output: int, together: float) -> Estimate:
    """Tokens of answers a second of the whole machine, from the seconds of one request.

    Example:
        >>> output_rate(Estimate(2.0, 2.0, 2.0, "s", Basis.MODELLED), 11, 4).value
        22.0
    """
    if whole.value is None:
        return _missing("token/s", whole.note)
    return per_second(whole, output * together, "token/s")


def _no_prompts(machine: Machine) -> tuple[Estimate, Estimate]:
    note = f"the rate of arithmetic of {machine.device.title} is unknown: no speed of prompts"
    return _missing("token/s", note), _missing("s", note)


def _static_prompt(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, found: Step, tpot: Estimate, known: bool
) -> tuple[Estimate, Estimate]:
    """Tokens a second of the prompts of a static batch, and the time until all its sequences have their first token."""
    at = rates(machine, stored.recipe)
    assert at is not None
    if math.isinf(at.flops_per_s):
        return _no_prompts(machine)
    _, burst = steps.static_batch(demand, stored, at, running=found.running, prompt=service.prompt_tokens,
                                  output=service.output_tokens,
                                  cache_bytes_per_element=service.cache_bytes_per_element)  # fmt: skip
    tokens = float(found.running) * service.prompt_tokens
    seconds = float(burst) * static_factors(service.runtime.name, machine.device.name)["burst"]
    prompts = _interval("ttft", max(seconds, float(steps.read_once(demand, stored, at, tokens))), "s", known)
    return per_second(prompts, tokens, "token/s"), Estimate.sum([prompts, tpot])


def static_factors(runtime: str, device: str) -> dict[str, float]:
    """The factors of the terms `STATIC`: shared ones, times an engine's own on a device where it was measured."""
    fit = fits()["static"]
    own = fit["devices"].get(f"{runtime}/{device}", {})
    return {name: (name in steps.READ_IN_FULL) + fit["shared"][name] * own.get(kind, 1.0)
            for name, kind in steps.STATIC_KINDS.items()}  # fmt: skip


FIRST_TOKEN_NOTE = "the middle is where the mean error was smallest: 72% of the measurements were slower"


def _served_prompt(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, found: Step, tpot: Estimate, known: bool
) -> tuple[Estimate, Estimate]:
    """Tokens a second of prompts, and the time to the first token, where many are served."""
    at = rates(machine, stored.recipe)
    assert at is not None
    if math.isinf(at.flops_per_s):
        return _no_prompts(machine)
    start = fits()["first_token"].get(service.runtime.name, fits()["first_token"]["others"])
    terms = steps.first_token(demand, stored, at, step_s=float(found.seconds), running=found.running,
                              clients=service.sequences, prompt=service.prompt_tokens,
                              output=service.output_tokens)  # fmt: skip
    alone = {"prefill", "tokens", "exchange"}
    parts = {name: float(term) * start[name] for name, term in zip(steps.FIRST_TOKEN, terms, strict=True)}
    turns = max(1.0, service.sequences / float(found.running))
    read = float(steps.read_once(demand, stored, at, service.prompt_tokens))
    ttft = _interval("ttft", max(sum(parts.values()), read), "s", known)
    prompt = _interval("ttft", max(sum(parts[name] for name in alone) / turns, read), "s", known)
    return per_second(prompt, service.prompt_tokens, "token/s"), replace(ttft, note=FIRST_TOKEN_NOTE)


def _single_prompt(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, found: Step, tpot: Estimate, known: bool
) -> tuple[Estimate, Estimate]:
    """Tokens a second of a prompt, and the time to the first token, for one user of llama.cpp."""
    device = machine.device
    peak = prompt_flops_per_s(device, service.threads)
    if peak is None:
        return _no_prompts(machine)
    seconds = float(_prompt_s(demand, stored, machine, service, peak, service.prompt_tokens))
    prompt = _interval(f"prefill.{device_class(device)}", seconds, "s", known)
    burst = prompt.times(service.sequences) if service.is_static else prompt
    return per_second(prompt, service.prompt_tokens, "token/s"), Estimate.sum([burst, tpot])


def _prompt_s(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, peak: float, prompt: Number
) -> Number:  # fmt: skip
    """Seconds of one prompt under llama.cpp, never less than reading the weights takes."""
    at, fit = rates(machine, stored.recipe), fits()["prefill"]
    assert at is not None
    terms = steps.prefill_pass(demand, stored, replace(at, flops_per_s=peak), prompt=prompt,
                               chunk=service.runtime.batched_tokens)  # fmt: skip
    factors = [fit[device_class(machine.device)][name] for name in steps.PREFILL]
    seconds = steps.weighted(terms, factors) * math.exp(fit["devices"].get(machine.device.name, 0.0))
    alone = replace(at, devices=1, tensor=1, pipeline=1)
    return np.maximum(seconds, steps.read_once(demand, stored, alone, prompt))


def is_measured(kind: str, runtime: str, device: str) -> bool:
    """Whether rows of this kind (served, static, decode) of an engine on a device took part in the fit."""
    return device in fits()["measured"][kind].get(runtime, ())


def _interval(metric: str, value: float, unit: str, known: bool) -> Estimate:
    """A modelled value with the 90% interval of the residuals of its kind."""
    table = fits()["residuals"]
    for part in metric.split("."):
        table = table[part]
    low, high = table["low"], table["high"]
    if not known:
        low = min(low - math.log(UNMEASURED_WIDENS), table["unmeasured_low"])
        high = max(high + math.log(UNMEASURED_WIDENS), table["unmeasured_high"])
    return Estimate(value, value * math.exp(low), value * math.exp(high), unit, Basis.MODELLED)


def per_second(seconds: Estimate, amount: float, unit: str = "token/s") -> Estimate:
    """So much in a time, as a rate; the bounds change places."""
    assert seconds.value and seconds.low and seconds.high
    return Estimate(amount / seconds.value, amount / seconds.high, amount / seconds.low, unit, seconds.basis,
                    seconds.note)  # fmt: skip


def _bound_by(found: Step) -> str:
    """What takes most of the time, terms of one kind together."""
    shares: dict[str, float] = {}
    for name, term, factor in zip(found.names, found.terms, found.factors, strict=True):
        kind = _BOUND[name]
        shares[kind] = shares.get(kind, 0.0) + float(term) * factor
    return max(shares, key=lambda kind: shares[kind])


def _missing(unit: str, note: str) -> Estimate:
    return Estimate(None, None, None, unit, Basis.MODELLED, note)


def unknown(note: str) -> Speed:
    """A speed of which nothing is known, and why."""
    return Speed(prefill_tok_s=_missing("token/s", note), decode_tok_s=_missing("token/s", note),
                 ttft_s=_missing("s", note), tpot_s=_missing("s", note), request_s=_missing("s", note),
                 output_tok_s=_missing("token/s", note), bound_by=None, notes=(note,))  # fmt: skip
