"""Weights of HQQ, which forget their shape when they are packed.

A weight of N elements is laid out as [N/group, group] for axis 1 and as [group, N/group] for axis 0, and packed down
the first of these two: `W_q` uint8 with 8, 4, 2 or 1 bits, or int32 with ten of 3 bits, the last word padded. `scale`
and `zero` have one number for each group. `shape`, `nbits`, `group_size`, `axis` and other settings lie beside them as
small tensors; the shape is read from there where the file can be read, and otherwise only N is known. For axis 0 the
header alone leaves the bits open: then the shape or the configuration must tell.

Source: hqq 0.2.8 `core/quantize.py` (`Quantizer.quantize`, `HQQLinear.state_dict`), `core/bitpack.py`.
"""

from __future__ import annotations

import math

from weighbridge.formats.packing.module import Found, MismatchError, Module, Shape, matrix, only, require

BITS = {1: 8, 2: 4, 4: 2, 8: 1, 10: 3}
"""The bits of a weight, by how many lie in a byte, or in a word of 32 bits."""
MOST_DIMENSIONS = 4


def w_q(module: Module) -> Found | None:
    """The one layout of HQQ."""
    data, scale, zero = module.need("W_q", "scale", "zero")
    (_, rows, columns), (_, scale_rows, scale_columns) = matrix(data), matrix(scale)
    require(len(data.shape) == 2 and data.encoding.name in ("uint8", "int32"), data)
    require(scale.shape == zero.shape and 1 in (scale_rows, scale_columns), scale, zero)
    per_word = (10,) if data.encoding.name == "int32" else (1, 2, 4, 8)
    shape = _read(module)
    if scale_columns == 1 and scale_rows >= rows:
        each = next((each for each in per_word if -(-scale_rows // each) == rows), None)
        counts = {} if each is None else {scale_rows * columns: each}
        groups = scale_rows
    else:
        require(scale_columns == columns, data, scale)
        lengths = {length: each for each in per_word for length in range((rows - 1) * each + 1, rows * each + 1)
                   if each == 10 or length == rows * each}  # fmt: skip
        counts = {length * columns: each for length, each in lengths.items()}
        groups = columns
    fits = [count for count, each in counts.items() if shape is None or math.prod(shape) == count]
    if shape is None:
        schemes = module.declared.of(module.stem)
        fits = [count for count in fits if not schemes
                or any(scheme.bits == BITS[counts[count]] and scheme.group in (None, count // groups)
                       for scheme in schemes)]  # fmt: skip
    weights = only([(count,) for count in fits], "its bits do not follow from the shapes and the configuration")
    return Found("hqq", data, module.named(shape or weights))


def _read(module: Module) -> Shape | None:
    """What the tensor `shape` says; None where it cannot be read."""
    tensor = module.parts.get("shape")
    if tensor is None or tensor.encoding.name != "int64" or not 0 < tensor.elements <= MOST_DIMENSIONS:
        return None
    raw = module.peek(tensor)
    if raw is None:
        return None
    shape = tuple(int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8))
    if not all(0 < length < 2**48 for length in shape):
        raise MismatchError(f"its shape says {list(shape)}")
    return shape
