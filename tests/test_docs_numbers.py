"""Numbers in the pages are counted by the engine here or listed with the file that they were read from."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.pages import (
    GENERATED,
    PAGES,
    own_text,
    page_name,
    read,
    small_llama,
)

import weighbridge
from weighbridge.estimate import Basis, Estimate
from weighbridge.layer import EXAMPLES, count_layer
from weighbridge.model.catalogue import find_model
from weighbridge.model.recipes import RECIPES
from weighbridge.planning import fit
from weighbridge.predict.bill import break_even, capacity
from weighbridge.predict.ownership import Item, labour, total_cost
from weighbridge.predict.prices import find_api
from weighbridge.training import train
from weighbridge.training_wish import Wish

GPT_3 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 2048, "n_embd": 12288, "n_layer": 96, "n_head": 96}
LLAMA_1B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
    "num_experts_per_tok": 2,
}  # fmt: skip
SMOLLM2 = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}  # fmt: skip
MINILM = {
    "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522, "hidden_size": 384,
    "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12, "max_position_embeddings": 512,
    "type_vocab_size": 2,
}  # fmt: skip
IGLM = {"model_type": "gpt2", "vocab_size": 33, "n_positions": 512, "n_embd": 512, "n_layer": 4, "n_head": 8}

MEMORY = "docs/concepts/memory-and-speed.md"
CONVENTIONS, RECIPES_PAGE = "docs/concepts/counting-conventions.md", "docs/concepts/encodings-and-recipes.md"
CHECK = "docs/how-to/check-claims.md"
COMPARE = "docs/how-to/compare-models.md"
COST = "docs/how-to/count-the-cost.md"
TRAIN = "docs/how-to/plan-a-training.md"
PIPELINE = "docs/how-to/weigh-a-pipeline.md"
TUTORIAL = "docs/tutorial/first-weighing.md"


def stored_as(config: Mapping[str, Any], recipe: str) -> dict[str, tuple[int, int]]:
    """Elements and bytes by encoding of a model in a recipe."""
    described = weighbridge.inspect(config).architecture
    assert described is not None
    found: dict[str, tuple[int, int]] = {}
    for row in RECIPES[recipe].pack(described).assignments:
        tensors = row.group.count if row.layers is None else len(row.layers) * row.group.weight.experts
        elements, size = found.get(row.encoding.name, (0, 0))
        found[row.encoding.name] = elements + tensors * row.group.weight.elements, size + row.size_bytes
    return found


def money_claims() -> list[tuple[str, str, int]]:
    """Those of the page on costs, by the functions that it speaks of."""
    months = [Item(name="serving", usd=Estimate(usd, usd, usd, "USD", Basis.ASSUMED), every="month")
              for usd in (30_000, 3_000)]  # fmt: skip
    large, small = (total_cost([month], 2).total.value or 0 for month in months)
    work = labour((80, 160), (150, 250))
    hour, rate = (Estimate(10, 10, 10, unit, Basis.SPECIFIED) for unit in ("USD/h", "token/s"))
    request = find_api("gpt-4").request_usd(1000, 1000).value or 0
    even = break_even("gpt-4", request, hour, capacity(rate.times(100), rate, 1000, 1000), 0.0).requests_per_day
    return [
        (COST, "the difference over two years", round(large - small)),
        (COST, "two weeks of work", round(work.low or 0)),
        (COST, "four weeks of work", round(work.high or 0)),
        (COST, "requests a day at which GPT-4 and a machine cost the same", round(even.value or 0)),
    ]


def claims() -> list[tuple[str, str, int]]:
    """Page, what is claimed there, and the number by the engine."""
    gpt_3, llama = weighbridge.inspect(GPT_3).parameters, weighbridge.inspect(LLAMA_1B).parameters
    mixtral, smollm2 = weighbridge.inspect(MIXTRAL).parameters, weighbridge.inspect(SMOLLM2)
    expert = mixtral.by_component["experts"] // (32 * 8)
    small = weighbridge.inspect(small_llama())
    tied = weighbridge.inspect(small_llama(), settings={"tie_word_embeddings": True}).parameters.total
    q4_1 = stored_as(SMOLLM2, "q4_1")
    growth = weighbridge.history(["bert-large", "gpt-4"])[1].growth
    assert growth is not None
    served = fit("llama-2-70b", "h100-sxm", devices=2, weights="fp16", context_tokens=4096)
    states = train("llama-2-70b", "h100-sxm", Wish(tokens=10**9))
    return [
        (MEMORY, "the context of the cache of Llama 2 70B", served.service.context_tokens),
        (MEMORY, "that cache", int(served.memory.state_bytes.value or 0)),
        (CHECK, "GPT-3's tokens", find_model("gpt-3").training_tokens or 0),
        (CHECK, "bytes of a token in that cache", int(served.memory.state_bytes.value or 0) // 4096),
        (CONVENTIONS, "GPT-3", gpt_3.total),
        (CONVENTIONS, "GPT-3 without embeddings", gpt_3.non_embedding),
        (CONVENTIONS, "GPT-3 per use", gpt_3.tied_per_use),
        (CONVENTIONS, "GPT-3's token table", gpt_3.embedding),
        (CONVENTIONS, "GPT-3's position table", gpt_3.by_component["embedding"] - gpt_3.embedding),
        (CONVENTIONS, "Llama 3.2 1B", llama.total),
        (CONVENTIONS, "Llama 3.2 1B per use", llama.tied_per_use),
        (CONVENTIONS, "Mixtral", mixtral.total),
        (CONVENTIONS, "Mixtral active", mixtral.active_per_token),
        (CONVENTIONS, "Mixtral's routed experts", mixtral.by_component["experts"]),
        (CONVENTIONS, "one expert of Mixtral", expert),
        (CONVENTIONS, "MiniLM", weighbridge.inspect(MINILM).parameters.total),
        (CONVENTIONS, "IgLM", weighbridge.inspect(IGLM).parameters.total),
        (RECIPES_PAGE, "SmolLM2", smollm2.parameters.total),
        (RECIPES_PAGE, "SmolLM2 as q4_1", smollm2.bytes_by_encoding["q4_1"]),
        *((RECIPES_PAGE, f"SmolLM2's elements in {name}", elements) for name, (elements, _) in q4_1.items()),
        *((RECIPES_PAGE, f"SmolLM2's bytes in {name}", size) for name, (_, size) in q4_1.items()),
        (COMPARE, "GPT-4 as claimed over BERT large", round(growth.high or 0)),
        (PIPELINE, "SDXL with its refiner", weighbridge.inspect("sdxl").parameters.total),
        *money_claims(),
        (TRAIN, "gigabytes of the states of Llama 2 70B in training", round(states.memory.states_bytes / 1e9)),
        (TUTORIAL, "SmolLM2", smollm2.parameters.total),
        (TUTORIAL, "the small Llama", small.parameters.total),
        (TUTORIAL, "one layer of it", small.parameters.by_layer[0]),
        (TUTORIAL, "its attention", small.parameters.by_component["attention"] // 2),
        (TUTORIAL, "its feed-forward", small.parameters.by_component["mlp"] // 2),
        (TUTORIAL, "its token table", small.parameters.embedding),
        (TUTORIAL, "with a tied head", tied),
    ]


READ_FROM_FILES = {
    "98,362,432": "SmolLM2-135M-Instruct.Q4_1.gguf, its length",
    "1,785,664": "its length less its tensors",
    "22,713,728": "all-MiniLM-L6-v2, elements stored",
    "13,955,076": "IgLM, elements stored",
    "1,048,576": "IgLM, elements of causal masks",
    "16,896": "IgLM, the stored copy of the tied head",
    "276,609": "akiki's voice detector, elements stored",
    "210,561": "its parameters",
    "66,048": "its Fourier basis",
    "109,486,464": "all-mpnet-base-v2, read once by hand",
    "3,009,188": "nudenet, read once by hand",
}
"""Numbers of published files, which the tests on real models read again."""

GIVEN = {
    "16,777,216": "the longest body of a request: asserted with the HTTP interface",
    "1,000": "what K stands for",
    "1,720,320": "hours of a GPU for Llama 2 70B, from its authors: the command beside them has the number",
    "3,000": "an article's USD a month",
    "4,000": "an article's MWh, which the command around it refutes",
    "30,000": "an article's USD a month",
    "80,000": "an article's USD of engineering",
    "70,015,266,816": "an article's count of Llama 2 70B, which the command around it refutes",
}
"""Numbers that are no counts."""


@pytest.fixture(scope="module")
def counted() -> list[tuple[str, str, int]]:
    return claims()


def occurs(number: int, text: str) -> bool:
    return re.search(rf"(?<![\d,]){number:,}(?![\d]|,\d)", text) is not None


def test_claims_in_the_pages_are_what_the_engine_counts(counted: list[tuple[str, str, int]]) -> None:
    missing = [f"{page}: {what} is {number:,}" for page, what, number in counted if not occurs(number, read(page))]
    assert missing == []


def test_every_large_number_in_prose_is_counted_or_has_a_source(counted: list[tuple[str, str, int]]) -> None:
    configs = (GPT_3, LLAMA_1B, MIXTRAL, SMOLLM2, MINILM, IGLM, small_llama())
    known = {f"{number:,}" for _, _, number in counted}
    known |= {f"{value:,}" for config in configs for value in config.values() if isinstance(value, int)}
    known |= {
        f"{count_layer(spec).parameters:,}"
        for spec in re.findall(r"`([a-z]+:[\w:=]+)`", read("docs/concepts/layers.md"))
    }
    known |= READ_FROM_FILES.keys() | GIVEN.keys()
    for path in PAGES:
        if page_name(path) == "docs/log.md":  # a record of runs: what was measured then stays as it was
            continue
        text = GENERATED.sub("", own_text(path))
        for number in re.findall(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d])", text):
            assert number in known, f"{page_name(path)}: nobody counts {number}"


def test_sources_of_numbers_are_in_use() -> None:
    text = "\n".join(map(own_text, PAGES))
    assert [number for number in (*READ_FROM_FILES, *GIVEN) if number not in text] == []


OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def evaluate(text: str) -> int:
    """The value of a sum as the pages write it. A division without remainder stays exact up to 2^53."""

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        assert isinstance(node, ast.Constant), text
        return node.value

    plain = text.replace(",", "").replace("×", "*").replace("−", "-")
    return int(value(ast.parse(plain.strip(), mode="eval").body))


SUM = r"\d[\d,]*(?: [×+−/*-] \d[\d,]*)+"


def test_sums_in_the_pages_are_right() -> None:
    checked = 0
    for path in PAGES:
        text = own_text(path)
        for left, right in re.findall(
            rf"({SUM}) *(?:=|\|) *\**(\d[\d,]*)\**(?= *(?:\||$|[.;:]|\sand\s))", text, re.MULTILINE
        ):
            assert evaluate(left) == evaluate(right), f"{page_name(path)}: {left} = {right}"
            checked += 1
    assert checked >= 10


def test_shares_and_remainders_of_published_files_add_up() -> None:
    text = read(CONVENTIONS)
    minilm, iglm = (weighbridge.inspect(config).parameters.total for config in (MINILM, IGLM))
    assert minilm + 512 == 22_713_728
    assert iglm + 1_048_576 + 4 + 16_896 == 13_955_076
    assert 4 * 512 * 512 == 1_048_576
    assert 33 * 512 == 16_896
    assert 210_561 + 66_048 == 276_609
    assert "512 position ids" in text
    smollm2 = weighbridge.inspect(SMOLLM2)
    tensors, total = smollm2.bytes_by_encoding["q4_1"], smollm2.parameters.total
    assert 98_362_432 - tensors == 1_785_664
    page = read(RECIPES_PAGE)
    assert f"take {8 * tensors / total:.2f}" in page
    assert f"file {8 * 98_362_432 / total:.2f}" in page
    assert f"{8 * 98_362_432 / total:.2f} bits" in " ".join(read(TUTORIAL).split())
    mixtral = weighbridge.inspect(MIXTRAL).parameters
    assert f"{mixtral.total / 1e9:.1f} billion" in text
    assert f"{mixtral.active_per_token / 1e9:.1f} billion" in text


def test_sizes_in_the_table_of_recipes_are_those_of_the_engine() -> None:
    model = weighbridge.inspect(LLAMA_1B)
    text = read("docs/concepts/encodings-and-recipes.md")
    shown = re.findall(r"(?m)^\| `(.*?)` \| (?:plain|gguf|packed) \| `.*?` \| ([\d,]*) \|", text)
    assert {name: int(size.replace(",", "")) for name, size in shown if size} == model.bytes_by_encoding


def test_every_kind_of_layer_is_documented_with_its_count() -> None:
    text = read("docs/concepts/layers.md")
    for kind in EXAMPLES:
        assert re.search(rf"(?m)^\| .*`{kind}`", text), kind
    rows = re.findall(r"(?m)^\| .* \| `([\w:=]+)` \| `([^`|]+)` \| ([\d,]+) \|", text)
    assert len(rows) > 15
    for spec, formula, count in rows:
        assert f"{count_layer(spec).parameters:,}" == count, spec
        assert evaluate(formula) == count_layer(spec).parameters, formula


def test_layers_in_prose_have_the_counts_that_are_said() -> None:
    text = " ".join(GENERATED.sub("", read("docs/concepts/layers.md")).split())
    specs = re.findall(r"`([a-z]+:[\w:=]+)`", text)
    assert len(specs) >= 5
    for spec in specs:
        count_layer(spec)
    said = re.findall(r"`([a-z]+:[\w:=]+)` has ([\d,]+)", text)
    assert len(said) >= 2
    for spec, count in said:
        assert f"{count_layer(spec).parameters:,}" == count, spec
    assert count_layer("attention:768:12").parameters == count_layer("attention:768:6").parameters
