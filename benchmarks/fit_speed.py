"""Fits the factors of `predict.steps` to published measurements, and says how far off they are on unseen ones.

    python benchmarks/fit_speed.py ../shared/data

writes `src/weighbridge/predict/fits/speed.toml` (factors, residuals, what was measured) and the tables of
`docs/reference/accuracy.md`. Every error figure is of rows whose (model, device) pair was left out of the fit that
predicted them. Rows flagged `QA:` are left out; identical copies count once. Needs scipy.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares  # type: ignore[import-untyped]

from weighbridge.errors import WeighbridgeError
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.device import Device
from weighbridge.inspection import inspect
from weighbridge.model import catalogue, recipes
from weighbridge.model.architecture import Architecture
from weighbridge.predict import speed, steps
from weighbridge.predict.demand import Demand, StoredWeights, demand, stored_weights

ROOT = Path(__file__).resolve().parent.parent
FITS = ROOT / "src/weighbridge/predict/fits/speed.toml"
ACCURACY = ROOT / "docs/reference/accuracy.md"

MODELS = {
    "Llama 3 8B": "llama-3-8b", "Llama 3 70B": "llama-3-70b", "Llama-3.1-8B": "llama-3.1-8b", "Llama 7B": "llama-7b",
    "Llama-3.1-8B-Instruct": "llama-3.1-8b", "tinyllama-1.1b": "tinyllama-1.1b", "zhipuai/GLM-5": "glm-5.2",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b", "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-r1", "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-v3",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
}  # fmt: skip
"""Our name for models that the measurements spell in a way of their own."""
SHAPES: dict[str, dict[str, Any]] = {
    "MiniMaxAI/MiniMax-M2.5": {
        "model_type": "minimax_m2", "architectures": ["MiniMaxM2ForCausalLM"], "hidden_size": 3072,
        "intermediate_size": 1536, "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8,
        "head_dim": 128, "num_local_experts": 256, "num_experts_per_tok": 8, "vocab_size": 200064,
    },
}  # fmt: skip
PARALLEL = {"tensor": r"\bTP(\d+)", "pipeline": r"\bPP(\d+)", "data": r"attnDP(\d+)", "expert": r"moeEP(\d+)"}


@cache
def architecture(model: str) -> Architecture | None:
    """The described model of a measured row."""
    try:
        source = SHAPES.get(model) or catalogue.find_model(MODELS.get(model, model))
        return inspect(source).architecture
    except WeighbridgeError:
        return None


@cache
def asked(model: str) -> Demand | None:
    """What it asks for."""
    found = architecture(model)
    return None if found is None else demand(found)


@cache
def stored(model: str, encoding: str) -> StoredWeights | None:
    """Its weights in the encoding that a row names."""
    found = architecture(model)
    try:
        return None if found is None else stored_weights(found, recipes.find(encoding))
    except WeighbridgeError:
        return None


def device_of(row: dict[str, str]) -> Device | None:
    """The device of a measured row."""
    for name in (row["hardware_key"], row["hardware"]):
        try:
            return find_device(name)
        except WeighbridgeError:
            continue
    return None


@dataclass
class Sample:
    """Rows that one set of factors is fitted to: their terms, what was measured, and what they are grouped by."""

    terms: list[list[float]] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def weights(self) -> np.ndarray:
        """One for each distinct measurement, shared by its copies."""
        keys = [tuple(row[k] for k in ("model", "hardware", "n_devices", "parallelism", "runtime",
                                       "batch_or_concurrency", "input_len", "output_len", "weight_dtype", "value"))
                for row in self.rows]  # fmt: skip
        count = Counter(keys)
        return np.array([1 / count[key] for key in keys])

    def groups(self, by: str = "pair") -> list[tuple[str, ...]]:
        """What is left out with each row: its (model, device) pair, its device or its model."""
        keys = {"pair": ("model", "hardware_key"), "device": ("hardware_key",), "model": ("model",)}[by]
        return [tuple(row[key] for key in keys) for row in self.rows]


def fit(sample: Sample, low: Sequence[float], high: Sequence[float], chosen: np.ndarray | None = None) -> list[float]:
    """Factors that make the sum of terms come nearest to what was measured, in ratio; outliers count less."""
    index = np.arange(len(sample.measured)) if chosen is None else chosen
    terms, measured = np.array(sample.terms)[index], np.array(sample.measured)[index]
    weight = np.sqrt(sample.weights[index])
    bounds = np.log(np.array(low)), np.log(np.array(high))

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.asarray(weight * (np.log(terms @ np.exp(logs)) - np.log(measured)))

    start = (bounds[0] + bounds[1]) / 2
    found = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.2)
    return [float(x) for x in np.exp(found.x)]


def unseen(sample: Sample, low: Sequence[float], high: Sequence[float], by: str = "pair") -> np.ndarray:
    """What is predicted for each row by factors that saw no row of its group."""
    terms, predicted, groups = np.array(sample.terms), np.zeros(len(sample.measured)), sample.groups(by)
    for group in sorted(set(groups)):
        inside = np.array([place for place, other in enumerate(groups) if other == group])
        outside = np.array([place for place, other in enumerate(groups) if other != group])
        predicted[inside] = terms[inside] @ np.array(fit(sample, low, high, outside))
    return predicted


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The measured rows that may be used."""
    with (folder / "perf" / "inference.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if "QA:" not in row["notes"] and row["n_devices"] not in ("", "0")]


def is_served(row: dict[str, str]) -> bool:
    """Whether a row is of the closed-loop serving sample, on one machine."""
    return "silicon_sample" in row["source"] and "disagg" not in row["notes"] and int(row["n_devices"]) <= 8


ENCODINGS = {"fp4": "nvfp4", "": "bf16", "4-bit (ggml)": "q4_0", "int4": "int4"}


def served_parts(row: dict[str, str]) -> tuple[Any, ...] | None:
    """Demand, weights, rates, running sequences, clients and lengths of a row of the serving sample."""
    device, found = device_of(row), asked(row["model"])
    encoding = ENCODINGS.get(row["weight_dtype"], row["weight_dtype"])
    if "gpt-oss" in row["model"]:
        encoding = "mxfp4"
    weights = stored(row["model"], encoding) if found else None
    if device is None or found is None or weights is None or device.memory_bytes is None:
        return None
    layout = {name: int(match[1]) if (match := re.search(pattern, row["parallelism"])) else 1
              for name, pattern in PARALLEL.items()}  # fmt: skip
    devices = int(row["n_devices"])
    if layout["tensor"] * layout["pipeline"] * layout["data"] != devices:
        return None
    rates = steps.Rates(
        bytes_per_s=device.memory_bytes_per_s, flops_per_s=speed.flops_per_s(device, weights.recipe),
        link_bytes_per_s=device.link_bytes_per_s or 16e9, devices=devices, tensor=layout["tensor"],
        pipeline=layout["pipeline"], data=layout["data"],
    )  # fmt: skip
    prompt, output, clients = int(row["input_len"]), int(row["output_len"]), int(row["batch_or_concurrency"])
    per_element = 1.0 if row["kv_dtype"].startswith("fp8") else 2.0
    running = speed.running(found, weights, rates, device.memory_bytes, 0.9, prompt + output, per_element, clients)
    return found, weights, rates, running, clients, prompt, output, per_element


def served_samples(rows: Iterable[dict[str, str]]) -> tuple[Sample, Sample]:
    """Time per output token, and time to the first token of up to 128 clients, of the serving sample."""
    tpot, ttft = Sample(), Sample()
    for row in rows:
        if not is_served(row) or row["metric"] not in ("tpot_ms", "ttft_ms"):
            continue
        sample = tpot if row["metric"] == "tpot_ms" else ttft
        if sample is ttft and int(row["batch_or_concurrency"]) > 128:
            continue
        parts = served_parts(row)
        if parts is None:
            sample.left_out[row["model"]] += 1
            continue
        found, weights, rates, running, clients, prompt, output, per_element = parts
        if sample is tpot:
            terms = steps.served_step(found, weights, rates, running=running, prompt=prompt, output=output,
                                      cache_bytes_per_element=per_element)  # fmt: skip
        else:
            terms = [running, clients, prompt, output, per_element]  # completed when the step is known
        sample.terms.append([float(term) for term in terms])
        sample.measured.append(float(row["value"]) / 1000)
        sample.rows.append(row)
    return tpot, ttft


STATIC_RUNTIMES = {"vLLM": "vllm", "TensorRT-LLM": "tensorrt-llm"}


def static_sample(rows: Iterable[dict[str, str]]) -> Sample:
    """Seconds from the prompts of a static batch to its last token, in 16 bits."""
    sample = Sample()
    for row in rows:
        if row["metric"] != "e2e_latency_s" or row["runtime"] not in STATIC_RUNTIMES:
            continue
        device, found = device_of(row), asked(row["model"])
        weights = stored(row["model"], "fp16") if found else None
        peak = device and speed.flops_per_s(device, "fp16")
        if device is None or device.memory_bytes is None or peak is None or found is None or weights is None:
            sample.left_out[row["model"]] += 1
            continue
        devices = int(row["n_devices"])
        layout = {name: int(match[1]) if (match := re.search(rf"\b{name}(\d+)", row["parallelism"])) else otherwise
                  for name, otherwise in (("TP", devices), ("PP", 1))}  # fmt: skip
        rates = steps.Rates(
            bytes_per_s=device.memory_bytes_per_s, flops_per_s=peak, link_bytes_per_s=device.link_bytes_per_s or 16e9,
            devices=devices, tensor=layout["TP"], pipeline=layout["PP"],
        )  # fmt: skip
        prompt, output = int(row["input_len"]), int(row["output_len"])
        terms, burst = steps.static_batch(found, weights, rates, running=int(row["batch_or_concurrency"]),
                                          prompt=prompt, output=output, cache_bytes_per_element=2.0)  # fmt: skip
        sample.terms.append([*(float(term) * output for term in terms), float(burst)])
        sample.measured.append(float(row["value"]))
        sample.rows.append(row)
    return sample


KINDS = ("reading", "compute", "overhead", "exchange")
KIND_OF_TERM = [KINDS.index(steps.STATIC_KINDS[name]) for name in steps.STATIC]
READ_IN_FULL = np.array([float(name in steps.READ_IN_FULL) for name in steps.STATIC])
STATIC_BOUNDS = ([0.01, 0.01, 0.5, 0.8, 1e-7, 1e-7, 0.1, 1e-7, 0.5], [6, 20, 40, 20, 1e-3, 3e-3, 60, 3e-3, 20])


def static_key(row: dict[str, str]) -> str:
    """The engine and the device of a row, as the file of factors spells them."""
    device = device_of(row)
    assert device is not None
    return f"{STATIC_RUNTIMES[row['runtime']]}/{device.name}"


def static_factors(shared: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Factors of the terms from logarithms of the shared ones and of an engine's own on a device."""
    return np.asarray(READ_IN_FULL + np.exp(shared + own[..., KIND_OF_TERM]))


def fit_static(sample: Sample, chosen: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logarithms of the shared factors, and of each engine's on each device for each kind, drawn towards 0."""
    terms, logs = np.array(sample.terms)[chosen], np.log(np.array(sample.measured)[chosen])
    keys = [static_key(sample.rows[i]) for i in chosen]
    names = sorted(set(keys))
    place = np.array([names.index(key) for key in keys])
    count = len(steps.STATIC)

    def residuals(found: np.ndarray) -> np.ndarray:
        own = found[count:].reshape(-1, len(KINDS))
        predicted = (terms * static_factors(found[:count], own[place])).sum(axis=1)
        return np.concatenate([np.log(predicted) - logs, 0.5 * found[count:]])

    low, high = (np.concatenate([np.log(bound), side * np.full(len(KINDS) * len(names), 3.0)])
                 for bound, side in zip(STATIC_BOUNDS, (-1, 1), strict=True))  # fmt: skip
    found = least_squares(residuals, (low + high) / 2, bounds=(low, high), loss="soft_l1", f_scale=0.15, max_nfev=60).x
    return found[:count], dict(zip(names, found[count:].reshape(-1, len(KINDS)), strict=True))


def unseen_static(sample: Sample, by: str = "pair") -> np.ndarray:
    """As `unseen`, with the own factors of engines on devices."""
    predicted, groups = np.zeros(len(sample.measured)), sample.groups(by)
    for group in sorted(set(groups)):
        shared, own = fit_static(sample, np.array([i for i, other in enumerate(groups) if other != group]))
        for i in (i for i, other in enumerate(groups) if other == group):
            factors = static_factors(shared, own.get(static_key(sample.rows[i]), np.zeros(len(KINDS))))
            predicted[i] = np.array(sample.terms[i]) @ factors
    return predicted


RUNTIMES = ("vllm", "tensorrt-llm", "sglang")
NAMES = {"trtllm": "tensorrt-llm"}


def with_steps(ttft: Sample, factors: list[float]) -> Sample:
    """The first-token sample with its terms, which need the time of a step; starts and bursts by engine."""
    done = Sample(measured=ttft.measured, rows=ttft.rows, left_out=ttft.left_out)
    for row in ttft.rows:
        parts = served_parts(row)
        assert parts is not None
        found, weights, rates, running, clients, prompt, output, per_element = parts
        step = steps.weighted(
            steps.served_step(found, weights, rates, running=running, prompt=prompt, output=output,
                              cache_bytes_per_element=per_element), factors)  # fmt: skip
        terms = steps.first_token(found, weights, rates, step_s=step, running=running, clients=clients, prompt=prompt,
                                  output=output)  # fmt: skip
        start, prefill, step_s, burst, *others = map(float, terms)
        own = [float(NAMES.get(row["runtime"], row["runtime"]) == name) for name in RUNTIMES]
        done.terms.append([prefill, step_s, *others, *(start * x for x in own), *(burst * x for x in own)])
    return done


def decode_sample(rows: Iterable[dict[str, str]], metric: str, kind: str) -> Sample:
    """Seconds a token (or a whole prompt) of llama.cpp's rows for one user on devices of one class."""
    sample = Sample()
    for row in rows:
        if row["metric"] != metric or not row["runtime"].startswith("llama.cpp"):
            continue
        if (row["batch_or_concurrency"] or "1") != "1":
            continue
        device, found = device_of(row), asked(row["model"])
        encoding = ENCODINGS.get(row["weight_dtype"], row["weight_dtype"])
        weights = stored(row["model"], encoding) if found else None
        if device is None or device.memory_bytes_per_s is None or found is None or weights is None:
            sample.left_out[row["hardware_key"]] += 1
            continue
        if speed.device_class(device) != kind:
            continue
        rates = steps.Rates(bytes_per_s=device.memory_bytes_per_s, flops_per_s=speed.prompt_flops_per_s(device),
                            link_bytes_per_s=1.0, devices=int(row["n_devices"]))  # fmt: skip
        threads = int(match[1]) if (match := re.match(r"(\d+) threads", row["parallelism"])) else None
        prompt, output = int(row["input_len"] or 0), int(row["output_len"] or 0)
        if metric == "decode_tok_s":
            terms = steps.decode_step(found, weights, rates, sequences=1, context=prompt + output / 2,
                                      cache_bytes_per_element=2.0,
                                      unpack_s=speed.unpack_s(device, found, weights, threads))  # fmt: skip
            measured = 1 / float(row["value"])
        else:
            if rates.flops_per_s is None:
                sample.left_out[row["hardware_key"]] += 1
                continue
            terms = steps.prefill_pass(found, weights, rates, prompt=max(1, prompt), chunk=512)
            measured = max(1, prompt) / float(row["value"])
        sample.terms.append([float(term) for term in terms])
        sample.measured.append(measured)
        sample.rows.append(row)
    return sample


def own_factors(sample: Sample, predicted: np.ndarray, prior: float = 3.0) -> dict[str, float]:
    """The logarithm by which each device differs from its class, drawn towards 0 as if `prior` rows had said so."""
    logs: dict[str, list[float]] = defaultdict(list)
    for row, value, guess in zip(sample.rows, sample.measured, predicted, strict=True):
        device = device_of(row)
        assert device is not None
        logs[device.name].append(math.log(value / guess))
    return {name: sum(found) / (len(found) + prior) for name, found in sorted(logs.items())}


def unseen_with_own(sample: Sample, low: Sequence[float], high: Sequence[float], by: str = "pair") -> np.ndarray:
    """As `unseen`, each device's own factor taken from its other rows."""
    terms, predicted = np.array(sample.terms), np.zeros(len(sample.measured))
    groups = sample.groups(by)
    for group in sorted(set(groups)):
        inside = np.array([place for place, other in enumerate(groups) if other == group])
        outside = np.array([place for place, other in enumerate(groups) if other != group])
        if not len(outside):
            outside = inside
        factors = np.array(fit(sample, low, high, outside))
        rest = Sample(measured=[sample.measured[i] for i in outside], rows=[sample.rows[i] for i in outside])
        own = own_factors(rest, terms[outside] @ factors)
        for place in inside:
            device = device_of(sample.rows[place])
            assert device is not None
            predicted[place] = terms[place] @ factors * math.exp(own.get(device.name, 0.0))
    return predicted


def without_faulty(sample: Sample) -> Sample:
    """Without the 16-bit prompts that slow hosts held back in one source, as the README of the data names them."""
    faulty = ("a100-sxm-80", "l40s")
    keep = [
        place for place, row in enumerate(sample.rows)
        if not ("XiongjieDai" in row["source"] and row["weight_dtype"] == "F16"
                and (row["hardware_key"] in faulty
                     or (row["hardware_key"].startswith("rtx-5000-ada") and row["n_devices"] == "4")))
    ]  # fmt: skip
    return Sample([sample.terms[place] for place in keep], [sample.measured[place] for place in keep],
                  [sample.rows[place] for place in keep], sample.left_out)  # fmt: skip


def cpu_weight_ps(rows: Iterable[dict[str, str]]) -> dict[str, float]:
    """Picoseconds a weight and core, by encoding: what decoding takes beyond reading the weights as specified."""
    found: dict[str, float] = {}
    for row in rows:
        if (
            row["metric"] != "decode_tok_s"
            or "ik_llama" not in row["source"]
            or not row["runtime"].startswith("llama.cpp")
        ):
            continue
        device, ask = device_of(row), asked(row["model"])
        weights = stored(row["model"], row["weight_dtype"]) if ask else None
        threads = re.match(r"(\d+) threads", row["parallelism"])
        if device is None or ask is None or weights is None or threads is None or device.memory_bytes_per_s is None:
            continue
        rest = 1 / float(row["value"]) - (weights.dense_bytes + weights.expert_bytes) / device.memory_bytes_per_s
        found[weights.recipe] = round(rest * int(threads[1]) / (ask.dense_elements + ask.expert_elements) * 1e12, 1)
    found["others"] = round(float(np.median(list(found.values()))), 1)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Result:
    """One line of the table of errors."""

    metric: str
    kind: str
    sample: Sample
    predicted: np.ndarray
    plain: np.ndarray
    """What one constant, calibrated on the other pairs, times the plainest term predicts."""
    strangers: dict[str, np.ndarray]
    """Predictions by fits that saw nothing of the row's device, or of its model."""

    @property
    def ratios(self) -> np.ndarray:
        return np.asarray(np.log(np.array(self.sample.measured) / self.predicted))

    @property
    def interval(self) -> tuple[float, float]:
        """The 5% and 95% quantiles of measured over predicted, as logarithms, of pairs that were left out."""
        low, high = np.quantile(self.ratios, [0.05, 0.95], method="hazen")
        return min(float(low), -0.02), max(float(high), 0.02)

    def row(self) -> str:
        weight, error = self.sample.weights, np.abs(np.exp(-self.ratios) - 1)
        order = np.argsort(error)
        median = float(error[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])
        tail = float(error[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() * 0.9)])
        low, high = self.interval
        covered = float(np.average((self.ratios >= low) & (self.ratios <= high), weights=weight))
        bias = math.exp(-float(np.average(self.ratios, weights=weight))) - 1
        coarse = np.abs(self.plain / np.array(self.sample.measured) - 1)
        order = np.argsort(coarse)
        middle = float(coarse[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])
        cells = (self.metric, self.kind, f"{len(self.ratios):,}", f"{sum(self.sample.left_out.values()):,}",
                 f"{median:.1%}", f"{float(np.average(error, weights=weight)):.1%}", f"{tail:.1%}", f"{bias:+.1%}",
                 f"{covered:.0%}", f"{middle:.1%}", f"{float(np.average(coarse, weights=weight)):.1%}")  # fmt: skip
        return "| " + " | ".join(cells) + " |"

    def strangers_row(self) -> str:
        """Median and mean error when pairs, devices or models are left out whole."""
        cells = [self.metric, self.kind]
        for predicted in (self.predicted, *self.strangers.values()):
            weight, error = self.sample.weights, np.abs(predicted / np.array(self.sample.measured) - 1)
            order = np.argsort(error)
            median = float(error[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])
            cells += [f"{median:.1%}", f"{float(np.average(error, weights=weight)):.1%}"]
        return "| " + " | ".join(cells) + " |"


STRANGERS = ("device", "model")


def one_constant(sample: Sample, places: Sequence[int]) -> np.ndarray:
    """The sum of these terms times one constant, which for each pair is the median over all other pairs."""
    terms = np.array(sample.terms)[:, list(places)].sum(axis=1)
    ratios, predicted = np.array(sample.measured) / terms, np.zeros(len(terms))
    groups = sample.groups()
    for group in sorted(set(groups)):
        inside = np.array([other == group for other in groups])
        outside = ~inside if not inside.all() else inside
        predicted[inside] = terms[inside] * np.median(ratios[outside])
    return predicted


def centred(sample: Sample, predicted: np.ndarray) -> float:
    """The factor on predictions of unseen pairs that makes their mean error in percent smallest.

    A prediction in the middle of the logarithms is not that: one that is too high can be off by any multiple, one that
    is too low by 100% at most.
    """
    measured, weight = np.array(sample.measured), sample.weights
    grid = np.arange(0.6, 1.21, 0.01)
    errors = [float(np.average(np.abs(predicted * by / measured - 1), weights=weight)) for by in grid]
    return float(grid[int(np.argmin(errors))])


def table(factors: dict[str, float]) -> str:
    return "\n".join(f"{name if re.fullmatch('[A-Za-z0-9_-]+', name) else chr(34) + name + chr(34)} = {value:.6g}"
                     for name, value in factors.items())  # fmt: skip


def main(folder: Path) -> None:
    rows = read_rows(folder)
    text = [
        "# Factors of predict.steps, their residuals and what was measured: written by benchmarks/fit_speed.py, not",
        "# to be edited. Fitted to the measurements that docs/reference/accuracy.md names.",
    ]  # fmt: skip
    costs = cpu_weight_ps(rows)
    speed.fits.cache_clear()
    speed.fits = lambda: {"cpu_weight_ps": costs}  # type: ignore[assignment]  # the file is what is being written
    results: list[Result] = []

    tpot, ttft = served_samples(rows)
    low, high = [1, 1, 1, 1, 1e-7, 1e-7, 0.5, 1e-7, 0.1], [4, 8, 20, 10, 2e-4, 3e-4, 30, 5e-4, 30]
    step = fit(tpot, low, high)
    guess = unseen(tpot, low, high)
    centre = centred(tpot, guess)
    results.append(Result("time per output token", "served", tpot, guess * centre,
                          one_constant(tpot, (0, 1, 3)),
                          {by: unseen(tpot, low, high, by) * centre for by in STRANGERS}))  # fmt: skip
    step = [factor * centre for factor in step]
    first = with_steps(ttft, step)
    low = [0.3, 0.01, 1e-5, 0.01, *[1e-4] * 3, *[1e-4] * 6]
    high = [20, 10, 1, 300, 30, 10, 10, *[0.5] * 3, *[3] * 3]
    guess = unseen(first, low, high)
    centre = centred(first, guess)
    results.append(Result("time to first token", "served", first, guess * centre,
                          one_constant(first, (0,)),
                          {by: unseen(first, low, high, by) * centre for by in STRANGERS}))  # fmt: skip
    found = [factor * centre for factor in fit(first, low, high)]
    text += ["", "[served_step]", table(dict(zip(steps.SERVED_STEP, step, strict=True)))]
    common = [name for name in steps.FIRST_TOKEN if name not in ("start", "burst")]
    shared = dict(zip(common, found[: len(common)], strict=True))
    starts, bursts = found[len(common) : -len(RUNTIMES)], found[-len(RUNTIMES) :]
    for name, start, burst in zip(RUNTIMES, starts, bursts, strict=True):
        text += ["", f"[first_token.{name}]", table(shared | {"start": start, "burst": burst})]
    middle = shared | {"start": float(np.median(starts)), "burst": float(np.median(bursts))}
    text += ["", "[first_token.others]", table(middle)]

    static = static_sample(rows)
    results.append(Result("latency of a static batch", "served", static, unseen_static(static),
                          one_constant(static, (0, 1, 3)),
                          {by: unseen_static(static, by) for by in STRANGERS}))  # fmt: skip
    shared_logs, own_logs = fit_static(static, np.arange(len(static.measured)))
    text += ["", "[static.shared]", table(dict(zip(steps.STATIC, np.exp(shared_logs), strict=True)))]
    for name, logs in sorted(own_logs.items()):
        text += ["", f'[static.devices."{name}"]', table(dict(zip(KINDS, np.exp(logs), strict=True)))]

    bounds = {"decode_tok_s": ([1, 0.5, 0.01, 1e-7, 1e-7], [4, 20, 20, 3e-3, 5e-3], steps.DECODE, "decode"),
              "prefill_tok_s": ([1, 0.01, 0.05, 1e-6], [10, 5, 20, 2e-3], steps.PREFILL, "prefill")}  # fmt: skip
    measured: dict[str, set[str]] = defaultdict(set)
    for metric, (low, high, names, title) in bounds.items():
        devices: dict[str, float] = {}
        for kind in speed.CLASSES:
            sample = without_faulty(decode_sample(rows, metric, kind))
            factors = fit(sample, low, high)
            text += ["", f"[{title}.{kind}]", table(dict(zip(names, factors, strict=True)))]
            devices |= own_factors(sample, np.array(sample.terms) @ np.array(factors))
            results.append(Result("decoding a token" if title == "decode" else "a prompt", f"llama.cpp, {kind}", sample,
                                  unseen_with_own(sample, low, high),
                                  one_constant(sample, (0, 1) if title == "decode" else (0,)),
                                  {by: unseen_with_own(sample, low, high, by) for by in STRANGERS}))  # fmt: skip
            for row in sample.rows:
                device = device_of(row)
                assert device is not None
                measured["llama.cpp"].add(device.name)
        text += ["", f"[{title}.devices]", table(devices)]
    text += ["", "[cpu_weight_ps]", table(costs)]
    keys = ["tpot", "ttft", "static", *(f"{title}.{kind}" for title in ("decode", "prefill") for kind in speed.CLASSES)]
    for key, result in zip(keys, results, strict=True):
        bottom, top = result.interval
        text += ["", f"[residuals.{key}]", f"low = {bottom:.4f}", f"high = {top:.4f}", f"n = {len(result.ratios)}"]
    served: dict[str, set[str]] = defaultdict(set)
    for row in tpot.rows:
        device = device_of(row)
        assert device is not None
        served[NAMES.get(row["runtime"], row["runtime"])].add(device.name)
    together: dict[str, set[str]] = defaultdict(set)
    for key in own_logs:
        runtime, _, name = key.partition("/")
        together[runtime].add(name)
    for title, known in (("served", served), ("static", together), ("decode", measured)):
        text += ["", f"[measured.{title}]"]
        text += [f'"{name}" = {sorted(found)}'.replace("'", '"') for name, found in sorted(known.items())]
    FITS.parent.mkdir(exist_ok=True)
    FITS.write_text("\n".join(text) + "\n", encoding="utf-8")
    heads = ("metric", "engine", "rows", "refused", "median", "mean", "90th percentile", "bias", "inside the interval",
             "one constant, median", "one constant, mean")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * (len(heads) - 2),
             *(result.row() for result in results)]  # fmt: skip
    strangers = ["| metric | engine |" + "".join(f" {by}, median | {by}, mean |" for by in ("pair", *STRANGERS)),
                 "| --- | --- |" + " ---: |" * 6, *(result.strangers_row() for result in results)]  # fmt: skip
    page = ACCURACY.read_text(encoding="utf-8")
    for name, table_lines in (("errors", lines), ("strangers", strangers)):
        print("\n".join(table_lines))
        begin, end = f"<!-- fitted: {name} -->", "<!-- end fitted -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n" + "\n".join(table_lines) + f"\n\n{end}{rest.split(end, 1)[1]}"
    ACCURACY.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
