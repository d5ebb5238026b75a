"""Which published measurements can the terms of `predict.steps` be held against? Rows of the collection, as samples.

A row is left out when its model is not described, its device or layout is unknown, or its encoding cannot store it;
each sample counts what it left out. Rows flagged `QA:` are left out.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.errors import WeighbridgeError
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.device import Device
from weighbridge.inspection import inspect
from weighbridge.model import catalogue, recipes
from weighbridge.model.architecture import Architecture
from weighbridge.predict import speed, steps
from weighbridge.predict.demand import Demand, StoredWeights, demand, stored_weights

MODELS = {
    "Llama 3 8B": "llama-3-8b", "Llama 3 70B": "llama-3-70b", "Llama-3.1-8B": "llama-3.1-8b", "Llama 7B": "llama-7b",
    "Llama-3.1-8B-Instruct": "llama-3.1-8b", "tinyllama-1.1b": "tinyllama-1.1b", "zhipuai/GLM-5": "glm-5.2",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b", "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-r1", "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-v3",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b", "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3-30b-a3b",
    "Qwen/Qwen3-30B-A3B-Thinking-2507": "qwen3-30b-a3b", "Qwen/Qwen3-Coder-30B-A3B-Instruct": "qwen3-30b-a3b",
    "deepseek-ai/DeepSeek-V3.1": "deepseek-v3", "deepseek-ai/DeepSeek-R1-0528": "deepseek-r1",
    "google/codegemma-7b": "gemma-7b", "google/codegemma-1.1-2b": "gemma-2b",
    "codellama/CodeLlama-70b-hf": "llama-2-70b",
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


def shape_of(row: dict[str, str]) -> str:
    """What a row's model is, whatever it is called: what it multiplies, and its layers and cache."""
    found = asked(row["model"])
    assert found is not None
    return f"{found.dense_elements}/{found.expert_elements}/{found.num_layers}/{found.caches}"


def name_of(row: dict[str, str]) -> str:
    """The name of a row's device, whatever the row calls it."""
    device = device_of(row)
    assert device is not None
    return device.name


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

    def errors(self, predicted: np.ndarray) -> np.ndarray:
        """How far predictions are from what was measured, as shares of it."""
        return np.asarray(np.abs(predicted / np.array(self.measured) - 1))

    def groups(self, by: str = "pair") -> list[tuple[str, ...]]:
        """What is left out with each row: its (model, device) pair, its device or its model."""
        parts = {"pair": (shape_of, name_of), "device": (name_of,), "model": (shape_of,)}[by]
        return [tuple(part(row) for part in parts) for row in self.rows]


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
    room = speed.room(found, weights, rates, device.memory_bytes, 0.9, prompt + output, per_element)
    running = speed.running(room, clients, speed.CLOSED_LOOP_ROOM)
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
    """Seconds from the prompts of a static batch to its last token, in 16 bits.

    Rows that are faster than one reading of the weights for each token can be are left out: the engine stopped before
    the last token, as it does at the end of a model's positions.
    """
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
        if float(row["value"]) < float(terms[0]) * output:
            sample.left_out[row["model"]] += 1
            continue
        sample.terms.append([*(float(term) * output for term in terms), float(burst)])
        sample.measured.append(float(row["value"]))
        sample.rows.append(row)
    return sample


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
        threads = int(match[1]) if (match := re.match(r"(\d+) threads", row["parallelism"])) else None
        rates = steps.Rates(bytes_per_s=device.memory_bytes_per_s,
                            flops_per_s=speed.prompt_flops_per_s(device, threads), link_bytes_per_s=1.0,
                            devices=int(row["n_devices"]))  # fmt: skip
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
