"""Weights in mixes of llama.cpp for families whose GGUF layout is not verified."""

from __future__ import annotations

import pytest

from weighbridge.errors import ConfigError
from weighbridge.estimate import Basis
from weighbridge.inspection import inspect
from weighbridge.model import recipes
from weighbridge.predict.demand import ASSUMED_SHARES, StoredWeights, stored_weights


def stored(name: str, mix: str) -> StoredWeights:
    architecture = inspect(name).architecture
    assert architecture is not None
    return stored_weights(architecture, recipes.find(mix))


@pytest.mark.parametrize(
    ("name", "mix", "published"),
    [
        ("gemma-3-27b", "q4_k_m", 17.4e9),  # 16.5 GB, and 0.86 GB of a projector in fp16
        ("deepseek-v3", "q4_k_m", 404e9),
        ("gpt-oss-20b", "q8_0", 12.1e9),  # its experts stay in MXFP4
        ("gpt-oss-20b", "q4_k_m", 11.6e9),
        ("gpt-oss-120b", "q8_0", 63.4e9),
    ],
)
def test_assumed_sizes_are_near_published_files(name: str, mix: str, published: float) -> None:
    found = stored(name, mix)
    assert found.basis is Basis.ASSUMED
    assert found.total_bytes == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("mix", ["q8_0", "q4_0", "q5_k_m", "q6_k", "iq4_xs", "q4_k_m"])
@pytest.mark.parametrize(
    "name", ["gemma-3-27b", "deepseek-v3", "llama-4-scout", "qwen2.5-vl-7b", "mpt-7b", "falcon-7b", "opt-6.7b",
             "glm-4-9b", "mamba-2.8b"]
)  # fmt: skip
def test_every_common_mix_answers_below_16_bits(name: str, mix: str) -> None:
    found = stored(name, mix)
    assert found.basis is Basis.ASSUMED
    assert 0.2 < found.total_bytes / stored(name, "bf16").total_bytes < 0.65


def test_exact_lies_in_the_interval_of_what_is_assumed() -> None:
    for name in ("llama-3.1-8b", "qwen3-8b", "phi-3-mini"):
        architecture = inspect(name).architecture
        assert architecture is not None
        for mix in ("q4_k_m", "q3_k_l", "q8_0"):
            recipe = recipes.find(mix)
            exact = stored_weights(architecture, recipe)
            assumed = stored_weights(architecture, recipe, recipe.assume(architecture))
            bounds = assumed.estimate(assumed.total_bytes)
            assert bounds.low is not None and bounds.high is not None
            assert bounds.low <= exact.total_bytes <= bounds.high
            assert (bounds.low / assumed.total_bytes, bounds.high / assumed.total_bytes) == pytest.approx(
                ASSUMED_SHARES, rel=1e-6
            )
            assert exact.basis is Basis.EXACT and exact.estimate(7).low == 7


def test_a_tower_is_held_in_fp16_and_not_read() -> None:
    found = stored("gemma-3-27b", "q4_k_m")
    assert 0.84e9 < found.other_bytes < 0.88e9
    assert {one.encoding for one in found.read} == {"q4_k", "q6_k"}


def test_refusals_recommend_what_works() -> None:
    for name, mix in (("vit-base-patch16-224", "q4_k_m"), ("smollm2-135m", "awq-int4-g128"), ("falcon-7b", "q1_0")):
        with pytest.raises(ConfigError, match="such as") as refused:
            stored(name, mix)
        for other in str(refused.value).rstrip(".").rpartition("such as ")[2].split(" or "):
            assert stored(name, other).total_bytes > 0
    with pytest.raises(ConfigError, match=r"its parts"):
        stored("sdxl-base", "q4_k_m")
