"""What is given to the command in bad faith or by mistake: one sentence, exit code 2, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from weighbridge.cli import main
from weighbridge.errors import SourceError, UnitError, WeighbridgeError
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import inspect
from weighbridge.layer import count_layer
from weighbridge.show import treemap
from weighbridge.web import server

SMALL = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50, "tie_word_embeddings": True}  # fmt: skip


def weigh(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def weights(dtype: str = "float16", **changes: object) -> dict[str, np.ndarray]:
    model = inspect(SMALL | changes).architecture
    assert model is not None
    return {t.name: np.ones(t.shape, dtype) for t in model.tensors() if t.tied_to is None}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    safetensors.numpy.save_file(weights(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    return tmp_path


def test_a_pipe_without_an_end_is_no_file(tmp_path: Path) -> None:
    """A named pipe would block whoever reads it."""
    os.mkfifo(tmp_path / "f.json")
    assert "no plain file" in refused(weigh("inspect", tmp_path / "f.json"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a" * 300, "too long"),
        ("nul\0byte", "nul\\x00byte"),
        ("", "no name"),
        ("https://a.example/m.gguf", "behind a network"),
    ],
)
def test_names_that_no_file_can_have(name: str, words: str) -> None:
    """Overlong names, NUL bytes, nothing at all and addresses each have their own refusal."""
    assert words in refused(weigh("inspect", name))


@pytest.mark.parametrize("name", ["new\nline.json", "\udcff.json", "with space.json", "ümläut.JSON"])
def test_unusual_names_are_files_like_others(tmp_path: Path, name: str) -> None:
    """A file may have any name that the system lets it have."""
    (tmp_path / name).write_text(json.dumps(SMALL))
    result = weigh("inspect", tmp_path / name)
    if "\n" in name:  # which is refused in one line: it could fake a second line of output
        assert "\\n" in refused(result)
    else:
        assert result.exit_code == 0


def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    """A folder without permissions is said to be unreadable (a superuser reads it all the same)."""
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "no").chmod(0)
    try:
        result = weigh("inspect", tmp_path / "no" / "config.json")
        assert result.exit_code == 0 or refused(result)
    finally:
        (tmp_path / "no").chmod(0o700)


def test_a_link_to_itself_beside_a_model_is_passed_over(model: Path) -> None:
    """A link that leads nowhere is no file and no reason to stop."""
    (model / "loop").symlink_to(model / "loop")
    assert weigh("inspect", model / "model.safetensors").exit_code == 0


def test_a_broken_configuration_beside_a_named_file_is_left_aside_and_told(model: Path) -> None:
    """The weight file was asked for: its neighbour must not stop it, as it must when the folder is asked for."""
    (model / "config.json").write_text("")
    named = weigh("inspect", model / "model.safetensors")
    assert named.exit_code == 0 and "left aside" in named.stdout
    refused(weigh("inspect", model))


def test_a_pointer_of_git_lfs_is_not_a_model(tmp_path: Path) -> None:
    """A clone without the large files holds pointers in their place."""
    (tmp_path / "m.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in refused(weigh("inspect", tmp_path / "m.safetensors"))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_one_shard_is_not_the_whole_model(tmp_path: Path, ending: str) -> None:
    """A download that stopped after the first shard must not be weighed as a smaller model."""
    name = f"model-00001-of-00002.{ending}"
    safetensors.numpy.save_file({"w": np.ones(3)}, tmp_path / name)
    for source in (tmp_path, tmp_path / name):
        assert "1 of 2 shards, not number 2" in refused(weigh("inspect", source))


@pytest.mark.parametrize("target", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("option", ["--svg", "--html"])
def test_a_picture_is_not_written_over_the_model(model: Path, target: str, option: str) -> None:
    """A slip of the pen must not cost the weights."""
    before = (model / target).read_bytes()
    for source in (model, model / "model.safetensors"):
        assert "another file" in refused(weigh("inspect", source, option, model / target))
    assert (model / target).read_bytes() == before


def test_two_pictures_are_not_written_into_one_file(model: Path) -> None:
    """The second would silently replace the first."""
    refused(weigh("inspect", model, "--svg", model / "a", "--html", model / "a"))


def test_links_and_pipes_are_written_through(model: Path) -> None:
    """What a link points to is replaced, the link stays; a device is written to, never replaced."""
    (model / "real.svg").write_text("old")
    (model / "link.svg").symlink_to("real.svg")
    assert weigh("inspect", model, "--svg", model / "link.svg").exit_code == 0
    assert (model / "link.svg").is_symlink() and (model / "real.svg").read_text().startswith("<svg")
    os.mkfifo(model / "pipe")
    command = f"{sys.executable} -m weighbridge inspect {model} --svg {model}/pipe"
    script = f"timeout 20 cat {model}/pipe >{model}/out.svg & {command}; wait"
    subprocess.run(["bash", "-c", script], check=True, capture_output=True, timeout=40)
    assert (model / "pipe").is_fifo() and (model / "out.svg").read_text().startswith("<svg")


def test_a_full_disk_under_standard_output_is_said(model: Path) -> None:
    """Where the output goes there may be no room."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    command = f"{sys.executable} -m weighbridge inspect {model} >/dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_refusal(model: Path) -> None:
    """`head` closes the pipe early; 1 would mean that the answer is no."""
    command = f"{sys.executable} -m weighbridge inspect {model} --tensors | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_terminals_of_every_encoding(model: Path, encoding: str) -> None:
    """A character that the terminal lacks becomes a question mark, not a traceback."""
    command = [sys.executable, "-m", "weighbridge", "inspect", str(model)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0 and b"parameters" in done.stdout and done.stderr == b""


def test_escape_sequences_in_a_message_are_written_out(tmp_path: Path) -> None:
    """A class or file name must not steer the terminal."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"architectures": ["\x1b[2J\x1b]0;x\x07X"]}))
    assert "\x1b" not in refused(weigh("inspect", tmp_path / "config.json"))
    assert "\x1b" not in str(SourceError("a\x1b", "b\x07", "c\n"))


def test_escape_sequences_in_a_picture_are_written_out(tmp_path: Path) -> None:
    """Control characters make an SVG unreadable for every viewer."""
    import xml.etree.ElementTree as ET

    safetensors.numpy.save_file({"a\x01<b>&": np.ones(5)}, tmp_path / "m.safetensors")
    root = ET.fromstring(treemap.svg(inspect(tmp_path / "m.safetensors")))
    assert any("a\\x01<b>&" in (element.text or "") for element in root.iter())


def test_layers_without_end_are_refused_at_once() -> None:
    """A million recurrent layers would fill a server's time and memory."""
    start = time.process_time()
    with pytest.raises(UnitError, match="10,000"):
        count_layer("lstm:1:1:layers=10M")
    assert time.process_time() - start < 0.5
    assert (
        TestClient(server.application(), base_url="http://127.0.0.1")
        .get("/api/layer?spec=gru:1:1:layers=1T")
        .status_code
        == 400
    )


@pytest.mark.parametrize(
    "spec", ["attention:768:12:kv", "mlp:8:8:gated=5", "linear:3x4:bias:nobias", "linear:3x4:bias:bias"]
)
def test_options_without_or_with_a_value_are_told_apart(spec: str) -> None:
    """A forgotten value must not mean 1."""
    with pytest.raises(WeighbridgeError):
        count_layer(spec)


@pytest.mark.parametrize("value", ["x", 2.5, [3], {"a": 1}, float("nan"), -3])
def test_settings_of_windows_are_checked_too(value: object) -> None:
    """A setting that only matters with another must not be read unchecked."""
    config = SMALL | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 2,
                      "use_sliding_window": True, "sliding_window": 8, "max_window_layers": value}  # fmt: skip
    with pytest.raises(WeighbridgeError):
        inspect(config)
    with pytest.raises(WeighbridgeError):
        inspect(config | {"max_window_layers": 1, "layer_types": [value, value]})
    assert inspect(config | {"use_sliding_window": False, "sliding_window": 0}).parameters.total > 0


@pytest.mark.parametrize("context", [-1, 1.5, "4K", True, 2**50])
def test_contexts_are_whole_numbers(context: object) -> None:
    """The library checks what the command line would."""
    with pytest.raises(UnitError):
        inspect(SMALL, context_tokens=context)  # type: ignore[arg-type]


def test_a_misspelt_setting_is_named(model: Path) -> None:
    """A what-if question that changes nothing must not look answered."""
    message = refused(weigh("inspect", model / "config.json", "--set", "num_hidden_layer=3"))
    assert "num_hidden_layers" in message


def test_extreme_widths_are_drawn() -> None:
    """Parts a trillion times apart leave no area for the smallest."""
    config = {"model_type": "bert", "hidden_size": 10**12, "num_hidden_layers": 1, "num_attention_heads": 1,
              "vocab_size": 9, "intermediate_size": 1}  # fmt: skip
    assert treemap.svg(inspect(config)).endswith("</svg>")


def test_integers_do_not_prove_a_description(tmp_path: Path) -> None:
    """A file of integers under the right names holds no parameter of the model."""
    safetensors.numpy.save_file(weights("int8"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    result = inspect(tmp_path).reconciliation
    assert result.status is Status.DIFFERS and {d.kind for d in result.differences} == {"encoding"}


@pytest.mark.parametrize(
    ("name", "array"),
    [("model.extra.weight", np.ones((9, 9), "int32")), ("adapter.window", np.ones((2, 3, 4), "float32"))],
)
def test_what_no_rule_names_is_not_explained(model: Path, name: str, array: np.ndarray) -> None:
    """Integers and look-alike names are differences unless a rule about name and shape says what they are."""
    safetensors.numpy.save_file(weights() | {name: array}, model / "model.safetensors")
    result = inspect(model).reconciliation
    assert result.status is Status.DIFFERS and [d.kind for d in result.differences] == ["unexpected"]


def test_a_packed_configuration_does_not_vouch_for_any_file(tmp_path: Path) -> None:
    """`quantization_config` explains other names and shapes, not another model."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"quantization_config": {"quant_method": "gptq"}}))
    safetensors.numpy.save_file({"foo": np.ones((3, 3))}, tmp_path / "model.safetensors")
    assert inspect(tmp_path).reconciliation.status is Status.DIFFERS
    assert inspect(tmp_path / "model.safetensors").architecture is None
    packed: dict[str, np.ndarray] = {}
    for tensor, array in weights().items():
        linear = tensor.endswith("_proj.weight")
        packed[tensor.replace(".weight", ".qweight") if linear else tensor] = np.ones(4, "int32") if linear else array
    safetensors.numpy.save_file(packed, tmp_path / "model.safetensors")
    found = inspect(tmp_path)
    assert found.reconciliation.status is Status.DIFFERS
    assert any("packed tensors do not fit together" in note for note in found.notes)


def test_old_names_of_norms_and_either_name_of_a_tied_head(tmp_path: Path) -> None:
    """TensorFlow's gamma and beta, and a tied matrix kept under the head's name, are the same model."""
    bert = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 9, "intermediate_size": 8}  # fmt: skip
    described = inspect(bert).architecture
    assert described is not None
    endings = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    old = {}
    for tensor in described.tensors():
        module, _, ending = tensor.name.rpartition("LayerNorm")
        name = module + endings["LayerNorm" + ending] if module else tensor.name
        old[name] = tensor.shape
    (tmp_path / "config.json").write_text(json.dumps(bert))
    safetensors.numpy.save_file({name: np.ones(shape) for name, shape in old.items()}, tmp_path / "model.safetensors")
    assert inspect(tmp_path).reconciliation.status is Status.AGREES
    renamed = weights()
    renamed["lm_head.weight"] = renamed.pop("model.embed_tokens.weight")
    safetensors.numpy.save_file(renamed, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    result = inspect(tmp_path).reconciliation
    assert result.status is Status.AGREES and result.differences == ()


def gpt2_gguf(path: Path, head: bool) -> None:
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 20, "n_positions": 8}
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(1)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_context_length(8)
    writer.add_vocab_size(20)
    described = inspect(config).architecture
    assert described is not None
    for tensor in described.tensors("gguf"):
        if head or tensor.tied_to is None:
            writer.add_tensor(tensor.name, np.ones(tensor.shape, "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gpt2_file_with_a_copy_of_its_head_is_no_larger_model(tmp_path: Path) -> None:
    """Old converters wrote the tied head a second time."""
    gpt2_gguf(tmp_path / "a.gguf", head=False)
    gpt2_gguf(tmp_path / "b.gguf", head=True)
    a, b = inspect(tmp_path / "a.gguf"), inspect(tmp_path / "b.gguf")
    assert (
        a.parameters.total == b.parameters.total and a.reconciliation.status is b.reconciliation.status is Status.AGREES
    )
    assert [d.kind for d in b.reconciliation.differences] == ["tied_copy"]


def test_a_port_in_use_is_one_sentence() -> None:
    """Another program may have the port."""
    import socket

    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        assert "--port" in refused(weigh("web", "--port", str(taken.getsockname()[1])))


def test_labels_of_a_classifier_follow_the_reference() -> None:
    """`id2label` decides over `num_labels`, as in transformers."""
    config = SMALL | {"architectures": ["LlamaForSequenceClassification"], "num_labels": 2,
                      "id2label": {"0": "a", "1": "b", "2": "c"}}  # fmt: skip
    assert inspect(config).parameters.by_component["head"] == 3 * 32


def test_no_cache_is_priced_that_the_runtime_refuses() -> None:
    """llama.cpp encodes a cache in rows of one head: 100 numbers are no whole number of 32."""
    config = SMALL | {"hidden_size": 3200, "num_attention_heads": 32}
    assert inspect(config).to_json()["state"]["kv_bytes_per_token"]["q8_0"] is None
