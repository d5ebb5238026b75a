"""How much power do devices draw, and what energy does a token take? Work at the rates of the rated power, and idling.

The energy of a step, over the rated power (TDP), is a sum of seconds: what the step's work would take at the specified
rates, each kind times a factor (weights and experts read, the cache read, FLOPs of the step and of prompts), the host's
seconds a sequence while the devices wait, and the idle share of the step's time. Over the tokens of the step it is
joules a token; over its time, power, which is at most the rated one.

Energy follows the work more closely than power times time does: an engine that keeps devices waiting takes longer at
less power. The factors lie in `fits/power.toml`, fitted by `benchmarks/fit_power.py` to metered runs of vLLM on A100
and H100 (ML.ENERGY). Cards with stacked memory that were not metered have a wider interval; elsewhere a share of the
rated power is assumed.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.hardware.machine import Machine
from weighbridge.predict import speed, steps
from weighbridge.predict.demand import Demand, StoredWeights
from weighbridge.predict.service import Service
from weighbridge.predict.speed import Speed
from weighbridge.predict.steps import Number

FITS = Path(__file__).parent / "fits" / "power.toml"
WORK = ("dense", "experts", "cache", "flops", "prompts", "host")
"""Terms of `steps.SERVED_STEP` that take energy of their own; layers and exchange take that of idling."""
POWER_SHARE = (0.45, 0.7, 0.95)
"""Average power over rated power of a busy device where none was metered: low, middle, high."""
IDLE_SHARE = (0.05, 0.15, 0.35)
"""Power over rated power of a device that holds a model and waits, assumed: low, middle, high."""
UNMETERED_WIDENS = 1.5
"""How much wider the interval is, in ratio, on cards with stacked memory that nobody metered: assumed."""


@functools.cache
def fits() -> Mapping[str, Any]:
    """The fitted factors."""
    return tomllib.loads(FITS.read_text(encoding="utf-8"))


def step_s(terms: Mapping[str, Number], seconds: Number, factors: Mapping[str, float]) -> Number:
    """Seconds at rated power that take as much energy as one step does, whose time is given.

    Example:
        >>> step_s({name: 0.001 for name in WORK}, 0.01, dict.fromkeys((*WORK, "idle"), 0.5))
        0.008
    """
    return sum(terms[name] * factors[name] for name in WORK) + seconds * factors["idle"]


def is_modelled(machine: Machine, service: Service) -> bool:
    """Whether the fitted model describes this engine on this device: continuous batching on cards with HBM."""
    device = machine.device
    return (service.runtime.steps == "served" and service.runtime.name != "transformers"
            and device.kind == "gpu" and speed.device_class(device) == "hbm" and device.tdp_w is not None)  # fmt: skip


def idle_watts(machine: Machine) -> Estimate:
    """Watts of a machine's devices that hold a model and wait for requests."""
    if machine.device.tdp_w is None:
        return _missing("W", f"the power of {machine.device.title} is unknown")
    low, middle, high = (machine.devices * machine.device.tdp_w * share for share in IDLE_SHARE)
    return Estimate(middle, low, high, "W", Basis.ASSUMED, "rated power times 0.05 to 0.35")


def watts(demand: Demand, stored: StoredWeights, machine: Machine, service: Service, running: float) -> Estimate:
    """Average watts of a machine's devices while so many sequences are worked on; idle power at 0.

    What the metered engines kept the devices waiting counts as energy of a step, and not as its time. So power may come
    out above the rated one, where it ends, and watts times predicted seconds are then less than `joules`.

    Example:
        >>> from weighbridge.planning import fit
        >>> from weighbridge.predict.demand import demand
        >>> plan = fit("llama-3.1-8b", "h100-sxm", concurrency=64)
        >>> asked = demand(plan.inspection.architecture), plan.weights, plan.machine, plan.service
        >>> idle_watts(plan.machine).value < watts(*asked, 1).value < watts(*asked, 256).value <= 700
        True
    """
    idle = idle_watts(machine)
    if running <= 0 or idle.value is None or machine.device.tdp_w is None:
        return idle
    rated = machine.devices * machine.device.tdp_w
    found = _shares(demand, stored, machine, service, running) if is_modelled(machine, service) else None
    if found is None:
        low, middle, high = (rated * share for share in POWER_SHARE)
        return Estimate(middle, low, high, "W", Basis.ASSUMED, ASSUMED_NOTE)
    busy, seconds = found
    low, high = _residuals(machine.device)
    each = [min(rated, max(idle.low or 0.0, rated * busy / seconds * math.exp(side))) for side in (low, 0.0, high)]
    return Estimate(each[1], each[0], each[2], "W", Basis.MODELLED, _note(machine.device))


def joules(demand: Demand, stored: StoredWeights, machine: Machine, service: Service, fast: Speed) -> Estimate:
    """Joules an output token of the devices of a plan, its prompts included."""
    tdp, rate = machine.device.tdp_w, fast.output_tok_s
    if tdp is None:
        return _missing("J", "the power of this device is unknown")
    if not rate.value or not rate.low or not rate.high:
        return _missing("J", "the speed is unknown")
    rated = machine.devices * tdp
    if is_modelled(machine, service) and fast.tpot_s.basis is not Basis.ASSUMED:
        found = _shares(demand, stored, machine, service, float(service.sequences))
        if found is not None:
            low, high = _residuals(machine.device)
            value = rated * found[0] / _inside(demand, stored, machine, service, float(service.sequences))
            return Estimate(value, value * math.exp(low), value * math.exp(high), "J", Basis.MODELLED,
                            _note(machine.device))  # fmt: skip
    low, middle, high = (rated * share for share in POWER_SHARE)
    return Estimate(middle / rate.value, low / rate.high, high / rate.low, "J", Basis.ASSUMED, ASSUMED_NOTE)


ASSUMED_NOTE = "rated power times 0.45 to 0.95"


def _shares(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, sequences: float
) -> tuple[float, float] | None:
    """Seconds at rated power that one step takes as energy, and its time in seconds; None where it is unknown."""
    found, rates = (
        speed.step(demand, stored, machine, service, sequences, service.prompt_tokens, service.output_tokens),
        speed.rates(machine, stored.recipe),
    )
    if found is None or rates is None or math.isinf(rates.flops_per_s):
        return None
    return float(step_s(work(demand, stored, rates, service, float(found.running)), found.seconds,
                        fits()["factors"])), float(found.seconds)  # fmt: skip


def work(
    demand: Demand, stored: StoredWeights, rates: steps.Rates, service: Service, running: float
) -> dict[str, Number]:
    """The terms of a step of so many sequences in seconds, those of `WORK` among them."""
    terms = steps.served_step(demand, stored, rates, running=running, prompt=service.prompt_tokens,
                              output=max(1, service.output_tokens),
                              cache_bytes_per_element=service.cache_bytes_per_element)  # fmt: skip
    return dict(zip(steps.SERVED_STEP, terms, strict=True))


def _inside(demand: Demand, stored: StoredWeights, machine: Machine, service: Service, sequences: float) -> float:
    if service.is_static:
        return sequences
    tokens = service.prompt_tokens + service.output_tokens
    return float(np.asarray(speed.together(demand, stored, machine, service, sequences, tokens)))


def _residuals(device: Device) -> tuple[float, float]:
    table = fits()["residuals"]
    wider = 0.0 if device.name in fits()["metered"] else math.log(UNMETERED_WIDENS)
    return table["low"] - wider, table["high"] + wider


def _note(device: Device) -> str:
    return "" if device.name in fits()["metered"] else f"no metered runs on {device.title}: the interval is wider"


def _missing(unit: str, note: str) -> Estimate:
    return Estimate(None, None, None, unit, Basis.ASSUMED, note)
