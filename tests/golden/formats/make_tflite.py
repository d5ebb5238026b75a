"""Makes the TensorFlow Lite files of this folder: `python tests/golden/formats/make_tflite.py`.

It needs flatbuffers and ai-edge-litert (25.12 and 2.0.2 were used), whose generated schema is the reference here; the
tests hold what is written as literals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-not-found,import-untyped,unused-ignore]

HERE = Path(__file__).parent
FLOAT32, FLOAT16, INT32, INT8, INT4, UINT8, TEXT = 0, 1, 2, 9, 17, 3, 5
CONV_2D, FULLY_CONNECTED, RESHAPE, GATHER, DENSIFY, ADD = 3, 9, 22, 36, 124, 0


class Model:
    """A model that is put together tensor by tensor."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, b"made by hand"
        self.model.buffers, self.model.subgraphs, self.model.operatorCodes = [schema.BufferT()], [self.graph], []
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def buffer(self, data: bytes) -> int:
        """A buffer with these bytes, and its number."""
        made = schema.BufferT()
        made.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def tensor(self, name: str, kind: int, shape: list[int], buffer: int = 0, **quantization: Any) -> int:
        """A tensor, and its number."""
        made = schema.TensorT()
        made.name, made.type, made.shape, made.buffer = name.encode(), kind, shape, buffer
        if quantization:
            made.quantization = schema.QuantizationParametersT()
            for key, value in quantization.items():
                setattr(made.quantization, key, value)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, code: int, inputs: list[int], outputs: list[int]) -> None:
        """An operator of its own code."""
        kind, made = schema.OperatorCodeT(), schema.OperatorT()
        kind.builtinCode, kind.deprecatedBuiltinCode = code, min(code, 127)
        self.model.operatorCodes.append(kind)
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        self.graph.operators.append(made)

    def pack(self) -> bytes:
        """The file."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def quantized() -> Model:
    """Weights, biases and shapes as converters write them, and what is seldom."""
    made = Model()
    image = made.tensor("image", INT8, [1, 8, 8, 3], scale=[0.1], zeroPoint=[-3])
    kernel = made.tensor("conv/kernel", INT8, [4, 3, 3, 3], made.buffer(bytes(108)), scale=[0.1] * 4, zeroPoint=[0] * 4)
    bias = made.tensor("conv/bias", INT32, [4], made.buffer(bytes(16)), scale=[0.01] * 4, zeroPoint=[0] * 4)
    after = made.tensor("after", INT8, [1, 6, 6, 4], scale=[0.2], zeroPoint=[1])
    made.operator(CONV_2D, [image, kernel, bias], [after])
    shape = made.tensor("reshape/shape", INT32, [2], made.buffer(bytes(8)))
    flat = made.tensor("flat", INT8, [1, 144], scale=[0.2], zeroPoint=[1])
    made.operator(RESHAPE, [after, shape], [flat])
    blockwise = schema.BlockwiseQuantizationT()
    scales = made.tensor("dense/scales", FLOAT16, [5, 9], made.buffer(bytes(90)))
    blockwise.scales, blockwise.zeroPoints, blockwise.blockSize = scales, -1, 16
    dense = made.tensor("dense/kernel", INT4, [5, 144], made.buffer(bytes(360)), details=blockwise, detailsType=2)
    made.operator(FULLY_CONNECTED, [flat, dense, -1], [made.tensor("dense/out", INT8, [1, 5])])
    table = made.tensor("table", UINT8, [10, 6], made.buffer(bytes(60)), scale=[0.3], zeroPoint=[128])
    made.operator(GATHER, [table, made.tensor("ids", INT32, [2])], [made.tensor("rows", UINT8, [2, 6])])
    shared = made.buffer(bytes(12))
    made.operator(ADD, [made.tensor("a", FLOAT32, [3], shared), made.tensor("a", FLOAT32, [3, 1], shared)],
                  [made.tensor("sum", FLOAT32, [3, 3])])  # fmt: skip
    sparse = made.tensor("sparse", FLOAT32, [4, 4], made.buffer(bytes(20)))
    made.graph.tensors[sparse].sparsity = schema.SparsityParametersT()
    made.operator(DENSIFY, [sparse], [made.tensor("full", FLOAT32, [4, 4])])
    made.tensor("melspectrogram_1/filters", FLOAT32, [2, 3], made.buffer(bytes(24)))
    made.tensor("labels", TEXT, [1], made.buffer(b"\1\0\0\0\x0c\0\0\0\x0d\0\0\0x"))
    return made


def large() -> bytes:
    """A model whose one buffer lies behind its tables, as in files of more than 2 GB."""
    made = Model()
    outside = made.buffer(b"")
    made.tensor("w", FLOAT32, [2, 2], outside)
    made.model.buffers[outside].offset, made.model.buffers[outside].size = 2, 16
    made.model.buffers[outside].offset = len(made.pack())  # as long with any offset but 0 and 1
    return made.pack() + np.arange(4, dtype="<f4").tobytes()


if __name__ == "__main__":
    (HERE / "quantized.tflite").write_bytes(quantized().pack())
    (HERE / "large.tflite").write_bytes(large())
