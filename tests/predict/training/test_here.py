"""Is training on this machine predicted as it was measured? Against tensors counted by hand and the runs on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.trained_here import Case, cases, described

from weighbridge.errors import UnitError
from weighbridge.hardware.torch_training import TrainingRates
from weighbridge.inspection import inspect
from weighbridge.predict.training.here import resident, step_seconds
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import OPTIMIZERS
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import trained

RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "benchmarks" / "trained_here.json").read_text(encoding="utf-8")
)
EVERY = list(cases())


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_memory_is_within_15_percent_where_freed_tensors_are_returned(case: Case) -> None:
    rates = TrainingRates(**RECORD["rates"][case.size])
    found = RECORD["cases"][case.name]["returned"]
    predicted = resident(*described(case), rates.runtime_bytes).peak.value
    assert predicted == pytest.approx(found["peak_bytes"] - found["imported_bytes"], rel=0.15)


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_a_heap_with_holes_is_within_the_interval(case: Case) -> None:
    found = RECORD["cases"][case.name]["default"]
    interval = resident(*described(case), RECORD["rates"][case.size]["runtime_bytes"]).peak_with_holes
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < found["peak_bytes"] - found["imported_bytes"] < interval.high


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_the_time_of_a_step_is_within_15_percent(case: Case) -> None:
    rates = TrainingRates(**RECORD["rates"][case.size])
    predicted = step_seconds(*described(case), rates)
    assert predicted.value == pytest.approx(RECORD["cases"][case.name]["default"]["step_s"], rel=0.15)


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_parameters_are_those_of_the_model_that_ran(case: Case) -> None:
    counted = described(case)[1]
    found = RECORD["cases"][case.name]["default"]
    assert (counted.total, counted.trainable) == (found["parameters"], found["trainable"])


def test_parts_by_hand() -> None:
    """2048 tokens, 256 wide, 704 inside, 4 heads of 64, 8 layers, 8192 words."""
    parts = resident(*described(Case(size="11m", method="full", checkpointing="none")), 0)
    tokens = 8 * 256
    layer = 8 * 256 + 2 * 256 + 4 * 704 + 4 + 2
    assert parts.weights == parts.gradients == 4 * 10_621_184
    assert parts.optimizer == 8 * 10_621_184
    assert parts.kept == 4 * tokens * (8 * layer + 3 * 256 + 1)
    assert parts.loss == 3 * 4 * tokens * 8192
    assert parts.peak.value == parts.weights + parts.optimizer + parts.kept + parts.loss


def test_checkpoints_keep_a_layers_input() -> None:
    full = resident(*described(Case(size="11m", method="full", checkpointing="full")), 0)
    assert full.kept == 4 * 8 * 256 * (8 * 256 + 3 * 256 + 1)


def test_the_update_is_the_peak_of_a_large_model_on_few_tokens() -> None:
    """Gradients, and the largest matrix (here the table) twice."""
    parts = resident(*described(Case(size="110m", method="full", checkpointing="full")), 0)
    assert parts.peak.value == parts.weights + parts.optimizer + parts.gradients + 2 * 4 * 32_000 * 768


def test_a_step_by_hand() -> None:
    """Each rate alone, with 1 ps: multiply-adds of 8,519,680 weights three times for 2048 tokens, and so on."""
    case = Case(size="11m", method="full", checkpointing="none")
    rates = ("product_ps", "forward_score_ps", "backward_score_ps", "logit_ps", "element_ps", "adapter_ps", "update_ps")
    nothing: dict[str, Any] = dict.fromkeys(rates, 0.0)

    def picoseconds(part: str) -> float:
        seconds = step_seconds(*described(case), TrainingRates(**{**nothing, part: 1.0})).value
        assert seconds is not None
        return seconds * 1e12

    assert picoseconds("product_ps") == pytest.approx(2048 * 3 * (8 * (4 * 256**2 + 3 * 256 * 704) + 8192 * 256))
    assert picoseconds("forward_score_ps") == pytest.approx(2048 * 8 * 256 * 256 / 2)
    assert picoseconds("logit_ps") == pytest.approx(2048 * 8192)
    assert picoseconds("adapter_ps") == 0
    assert picoseconds("update_ps") == pytest.approx(10_621_184)


@pytest.mark.parametrize(("model", "changed", "word"), [
    ("mixtral-8x7b", {}, "family"),
    ("llama-2-7b", {"precision": "bf16"}, "bf16"),
    ("llama-2-7b", {"checkpointing": "selective"}, "selective"),
    ("llama-2-7b", {"optimizer": OPTIMIZERS["sgd"]}, "sgd"),
    ("llama-2-7b", {"layout": Layout(data=2)}, "2 devices"),
    ("llama-2-7b", {"method": Method(name="qlora")}, "qlora"),
])  # fmt: skip
def test_what_is_not_described_is_refused(model: str, changed: dict[str, Any], word: str) -> None:
    architecture = inspect(model).architecture
    assert architecture is not None
    settings: dict[str, Any] = {"sequence_tokens": 256, "global_batch": 1, "precision": "fp32", **changed}
    with pytest.raises(UnitError, match=word):
        resident(architecture, trained(architecture, Method()), Run(**settings))
