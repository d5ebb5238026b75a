"""Is only what has passed left, wherever a run ends, and does it fit where it was asked to?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.compress.small_folders import byte_level, llama

from weighbridge.cli import main
from weighbridge.compress import importance, plan, shrink, targets
from weighbridge.compress.importance import Importance
from weighbridge.compress.shrink import Wish
from weighbridge.compress.targets import GgufTarget
from weighbridge.errors import UnitError
from weighbridge.planning import fit

pytest.importorskip("xllamacpp")
FORMATS = ["gguf", "safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    llama(tmp_path / "a", byte_level(tmp_path / "a").get_vocab_size())
    return tmp_path / "a"


def shrunk(*words: Any) -> Any:
    return CliRunner().invoke(main, ["shrink", *map(str, words)])


KILLED = """
import os, signal, sys
from weighbridge.cli import main
from weighbridge.compress import shrink

class Proof:
    verdict, reason, candidate = "equivalent", "", ""

shrink.of_models = lambda *given: Proof()
shrink._settled = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_killed_before_the_result_is_renamed_leaves_none_and_the_next_goes_on(
    folder: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, data = tmp_path / "b", tmp_path / "x.jsonl"
    data.write_text('{"text": "a b"}\n')
    words = ["shrink", str(folder), "-o", str(target), "--method", "q8_0" if form == "gguf" else "int8",
             "--format", form, "--proof", str(data), "--keep", "0.9"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", KILLED, *words], timeout=60, capture_output=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not target.exists() and len(list(tmp_path.glob("b.*trial*"))) == 1

    class Said:
        verdict, reason, candidate = "equivalent", "as planted", ""

    monkeypatch.setattr(shrink, "of_models", lambda *given: Said())
    monkeypatch.setattr(shrink, "replace", lambda found, **changes: found)
    from weighbridge.prove.comparison import Rule
    from weighbridge.prove.plan import Plan

    wish = Wish(method="q8_0" if form == "gguf" else "int8", format=form)
    found = shrink.shrink(folder, target, wish, Plan(data=data), Rule(keep=0.9))
    assert (
        found.path == str(target)
        and target.exists()
        and sorted(one.name for one in tmp_path.iterdir()) == ["a", "b", "x.jsonl"]
    )


@pytest.mark.parametrize("form", FORMATS)
def test_what_others_keep_beside_the_target_is_left_alone(folder: Path, tmp_path: Path, form: str) -> None:
    for name in ("b.trial", "b.0.trial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    (tmp_path / "b.trial.gguf").write_text("mine")
    proof = tmp_path / "texts.jsonl"
    proof.write_text("no examples")
    words = (folder, "-o", tmp_path / "b", "--bits", "20", "--format", form)
    done = shrunk(*words, "--proof", proof, "--keep", "0.9")
    assert done.exit_code == 2 and not (tmp_path / "b").exists()
    assert shrunk(*words).exit_code == 0
    assert all((tmp_path / name / "mine.txt").read_text() == "mine" for name in ("b.trial", "b.0.trial"))
    assert (tmp_path / "b.trial.gguf").read_text() == "mine" and not list(tmp_path.glob("*weigh-shrink*"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_plan_alone_writes_nothing(folder: Path, tmp_path: Path, form: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = shrunk(folder, "--bits", "20", "--plan-only", "--format", form, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["output"] is None and found["tried"] == [] and found["proof"] is None
    assert found["output_bytes"] <= found["budget_bytes"] and len(found["tensors"]) > 10
    assert sorted(tmp_path.rglob("*")) == before
    named = shrunk(folder, "--bits", "10", "--plan-only", "-o", tmp_path / "b")
    assert named.exit_code == 0 and not (tmp_path / "b").exists()


def room(source: Path, batch: int) -> int:
    planned = fit(source, "graphcore-gc200", runtime="llama.cpp", weights="q4_k_m", alternatives=False,
                  prompt_tokens=200, output_tokens=56, context_tokens=256, batch=batch)  # fmt: skip
    assert planned.memory.room_bytes is not None
    return planned.memory.room_bytes


def test_what_is_written_for_a_device_fits_it(folder: Path, tmp_path: Path) -> None:
    stored = GgufTarget(folder).size_bytes
    each = (room(folder, 1) - room(folder, 1001)) // 1000
    batch = 1 + (room(folder, 1) - stored // 2) // each  # as many as leave half of what the weights take
    asked = ("--fit", "graphcore-gc200", "--context", 256)
    target = tmp_path / "b.gguf"
    done = shrunk(folder, "-o", target, *asked, "--batch", batch, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert target.stat().st_size == found["output_bytes"] <= found["budget_bytes"] < stored
    for more, fits in ((0, True), (100, False)):
        words = ["fit", str(target), "--on", "graphcore-gc200", "--context", "256", "--prompt", "200", "--output", "56",
                 "--batch", str(batch + more * stored // each // 100), "--json"]  # fmt: skip
        planned = CliRunner().invoke(main, words)
        assert json.loads(planned.stdout)["memory"]["fits"] is fits, planned.stderr
    target.unlink()
    full = shrunk(folder, "-o", target, *asked, "--batch", batch + stored // each)
    assert full.exit_code == 1 and "a shorter context" in full.stderr and not list(tmp_path.glob("b*"))
    unknown = shrunk(folder, "-o", target, "--fit", "hailo-8")
    assert unknown.exit_code == 2 and "memory is not known" in unknown.stderr


def write_matrix(path: Path, folder: Path, seed: int = 1) -> Importance:
    """An importance of every matrix of a folder by llama.cpp's names."""
    generator = np.random.default_rng(seed)
    tensors = [one for one in GgufTarget(folder).tensors if len(one.shape) > 1]
    means = {one.name: generator.lognormal(0, 2, one.shape[-1]).astype(np.float32) for one in tensors}
    found = Importance(means, {name: np.array([9]) for name in means}, ("x",), 1, 512)
    importance.write(path, found)
    return found


def test_an_importance_matrix_changes_what_is_written(folder: Path, tmp_path: Path) -> None:
    found = write_matrix(tmp_path / "im.gguf", folder)
    plain, weighed = tmp_path / "plain.gguf", tmp_path / "weighed.gguf"
    assert shrunk(folder, "-o", plain, "--method", "q4_0").exit_code == 0
    done = shrunk(folder, "-o", weighed, "--method", "q4_0", "--imatrix", tmp_path / "im.gguf", "--json")
    assert done.exit_code == 0 and "im.gguf" in json.loads(done.stdout)["costs"]["by"]
    assert plain.stat().st_size == weighed.stat().st_size and plain.read_bytes() != weighed.read_bytes()
    exact, one, other = (GgufTarget(path) for path in (folder, plain, weighed))
    for before, mine, theirs in zip(exact.tensors, one.tensors, other.tensors, strict=True):
        if mine.encoding.name == "q4_0":
            rows, first, second = (each.source.rows(tensor, 0, tensor.shape[0]) for each, tensor in (
                (exact, before), (one, mine), (other, theirs)))  # fmt: skip
            lost = [float((np.square(each - rows) * found.means[before.name]).sum()) for each in (first, second)]
            assert lost[1] < lost[0]  # where columns count, less is lost


def test_with_data_a_budget_can_be_met_that_is_too_small_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "CHOICES", ("iq2_xs", "q2_k", "q8_0"))  # tables of others take seconds to make
    monkeypatch.setattr(plan, "SAMPLE_WEIGHTS", 2048)
    folder = tmp_path / "a"  # rows of 256, which encodings of 2 bits take
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "head_dim": 64, "intermediate_size": 256}
    made, wish = _wide(folder, sizes), Wish(to_bytes=1)
    write_matrix(tmp_path / "im.gguf", folder)
    plain, learned = _least(made, wish, None), _least(made, wish, tmp_path / "im.gguf")
    assert learned < plain
    words = (folder, "-o", tmp_path / "b.gguf", "--to", learned + 100)
    assert shrunk(*words).exit_code == 1
    done = shrunk(*words, "--imatrix", tmp_path / "im.gguf")
    assert done.exit_code == 0 and (tmp_path / "b.gguf").stat().st_size <= learned + 100
    from weighbridge.compress.sensitivity import by_role, completed, with_importance

    seen = with_importance(made.tensors, importance.read(tmp_path / "im.gguf"), "im.gguf")
    choices = shrink._choices(made, Wish(to_bytes=learned + 100), learned + 100, seen, None, climbs=True)
    assert [one.costs.basis for one in choices] == [completed(made.tensors, seen).basis]
    method = shrink._choices(made, Wish(method="iq2_xs"), None, seen, None, climbs=True)
    assert [one.costs.basis for one in method] == [seen.basis] != [by_role(made.tensors).basis]


def _wide(folder: Path, sizes: dict[str, int]) -> GgufTarget:
    from safetensors.numpy import save_file

    rows = byte_level(folder).get_vocab_size()
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "vocab_size": rows,
        "num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": True, **sizes}))  # fmt: skip
    at, draw = "model.layers.0", np.random.default_rng(2)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (rows, 256), "model.norm": (256,)}
    shapes |= {f"{at}.{name}_layernorm": (256,) for name in ("input", "post_attention")}
    shapes |= {f"{at}.self_attn.{name}_proj": (256 if name in "qo" else 64, 256) for name in "qkvo"}
    shapes |= {f"{at}.mlp.{name}_proj": (256, 256) for name in ("gate", "up", "down")}
    save_file({f"{name}.weight": draw.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()},
              folder / "model.safetensors")  # fmt: skip
    return GgufTarget(folder)


def _least(made: GgufTarget, wish: Wish, matrix: Path | None) -> int:
    """The bytes of the smallest choice."""
    from weighbridge.compress.sensitivity import by_role, with_importance

    costs = by_role(made.tensors)
    if matrix is not None:
        costs = with_importance(made.tensors, importance.read(matrix), matrix.name)
    options = made.options(costs)
    return made.size_of({name: min(some, key=lambda one: one.size_bytes).encoding for name, some in options.items()})


@pytest.mark.parametrize("asked", [{}, {"to_bytes": 1, "bits": 2.0}, {"bits": 0.0}, {"bits": 65.0},
                                   {"bits": 4.0, "calibrate": "x", "imatrix": "y"},
                                   {"bits": 4.0, "context_tokens": 9}])  # fmt: skip
def test_wishes_that_make_no_sense_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UnitError):
        Wish(**asked)
