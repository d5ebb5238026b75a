"""Fits the factors of `predict.power` to metered runs, and says how far off joules a token are on unseen pairs.

    python benchmarks/fit_power.py ../shared/data

writes `src/weighbridge/predict/fits/power.toml` and the table of energy in `docs/reference/accuracy.md`. The runs are
those of ML.ENERGY with vLLM on A100 and H100. They keep a given number of sequences in the engine, and answers have the
lengths of a task; prompts, whose lengths the rows do not hold, are as long as `PROMPT_TOKENS` says of the task. The
step's time is the predicted one, as in a plan. B200 takes no part in the fit and is predicted as a device that nobody
metered. Run it after `fit_speed.py`. Needs scipy.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from weighbridge.hardware.machine import Machine, machine
from weighbridge.predict import power, speed
from weighbridge.predict.service import service

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.fit_speed import ACCURACY, interval, table  # noqa: E402
from benchmarks.measurements import asked, device_of, name_of, read_rows, shape_of, stored  # noqa: E402

FITS = ROOT / "src/weighbridge/predict/fits/power.toml"
PROMPT_TOKENS = {"task:chat": 161, "task:lm-arena-chat": 70, "task:code": 150, "task:gpqa": 250,
                 "task:sourcegraph-fim": 1000}  # fmt: skip
"""Mean prompts of a task: those of ShareGPT as published (161.31: Kwon et al. 2023, vLLM, figure 11). The others are
assumed: short questions of the arena, problems of HumanEval, science questions with their choices, code with a gap."""
ENCODINGS = {"": "bf16", "bfloat16": "bf16"}
METERED = ("a100-sxm-40", "h100-sxm")
NAMES = (*power.WORK, "idle")
BOUNDS = {"dense": (0.2, 1.5), "experts": (0.2, 1.5), "cache": (0.2, 1.5), "flops": (0.5, 3.0), "prompts": (0.5, 3.0),
          "host": (1e-6, 3e-4), "idle": (0.05, 0.4)}  # fmt: skip
"""Below 1 a part takes less than the rated power while it runs as specified; above, it runs slower than specified."""


@dataclass
class Metered:
    """Rows with what their steps take, in seconds at the rated power of one token, and what was metered, likewise."""

    rows: list[dict[str, str]] = field(default_factory=list)
    terms: list[list[float]] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    refused: int = 0

    def groups(self, by: str) -> list[tuple[str, ...]]:
        """What is left out with each row."""
        return [(shape_of(row), name_of(row)) if by == "pair" else (name_of(row),) for row in self.rows]


def layout(row: dict[str, str]) -> Machine:
    """The machine of a row: copies of the attention where it names them, and all other devices share each matrix."""
    found = re.search(r"\bDP(\d+)", row["parallelism"])
    device, copies = device_of(row), int(found[1]) if found else 1
    assert device is not None
    devices = int(row["n_devices"])
    return machine(device, devices, data_parallel=copies, tensor_parallel=devices // copies)


def metered(rows: Iterable[dict[str, str]], devices: Iterable[str]) -> Metered:
    """The metered rows on these devices."""
    sample = Metered()
    for row in rows:
        if row["metric"] != "energy_j_per_output_token" or row["hardware_key"] not in devices:
            continue
        need = asked(row["model"])
        weights = stored(row["model"], ENCODINGS.get(row["weight_dtype"], row["weight_dtype"])) if need else None
        if need is None or weights is None:
            sample.refused += 1
            continue
        built = layout(row)
        ask = service(
            "vllm", prompt_tokens=PROMPT_TOKENS[row["input_len"]], output_tokens=round(float(row["output_len"])),
            concurrency=int(row["batch_or_concurrency"]),
        )  # fmt: skip
        step = speed.step(need, weights, built, ask, ask.sequences, ask.prompt_tokens, ask.output_tokens)
        rates = speed.rates(built, weights.recipe)
        assert step is not None and rates is not None and built.device.tdp_w is not None
        inside = float(step.running)
        work = power.work(need, weights, rates, ask, inside)
        sample.terms.append([*(float(work[name]) / inside for name in power.WORK), float(step.seconds) / inside])
        sample.measured.append(float(row["value"]) / (built.devices * built.device.tdp_w))
        sample.rows.append(row)
    return sample


def fit(terms: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Factors whose sums are off by the smallest share of what was metered, in the mean, as the table has it.

    No further constant stands on what they predict: one that is chosen on the rows that are left out has seen them.
    """
    low, high = np.log(np.array([BOUNDS[name] for name in NAMES])).T

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.asarray(terms @ np.exp(logs) / measured - 1)

    return np.asarray(
        np.exp(least_squares(residuals, (low + high) / 2, bounds=(low, high), loss="soft_l1", f_scale=0.05).x)
    )


def unseen(sample: Metered, by: str) -> np.ndarray:
    """What is predicted for each row by factors that saw nothing of its group."""
    terms, measured, groups = np.array(sample.terms), np.array(sample.measured), sample.groups(by)
    predicted = np.zeros(len(measured))
    for group in sorted(set(groups)):
        inside = np.array([other == group for other in groups])
        predicted[inside] = terms[inside] @ fit(terms[~inside], measured[~inside])
    return predicted


def row_of(name: str, predicted: np.ndarray, measured: np.ndarray, bounds: tuple[float, float]) -> str:
    """One line of the table."""
    error, ratios = np.abs(predicted / measured - 1), np.log(measured / predicted)
    covered = float(np.mean((ratios >= bounds[0]) & (ratios <= bounds[1])))
    bias = math.exp(-float(np.mean(ratios))) - 1
    return (f"| {name} | {len(error):,} | {np.median(error):.1%} | {np.mean(error):.1%} | "
            f"{np.quantile(error, 0.9):.1%} | {bias:+.1%} | {covered:.0%} |")  # fmt: skip


def main(folder: Path) -> None:
    rows = read_rows(folder)
    sample, stranger = metered(rows, METERED), metered(rows, ("b200",))
    terms, measured = np.array(sample.terms), np.array(sample.measured)
    by_pair, by_device = unseen(sample, "pair"), unseen(sample, "device")
    factors = fit(terms, measured)
    bounds = interval(np.log(measured / by_pair))
    FITS.write_text("\n".join([
        "# Factors of predict.power and their residuals: written by benchmarks/fit_power.py, not to be edited.",
        "# Fitted to the metered runs that docs/reference/accuracy.md names.",
        f"metered = {sorted({name_of(row) for row in sample.rows})}".replace("'", '"'),
        "", "[factors]", table(dict(zip(NAMES, map(float, factors), strict=True))),
        "", "[residuals]", f"low = {bounds[0]:.4f}", f"high = {bounds[1]:.4f}", f"n = {len(measured)}",
    ]) + "\n", encoding="utf-8")  # fmt: skip
    wider = math.log(power.UNMETERED_WIDENS)
    wide = bounds[0] - wider, bounds[1] + wider
    engines = np.array([row["runtime"] for row in sample.rows])
    share = np.median(measured / terms[:, -1])
    lines = [
        "| rows | n | median | mean | 90th percentile | bias | inside the interval |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        row_of("pairs left out", by_pair, measured, bounds),
        *(row_of(f"of these, {name}", by_pair[engines == name], measured[engines == name], bounds)
          for name in sorted(set(engines))),
        row_of("devices left out", by_device, measured, wide),
        row_of("B200, which took no part", np.array(stranger.terms) @ factors, np.array(stranger.measured), wide),
        row_of("one share of the rated power times the predicted time", share * terms[:, -1], measured, bounds),
    ]  # fmt: skip
    print("\n".join(lines), f"\nrefused: {sample.refused} and {stranger.refused}")
    page = ACCURACY.read_text(encoding="utf-8")
    begin, end = "<!-- fitted: energy -->", "<!-- end fitted -->"
    before, rest = page.split(begin)
    ACCURACY.write_text(f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{rest.split(end, 1)[1]}",
                        encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
