"""Does autograd keep what is predicted, and does a process take it? Small models trained under torch."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks import trained_here
from benchmarks.trained_here import Case, described, in_a_process

from weighbridge.hardware.torch_training import TrainingRates
from weighbridge.predict.training.here import resident, step_seconds

pytestmark = pytest.mark.torch

SIZE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 1000, "tie_word_embeddings": False}  # fmt: skip


@pytest.fixture(scope="module")
def torch() -> Any:
    """torch, where it is installed."""
    pytest.importorskip("transformers")
    found = pytest.importorskip("torch")
    found.set_num_threads(1)
    return found


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("method", list(trained_here.TARGETS))
def test_kept_tensors(torch: Any, monkeypatch: pytest.MonkeyPatch, method: str, checkpointing: str) -> None:
    """Every storage that autograd keeps, parameters not counted; log-softmax is one of the three of the loss."""
    import transformers

    monkeypatch.setitem(trained_here.SIZES, "tiny", SIZE)
    monkeypatch.setitem(trained_here.BATCHES, "tiny", (4, 64))
    case = Case(size="tiny", method=method, checkpointing=checkpointing)
    model = trained_here.built(torch, transformers, case)
    held = {parameter.untyped_storage().data_ptr() for parameter in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 1000, (4, 64))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss
    assert loss.requires_grad
    parts = resident(*described(case))
    assert sum(kept.values()) == pytest.approx(parts.kept + parts.loss / 3, rel=0.02)


def test_a_process(torch: Any) -> None:
    """Memory within 15%; time loosely, since the machines of tests are busy."""
    case = Case(size="11m", method="lora-qv", checkpointing="none")
    found = in_a_process(trained_here.__file__, "--case", case.name, heap="returned")
    took = found["peak_bytes"] - found["imported_bytes"]
    assert resident(*described(case)).peak.value == pytest.approx(took, rel=0.15)
    rates = TrainingRates(**in_a_process("-m", "weighbridge.hardware.torch_training"))
    predicted = step_seconds(*described(case), rates).value
    assert predicted is not None
    assert 0.5 < predicted / in_a_process(trained_here.__file__, "--case", case.name)["step_s"] < 2.0
