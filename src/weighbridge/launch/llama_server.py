"""Which line makes llama.cpp's server do what was planned?

- `--ctx-size` is the total of all slots: with `--no-kv-unified` each of the `--parallel` slots has its share, rounded
  up to 256 cells (`src/llama-context.cpp`: `n_ctx_seq`), so that it is the number of slots times the padded context.
- `--fit off` keeps the server from changing what is not set; without it, it may lower what does not seem to fit.
- A slot is one of at most 256 sequences (`src/llama-cparams.h`: `LLAMA_MAX_SEQ`).
- Beside the memory that is planned the server keeps prompts in up to 8 GiB of the host's (`--cache-ram`): where the
  model lives in that memory too it is turned off.

Source: ggml-org/llama.cpp `tools/server/README.md`, whose lists are generated from `common/arg.cpp`, at `VERSION`; the
parser itself takes these lines (`tests/real/test_launched.py`).
"""

from __future__ import annotations

from pathlib import Path

from weighbridge.errors import UnitError
from weighbridge.launch.line import Launch, running
from weighbridge.launch.sources import GUESSED_TOKENS, GUESSES, Source, gguf_file, local_gguf
from weighbridge.planning import Plan
from weighbridge.predict.speed import DEFAULT_THREADS

RUNTIME = "llama.cpp"
VERSION = "ggml-org/llama.cpp tools/server/README.md 00dc8057ab28c9cb4c79a6dd6dfce07fe779f63b"
MOST_SLOTS = 256
TYPES = {"fp16": "f16", "fp32": "f32"}
"""llama.cpp's names of encodings of a cache that it spells in another way."""
CARDS = ("gpu", "accelerator")
WITHOUT_CARD = ("cpu", "board", "phone")


def launch(plan: Plan) -> Launch:
    """The line of a plan.

    Raises:
        UnitError: for what the server cannot do.
    """
    service, built = plan.service, plan.machine
    slots = running(plan)
    if slots > MOST_SLOTS:
        read = f"{slots} sequences at once under llama-server"
        raise UnitError(
            read, f"at most {MOST_SLOTS} slots", "bound them with --max-sequences, or start several servers"
        )
    if built.tensor_parallel > 1 or built.data_parallel > 1:
        read = f"tensor {built.tensor_parallel} x data {built.data_parallel} parallelism under llama-server"
        raise UnitError(read, "devices that each hold a part of the layers", "leave --tp and --dp out")
    notes: list[str] = []
    arguments = [*_model(gguf_file(plan.inspection, plan.weights.recipe), notes)]
    arguments += ["--ctx-size", str(slots * service.paged(service.context_tokens)), "--parallel", str(slots),
                  "--no-kv-unified", "--ubatch-size", str(service.runtime.batched_tokens)]  # fmt: skip
    arguments += [
        "--cache-type-k",
        _type(service.key_encoding.name),
        "--cache-type-v",
        _type(service.value_encoding.name),
    ]
    arguments += ["--flash-attn", "on" if service.flash_attention else "off"]
    arguments += _devices(plan, notes)
    threads = _threads(plan)
    if threads is not None:
        arguments += ["--threads", str(threads)]
    if built.device.kind not in CARDS:
        arguments += ["--cache-ram", "0"]
    for adapter in plan.adapters:
        name = f"{Path(adapter).stem}.gguf"
        notes.append(
            f"{name} stands for {adapter} as llama.cpp's convert_lora_to_gguf.py writes it: the server reads no other"
        )
    if plan.adapters:
        arguments += ["--lora", ",".join(f"{Path(adapter).stem}.gguf" for adapter in plan.adapters)]
    arguments += _draft(plan, notes)
    arguments += ["--fit", "off"]
    if service.paged(service.context_tokens) != service.context_tokens:
        cells = service.paged(service.context_tokens)
        notes.append(
            f"a slot has {cells:,} cells for a context of {service.context_tokens:,}: they come in groups of 256"
        )
    return Launch(program="llama-server", arguments=tuple(arguments), version=VERSION, notes=tuple(notes))


def _model(source: Source, notes: list[str]) -> list[str]:
    if source.note:
        notes.append(source.note)
    if not source.from_hub:
        return ["--model", source.name]
    if source.revision:
        notes.append(
            f"the server takes no revision: it loads the newest {source.name}, the plan was made of {source.revision}"
        )
    return ["--hf-repo", source.name, "--hf-file", source.file or ""]


def _type(encoding: str) -> str:
    return TYPES.get(encoding, encoding)


def _devices(plan: Plan, notes: list[str]) -> list[str]:
    built, host = plan.machine, plan.host
    if built.device.kind in WITHOUT_CARD:
        return ["--gpu-layers", "0"]
    if built.device.kind == "npu":
        notes.append(
            "whether the server has a backend for this device depends on its build: see `llama-server --list-devices`"
        )
    arguments = ["--gpu-layers", "all" if host.gpu_layers is None else str(host.gpu_layers)]
    if host.cpu_experts:
        arguments += ["--n-cpu-moe", str(host.cpu_experts)]
    if built.device.kind not in CARDS:
        return arguments
    if built.devices == 1:
        return [*arguments, "--split-mode", "none"]
    return [*arguments, "--split-mode", "layer", "--tensor-split", ",".join(["1"] * built.devices)]


def _threads(plan: Plan) -> int | None:
    """The threads that the plan counts with; None where they hardly matter and nobody asked."""
    device, asked = plan.machine.device, plan.service.threads
    if asked is not None or device.kind not in WITHOUT_CARD:
        return asked
    return device.cores if device.measured and device.cores else min(DEFAULT_THREADS, device.cores or DEFAULT_THREADS)


def _draft(plan: Plan, notes: list[str]) -> list[str]:
    if plan.draft is None:
        return []
    service = plan.service
    source = gguf_file(plan.draft.inspection, plan.draft.recipe)
    name = local_gguf(source, notes)
    notes.append(GUESSES)
    arguments = ["--spec-type", "draft-simple", "--spec-draft-model", name, "--spec-draft-n-max", str(GUESSED_TOKENS),
                 "--spec-draft-type-k", _type(service.key_encoding.name),
                 "--spec-draft-type-v", _type(service.value_encoding.name)]  # fmt: skip
    return arguments if plan.machine.device.kind in WITHOUT_CARD else [*arguments, "--spec-draft-ngl", "all"]
