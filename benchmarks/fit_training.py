"""Fits the factors of `predict.training.step_time` to published training, and says how far off they are on unseen rows.

    python benchmarks/fit_training.py ../shared/data

writes `src/weighbridge/predict/fits/training.toml` and the tables of training in `docs/reference/accuracy.md`: steps
(llm-foundry, torchtitan, Megatron, MLPerf), and whole runs with published hours. Every step is predicted by factors
that saw no row of its model on its device, every whole run by a factor that saw no run of its family. Rows flagged
`QA:` are left out. Needs scipy.

What rows do not say is taken from the code of those who ran them. MLPerf's rows name no layout and no precision: the
submitters' configurations (mlcommons/training_results_v5.1) train in 8 bits (some Blackwell ones in 4), and share a
sequence among devices / batch of them; where weights of 70B do not fit beside each other, tensor parallelism cuts them.
"""

from __future__ import annotations

import csv
import functools
import math
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from weighbridge.errors import WeighbridgeError
from weighbridge.hardware.device import Device
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.training import step_time
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.schedule import usual_run
from weighbridge.predict.training.step_time import AT_PEAK, TERMS, Work, fabric, generation, terms, work
from weighbridge.training import train
from weighbridge.training_source import shape
from weighbridge.training_wish import Wish, wish

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.fit_speed import ACCURACY, interval, table  # noqa: E402
from benchmarks.measurements import device_of  # noqa: E402

FITS = ROOT / "src/weighbridge/predict/fits/training.toml"
MPT = {
    "125m": (768, 12, 12), "350m": (1024, 24, 16), "760m": (1536, 24, 12), "1b": (2048, 24, 16), "3b": (2560, 32, 20),
    "7b": (4096, 32, 32), "13b": (5120, 40, 40), "30b": (7168, 48, 56), "70b": (8192, 80, 64),
}  # fmt: skip
"""Width, layers and heads in llm-foundry's scripts/train/yamls/pretrain/mpt-*.yaml. With learned positions they count
to the parameters that its tables state."""
MT_NLG = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 20480, "n_layer": 105, "n_head": 128,
          "vocab_size": 51200, "n_positions": 2048}  # fmt: skip
"""arXiv:2201.11990, section 2.3."""
NAMES = {"Llama-2-70B LoRA": "llama-2-70b", "GPT-3-175B": "gpt-3-175b", "Llama-2-34B": "codellama-34b",
         "StarCoderBase-15.5B": "starcoder"}  # fmt: skip
"""Our names of models, or of those that have the same shape."""
LORA = Method(name="lora", rank=16, targets=("attention_q", "attention_k", "attention_v", "attention_output"))
"""MLPerf's adapters: rank 16, on the matrices of attention."""
DEVICES = 1024
"""Of whole runs that do not say how many they had, assumed."""
OWN = ("matmul", "attention", "matmul_fp8", "attention_fp8")
"""Terms that have a factor of their own on each generation of devices; `again` goes with `matmul`."""
BOUNDS = {
    "matmul": (1, 4), "again": (1, 4), "attention": (1, 4), "traffic": (0.1, 10), "matmul_fp8": (1, 4),
    "attention_fp8": (1, 4), "traffic_fp8": (0.1, 15), "tensor": (0.1, 4), "data": (0.05, 4),
    "experts": (0.2999, 0.3001), "update": (0.3, 3), "layers": (1e-6, 3e-3),
}  # fmt: skip
"""Attention reaches a quarter of the peak at least, as kernels of 2023 do (Dao 2023); no arithmetic passes it. No row
exchanges tokens of experts: that most of it hides behind the multiplications is assumed."""


@dataclass(frozen=True)
class Row:
    """A measured step: what it is called, its terms, the seconds of a step, and how many rows it stands for."""

    row: dict[str, str]
    kind: str
    device: Device
    run: Run
    asked: Work
    seconds: float
    count: int = 1

    @property
    def terms(self) -> list[float]:
        found = terms(self.asked, self.run, self.device, fabric(self.device))
        assert found is not None
        return [found[name] for name in TERMS]

    @property
    def group(self) -> tuple[str, str]:
        return self.row["model"], self.device.name


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of training without known faults."""
    with (folder / "perf" / "training.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if "QA:" not in row["notes"]]


@functools.cache
def architecture(model: str) -> Architecture | None:
    """The described model of a row."""
    source: Any = NAMES.get(model, model.lower())
    if model.startswith("MPT-") and model[4:] in MPT:
        width, layers, heads = MPT[model[4:]]
        source = {"model_type": "mpt", "architectures": ["MPTForCausalLM"], "d_model": width, "n_layers": layers,
                  "n_heads": heads, "vocab_size": 50368, "max_seq_len": 2048, "expansion_ratio": 4}  # fmt: skip
    elif model.startswith("Megatron-Turing-NLG"):
        source = MT_NLG
    try:
        return inspect(source).architecture
    except WeighbridgeError:
        return None


def throughput_run(row: dict[str, str], devices: int) -> Run:
    """The run of a row of kind `throughput`, whose layout it names."""
    precision = "fp8" if re.search("fp8|float8", row["precision"]) else "bf16"
    run = Run(sequence_tokens=int(row["seq_len"] or 8192), micro_batch=int(row["micro_batch"] or 1),
              precision=precision, global_batch=int(row["global_batch"] or 0))  # fmt: skip
    if "llm-foundry" in row["source"]:
        return replace(run, checkpointing="full" if "act ckpt True" in row["notes"] else "none",
                       layout=Layout(data=devices, zero=3 if row["parallelism"] == "FULL_SHARD" else 2))  # fmt: skip
    if found := re.search(r"FSDP (\d+) TP (\d+)", row["parallelism"]):
        data = int(found[1])
        return replace(run, checkpointing="full", global_batch=run.micro_batch * data,
                       layout=Layout(data=data, tensor=int(found[2]), zero=3))  # fmt: skip
    if row["parallelism"] == "FSDP":
        return replace(run, checkpointing="selective", global_batch=run.micro_batch * devices,
                       layout=Layout(data=devices, zero=3))  # fmt: skip
    if found := re.search(r"TP(\d+) PP(\d+)", row["parallelism"]):
        tensor, pipeline = int(found[1]), int(found[2])
        return replace(
            run, layout=Layout(data=devices // (tensor * pipeline), tensor=tensor, pipeline=pipeline, zero=1)
        )
    assert row["model"].startswith("Megatron-Turing-NLG"), row
    layout = Layout(data=devices // 280, tensor=8, pipeline=35, zero=1)  # its section 2.4
    return replace(run, checkpointing="full", attention="eager", layout=layout)


def mlperf_run(row: dict[str, str], device: Device, devices: int) -> Run:
    """The run of a row of MLPerf, laid out as submitters did."""
    batch = int(row["global_batch"])
    run = Run(sequence_tokens=int(row["seq_len"]), global_batch=batch, precision="fp8")
    shared = max(1, devices // batch)
    if "405B" in row["model"]:
        tensor = 2 if (device.memory_bytes or 0) > 250e9 else 4
        layout = Layout(data=devices // (16 * tensor), tensor=tensor, pipeline=8, context=2, zero=1)
        return replace(run, layout=layout)
    if "LoRA" not in row["model"]:
        return replace(run, micro_batch=max(1, min(2, batch // devices)),
                       layout=Layout(data=devices // shared, context=shared, zero=1))  # fmt: skip
    tensor = 4 if (device.memory_bytes or 0) < 100e9 else 1
    shared = max(shared, tensor)
    return replace(run, method=LORA,
                   layout=Layout(data=devices // shared, tensor=tensor, context=shared // tensor, zero=1))  # fmt: skip


def mlperf_seconds(row: dict[str, str]) -> float | None:
    """Seconds of a step of a submission: as its log says where the time to train agrees, else from that time.

    A log's step time, and its samples a second, are means over a part of the run; some are of another unit. The time
    to train holds tests on the way, so that neither can be more than it: 3% less where nothing else is usable.
    """
    samples = re.search(r"samples_count (\d+)", row["notes"])
    if not samples:
        return None
    batch = float(row["global_batch"])
    most = float(row["time_to_train_min"]) * 60 * batch / int(samples[1])
    said = [float(found[1]) for found in [re.search(r"train_step_time ([\d.e-]+)", row["notes"])] if found]
    said += [batch / float(row["samples_s_total"])] if row["samples_s_total"] else []
    return next((seconds for seconds in said if 0.6 * most <= seconds <= most), 0.97 * most)


def step_rows(rows: Sequence[dict[str, str]]) -> list[Row]:
    """The measured steps; submissions of one system, of one version, are one row with the median of their seconds."""
    found: list[Row] = []
    submitted: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        device, model = device_of(row), architecture(row["model"])
        if row["kind"] not in ("throughput", "mlperf") or device is None or model is None:
            continue
        devices = int(row["n_devices"])
        if row["kind"] == "mlperf":
            seconds = mlperf_seconds(row)
            if seconds is None:
                continue
            run = mlperf_run(row, device, devices)
            version = row["source"].split(":")[0]
            key = (row["model"], device.name, row["n_devices"], row["global_batch"], version)
            submitted[key].append(Row(row, "MLPerf", device, run, work(model, run), seconds))
            continue
        run = throughput_run(row, devices)
        iteration = re.search(r"iteration time ([\d.]+)", row["notes"])
        seconds = float(iteration[1]) if iteration else run.step_tokens / (float(row["tok_s_per_gpu"]) * devices)
        found.append(Row(row, "benchmark", device, run, work(model, run), seconds))
    for group in submitted.values():
        middle = float(np.median([one.seconds for one in group]))
        found.append(replace(group[0], seconds=middle, count=len(group)))
    return found


def mfu_rows(rows: Sequence[dict[str, str]]) -> list[Row]:
    """Published shares of the peak on TPUs, of which no step is known otherwise, as steps of an usual run."""
    found = []
    for row in rows:
        device = device_of(row)
        if row["kind"] != "mfu" or device is None or generation(device) != "tpu":
            continue
        devices = int(row["n_devices"])
        run = Run(sequence_tokens=2048, micro_batch=4, global_batch=8 * devices, layout=Layout(data=devices, zero=3),
                  checkpointing="full" if row["hfu_pct"] else "none")  # fmt: skip
        asked = work(shape(str(round(float(row["params_b"]) * 1e9))).architecture, run)
        peak = device.peak_flops_per_s("bf16")
        assert peak is not None
        seconds = asked.model_flops * run.step_tokens / (devices * peak * float(row["mfu_pct"]) / 100)
        found.append(Row(row, "MFU", device, run, asked, seconds))
    return found


def by_row(found: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The factors of each row, from logarithms of the shared ones and of each generation's own."""
    own = found[len(TERMS) :].reshape(-1, len(OWN))
    logs = np.tile(found[: len(TERMS)], (len(kinds), 1))
    for place, name in enumerate(OWN):
        logs[:, TERMS.index(name)] += own[kinds, place]
    logs[:, TERMS.index("again")] += own[kinds, 0]
    at_peak = [TERMS.index(name) for name in AT_PEAK]
    logs[:, at_peak] = np.maximum(logs[:, at_peak], 0.0)
    return np.asarray(np.exp(logs))


def fit(
    columns: np.ndarray, measured: np.ndarray, kinds: np.ndarray, generations: int, near: np.ndarray | None = None
) -> np.ndarray:
    """Logarithms of the shared factors and of the generations' own, which are drawn towards 0.

    The search begins at `near`, factors of a similar sample, where they are given.
    """
    count = generations * len(OWN)
    low, high = np.log(np.array([BOUNDS[name] for name in TERMS], dtype=float)).T

    def residuals(found: np.ndarray) -> np.ndarray:
        predicted = (columns * by_row(found, kinds)).sum(axis=1)
        return np.concatenate([np.log(predicted / measured), 0.3 * found[len(TERMS) :]])

    bounds = np.concatenate([low, np.full(count, -2.0)]), np.concatenate([high, np.full(count, 2.0)])
    start = np.concatenate([(low + high) / 2, np.zeros(count)]) if near is None else near
    return np.asarray(least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.1).x)


def best_factor(ratios: np.ndarray) -> float:
    """The factor whose mean error in percent is the smallest."""
    grid = np.arange(1.0, 4.0, 0.01)
    return float(grid[int(np.argmin([np.mean(np.abs(factor / ratios - 1)) for factor in grid]))])


@dataclass(frozen=True)
class Whole:
    """A published run: its hours and those of its steps alone, as predicted; `by_size` from the number of parameters
    alone, None for mixtures of experts.
    """

    row: dict[str, str]
    device: Device
    hours: float
    bare: float
    by_size: float | None

    @property
    def family(self) -> str:
        return re.split(r"[-\s]", self.row["model"])[0]


def whole_rows(rows: Sequence[dict[str, str]]) -> list[Whole]:
    """Published runs with tokens and hours, planned as `weigh train` does where no layout is given."""
    found = []
    for row in rows:
        device = device_of(row)
        if row["kind"] != "run" or not row["tokens_b"] or device is None:
            continue
        tokens, devices = int(float(row["tokens_b"]) * 1e9), int(row["n_devices"] or DEVICES)
        asked = wish(tokens, devices=devices, seq=int(row["seq_len"]) if row["seq_len"] else None,
                     precision="fp8" if row["precision"] == "fp8" else "bf16")  # fmt: skip

        def bare(source: Any, device: Device = device, asked: Wish = asked) -> float:
            plan = train(source, device, asked)
            model = plan.shape.architecture
            usual = usual_run(plan.run, model.num_experts > 0)
            seconds = step_time.timed(work(model, usual), usual, device).seconds.value
            assert seconds is not None
            return seconds * asked.tokens / usual.step_tokens * asked.devices / 3600

        name = NAMES.get(row["model"], row["model"].lower())
        sized = None if row["active_params_b"] else bare(str(round(float(row["params_b"]) * 1e9)))
        hours = float(row["gpu_hours"]) if row["gpu_hours"] else float(row["days"]) * 24 * devices
        found.append(Whole(row, device, hours, bare(name), sized))
    return found


def without_family(runs: Sequence[Whole], ratios: np.ndarray) -> np.ndarray:
    """The factor for each run, from runs of other families."""
    families = np.array([run.family for run in runs])
    return np.array([best_factor(ratios[families != family]) for family in families])


def errors_row(name: str, predicted: np.ndarray, measured: np.ndarray, inside: tuple[float, float]) -> str:
    """One line of the table of errors."""
    error, ratios = np.abs(predicted / measured - 1), np.log(measured / predicted)
    bias = math.exp(-float(np.mean(ratios))) - 1
    covered = float(np.mean((ratios >= inside[0]) & (ratios <= inside[1])))
    return (f"| {name} | {len(error):,} | {np.median(error):.1%} | {np.mean(error):.1%} | "
            f"{np.quantile(error, 0.9):.1%} | {bias:+.1%} | {covered:.0%} |")  # fmt: skip


ROWS = {"data_parallel": "16 bits and data parallel", "others": "others"}
HEAD = ["| rows | n | median | mean | 90th percentile | bias | inside the interval |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip


def shown(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def step_lines(steps: Sequence[Row], guess: np.ndarray, unseen: np.ndarray) -> list[str]:
    """Every measured step with its error."""
    lines = ["| model | device | devices | tokens a sequence | precision | measured, s | error | error, unseen |",
             "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |"]  # fmt: skip
    for one, seen, other in zip(steps, guess, unseen, strict=True):
        row = one.row
        version = f" ({found[1]}, {one.count} runs)" if (found := re.search(r"_(v\d\.\d)", row["source"])) else ""
        lines.append(f"| {row['model']}{version} | {one.device.name} | {row['n_devices'] or '-'} | "
                     f"{one.run.sequence_tokens} | {one.run.precision} | {shown(one.seconds)} | "
                     f"{seen / one.seconds - 1:+.1%} | {other / one.seconds - 1:+.1%} |")  # fmt: skip
    return lines


def replaced(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with this table written anew."""
    begin, end = f"<!-- fitted: {name} -->", f"<!-- end fitted: {name} -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{rest.split(end, 1)[1]}"


def main(folder: Path) -> None:
    rows = read_rows(folder)
    steps = step_rows(rows) + mfu_rows(rows)
    columns, measured = np.array([one.terms for one in steps]), np.array([one.seconds for one in steps])
    generations = sorted({generation(one.device) for one in steps})
    kinds = np.array([generations.index(generation(one.device)) for one in steps])
    found = fit(columns, measured, kinds, len(generations))
    guess = (columns * by_row(found, kinds)).sum(axis=1)
    unseen = np.zeros(len(steps))
    groups = [one.group for one in steps]
    for group in sorted(set(groups)):
        inside = np.array([other == group for other in groups])
        fitted = fit(columns[~inside], measured[~inside], kinds[~inside], len(generations), found)
        unseen[inside] = (columns[inside] * by_row(fitted, kinds[inside])).sum(axis=1)
    ranges = np.array([step_time.range_of(one.run) for one in steps])
    bounds = {name: interval(np.log(measured / unseen)[ranges == name]) for name in step_time.RANGES}
    own = np.exp(found[len(TERMS) :].reshape(-1, len(OWN)))
    text = ["# Factors of predict.training.step_time, with residuals: written by benchmarks/fit_training.py, not to",
            "# be edited. Fitted to the training that docs/reference/accuracy.md names.", "", "[factors]",
            table(dict(zip(TERMS, map(float, np.exp(found[: len(TERMS)])), strict=True)))]  # fmt: skip
    for name, values in zip(generations, own, strict=True):
        text += ["", f"[own.{name}]",
                 table({**dict(zip(OWN, map(float, values), strict=True)), "again": float(values[0])})]  # fmt: skip
    for name, (low, high) in bounds.items():
        text += ["", f"[residuals.{name}]", f"low = {low:.4f}", f"high = {high:.4f}"]
    FITS.write_text("\n".join([*text, "", "[whole]", "factor = 1.5", "low = -0.5", "high = 0.5"]) + "\n", "utf-8")
    step_time.fits.cache_clear()

    runs = whole_rows(rows)
    hours = np.array([run.hours for run in runs])
    bare = np.array([run.bare for run in runs])
    factor = best_factor(hours / bare)
    by_shape = without_family(runs, hours / bare) * bare
    dense = [run for run in runs if run.by_size is not None]
    sized, hours_dense = np.array([run.by_size for run in dense], dtype=float), np.array([run.hours for run in dense])
    by_size = without_family(dense, hours_dense / sized) * sized
    around = interval(np.log(hours / by_shape))
    text += ["", "[whole]", f"factor = {factor:.4g}", f"low = {around[0]:.4f}", f"high = {around[1]:.4f}",
             f"n = {len(runs)}"]  # fmt: skip
    FITS.write_text("\n".join(text) + "\n", encoding="utf-8")

    sixes = np.array([6e9 * float(run.row["active_params_b"] or run.row["params_b"]) * float(run.row["tokens_b"]) * 1e9
                      / 3600 / (run.device.peak_flops_per_s("bf16") or 1) for run in runs])  # fmt: skip
    of = np.array([one.kind for one in steps])
    summary = [
        *HEAD,
        *(errors_row(f"steps, {kind}, {ROWS[name]}, {how}", predicted[chosen], measured[chosen],
                     bounds[name])
          for how, predicted in (("model and device left out", unseen), ("seen by the fit", guess))
          for kind, name in (("benchmark", "data_parallel"), ("benchmark", "others"), ("MLPerf", "others"))
          for chosen in [(of == kind) & (ranges == name)]),
        errors_row("hours of whole runs, family left out", by_shape, hours, around),
        errors_row("the same, dense models by their size alone", by_size, hours_dense, around),
        errors_row("the same, seen by the fit", factor * bare, hours, around),
        errors_row("6ND at a flat 40%", sixes / 0.4, hours, around),
    ]  # fmt: skip
    whole = ["| run | device | devices | stated hours | 6ND over them | error | error, unseen |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for run, six, seen, other in zip(runs, sixes, factor * bare, by_shape, strict=True):
        cells = (run.row["model"], run.device.name, run.row["n_devices"] or "-", f"{run.hours:.4g}",
                 f"{six / run.hours:.1%}", f"{seen / run.hours - 1:+.1%}", f"{other / run.hours - 1:+.1%}")  # fmt: skip
        whole.append("| " + " | ".join(cells) + " |")
    print("\n".join([*summary, "", *whole]))
    page = ACCURACY.read_text(encoding="utf-8")
    for name, lines in (("training", summary), ("training runs", whole),
                        ("training steps", step_lines(steps, guess, unseen))):  # fmt: skip
        page = replaced(page, name, lines)
    ACCURACY.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
