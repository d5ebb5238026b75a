"""Holds `predict.training.memory` against published peaks of training, and fits what no formula gives.

    python benchmarks/training_memory.py ../shared/data

writes `src/weighbridge/predict/fits/training_memory.toml` and the section "Memory of training" of
`docs/reference/accuracy.md`. Each row is a run with the settings of its source, read there: litgpt 0.5.13
(config_hub/finetune, finetune/lora.py, finetune/full.py) and its resource tables, torchtune (README, recipes/configs),
torchtitan at the commit its table names (9dec370), and MLPerf's configurations (training_results_v5.1). Rows whose
settings are not published, or that do what a plan has no word for, are listed with the reason.

litgpt and torchtune state what was allocated, torchtitan what its allocator had reserved; none holds the context of
CUDA, so rows are compared without it. What is fitted is one share, reserved over allocated.
"""

from __future__ import annotations

import csv
import functools
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.catalogue import NamedModel, find_model
from weighbridge.predict.training import memory
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import find_optimizer
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import trained

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.fit_speed import ACCURACY, interval  # noqa: E402
from benchmarks.fit_training import replaced  # noqa: E402

FITS = ROOT / "src/weighbridge/predict/fits/training_memory.toml"
CONTEXT_BYTES = 0.5e9
"""Of CUDA on each device, with its kernels: assumed, no row states it."""
NAMES = {"Phi-3-mini-4k-instruct": "phi-3-mini", "mistral-7b-v0.2": "mistral-7b", "tiny-llama": "tinyllama-1.1b",
         "Falcon": "falcon-40b"}  # fmt: skip
"""Our names of models, or of those that have the same shape."""
STABLELM = {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": 4096,
            "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 16384, "vocab_size": 50688,
            "max_position_embeddings": 4096}  # fmt: skip
"""stablelm-base-alpha-3b's config.json."""
LONGEST = {"phi-1.5": 1044, "StableLM Alpha": 1034, "Falcon": 1079}
"""Tokens of the longest example, which litgpt's resource tables name."""
LINEAR = ("attention_q", "attention_k", "attention_v", "attention_qkv", "attention_output", "mlp_gate", "mlp_up",
          "mlp_down", "head")  # fmt: skip
"""What litgpt adapts where all is switched on."""
FOREACH = replace(find_optimizer("adamw"), is_foreach=True)
"""torch.optim.AdamW as litgpt makes it; torchtune, torchtitan and Megatron have fused ones."""
DEVICES = {"A10G": "a10g", "A100-SXM4-40GB": "a100-sxm-40", "A100 80GB": "a100-sxm-80", "4090": "rtx-4090",
           "NVIDIA H100-SXM5-80GB": "h100-sxm"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A measured peak, its run, and what is predicted; `measured` is None where it ran out of memory."""

    row: dict[str, str]
    source: str
    run: Run
    measured: float | None
    allocated: float
    planned: memory.TrainingMemory
    is_reserved: bool = False
    count: int = 1

    @property
    def setting(self) -> str:
        """What was run, in words."""
        run, layout = self.run, self.run.layout
        parts = [run.method.name, f"{run.micro_batch} x {run.sequence_tokens}", run.precision]
        parts += [f"{run.checkpointing} checkpointing"] if run.checkpointing != "none" else []
        parts += [f"{run.loss} loss"] if run.loss != "plain" else []
        parts += [f"{run.kernels} kernels"] if run.kernels != "eager" else []
        sizes = {"data": layout.data, "tensor": layout.tensor, "context": layout.context}
        parts += [f"{name} {size}" for name, size in sizes.items() if size > 1]
        parts += [f"ZeRO {layout.zero}"] if layout.zero else []
        return ", ".join(parts)


@functools.cache
def architecture(model: str, is_untied: bool = False) -> Architecture:
    """The described model of a row; litgpt holds the head beside a tied table unless it is told otherwise."""
    name = NAMES.get(model, model.lower().replace("llama ", "llama-").replace(" ", "-"))
    source: Any = STABLELM if model.startswith("StableLM") else find_model(name)
    if is_untied and isinstance(source, NamedModel):
        source = {**source.config, "tie_word_embeddings": False}
    found = inspect(source).architecture
    assert found is not None, model
    return found


def adapted(model: str, roles: Sequence[str]) -> tuple[str, ...]:
    """Those of the roles that a model has."""
    own = {group.weight.role for group in architecture(model).groups}
    fused = "attention_qkv" in own
    return tuple(role for role in roles if role in own or (fused and role in ("attention_q", "attention_v")))


def hub(row: dict[str, str]) -> Run | str:
    """litgpt's config_hub: rank 8 and everything for gemma, phi; 32 and all for tiny-llama; else 32 on q and v."""
    name, way = row["method"].removesuffix(".yaml").split("/")
    run = Run(sequence_tokens=512, micro_batch=int(row["micro_batch"]), global_batch=8, precision="bf16-true",
              optimizer=FOREACH)  # fmt: skip
    if way == "full":
        machine = re.search(r"on (\d+)xA10G", row["notes"])
        assert machine is not None, row
        devices = min(int(machine[1]), {"llama-2-7b": 4, "llama-3.1-8b": 4, "phi-2": 2}.get(name, 1))
        if devices > 1:
            layout = Layout(data=devices, zero=3)
            return replace(run, checkpointing="full", layout=layout, global_batch=run.micro_batch * devices)
        each = {"llama-3.2-1b": 64, "llama-3.2-3b": 64, "llama-3.1-8b": 64, "tiny-llama": 32}.get(name, 8)
        return replace(run, global_batch=each)
    roles: tuple[str, ...] = LINEAR
    if name.startswith(("gemma", "phi")):
        rank = 8 if name.startswith("phi") else 16
    elif name == "tiny-llama":
        rank = 32
    else:
        rank, roles = 32, ("attention_q", "attention_v")
    frozen = "nf4" if way == "qlora" else None
    method = Method(name=way, rank=rank, dropout=0.05, frozen=frozen, keeps_inputs=frozen is not None,
                    targets=adapted(row["model"], roles))  # fmt: skip
    optimizer = find_optimizer("pagedadamw") if way == "qlora" else FOREACH
    return replace(run, method=method, optimizer=optimizer, global_batch=max(8, run.micro_batch), loss="chunked",
                   attention="eager" if name == "gemma2-9b" else "flash")  # fmt: skip


def resource(row: dict[str, str]) -> Run | str:
    """litgpt's resource tables: rank 8 on queries and values, AdamW, examples up to the longest of Alpaca."""
    if "Adapter" in row["method"]:
        return "the method is LLaMA-Adapter, which a plan does not have"
    devices = int(row["n_devices"])
    if devices > 1:
        return "FSDP 1 leaves frozen weights gathered (pytorch issue 91165), which FSDP 2 does not"
    quantised = row["precision"] != "bf16-true"
    method = Method(name="qlora" if quantised else "lora", rank=8, dropout=0.05, keeps_inputs=quantised,
                    frozen="nf4" if row["precision"] == "bnb.nf4" else None,
                    targets=("attention_q", "attention_v"))  # fmt: skip
    optimizer = find_optimizer("pagedadamw") if quantised else FOREACH
    return Run(sequence_tokens=LONGEST[row["model"]], micro_batch=int(row["micro_batch"]), global_batch=128,
               precision="bf16-true", method=method, optimizer=optimizer, loss="chunked")  # fmt: skip


def titan(row: dict[str, str]) -> Run | str:
    """torchtitan at 9dec370: weights, gradients and moments in fp32, divided; multiplied in 16 or 8 bits."""
    if "nvfp4.md" in row["source"]:
        return "which model and which checkpointing of its configuration ran is not said"
    devices = int(row["n_devices"])
    sizes = {name: int(found[1]) if (found := re.search(rf"{name} (\d+)", row["method"])) else 1
             for name in ("FSDP", "TP", "CP")}  # fmt: skip
    layout = Layout(data=sizes["FSDP"], tensor=sizes["TP"], context=sizes["CP"], zero=3)
    assert layout.devices == devices, row
    micro = int(row["micro_batch"])
    return Run(sequence_tokens=int(row["seq_len"]), micro_batch=micro, global_batch=micro * layout.data, layout=layout,
               precision="fp8" if row["precision"] == "float8" else "bf16",
               kernels="fused" if "compile" in row["method"] else "eager",
               checkpointing=row["act_ckpt"].removesuffix(" AC"))  # fmt: skip


def tune(row: dict[str, str]) -> Run | str:
    """torchtune: Llama 3.2 3B by its README, 2 x 4096 tokens, and Llama 3.1 8B by recipes/configs, 2 x 2048."""
    name = row["method"].removeprefix("torchtune").strip(" +")
    run = Run(sequence_tokens=4096, micro_batch=2, global_batch=2, precision="bf16-true")
    compiled = replace(run, kernels="fused")
    steps = {
        "Packed Dataset": run, "Compile": compiled, "Chunked Cross Entropy": replace(compiled, loss="chunked"),
        "Activation Checkpointing": replace(compiled, loss="chunked", checkpointing="full"),
    }  # fmt: skip
    if name in steps:
        return steps[name]
    why = {"Baseline": "the lengths of its examples are not said",
           "Fuse optimizer step into backward": "it updates within the backward pass",
           **dict.fromkeys(("Activation Offloading", "8-bit AdamW", "LoRA", "QLoRA"),
                           "it moves activations to the host")}  # fmt: skip
    if name in why and "3B" in row["model"]:
        return why[name]
    if "Full" in name:
        return "it updates within the backward pass"
    return "what it kept is not said: the same takes twice as much on another card"


def mlperf(row: dict[str, str]) -> Run | str:
    """Llama 3.1 8B on H100: Cisco's configurations; 8 bits, distributed optimizer."""
    if "LoRA" in row["model"]:
        return "the configuration that ran is not in what we could read of training_results_v5.0"
    devices = int(row["n_devices"])
    tensor = {64: 1, 128: 2}[devices]
    layout = Layout(data=devices // tensor, tensor=tensor, zero=1)
    return Run(sequence_tokens=8192, global_batch=layout.data, layout=layout, precision="fp8",
               kernels="fused")  # fmt: skip


def peft(row: dict[str, str]) -> Run | str:
    """PEFT's README names no length of sequences."""
    return "the length of its sequences is not said"


SOURCES = {
    "config_hub/finetune": ("litgpt, config_hub", hub), "resource-tables": ("litgpt, resource tables", resource),
    "torchtitan": ("torchtitan", titan), "torchtune": ("torchtune", tune), "mlcommons": ("MLPerf", mlperf),
    "huggingface/peft": ("PEFT", peft),
}  # fmt: skip
UNITS = {"GB": 1e9, "GB (as logged)": 1e9, "GiB": 2.0**30}


def read_rows(folder: Path) -> tuple[list[Row], dict[tuple[str, str], int]]:
    """Rows as runs, repeated submissions once, and how many rows of each source are left out for which reason."""
    with (folder / "perf" / "training_memory.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "QA:" not in row["notes"]]
    found: dict[tuple[object, ...], Row] = {}
    left: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        name, read = next(value for key, value in SOURCES.items() if key in row["source"])
        run = read(row)
        if isinstance(run, str):
            left[name, run] += 1
            continue
        model = architecture(row["model"], "litgpt" in name)
        held = trained(model, run.method)
        planned = memory.plan_memory(model, held, run, find_device(DEVICES.get(row["hardware"], "h100-sxm")))
        measured = None if row["peak_mem"] == "OOM" else float(row["peak_mem"]) * UNITS[row["unit"]]
        if measured is not None and measured < planned.states_bytes:
            left[name, "it states less than weights, gradients and moments of its configuration take"] += 1
            continue
        size = memory.allocated_bytes(model, held, run)
        key = (row["model"], run, measured)
        if key in found:
            found[key] = replace(found[key], count=found[key].count + 1)
        else:
            found[key] = Row(row, name, run, measured, size, planned, name == "torchtitan")
    return list(found.values()), left


def share_of(rows: Sequence[Row]) -> float:
    """What an allocator reserves beyond what is allocated, over what is not held all the time; 0 without such rows."""
    shares = [(row.measured - row.allocated) / (row.allocated - row.planned.states_bytes)
              for row in rows if row.measured is not None and row.is_reserved]  # fmt: skip
    return max(0.0, float(np.median(shares))) if shares else 0.0


def predicted(row: Row, share: float) -> float:
    """What the row's source measures: allocated, or reserved."""
    waste = share * (row.allocated - row.planned.states_bytes) if row.is_reserved else 0.0
    return row.allocated + waste


def errors_row(name: str, guess: np.ndarray, measured: np.ndarray) -> str:
    """One line of the table of errors."""
    error = np.abs(guess / measured - 1)
    bias = float(np.exp(np.mean(np.log(guess / measured)))) - 1
    return (f"| {name} | {len(error)} | {np.median(error):.1%} | {np.mean(error):.1%} | {np.max(error):.1%} | "
            f"{bias:+.1%} |")  # fmt: skip


def row_lines(rows: Sequence[Row], seen: np.ndarray, unseen: np.ndarray) -> list[str]:
    """Every row with its error."""
    lines = ["| model | run | source | measured, GB | predicted, GB | error | error, unseen |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row, guess, other in zip(rows, seen, unseen, strict=True):
        assert row.measured is not None
        model = row.row["model"] + (f" ({row.count} rows)" if row.count > 1 else "")
        lines.append(f"| {model} | {row.setting} | {row.source} | {row.measured / 1e9:.2f} | {guess / 1e9:.2f} | "
                     f"{guess / row.measured - 1:+.1%} | {other / row.measured - 1:+.1%} |")  # fmt: skip
    return lines


def too_large_lines(rows: Sequence[Row]) -> list[str]:
    """Runs that ran out of memory, and whether the plan says so."""
    lines = ["| model | run | source | planned, GB | capacity, GB | planned to fit |",
             "| --- | --- | --- | ---: | ---: | --- |"]  # fmt: skip
    for row in rows:
        planned, capacity = row.planned.per_device_bytes, row.planned.capacity_bytes
        assert planned.value is not None and capacity is not None
        lines.append(f"| {row.row['model']} | {row.setting} | {row.source} | {planned.value / 1e9:.2f} | "
                     f"{capacity / 1e9:.2f} | {'yes' if row.planned.fits else 'no'} |")  # fmt: skip
    return lines


def main(folder: Path) -> None:
    known = [row for row in read_rows(folder)[0] if row.measured is not None]
    measured = np.array([row.measured for row in known], dtype=float)
    share = share_of(known)
    seen = np.array([predicted(row, share) for row in known])
    unseen = np.array([predicted(row, share_of([other for other in known if other.source != row.source]))
                       for row in known])  # fmt: skip
    low, high = interval(np.log(measured / unseen))
    FITS.write_text(
        "\n".join(
            [
                "# Constants of predict.training.memory: written by benchmarks/training_memory.py, not to be",
                "# edited. The context is assumed; the share of fragments is fitted to what torchtitan reserved.",
                "",
                f"context_bytes = {CONTEXT_BYTES:.4g}",
                f"fragmentation = {share:.4f}",
                "",
                "[residuals]",
                f"low = {low:.4f}",
                f"high = {high:.4f}",
                f"n = {len(known)}",
            ]
        )
        + "\n",
        encoding="utf-8",
    )
    memory.fits.cache_clear()
    rows, left = read_rows(folder)
    sources = np.array([row.source for row in known])
    names = np.array([row.run.method.name for row in known])
    summary = ["| rows | n | median | mean | largest | bias |", "| --- | ---: | ---: | ---: | ---: | ---: |",
               errors_row("all, source left out", unseen, measured), errors_row("all, seen by the fit", seen, measured),
               *(errors_row(f"{name}, seen by the fit", seen[sources == name], measured[sources == name])
                 for name in dict.fromkeys(sources)),
               *(errors_row(f"{name}, seen by the fit", seen[names == name], measured[names == name])
                 for name in sorted(set(names)))]  # fmt: skip
    reasons = ["| source | rows | why |", "| --- | ---: | --- |"]
    reasons += [f"| {source} | {count} | {why} |" for (source, why), count in left.items()]
    large = too_large_lines([row for row in rows if row.measured is None])
    page = ACCURACY.read_text(encoding="utf-8")
    for name, lines in (("training memory", summary), ("training memory rows", row_lines(known, seen, unseen)),
                        ("training memory too large", large), ("training memory left out", reasons)):  # fmt: skip
        print("\n".join([*lines, ""]))
        page = replaced(page, name, lines)
    ACCURACY.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
