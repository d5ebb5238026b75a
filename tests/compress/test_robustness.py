"""Is what is written bounded in memory, the same after any kill, and never a part under the final name?"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.compress.synthetic import POOL, SyntheticModel

from weighbridge import inspect
from weighbridge.compress import blocks, codecs, gguf_file
from weighbridge.errors import ConfigError, SourceError
from weighbridge.model.encodings import find
from weighbridge.model.tensors import TensorSpec

pytest.importorskip("xllamacpp")
resource = pytest.importorskip("resource")

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import json, sys
from tests.compress.synthetic import SyntheticModel
from weighbridge.compress import blocks, codecs, gguf_file
from weighbridge.measuring.process import peak_resident_bytes
order = json.loads(sys.stdin.readline())
model = SyntheticModel(*order["model"])
encodings = model.encodings(order["encoding"])
codecs.encode(model.rows(model.tensors[0], 0, 1), encodings[model.tensors[0].name])
before = peak_resident_bytes()
print("ready", flush=True)
done = gguf_file.write(model, order["target"], encodings, memory_bytes=order["memory"], jobs=order["jobs"])
print(json.dumps({"growth": peak_resident_bytes() - before, "resumed": done.resumed}))
"""


def writer(target: Path, model: tuple[int, ...], encoding: str, memory: int = 1 << 30, jobs: int = 1) -> Any:
    """A process that writes a synthetic model, after it has said that it begins."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", WRITER], env=environment, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    order = {"target": str(target), "model": model, "encoding": encoding, "memory": memory, "jobs": jobs}
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    return process


def answer(process: Any) -> dict[str, int]:
    """What it found, when it has ended well."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    found: dict[str, int] = json.loads(output)
    return found


def test_what_is_synthesised_is_the_same_however_it_is_cut() -> None:
    model = SyntheticModel(8 << 20, 1024, 2)
    tensor = model.tensors[1]
    whole = model.rows(tensor, 0, tensor.shape[0])
    assert np.array_equal(np.concatenate([model.rows(tensor, at, 256) for at in range(0, tensor.shape[0], 256)]), whole)
    assert whole.size > POOL and 0.015 < whole.std() < 0.025 and model.size_bytes >= 8 << 20


def test_two_gigabytes_are_written_in_less_memory_than_a_tensor_takes(tmp_path: Path) -> None:
    target, size = tmp_path / "a.gguf", 2_000_000_000
    found = answer(writer(target, (size,), "q4_0", jobs=2))
    model = SyntheticModel(size)
    assert model.size_bytes > 1.99e9 and target.stat().st_size == gguf_file.size_of(model, model.encodings("q4_0"))
    assert 0 < found["growth"] < 64 << 20 < model.tensors[0].size_bytes < 1 << 30
    last = gguf.GGUFReader(target).tensors[15]
    middle = last.data.shape[0] // 2
    expected = gguf.quants.quantize(model.rows(model.tensors[15], middle, 8), gguf.GGMLQuantizationType.Q4_0)
    assert (last.data[middle : middle + 8] != expected).mean() < 0.001  # a tie in rounding may fall either way
    target.unlink()


def test_less_memory_is_taken_where_less_is_given(tmp_path: Path) -> None:
    model = (120_000_000, 4096, 4)
    peaks = [answer(writer(tmp_path / "a.gguf", model, "q8_0", memory, jobs=4))["growth"]
             for memory in (1 << 30, 8 << 20)]  # fmt: skip
    assert peaks[1] + (4 << 20) < peaks[0] < 128 << 20


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    chance, model = random.Random(5), (18_000_000, 1024, 24, 4)
    target, whole = tmp_path / "a.gguf", tmp_path / "whole.gguf"
    synthetic = SyntheticModel(*model)
    begun = time.perf_counter()
    gguf_file.write(synthetic, whole, synthetic.encodings("q6_k"))
    takes = time.perf_counter() - begun
    expected = hashlib.sha256(whole.read_bytes()).digest()
    kills = 0
    while kills < 20:
        process = writer(target, model, "q6_k")
        time.sleep(chance.uniform(0, takes / 3))
        is_there = target.exists()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0 or target.exists():
            assert hashlib.sha256(target.read_bytes()).digest() == expected
            target.unlink()
            continue
        kills += 1
        assert process.returncode == -signal.SIGKILL and not is_there and not target.exists()
    resumed = answer(writer(target, model, "q6_k"))["resumed"]
    assert hashlib.sha256(target.read_bytes()).digest() == expected and 0 <= resumed <= len(synthetic.tensors)
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.gguf"]


def test_a_full_disk_is_named_and_then_gone_on_with(tmp_path: Path) -> None:
    model, target = SyntheticModel(8_000_000, 1024, 8), tmp_path / "a.gguf"
    chosen = model.encodings("q8_0")
    target.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(SourceError, match="File too large") as caught:
            gguf_file.write(model, target, chosen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{gguf_file.size_of(model, chosen):,} bytes of room" in str(caught.value) and target.read_bytes() == b"old"
    assert gguf_file.write(model, target, chosen).resumed == 3
    assert target.stat().st_size == gguf_file.size_of(model, chosen)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    model = SyntheticModel(8_000, 256, 1)
    (tmp_path / "file").write_bytes(b"")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for place in (tmp_path / "file" / "a.gguf", *([] if os.access(closed, os.W_OK) else [closed / "a.gguf"])):
        with pytest.raises(SourceError, match="a folder that can be written to"):
            gguf_file.write(model, place, model.encodings("q8_0"))


def test_a_journal_that_was_cut_or_goes_on_too_long(tmp_path: Path) -> None:
    model, target = SyntheticModel(80_000, 256, 4), tmp_path / "a.gguf"
    chosen = model.encodings("q8_0")
    gguf_file.write(model, target, chosen)
    expected = target.read_bytes()
    journal, part = tmp_path / "b.gguf.part.json", tmp_path / "b.gguf.part"

    class KilledError(Exception):
        pass

    def tell(name: str, done: int, of: int) -> None:
        if done == of:
            raise KilledError

    for change, resumed in (
        (lambda text: text, 5),
        (lambda text: text[:-20], 4),
        (lambda text: text + text, 5),
        (lambda text: text.replace("blk.2", "blk.9"), 2),
        (lambda text: "", 0),
        (lambda text: "[]\n", 0),
        (lambda text: text.replace('"error": ', '"error": "x'), 0),
    ):
        with pytest.raises(KilledError):
            gguf_file.write(model, tmp_path / "b.gguf", chosen, tell=tell)
        journal.write_text(change(journal.read_text()))
        assert gguf_file.write(model, tmp_path / "b.gguf", chosen).resumed == resumed
        assert (tmp_path / "b.gguf").read_bytes() == expected
    with pytest.raises(KilledError):
        gguf_file.write(model, tmp_path / "b.gguf", chosen, tell=tell)
    part.write_bytes(b"X" + part.read_bytes()[1:])  # the header is not what it would be
    assert gguf_file.write(model, tmp_path / "b.gguf", chosen).resumed == 0
    assert (tmp_path / "b.gguf").read_bytes() == expected


class Odd(SyntheticModel):
    """Tensors of any shape, whose weights are what is asked."""

    def __init__(self, *shapes: tuple[int, ...], value: float = 1.0) -> None:
        super().__init__(1)
        self.tensors = [TensorSpec(f"{number}.weight", shape, find("fp32")) for number, shape in enumerate(shapes)]
        self.value = value

    def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.full((rows, tensor.shape[-1] if tensor.shape else 1), self.value, np.float32)


def test_tensors_of_one_element_and_of_three_axes(tmp_path: Path) -> None:
    model, target = Odd((1,), (1, 1), (2, 3, 32)), tmp_path / "a.gguf"
    names = [tensor.name for tensor in model.tensors]
    found = gguf_file.write(model, target, dict(zip(names, map(find, ("fp16", "bf16", "q8_0")), strict=True)))
    assert [list(tensor.shape) for tensor in gguf.GGUFReader(target).tensors] == [[1], [1, 1], [32, 3, 2]]
    assert inspect(target).parameters.total == 194 and max(found.errors.values()) < 1e-7


@pytest.mark.parametrize("shape", [(0,), (0, 256), (4, 0)])
def test_a_tensor_without_elements_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    model = Odd((4,), shape)
    with pytest.raises(ConfigError, match=r"1\.weight has the shape"):
        gguf_file.write(model, tmp_path / "a.gguf", {tensor.name: find("fp16") for tensor in model.tensors})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "encoding", "fault"),
    [
        (np.nan, "q4_0", "no finite number"), (-np.inf, "bf16", "no finite number"),
        (1e30, "q8_0", "too large for q8_0"), (1e9, "q4_k", "too large for q4_k"),
        (1e6, "fp16", "too large for fp16"), (3.4e38, "bf16", "too large for bf16"),
    ],
)  # fmt: skip
def test_a_weight_that_no_block_holds_is_named(tmp_path: Path, value: float, encoding: str, fault: str) -> None:
    model = Odd((4, 256), value=value)
    with pytest.raises(ConfigError, match=rf"0\.weight: a weight is {fault}"):
        gguf_file.write(model, tmp_path / "a.gguf", {"0.weight": find(encoding)})
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e4, 1e25])
def test_the_error_holds_for_weights_of_any_size(tmp_path: Path, scale: float) -> None:
    values = np.random.default_rng(3).standard_normal((8, 256)) * scale

    class Scaled(Odd):
        def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
            return values[first_row : first_row + rows].astype(np.float32)

    encoding = find("bf16")
    found = gguf_file.write(Scaled((8, 256)), tmp_path / "a.gguf", {"0.weight": encoding}).errors["0.weight"]
    exact = values.astype(np.float32)
    apart = codecs.decode(codecs.encode(exact, encoding), encoding, 256).astype(np.float64) - exact
    assert found == pytest.approx(np.square(apart).sum() / np.square(exact.astype(np.float64)).sum(), rel=1e-5)


def test_each_expert_has_an_importance_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).standard_normal((3, 8, 256)).astype(np.float32)
    importance = np.random.default_rng(7).gamma(0.5, size=(3, 256)).astype(np.float32)

    class Experts(Odd):
        def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
            return values.reshape(-1, 256)[first_row : first_row + rows]

    model, encoding, target = Experts((3, 8, 256)), find("q4_k"), tmp_path / "a.gguf"
    expected = b"".join(codecs.encode(values[one], encoding, importance[one]) for one in range(3))
    monkeypatch.setattr(blocks, "LEAST_BLOCK_BYTES", 5 * 256 * gguf_file.PER_WEIGHT_BYTES)
    gguf_file.write(model, target, {"0.weight": encoding}, importance={"0.weight": importance}, memory_bytes=1)
    assert target.read_bytes().endswith(expected)
    for wrong, fault in ((importance[:2], "of 2 experts; expected 3"), (importance[:, :5], "has the shape (5,)")):
        with pytest.raises(ConfigError, match=re.escape(fault)):
            gguf_file.write(model, target, {"0.weight": encoding}, importance={"0.weight": wrong})
