"""A published model and its quantized twin, which comes without a configuration that says so."""

from __future__ import annotations

import pytest
from tests.real.test_real_models import find

from weighbridge.inspection import inspect

pytestmark = pytest.mark.real


def test_fracast_and_its_int8_twin_are_one_model() -> None:
    """85,001 parameters in both; 79,872 of them in int8, with 1,610 scales that are none."""
    plain = inspect(find("fracast", "model.safetensors"))
    assert plain.parameters.total == 85_001 and plain.packing is None
    twin = inspect(find("fracast", "model.int8.safetensors"))
    assert twin.parameters.total == 85_001 and twin.packing is not None and twin.stored is not None
    assert twin.stored.by_encoding == {"int8": 79_872, "fp32": 6_739}
    assert (twin.stored.quantization, twin.unpacked_elements) == (1_610, 85_001 - 79_872)
    assert (twin.packing.method, twin.packing.weights, twin.packing.weight_bits) == ("int8", 79_872, 8)
    assert twin.packing.overhead_bits_per_weight == {"scale": 1_610 * 32 / 79_872}
    shapes = {t.name: t.shape for t in plain.checkpoint.tensors}
    packed = {t.stands_for.name: t.stands_for.shape for t in twin.checkpoint.tensors if t.stands_for is not None}
    assert len(packed) == 20 and packed.items() <= shapes.items()
    assert twin.checkpoint.metadata["parameter_count"] == "85001"
