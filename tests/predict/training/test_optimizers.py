"""What optimizers keep, by hand and against the state that torch makes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.model.tensors import Component
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import OPTIMIZERS, find_optimizer, optimizer_bytes, row_state_bytes
from weighbridge.predict.training.trained import Row, Trained, trained

SHAPES = [(96, 64), (64, 200), (64,), (8, 3, 5, 5)]


def described(name: str) -> Architecture:
    architecture = inspect(name).architecture
    assert architecture is not None
    return architecture


def row(shape: tuple[int, ...], role: str = "mlp_up", repeat: int = 1, use: Use = Use.MATMUL) -> Row:
    return Row(role, role, Component.MLP, use, shape, repeat, 1, repeat * math.prod(shape), True)


def test_state_is_none_one_or_two_numbers_a_parameter() -> None:
    """GPT-2 has 124,439,808 parameters."""
    gpt2 = trained(described("gpt-2"), Method())
    numbers = {name: optimizer_bytes(gpt2, OPTIMIZERS[name]) / (4 * 124_439_808) for name in OPTIMIZERS}
    assert (numbers["sgd"], numbers["sgdmomentum"], numbers["lion"]) == (0, 1, 1)
    assert numbers["adam"] == numbers["adamw"] == numbers["pagedadamw"] == 2
    assert optimizer_bytes(gpt2, OPTIMIZERS["adamw"], "bf16-true") == 4 * 124_439_808
    assert optimizer_bytes(gpt2, OPTIMIZERS["pagedadamw"], "bf16-true") == 8 * 124_439_808


def test_a_70b_model_in_mixed_precision_holds_1104_gb() -> None:
    """16 bytes a parameter: weights and gradients in 16 bits, a copy in 32, and two moments."""
    llama = trained(described("llama-2-70b"), Method())
    held = (2 + 2 + 4) * llama.trainable + optimizer_bytes(llama, OPTIMIZERS["adamw"])
    assert held == 16 * 68_976_648_192 and round(held / 1e9) == 1104


def test_8_bits_have_a_scale_for_256_numbers_and_small_tensors_keep_32() -> None:
    assert row_state_bytes(row((64, 64)), OPTIMIZERS["adamw8bit"]) == 2 * (4096 + 16 * 4)
    assert row_state_bytes(row((65, 64)), OPTIMIZERS["adamw8bit"], "bf16-true") == 2 * (4160 + 17 * 4)
    assert row_state_bytes(row((4095,)), OPTIMIZERS["adamw8bit"], "bf16-true") == 8 * 4095
    assert row_state_bytes(row((64, 64)), OPTIMIZERS["lion8bit"]) == 4096 + 64


def test_adafactor_keeps_rows_and_columns_of_each_matrix() -> None:
    assert row_state_bytes(row((300, 100), repeat=7), OPTIMIZERS["adafactor"]) == 7 * 4 * 400
    assert row_state_bytes(row((300,)), OPTIMIZERS["adafactor"]) == 1200
    gpt2 = trained(described("gpt-2"), Method())
    layer = (768 + 2304) + (768 + 768) + 2 * (768 + 3072) + 2304 + 768 + 3072 + 768 + 4 * 768
    others = (50257 + 768) + (1024 + 768) + 2 * 768
    assert optimizer_bytes(gpt2, OPTIMIZERS["adafactor"]) == 4 * (12 * layer + others)


def test_muon_leaves_tables_head_and_vectors_to_adamw() -> None:
    llama = trained(described("llama-2-7b"), Method())
    matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert optimizer_bytes(llama, OPTIMIZERS["muon"]) == 4 * matrices + 8 * (llama.trainable - matrices)


def test_frozen_weights_have_no_state() -> None:
    lora = trained(described("llama-2-70b"), Method(name="lora", rank=8))
    assert optimizer_bytes(lora, OPTIMIZERS["adamw"]) == 8 * 16_384_000


def test_names() -> None:
    assert find_optimizer("AdamW_8bit") is OPTIMIZERS["adamw8bit"] and find_optimizer("sgd-momentum").moments == 1
    with pytest.raises(UnknownNameError, match="adamw"):
        find_optimizer("adamww")


@pytest.mark.torch
@pytest.mark.parametrize("precision", ["fp32", "bf16-true"])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "sgdmomentum", "adafactor", "muon"])
def test_torch_keeps_as_many_bytes(name: str, precision: str) -> None:
    torch: Any = pytest.importorskip("torch")
    optim = torch.optim
    shapes = SHAPES[:2] if name == "muon" else SHAPES
    makers: dict[str, Any] = {
        "adamw": optim.AdamW, "adam": optim.Adam, "sgd": optim.SGD, "adafactor": optim.Adafactor, "muon": optim.Muon,
        "sgdmomentum": lambda parameters: optim.SGD(parameters, momentum=0.9),
    }  # fmt: skip
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    parameters = [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in shapes]
    optimizer = makers[name](parameters)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    held = sum(value.numel() * value.element_size() for state in optimizer.state.values()
               for key, value in state.items() if key != "step" and torch.is_tensor(value))  # fmt: skip
    rows = Trained(tuple(row(shape) for shape in shapes))
    assert held == optimizer_bytes(rows, OPTIMIZERS[name], precision)
