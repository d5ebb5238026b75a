"""Do launch lines say what was planned, in options that the engines have, and refuse what these cannot do?"""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result
from tests.formats import hub_double

from weighbridge.cli import main
from weighbridge.errors import ConfigError, UnitError, UnknownNameError, WeighbridgeError
from weighbridge.inspection import inspect
from weighbridge.launch.engines import ENGINES, launch, runtime_of
from weighbridge.launch.line import Launch, yaml
from weighbridge.planning import fit

OPTIONS = tomllib.loads(Path(__file__).with_name("options.toml").read_text(encoding="utf-8"))
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 96,
    "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip


def value(found: Launch, option: str) -> str:
    """What stands behind an option, which occurs once."""
    assert found.arguments.count(option) == 1, (option, found.arguments)
    return found.arguments[found.arguments.index(option) + 1]


def fits(engine: str, source: Any = "llama-3.1-8b", on: str = "h100-sxm", **options: Any) -> Launch:
    return launch(fit(source, on, runtime=runtime_of(engine), **options), engine)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of rank 12 for Llama 3.1 8B."""
    folder = tmp_path / "my adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 12, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    tensors = {name.format("A"): np.ones((12, 4096), "float16"), name.format("B"): np.ones((4096, 12), "float16")}
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model with its weights, in a folder whose name needs quotes."""
    folder = tmp_path / "my model; rm"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    described = inspect(CONFIG).architecture
    assert described is not None
    tensors = {tensor.name: np.ones(tensor.shape, "float16") for tensor in described.tensors()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


# --- every option is one that the engine has -------------------------------------------------------------------------

PLANS: list[tuple[str, dict[str, Any]]] = [
    ("llama-3.1-8b", {}),
    ("llama-3.1-8b", {"batch": 8, "context_tokens": 8192}),
    ("llama-3.1-70b", {"devices": 4, "draft": "llama-3.2-1b", "concurrency": 32, "max_sequences": 16}),
    ("qwen3-30b-a3b", {"devices": 2, "tensor_parallel": 1, "data_parallel": 2, "expert_parallel": 2}),
    ("mixtral-8x7b", {"devices": 4, "pipeline_parallel": 2, "utilization": 0.8}),
    ("deepseek-v3", {"devices": 16, "weights": "fp8"}),
    ("llama-3.1-8b", {"weights": "fp8", "kv": "fp8"}),
    ("llama-3.1-8b", {"weights": "q4_k_m", "kv": "q8_0", "gpu_layers": 20, "threads": 4}),
    ("qwen3-30b-a3b", {"weights": "q4_k_m", "cpu_experts": 20}),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_lines_have_only_options_that_the_engine_defines(engine: str, adapter: Path) -> None:
    told = 0
    for source, options in [*PLANS, ("llama-3.1-8b", {"adapters": [adapter]})]:
        try:
            found = fits(engine, source, **options)
        except (UnitError, UnknownNameError):
            continue
        told += 1
        names = [argument for argument in found.arguments if argument.startswith("--")]
        assert set(names) <= set(OPTIONS[engine]["options"]), found.line
        assert len(names) == len(set(names)), found.line
        for option, choices in OPTIONS[engine]["choices"].items():
            if option in names:
                assert value(found, option) in choices, found.line
        assert found.version.split()[-1] in OPTIONS[engine]["source"]
        assert all(argument and "None" not in argument for argument in found.arguments), found.line
        assert shlex.split(found.line) == [found.program, *found.arguments]
    assert told >= 5, f"{engine} has a line for {told} plans only"


# --- what was planned ------------------------------------------------------------------------------------------------


def test_llama_server_divides_the_context_among_its_slots() -> None:
    found = fits("llama-server", on="rtx-4090", weights="q4_k_m", batch=4, context_tokens=1000)
    assert value(found, "--ctx-size") == str(4 * 1024)  # 1,000 cells in groups of 256
    assert (value(found, "--parallel"), value(found, "--fit")) == ("4", "off")
    assert "--no-kv-unified" in found.arguments
    assert any("1,024 cells for a context of 1,000" in note for note in found.notes)
    assert value(found, "--model") == "llama-3.1-8b-q4_k_m.gguf"
    assert any("still to be made or downloaded" in note for note in found.notes)


def test_llama_server_holds_what_the_plan_holds() -> None:
    """The cells of the line times the bytes of a cell are the planned state."""
    plan = fit("llama-3.1-8b", "rtx-4090", weights="q4_k_m", batch=4, context_tokens=1000, kv="q8_0")
    cells = int(value(launch(plan, "llama-server"), "--ctx-size"))
    a_cell = 2 * 32 * 8 * 128 * 34 / 32  # keys and values, 32 layers, 8 heads of 128, 34 bytes for 32 elements
    assert plan.memory.state_bytes.value == cells * a_cell


def test_llama_server_on_a_card_and_a_processor() -> None:
    some = fits("llama-server", on="rtx-3070", weights="q8_0", gpu_layers=20, kv="fp16", flash_attention=False)
    assert (value(some, "--gpu-layers"), value(some, "--split-mode")) == ("20", "none")
    assert (value(some, "--cache-type-k"), value(some, "--flash-attn")) == ("f16", "off")
    experts = fits("llama-server", "qwen3-30b-a3b", on="rtx-3070", weights="q4_k_m", cpu_experts=40)
    assert (value(experts, "--n-cpu-moe"), value(experts, "--gpu-layers")) == ("40", "all")
    board = fits("llama-server", "smollm2-135m", on="raspberry-pi-5", weights="q8_0")
    assert (value(board, "--gpu-layers"), value(board, "--threads"), value(board, "--cache-ram")) == ("0", "4", "0")
    assert "--split-mode" not in board.arguments
    three = fits("llama-server", on="rtx-3090", devices=3, weights="q8_0")
    assert (value(three, "--split-mode"), value(three, "--tensor-split")) == ("layer", "1,1,1")


def test_vllm_has_the_layout_and_the_limits_of_the_plan() -> None:
    found = fits("vllm", "qwen3-235b-a22b", "h200-sxm", devices=8, tensor_parallel=4, data_parallel=2,
                 expert_parallel=8, concurrency=100, context_tokens=4096, kv="fp8", utilization=0.85)  # fmt: skip
    assert found.arguments[:2] == ("serve", "Qwen/Qwen3-235B-A22B")
    assert (value(found, "--tensor-parallel-size"), value(found, "--data-parallel-size")) == ("4", "2")
    assert "--enable-expert-parallel" in found.arguments
    assert value(found, "--max-num-seqs") == "50"  # of each of two copies
    assert (value(found, "--max-model-len"), value(found, "--kv-cache-dtype")) == ("4096", "fp8")
    assert (value(found, "--gpu-memory-utilization"), value(found, "--dtype")) == ("0.85", "bfloat16")
    limited = fits("vllm", concurrency=500, max_sequences=128)
    assert value(limited, "--max-num-seqs") == "128"


def test_sglang_copies_the_attention_of_mixtures_and_the_whole_of_others() -> None:
    mixture = fits("sglang", "qwen3-235b-a22b", "h200-sxm", devices=8, tensor_parallel=4, data_parallel=2,
                   expert_parallel=8, concurrency=64)  # fmt: skip
    assert (value(mixture, "--tensor-parallel-size"), value(mixture, "--data-parallel-size")) == ("8", "2")
    assert "--enable-dp-attention" in mixture.arguments and value(mixture, "--expert-parallel-size") == "8"
    assert value(mixture, "--max-running-requests") == "64"
    assert value(mixture, "--chunked-prefill-size") == "16384"  # of both copies: the server divides it
    dense = fits("sglang", devices=4, tensor_parallel=2, data_parallel=2, batch=8)
    assert (value(dense, "--tensor-parallel-size"), value(dense, "--data-parallel-size")) == ("2", "2")
    assert "--enable-dp-attention" not in dense.arguments and value(dense, "--chunked-prefill-size") == "8192"


def test_tensorrt_llm_says_in_a_file_what_options_cannot_say(adapter: Path) -> None:
    found = fits("tensorrt-llm", kv="fp8", adapters=[adapter], draft="llama-3.2-1b", batch=4)
    (name, text), *_ = found.files.items()
    assert value(found, "--extra_llm_api_options") == name
    paths: list[str] = []
    above: list[str] = []  # the file has two levels
    for line in text.splitlines():
        key, _, rest = line.strip().partition(":")
        above = [*above, key] if line.startswith(" ") else [key]
        paths.append(".".join([above[0], key]) if line.startswith(" ") else key)
        if rest.strip():
            json.loads(rest)
    assert set(paths) <= set(OPTIONS["tensorrt-llm-file"]["options"]), paths
    assert '  dtype: "fp8"' in text.splitlines() and "  max_lora_rank: 12" in text.splitlines()
    assert '  speculative_model: "meta-llama/Llama-3.2-1B"' in text.splitlines()
    copies = fits("tensorrt-llm", "qwen3-30b-a3b", devices=2, tensor_parallel=1, data_parallel=2)
    assert "enable_attention_dp: true" in copies.files[name].splitlines()
    assert value(copies, "--tensor_parallel_size") == "2"


def test_adapters_have_names_folders_and_a_rank_that_the_engine_takes(adapter: Path) -> None:
    vllm = fits("vllm", adapters=[adapter, adapter / "adapter_model.safetensors"])
    assert value(vllm, "--max-lora-rank") == "16"  # the next that vLLM can be told above 12
    place = vllm.arguments.index("--lora-modules")
    assert vllm.arguments[place + 1 : place + 3] == (f"my adapter={adapter}", f"my adapter-2={adapter}")
    assert value(fits("sglang", adapters=[adapter]), "--max-lora-rank") == "12"
    llama = fits("llama-server", weights="q8_0", adapters=[adapter])
    assert value(llama, "--lora") == "my adapter.gguf"
    assert any("convert_lora_to_gguf.py" in note for note in llama.notes)


def test_drafts_are_in_the_encoding_that_was_planned() -> None:
    found = json.loads(value(fits("vllm", "llama-3.1-70b", devices=4, draft="llama-3.2-1b", weights="fp8"),
                             "--speculative-config"))  # fmt: skip
    assert found == {"method": "draft_model", "model": "meta-llama/Llama-3.2-1B", "num_speculative_tokens": 3,
                     "draft_tensor_parallel_size": 4, "quantization": "fp8"}  # fmt: skip
    llama = fits("llama-server", "llama-3.1-70b", devices=4, draft="llama-3.2-1b", weights="q4_k_m", kv="q8_0")
    assert value(llama, "--spec-draft-model") == "llama-3.2-1b-q4_k_m.gguf"
    assert value(llama, "--spec-draft-type-v") == "q8_0"


# --- what is loaded --------------------------------------------------------------------------------------------------


def test_a_folder_is_named_as_it_was_given_and_quoted(model: Path) -> None:
    found = fits("vllm", model)
    assert found.arguments[1] == str(model)
    assert f"'{model}'" in found.line and shlex.split(found.line)[2] == str(model)
    assert fits("vllm", model / "model.safetensors").arguments[1] == str(model)
    assert value(found, "--dtype") == "float16" and found.notes == ()
    asked = fits("vllm", model, weights="awq-int4-g128")
    assert asked.arguments[1] == "my model; rm-awq-int4-g128"
    assert any("stands for a checkpoint in awq-int4-g128" in note for note in asked.notes)


def test_a_repository_is_pinned_to_the_commit_that_was_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    with hub_double.serve({"org/name": files}) as double:
        monkeypatch.setenv("HF_ENDPOINT", double.endpoint)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        plan = fit("org/name", "h100-sxm", runtime="vllm")
    found = launch(plan, "vllm")
    remote = plan.inspection.checkpoint.remote
    assert remote is not None and remote.revision
    assert (found.arguments[1], value(found, "--revision")) == ("org/name", remote.revision)


def test_a_configuration_has_no_weights_to_load(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = fits("vllm", tmp_path / "config.json")
    assert any("made without its weights" in note for note in found.notes)


def test_a_packed_model_is_loaded_as_it_is_packed(tmp_path: Path) -> None:
    packed = {**CONFIG, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    (tmp_path / "config.json").write_text(json.dumps(packed))
    assert "--quantization" not in fits("vllm", tmp_path / "config.json").arguments
    assert value(fits("vllm", weights="fp8"), "--quantization") == "fp8"
    assert value(fits("vllm", weights="nf4"), "--quantization") == "bitsandbytes"
    assert value(fits("sglang", weights="nf4"), "--load-format") == "bitsandbytes"
    assert not fits("tensorrt-llm", weights="fp8").arguments[0].startswith("meta-llama/")  # it makes none


def test_gguf_under_vllm_needs_a_package() -> None:
    found = fits("vllm", weights="q4_k_m")
    assert found.arguments[1] == "llama-3.1-8b-q4_k_m.gguf" and "--dtype" not in found.arguments
    assert any("vllm-gguf-plugin" in note for note in found.notes)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("vllm", {"kv": "fp8/bf16"}, "one encoding for both"),
        ("vllm", {"kv": "fp32"}, "one that it keeps"),
        ("sglang", {"kv": "int8"}, "one that it keeps"),
        ("tensorrt-llm", {"kv": "int8"}, "one that it keeps"),
        ("vllm", {"weights": "int4"}, "gptq-int4-g128"),
        ("vllm", {"weights": "int8"}, "w8a8"),
        ("vllm", {"on": "apple-m2-max", "source": "smollm2-135m"}, "launch llama-server there"),
        ("tensorrt-llm", {"devices": 2, "data_parallel": 2}, "a server for each copy"),
        ("vllm", {"source": "qwen3-30b-a3b", "devices": 4, "expert_parallel": 2}, "plan with --ep 4"),
        ("vllm", {"source": "bert-base"}, "a model that generates"),
        ("llama-server", {"batch": 300, "weights": "q4_k_m"}, "at most 256 slots"),
        ("llama-server", {"devices": 2, "tensor_parallel": 2, "weights": "q4_k_m"}, "leave --tp and --dp out"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_with_the_reason(engine: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(WeighbridgeError, match=words):
        fits(engine, **options)


def test_an_engine_that_is_none_is_refused() -> None:
    plan = fit("llama-3.1-8b", "h100-sxm")
    with pytest.raises(UnknownNameError, match="vllm"):
        launch(plan, "vlm")
    with pytest.raises(UnitError, match=r"the runtime llama\.cpp"):
        launch(plan, "llama-server")
    with pytest.raises(UnitError, match="leave --runtime out"):
        runtime_of("vllm", "sglang")


def test_a_format_that_servers_do_not_load_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    plan = fit(folder / "config.json", "h100-sxm", runtime="vllm")
    assert plan.inspection.format == "config"
    keras = replace(plan, inspection=replace(plan.inspection, format="keras"))
    with pytest.raises(ConfigError, match="a folder of safetensors"):
        launch(keras, "vllm")


def test_yaml_is_what_a_reader_of_yaml_reads() -> None:
    text = yaml({"a": {"b": "x: y", "c": ["-", "é"]}, "on": True, "n": 0.9})
    assert text == 'a:\n  b: "x: y"\n  c: ["-", "é"]\non: true\nn: 0.9\n'


# --- the command -----------------------------------------------------------------------------------------------------


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["fit", *arguments])


def test_the_engine_sets_the_runtime() -> None:
    done = weigh("llama-3.1-8b", "--on", "h100-sxm", "--launch", "llama-server", "--json")
    document = json.loads(done.stdout)
    assert document["runtime"] == "llama.cpp" and document["launch"]["program"] == "llama-server"
    assert document["launch"]["line"] == shlex.join(["llama-server", *document["launch"]["arguments"]])
    assert "launch" not in json.loads(weigh("llama-3.1-8b", "--on", "h100-sxm", "--json").stdout)
    against = weigh("llama-3.1-8b", "--on", "h100-sxm", "--launch", "vllm", "--runtime", "sglang")
    assert against.exit_code == 2 and "leave --runtime out" in against.output


def test_what_does_not_fit_has_no_line() -> None:
    done = weigh("llama-2-70b", "--on", "rtx-4090", "--weights", "q4_k_m", "--launch", "llama-server")
    assert done.exit_code == 1 and "no launch line" in done.stderr and "--ctx-size" not in done.stdout
    as_json = weigh("llama-2-70b", "--on", "rtx-4090", "--weights", "q4_k_m", "--launch", "llama-server", "--json")
    assert as_json.exit_code == 1 and json.loads(as_json.stdout)["launch"] is None


def test_files_are_printed_for_a_shell() -> None:
    done = weigh("llama-3.1-8b", "--on", "h100-sxm", "--kv", "fp8", "--launch", "tensorrt-llm")
    assert "cat > trtllm-options.yaml <<'END'\n" in done.stdout and "\nEND\ntrtllm-serve " in done.stdout


def test_a_changed_model_can_be_planned_and_not_launched() -> None:
    plain, changed = (json.loads(weigh("llama-2-70b", "--on", "h200-sxm", "--devices", "8", *more, "--json").stdout)
                      for more in ([], ["--set", "num_key_value_heads=64"]))  # fmt: skip
    state = [document["memory"]["state_bytes"]["value"] for document in (plain, changed)]
    assert state[1] == 8 * state[0]
    refused = weigh("llama-2-70b", "--on", "h200-sxm", "--set", "num_key_value_heads=64", "--launch", "vllm")
    assert refused.exit_code == 2 and "no file holds" in refused.output
    for option in (["--set", "a=1"], ["--launch", "vllm"]):
        within = weigh("llama-2-70b", "--within", "1GB", *option)
        assert within.exit_code == 2 and "name one with --on" in within.output


def test_an_accelerator_that_is_no_graphics_card_may_need_a_plugin() -> None:
    assert any("depends on its build or a plugin" in note for note in fits("sglang", on="cerebras-wse-3").notes)
    assert not any("plugin" in note for note in fits("sglang").notes)
