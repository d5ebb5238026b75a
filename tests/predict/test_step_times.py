"""Are the parts of a step those of the engine behind `weigh fit`, and do they add up to what was asked for?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.inspection import inspect
from weighbridge.planning import Plan, fit
from weighbridge.predict import speed, steps
from weighbridge.predict.demand import Demand, demand
from weighbridge.predict.step_times import StepTimes, fits, of_plans, served

SECONDS = st.floats(1e-6, 1.0)


def planned(model: str, device: str, **options: object) -> tuple[Plan, Demand]:
    architecture = inspect(model).architecture
    assert architecture is not None
    plan = fit(model, device, runtime="vllm", alternatives=False, **options)  # type: ignore[arg-type]
    return plan, demand(architecture)


@pytest.mark.parametrize(
    ("model", "device", "devices"),
    [("llama-3.1-8b", "h100-sxm", 1), ("llama-2-70b", "a100-sxm-80", 4), ("mixtral-8x7b", "h100-sxm", 2)],
)
def test_steps_of_an_engine_are_those_of_a_plan(model: str, device: str, devices: int) -> None:
    plan, need = planned(model, device, devices=devices, prompt_tokens=600, output_tokens=200)
    times = served(need, plan.weights, plan.machine, plan.service, 64)
    assert times is not None and times.most == 64
    rates = speed.rates(plan.machine, plan.weights.recipe)
    assert rates is not None
    factors = dict(zip(steps.SERVED_STEP, speed.served_factors(plan.service), strict=True)) | {"prompts": 0.0}
    for running, context in ((1, 1), (1, 700), (17, 300), (64, 700), (64, 2000)):
        terms = steps.served_step(need, plan.weights, rates, running=float(running), prompt=float(context), output=0.0,
                                  cache_bytes_per_element=plan.service.cache_bytes_per_element)  # fmt: skip
        expected = float(steps.weighted(terms, list(factors.values())))
        assert times.base_s[running] + times.cached_s * running * context == pytest.approx(expected, rel=1e-6)
    assert (np.diff(times.base_s) >= 0).all() and times.base_s[1] > 0
    # A step with a prompt reads nearly all experts; one without experts takes the same as without the prompt.
    shares = [float(steps.touched_share(need, tokens)) for tokens in (600.0, 1.0)]
    more = factors["experts"] * plan.weights.expert_bytes * (shares[0] - shares[1]) / devices / rates.bytes_per_s
    assert times.mixed_s[0] - times.base_s[0] == pytest.approx(more, abs=1e-12)
    # A prompt costs its FLOPs: the factor of those of first tokens, over the rate of the devices that share them.
    flops = float(steps.prefill_flops(need, rates, 600.0))
    factor = speed.fits()["first_token"]["vllm"]["prefill"]
    assert times.prompt_s(600) - times.mixed_s[0] == pytest.approx(flops * factor / rates.flops_per_s, rel=1e-6)
    assert times.prompt_s(1200) - times.mixed_s[0] >= 2 * (times.prompt_s(600) - times.mixed_s[0])
    # No step is shorter than reading, once, what it needs of the weights takes.
    assert times.base_s[1] > float(steps.read_once(need, plan.weights, rates, 1.0))


def test_a_step_is_near_to_one_of_the_closed_loop_without_prompts_of_others() -> None:
    plan, need = planned("llama-3.1-8b", "h100-sxm", prompt_tokens=128, output_tokens=2000, concurrency=8)
    times = served(need, plan.weights, plan.machine, plan.service, 8)
    assert times is not None and plan.speed.tpot_s.value is not None
    step_s = times.base_s[8] + times.cached_s * 8 * 1128
    assert step_s <= plan.speed.tpot_s.value <= 1.05 * step_s


def test_what_is_waited_outside_of_steps_depends_on_the_engine() -> None:
    plan, need = planned("llama-3.1-8b", "h100-sxm")
    delays = fits()["delay"]
    for runtime, name in (("vllm", "vllm"), ("sglang", "sglang"), ("transformers", "others")):
        service = fit("llama-3.1-8b", "h100-sxm", runtime=runtime, alternatives=False).service
        times = served(need, plan.weights, plan.machine, service, 4)
        assert times is not None
        assert times.start_steps == delays[name]["steps"] and times.start_s == delays[name]["start"]
        assert times.start_token_s == pytest.approx(delays[name]["token"] * 1e-6)
    several, _ = planned("llama-3.1-8b", "h100-sxm", devices=2)
    joined = served(need, several.weights, several.machine, several.service, 4)
    assert joined is not None and joined.start_token_s > delays["vllm"]["token"] * 1e-6


def test_an_unknown_rate_has_no_steps() -> None:
    plan, need = planned("llama-3.1-8b", "h100-sxm")
    for device in (replace(plan.machine.device, memory_bytes_per_s=None), replace(plan.machine.device, flops_per_s={})):
        assert served(need, plan.weights, replace(plan.machine, device=device), plan.service, 4) is None


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, st.integers(1, 100), st.integers(2, 9000),
       st.sampled_from([32, 512, 2048]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_straight_plans_are_found_again(
    start: float, each: float, cached: float, chunk_s: float, token: float, pair: float, most: int, context: int,
    chunk: int,
) -> None:  # fmt: skip
    times = of_plans(
        lambda running, tokens: start + each * running + cached * running * tokens,
        lambda tokens: chunk_s * math.ceil(tokens / chunk) + token * tokens + pair * tokens * tokens / 2,
        most, context, chunk,
    )  # fmt: skip
    running = np.arange(1, most + 1)
    # Bases are differences: what the cache adds at a long context is lost from their last digits.
    lost = 1e-12 * cached * most * context
    assert times.base_s[1:] == pytest.approx(start + each * running, rel=1e-6, abs=lost)
    assert times.cached_s == pytest.approx(cached, rel=1e-6)
    whole = chunk_s + token * chunk + pair * chunk * chunk / 2
    assert times.prompt_s(chunk) == pytest.approx(whole, rel=1e-6)


def test_a_bent_plan_is_met_at_powers_of_two_and_between_by_a_line() -> None:
    times = of_plans(lambda running, _: math.sqrt(running), lambda tokens: 1.0 * tokens, 12, 100, 512)
    assert times.base_s[[1, 2, 4, 8, 12]] == pytest.approx(np.sqrt([1, 2, 4, 8, 12]))
    assert times.base_s[6] == pytest.approx((2 + math.sqrt(8)) / 2) and times.most == 12


def test_everything_takes_so_many_times_as_long() -> None:
    times = StepTimes(base_s=np.array([0.0, 2.0]), mixed_s=np.array([1.0, 3.0]), cached_s=3.0, token_s=4.0,
                      pair_s=5.0, start_s=6.0, start_token_s=7.0, start_steps=8.0)  # fmt: skip
    twice = times.times(2)
    assert (twice.base_s.tolist(), twice.mixed_s.tolist()) == ([0.0, 4.0], [2.0, 6.0])
    assert (twice.cached_s, twice.token_s, twice.pair_s) == (6.0, 8.0, 10.0)
    assert twice.prompt_s(10) == 2 * times.prompt_s(10) == 2 * (1 + 40 + 250)
    # Outside: 6 + 7 x 10 + 8 x 2 seconds; eight steps are twice as long when their steps are.
    assert times.delay_s(10, 2.0) == 92 and twice.delay_s(10, 4.0) == 184
