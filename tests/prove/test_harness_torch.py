"""Do tasks of lm-evaluation-harness score through our engines as through its own, and our questions as its tasks?"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.prove.engines import open_model
from weighbridge.prove.harness import adapter

pytestmark = pytest.mark.torch

DECODERS = Path(__file__).resolve().parents[2] / "examples" / "small_decoder"
WORDS = ("people", "whale", "law", "sea", "government", "ship", "peace", "river")
TASK = """\
task: toy_choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return pytest.importorskip("lm_eval")


def questions(folder: Path, n: int = 24) -> Path:
    data, generator = folder / "questions.jsonl", random.Random(1)
    lines = []
    for year in range(n):
        one, other, *choices = generator.sample(WORDS, 6)
        prompt = f"In {1800 + year} the {one} of the {other} and the"
        lines.append({"prompt": prompt, "choices": choices, "answer": generator.randrange(4)})
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "toy.yaml").write_text(TASK.format(data=data))
    return data


def in_fp32(folder: Path, size: str) -> str:
    """A decoder in fp32, whose numbers do not hang on how many tokens go through it at once."""
    import transformers

    path = folder / size
    transformers.AutoModelForCausalLM.from_pretrained(DECODERS / size, dtype="float32").save_pretrained(path)
    transformers.AutoTokenizer.from_pretrained(DECODERS / size).save_pretrained(path)
    return str(path)


def test_a_task_scores_as_in_the_harness_and_as_our_own_questions(harness: Any, tmp_path: Path) -> None:
    data = questions(tmp_path)
    models = [in_fp32(tmp_path, size) for size in ("large", "small")]
    done = CliRunner().invoke(main, ["prove", *models, "--task", "toy_choices", "--task-path", str(tmp_path), "--json"])
    by_task = {one["name"]: one for one in json.loads(done.stdout)["metrics"]}
    own = CliRunner().invoke(main, ["prove", *models, "--on", str(data), "--no-cache", "--json"])
    by_us = {one["name"]: one for one in json.loads(own.stdout)["metrics"]}
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    for side, path in zip(("base", "candidate"), models, strict=True):
        model = HFLM(pretrained=path, dtype="auto", device="cpu", add_bos_token=False)
        manager = TaskManager(include_path=str(tmp_path))
        results = harness.simple_evaluate(model=model, tasks=["toy_choices"], task_manager=manager, bootstrap_iters=0)
        found = results["results"]["toy_choices"]
        assert by_task["acc"][side] == pytest.approx(found["acc,none"], abs=1e-6)
        assert by_task["acc_norm"][side] == pytest.approx(found["acc_norm,none"], abs=1e-6)
        assert by_us["accuracy"][side] == pytest.approx(found["acc,none"], abs=1e-6)
        assert by_us["acc_norm"][side] == pytest.approx(found["acc_norm,none"], abs=1e-6)
    assert by_task["acc"]["n"] == 24 and by_us["flips"]["candidate"] > 0


def test_likelihoods_are_those_of_the_harness(harness: Any, tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    path = in_fp32(tmp_path, "small")
    pairs = [("The people of the", " United States"), ("The law ", "of the sea"), ("", "We the people"),
             ("A whale\n", "is a fish"), ("In 1851", ",")]  # fmt: skip
    texts = ["We the people of the United States. " * 40, "Call me Ishmael."]

    def asked(kind: str, arguments: Sequence[tuple[str, ...]]) -> list[Any]:
        return [Instance(kind, {}, one, place) for place, one in enumerate(arguments)]

    theirs = HFLM(pretrained=path, dtype="float32", device="cpu", add_bos_token=False)
    with closing(open_model(path)) as model:
        ours = adapter(model, None)
        for one, other in zip(ours.loglikelihood(asked("loglikelihood", pairs)),
                              theirs.loglikelihood(asked("loglikelihood", pairs)), strict=True):  # fmt: skip
            assert one[0] == pytest.approx(float(other[0]), rel=1e-6, abs=1e-5) and one[1] == other[1]
        rolling = asked("loglikelihood_rolling", [(text,) for text in texts])
        for one, other in zip(ours.loglikelihood_rolling(rolling), theirs.loglikelihood_rolling(rolling), strict=True):
            assert one == pytest.approx(float(other), rel=1e-5)


def test_a_task_that_is_not_there_is_one_sentence(harness: Any, tmp_path: Path) -> None:
    models = [str(DECODERS / size) for size in ("large", "small")]
    done = CliRunner().invoke(main, ["prove", *models, "--task", "none_such"])
    assert done.exit_code == 2 and "lm-evaluation-harness fails on none_such" in done.stderr
    assert "Traceback" not in done.stderr
