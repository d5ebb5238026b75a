"""What errors cost without data, and how what data tell is completed."""

from __future__ import annotations

import numpy as np
import pytest

from weighbridge.compress.importance import Importance
from weighbridge.compress.sensitivity import OTHER_SHARE, SHARES, Sensitivity, by_role, completed, with_importance
from weighbridge.errors import FormatError
from weighbridge.model.encodings import find
from weighbridge.model.tensors import TensorSpec

FP16 = find("fp16")
LAYER = {"attn_q": (64, 64), "attn_k": (16, 64), "attn_v": (16, 64), "attn_output": (64, 64), "ffn_gate": (96, 64),
         "ffn_up": (96, 64), "ffn_down": (64, 96)}  # fmt: skip


def decoder(layers: int = 3, *, is_tied: bool = False) -> list[TensorSpec]:
    """The tensors of a Llama by llama.cpp's names."""
    found = [TensorSpec(f"blk.{layer}.{name}.weight", shape, FP16)
             for layer in range(layers) for name, shape in LAYER.items()]  # fmt: skip
    found += [TensorSpec(f"blk.{layer}.attn_norm.weight", (64,), FP16) for layer in range(layers)]
    found.append(TensorSpec("token_embd.weight", (400, 64), FP16))
    return found if is_tied else [*found, TensorSpec("output.weight", (400, 64), FP16)]


@pytest.mark.parametrize("layers", [1, 3, 32])
def test_the_layers_share_what_a_role_costs(layers: int) -> None:
    costs = by_role(decoder(layers)).costs
    roles = {"attn_q": "attention_q", "attn_k": "attention_k", "attn_v": "attention_v",
             "attn_output": "attention_output", "ffn_gate": "mlp_gate", "ffn_up": "mlp_up",
             "ffn_down": "mlp_down"}  # fmt: skip
    for name, role in roles.items():
        mine = [cost for key, cost in costs.items() if f".{name}." in key]
        assert len(mine) == layers and len(set(mine)) == 1 and sum(mine) == pytest.approx(SHARES[role])
    assert not any("norm" in name for name in costs)
    inside = sum(cost for name, cost in costs.items() if name.startswith("blk."))
    assert inside == pytest.approx(1.0)


def test_a_head_that_is_not_stored_is_the_embedding() -> None:
    apart, tied = by_role(decoder()).costs, by_role(decoder(is_tied=True)).costs
    assert tied["token_embd.weight"] == pytest.approx(apart["token_embd.weight"] + apart["output.weight"])
    assert sum(tied.values()) == pytest.approx(sum(apart.values()))


def test_roles_that_are_not_known_have_a_share_of_their_own() -> None:
    costs = by_role([*decoder(), TensorSpec("a.weight", (4, 4), FP16), TensorSpec("blk.0.b.weight", (4, 4), FP16),
                     TensorSpec("alone", (4, 4), FP16), TensorSpec("c", (4, 4), FP16, "mlp_down")]).costs  # fmt: skip
    assert costs["a.weight"] + costs["blk.0.b.weight"] + costs["alone"] == pytest.approx(OTHER_SHARE)
    assert costs["c"] == costs["blk.0.ffn_down.weight"] == pytest.approx(SHARES["mlp_down"] / 4)


def test_what_was_not_seen_gets_its_share_of_what_the_others_cost() -> None:
    tensors = decoder(2)
    shares = by_role(tensors).costs
    seen = {name: 7.0 * share for name, share in shares.items() if "ffn_down" not in name}
    columns = {"blk.0.attn_q.weight": np.ones(64, np.float32)}
    found = completed(tensors, Sensitivity(seen, columns, "nats", "gradients", ("a note",)))
    assert found.costs.keys() == shares.keys()
    assert found.costs == pytest.approx({name: 7.0 * share for name, share in shares.items()})
    assert (found.unit, found.basis, found.columns) == ("nats", "gradients", columns)
    assert found.notes[0] == "a note" and found.notes[1].startswith("2 tensors") and "blk.0.ffn_down" in found.notes[1]


def test_what_was_seen_is_kept_as_it_is_and_what_was_seen_of_others_is_none() -> None:
    tensors = decoder(1)
    whole = Sensitivity({name: float(number) for number, name in enumerate(by_role(tensors).costs)})
    assert completed(tensors, whole) is whole
    foreign = completed(tensors, Sensitivity({"other.weight": 3.0}, unit="nats", notes=("a note",)))
    assert foreign.costs == by_role(tensors).costs and foreign.unit is None and foreign.notes == ("a note",)


def matrix(**means: int) -> Importance:
    found = {name.replace("__", "."): np.arange(1, wide + 1, dtype=np.float32) for name, wide in means.items()}
    return Importance(found, {name: np.array([9]) for name in found}, ("texts",), 1, 512)


def test_an_importance_weighs_columns_and_leaves_the_shares() -> None:
    tensors = decoder(1)
    found = with_importance(tensors, matrix(blk__0__attn_q__weight=64, blk__0__ffn_down__weight=96, other=5), "im.gguf")
    assert found.costs == by_role(tensors).costs and found.unit is None and "im.gguf" in found.basis
    assert {name: len(one) for name, one in found.columns.items()} == {
        "blk.0.attn_q.weight": 64, "blk.0.ffn_down.weight": 96} and not found.notes  # fmt: skip


def test_an_importance_of_another_model_is_refused_or_told_of() -> None:
    with pytest.raises(FormatError, match=r"blk\.0\.attn_q\.weight"):
        with_importance(decoder(), matrix(blk__0__attn_q__weight=48), "im.gguf")
    found = with_importance(decoder(), matrix(h__0__weight=64), "im.gguf")
    assert not found.columns and found.notes == ("im.gguf knows none of these tensors",)


def test_each_expert_has_its_columns() -> None:
    tensors = [TensorSpec("blk.0.ffn_up_exps.weight", (4, 8, 64), FP16)]
    means = {"blk.0.ffn_up_exps.weight": np.ones((4, 64), np.float32)}
    found = with_importance(tensors, Importance(means, {}, (), 1, 1), "im")
    assert found.columns["blk.0.ffn_up_exps.weight"].shape == (4, 64)
    with pytest.raises(FormatError):
        with_importance([TensorSpec("blk.0.ffn_up_exps.weight", (3, 8, 64), FP16)], Importance(means, {}, (), 1, 1), "")
