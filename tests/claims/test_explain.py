"""Is every word defined, every question answered and every myth settled by what the engine computes now?"""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result

from weighbridge.claims.example import EXAMPLES, adapter_parameters, cache_bytes, states_bytes, training_flops
from weighbridge.claims.glossary import explain, terms
from weighbridge.claims.myth import MYTHS
from weighbridge.claims.question import QUESTIONS, find_question
from weighbridge.claims.setting import settings_of
from weighbridge.cli.group import main
from weighbridge.inspection import inspect
from weighbridge.planning import fit
from weighbridge.show import plain
from weighbridge.training import train
from weighbridge.training_wish import Wish

TERMS = (
    "activation function, attention mechanism, backpropagation, batch normalization, bias, catastrophic forgetting, "
    "checkpoint, Chinchilla scaling laws, context window, dense model, distillation, embedding, emergent abilities, "
    "fine-tuning, FLOPs, forward pass, gradient, gradient descent, hyperparameters, inference, initialization, INT8 "
    "quantization, KV cache, learning rate, LoRA, loss function, mixture of experts, neural network, optimizer, "
    "overfitting, parameter, parameter efficiency, perplexity, pre-training, pruning, quantization, recurrent network, "
    "regularization, RLHF, self-attention, sparse model, tensor, token, training data, transfer learning, transformer, "
    "underfitting, weight, weight decay, capacity, temperature, top-p, grounding, benchmark, latency, few-shot, "
    "retrieval-augmented generation, adapter, DoRA, QLoRA, prompt tuning, ZeRO, FSDP, tensor parallelism, pipeline "
    "parallelism, expert parallelism, gradient checkpointing, mixed precision, GQA, MQA, MLA, sliding window, "
    "FlashAttention, mixture of depths, RoPE, GPTQ, AWQ, k-quants, imatrix, NF4, MXFP4, NVFP4, FP8, roofline, MFU, "
    "TTFT, TPOT, SLO, TCO, PUE, drift, canary, non-inferiority, dropout, constitutional AI, supervised fine-tuning, "
    "DPO, GDPR, CCPA, HIPAA, SOX, explainability, data residency"
)


def _weigh(*words: str) -> Result:
    return CliRunner().invoke(main, ["explain", *words])


@pytest.mark.parametrize("name", TERMS.split(", "))
def test_every_term_is_defined(name: str) -> None:
    term = explain(name)
    assert len(term.text.split()) >= 8
    assert term.text.endswith(".")


def test_terms_name_each_other_and_every_example_is_used() -> None:
    names = {term.name for term in terms()}
    assert {name for term in terms() for name in term.see} <= names
    assert {term.example for term in terms() if term.example} == EXAMPLES.keys()


def test_the_two_that_articles_get_wrong() -> None:
    assert "zeroes activations, not parameters" in explain("dropout").text
    assert explain("context window").computed().value == 2048  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KV cache", 1_342_177_280), ("LoRA", 16_384_000), ("mixture of experts", 12_879_925_248),
        ("attention mechanism", 2_359_296), ("fine-tuning", 16 * 68_976_648_192), ("Chinchilla", 1.4e12),
        ("FLOPs", 6 * 174_604_259_328 * 300_000_000_000), ("MXFP4", 4.25), ("GQA", 8), ("bias", 4),
        ("ZeRO", 68_976_648_192), ("parameter", 68_976_648_192),
    ],
)  # fmt: skip
def test_examples_are_what_is_known_from_elsewhere(name: str, value: float) -> None:
    found = explain(name).computed()
    assert found is not None
    assert found.value == pytest.approx(value, rel=1e-9)


def test_sentences_are_short_enough_for_everyone() -> None:
    sentences = [part for term in terms() for part in re.split(r"(?<=[.:;])\s", term.text)]
    lengths = [len(sentence.split()) for sentence in sentences]
    assert sum(lengths) / len(lengths) < 14
    assert max(lengths) <= 36


def test_questions_have_the_numbers_of_the_engine() -> None:
    assert len(QUESTIONS) == 26
    answers = {question.number: question.answer() for question in QUESTIONS}
    assert all(re.search(r"\d|measured|said", answer) for answer in answers.values())
    llama = inspect("llama-2-70b").parameters.total
    assert f"{llama:,}" in answers[1]
    assert f"{adapter_parameters('llama-2-70b', 8):,}" in answers[7]
    assert "27.6% of Mixtral" in answers[5]
    assert "57 times as many synapses" in answers[15]
    assert "710 times the bytes" in answers[15]
    assert "7B: 140B, 70B: 1.4T, 175B: 3.5T" in answers[14]
    assert "51B parameters and 1.02T tokens" in answers[25]
    assert f"{cache_bytes('llama-2-70b', 4096) / 1e9:.2f} GB" in answers[24]
    assert f"{states_bytes('llama-2-7b') / 1e9:.2f} GB" in answers[26]
    assert training_flops("gpt-3") == pytest.approx(6 * 174_604_259_328 * 300_000_000_000)


def test_myths_are_settled_and_not_all_alike() -> None:
    verdicts = [myth.settle().holds for myth in MYTHS]
    assert len(verdicts) == 9
    assert None in verdicts
    assert all(re.search(r"\d", myth.settle().text) for myth in MYTHS)


def test_a_question_is_found_by_its_number() -> None:
    assert find_question(15) is QUESTIONS[14]
    assert json.loads(_weigh("q15", "--json").stdout)["questions"][0]["question"] == 15
    assert json.loads(_weigh("myth", "4", "--json").stdout)["myths"][0]["holds"] is False


@pytest.mark.parametrize("words", [["nonsense"], ["q27"], ["q0"], ["myth10"], ["--settings", "no-such-model"]])
def test_what_is_not_known_is_an_error(words: list[str]) -> None:
    result = _weigh(*words)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")


def test_one_thing_at_a_time() -> None:
    assert _weigh("LoRA", "--myths").exit_code == 2


def test_settings_are_no_parameters() -> None:
    shape = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "vocab_size": 100, "intermediate_size": 128}  # fmt: skip
    config = {**shape, "attention_dropout": 0.1, "temperature": 0.7, "learning_rate": 1e-3}
    settings, count = settings_of(config)  # type: ignore[arg-type]
    kinds = {one.key: one.kind for one in settings}
    assert kinds["attention_dropout"] == kinds["learning_rate"] == "training"
    assert kinds["temperature"] == "decoding"
    assert kinds["hidden_size"] == "architecture"
    assert count == inspect(shape).parameters.total


def test_plain_words_are_computed_and_use_no_word_that_is_not_explained() -> None:
    lines = [*plain.inspection_lines(inspect("mixtral-8x7b")),
             *plain.plan_lines(fit("llama-2-70b", "h100-sxm", devices=2)),
             *plain.training_lines(train("llama-3.1-8b", "h100-sxm", Wish(tokens=10**12, devices=256)))]  # fmt: skip
    text = " ".join(lines).lower()
    assert "6 graphics cards of 24 gb" in text
    assert "28% of them" in text
    known = {name.lower() for term in terms() for name in term.names}
    jargon = ("parameters", "tokens", "kv cache", "throughput", "latency", "mfu", "zero", "quantization", "tpot")
    assert all(word in known for word in jargon if word in text)
    assert not re.search(r"\b(?:kv|mfu|tpot|ttft|fp16|bf16|prefill|decode)\b", text)


def test_plain_lines_stand_under_the_report() -> None:
    result = CliRunner().invoke(main, ["inspect", "smollm2-135m", "--plain"])
    assert result.exit_code == 0
    assert "in plain words" in result.output
    assert "134.5M parameters: so many numbers has training set" in result.output
