"""Sums the squares of what comes into each weight of a GGUF file while llama.cpp reads texts.

A process of its own: `python -m weighbridge.compress.activations_process`, which follows the orders of
`llama_cpp_process`, `collect` (tokens to read) and `sums` (what was collected).

llama.cpp calls a function of ours before and after each operation of its graph (`cb_eval`). Three structures are read
that change between releases: the layouts here are those of `include/llama.h` and `ggml/include/ggml.h` as of xllamacpp
2026.10.11549. They are checked before anything is collected, the first by its defaults and the others on operations
that ggml makes for us.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.prove.engines import llama_cpp_process
from weighbridge.prove.engines.llama_cpp_process import LlamaError, Reader, declare

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float
_INTS = ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq", "n_threads",
         "n_threads_batch", "ctx_type", "rope_scaling_type", "pooling_type", "attention_type",
         "flash_attn_type")  # fmt: skip
_FLOATS = ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast",
           "yarn_beta_slow")  # fmt: skip
DEFAULTS = {
    "n_seq_max": 1, "n_threads": 4, "n_threads_batch": 4, "ctx_type": 0, "rope_scaling_type": -1, "pooling_type": -1,
    "attention_type": -1, "flash_attn_type": -1, "rope_freq_base": 0.0, "rope_freq_scale": 0.0, "yarn_ext_factor": -1.0,
    "yarn_attn_factor": -1.0, "yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0, "yarn_orig_ctx": 0, "defrag_thold": -1.0,
    "cb_eval": None, "cb_eval_user_data": None, "type_k": 1, "type_v": 1,
}  # fmt: skip
"""What `llama_context_default_params` gives, from `src/llama-context.cpp`: NULL, NULL and twice fp16 at the end."""
FP32, INT32 = 0, 26
"""Numbers of ggml's types."""


class _Context(ctypes.Structure):
    _fields_ = (*((name, _INT) for name in _INTS), *((name, _FLOAT) for name in _FLOATS), ("yarn_orig_ctx", _INT),
                ("defrag_thold", _FLOAT), ("cb_eval", _POINTER), ("cb_eval_user_data", _POINTER), ("type_k", _INT),
                ("type_v", _INT))  # fmt: skip


class _Tensor(ctypes.Structure):
    pass


_Tensor._fields_ = (
    ("type", _INT), ("buffer", _POINTER), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4), ("op", _INT),
    ("op_params", _INT * 16), ("flags", _INT), ("src", ctypes.POINTER(_Tensor) * 10), ("view_src", _POINTER),
    ("view_offs", ctypes.c_size_t), ("data", _POINTER), ("name", ctypes.c_char * 64), ("extra", _POINTER),
)  # fmt: skip
_TENSOR = ctypes.POINTER(_Tensor)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_bool, _TENSOR, ctypes.c_bool, _POINTER)


class _Memory(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", _POINTER), ("no_alloc", ctypes.c_bool))


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_init": (_POINTER, (_Memory,)), "ggml_free": (None, (_POINTER,)),
    "ggml_new_tensor_3d": (_TENSOR, (_POINTER, ctypes.c_int, *(ctypes.c_int64,) * 3)),
    "ggml_mul_mat": (_TENSOR, (_POINTER, _TENSOR, _TENSOR)),
    "ggml_mul_mat_id": (_TENSOR, (_POINTER, _TENSOR, _TENSOR, _TENSOR)),
    "ggml_set_name": (_TENSOR, (_TENSOR, ctypes.c_char_p)), "ggml_get_name": (_POINTER, (_TENSOR,)),
    "ggml_op_name": (ctypes.c_char_p, (ctypes.c_int,)), "ggml_nbytes": (ctypes.c_size_t, (_TENSOR,)),
    "ggml_backend_tensor_get": (None, (_TENSOR, _POINTER, ctypes.c_size_t, ctypes.c_size_t)),
}  # fmt: skip


def weight_of(name: bytes) -> str:
    """The weight that a tensor of the graph is, without what the scheduler puts around the name of a copy.

    Example:
        >>> weight_of(b"blk.0.attn_k.weight"), weight_of(b"CUDA0#blk.0.attn_k.weight#0")
        ('blk.0.attn_k.weight', 'blk.0.attn_k.weight')
    """
    text = name.decode(errors="replace")
    return text.split("#")[1] if "#" in text else text


def squares(values: NDArray[np.float32], matrices: int) -> NDArray[np.float64]:
    """Sums of squares of each column, a row for each matrix of a weight.

    Args:
        values: (batches, rows, columns); of as many batches each in turn goes to the same matrix.
        matrices: of the weight, of which the batches are a multiple.

    Example:
        >>> squares(np.array([[[1, 2]], [[3, 4]]], np.float32), 1).tolist()
        [[10.0, 20.0]]
        >>> squares(np.array([[[1, 2]], [[3, 4]]], np.float32), 2).tolist()
        [[1.0, 4.0], [9.0, 16.0]]
    """
    together = values.reshape(matrices, -1, values.shape[-1])
    return np.asarray(np.square(together, dtype=np.float64).sum(axis=1))


def routed(
    values: NDArray[np.float32], experts: NDArray[np.int32], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums of squares of each column, (count, columns), of the rows that went to each expert, and how many did.

    Args:
        values: (tokens, rows of a token, columns); one row, which goes to all experts of a token, or one for each.
        experts: (tokens, experts of a token), from 0.
        count: experts that there are.

    Example:
        >>> both = routed(np.array([[[1, 2]], [[3, 4]]], np.float32), np.array([[0, 2], [2, 1]], np.int32), 4)
        >>> [one.tolist() for one in both]
        [[[1.0, 4.0], [9.0, 16.0], [10.0, 20.0], [0.0, 0.0]], [1, 1, 2, 0]]
    """
    sums = np.zeros((count, values.shape[-1]))
    for place in range(experts.shape[1]):
        each = np.square(values[:, place % values.shape[1]], dtype=np.float64)
        for expert in np.unique(experts[:, place]):
            sums[expert] += each[experts[:, place] == expert].sum(axis=0)
    return sums, np.bincount(experts.reshape(-1), minlength=count)


class Collector(Reader):
    """A model whose weights' inputs are watched while it reads."""

    def __init__(self, library: ctypes.CDLL, path: str, threads: int) -> None:
        declare(library, FUNCTIONS)
        super().__init__(library, path, threads)
        check_context(self.llama.llama_context_default_params())
        self.plain, self.with_experts = operations(self.llama)
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.is_collecting = False
        self.fault = ""
        self.callback = _CALLBACK(self._called)

    def parameters(self, places: int) -> llama_cpp_process._ContextParameters:
        """As `Reader.parameters`, with the function that is called."""
        found = super().parameters(places)
        _Context.from_buffer(found).cb_eval = ctypes.cast(self.callback, _POINTER).value
        return found

    def answer(self, order: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """As `Reader.answer`, for two orders more."""
        if "collect" in order:
            self.collect(order["collect"])
            return {}, np.zeros((0, 0), dtype=np.float32)
        if "sums" in order:
            counts = {name: each.tolist() for name, each in self.counts.items()}
            found = self.sums[order["sums"]] if order["sums"] else np.zeros((0, 0))
            return {"counts": counts if not order["sums"] else {}}, found.astype(np.float32)
        return super().answer(order)

    def collect(self, tokens: list[int]) -> None:
        """Reads tokens from the first place on, and adds what comes into each weight."""
        self.is_collecting = True
        self.decode(tokens, 0, 0)  # all places: the last layers work only where something comes out
        self.is_collecting = False
        if self.fault:
            raise LlamaError(self.fault)

    def _called(self, tensor: Any, asks: bool, data: Any) -> bool:
        """Before an operation: whether it is wanted. After it: takes what came in; False would end the work."""
        if not self.is_collecting:
            return not asks
        try:
            return self._is_wanted(tensor.contents) if asks else self._take(tensor.contents)
        except Exception as error:  # none can pass through llama.cpp
            self.fault = str(error) or type(error).__name__
            return False

    def _is_wanted(self, made: Any) -> bool:
        if made.op not in (self.plain, self.with_experts) or self.fault:
            return False
        return weight_of(made.src[0].contents.name).endswith(".weight") and made.src[1].contents.type == FP32

    def _take(self, made: Any) -> bool:
        weight = made.src[0].contents
        name = weight_of(weight.name)
        matrices = weight.ne[2] * weight.ne[3]
        values = self._values(made.src[1], np.float32)
        if made.op == self.with_experts:
            sums, counts = routed(values[0], self._values(made.src[2], np.int32)[0, 0], matrices)
        else:
            sums = squares(values.reshape(-1, *values.shape[2:]), matrices)
            counts = np.full(matrices, values.size // values.shape[-1] // matrices)
        self.sums[name] = sums if name not in self.sums else self.sums[name] + sums
        self.counts[name] = counts if name not in self.counts else self.counts[name] + counts
        if not (self.sums[name] <= np.finfo(np.float32).max).all():
            raise LlamaError(f"what comes into {name} is no finite number, or too large for one")
        return True

    def _values(self, tensor: Any, kind: type[Any]) -> NDArray[Any]:
        """The numbers of a tensor, in the reverse order of ggml's dimensions, wherever they lie."""
        size = self.llama.ggml_nbytes(tensor)
        room = np.empty(size, dtype=np.uint8)
        self.llama.ggml_backend_tensor_get(tensor, room.ctypes.data, 0, size)
        held = tensor.contents
        return np.ndarray(tuple(held.ne)[::-1], kind, room.data, strides=tuple(held.nb)[::-1])


def check_context(parameters: Any) -> None:
    """Refuses a release whose parameters of a context have another layout.

    Raises:
        LlamaError: when a default is not what it is known to be.
    """
    found = _Context.from_buffer(parameters)
    if wrong := [name for name, value in DEFAULTS.items() if getattr(found, name) != value]:
        raise LlamaError(f"llama_context_params of this xllamacpp has another layout ({', '.join(wrong)})")


def operations(llama: Any) -> tuple[int, int]:
    """The numbers of the operations that multiply with a weight, with and without experts; from tensors made for it.

    Raises:
        LlamaError: when `ggml_tensor` of this release has another layout.
    """
    memory = llama.ggml_init(_Memory(1 << 16, None, True))
    weight, rows = (llama.ggml_new_tensor_3d(memory, FP32, 8, *sizes) for sizes in ((3, 5), (2, 7)))
    chosen = llama.ggml_new_tensor_3d(memory, INT32, 2, 7, 1)
    first = llama.ggml_new_tensor_3d(memory, FP32, 8, 3, 1)
    llama.ggml_set_name(weight, b"a.weight")
    plain = llama.ggml_mul_mat(memory, first, rows)
    experts = llama.ggml_mul_mat_id(memory, weight, rows, chosen)

    def address(tensor: Any) -> int:
        return ctypes.addressof(tensor.contents)

    held = weight.contents
    is_known = (
        held.type == FP32 and chosen.contents.type == INT32
        and tuple(held.ne) == (8, 3, 5, 1) and tuple(held.nb) == (4, 32, 96, 480) and held.name == b"a.weight"
        and llama.ggml_get_name(weight) == address(weight) + _Tensor.name.offset
        and not held.data and not held.view_src and not held.buffer
        and [address(one) for one in plain.contents.src[:2]] == [address(first), address(rows)]
        and [address(one) for one in experts.contents.src[:3]] == [address(weight), address(rows), address(chosen)]
        and llama.ggml_op_name(plain.contents.op) == b"MUL_MAT"
        and llama.ggml_op_name(experts.contents.op) == b"MUL_MAT_ID"
    )  # fmt: skip
    numbers = plain.contents.op, experts.contents.op
    llama.ggml_free(memory)
    if not is_known:
        raise LlamaError("ggml_tensor of this xllamacpp has another layout")
    return numbers


if __name__ == "__main__":
    llama_cpp_process.main(Collector)
