"""Does bad input end in a sentence, with nothing lost and nothing left?"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from tests.compress.test_shrink import model, weigh

from weighbridge.compress import codecs, importance, plan, sensitivity, shrink, targets
from weighbridge.compress.codecs import Values
from weighbridge.compress.importance import Importance
from weighbridge.compress.plan import Option
from weighbridge.compress.prior import FACTORS, expected_loss
from weighbridge.errors import ConfigError, SourceError
from weighbridge.model.encodings import find
from weighbridge.model.tensors import TensorSpec
from weighbridge.prove.comparison import Rule
from weighbridge.prove.plan import Plan as ProofPlan

pytest.importorskip("xllamacpp")


def of_size(path: Path, size: float) -> Path:
    """A GGUF file with one matrix, of weights of a size."""
    writer = gguf.GGUFWriter(str(path), "llama")
    values = np.random.default_rng(0).standard_normal((64, 256)) * size
    writer.add_tensor("blk.0.ffn_up.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("size", [1e5, 1e10, 1e30])
def test_weights_that_blocks_do_not_reach_do_not_end_the_process(tmp_path: Path, size: float) -> None:
    source = of_size(tmp_path / "a.gguf", size)
    done = weigh(source, "-o", tmp_path / "b.gguf", "--to", "40000")
    assert done.exit_code == 0, done.output
    (found,) = gguf.GGUFReader(tmp_path / "b.gguf").tensors
    values = gguf.dequantize(found.data, found.tensor_type)
    assert np.isfinite(values).all() and np.abs(values).max() > 3 * size
    with pytest.raises(ConfigError, match=r"too large for iq2_s"):
        codecs.encode(np.full((1, 256), 1e9, np.float32), find("iq2_s"))


def test_an_importance_beyond_what_encoders_reckon_with_is_refused() -> None:
    rows, huge = np.ones((2, 256), np.float32), np.full(256, 3e38, np.float32)
    with pytest.raises(ConfigError, match=r"an importance of 3e\+38"):
        codecs.encode(rows, find("iq2_xxs"), huge)


def test_an_importance_of_nothing_says_that_columns_are_alike() -> None:
    tensor = TensorSpec("blk.0.ffn_up.weight", (8, 256), find("fp16"))
    seen = Importance({tensor.name: np.zeros(256, np.float32)}, {tensor.name: np.array([9])}, (), 1, 9)
    assert sensitivity.with_importance([tensor], seen, "a").columns[tensor.name].tolist() == [1.0] * 256
    other = sensitivity.with_importance([tensor], Importance({}, {}, (), 1, 9), "a")
    assert other.basis == sensitivity.by_role([tensor]).basis and other.notes == ("a knows none of these tensors",)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "a.gguf"), "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    done = weigh(tmp_path / "a.gguf", "-o", tmp_path / "b.gguf", "--bits", "5")
    assert done.exit_code == 2 and "has no tensors" in done.stderr


def test_what_is_no_file_and_what_is_read_are_never_replaced(tmp_path: Path) -> None:
    source, pipe, imatrix = model(tmp_path / "a.gguf"), tmp_path / "pipe", tmp_path / "im.dat"
    os.mkfifo(pipe)
    imatrix.write_bytes(b"mine")
    refused = weigh(source, "-o", pipe, "--bits", "5")
    assert refused.exit_code == 2 and pipe.is_fifo() and "no ordinary file" in refused.stderr
    refused = weigh(source, "-o", imatrix, "--bits", "5", "--imatrix", imatrix)
    assert refused.exit_code == 2 and imatrix.read_bytes() == b"mine" and "what is read" in refused.stderr
    refused = weigh(source, "-o", tmp_path / "no" / "b.gguf", "--bits", "5")
    assert refused.exit_code == 2 and "a folder that exists" in refused.stderr


def test_a_proof_that_cannot_be_read_is_told_before_anything_is_written(tmp_path: Path) -> None:
    source, target = model(tmp_path / "a.gguf"), tmp_path / "b.gguf"
    refused = weigh(source, "-o", target, "--method", "q8_0", "--proof", tmp_path / "none.txt")
    assert refused.exit_code == 2 and "no such file" in refused.stderr and not target.exists()


@pytest.mark.parametrize("proof_fails", [True, False])
def test_what_lies_beside_a_target_stays_and_a_trial_of_a_killed_run_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof_fails: bool
) -> None:
    mine, old, target = tmp_path / "b.trial", tmp_path / f"b.{targets.TRIAL}", tmp_path / "b"
    for folder in (mine, old):
        folder.mkdir()
        (folder / "kept").write_text("mine")
    (tmp_path / "proof.txt").write_text("A text.")

    def answers(base: str, candidate: str, *others: Any) -> Any:
        if proof_fails:
            raise SourceError("an engine", "an answer", "try again")
        return SimpleNamespace(verdict="worse", reason="far off")

    monkeypatch.setattr(shrink, "of_models", answers)
    monkeypatch.setattr(shrink, "replace", lambda found, **changes: found)
    wish = shrink.Wish(method="int8", format="safetensors")
    source, proof = Path(__file__).parents[2] / "examples" / "small_decoder" / "small", tmp_path / "proof.txt"
    with pytest.raises(SourceError, match="an engine") if proof_fails else contextlib.nullcontext():
        assert shrink.shrink(source, target, wish, ProofPlan(data=proof), Rule(keep=0.9)).path is None
    assert (mine / "kept").read_text() == "mine" and {one.name for one in tmp_path.iterdir()} == {
        "b.trial",
        "proof.txt",
    }


def test_what_can_never_be_finished_is_not_left(tmp_path: Path) -> None:
    source = model(tmp_path / "a.gguf", bad=np.nan)
    refused = weigh(source, "-o", tmp_path / "b.gguf", "--method", "q8_0")
    assert refused.exit_code == 2 and list(tmp_path.iterdir()) == [source]


def test_a_method_by_another_of_its_names_is_the_same(tmp_path: Path) -> None:
    source = model(tmp_path / "a.gguf")
    for name in ("fp32", "F32"):
        assert weigh(source, "-o", tmp_path / name, "--method", name).exit_code == 0
    assert (tmp_path / "fp32").read_bytes() == (tmp_path / "F32").read_bytes()


def test_no_choice_is_small_enough_is_an_answer() -> None:
    one = Option(find("q8_0"), 8, 0.0, 0.0)
    with pytest.raises(plan.BudgetError):
        plan.knapsack([[one], [one]], 15)


def test_a_method_that_needs_an_importance_is_not_tried_without_it(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "im.gguf"), "llama")
    writer.add_type("imatrix")
    writer.add_tensor("blk.0.ffn_up.weight.in_sum2", np.ones((1, 256), np.float32))
    writer.add_tensor("blk.0.ffn_up.weight.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = targets.GgufTarget(of_size(tmp_path / "a.gguf", 1.0))
    wish = shrink.Wish(method="iq2_xs", imatrix=tmp_path / "im.gguf")
    learned = sensitivity.with_importance(made.tensors, importance.read(tmp_path / "im.gguf"), "im.gguf")
    (only,) = shrink._choices(made, wish, None, learned, None, climbs=True)
    assert only.costs.columns and made.lacking(only.plan.encodings, only.costs) is None


def test_a_scale_for_a_whole_row_is_expected_to_lose_what_tables_say_of_such() -> None:
    source = Path(__file__).parents[2] / "examples" / "small_decoder" / "small"
    found = shrink.shrink(source, None, shrink.Wish(method="int8", format="safetensors"))
    elements = sum(tensor.elements for tensor in found.tensors)
    packed = [one for one in found.tensors if found.plan.encodings[one.name].name == "int8"]
    share = sum(one.elements for one in packed) / elements
    bits = 8 * sum(found.plan.encodings[one.name].size_bytes(one.shape) for one in packed) / (share * elements)
    said = {scheme: expected_loss(bits, elements, scheme=scheme).value for scheme in FACTORS}
    expected = said["rows" if share > 0.5 else "blocks"]
    assert expected is not None and 0.5 < share < 0.95  # what stays in 16 bits loses nothing
    assert found.expected.value == pytest.approx(share * expected, rel=0.15)  # a scale counts for each row there


class Long:
    """Rows of which each holds its number."""

    def rows(self, tensor: TensorSpec, first: int, count: int) -> Values:
        return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], tensor.shape[-1], axis=1)


@pytest.mark.parametrize("columns", [256, 4096, 14336, 100_000])
def test_a_sample_is_spread_over_rows_of_any_length(columns: int) -> None:
    found = plan.sample(Long(), TensorSpec("a", (4096, columns), find("fp16")))[:, 0]
    assert found[0] == 0 and found[-1] == 4095 and len(set(found)) == len(found) >= 8
    assert max(np.diff(found)) <= 4096 / 3


def test_calibration_texts_that_cannot_be_read_are_told_before_the_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*given: Any) -> None:
        raise AssertionError(given)

    monkeypatch.setattr("weighbridge.prove.engines.open_model", opened)
    source = Path(__file__).parents[2] / "examples" / "small_decoder" / "small"
    with pytest.raises(SourceError, match="no such file"):
        shrink.shrink(source, None, shrink.Wish(bits=5, calibrate=tmp_path / "none.jsonl"))
