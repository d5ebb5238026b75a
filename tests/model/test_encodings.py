"""Encodings against two independent tables: the gguf package's and the safetensors package's."""

from __future__ import annotations

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.errors import UnknownNameError
from weighbridge.formats.safetensors import DTYPES
from weighbridge.model import encodings
from weighbridge.model.encodings import BY_GGUF_TYPE, ENCODINGS


def test_every_gguf_type_has_the_size_that_the_gguf_package_gives() -> None:
    for kind, (elements, size) in gguf.GGML_QUANT_SIZES.items():
        ours = BY_GGUF_TYPE[int(kind)]
        assert (ours.elements_per_block, ours.bytes_per_block) == (elements, size), kind
        assert ours.gguf_type == int(kind)
    newer = set(BY_GGUF_TYPE) - {int(kind) for kind in gguf.GGML_QUANT_SIZES}
    assert newer <= {42}  # q2_0, which releases of the gguf package up to 0.19 lack


@pytest.mark.parametrize(
    ("name", "bits"),
    [("fp32", 32), ("bf16", 16), ("fp8", 8), ("int4", 4), ("nf4", 4.5), ("mxfp4", 4.25), ("nvfp4", 4.5),
     ("q8_0", 8.5), ("q6_k", 6.5625), ("q5_k", 5.5), ("q4_k", 4.5), ("q4_0", 4.5), ("q3_k", 3.4375), ("q2_k", 2.625),
     ("iq4_xs", 4.25)],
)  # fmt: skip
def test_bits_per_weight(name: str, bits: float) -> None:
    assert encodings.find(name).bits_per_weight == bits


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("f16", "fp16"), ("FP16", "fp16"), ("float16", "fp16"), ("torch.float16", "fp16"), ("Half", "fp16"),
     ("BF16", "bf16"),
     ("bfloat16", "bf16"), ("F32", "fp32"), ("Q4_K", "q4_k"), ("q4-k", "q4_k"), ("F8_E4M3", "fp8"), ("I64", "int64"),
     ("float8_e4m3fn", "fp8"), ("mostly F16", "fp16"), ("MOSTLY_BF16", "bf16")],
)  # fmt: skip
def test_common_spellings(spelling: str, name: str) -> None:
    assert encodings.find(spelling).name == name


def test_spellings_are_unambiguous() -> None:
    spellings = [s for e in ENCODINGS.values() for s in (e.name, *e.aliases)]
    assert len(spellings) == len(set(spellings))
    assert all(encodings.plain_spelling(s) == s for s in spellings)


def test_every_safetensors_type_is_an_encoding() -> None:
    assert all(encoding.name in ENCODINGS for encoding in DTYPES.values())


@given(st.sampled_from(sorted(ENCODINGS)), st.integers(1, 5), st.integers(1, 9))
def test_sizes_are_whole_blocks(name: str, rows: int, blocks: int) -> None:
    encoding = ENCODINGS[name]
    row = blocks * encoding.elements_per_block
    assert encoding.size_bytes((rows, row)) == rows * blocks * encoding.bytes_per_block + encoding.bytes_per_tensor
    if encoding.elements_per_block > 8:
        assert not encoding.fits(row + 1)
        with pytest.raises(ValueError, match="whole number"):
            encoding.size_bytes((rows, row + 1))


def test_unknown_encodings_name_their_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="q4_k"):
        encodings.find("q4_kk")
