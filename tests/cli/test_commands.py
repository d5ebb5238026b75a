"""The command as a stranger runs it: output, JSON, exit codes, files written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from weighbridge import __version__
from weighbridge.cli import main
from weighbridge.cli.group import COMMANDS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "counts.json").read_text())["models"]
CONFIGS: dict[str, dict[str, Any]] = {row["name"]: row["config"] for row in GOLDEN}


def weigh(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIGS["mixtral-8x7b"]))
    return path


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    half = np.ones((4, 4), "float32")
    half[:2] = 0
    safetensors.numpy.save_file({"w": half, "b": np.ones(4, "float32")}, tmp_path / "pruned.safetensors")
    return tmp_path / "pruned.safetensors"


def test_inspect_prints_tables_that_a_person_can_read(config: Path) -> None:
    result = weigh("inspect", config)
    assert result.exit_code == 0 and "\x1b" not in result.stdout
    for text in ("46,702,792,704 parameters (46.7B, exact)", "12,879,925,248 of 46,702,792,704", "93.41 GB (86.99 GiB)",
                 "131,072 B", "reconciliation: not applicable"):  # fmt: skip
        assert text in result.stdout
    shares = [
        float(line.split("%")[0].split()[-1]) for line in result.stdout.split("share")[1].splitlines() if "%" in line
    ]
    assert abs(sum(shares) - 100) < 0.05


def test_json_is_one_document_and_nothing_else(config: Path) -> None:
    result = weigh("inspect", config, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and result.stderr == ""
    assert document["parameters"]["total"] == 46_702_792_704
    assert set(document["parameters"]["by_component"]) == {
        "embedding", "attention", "mlp", "experts", "shared_experts", "router", "norm", "ssm", "vision_audio", "head",
        "other"}  # fmt: skip
    assert {"fp32", "bf16", "int8", "q8_0", "q4_k_m"} <= set(document["bytes"]["by_encoding"])
    assert set(document["state"]["kv_bytes_per_token"]) == {"bf16", "fp8", "q8_0"}


def test_context_adds_attention_to_the_flops(config: Path) -> None:
    base = json.loads(weigh("inspect", config, "--json").stdout)["flops"]["per_token_forward"]
    more = json.loads(weigh("inspect", config, "--json", "--context", "1k").stdout)["flops"]["per_token_forward"]
    assert more - base == 4 * 4096 * 1000 * 32
    assert weigh("inspect", config, "--context", "1GB").exit_code == 2


def test_set_answers_what_if(config: Path) -> None:
    changed = json.loads(weigh("inspect", config, "--json", "--set", "num_local_experts=16").stdout)
    assert changed["parameters"]["by_component"]["experts"] == 2 * 45_097_156_608
    assert changed["parameters"]["active_per_token"] == 12_879_925_248 + 32 * 8 * 4096  # only the router grows
    assert any("num_local_experts = 16" in note for note in changed["notes"])
    assert weigh("inspect", config, "--set", "nonsense").exit_code == 2


def test_tensors_are_listed_a_line_each(config: Path, pruned: Path) -> None:
    lines = weigh("inspect", pruned, "--tensors").stdout.splitlines()
    assert sorted(lines) == ["b\t4\t4\tfp32\t16", "w\t4x4\t16\tfp32\t64"]
    described = weigh("inspect", config, "--tensors").stdout.splitlines()
    assert "model.layers.31.block_sparse_moe.experts.7.w2.weight\t4096x14336\t58720256" in described
    assert len(described) == 32 * (4 + 1 + 8 * 3 + 2) + 3
    listed = json.loads(weigh("inspect", pruned, "--tensors", "--json").stdout)["tensors"]
    assert {row["name"]: row["bytes"] for row in listed} == {"w": 64, "b": 16}


def test_values_count_zeros(pruned: Path) -> None:
    found = json.loads(weigh("inspect", pruned, "--values", "--json").stdout)
    assert found["parameters"]["total"] == 20
    assert (found["values"]["elements_read"], found["values"]["nonzero"], found["values"]["zero"]) == (20, 12, 8)
    assert "not zero" in weigh("inspect", pruned, "--values").stdout


def test_values_say_what_stands_out_and_list_every_tensor_when_asked(tmp_path: Path) -> None:
    path, draw = tmp_path / "m.safetensors", np.random.default_rng(0)
    weights = draw.standard_normal((64, 32)).astype("float32")
    broken, dead, far = (weights.copy() for _ in range(3))
    broken[3, 4], broken[5] = np.nan, np.inf
    dead[:7] = 0
    far[9, 9] = 1000
    flat = np.outer(np.arange(1, 65), np.arange(1, 33)).astype("float32")
    norms = {f"norm.{number}": np.ones(8, "float32") for number in range(9)}
    tensors = {"embedding": weights, "head": weights.copy(), "broken": broken, "dead": dead, "far": far, "flat": flat}
    safetensors.numpy.save_file(tensors | norms, path)
    result = weigh("inspect", path, "--values")
    assert result.exit_code == 0 and result.stderr == ""
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    told = [(line[0], line[-1].strip()) for line in lines if line[0] in {*tensors, *norms, "... and 5 more"}]
    assert told == [
        ("broken", "1 NaN, 32 infinite"), ("head", "a copy of embedding"), ("dead", "7 rows and 0 columns of zeros"),
        ("norm.0", "every element is 1"), ("norm.1", "every element is 1"), ("norm.2", "every element is 1"),
        ("norm.3", "every element is 1"), ("... and 5 more", "... and 5 more"),
        ("far", "outliers: 1, the farthest at 45.2 standard deviations"),
        ("flat", "effective rank 1.0 of a sample of 64 rows and 32 columns, seed 0"),
        ("far", "effective rank 3.0 of a sample of 64 rows and 32 columns, seed 0"),
    ]  # fmt: skip
    every = weigh("inspect", path, "--values", "--tensors").stdout
    row = next(line for line in every.splitlines() if line.startswith("dead ") and "%" in line).split()
    assert row[5] == "10.94%" and row[8:12] == ["0", "7", "0", row[11]]


def test_a_header_that_changes_before_its_values_are_read_is_told(
    pruned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the header and the weights, another file of the same size takes the place."""
    from weighbridge.cli import inspect

    monkeypatch.setattr(inspect, "_load_numpy_in_one_thread",
                        lambda: pruned.write_bytes(pruned.read_bytes().replace(b"[4,4]", b"[2,8]")))  # fmt: skip
    result = weigh("inspect", pruned, "--values")
    assert result.exit_code == 2 and "was changed while it was read" in result.stderr and result.stdout == ""


def test_a_file_that_changes_while_its_values_are_read_is_refused(
    pruned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weighbridge.formats import contents

    pieces = contents.pieces

    def change(*arguments: Any) -> Any:
        os.utime(pruned, ns=(0, 10**18))
        return pieces(*arguments)

    monkeypatch.setattr(contents, "pieces", change)
    result = weigh("inspect", pruned, "--values", "--json")
    assert result.exit_code == 2 and "was changed while it was read" in result.stderr and result.stdout == ""


def test_values_need_weights(config: Path) -> None:
    result = weigh("inspect", config, "--values")
    assert result.exit_code == 2 and "holds no weights" in result.stderr


def test_every_table_says_what_its_numbers_rest_on(pruned: Path, config: Path) -> None:
    import click

    from weighbridge.inspection import inspect
    from weighbridge.show import tables

    for source in (pruned, config):
        lines = list(tables.inspection_lines(inspect(source)))
        titles = [click.unstyle(line) for line, after in zip(lines, lines[2:], strict=False) if after.startswith("──")]
        assert len(titles) >= 3 and all("exact" in title or "specified" in title for title in titles)


def test_pictures_are_written_whole(config: Path, tmp_path: Path) -> None:
    svg, page = tmp_path / "m.svg", tmp_path / "m.html"
    result = weigh("inspect", config, "--svg", svg, "--html", page, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)
    assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "46,702,792,704" in page.read_text() and "<script" not in page.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "m.html", "m.svg"]
    missing = weigh("inspect", config, "--svg", tmp_path / "no" / "m.svg")
    assert missing.exit_code == 2 and "cannot be written" in missing.stderr and not (tmp_path / "no").exists()


def test_strict_turns_a_difference_into_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["smollm2-135m"]))
    safetensors.numpy.save_file({"model.norm.weight": np.ones(576, "float32")}, tmp_path / "model.safetensors")
    assert weigh("inspect", tmp_path).exit_code == 0
    assert "DIFFERENCE" in weigh("inspect", tmp_path).stdout
    assert weigh("inspect", tmp_path, "--strict").exit_code == 1
    assert weigh("inspect", tmp_path / "config.json", "--strict").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [("inspect", "nothing-here"), ("inspect", "."), ("inspect",), ("layer", "linear:3"), ("layer", "conv:x"),
     ("nonsense",), ("layer", "--nonsense"), ("completion", "tcsh"), ("web", "--port", "70000")],
)  # fmt: skip
def test_unusable_input_is_one_message_and_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = weigh(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert "Error" in result.stderr or result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a\x1b[2J\nb": np.ones(1, "float32")}, tmp_path / "m.safetensors")
    out = weigh("inspect", tmp_path / "m.safetensors", "--tensors").stdout
    assert "\x1b" not in out and out.count("\n") == 1 and "\\x1b" in out


def test_layers_in_text_and_json() -> None:
    assert "5,050 parameters (exact)" in weigh("layer", "linear:100x50").stdout
    both = json.loads(weigh("layer", "linear:100x50", "conv:7x7:3:64", "--json").stdout)
    assert [row["parameters"] for row in both] == [5050, 9408]
    assert json.loads(weigh("layer", "relu", "--json").stdout)["parameters"] == 0


def test_lists() -> None:
    encodings = json.loads(weigh("encodings", "--json").stdout)
    assert {"name": "q4_k", "elements_per_block": 256, "bytes_per_block": 144, "bits_per_weight": 4.5, "gguf_type": 12,
            "aliases": []} in encodings["encodings"]  # fmt: skip
    assert "q4_k_m" in weigh("encodings").stdout
    families = json.loads(weigh("families", "--json").stdout)
    assert {"bert", "gpt2", "llama", "mixtral"} <= {row["name"] for row in families}
    assert "qwen2" in weigh("families").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    script = weigh("completion", shell).stdout
    assert "_WEIGH_COMPLETE" in script
    assert json.loads(weigh("completion", shell, "--json").stdout)["script"].strip() == script.strip()


def test_every_command_is_listed_with_help() -> None:
    listing = weigh("--help").stdout
    for name, text in COMMANDS.items():
        assert name in listing
        help_text = weigh(name, "--help")
        assert help_text.exit_code == 0 and text.rstrip(".") in " ".join(help_text.stdout.split())


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weighbridge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def test_the_module_is_the_command() -> None:
    assert run("--version").stdout.strip() == f"weigh {__version__}"


def test_starting_loads_nothing_heavy(config: Path) -> None:
    script = (
        "import sys\nfrom weighbridge.cli import main\n"
        f"try: main(['inspect', {str(config)!r}])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'matplotlib', 'rich', 'starlette'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_not_an_error(config: Path) -> None:
    command = f"{sys.executable} -m weighbridge inspect {config} --tensors | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.stdout.startswith("model.embed_tokens.weight")


def test_output_survives_a_terminal_without_unicode(config: Path) -> None:
    done = run("inspect", str(config), env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert "Traceback" not in done.stderr and "46,702,792,704" in done.stdout


def test_a_run_that_is_stopped_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weighbridge.inspection.inspect", stopped)
    done = weigh("inspect", "config.json")
    assert done.exit_code == 130 and "stopped" in done.stderr and not done.stdout


def test_masks_are_no_pruned_parameters(tmp_path: Path) -> None:
    """Of a file with a half-zeroed matrix and a causal mask both counts are told, and the mask is in neither share."""
    weights = np.ones((4, 8), "float16")
    weights[:2] = 0
    mask = np.tril(np.ones((1, 1, 8, 8), "uint8"))
    safetensors.numpy.save_file({"w.weight": weights, "attn.bias": mask}, tmp_path / "m.safetensors")
    document = json.loads(weigh("inspect", str(tmp_path / "m.safetensors"), "--values", "--json").stdout)
    values = document["values"]
    assert (document["parameters"]["total"], values["parameters_read"], values["parameters_zero"]) == (32, 32, 16)
    assert (values["elements_read"], values["zero"]) == (32 + 64, 16 + 28)
    assert values["storage"]["zero_share"] == 0.5
