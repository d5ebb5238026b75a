"""Real HDF5, NumPy and TensorFlow Lite files from the package registry, counted to the last element."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.real.test_real_models import find, to_the_byte

from weighbridge.formats import contents
from weighbridge.formats.byte_source import LocalFolder
from weighbridge.inspection import inspect
from weighbridge.model.tensors import Kind

pytestmark = pytest.mark.real


def test_textgenrnn() -> None:
    path = find("textgenrnn", "textgenrnn_weights.hdf5")
    found = inspect(path)
    assert found.parameters.total == 462_717 and found.format == "keras" and to_the_byte(found, path)
    assert found.checkpoint.metadata["keras_version"] == "2.1.5"
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    assert next(iter(shapes)) == "embedding/embedding/embeddings:0"
    assert shapes["rnn_1/rnn_1/recurrent_kernel:0"] == (128, 512) and shapes["output/output/bias:0"] == (465,)


def test_reactionrnn() -> None:
    path = find("reactionrnn", "reactionrnn_weights.hdf5")
    found = inspect(path)
    assert found.parameters.total == 315_561 and to_the_byte(found, path)
    names = [tensor.name.rpartition("/")[2] for tensor in found.tensors]
    assert names == ["embeddings", "kernel", "recurrent_kernel", "bias", "kernel", "bias"]


def test_the_speller_of_sounds() -> None:
    path = find("g2p-en", "checkpoint20.npz")
    found = inspect(path)
    assert found.parameters.total == 834_890 and to_the_byte(found, path)


@pytest.mark.parametrize("name", ["doom-corridor", "doom-defend"])
def test_deflated_arrays_are_those_that_numpy_reads(name: str) -> None:
    path = find("simthinkd", f"{name}.npz")
    found = inspect(path)
    assert found.parameters.total == 265_666 and found.stored is not None
    assert found.stored.by_encoding == {"fp32": 265_665, "fp64": 1}
    with np.load(path) as arrays:
        for tensor in found.tensors:
            array = arrays[tensor.name]
            assert tensor.shape == array.shape
            assert b"".join(contents.pieces(found.checkpoint, tensor, LocalFolder(path.parent))) == array.tobytes()


def test_the_note_detector_and_how_its_count_follows_from_its_paper_and_its_onnx_file() -> None:
    """The published model has 16,782 parameters; its ONNX file 35,740 floats; so has this one.

    A converter folds the scale and the shift of two normalisations (8 and 32 channels) into the convolutions before
    them: 80 parameters less. The rest is a constant-Q transform, which is fixed, and a few constants.
    """
    path = find("basic-pitch", "nmp.tflite")
    found = inspect(path)
    assert found.stored is not None and to_the_byte(found, path)
    assert found.stored.by_encoding == {"fp32": 35_740, "int32": 165}
    floats = [tensor for tensor in found.tensors if tensor.encoding.is_float]
    fixed = [t.shape for t in floats if t.kind is Kind.BUFFER]
    assert fixed == [(1, 1, 256, 1), (36,), (36, 1, 256, 1), (36, 1, 256, 1), (309, 1, 1)]
    assert all(t.name.startswith("model_1/cq_t2010v2_1/") for t in floats if t.kind is Kind.BUFFER)
    learned = [(t.name.split(";")[0].removeprefix("model_1/"), t.shape) for t in floats if t.kind is Kind.PARAMETER]
    numbers = [("normalized_log_1/div_no_nan", ()), ("conv2d_5/Conv2D", (1,)), ("normalized_log_1/truediv", ()),
               ("normalized_log_1/add/y", ()), ("normalized_log_1/Const", ())]  # fmt: skip
    weights = {
        "conv2d_1/Conv2D": (8, 3, 39, 8), "re_lu_1/Relu": (8,), "contours-reduced/Conv2D": (1, 5, 5, 8),
        "contours-reduced/BiasAdd/ReadVariableOp": (1,), "conv2d_2/Conv2D": (32, 7, 7, 1),
        "conv2d_2/BiasAdd/ReadVariableOp": (32,), "conv2d_3/Conv2D": (1, 7, 3, 32),
        "conv2d_3/BiasAdd/ReadVariableOp": (1,), "conv2d_4/Conv2D": (32, 5, 5, 8), "re_lu_3/Relu": (32,),
        "conv2d_5/Conv2D": (1, 3, 3, 33), "conv2d_5/BiasAdd/ReadVariableOp": (1,),
        "batch_normalization/FusedBatchNormV3": (1,),
    }  # fmt: skip
    assert sorted(learned) == sorted([*numbers, *weights.items(), ("batch_normalization/FusedBatchNormV3", (1,))])
    # Its scale and shift have one name up to the first semicolon; the kernel of conv2d_5 shares its with a zero.
    assert sum(math.prod(shape) for shape in weights.values()) + 1 == 16_782 - 2 * 8 - 2 * 32 == 16_702
    assert found.stored.tied == 3 and found.parameters.total == 16_702 + len(numbers) - 1 == 16_706
    assert 16_702 + len(numbers) + sum(math.prod(shape) for shape in fixed) == 35_740
