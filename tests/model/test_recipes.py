"""Recipes against what llama.cpp's own quantizer wrote (`golden/llama_cpp_types.json`), tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.inspection import inspect
from weighbridge.model import families, layouts, recipes
from weighbridge.model.architecture import Architecture
from weighbridge.model.hyperparameters import Hyperparameters

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "llama_cpp_types.json").read_text())
NEED_IMPORTANCE_MATRIX = {"q2_k_s", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs"}
DESCRIBED = [case for case in GOLDEN["cases"] if case["architecture"] in ("llama", "qwen2", "gpt2", "bert")]
ROWS = [
    (case, file_type)
    for case in DESCRIBED
    for file_type in case["types"]
    if case["imatrix"] == (file_type in NEED_IMPORTANCE_MATRIX)
    and file_type in recipes.RECIPES
    and recipes.RECIPES[file_type].kind == "gguf"
]


def architecture(case: dict[str, Any]) -> Architecture:
    shape = case["hparams"]
    model_type = "mixtral" if shape["num_experts"] else case["architecture"]
    settings = {
        "hidden_size": shape["hidden_size"], "num_layers": shape["num_layers"], "num_heads": shape["num_heads"],
        "num_kv_heads": shape["num_kv_heads"], "intermediate_size": shape["intermediate_size"],
        "vocab_size": shape["vocab_size"], "tie_embeddings": shape["tied"], "pooler": False,
    }  # fmt: skip
    if shape["num_experts"]:
        settings |= {"num_experts": shape["num_experts"], "experts_per_token": shape["experts_per_token"]}
    classes = ("BertModel",) if model_type == "bert" else ()
    return families.build(Hyperparameters(case["name"], model_type, settings, classes))


def golden_types(case: dict[str, Any], file_type: str) -> dict[str, str]:
    """Tensor names to types, the golden table's run lengths unfolded."""
    row, always = case["types"][file_type], case["always"]
    unfolded: dict[str, str] = {}
    for template in case["shapes"]:
        found = always.get(template) or row.get(template, row["*"])
        runs = [[found, case["hparams"]["num_layers"]]] if isinstance(found, str) else found
        layer = 0
        for name, length in runs:
            for _ in range(length if "{layer}" in template else 1):
                unfolded[template.replace("{layer}", str(layer))] = name
                layer += 1
    return unfolded


@pytest.mark.parametrize(("case", "file_type"), ROWS, ids=[f"{c['name']}-{f}" for c, f in ROWS])
def test_every_tensor_gets_the_type_that_llama_cpp_gave_it(case: dict[str, Any], file_type: str) -> None:
    model = architecture(case)
    ours: dict[str, str] = {}
    for assignment in recipes.RECIPES[file_type].pack(model).assignments:
        group = assignment.group
        for layer in assignment.layers or (group.layers if group.layers is not None else (None,)):
            name = layouts.gguf_name(group, layer)
            assert name is not None
            ours[name] = assignment.encoding.name
    assert ours == golden_types(case, file_type)


def test_the_table_covers_every_llama_cpp_recipe() -> None:
    tested = {file_type for _, file_type in ROWS}
    assert {name for name, recipe in recipes.RECIPES.items() if recipe.kind == "gguf"} == tested
    assert len(ROWS) > 900


@pytest.mark.parametrize("case", [c for c in DESCRIBED if not c["imatrix"]], ids=lambda case: str(case["name"]))
def test_rows_that_the_quantizer_refuses_are_not_offered(case: dict[str, Any]) -> None:
    refused = {name for name in case["refused"] if name in recipes.RECIPES and recipes.RECIPES[name].kind == "gguf"}
    refused -= NEED_IMPORTANCE_MATRIX  # refused for want of a matrix, not for the shape
    model = architecture(case)
    assert refused == {
        name for name, recipe in recipes.RECIPES.items() if recipe.kind == "gguf" and not recipe.pack(model).is_possible
    }


def test_shapes_of_the_gguf_layout_equal_those_of_the_files() -> None:
    for case in DESCRIBED:
        described = {tensor.name: list(tensor.shape) for tensor in architecture(case).tensors("gguf")}
        for template, shape in case["shapes"].items():
            name = template.replace("{layer}", "0")
            if "position_embd" in name:  # the file's context length is its own
                continue
            assert described[name] == shape, (case["name"], name)


LLAMA_2_70B = {
    "hidden_size": 8192, "num_layers": 80, "num_heads": 64, "num_kv_heads": 8, "vocab_size": 32000,
    "intermediate_size": 28672,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fp32", 4 * 68_976_648_192), ("bf16", 137_953_296_384), ("int8", 68_976_648_192), ("int4", 34_488_324_096)],
)
def test_plain_types_are_elements_times_bits(name: str, expected: int) -> None:
    model = families.build(Hyperparameters("llama-2-70b", "llama", LLAMA_2_70B))
    assert recipes.find(name).pack(model).size_bytes == expected


def test_packed_recipes_by_hand() -> None:
    """One 256 -> 512 map of a tiny Llama, with its scales, zeros and indices added up by hand."""
    model = families.build(Hyperparameters("tiny", "llama", {
        "hidden_size": 256, "num_layers": 1, "num_heads": 4, "vocab_size": 10, "intermediate_size": 512}))  # fmt: skip
    maps = [(256, 256)] * 4 + [(256, 512)] * 2 + [(512, 256)]
    rest = 2 * (10 * 256 * 2 + 3 * 256)
    awq = sum(i * o // 2 + i // 128 * o * 2 + i // 128 * o // 2 for i, o in maps)
    assert recipes.find("awq-int4-g128").pack(model).size_bytes == awq + rest
    assert recipes.find("gptq-int4-g128").pack(model).size_bytes == awq + sum(4 * i for i, _ in maps) + rest
    assert recipes.find("w8a8").pack(model).size_bytes == sum(i * o + 2 * o for i, o in maps) + rest
    assert recipes.find("nf4").pack(model).size_bytes == sum(i * o // 2 + i * o // 64 * 4 for i, o in maps) + rest
    assert recipes.find("mxfp4").pack(model).size_bytes == sum(i * o // 32 * 17 for i, o in maps) + rest
    assert recipes.find("nvfp4").pack(model).size_bytes == sum(i * o // 16 * 9 + 4 for i, o in maps) + rest


def test_packers_are_not_offered_shapes_that_they_refuse() -> None:
    """AWQ wants rows of whole groups of 128, GPTQ multiples of 32; 576 = 4.5 x 128 = 18 x 32."""
    smol = {"hidden_size": 576, "num_layers": 1, "num_heads": 9, "num_kv_heads": 3, "vocab_size": 9,
            "intermediate_size": 1536}  # fmt: skip
    model = families.build(Hyperparameters("smol", "llama", smol))
    assert not recipes.find("awq-int4-g128").pack(model).is_possible
    assert recipes.find("gptq-int4-g128").pack(model).is_possible
    odd = families.build(Hyperparameters("odd", "llama", smol | {"intermediate_size": 90}))
    assert not recipes.find("gptq-int4-g128").pack(odd).is_possible
    assert recipes.find("nf4").pack(odd).is_possible and recipes.find("mxfp4").pack(odd).fallbacks


def test_fallbacks_are_named() -> None:
    smol = families.build(Hyperparameters("smol", "llama", {
        "hidden_size": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "vocab_size": 49152,
        "intermediate_size": 1536, "tie_embeddings": True}))  # fmt: skip
    fallbacks = {(f.row, f.meant, f.stored): f.tensors for f in recipes.find("q4_k_m").pack(smol).fallbacks}
    assert set(fallbacks) == {(576, "q4_k", "q5_0"), (576, "q6_k", "q8_0")}  # rows of 1536, in down_proj, divide
    # 14 of 30 value projections have more bits: the first 3 layers, the last 4 and every third between them.
    assert fallbacks[576, "q6_k", "q8_0"] == {"v_proj.weight": 14}
    names = ("q_proj", "k_proj", "o_proj", "gate_proj", "up_proj")
    assert fallbacks[576, "q4_k", "q5_0"] == {"v_proj.weight": 16} | {f"{name}.weight": 30 for name in names}


def test_unknown_mix_names_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="q4_k_m"):
        recipes.find("q4_k_x")


def test_experts_in_one_tensor_are_packed_as_published() -> None:
    """gpt-oss-120b: its hub page has 65,248,815,744 bytes of BF16, FP4 and scales."""
    model = inspect("gpt-oss-120b").architecture
    assert model is not None
    assert recipes.find("mxfp4").pack(model).size_bytes == 65_248_815_744


def test_mxfp4_packs_the_experts_of_a_mixture_alone() -> None:
    model = inspect("mixtral-8x7b")
    assert model.architecture is not None
    experts = model.parameters.by_component["experts"]
    packed = recipes.find("mxfp4").pack(model.architecture).size_bytes
    assert packed == experts * 17 // 32 + 2 * (model.parameters.total - experts)


def test_rules_by_role_give_what_verified_layouts_have() -> None:
    """Llamas, mixtures and Qwens without a look at their layout: what is assumed is what their files hold."""
    for name in ("llama-3.1-8b", "mixtral-8x7b", "qwen3-8b", "gemma-2-9b"):
        model = inspect(name).architecture
        assert model is not None
        for mix in ("q4_k_m", "q3_k_l", "iq2_xs", "q8_0", "q4_0", "iq4_xs"):
            exact, assumed = recipes.find(mix).pack(model), recipes.find(mix).assume(model)
            assert assumed.is_assumed and not exact.is_assumed
            assert assumed.size_bytes == pytest.approx(exact.size_bytes, rel=0.005)


def test_only_models_that_read_tokens_are_assumed() -> None:
    for name, expected in (("gemma-3-27b", True), ("vit-base-patch16-224", False), ("sdxl-base", False),
                           ("llama-3.1-8b", False)):  # fmt: skip
        model = inspect(name).architecture
        assert model is not None
        assert recipes.find("q4_k_m").can_assume(model) is expected
        assert not recipes.find("bf16").can_assume(model)
