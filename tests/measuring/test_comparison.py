"""Are repetitions summed up and held against the plan, and do failures of the engine's process become one sentence?"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pages import small_llama
from tests.test_unknown_families import write_safetensors

from weighbridge.errors import ConfigError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.hardware.measured import Kernels, Measured
from weighbridge.hardware.meter import Meter
from weighbridge.measuring import comparison
from weighbridge.measuring.comparison import RUNNERS, Compared, Repetition, run
from weighbridge.planning import fit

PS = dict.fromkeys(("fp32", "fp16", "bf16", "q4_0", "q4_k", "q5_0", "q6_k", "q8_0"), 40.0)
ORDER = {"repeat": 2}


def machine(runtime: str = "llama.cpp", **changes: Any) -> Device:
    facts: dict[str, Any] = {"weight_ps": PS, "prompt_ps": PS, "process_bytes": 30_000_000} | changes
    kernels = Kernels(engine="test", **facts)
    measured = Measured(threads=2, bytes_per_s_one=1e11, bytes_per_s_all=1e11, kernels={runtime: kernels})
    return Device(name="here", title="here", vendor="", kind="cpu", source="", checked=datetime.date(2026, 1, 1),
                  memory_bytes=8 << 30, memory_bytes_per_s=1e11, cores=2, measured=measured)  # fmt: skip


def answer(**changes: Any) -> str:
    timings = {"prompt_ms": 1000, "prompt_n": 512, "predicted_per_token_ms": 20}
    return (
        json.dumps(
            {"timings": timings, "peak_bytes": 5, "warm_up": False, "error": None, "started_s": 1.0, "ended_s": 2.0}
            | changes
        )
        + "\n"
    )


def reply(monkeypatch: pytest.MonkeyPatch, stdout: str, code: int = 0, stderr: str = "") -> None:
    done = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


def test_the_warm_up_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    reply(monkeypatch, answer(warm_up=True) + answer() + answer())
    runs = run(RUNNERS["gguf"], ORDER, 1.0, lambda text: None)
    assert len(runs) == 2
    assert (runs[0].prompt_s, runs[0].step_s) == (1.0, 0.02)


@pytest.mark.parametrize(
    ("stdout", "code", "stderr", "said"),
    [("", 1, "first\nno such arch\n", "no such arch"), (answer(error="too long"), 0, "", "too long"),
     (answer(), 0, "", "nothing"), (answer() * 3, -11, "", "nothing")],
)  # fmt: skip
def test_a_failure_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, stdout: str, code: int, stderr: str, said: str
) -> None:  # fmt: skip
    reply(monkeypatch, stdout, code, stderr)
    with pytest.raises(ConfigError, match=said):
        run(RUNNERS["gguf"], ORDER, 1.0, lambda text: None)


def test_a_run_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("x", 1.0)

    monkeypatch.setattr(subprocess, "run", never)
    with pytest.raises(ConfigError, match="had not finished"):
        run(RUNNERS["gguf"], ORDER, 1.0, lambda text: None)


def test_compared() -> None:
    one = Compared((1.0, 3.0, 2.0), Estimate(4.0, 1.5, 8.0, "s", Basis.MODELLED))
    assert (one.median, one.ratio, one.covered) == (2.0, 0.5, True)
    assert not Compared((1.0,), one.predicted).covered
    assert Compared((1.0,), Estimate(None, None, None, "s", Basis.MODELLED, "unknown")).ratio is None


def test_a_configuration_alone_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(small_llama()))
    with pytest.raises(ConfigError, match="a GGUF file, or a folder of safetensors"):
        comparison.measure(tmp_path / "config.json", machine())


def test_an_engine_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weighbridge.hardware.kernels.is_installed", lambda runtime: False)
    (tmp_path / "config.json").write_text(json.dumps(small_llama()))
    write_safetensors(tmp_path / "model.safetensors", {"model.norm.weight": (64,)})
    with pytest.raises(ConfigError, match=r"weighbridge\[torch\]"):
        comparison.measure(tmp_path, machine(), prompt_tokens=64, output_tokens=8)
    with pytest.raises(ConfigError, match="positions"):
        comparison.measure(tmp_path, machine(), prompt_tokens=512)


def test_the_plan_follows_the_runtimes_own_kernels() -> None:
    on = machine("transformers", layer_s=1e-3, hidden_ps=1e4, process_bytes=400_000_000)
    asked: dict[str, Any] = {"weights": "bf16", "threads": 1, "alternatives": False}
    torch, other = (fit("llama-3.2-1b", on, runtime=name, **asked) for name in ("transformers", "llama.cpp"))
    attention = 4 * 16 * 32 * 64 * 2 * 576 * 40e-12  # products with the keys and values of 576 tokens, four times
    assert torch.speed.tpot_s.value == pytest.approx(1.2359e9 * 40e-12 + 16e-3 + attention, rel=0.01)
    assert torch.memory.overhead_bytes.value == 400_000_000
    assert any("no data for llama.cpp" in note for note in other.notes)
    ollama = fit("llama-3.2-1b", machine(), runtime="ollama", **asked)
    assert ollama.speed == fit("llama-3.2-1b", machine(), runtime="llama.cpp", **asked).speed


def test_slower_kernels_slow_the_plan_and_threads_speed_it() -> None:
    model: dict[str, Any] = {"weights": "q8_0", "alternatives": False}
    slow = machine(weight_ps=dict.fromkeys(PS, 400.0))
    one = fit("llama-3.2-1b", machine(), threads=1, **model).speed
    two = fit("llama-3.2-1b", machine(), threads=2, **model).speed
    far = fit("llama-3.2-1b", slow, threads=1, **model).speed
    assert one.decode_tok_s.value and two.decode_tok_s.value and far.decode_tok_s.value and one.prefill_tok_s.value
    assert 0.04 < 1 / one.decode_tok_s.value < 0.07  # 1.24 G weights at 40 ps, and attention
    assert 1.5 < two.decode_tok_s.value / one.decode_tok_s.value < 2.0
    assert 8 < one.decode_tok_s.value / far.decode_tok_s.value < 10
    assert far.prefill_tok_s.value == one.prefill_tok_s.value


def test_sequences_decoded_together_cost_what_a_few_tokens_did() -> None:
    asked: dict[str, Any] = {"weights": "q8_0", "threads": 1, "alternatives": False}
    known = machine(few_ps={name: [70.0, 60.0, 50.0] for name in PS})

    def step_s(on: Device, batch: int) -> float:
        found = fit("llama-3.2-1b", on, batch=batch, **asked).speed.tpot_s.value
        assert found is not None
        return found

    weights = 1_235_746_816  # those that a token is multiplied with, the tied head included
    assert step_s(known, 1) == step_s(machine(), 1)
    for batch, more in ((2, 2 * 70 - 2 * 40), (4, 4 * 60 - 4 * 40), (3, 190 - 3 * 40), (8, 8 * 50 - 8 * 40)):
        assert step_s(known, batch) - step_s(machine(), batch) == pytest.approx(weights * more * 1e-12, rel=0.01)
    assert step_s(known, 64) == pytest.approx(step_s(machine(), 64))  # as many as a prompt's
    notes = [fit("llama-3.2-1b", on, batch=4, **asked).notes for on in (known, machine())]
    assert [any("were not timed" in note for note in one) for one in notes] == [False, True]


def test_a_kept_run_moves_the_plan_to_what_was_measured() -> None:
    kept = machine(decode_factor=2.0, prefill_factor=0.5, runs=1)
    before, after = (fit("llama-3.2-1b", on, weights="q8_0", threads=1, alternatives=False).speed
                     for on in (machine(), kept))  # fmt: skip
    assert before.tpot_s.value and after.tpot_s.value and before.ttft_s.value and after.ttft_s.value
    assert after.tpot_s.value == pytest.approx(2 * before.tpot_s.value)
    assert after.ttft_s.value == pytest.approx(before.ttft_s.value / 2)
    assert after.tpot_s.high and before.tpot_s.high
    assert after.tpot_s.high / after.tpot_s.value == pytest.approx(before.tpot_s.high / before.tpot_s.value)
    often = machine(decode_factor=2.0, runs=3)
    several = fit("llama-3.2-1b", often, weights="q8_0", threads=1, alternatives=False).speed
    assert several.tpot_s.high and several.tpot_s.value  # one run may have met a busy moment; three narrow the interval
    assert several.tpot_s.high / several.tpot_s.value < before.tpot_s.high / before.tpot_s.value
    assert any("corrected by 3" in note for note in several.notes)


def test_an_encoding_that_was_not_timed_falls_to_the_general_model_and_says_so() -> None:
    found = fit("llama-3.2-1b", machine(weight_ps={"fp32": 1.0, "fp16": 1.0}), weights="q4_k_m", alternatives=False)
    assert any("no data for llama.cpp" in note for note in found.notes)


def test_peak_memory_is_that_of_the_process_alone() -> None:
    """A process that starts another must not hand its own peak down."""
    held = bytearray(300_000_000)
    code = "from weighbridge.measuring.process import peak_resident_bytes as peak; print(peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert len(held) > 0
    assert 1_000_000 < int(done.stdout) < 200_000_000


class Trace:
    """A power that a test gives."""

    name, is_counter, wraps_j = "planted", False, None

    def read(self) -> float:
        return 40.0


def test_energy_is_that_of_each_repetition_and_its_tokens() -> None:
    """40 W over two repetitions of 2 s and 3 s with 8 tokens each: 10 and 15 joules a token."""
    plan = fit("llama-3.2-1b", machine(), weights="q8_0", output_tokens=8, threads=1, alternatives=False)
    clock = iter(range(12))
    meter = Meter([Trace()], lambda: float(next(clock)))
    for _ in range(12):
        meter.sample()
    runs = [Repetition(1.0, 512, 0.1, None, 1.5, 3.5), Repetition(1.0, 512, 0.1, None, 4.0, 7.0)]
    energy, notes = comparison.metered(plan, runs, meter)
    assert energy["j_per_output_token"].values == pytest.approx((10.0, 15.0))
    assert energy["average_power_w"].values == pytest.approx((40.0, 40.0))
    assert "energy is that of planted" in notes[0]


def test_without_a_meter_the_estimate_stands_alone_and_says_so() -> None:
    plan = fit("llama-3.2-1b", machine(), weights="q8_0", output_tokens=8, threads=1, alternatives=False)
    runs = [Repetition(1.0, 512, 0.1, None, 1.5, 3.5)]
    for meter in (None, Meter([], lambda: 0.0, ("no counters",))):
        energy, notes = comparison.metered(plan, runs, meter)
        assert energy["j_per_output_token"].to_json()["measured"] is None
        assert energy["j_per_output_token"].ratio is None and "was not measured" in notes[0]
    rated = fit("llama-3.2-1b", replace(machine(), tdp_w=65.0), weights="q8_0", output_tokens=8, threads=1)
    energy, notes = comparison.metered(rated, runs, Meter([], lambda: 0.0, ("no counters",)))
    watts = energy["average_power_w"].predicted
    assert watts.low is not None and watts.high is not None and "(no counters)" in notes[0]
    assert 0 < watts.low < watts.high <= 65.0 * 1.0001 and watts.basis is not Basis.MEASURED
