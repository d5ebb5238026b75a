"""Are weights encoded and decoded as ggml's own Python code has it?"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gguf
import numpy as np
import pytest

from weighbridge.compress import codecs
from weighbridge.compress.codecs import decode, encode, needs_importance
from weighbridge.errors import ConfigError
from weighbridge.model.encodings import find

pytest.importorskip("xllamacpp")

BLOCKS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4")


def rows(seed: int = 0, shape: tuple[int, int] = (16, 512)) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_decode_as_the_reference_does(name: str) -> None:
    encoding, values = find(name), rows()
    data = encode(values, encoding)
    assert len(data) == encoding.size_bytes(values.shape)
    raw = np.frombuffer(data, np.uint8).reshape(len(values), -1)
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(encoding.gguf_type or 0))
    assert np.array_equal(decode(data, encoding, values.shape[1]), expected)


@pytest.mark.parametrize("name", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "bf16", "fp16", "fp32"])
def test_plain_blocks_are_those_of_the_reference(name: str) -> None:
    encoding, values = find(name), rows(1)
    expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType(encoding.gguf_type or 0))
    got = np.frombuffer(encode(values, encoding), np.uint8)
    blocks = got.reshape(-1, encoding.bytes_per_block) != expected.view(np.uint8).reshape(-1, encoding.bytes_per_block)
    assert blocks.any(axis=1).mean() <= (0.01 if name.startswith("q") else 0)  # a tie in rounding may fall either way


def test_importance_moves_the_error_to_where_it_costs_less() -> None:
    values, weight = rows(2), np.ones(512, dtype=np.float32)
    weight[:64] = 1000.0
    encoding = find("q4_k")
    plain, weighted = (decode(encode(values, encoding, matrix), encoding, 512) - values for matrix in (None, weight))
    assert np.square(weighted[:, :64]).sum() < np.square(plain[:, :64]).sum()
    assert not needs_importance(encoding) and needs_importance(find("iq2_xxs"))


def test_zeros_stay_zeros_and_what_is_no_number_is_refused() -> None:
    for name in BLOCKS:
        assert not decode(encode(np.zeros((2, 256), np.float32), find(name)), find(name), 256).any()
    bad = rows()
    bad[3, 5] = np.nan
    with pytest.raises(ConfigError, match="no finite number"):
        encode(bad, find("q8_0"))
    with pytest.raises(ConfigError, match="too large for fp16"):
        encode(np.array([[1e6]], np.float32), find("fp16"))
    with pytest.raises(ConfigError, match="no encoding of GGUF"):
        encode(rows(), find("nf4"))


def test_bf16_rounds_to_even() -> None:
    values = np.array([[1.0, 1.00390625, 1.01171875, -3.0e38]], np.float32)
    found = decode(encode(values, find("bf16")), find("bf16"), 4)
    assert found[0, :3].tolist() == [1.0, 1.0, 1.015625] and found[0, 3] == pytest.approx(-3.0e38, rel=0.01)


def test_what_an_importance_has_to_be() -> None:
    with pytest.raises(ConfigError, match="no importance matrix, which iq2_xxs cannot do without"):
        encode(rows(), find("iq2_xxs"))
    for wrong in (np.ones(511, np.float32), np.ones((16, 512), np.float32)):
        with pytest.raises(ConfigError, match="one number for each of 512 columns"):
            encode(rows(), find("q4_k"), wrong)


@pytest.fixture
def fresh_engine() -> Iterator[None]:
    codecs.engine.cache_clear()
    yield
    codecs.engine.cache_clear()


def test_without_an_engine_the_extra_is_named(fresh_engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xllamacpp", "libgguf"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"neither xllamacpp nor libgguf .*'weighbridge\[run\]"):
        encode(rows(), find("q4_0"))
    assert encode(rows(), find("fp16")) and encode(rows(), find("bf16"))


@pytest.mark.parametrize("name", (*BLOCKS, "iq3_s", "tq2_0", "q1_0"))
def test_libgguf_makes_the_same_blocks(fresh_engine: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("libgguf")
    encoding, values = find(name), rows(4, (4, 512))
    importance = np.random.default_rng(5).gamma(0.5, size=512).astype(np.float32)
    matrices = (None, importance)
    expected = [encode(values, encoding, matrix) for matrix in matrices]
    decoded = [decode(data, encoding, 512) for data in expected]
    assert codecs.engine().name == "xllamacpp"
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    codecs.engine.cache_clear()
    assert [encode(values, encoding, matrix) for matrix in matrices] == expected
    assert all(np.array_equal(decode(data, encoding, 512), one) for data, one in zip(expected, decoded, strict=True))
    assert codecs.engine().name == "libgguf" and needs_importance(find("iq2_xxs")) and not needs_importance(encoding)
    with pytest.raises(ConfigError, match="this libgguf has 0 elements in 0 bytes as type 42"):
        encode(values, find("q2_0"))
