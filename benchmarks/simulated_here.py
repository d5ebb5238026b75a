"""Do simulated loads agree with a real server under the same loads? `benchmarks/served_here.json`, run by run.

    python benchmarks/simulated_here.py [MODEL.gguf]

Each load that `benchmarks/served_here.py` ran is simulated with the same requests, at the lengths of steps that were
measured on that server beside it; with MODEL also at those of a plan on this machine as `weigh probe` saved it. Prints
simulated over measured. Only runs count in which the server had its core.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks import served_here  # noqa: E402

from weighbridge.predict.load import Policy, simulate  # noqa: E402
from weighbridge.predict.step_times import StepTimes  # noqa: E402
from weighbridge.predict.traffic import STAGGER_S, Traffic  # noqa: E402

RESULTS = Path(__file__).with_name("served_here.json")
MEASURES, SHARES = ("ttft_s", "tpot_s", "e2e_s"), ("mean", "p50", "p90", "p99")


def measured_times(steps: list[dict[str, Any]], slots: int) -> StepTimes:
    """Steps as they were measured: of sequences that decode, at two contexts, and of prompts alone."""
    found = {(one["sequences"], one["context"], one["prompt_tokens"]): one["step_s"] for one in steps}
    short, long = 64, 256
    cached = (found[slots, long, 0] - found[slots, short, 0]) / (slots * (long - short))
    known = sorted(one["sequences"] for one in steps if one["context"] == short and not one["prompt_tokens"])
    at_none = [found[sequences, short, 0] - sequences * short * cached for sequences in known]
    base = np.interp(np.arange(slots + 1), known, at_none)
    # What prompts add to a step, alone and beside sequences: a start, so much a token, so much a pair of tokens.
    rows, added = [], []
    for one in steps:
        if tokens := one["prompt_tokens"]:
            rows.append([1.0, tokens, tokens**2 / 2])
            decoding = base[one["sequences"]] + cached * one["sequences"] * one["context"] if one["sequences"] else 0.0
            added.append(one["step_s"] - decoding)
    weight = 1 / np.array(added)[:, None]
    start, token, pair = np.linalg.lstsq(np.array(rows) * weight, np.ones(len(rows)), rcond=None)[0]
    mixed = np.concatenate([[0.0], base[1:]]) + start
    return StepTimes(base_s=base, mixed_s=mixed, cached_s=cached, token_s=float(token), pair_s=float(pair))


def traffic_of(load: dict[str, Any]) -> Traffic:
    """The requests of a load, as the server had them."""
    prompt, output = (served_here.Lengths(**load[name]) for name in ("prompt", "output"))
    asked = served_here.workload(load["requests"], load["seed"], prompt, output, load.get("rate"))
    return Traffic(arrival_s=np.array([STAGGER_S * place if one.due_s is None else one.due_s
                                       for place, one in enumerate(asked)]),
                   prompt_tokens=np.array([one.prompt_tokens for one in asked]),
                   output_tokens=np.array([one.output_tokens for one in asked]))  # fmt: skip


def compared(load: dict[str, Any], times: StepTimes, budget: int) -> dict[str, dict[str, float]]:
    """Simulated over measured, for each measure and each of its mean and percentiles."""
    outcome = simulate(times, Policy(budget=budget), traffic_of(load), clients=load.get("clients", 0))
    runs = [run for run in load["runs"] if run["usable"]]
    found: dict[str, dict[str, float]] = {}
    for name in MEASURES:
        simulated = [outcome.mean(name), *(outcome.percentiles(name, [50, 90, 99]) or ())]
        real = [statistics.median(run[name][share] for run in runs) for share in SHARES]
        found[name] = {
            share: (ours or 0.0) / theirs for share, ours, theirs in zip(SHARES, simulated, real, strict=True)
        }
    return found


def planned_times(model: Path) -> StepTimes:
    """Steps of a plan on this machine."""
    from weighbridge.load_engine import engine
    from weighbridge.predict.traffic import Lengths

    return engine(str(model), "here", Lengths(prompt_tokens=64, output_tokens=32), threads=1).times


def main() -> None:
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))
    times = {"measured steps": measured_times(recorded["steps"], recorded["engine"]["slots"])}
    if len(sys.argv) > 1:
        times["planned steps"] = planned_times(Path(sys.argv[1]))
    for kind, one in times.items():
        print(kind)
        for load in recorded["loads"]:
            if any(run["usable"] for run in load["runs"]):
                found = compared(load, one, recorded["engine"]["batch_tokens"])
                words = "  ".join(
                    f"{name} " + " ".join(f"{ratio:.2f}" for ratio in found[name].values()) for name in found
                )
                print(f"  {load['loop']:6} {load.get('clients') or load['share']:<5} {words}")


if __name__ == "__main__":
    main()
