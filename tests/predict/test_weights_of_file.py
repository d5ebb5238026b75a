"""Are the weights of a GGUF file told apart by how a pass reads them?"""

from __future__ import annotations

from weighbridge.inspection import inspect
from weighbridge.model import encodings, recipes
from weighbridge.model.tensors import TensorSpec
from weighbridge.predict.demand import Read, demand, stored_weights, weights_of_file


def tensor(name: str, shape: tuple[int, ...], encoding: str) -> TensorSpec:
    return TensorSpec(name, shape, encodings.find(encoding))


def test_head_table_experts_and_vectors() -> None:
    table, norm = tensor("token_embd.weight", (100, 64), "q8_0"), tensor("blk.0.attn_norm.weight", (64,), "fp32")
    matrix, experts = (tensor("blk.0.attn_q.weight", (64, 64), "q4_0"),
                       tensor("blk.0.ffn_up_exps.weight", (4, 64, 64), "q4_0"))  # fmt: skip
    tied = weights_of_file("q4_0", [table, norm, matrix, experts])
    assert (tied.table_bytes, tied.other_bytes) == (0, 256)
    assert set(tied.read) == {Read("q8_0", 6400, False, True), Read("q4_0", 4096), Read("q4_0", 16384, True)}
    apart = weights_of_file("q4_0", [table, norm, matrix, experts, tensor("output.weight", (100, 64), "q8_0")])
    assert apart.table_bytes == 100 * 2 * 34
    assert apart.total_bytes == tied.total_bytes + 100 * 2 * 34


def test_a_recipe_reads_every_matrix_once() -> None:
    for name in ("llama-3.2-1b", "mixtral-8x7b", "llama-2-7b"):
        architecture = inspect(name).architecture
        assert architecture is not None
        need, stored = demand(architecture), stored_weights(architecture, recipes.find("q8_0"))
        assert sum(one.elements for one in stored.read) == need.dense_elements + need.expert_elements
        assert sum(one.is_head for one in stored.read) == 1
