"""How long is a step in which so many sequences decode and so many tokens of prompts are worked on?

`StepTimes` is what the simulation of continuous batching needs of the engine behind `weigh fit`. For engines that batch
continuously it comes from the same fitted terms as their time per output token, without the term that stands for the
prompts of others: in the simulation these are steps of their own right. What a request waits outside of steps (network,
tokens of its text, scheduling, the engine's habit to send several tokens at once) was fitted to closed loops that were
simulated (`benchmarks/fit_load.py` writes `fits/load.toml`). For llama.cpp and for this machine it comes from static
plans at several batches and prompts, one after another.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.hardware.machine import Machine
from weighbridge.predict import speed, steps
from weighbridge.predict.demand import Demand, StoredWeights
from weighbridge.predict.service import Service

FITS = Path(__file__).parent / "fits" / "load.toml"


@functools.cache
def fits() -> Mapping[str, Any]:
    """The fitted delays, and the residuals of simulated closed loops."""
    return tomllib.loads(FITS.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of a step, in parts that add up.

    `base_s` has those of a step in which 0, 1, 2 ... sequences decode, `mixed_s` those of one with work on prompts
    beside, before that work: a mixture of experts reads more of them for many tokens. A token in the cache adds
    `cached_s`, a token of a prompt `token_s`, a pair of a prompt's token and one before it `pair_s`. Outside of steps a
    request waits `start_s`, `start_token_s` for each token of its prompt, and `start_steps` of its own steps.
    """

    base_s: NDArray[np.float64]
    mixed_s: NDArray[np.float64]
    cached_s: float
    token_s: float
    pair_s: float
    start_s: float = 0.0
    start_token_s: float = 0.0
    start_steps: float = 0.0

    @property
    def most(self) -> int:
        """Sequences that can be in the machine at once."""
        return len(self.base_s) - 1

    def times(self, factor: float) -> StepTimes:
        """The same when everything takes so many times as long."""
        return StepTimes(
            base_s=self.base_s * factor, mixed_s=self.mixed_s * factor, cached_s=self.cached_s * factor,
            token_s=self.token_s * factor, pair_s=self.pair_s * factor, start_s=self.start_s * factor,
            start_token_s=self.start_token_s * factor, start_steps=self.start_steps,
        )  # fmt: skip

    def prompt_s(self, tokens: float) -> float:
        """Seconds of a whole prompt that is worked on alone, in one step.

        Example:
            >>> alone, mixed = np.array([0.0, 2.0]), np.array([1.0, 2.0])
        >>> times = StepTimes(base_s=alone, mixed_s=mixed, cached_s=0.0, token_s=0.5, pair_s=0.0)
            >>> times.prompt_s(10)
            6.0
        """
        return float(self.mixed_s[0]) + tokens * self.token_s + tokens * tokens / 2 * self.pair_s

    def delay_s(self, prompt: Any, step_s: Any) -> Any:
        """Seconds that a request waits outside of steps; takes arrays."""
        return self.start_s + self.start_token_s * prompt + self.start_steps * step_s


def served(
    demand: Demand, stored: StoredWeights, machine: Machine, service: Service, most: int
) -> StepTimes | None:  # fmt: skip
    """Steps of an engine that batches continuously, of 0 to `most` sequences; None when a rate is unknown."""
    rates = speed.rates(machine, stored.recipe)
    if rates is None or math.isinf(rates.flops_per_s):
        return None
    delays = fits()["delay"].get(service.runtime.name, fits()["delay"]["others"])
    return served_at(demand, stored, rates, most, service.prompt_tokens, service.output_tokens,
                     service.cache_bytes_per_element, delays, speed.served_factors(service))  # fmt: skip


def served_at(
    demand: Demand, stored: StoredWeights, rates: steps.Rates, most: int, prompt: int, output: int,
    cache_bytes_per_element: float, delays: Mapping[str, float], factors: Sequence[float],
) -> StepTimes:  # fmt: skip
    """The same at these rates. Caches with a window count as at the middle of an answer."""
    others = [0.0 if name == "prompts" else factor for name, factor in zip(steps.SERVED_STEP, factors, strict=True)]

    def seconds(running: Any, context: float) -> Any:
        terms = steps.served_step(demand, stored, rates, running=running, prompt=context, output=0,
                                  cache_bytes_per_element=cache_bytes_per_element)  # fmt: skip
        return steps.weighted(terms, others)

    running = np.arange(0.0, most + 1.0)
    base = np.asarray(seconds(np.maximum(running, 1.0), 1e-9), dtype=np.float64)
    reading = others[steps.SERVED_STEP.index("experts")] * stored.expert_bytes / rates.bytes_per_s
    reading = reading * rates.pipeline / rates.devices
    more = steps.touched_share(demand, running + prompt) - steps.touched_share(demand, np.maximum(running, 1.0))
    middle = prompt + output / 2
    cached = (float(seconds(float(most), middle)) - float(base[-1])) / (most * middle)
    work = speed.fits()["first_token"]["vllm"]["prefill"] / rates.flops_per_s / rates.data / rates.pipeline
    first = float(steps.prefill_flops(demand, rates, 1.0))
    mean = float(steps.prefill_flops(demand, rates, float(prompt))) / prompt
    exchange = 0.0
    if rates.devices > 1:
        exchange = 4 * demand.num_layers * demand.hidden_size * 2 / rates.link_bytes_per_s
    return StepTimes(
        base_s=base, mixed_s=base + reading * more, cached_s=max(0.0, cached), token_s=work * first,
        pair_s=work * (mean - first) / (prompt / 2), start_s=delays["start"],
        start_token_s=delays["token"] * 1e-6 + delays["exchange"] * exchange, start_steps=delays["steps"],
    )  # fmt: skip


def of_plans(
    step_s: Callable[[int, int], float], prompt_s: Callable[[int], float], most: int, context: int, chunk: int
) -> StepTimes:
    """Steps from those of static plans: of so many sequences at a context, and of whole prompts.

    Between the batches that are asked for (powers of two) a step is taken as a straight line, and a prompt as so much
    for each step of at most `chunk` tokens, for each token and for each pair of tokens.

    Example:
        >>> prompt_s = lambda tokens: 5 * -(-tokens // 512) + tokens
        >>> times = of_plans(lambda n, tokens: 1 + n + 0.1 * n * tokens, prompt_s, 4, 100, 512)
        >>> times.mixed_s.round(6).tolist(), round(times.cached_s, 6), round(times.token_s, 6)
        ([5.0, 2.0, 3.0, 4.0, 5.0], 0.1, 1.0)
    """
    asked = sorted({*(2**power for power in range(most.bit_length())), most})
    short, long = 1, max(2, context)
    at_short = np.array([step_s(n, short) for n in asked])
    at_long = np.array([step_s(n, long) for n in asked])
    slopes = (at_long - at_short) / (np.array(asked) * (long - short))
    cached = float(slopes[-1])
    base = np.interp(np.arange(1, most + 1), asked, at_short - cached * np.array(asked) * short)
    lengths = (1, chunk, 8 * chunk)
    matrix = [[math.ceil(tokens / chunk), tokens, tokens * tokens / 2] for tokens in lengths]
    start, token, pair = np.linalg.solve(matrix, [prompt_s(tokens) for tokens in lengths])
    base = np.concatenate([[max(0.0, float(start))], base])
    return StepTimes(base_s=base, mixed_s=base, cached_s=max(0.0, cached),
                     token_s=max(0.0, float(token)), pair_s=max(0.0, float(pair)))  # fmt: skip
