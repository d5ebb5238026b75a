"""What does training take here? Peak resident memory and step time of small decoders under torch, one process a case.

`.venv-torch/bin/python benchmarks/trained_here.py [--rounds N] [--only TEXT] [--output FILE]`. A case is a Llama of
random weights in fp32, trained with AdamW of torch on random tokens: in full, or with low-rank adapters as a module
of a few lines beside frozen matrices, with and without the gradient checkpointing of transformers. Memory is the most
that the process had resident (VmHWM) over what it had once everything was imported. The time of a step is that of the
processor on one thread, the least of several, since other programs must not count; the rates that predict it are timed
by `weighbridge.hardware.torch_training` beside the cases of each size. What the output file has already is kept, and
the least of both counts.

Each case runs with malloc as it is (`default`) and with `MALLOC_MMAP_THRESHOLD_` of 1 MiB (`returned`), under which
every larger tensor goes back to the system when it is freed. glibc's heap keeps holes that aligned tensors of the same
size do not fit into again: it takes more memory than the tensors, and less time, since no page is taken twice.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weighbridge.hardware.probe import processor_name
from weighbridge.model import families
from weighbridge.model.architecture import Architecture
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import Trained, trained

OUTPUT = Path(__file__).with_suffix(".json")
SIZES: dict[str, dict[str, Any]] = {
    "11m": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8, "num_attention_heads": 4,
            "num_key_value_heads": 4, "vocab_size": 8192, "tie_word_embeddings": False},
    "45m": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 10, "num_attention_heads": 8,
            "num_key_value_heads": 4, "vocab_size": 16_000, "tie_word_embeddings": False},
    "110m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
             "num_key_value_heads": 12, "vocab_size": 32_000, "tie_word_embeddings": True},
}  # fmt: skip
BATCHES = {"11m": (8, 256), "45m": (2, 512), "110m": (2, 256)}
"""Sequences and tokens of each."""
TARGETS: dict[str, tuple[str, ...]] = {
    "full": (),
    "lora-qv": ("q_proj", "v_proj"),
    "lora-all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
ROLES = {"q_proj": "attention_q", "k_proj": "attention_k", "v_proj": "attention_v", "o_proj": "attention_output",
         "gate_proj": "mlp_gate", "up_proj": "mlp_up", "down_proj": "mlp_down"}  # fmt: skip
RANK = 8
WARM_UP, STEPS = 2, 3
HEAPS: dict[str, dict[str, str]] = {"default": {}, "returned": {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way of training one model."""

    size: str
    method: str
    checkpointing: str

    @property
    def name(self) -> str:
        """What the case is called."""
        return f"{self.size}/{self.method}/{self.checkpointing}"


def cases() -> Iterator[Case]:
    """All of them, small models first."""
    for size in SIZES:
        for method in TARGETS:
            for checkpointing in ("none", "full"):
                yield Case(size=size, method=method, checkpointing=checkpointing)


def described(case: Case) -> tuple[Architecture, Trained, Run]:
    """The same model and run for the prediction."""
    sizes = SIZES[case.size]
    shape = {"num_layers": sizes["num_hidden_layers"], "num_heads": sizes["num_attention_heads"],
             "num_kv_heads": sizes["num_key_value_heads"], "tie_embeddings": sizes["tie_word_embeddings"],
             **{name: sizes[name] for name in ("hidden_size", "intermediate_size", "vocab_size")}}  # fmt: skip
    architecture = families.build(Hyperparameters("llama", "llama", shape))
    roles = tuple(ROLES[name] for name in TARGETS[case.method])
    method = Method(name="lora", rank=RANK, targets=roles) if roles else Method()
    sequences, tokens = BATCHES[case.size]
    run = Run(sequence_tokens=tokens, micro_batch=sequences, global_batch=sequences, method=method, precision="fp32",
              checkpointing=case.checkpointing)  # fmt: skip
    return architecture, trained(architecture, method), run


def status_bytes(key: str) -> int:
    """What Linux says of the memory of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def adapted(torch: Any, model: Any, targets: tuple[str, ...]) -> None:
    """Freezes a model and puts adapters beside the matrices of these names."""

    class Adapter(torch.nn.Module):  # type: ignore[misc]
        """y = W x + 2 B A x, B from zero (Hu et al. 2021)."""

        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base = base
            self.down = torch.nn.Linear(base.in_features, RANK, bias=False)
            self.up = torch.nn.Linear(RANK, base.out_features, bias=False)
            torch.nn.init.zeros_(self.up.weight)

        def forward(self, inputs: Any) -> Any:
            return self.base(inputs) + 2.0 * self.up(self.down(inputs))

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in targets:
                setattr(module, name, Adapter(child))


def built(torch: Any, transformers: Any, case: Case) -> Any:
    """The model of a case, ready to train."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES[case.size], use_cache=False))
    model.train()
    if TARGETS[case.method]:
        adapted(torch, model, TARGETS[case.method])
    if case.checkpointing == "full":
        if TARGETS[case.method]:
            model.enable_input_require_grads()
        model.activation_checkpointing_enable()
    return model


def run_case(case: Case) -> dict[str, Any]:
    """Trains a few steps in this process."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    importlib.import_module("transformers.models.llama.modeling_llama")
    torch.set_num_threads(1)
    imported_bytes = status_bytes("VmRSS")
    model = built(torch, transformers, case)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    built_bytes = status_bytes("VmRSS")
    ids = torch.randint(0, SIZES[case.size]["vocab_size"], BATCHES[case.size])
    parts = []
    for _ in range(WARM_UP + STEPS):
        begun = time.process_time()
        loss = model(input_ids=ids, labels=ids).loss
        forward = time.process_time()
        loss.backward()
        backward = time.process_time()
        optimizer.step()
        optimizer.zero_grad()
        del loss
        ended = time.process_time()
        parts.append((forward - begun, backward - forward, ended - backward))
    timed = parts[WARM_UP:]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in trainable),
        "imported_bytes": imported_bytes, "built_bytes": built_bytes, "peak_bytes": status_bytes("VmHWM"),
        "forward_s": min(part[0] for part in timed), "backward_s": min(part[1] for part in timed),
        "update_s": min(part[2] for part in timed), "step_s": min(sum(part) for part in timed),
    }  # fmt: skip


def in_a_process(*arguments: str, heap: str = "default") -> dict[str, Any]:
    """What a Python process of its own prints as JSON."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **HEAPS[heap]}
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=variables)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def least(first: dict[str, Any] | None, again: dict[str, Any]) -> dict[str, Any]:
    """The least of every number over the rounds."""
    if first is None:
        return again
    return {name: min(value, first[name]) if isinstance(value, int | float) else value for name, value in again.items()}


def main() -> None:
    """Runs one case, or all of them round after round, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--case", help="run this one here and print it")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    if given.case:
        json.dump(run_case(next(case for case in cases() if case.name == given.case)), sys.stdout)
        return
    kept = json.loads(given.output.read_text(encoding="utf-8")) if given.output.exists() else {"rates": {}, "cases": {}}
    found: dict[str, dict[str, Any]] = kept["cases"]
    rates: dict[str, dict[str, Any]] = kept["rates"]
    for _ in range(given.rounds):
        for case in (case for case in cases() if given.only in case.name):
            one_case = found.setdefault(case.name, asdict(case))
            if case.method == "full":
                rates[case.size] = least(
                    rates.get(case.size), in_a_process("-m", "weighbridge.hardware.torch_training")
                )
            for heap in HEAPS:
                one_case[heap] = least(one_case.get(heap), in_a_process(__file__, "--case", case.name, heap=heap))
            print(case.name, json.dumps(one_case), file=sys.stderr)
        document = {"processor": processor_name(), "rates": rates, "cases": found}
        given.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
