"""Fits what requests wait outside of steps, by simulating closed loops that were measured, and says how far off it is.

    python benchmarks/fit_load.py ../shared/data

writes `src/weighbridge/predict/fits/load.toml` (delays by engine, residuals) and the table of loads in
`docs/reference/accuracy.md`. Steps come from `fits/speed.toml`, so that `benchmarks/fit_speed.py` runs first. Every
error figure is of rows whose (model, device) pair was left out of the fit of the delays; the factors of steps have seen
them. Lengths are drawn evenly from 0.8 to 1 of those named, as the clients of that collection do. Needs scipy.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks import measurements  # noqa: E402
from benchmarks.fit_speed import fit, quantile, unseen  # noqa: E402
from benchmarks.measurements import NAMES, RUNTIMES, Sample  # noqa: E402

from weighbridge.predict import load, speed, step_times  # noqa: E402
from weighbridge.predict.service import RUNTIMES as ENGINES  # noqa: E402
from weighbridge.predict.traffic import Traffic  # noqa: E402

FITS = ROOT / "src/weighbridge/predict/fits/load.toml"
ACCURACY = ROOT / "docs/reference/accuracy.md"
TURNS = 10
"""Requests of each client; the first two of each are left out."""
NO_DELAY = {"start": 0.0, "token": 0.0, "exchange": 0.0, "steps": 0.0}
PAGE = 16
TERMS = (
    "simulated",
    "token",
    "exchange",
    *(f"start.{name}" for name in RUNTIMES),
    *(f"steps.{name}" for name in RUNTIMES),
)
LOW = [0.9999, 1e-3, 1e-3, *(1e-4 for _ in RUNTIMES), *(1e-2 for _ in RUNTIMES)]
HIGH = [1.0001, 60.0, 10.0, *(0.5 for _ in RUNTIMES), *(40.0 for _ in RUNTIMES)]


def runs(rows: list[dict[str, str]]) -> list[tuple[dict[str, str], float, float]]:
    """Runs of the serving sample: a row, seconds to the first token, and seconds for each further one."""
    found: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if measurements.is_served(row) and row["metric"] in ("tpot_ms", "ttft_ms"):
            found[tuple(row[key] for key in row if key not in ("row_id", "metric", "value"))][row["metric"]].append(row)
    done = []
    for run in found.values():
        for tpot, ttft in zip(run["tpot_ms"], run["ttft_ms"], strict=False):
            done.append((tpot, float(ttft["value"]) / 1000, float(tpot["value"]) / 1000))
    return done


def simulated(row: dict[str, str]) -> tuple[float, float, float] | None:
    """Seconds to the first token and for each further one in the simulation, without delays; and a token's exchange."""
    parts = measurements.served_parts(row)
    if parts is None:
        return None
    found, weights, rates, _, clients, prompt, output, per_element = parts
    times = step_times.served_at(found, weights, rates, clients, prompt, output, per_element, NO_DELAY,
                                 list(speed.fits()["served_step"].values()))  # fmt: skip
    device = measurements.device_of(row)
    assert device is not None and device.memory_bytes is not None
    room = float(speed.room(found, weights, rates, device.memory_bytes, 0.9, 1, per_element))
    # Most runs do not say in what they keep the cache: eight bits have twice the room. Where there is none for one
    # request, the devices are not those that are named.
    pages = int(speed.CLOSED_LOOP_ROOM * room) // PAGE if room >= prompt + output else 0
    random = np.random.default_rng(7)
    many = TURNS * clients
    traffic = Traffic(arrival_s=np.zeros(many),
                      prompt_tokens=random.integers(max(1, 4 * prompt // 5), prompt + 1, many),
                      output_tokens=random.integers(max(1, 4 * output // 5), output + 1, many))  # fmt: skip
    budget = max(ENGINES["vllm"].batched_tokens, clients + 1)
    policy = load.Policy(budget=budget, pages=pages, page=PAGE)
    outcome = load.simulate(times, policy, traffic, clients=clients).after(2 * clients)
    ttft, tpot = outcome.mean("ttft_s"), outcome.mean("tpot_s")
    assert ttft is not None
    exchange = 0.0
    if rates.devices > 1:
        exchange = 4 * found.num_layers * found.hidden_size * 2 / rates.link_bytes_per_s
    return ttft, tpot or 0.0, exchange


def samples(rows: list[dict[str, str]]) -> tuple[Sample, np.ndarray, np.ndarray, np.ndarray]:
    """First tokens with their terms; simulated and measured seconds a token; and tokens of the answers."""
    first, tpot, measured, tokens = Sample(), [], [], []
    for row, ttft_s, tpot_s in runs(rows):
        found = simulated(row)
        if found is None:
            first.left_out[row["model"]] += 1
            continue
        simulated_s, step_s, exchange = found
        prompt = int(row["input_len"])
        own = [float(NAMES.get(row["runtime"], row["runtime"]) == name) for name in RUNTIMES]
        first.terms.append([simulated_s, prompt * 1e-6, prompt * exchange, *own, *(step_s * x for x in own)])
        first.measured.append(ttft_s)
        first.rows.append(row)
        tpot.append(step_s)
        measured.append(tpot_s)
        tokens.append(max(1, int(row["output_len"])) - 1)
    return first, np.array(tpot), np.array(measured), np.array(tokens)


def main(folder: Path) -> None:
    first, tpot, tpot_measured, tokens = samples(measurements.read_rows(folder))
    factors = dict(zip(TERMS, fit(first, LOW, HIGH), strict=True))
    ttft = unseen(first, LOW, HIGH)
    ttft_measured, weights = np.array(first.measured), first.weights
    few = np.array([int(row["batch_or_concurrency"]) <= 128 for row in first.rows])
    lines, residuals = [], []
    for name, title, predicted, measured, chosen in (
        ("ttft", "time to first token", ttft, ttft_measured, few | True),
        ("", "the same, up to 128 clients", ttft, ttft_measured, few),
        ("tpot", "time per output token", tpot, tpot_measured, few | True),
        ("e2e", "end to end", ttft + tokens * tpot, ttft_measured + tokens * tpot_measured, few | True),
    ):
        logs, error = np.log(measured / predicted)[chosen], np.abs(predicted / measured - 1)[chosen]
        weight = weights[chosen]
        low, high = quantile(logs, weight, 0.05), quantile(logs, weight, 0.95)
        if name:
            residuals.append(f"[residuals.{name}]\nlow = {low:.4g}\nhigh = {high:.4g}\n")
        lines.append(f"| {title} | {len(logs):,} | {quantile(error, weight, 0.5):.1%} | "
                     f"{float(np.average(error, weights=weight)):.1%} | {quantile(error, weight, 0.9):.1%} | "
                     f"{np.exp(-float(np.average(logs, weights=weight))) - 1:+.1%} |")  # fmt: skip
    delays = {
        name: {"start": factors[f"start.{name}"], "token": factors["token"], "exchange": factors["exchange"],
               "steps": factors[f"steps.{name}"]}
        for name in RUNTIMES
    }  # fmt: skip
    delays["others"] = delays["vllm"]
    written = "\n".join(
        f"[delay.{name}]\n" + "".join(f"{key} = {value:.4g}\n" for key, value in one.items())
        for name, one in delays.items()
    )
    head = "# What requests wait outside of steps, by engine, and residuals of simulated closed loops: written by\n"
    FITS.write_text(f"{head}# benchmarks/fit_load.py, not to be edited.\n\n{written}\n" + "\n".join(residuals))
    print("\n".join(lines))
    text = ACCURACY.read_text(encoding="utf-8")
    begin, end = "<!-- fitted: loads -->\n", "<!-- end fitted: loads -->"
    head_, tail = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    table = "| metric | runs | median | mean | 90th percentile | bias |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
    ACCURACY.write_text(head_ + "\n" + table + "\n".join(lines) + "\n\n" + tail, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
