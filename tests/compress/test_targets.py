"""What may each tensor become, and is a plan the best that fits, to the byte?"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compress.small_folders import byte_level, llama
from tests.model.test_recipes import DESCRIBED, golden_types

from weighbridge.cli import main
from weighbridge.compress import plan, schemes, targets
from weighbridge.compress.plan import BudgetError, Chosen, Option
from weighbridge.compress.sensitivity import Sensitivity, by_role
from weighbridge.compress.targets import CASTS, CHOICES, FolderTarget, GgufTarget, Target, Working, target_of
from weighbridge.errors import ConfigError, UnitError, UnknownNameError
from weighbridge.model import recipes

pytest.importorskip("xllamacpp")
HOW = Working(memory_bytes=1 << 28, jobs=1, tell=None)
MIXES = [name for name, one in recipes.RECIPES.items() if one.kind == "gguf" and name not in (*CHOICES, *CASTS)]


def outline(case: dict[str, Any], path: Path) -> Path:
    """A GGUF file of a case of the table, in fp16, with a hole in the place of its weights."""
    shape = case["hparams"]
    writer = gguf.GGUFWriter(path, case["architecture"])
    writer.add_block_count(shape["num_layers"])
    writer.add_context_length(64)
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_heads"])
    writer.add_head_count_kv(shape["num_kv_heads"])
    writer.add_vocab_size(shape["vocab_size"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    if shape["num_experts"]:
        writer.add_expert_count(shape["num_experts"])
        writer.add_expert_used_count(shape["experts_per_token"])
    writer.add_tokenizer_model("no_vocab")
    size = 0
    for template, wide in case["shapes"].items():
        layers = range(shape["num_layers"]) if "{layer}" in template else (0,)
        is_fp32 = template in case["always"] or len(wide) == 1
        for layer in layers:
            count = int(np.prod(wide)) * (4 if is_fp32 else 2)
            dtype = np.dtype(np.float32 if is_fp32 else np.float16)
            writer.add_tensor_info(template.replace("{layer}", str(layer)), wide, dtype, count)
            size += -(-count // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, path.stat().st_size + size + 32)
    return path


CASES = [one for one in DESCRIBED if one["architecture"] != "gpt2" or one["hparams"]["tied"]]
"""A head beside GPT-2's table is a copy that old converters made, and no part of what we describe."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_mixes_are_llama_cpp_s(case: dict[str, Any], tmp_path: Path) -> None:
    made = GgufTarget(outline(case, tmp_path / "a.gguf"))
    compared = 0
    for mix in MIXES:
        if mix in case["types"]:
            expected = golden_types(case, mix)
            found = {name: one.name for name, one in made.method(mix).items()}
            kept = {"position_embd.weight", "token_types.weight"}
            assert {name: one for name, one in found.items() if name not in kept} == {
                name: one for name, one in expected.items() if name not in kept}, mix  # fmt: skip
            assert all(found[name] in ("fp16", "fp32") for name in kept & found.keys())
            compared += 1
        elif mix in case["refused"] and "imatrix" not in case["refused"][mix] and "matrix" not in case["refused"][mix]:
            with pytest.raises(UnitError):
                made.method(mix)
    assert compared or not set(MIXES) & case["types"].keys()


def small(path: Path, tensors: Mapping[str, Any], architecture: str = "toy") -> Path:
    """A GGUF file of these tensors."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_file_type(1)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def drawn(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(dtype)


def toy(path: Path, dtype: Any = np.float32) -> Path:
    names = {"blk.0.ffn_up.weight": (16, 512), "blk.0.ffn_down.weight": (32, 96), "blk.0.odd.weight": (8, 40),
             "blk.0.ffn_gate_inp.weight": (4, 256), "position_embd.weight": (16, 256), "token_types.weight": (2, 256),
             "blk.0.attn_norm.weight": (256,)}  # fmt: skip
    return small(path, {name: drawn(*shape, dtype=np.float32 if len(shape) == 1 else dtype, seed=number)
                        for number, (name, shape) in enumerate(names.items())})  # fmt: skip


def shrunk(*words: Any) -> Any:
    return CliRunner().invoke(main, ["shrink", *map(str, words)])


def test_one_encoding_falls_back_where_rows_do_not_fit_and_tables_and_routers_stay(tmp_path: Path) -> None:
    made = GgufTarget(toy(tmp_path / "a.gguf"))
    for name, wide, odd, neither in (("q4_k", "q4_k", "q4_1", "bf16"), ("Q6_K", "q6_k", "q8_0", "bf16"),
                                     ("q8_0", "q8_0", "q8_0", "bf16"), ("q2_k", "q2_k", "q4_0", "bf16"),
                                     ("bf16", "bf16", "bf16", "bf16"), ("F16", "fp16", "fp16", "fp16")):  # fmt: skip
        found = {key: one.name for key, one in made.method(name).items()}
        assert found["blk.0.ffn_up.weight"] == wide and found["blk.0.ffn_down.weight"] == odd, name
        assert found["blk.0.odd.weight"] == neither
        for kept in ("blk.0.ffn_gate_inp", "position_embd", "token_types", "blk.0.attn_norm"):
            assert found[f"{kept}.weight"] == "fp32"
    half = GgufTarget(toy(tmp_path / "b.gguf", np.float16))
    assert half.method("bf16")["blk.0.ffn_up.weight"].name == "bf16"
    assert half.method("f32")["blk.0.ffn_up.weight"].name == "fp32"  # by any of its names
    assert set(made.unfit()) == {"blk.0.ffn_down.weight", "blk.0.odd.weight"}


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("form", ["gguf", "safetensors"])
def test_a_cast_halves_the_weights(tmp_path: Path, name: str, form: str) -> None:
    if form == "gguf":
        made: Target = GgufTarget(small(tmp_path / "a.gguf", {f"blk.{n}.x.weight": drawn(64, 256) for n in range(4)}))
        target = tmp_path / "b.gguf"
    else:
        llama(tmp_path / "a", byte_level(tmp_path / "a").get_vocab_size())
        made, target = FolderTarget(tmp_path / "a"), tmp_path / "b"
    chosen = made.method(name)
    errors = made.write(target, chosen, by_role(made.tensors), HOW)
    size = target.stat().st_size if form == "gguf" else (target / "model.safetensors").stat().st_size
    assert size == made.size_of(chosen) and 0.49 < size / made.size_bytes < 0.53
    assert all(error <= (2.0**-8 if name == "bf16" else 2.0**-11) ** 2 for error in errors.values())
    assert max(errors.values()) > 0


@pytest.mark.parametrize("form", ["gguf", "safetensors"])
def test_what_fp16_does_not_reach_is_named(tmp_path: Path, form: str) -> None:
    name, weights = "blk.0.x.weight", drawn(8, 64)
    weights[3, 5] = 70_000.0
    if form == "gguf":
        source = small(tmp_path / "a.gguf", {name: weights})
    else:
        from safetensors.numpy import load_file, save_file

        source, name = tmp_path / "a", "model.layers.1.mlp.up_proj.weight"
        llama(source, byte_level(source).get_vocab_size())
        save_file({**load_file(source / "model.safetensors"), name: np.tile(weights, (12, 1))},
                  source / "model.safetensors")  # fmt: skip
    done = shrunk(source, "-o", tmp_path / "b", "--method", "fp16", "--format", form)
    assert done.exit_code == 2 and name in done.stderr and "too large for fp16" in done.stderr
    assert not (tmp_path / "b").exists()
    assert shrunk(source, "-o", tmp_path / "b", "--method", "bf16", "--format", form).exit_code == 0


def test_encodings_that_need_an_importance_are_refused_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "CHOICES", ("iq2_xs", "q2_k", "q8_0"))  # tables of others take seconds to make
    source = small(tmp_path / "a.gguf", {"blk.0.ffn_up.weight": drawn(16, 256)})
    done = shrunk(source, "-o", tmp_path / "b.gguf", "--method", "iq2_xs")
    assert done.exit_code == 2 and "blk.0.ffn_up.weight" in done.stderr and "weigh imatrix" in done.stderr
    assert not list(tmp_path.glob("b*"))
    made = GgufTarget(source)
    columns = Sensitivity({"blk.0.ffn_up.weight": 1.0}, {"blk.0.ffn_up.weight": np.ones(256, np.float32)})
    names = [{one.encoding.name for one in made.options(costs)["blk.0.ffn_up.weight"]}
             for costs in (by_role(made.tensors), columns)]  # fmt: skip
    assert names[1] - names[0] == {"iq2_xs"} and names[0] < names[1]
    chosen = made.method("iq2_xs")
    assert made.lacking(chosen, by_role(made.tensors)) == "blk.0.ffn_up.weight"
    assert made.lacking(chosen, columns) is None
    made.write(tmp_path / "b.gguf", chosen, columns, HOW)


def test_columns_that_nothing_comes_through_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "CHOICES", ("q2_k", "iq3_xxs", "iq4_xs", "q4_0", "q4_k", "q6_k", "q8_0"))
    made = GgufTarget(small(tmp_path / "a.gguf", {"blk.0.ffn_up.weight": drawn(16, 256)}))
    name = "blk.0.ffn_up.weight"
    costs = Sensitivity({name: 1.0}, {name: np.zeros(256, np.float32)})
    assert all(one.loss == 0.0 and one.error >= 0 for one in made.options(costs)[name])


def test_an_empty_tensor_is_a_sentence(tmp_path: Path) -> None:
    source = small(tmp_path / "a.gguf", {"a.weight": drawn(8, 64), "b.weight": np.zeros((0, 64), np.float32)})
    done = shrunk(source, "-o", tmp_path / "b.gguf", "--bits", "8")
    assert done.exit_code == 2 and "Traceback" not in done.stderr and isinstance(done.exception, SystemExit)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    source = toy(tmp_path / "a.gguf")
    llama(tmp_path / "c", byte_level(tmp_path / "c").get_vocab_size())
    with pytest.raises(UnknownNameError, match="onnx"):
        target_of(source, "onnx")
    with pytest.raises(ConfigError, match="folder"):
        target_of(source, "safetensors")
    for name in ("q7_k", "int4", "iq1_s_m", "nf4"):
        with pytest.raises(UnknownNameError):
            GgufTarget(source).method(name)
    with pytest.raises(ConfigError, match="family"):
        GgufTarget(source).method("q4_k_m")  # of no known family
    for name in ("q4_k", "int3", ""):
        with pytest.raises(ConfigError):
            FolderTarget(tmp_path / "c").method(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    llama(tmp_path / "a", byte_level(tmp_path / "a").get_vocab_size())
    return tmp_path / "a"


@pytest.mark.parametrize("name", [*(one.name for one in schemes.QUANTIZED), "bf16", "fp16", "fp32"])
def test_a_scheme_goes_to_each_linear_module_and_no_other(folder: Path, tmp_path: Path, name: str) -> None:
    made = FolderTarget(folder)
    chosen = made.method(name)
    scheme = schemes.find(name)
    taken = set()
    for tensor in made.tensors:
        is_linear = tensor.name in made.source.linear_names
        expected = name if is_linear or scheme.bits is None else "fp32"
        if is_linear and scheme.group:  # the next smaller groups that divide the rows
            group = max(one for one in (128, 64, 32) if one <= scheme.group and tensor.shape[1] % one == 0)
            expected = name.replace(f"g{scheme.group}", f"g{group}")
        assert chosen[tensor.name].name == expected, tensor.name
        taken.add(expected)
    assert "g128" not in name or name not in taken  # no row is a multiple of 128
    made.write(tmp_path / "b", chosen, by_role(made.tensors), HOW)
    assert made.size_of(chosen) == sum(one.stat().st_size for one in (tmp_path / "b").glob("*.safetensors"))
    if name.endswith("asym"):
        config = json.loads((tmp_path / "b" / "config.json").read_text())["quantization_config"]
        assert all(one["weights"]["symmetric"] is False for one in config["config_groups"].values())


def test_zero_points_are_a_method_and_never_a_choice(folder: Path) -> None:
    made = FolderTarget(folder)
    options = made.options(by_role(made.tensors))
    assert all(one.encoding.symmetric for some in options.values() for one in some)
    assert any(not one.symmetric for one in made.method("int4-g32-asym").values())


def test_what_vllm_joins_takes_one_scheme(folder: Path) -> None:
    made = FolderTarget(folder)
    joined = {frozenset(one.split(".")[-2] for one in group) for group in made.groups}
    assert joined == {frozenset({"q_proj", "k_proj", "v_proj"}), frozenset({"gate_proj", "up_proj"})}
    assert len(made.groups) == 4
    costs = by_role(made.tensors)
    apart = {**costs.costs, **{name: 50.0 for name in costs.costs if "k_proj" in name or "gate" in name}}
    options = made.options(Sensitivity(apart))
    split = 0
    for share in (0.2, 0.3, 0.4, 0.6):
        budget = int(made.size_bytes * share)
        try:
            chosen = plan_of(made, options, budget, made.groups)
        except BudgetError:
            continue
        for group in made.groups:
            assert len({chosen.encodings[name].name for name in group}) == 1
        free = plan_of(made, options, budget, ())
        split += any(len({free.encodings[name].name for name in group}) > 1 for group in made.groups)
        assert free.loss <= chosen.loss
    assert split  # without the groups they would differ


def plan_of(made: Target, options: plan.Options, budget: int, groups: Any) -> plan.Plan:
    return plan.choose(options, made.size_of, budget, groups)


def best(
    options: Mapping[str, Any], groups: list[list[str]], size_of: Callable[[Chosen], int], budget: int
) -> float | None:  # fmt: skip
    """The least loss of all combinations within a budget."""
    grouped = {name for group in groups for name in group}
    units = [*groups, *([name] for name in options if name not in grouped)]
    lists = []
    for unit in units:
        names = [{one.encoding.name for one in options[name]} for name in unit]
        common = set.intersection(*names)
        lists.append([{name: next(one for one in options[name] if one.encoding.name == kind) for name in unit}
                      for kind in common])  # fmt: skip
    found: float | None = None
    for parts in itertools.product(*lists):
        chosen: dict[str, Option] = {name: one for part in parts for name, one in part.items()}
        if size_of({name: chosen[name].encoding for name in options}) <= budget:
            loss = sum(one.loss for one in chosen.values())
            found = loss if found is None else min(found, loss)
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_budgets_are_met_to_the_byte_and_the_choice_is_the_best_in_gguf(tmp_path: Path, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    columns = [data.draw(st.sampled_from((32, 40, 64, 96))) for _ in range(count)]
    rows = [data.draw(st.integers(1, 12)) for _ in range(count)]
    tensors = {f"blk.{n}.x.weight": drawn(rows[n], columns[n], seed=n) for n in range(count)}
    made = GgufTarget(small(tmp_path / "a.gguf", {**tensors, "b.norm.weight": drawn(33)}))
    some = {name: [*data.draw(st.permutations(found[1:]))[:4], found[0]]
            for name, found in made.options(by_role(made.tensors)).items()}  # fmt: skip
    sizes = [sum(pick(one.size_bytes for one in found) for found in some.values()) for pick in (min, max)]
    head = made.size_of({name: found[-1].encoding for name, found in some.items()}) - sum(
        found[-1].size_bytes for found in some.values())  # fmt: skip
    budget = head + data.draw(st.integers(sizes[0] - 40, sizes[1] + 40))
    _holds(made, some, [], budget, slack=0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_budgets_are_met_to_the_byte_and_the_choice_is_the_best_in_a_folder(
    tmp_path: Path, data: st.DataObject
) -> None:
    from safetensors.numpy import save_file

    wide, kv = data.draw(st.sampled_from((40, 64, 128))), data.draw(st.sampled_from((1, 4, 8)))
    config = {"model_type": "llama", "hidden_size": wide, "num_hidden_layers": 1, "num_attention_heads": 8,
              "num_key_value_heads": kv, "head_dim": 8, "intermediate_size": 32, "vocab_size": 8,
              "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = {"self_attn.q_proj": (64, wide), "self_attn.k_proj": (kv * 8, wide), "self_attn.v_proj": (kv * 8, wide),
              "self_attn.o_proj": (wide, 64), "mlp.gate_proj": (32, wide), "mlp.up_proj": (32, wide),
              "mlp.down_proj": (wide, 32)}  # fmt: skip
    weights = {f"model.layers.0.{name}.weight": drawn(*shape, dtype=np.float16, seed=number)
               for number, (name, shape) in enumerate(shapes.items())}  # fmt: skip
    save_file({**weights, "model.embed_tokens.weight": drawn(8, wide, dtype=np.float16)},
              tmp_path / "model.safetensors")  # fmt: skip
    made = FolderTarget(tmp_path)
    assert len(made.groups) == 2
    options = {name: list(found) for name, found in made.options(by_role(made.tensors)).items()}
    for group in made.groups:
        kept = data.draw(st.permutations([one.encoding.name for one in options[group[0]]]))[:3]
        for name in group:
            options[name] = [one for one in options[name] if one.encoding.name in kept]
    least = made.size_of({name: min(found, key=lambda one: one.size_bytes).encoding for name, found in options.items()})
    budget = data.draw(st.integers(least - 50, least + 300) | st.integers(least, made.size_bytes + 50))
    _holds(made, options, made.groups, budget, slack=64)


def _holds(made: Target, options: Mapping[str, list[Option]], groups: list[list[str]], budget: int, slack: int) -> None:
    """Holds a plan against all combinations; `slack` is what the digits of offsets may take."""
    expected = best(options, groups, made.size_of, budget)
    if expected is None:
        with pytest.raises(BudgetError, match="at least"):
            plan_of(made, options, budget, groups)
        return
    try:
        chosen = plan_of(made, options, budget, groups)
    except BudgetError:
        assert best(options, groups, made.size_of, budget - slack) is None
        return
    assert chosen.size_bytes == made.size_of(chosen.encodings) <= budget
    assert expected - 1e-9 <= chosen.loss
    within = best(options, groups, made.size_of, budget - slack) if slack else expected
    if within is not None:
        assert chosen.loss <= within * (1 + 1e-6) + 1e-12


def test_a_plan_that_is_written_has_its_bytes(folder: Path, tmp_path: Path) -> None:
    for number, form in enumerate(("gguf", "safetensors")):
        made = target_of(folder, form)
        chosen = plan.choose(made.options(by_role(made.tensors)), made.size_of, made.size_bytes // 2, made.groups)
        place = tmp_path / f"out{number}"
        errors = made.write(place, chosen.encodings, by_role(made.tensors), HOW)
        size = place.stat().st_size if form == "gguf" else (place / "model.safetensors").stat().st_size
        assert size == chosen.size_bytes <= made.size_bytes // 2
        for name, error in errors.items():  # samples were whole: what was planned is what came out
            assert chosen.errors[name] == pytest.approx(error, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("form", ["gguf", "safetensors"])
def test_a_weight_that_is_no_number_is_named_by_its_tensor(folder: Path, tmp_path: Path, form: str) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][2, 2] = np.nan
    save_file(weights, folder / "model.safetensors")
    done = shrunk(folder, "-o", tmp_path / "b", "--bits", "9", "--format", form)
    assert done.exit_code == 2 and ("up_proj" in done.stderr or "ffn_up" in done.stderr)


def stored(path: Path) -> dict[str, Any]:
    """The bytes of each tensor, read by hand."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:begin])
    return {name: np.frombuffer(data[begin + one["data_offsets"][0] : begin + one["data_offsets"][1]], np.uint8)
            for name, one in entries.items() if name != "__metadata__"}  # fmt: skip


def test_int8_is_within_half_a_step_everywhere(folder: Path, tmp_path: Path) -> None:
    made = FolderTarget(folder)
    made.write(tmp_path / "b", made.method("int8"), by_role(made.tensors), HOW)
    written = stored(tmp_path / "b" / "model.safetensors")
    before, after = 0, 0
    for name in made.source.linear_names:
        tensor = next(one for one in made.tensors if one.name == name)
        rows = made.source.rows(tensor, 0, tensor.shape[0])
        stem = name.removesuffix("weight")
        # unpacked here by hand: four bytes a word, the lowest first, 128 above the number
        whole = written[f"{stem}weight_packed"].reshape(len(rows), -1)[:, : rows.shape[1]].astype(int)
        scale = (written[f"{stem}weight_scale"].view("<u2").astype(np.uint32) << 16).view(np.float32)[:, None]
        apart = np.abs((whole - 128) * scale.astype(np.float64) - rows)
        assert (apart <= scale.astype(np.float64) / 2 * (1 + 1e-6)).all() and apart.max() > 0
        parts = [written[f"{stem}weight_{end}"] for end in ("packed", "scale", "shape")]
        before += rows.nbytes
        after += sum(part.nbytes for part in parts)
    assert 0.25 < after / before < 0.29  # a byte of four, with a scale of a row
