"""Are weights in the schemes of compressed-tensors what its layout says, near enough, and as large as said?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weighbridge.compress import schemes
from weighbridge.compress.schemes import QUANTIZED, SCHEMES, Scheme, decode, encode, find, schemes_for
from weighbridge.errors import ConfigError
from weighbridge.model import encodings

INT4 = [scheme for scheme in QUANTIZED if scheme.bits == 4]


def weights(rows: int = 24, columns: int = 256, seed: int = 1) -> Any:
    """Rows of several sizes, one of them zero, one of a single sign."""
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    values *= np.logspace(-3, 2, rows, dtype=np.float32)[:, None]
    values[2] = 0
    values[3] = np.abs(values[3])
    return values


def scales(parts: Any, scheme: Scheme, columns: int) -> Any:
    found = parts["weight_scale"].astype(np.uint32) << 16
    return np.repeat(found.view(np.float32), columns // found.shape[1], axis=1)


@pytest.mark.parametrize("scheme", [one for one in QUANTIZED if one.is_packed], ids=lambda one: one.name)
def test_no_weight_is_further_off_than_half_a_step(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes, "RATIOS", ())
    values = weights()
    parts = encode(values, scheme)
    apart = np.abs(decode(parts, scheme, values.shape[1]) - values)
    assert (apart <= scales(parts, scheme, values.shape[1]) * 0.5001).all()


@pytest.mark.parametrize("scheme", INT4, ids=lambda one: one.name)
def test_the_search_loses_less_than_the_widest_range_and_heeds_importance(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = weights()
    importance = np.where(np.arange(256) % 4 == 0, 50.0, 0.1).astype(np.float32)

    def lost(*given: Any) -> tuple[float, float]:
        apart = np.square(decode(encode(values, scheme, *given), scheme, 256) - values, dtype=np.float64)
        return float(apart.sum()), float((apart * importance).sum())

    searched, weighted = lost(), lost(importance)
    monkeypatch.setattr(schemes, "RATIOS", ())
    widest = lost()
    assert searched[0] < 0.95 * widest[0]
    assert weighted[1] < 0.97 * searched[1] and weighted[0] > searched[0]


def test_fp8_is_the_nearest_of_its_256_numbers() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    table = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(schemes._fp8_values(), table, equal_nan=True)
    values = np.concatenate([weights().ravel(), np.linspace(-448, 448, 9999, dtype=np.float32), table[:127]])
    values = values[np.abs(values) <= 448]
    assert np.array_equal(schemes._fp8(values), values.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))


def test_fp8_keeps_its_relative_error() -> None:
    values, scheme = weights(), find("fp8")
    parts = encode(values, scheme)
    apart = np.abs(decode(parts, scheme, 256) - values)
    assert (apart <= np.maximum(np.abs(values) * 2**-4, scales(parts, scheme, 256) * 2**-10 * 1.01)).all()
    table = schemes._fp8_values()
    assert np.array_equal(schemes._fp8(table[:127]), np.arange(127)) and np.isnan(table[[127, 255]]).all()


@pytest.mark.parametrize("scheme", QUANTIZED, ids=lambda one: one.name)
def test_zeros_stay_zeros_and_ends_of_fp32_stay_numbers(scheme: Scheme) -> None:
    zeros = np.zeros((8, 256), np.float32)
    assert (decode(encode(zeros, scheme), scheme, 256) == 0).all()
    for size in (np.finfo(np.float32).max, np.finfo(np.float32).tiny, np.float32(1e-44)):
        values = np.full((8, 256), size, np.float32)
        values[:, ::2] *= -1
        with np.errstate(over="ignore"):
            found = decode(encode(values, scheme), scheme, 256)
        assert not np.isnan(found).any()


@pytest.mark.parametrize("scheme", QUANTIZED, ids=lambda one: one.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(scheme: Scheme, bad: float) -> None:
    values = weights()
    values[20, 200] = bad
    with pytest.raises(ConfigError, match="no finite number"):
        encode(values, scheme)


@pytest.mark.parametrize("shape", [(1, 128), (7, 256), (24, 384), (3, 1), (1, 1), (5, 9)])
def test_parts_are_as_large_as_said(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    for scheme in SCHEMES.values():
        if not scheme.fits(shape):
            continue
        parts = encode(values, scheme)
        stated = {part.name: part for part in scheme.parts(shape) if part.name != "weight_shape"}
        assert {name: found.nbytes for name, found in parts.items()} == {
            name: part.size_bytes for name, part in stated.items()}  # fmt: skip
        if scheme.bits is not None:
            assert {name: found.shape for name, found in parts.items()} == {
                name: part.shape for name, part in stated.items()}  # fmt: skip
        assert scheme.size_bytes(shape) == sum(part.size_bytes for part in scheme.parts(shape))
        assert decode(parts, scheme, shape[1]).shape == shape


def test_bits_of_a_weight() -> None:
    found = {scheme.name: scheme.bits_per_weight for scheme in SCHEMES.values()}
    assert found == {"int4-g128": 4.125, "int4-g64": 4.25, "int4-g32": 4.5, "int4-g128-asym": 4.15625,
                     "int4-g64-asym": 4.3125, "int4-g32-asym": 4.625, "int8": 8.0, "fp8": 8.0, "bf16": 16.0,
                     "fp16": 16.0, "fp32": 32.0}  # fmt: skip
    for scheme in SCHEMES.values():
        shape = (1 << 16, 1 << 16)
        assert 8 * scheme.size_bytes(shape) / 2**32 == pytest.approx(scheme.bits_per_weight, rel=1e-4)


def test_what_a_tensor_may_become_is_smaller_and_fits() -> None:
    bf16, fp32, int64 = (encodings.find(name) for name in ("bf16", "fp32", "int64"))
    assert [one.name for one in schemes_for((64, 256), False, fp32)] == ["fp32", "bf16", "fp16"]
    assert [one.name for one in schemes_for((64, 256), True, bf16)] == [
        "bf16", "int4-g128", "int4-g64", "int4-g32", "int8", "fp8"]  # fmt: skip
    assert [one.name for one in schemes_for((64, 100), True, bf16)] == ["bf16", "int8", "fp8"]
    assert [one.name for one in schemes_for((1, 1), True, fp32)] == ["fp32", "fp8", "bf16", "fp16"]
    assert [one.name for one in schemes_for((), False, fp32)] == ["fp32"]
    assert [one.name for one in schemes_for((1, 512), False, int64)] == ["int64"]
    with pytest.raises(ConfigError, match="int4-g128"):
        find("int3")


def test_words_hold_the_first_weight_in_their_lowest_bits() -> None:
    values = (np.arange(-8, 8, dtype=np.float32)[None] * 1.0).repeat(2, axis=1)[:, ::2].repeat(8, axis=1)[:, ::4]
    scheme = find("int4-g32")
    parts = encode(values, scheme)
    word = int(parts["weight_packed"][0, 0]) & 0xFFFFFFFF
    step = float((parts["weight_scale"].astype(np.uint32) << 16).view(np.float32)[0, 0])
    assert [((word >> (4 * place)) & 15) - 8 for place in range(8)] == [
        int(np.clip(np.rint(value / step), -8, 7)) for value in values[0, :8]]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("scheme", QUANTIZED, ids=lambda one: one.name)
def test_each_part_is_that_of_compressed_tensors(scheme: Scheme) -> None:
    torch = pytest.importorskip("torch")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    from weighbridge.compress.quantization_config import _format, _weights

    values = weights(rows=20)
    parts = encode(values, scheme)
    args = quantization.QuantizationArgs(**_weights(scheme))
    asked = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    compressor = compressors.BaseCompressor.get_value_from_registry(_format(scheme))
    scale = torch.from_numpy(parts["weight_scale"].view(np.int16)).view(torch.bfloat16).float()
    given = {"weight": torch.from_numpy(values), "weight_scale": scale}
    if not scheme.symmetric:
        zeros = schemes._unpacked(parts["weight_zero_point"].T, 4, len(values)).T.astype(np.int8)
        given["weight_zero_point"] = torch.from_numpy(np.ascontiguousarray(zeros))
    made = compressor.compress(given, asked)
    for name, found in parts.items():
        if name != "weight_scale":
            assert np.array_equal(made[name].contiguous().view(torch.uint8).numpy(), found.view(np.uint8)), name
    back = compressor.decompress(dict(made), asked)["weight"].numpy()
    assert np.array_equal(back, decode(parts, scheme, values.shape[1]))
