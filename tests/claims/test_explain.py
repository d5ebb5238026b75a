"""Is every term defined, every question answered and every myth settled by what the engine computes now?"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner, Result

from weighbridge.claims import myth_figures, question_figures, term_figures
from weighbridge.claims.entry import Entry, Settled
from weighbridge.claims.figure import Figure, count, filled
from weighbridge.claims.glossary import explain, explained, find_entry, myths, questions, terms
from weighbridge.claims.published import published
from weighbridge.claims.setting import settings_of
from weighbridge.cli.group import main
from weighbridge.errors import UnknownNameError
from weighbridge.estimate import Basis, Estimate
from weighbridge.inspection import inspect
from weighbridge.model.catalogue import find_model, models
from weighbridge.planning import fit
from weighbridge.predict.scaling_laws.optimum import predicted_loss
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
ALL = (*terms(), *questions(), *myths())
NAMES = [entry.name for entry in ALL]


def weigh(*words: str) -> Result:
    return CliRunner().invoke(main, ["explain", *words])


def value(name: str, figure: str) -> float:
    found = explain(name).figures[figure].amount.value
    assert found is not None
    return found


@pytest.mark.parametrize("name", TERMS.split(", "))
def test_every_term_is_defined(name: str) -> None:
    entry = find_entry(name)
    assert entry.kind == "term"
    assert len(entry.text.split()) >= 8
    assert entry.text.endswith(".")
    assert not entry.checked or entry.source, "what was read was read somewhere"


def test_what_has_a_formula_has_a_computed_example() -> None:
    for entry in terms():
        assert bool(entry.formula) == bool(entry.example), entry.name
    assert {entry.name for entry in terms() if entry.example} == term_figures.FIGURES.keys()
    assert {entry.name for entry in questions()} == question_figures.FIGURES.keys()
    assert {entry.name for entry in myths()} == myth_figures.FIGURES.keys()
    assert (len(questions()), len(myths())) == (26, 9)


@pytest.mark.parametrize("name", NAMES)
def test_related_terms_are_terms_and_commands_are_commands(name: str) -> None:
    entry = find_entry(name)
    assert {find_entry(other).kind for other in entry.related} <= {"term"}
    for line in entry.commands:
        words, above = re.findall(r"'[^']*'|\S+", line), click.Context(main, **main.context_settings)
        group: click.Command | None = main
        assert words.pop(0) == "weigh"
        while isinstance(group, click.Group):
            group = group.get_command(click.Context(group), words.pop(0))
        assert group is not None, line
        group.make_context("weigh", [word.strip("'") for word in words], parent=above)


@pytest.mark.parametrize("entry", [entry for entry in ALL if entry.example], ids=lambda entry: entry.name)
def test_each_number_is_used_and_says_what_it_rests_on(entry: Entry) -> None:
    found = explained(entry)
    assert {name for name in found.figures if f"{{{name}}}" in entry.example} == found.figures.keys()
    assert "{" not in found.example
    known = [figure.amount for figure in found.figures.values() if figure.amount.value is not None]
    assert known
    for figure in found.figures.values():
        amount = figure.amount
        assert amount.value is not None or amount.note, figure.label
        assert amount.basis is not Basis.EXACT or amount.low == amount.high, figure.label
    assert explained(entry).to_json() == found.to_json()


NAMED = re.compile(
    r"Llama [\d.]+(?: \d+B)?|GPT-\d|Mixtral 8x7B|DeepSeek-V\d|fp32|Qwen2\.5 32B|Mistral 7B 0\.1|H100s?|L4|M1|RTX 4090|"
    r"Q\d_\w+|FP8|8B model|bf16|\{\w+\}"
)
"""Names with digits in them, and the places of numbers."""
GIVEN = {"100", "128", "256", "512", "768", "4,096", "70", "50", "16", "12", "64", "8", "7", "4", "2"}
"""Numbers of what is asked, as in `a layer of 100 inputs`: none of what comes out."""


@pytest.mark.parametrize("entry", [entry for entry in ALL if entry.example], ids=lambda entry: entry.name)
def test_no_answer_is_typed_into_an_example(entry: Entry) -> None:
    typed = re.findall(r"\d+(?:[.,]\d+)*", NAMED.sub("", entry.example))
    assert set(typed) <= GIVEN


def test_the_two_that_articles_get_wrong() -> None:
    assert "touches no parameter" in find_entry("dropout").text
    assert value("context window", "gpt3") == 2048


@pytest.mark.parametrize(
    ("name", "figure", "expected"),
    [
        ("KV cache", "token", 2 * 80 * 8 * 128 * 2),
        ("KV cache", "context", 2 * 80 * 8 * 128 * 2 * 4096),
        ("LoRA", "trained", 16 * (4096 + 4096) * 2 * 32),
        ("DoRA", "more", 2 * 32 * 4096),
        ("prompt tuning", "trained", 20 * 4096),
        ("mixture of experts", "active", 12_879_925_248),
        ("attention", "parameters", 4 * (768 * 768 + 768) - 4 * 768),
        ("batch normalization", "parameters", 2 * 64),
        ("weight", "weights", 100 * 50),
        ("Chinchilla", "rule", 20 * 70e9),
        ("MXFP4", "bits", 17 * 8 / 32),
        ("k-quants", "bits", 144 * 8 / 256),
        ("GQA", "ratio", 64 / 8),
        ("MQA", "mqa", 2 * 80 * 128 * 2),
        ("MLA", "mla", 61 * (512 + 64) * 2),
        ("sliding window", "window", 4096 * 2 * 32 * 8 * 128 * 2),
        ("pipeline parallelism", "each", 80 / 4),
        ("mixed precision", "states", 16 * 6_738_415_616),
        ("ZeRO", "sharded", 2 * 6_738_415_616),
        ("gradient descent", "steps", 476_838),
        ("q15", "bytes_ratio", 2.5e15 / (2 * 1.76e12)),
        ("q15", "synapse_ratio", 2 * 100e12 / (2 * 1.76e12)),
        ("q20", "large", 6 * 405_853_388_800 * 15.6e12),
        ("parameter", "total", 68_976_648_192),
    ],
)  # fmt: skip
def test_examples_are_what_is_known_from_elsewhere(name: str, figure: str, expected: float) -> None:
    assert value(name, figure) == pytest.approx(expected, rel=1e-9)


def test_a_scale_a_tensor_is_counted_too() -> None:
    assert value("NVFP4", "bits") == pytest.approx(9 * 8 / 16 + 32 / (4096 * 14336), rel=1e-12)


def test_answers_are_those_of_the_engine() -> None:
    plan = fit("llama-3.1-8b", "h100-sxm", alternatives=False)
    run = train("llama-2-7b", "h100-sxm", Wish(tokens=2 * 10**12, devices=64))
    assert explain("tpot").figures["tpot"].amount == plan.speed.tpot_s
    assert explain("q18").figures["small"].amount == plan.joules
    assert explain("q2").figures["cost"].amount == run.cost_usd
    assert explain("q2").figures["days"].amount == run.hours.days
    assert value("q9", "month") > 0
    assert value("q12", "bytes") == inspect("llama-3.1-8b").bytes_for(["bf16"])["bf16"]
    counts = inspect("gpt-2").parameters
    assert [value("q13", name) for name in ("total", "non_embedding", "per_use")] == [
        counts.total, counts.non_embedding, counts.tied_per_use]  # fmt: skip


def test_what_is_not_disclosed_is_told_as_unknown() -> None:
    found = explain("q22")
    assert found.figures["known"].amount.value is None
    assert "unknown" in found.example
    assert {found.figures[name].amount.basis for name in ("low", "high")} == {Basis.ASSUMED}


# --- myths: verdicts follow from numbers, and would change with them -------------------------------------------------


def test_verdicts_follow_from_the_numbers() -> None:
    verdicts = {entry.name: explained(entry).verdict for entry in myths()}
    assert verdicts.pop("myth6") == "refuted in part"
    assert set(verdicts.values()) == {"refuted"}


def test_the_largest_open_and_closed_models_are_those_of_the_catalogue() -> None:
    largest = dict.fromkeys(("open weights", "closed"), 0)
    for model in models():
        size = inspect(model).parameters.total if model.config else model.stated
        largest[model.access] = max(largest[model.access], size or 0)
    assert value("myth5", "open") == largest["open weights"]
    assert value("myth5", "closed") == largest["closed"] > inspect("gpt-3").parameters.total


def test_expected_losses_put_sizes_in_another_order() -> None:
    old, new = find_model("gopher"), find_model("chinchilla")
    assert (old.stated or 0) > (new.stated or 0)
    losses = [predicted_loss("chinchilla-corrected", one.stated or 0, one.training_tokens or 0).value
              for one in (old, new)]  # fmt: skip
    assert [value("myth1", name) for name in ("large_loss", "small_loss")] == losses
    assert losses[0] > losses[1]  # type: ignore[operator]
    assert 0 < value("myth9", "inverted") < value("myth9", "most") < 0.5


def test_a_myth_that_the_numbers_do_not_refute_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = published("chinchilla-mmlu")
    worse = replace(worse, amount=Estimate(0.5, 0.5, 0.5, "share", Basis.MEASURED))
    monkeypatch.setattr(myth_figures, "published", lambda name: worse if name == "chinchilla-mmlu" else published(name))
    assert explain("myth1").verdict == "not refuted"
    monkeypatch.setattr(myth_figures, "sizes", lambda: {"gpt-2": 10, "gopher": 11})
    assert explain("myth5").verdict == "not refuted"
    assert Settled({}, refuted=False, holds_in_part=True).verdict == "not refuted"


# --- names, commands, settings, words ---------------------------------------------------------------------------------


def test_entries_are_found_by_what_people_write() -> None:
    for name, wanted in {"KV cache": "kv-cache", "kv_cache": "kv-cache", "Embeddings": "embedding", "q05": "q5",
                         "Question 5": "q5", "myth 3": "myth3", "MoE": "mixture-of-experts"}.items():  # fmt: skip
        assert find_entry(name).name == wanted
    with pytest.raises(UnknownNameError, match="attention"):
        find_entry("atention")


@pytest.mark.parametrize("words", [["nonsense"], ["q27"], ["q0"], ["myth10"], ["q" + 50 * "9"], ["--settings", "none"]])
def test_what_is_not_known_is_an_error(words: list[str]) -> None:
    result = weigh(*words)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")


def test_the_command_prints_what_the_library_returns() -> None:
    told = weigh("KV", "cache")
    assert told.exit_code == 0
    assert "327,680 B" in told.stdout and "exact" in told.stdout and "formula: 2 x layers" in told.stdout
    assert json.loads(weigh("kv-cache", "--json").stdout) == explain("KV cache").to_json()
    assert len(json.loads(weigh("--json").stdout)) == len(terms())
    assert [one["verdict"] for one in json.loads(weigh("--myths", "--json").stdout)] == [
        explained(entry).verdict for entry in myths()]  # fmt: skip
    assert "26" in weigh("--questions").stdout
    assert weigh("LoRA", "--myths").exit_code == 2


def test_sentences_are_short_enough_for_everyone() -> None:
    sentences = [part for entry in ALL for part in re.split(r"(?<=[.:;?])\s", entry.text)]
    lengths = [len(sentence.split()) for sentence in sentences]
    assert sum(lengths) / len(lengths) < 15
    assert max(lengths) <= 36


def test_plain_sentences_are_plainer_still() -> None:
    sentences = [part for entry in terms() for part in re.split(r"(?<=[.;])\s", entry.plain) if part]
    assert len(sentences) >= 10
    assert max(len(sentence.split()) for sentence in sentences) <= 15
    assert not re.search(r"[A-Z]{2,}", " ".join(sentences)), "no abbreviation"


def test_settings_are_no_parameters() -> None:
    shape = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "vocab_size": 100, "intermediate_size": 128}  # fmt: skip
    others = {"attention_dropout": 0.1, "temperature": 0.7, "learning_rate": 1e-3, "transformers_version": "5.0"}
    found = settings_of({**shape, **others})
    kinds = {one.key: one.kind for one in found.settings}
    assert kinds == dict.fromkeys(shape, "architecture") | dict(
        zip(others, ("training", "inference", "training", "other"), strict=True)
    )
    assert found.parameters == found.parameters_without == inspect(shape).parameters.total
    assert {one.kind for one in settings_of("deepseek-v3").settings} == {"architecture", "other"}


def test_settings_of_generation_are_read_beside_the_configuration(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    shape = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100, "attn_pdrop": 0.1}
    (folder / "config.json").write_text(json.dumps(shape))
    (folder / "generation_config.json").write_text(
        json.dumps({"top_p": 0.9, "n_layer": 9, "transformers_version": "5"})
    )
    found = settings_of(folder / "config.json")
    assert {one.key: one.value for one in found.of("inference")} == {"top_p": 0.9}
    assert {one.key: one.value for one in found.of("other")} == {"transformers_version": "5"}
    assert [one.key for one in found.of("training")] == ["attn_pdrop"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Estimate.exact(1, "tokens"), "1 token"),
        (Estimate.exact(2_000_000_000_000, "tokens"), "2T tokens"),
        (Estimate.exact(5050, "parameters"), "5,050 parameters"),
        (Estimate(0.25, 0.2, 0.3, "share", Basis.MODELLED), "25% (20% to 30%)"),
        (Estimate(3e9, 2e9, 4e9, "B", Basis.MODELLED), "3.00 (2.00 to 4.00) GB"),
        (Estimate(9e8, 8e8, 2e9, "B", Basis.MODELLED), "900.00 MB (800.00 MB to 2.00 GB)"),
        (Estimate(5.0, 4.0, 6.5, "USD", Basis.MODELLED), "USD 5.00 (USD 4.00 to USD 6.50)"),
        (Estimate(8.28e23, 8.28e23, 8.28e23, "FLOP", Basis.EXACT), "8.28e23 FLOPs"),
        (Estimate(None, None, None, "USD", Basis.MODELLED, "no price"), "unknown"),
    ],
)
def test_a_figure_in_a_sentence(amount: Estimate, text: str) -> None:
    assert Figure("", amount).text == text


def test_a_sentence_needs_all_of_its_figures() -> None:
    with pytest.raises(KeyError):
        filled("{missing}", {"there": count("", 1)})


def test_plain_words_are_computed_and_use_no_word_that_is_not_explained() -> None:
    lines = [*plain.inspection_lines(inspect("mixtral-8x7b")),
             *plain.plan_lines(fit("llama-2-70b", "h100-sxm", devices=2)),
             *plain.training_lines(train("llama-3.1-8b", "h100-sxm", Wish(tokens=10**12, devices=256)))]  # fmt: skip
    text = " ".join(lines).lower()
    assert "6 graphics cards of 24 gb" in text
    assert "28% of them" in text
    known = {name.lower() for entry in terms() for name in entry.names}
    jargon = ("parameters", "tokens", "kv cache", "throughput", "latency", "mfu", "zero", "quantization", "tpot")
    assert all(word in known for word in jargon if word in text)
    assert not re.search(r"\b(?:kv|mfu|tpot|ttft|fp16|bf16|prefill|decode)\b", text)


def test_plain_lines_stand_under_the_report() -> None:
    result = CliRunner().invoke(main, ["inspect", "smollm2-135m", "--plain"])
    assert result.exit_code == 0
    assert "in plain words" in result.output
    assert "134.5M parameters: so many numbers has training set" in result.output
