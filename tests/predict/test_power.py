"""Does predicted power follow the work, stay between idling and the rated power, and come near what was metered?"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest

from weighbridge.estimate import Basis, Estimate
from weighbridge.planning import Plan, fit
from weighbridge.predict import power
from weighbridge.predict.demand import demand

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "perf" / "inference.csv"

# Metered: joules an output token of ML.ENERGY's leaderboard, vLLM in bf16; model, device, devices, sequences, prompt
# (ShareGPT's mean, or a short question), answer.
METERED = [
    ("llama-3.1-8b", "a100-sxm-40", 1, 128, 161, 481, 0.12392854384772282),
    ("llama-3.1-70b", "h100-sxm", 4, 256, 161, 458, 0.7741042098728245),
    ("llama-3.3-70b", "h100-sxm", 4, 16, 70, 410, 2.1016443053811678),
    ("qwen3-14b", "h100-sxm", 1, 128, 70, 614, 0.128),
]


def plan(model: str, device: str, **options: object) -> Plan:
    return fit(model, device, alternatives=False, runtime="vllm", **options)  # type: ignore[arg-type]


def watts(found: Plan, running: float) -> Estimate:
    architecture = found.inspection.architecture
    assert architecture is not None
    return power.watts(demand(architecture), found.weights, found.machine, found.service, running)


@pytest.mark.parametrize(("model", "device", "devices", "clients", "prompt", "answer", "metered"), METERED)
def test_metered_joules_are_inside_the_interval(
    model: str, device: str, devices: int, clients: int, prompt: int, answer: int, metered: float
) -> None:
    found = plan(model, device, devices=devices, concurrency=clients, prompt_tokens=prompt, output_tokens=answer).joules
    assert found.basis is Basis.MODELLED and found.low is not None and found.high is not None
    assert found.low <= metered <= found.high


def test_a_step_takes_the_sum_of_its_work_and_of_idling() -> None:
    terms = dict(zip(power.WORK, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), strict=True))
    factors = dict(zip((*power.WORK, "idle"), (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.1), strict=True))
    assert power.step_s(terms, 50.0, factors) == pytest.approx(6 + 5)


def test_power_lies_between_idling_and_the_rated_power_and_grows_with_sequences() -> None:
    found = plan("llama-3.1-70b", "h100-sxm", devices=4, concurrency=8)
    each = [watts(found, running).value or 0.0 for running in (0, 1, 8, 64, 512)]
    assert each == sorted(each) and each[0] < each[1]
    assert each[0] == power.idle_watts(found.machine).value and each[-1] <= 4 * 700
    for running in (0, 8, 512):
        one = watts(found, running)
        assert one.low is not None and one.high is not None and 0 < one.low <= one.high <= 4 * 700


def test_many_sequences_share_the_reading_of_the_weights() -> None:
    alone, many = (plan("llama-3.1-8b", "h100-sxm", concurrency=n).joules.value or 0.0 for n in (1, 64))
    # 16 GB at 3.35 TB/s and 700 W are 3.4 J for the one; the many share them.
    assert 1.0 < alone < 5.0 and many < alone / 5


def test_cards_that_nobody_metered_are_less_sure_and_others_assumed() -> None:
    def width(one: Estimate) -> float:
        assert one.low is not None and one.high is not None
        return one.high / one.low

    known, unknown = (plan("llama-3.1-8b", name, concurrency=8).joules for name in ("h100-sxm", "mi300x"))
    assert width(unknown) == pytest.approx(power.UNMETERED_WIDENS**2 * width(known))
    assert unknown.basis is Basis.MODELLED and "no metered runs" in unknown.note and not known.note
    card = plan("llama-3.1-8b", "rtx-4090", concurrency=8)
    assert card.joules.basis is Basis.ASSUMED and watts(card, 8).basis is Basis.ASSUMED
    assert watts(card, 8).value == pytest.approx(0.7 * 450)


def test_what_is_unknown_stays_unknown() -> None:
    phone = fit("qwen3-0.6b", "apple-m1-max", alternatives=False, weights="q4_k_m")
    if phone.machine.device.tdp_w is None:
        assert phone.joules.value is None and "power" in phone.joules.note
    nothing = plan("llama-3.1-8b", "h100-sxm", output_tokens=0)
    assert nothing.joules.value is None and nothing.joules.note and nothing.speed.request_s.value is None


@pytest.mark.skipif(not DATA.exists(), reason="the collected measurements are not here")
def test_joules_are_as_near_as_the_table_says() -> None:
    prompts = {"task:chat": 161, "task:lm-arena-chat": 70}
    models = {"meta-llama/Meta-Llama-3.1-8B-Instruct": "llama-3.1-8b", "Qwen/Qwen3-8B": "qwen3-8b",
              "meta-llama/Llama-3.3-70B-Instruct": "llama-3.3-70b", "Qwen/Qwen3-32B": "qwen3-32b"}  # fmt: skip
    with DATA.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "energy_j_per_output_token"
                and row["model"] in models and row["input_len"] in prompts
                and row["hardware_key"] in ("a100-sxm-40", "h100-sxm")]  # fmt: skip
    errors = []
    for row in rows:
        found = plan(models[row["model"]], row["hardware_key"], devices=int(row["n_devices"]),
                     concurrency=int(row["batch_or_concurrency"]), prompt_tokens=prompts[row["input_len"]],
                     output_tokens=round(float(row["output_len"])))  # fmt: skip
        errors.append(abs((found.joules.value or 0.0) / float(row["value"]) - 1))
    assert len(errors) >= 30 and statistics.median(errors) < 0.15
