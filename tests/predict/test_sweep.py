"""Does a sweep give the numbers of single plans, and how many a second?"""

from __future__ import annotations

import time

import numpy as np
import pytest

from weighbridge.hardware.catalogue import devices
from weighbridge.hardware.machine import machine
from weighbridge.inspection import inspect
from weighbridge.model import recipes
from weighbridge.planning import fit
from weighbridge.predict.demand import demand, stored_weights
from weighbridge.predict.service import service
from weighbridge.predict.sweep import sweep


@pytest.mark.parametrize(("model", "weights", "runtime"), [("llama-3-8b", "q4_k_m", "llama.cpp"),
                                                           ("mixtral-8x7b", "fp8", "vllm"),
                                                           ("deepseek-v3", "fp8", "sglang")])  # fmt: skip
def test_a_sweep_is_its_single_plans(model: str, weights: str, runtime: str) -> None:
    described = inspect(model).architecture
    assert described is not None
    machines = [machine(device, count, layers_split=runtime == "llama.cpp")
                for device in devices()[::40] for count in (1, 4)]  # fmt: skip
    batches, contexts = [1, 7, 64], [256, 4096, 32768]
    found = sweep(demand(described), stored_weights(described, recipes.find(weights)), machines,
                  service(runtime, output_tokens=128), batches, contexts)  # fmt: skip
    for place, built in enumerate(machines):
        for row, batch in enumerate(batches):
            for column, context in enumerate(contexts):
                plan = fit(model, built.device, devices=built.devices, weights=weights, runtime=runtime, batch=batch,
                           prompt_tokens=context - 128, output_tokens=128, alternatives=False)  # fmt: skip
                fits = found.fits[place, row, column]
                assert plan.memory.fits is (None if np.isnan(fits) else bool(fits))
                value = plan.speed.tpot_s.value
                if value is None:
                    assert np.isnan(found.tpot_s[place, row, column])
                else:
                    assert found.tpot_s[place, row, column] == pytest.approx(value, rel=1e-12)
                    assert found.decode_tok_s[place, row, column] == pytest.approx(1 / value)


def test_many_plans_take_little_time() -> None:
    described = inspect("mixtral-8x7b").architecture
    assert described is not None
    machines = [machine(device) for device in devices()[:100]]
    batches, contexts = list(range(1, 51)), [512 * n for n in range(1, 41)]
    need, stored, asked = demand(described), stored_weights(described, recipes.find("fp8")), service("vllm")
    begin = time.process_time()
    found = sweep(need, stored, machines, asked, batches, contexts)
    rate = found.fits.size / (time.process_time() - begin)
    assert found.fits.size == 200_000
    assert rate > 100_000  # the bar of the benchmark is twice that, on a machine that does nothing else
