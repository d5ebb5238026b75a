"""Does a file get as small as asked, tensor by tensor, exactly once, and whole or not at all?"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner, Result

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.compress import blocks, gguf_file, plan, shrink
from weighbridge.compress.gguf_file import GgufSource
from weighbridge.compress.plan import Option
from weighbridge.compress.sensitivity import by_role
from weighbridge.compress.targets import gguf_options
from weighbridge.errors import ConfigError, SourceError, UnitError
from weighbridge.model.encodings import find
from weighbridge.prove.comparison import Rule
from weighbridge.prove.plan import Plan as ProofPlan

pytest.importorskip("xllamacpp")


def model(path: Path, layers: int = 3, wide: int = 256, odd: int = 96, bad: float | None = None) -> Path:
    """A GGUF file with matrices of two row lengths, a vector and a scalar row, weights of several sizes."""
    generator = np.random.default_rng(1)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("toy")
    writer.add_file_type(1)
    writer.add_array("toy.words", ["a", "b"])
    for layer in range(layers):
        for name, shape in (("up", (64, wide)), ("down", (32, odd))):
            values = generator.standard_normal(shape).astype(np.float16) * np.float16(0.1 * (layer + 1))
            if bad is not None and layer == 1:
                values[5, 7] = bad
            writer.add_tensor(f"blk.{layer}.{name}.weight", values)
        writer.add_tensor(f"blk.{layer}.norm.weight", np.ones(wide, np.float32))
    writer.add_tensor("zeros.weight", np.zeros((8, wide), np.float16))
    writer.add_tensor("one.weight", np.ones(1, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def choose(source: GgufSource, budget: int, options: plan.Options | None = None) -> plan.Plan:
    """The plan of a budget."""
    some = options or gguf_options(source, by_role(source.tensors))
    return plan.choose(some, lambda chosen: gguf_file.size_of(source, chosen), budget)


def weigh(*words: Any) -> Result:
    return CliRunner().invoke(main, ["shrink", *map(str, words)])


def test_the_file_is_what_was_planned_and_other_readers_read_it(tmp_path: Path) -> None:
    source, target = model(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    done = weigh(source, "-o", target, "--to", "60000", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["output_bytes"] == target.stat().st_size <= 60_000
    planned = json.loads(weigh(source, "--plan-only", "--to", "60000", "--json").stdout)
    assert {one["name"]: one["encoding"] for one in planned["tensors"]} == {
        one["name"]: one["encoding"] for one in found["tensors"]} and planned["output"] is None  # fmt: skip
    reader, before = gguf.GGUFReader(target), gguf.GGUFReader(source)
    by_name = {tensor.name: tensor for tensor in before.tensors}
    for tensor, said in zip(reader.tensors, found["tensors"], strict=True):
        assert tensor.name == said["name"] and find(said["encoding"]).gguf_type == tensor.tensor_type
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        exact = by_name[tensor.name].data.astype(np.float64)
        squares = np.square(exact).sum()
        error = np.sqrt(np.square(values - exact).sum() / squares) if squares else 0.0
        assert said["relative_error"] == pytest.approx(error, rel=1e-3, abs=1e-9)
    assert bytes(reader.fields["general.name"].parts[-1]) == b"toy" and "toy.words" in reader.fields
    assert inspect(target).stored is not None and not list(tmp_path.glob("*.part*"))
    kept = {tensor.name: tensor for tensor in reader.tensors}["blk.0.norm.weight"]
    assert kept.tensor_type == gguf.GGMLQuantizationType.F32 and (kept.data == 1).all()


def test_the_choice_is_the_best_of_all(tmp_path: Path) -> None:
    source = GgufSource(model(tmp_path / "a.gguf", layers=2))
    options = gguf_options(source, by_role(source.tensors))
    some = {name: found[:5] for name, found in options.items()}
    for budget in (70_000, 80_000, 100_000):
        chosen = choose(source, budget, some)
        every = [dict(zip(some, combination, strict=True)) for combination in itertools.product(*some.values())]
        sizes = [gguf_file.size_of(source, {name: one.encoding for name, one in each.items()}) for each in every]
        within = [each for each, size in zip(every, sizes, strict=True) if size <= budget]
        best = min(sum(one.loss for one in each.values()) for each in within)
        assert chosen.loss == pytest.approx(best, rel=1e-9) and chosen.size_bytes <= budget


def test_a_budget_that_cannot_be_met_is_a_no(tmp_path: Path) -> None:
    source, target = model(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    done = weigh(source, "-o", target, "--to", "1000")
    assert done.exit_code == 1 and "bytes at least" in done.stderr and not target.exists()
    to = (source, "-o", target)
    for words in ((source, "--to", "1MB"), to, (*to, "--to", "1MB", "--bits", "4"), (*to, "--method", "q7_k"),
                  (*to, "--to", "1MB", "--keep", "0.9"), (source, "-o", source, "--to", "1MB"),
                  (tmp_path / "none", "-o", target, "--to", "1MB")):  # fmt: skip
        done = weigh(*words)
        assert done.exit_code == 2 and "Traceback" not in done.stderr and not target.exists()


def test_one_encoding_for_all_and_what_its_blocks_do_not_fit(tmp_path: Path) -> None:
    source, target = model(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    found = json.loads(weigh(source, "-o", target, "--method", "q4_k", "--json").stdout)
    by_name = {one["name"]: one["encoding"] for one in found["tensors"]}
    assert by_name["blk.0.up.weight"] == "q4_k" and by_name["blk.0.down.weight"] == "q4_1"  # rows of 96
    assert {one["name"] for one in found["unfit"]} == {f"blk.{layer}.down.weight" for layer in range(3)}
    assert "rows of 3 tensors" in weigh(source, "--plan-only", "--bits", "6").stdout


class KilledError(Exception):
    """In the place of a signal."""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    source = GgufSource(model(tmp_path / "a.gguf"))
    chosen = choose(source, 60_000).encodings
    whole = tmp_path / "whole.gguf"
    gguf_file.write(source, whole, chosen)
    expected = whole.read_bytes()
    for stop in range(1, len(source.tensors) + 1):
        target = tmp_path / "b.gguf"

        def tell(name: str, done: int, of: int, stop: int = stop) -> None:
            if done == stop:
                raise KilledError

        with pytest.raises(KilledError):
            gguf_file.write(source, target, chosen, tell=tell)
        assert not target.exists()
        part = tmp_path / "b.gguf.part"
        part.write_bytes(part.read_bytes()[:-3] if stop % 2 else part.read_bytes() + b"rest")
        found = gguf_file.write(source, target, chosen)
        assert target.read_bytes() == expected and found.resumed == stop - stop % 2
        assert found.errors.keys() == chosen.keys()
        target.unlink()


def test_what_was_left_by_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    source = GgufSource(model(tmp_path / "a.gguf"))
    one, other = (choose(source, size).encodings for size in (60_000, 80_000))
    target = tmp_path / "b.gguf"

    def tell(name: str, done: int, of: int) -> None:
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        gguf_file.write(source, target, one, tell=tell)
    assert gguf_file.write(source, target, other).resumed == 0
    with pytest.raises(KilledError):
        gguf_file.write(source, target, one, tell=tell)
    part = tmp_path / "b.gguf.part"
    data = bytearray(part.read_bytes())
    data[len(gguf_file.header_bytes(source, one)[0]) + 3] ^= 1  # a flipped bit in the first tensor
    part.write_bytes(data)
    assert gguf_file.write(source, target, one).resumed == 0


def test_memory_and_jobs_do_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = GgufSource(model(tmp_path / "a.gguf"))
    chosen = choose(source, 60_000).encodings
    gguf_file.write(source, tmp_path / "b.gguf", chosen)
    monkeypatch.setattr(blocks, "LEAST_BLOCK_BYTES", 1)
    gguf_file.write(source, tmp_path / "c.gguf", chosen, memory_bytes=1, jobs=3)
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "c.gguf").read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, bad: float) -> None:
    source, target = model(tmp_path / "a.gguf", bad=bad), tmp_path / "b.gguf"
    done = weigh(source, "-o", target, "--to", "60000")
    assert done.exit_code == 2 and "no finite number" in done.stderr and not target.exists()


def test_a_target_that_cannot_be_written_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = GgufSource(model(tmp_path / "a.gguf"))
    chosen = choose(source, 60_000).encodings
    with pytest.raises(SourceError, match="bytes of room"):
        gguf_file.write(source, tmp_path / "none" / "b.gguf", chosen)
    target = tmp_path / "b.gguf"
    target.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SourceError, match="No space left"):
        gguf_file.write(source, target, chosen)
    assert target.read_bytes() == b"old"


def test_sources_that_are_no_gguf_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises((ConfigError, UnitError)):
        GgufSource(tmp_path / "config.json")


def test_only_what_passes_is_left_and_the_smallest_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = model(tmp_path / "a.gguf", wide=1024), tmp_path / "b.gguf"
    seen: list[int] = []
    asked_for: list[float] = []

    class Said:
        verdict, reason, candidate = "worse", "as planted", ""

        def __init__(self, size: int) -> None:
            self.verdict = "equivalent" if size > passes else "worse"

    def proved(base: str, candidate: str, *rest: Any) -> Any:
        seen.append(Path(candidate).stat().st_size)
        asked_for.append(rest[1].confidence)
        return Said(seen[-1])

    monkeypatch.setattr(shrink, "of_models", proved)
    monkeypatch.setattr(shrink, "replace", lambda found, **changes: found)
    (tmp_path / "proof.txt").write_text("A text.")
    wish, asked = shrink.Wish(to_bytes=300_000), ProofPlan(data=tmp_path / "proof.txt")
    for passes, left in ((0, True), (150_000, True), (10**9, False)):
        seen.clear()
        asked_for.clear()
        found = shrink.shrink(source, target, wish, asked, Rule(keep=0.9))
        assert seen == sorted(seen) and (found.path is not None) is left is target.exists()
        assert [step.verdict for step in found.steps][:-1] == ["worse"] * (len(seen) - 1)
        assert not list(tmp_path.glob("*trial*")) and found.plan.size_bytes == seen[-1]
        assert not left or target.stat().st_size == seen[-1] == min(size for size in seen if size > passes)
        if not left:  # all were tried, each at a confidence that holds for all
            assert asked_for == pytest.approx([1 - 0.05 / len(seen)] * len(seen)) and len(seen) > 1
        target.unlink(missing_ok=True)


def test_options_are_smaller_and_fit_and_the_first_is_as_it_is(tmp_path: Path) -> None:
    source = GgufSource(model(tmp_path / "a.gguf"))
    for name, some in gguf_options(source, by_role(source.tensors)).items():
        assert some[0].error == 0.0 and all(isinstance(one, Option) for one in some)
        assert all(one.size_bytes < some[0].size_bytes for one in some[1:])
        if name.endswith("norm.weight") or name == "one.weight":
            assert len(some) == 1
        if name == "zeros.weight":
            assert len(some) > 5 and all(one.error == 0.0 for one in some)
