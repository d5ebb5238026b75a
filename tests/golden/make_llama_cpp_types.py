"""Which type does llama.cpp's own quantizer give to every tensor? Writes `llama_cpp_types.json`.

Small synthetic models are written as GGUF files, with the tensor names and the metadata of real ones; the
`llama_model_quantize` of a packaged llama.cpp library turns each into every file type; the types are read back from
the output files, by the library and by `gguf.GGUFReader`, which must agree. No rule of the quantizer is repeated here.

How to run (needs Linux on x86-64, and the Python packages `gguf` and `numpy`)::

    npm pack @node-llama-cpp/linux-x64@3.22.1
    tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    python make_llama_cpp_types.py package llama_cpp_types.json

It takes some minutes on two cores, and 1 GB of temporary disk. `--only PATTERN` makes the cases whose names match.
The weights are zeros, which are quick to quantize: the quantizer chooses types by name, shape and metadata.
`--random` takes normal ones, to check that the table stays the same.

Layout of the result: `types` maps a file type to a map from a tensor name, its layer number replaced by `{layer}`, to
one type, or to a run-length list of types by layer (`[["q6_k", 4], ["q4_k", 28]]`). `*` stands for the tensors that
are not listed. Tensors that stay fp32 in all file types of a case (norms, biases, routers) stand once, under `always`,
and are in no row of `types`. `refused` maps a file type that the quantizer would not make to its message. Shapes are
in reference order, the row last.
"""

from __future__ import annotations

import argparse
import ctypes
import fnmatch
import itertools
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

FILE_TYPES = {
    "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9,
    "q2_k": 10, "q2_k_s": 21, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15,
    "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18,
    "iq1_s": 24, "iq1_m": 31, "iq2_xxs": 19, "iq2_xs": 20, "iq2_s": 28, "iq2_m": 29,
    "iq3_xxs": 23, "iq3_xs": 22, "iq3_s": 26, "iq3_m": 27, "iq4_nl": 25, "iq4_xs": 30,
    "tq1_0": 36, "tq2_0": 37, "mxfp4_moe": 38, "nvfp4": 39, "q1_0": 40, "q2_0": 41,
}  # fmt: skip
"""The values of `enum llama_ftype` (llama.h) that a quantizer can be asked for."""

OTHER_NAMES = {"f32": "fp32", "f16": "fp16", "nvfp4": "nvfp4_gguf"}
"""The types that are called differently by ggml and by Weighbridge."""


@dataclass(frozen=True, slots=True)
class Model:
    """The sizes of a synthetic model; `name` is the name of its case."""

    name: str
    architecture: str
    num_layers: int
    hidden_size: int = 256
    num_heads: int = 8
    num_kv_heads: int = 2
    intermediate_size: int = 512
    vocab_size: int = 128
    num_experts: int = 0
    experts_per_token: int = 0
    tied: bool = False

    @property
    def hparams(self) -> dict[str, int | bool]:
        """The sizes without the two names."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "architecture")}


MODELS = (
    Model("llama_32_layers_mha", "llama", 32, num_kv_heads=8),
    Model("llama_32_layers_gqa2", "llama", 32, num_kv_heads=4),
    Model("llama_32_layers_gqa4", "llama", 32),
    Model("llama_80_layers_mha", "llama", 80, num_kv_heads=8),
    Model("llama_80_layers_gqa2", "llama", 80, num_kv_heads=4),
    Model("llama_80_layers_gqa8", "llama", 80, num_kv_heads=1),
    Model("llama_7_layers_gqa4", "llama", 7),
    Model("llama_16_layers_gqa4_tied", "llama", 16, tied=True),
    Model("llama_22_layers_gqa8", "llama", 22, num_kv_heads=1),
    Model("llama_33_layers_gqa4", "llama", 33),
    Model("llama_30_layers_width_576_tied", "llama", 30, 576, 9, 3, 1536, 512, tied=True),
    Model("llama_8_layers_width_576", "llama", 8, 576, 9, 3, 1536),
    Model("llama_8_layers_width_320", "llama", 8, 320, 10, 5, 864),
    Model("llama_8_layers_width_48", "llama", 8, 48, 3, 3, 96),
    Model("llama_8_layers_width_48_tied", "llama", 8, 48, 3, 3, 96, tied=True),
    Model("llama_8_layers_ff_528", "llama", 8, intermediate_size=528),
    Model("llama_8_layers_ff_1504", "llama", 8, intermediate_size=1504),
    Model("llama_32_layers_8_experts", "llama", 32, intermediate_size=256, num_experts=8, experts_per_token=2),
    Model("llama_32_layers_4_experts", "llama", 32, intermediate_size=256, num_experts=4, experts_per_token=2),
    Model("llama_16_layers_4_experts_mha", "llama", 16, 256, 8, 8, 256, num_experts=4, experts_per_token=2),
    Model("llama_16_layers_16_experts", "llama", 16, intermediate_size=256, num_experts=16, experts_per_token=2),
    Model("llama_16_layers_2_experts_mha", "llama", 16, 256, 8, 8, 256, num_experts=2, experts_per_token=1),
    Model("qwen2_28_layers_gqa4", "qwen2", 28),
    Model("qwen2_24_layers_width_448_tied", "qwen2", 24, 448, 14, 2, 768, tied=True),
    Model("qwen2_80_layers_gqa8", "qwen2", 80, num_kv_heads=1),
    Model("qwen2_80_layers_mha", "qwen2", 80, num_kv_heads=8),
    Model("gpt2_12_layers_tied", "gpt2", 12, num_kv_heads=8, intermediate_size=1024, tied=True),
    Model("gpt2_12_layers", "gpt2", 12, num_kv_heads=8, intermediate_size=1024),
    Model("falcon_32_layers", "falcon", 32, num_kv_heads=1, intermediate_size=1024),
    Model("bert_6_layers_width_384", "bert", 6, 384, 12, 12, 1536, tied=True),
    Model("bert_12_layers", "bert", 12, num_kv_heads=8, intermediate_size=1024, tied=True),
)

NEEDS_IMATRIX = ("q2_k_s", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs")
"""Made only with an importance matrix; asking without one is recorded as refused in one case."""

ALL_WITH_IMATRIX = (
    "llama_32_layers_mha", "llama_32_layers_gqa4", "llama_80_layers_gqa8", "llama_30_layers_width_576_tied",
    "llama_32_layers_8_experts", "gpt2_12_layers_tied", "bert_6_layers_width_384",
)  # fmt: skip
"""The models that get every file type with an importance matrix; the others get those of `NEEDS_IMATRIX`."""

Shapes = dict[str, tuple[int, ...]]
Row = dict[str, str | list[list[str | int]]]
Case = dict[str, Any]


def shapes(model: Model) -> Shapes:
    """The tensors of a model by name, with its shapes in reference order, as the converter of llama.cpp names them."""
    width, ff, experts = model.hidden_size, model.intermediate_size, model.num_experts
    kv = width // model.num_heads * model.num_kv_heads
    top: Shapes = {"token_embd.weight": (model.vocab_size, width)}
    layer: Shapes = {}
    if model.architecture in ("llama", "qwen2"):
        top["output_norm.weight"] = (width,)
        layer |= {"attn_norm.weight": (width,), "ffn_norm.weight": (width,)}
        layer |= {"attn_q.weight": (width, width), "attn_k.weight": (kv, width), "attn_v.weight": (kv, width)}
        layer["attn_output.weight"] = (width, width)
        if model.architecture == "qwen2":
            layer |= {"attn_q.bias": (width,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
        if experts:
            layer["ffn_gate_inp.weight"] = (experts, width)
            layer |= {f"ffn_{part}_exps.weight": (experts, ff, width) for part in ("gate", "up")}
            layer["ffn_down_exps.weight"] = (experts, width, ff)
        else:
            layer |= {"ffn_gate.weight": (ff, width), "ffn_up.weight": (ff, width), "ffn_down.weight": (width, ff)}
    elif model.architecture == "gpt2":
        top |= {"position_embd.weight": (64, width), "output_norm.weight": (width,), "output_norm.bias": (width,)}
        for norm in ("attn_norm", "ffn_norm"):
            layer |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        for name, out, into in (("attn_qkv", 3 * width, width), ("attn_output", width, width)):
            layer |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
        for name, out, into in (("ffn_up", ff, width), ("ffn_down", width, ff)):
            layer |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    elif model.architecture == "falcon":
        top |= {"output_norm.weight": (width,), "output_norm.bias": (width,)}
        layer |= {"attn_norm.weight": (width,), "attn_norm.bias": (width,)}
        layer |= {"attn_qkv.weight": (width + 2 * kv, width), "attn_output.weight": (width, width)}
        layer |= {"ffn_up.weight": (ff, width), "ffn_down.weight": (width, ff)}
    else:
        assert model.architecture == "bert", model.architecture
        top |= {"position_embd.weight": (64, width), "token_types.weight": (2, width)}
        top |= {"token_embd_norm.weight": (width,), "token_embd_norm.bias": (width,)}
        for norm in ("attn_output_norm", "layer_output_norm"):
            layer |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            layer |= {f"{name}.weight": (width, width), f"{name}.bias": (width,)}
        layer |= {"ffn_up.weight": (ff, width), "ffn_up.bias": (ff,)}
        layer |= {"ffn_down.weight": (width, ff), "ffn_down.bias": (width,)}
    if not model.tied:
        top["output.weight"] = (model.vocab_size, width)
    return top | {f"blk.{i}.{name}": shape for i in range(model.num_layers) for name, shape in layer.items()}


def write_model(model: Model, path: Path, scale: float) -> None:
    """Write the model, in fp32, with normal weights of this deviation: equal ones for equal shapes."""
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_block_count(model.num_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(model.hidden_size)
    writer.add_feed_forward_length(model.intermediate_size)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(model.num_kv_heads)
    writer.add_vocab_size(model.vocab_size)
    if model.architecture in ("llama", "qwen2"):
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(model.hidden_size // model.num_heads)
    else:
        writer.add_layer_norm_eps(1e-5)
    if model.architecture == "bert":
        writer.add_causal_attention(False)
    if model.num_experts:
        writer.add_expert_count(model.num_experts)
        writer.add_expert_used_count(model.experts_per_token)
    writer.add_tokenizer_model("no_vocab")
    random = np.random.default_rng(0)
    weights: dict[tuple[int, ...], np.ndarray] = {}
    for name, shape in shapes(model).items():
        if shape not in weights:
            weights[shape] = random.standard_normal(shape, np.float32) * np.float32(scale)
        writer.add_tensor(name, weights[shape])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _ImatrixEntry(ctypes.Structure):
    """`llama_model_imatrix_data` of llama.h; an array of them ends with a null name."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t))


class _QuantizeParams(ctypes.Structure):
    """`llama_model_quantize_params` of llama.h, llama.cpp 0.5.0."""

    _fields_ = (
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output_tensor", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool),
        ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.POINTER(_ImatrixEntry)),
        ("kv_overrides", ctypes.c_void_p),
        ("tensor_types", ctypes.c_void_p),
        ("prune_layers", ctypes.c_void_p),
    )


class _GgufInitParams(ctypes.Structure):
    """`gguf_init_params` of gguf.h."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Library:
    """llama.cpp's libraries, loaded from an unpacked package."""

    def __init__(self, package: Path) -> None:
        folder = next(package.glob("bins/*/libllama.*so")).parent.resolve()
        self.base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(next(folder.glob("libggml.*so"))), mode=ctypes.RTLD_GLOBAL)
        self.llama = ctypes.CDLL(str(next(folder.glob("libllama.*so"))), mode=ctypes.RTLD_GLOBAL)
        for function in (self.base.ggml_version, self.base.ggml_commit, self.llama.llama_version):
            function.restype = ctypes.c_char_p
        self.base.ggml_type_name.restype = ctypes.c_char_p
        self.base.gguf_init_from_file.restype = ctypes.c_void_p
        self.base.gguf_init_from_file.argtypes = (ctypes.c_char_p, _GgufInitParams)
        self.base.gguf_get_n_tensors.restype = ctypes.c_int64
        self.base.gguf_get_n_tensors.argtypes = (ctypes.c_void_p,)
        self.base.gguf_get_tensor_name.restype = ctypes.c_char_p
        self.base.gguf_get_tensor_name.argtypes = (ctypes.c_void_p, ctypes.c_int64)
        self.base.gguf_get_tensor_type.argtypes = (ctypes.c_void_p, ctypes.c_int64)
        self.base.gguf_free.argtypes = (ctypes.c_void_p,)
        self.llama.llama_model_quantize_default_params.restype = _QuantizeParams
        self.llama.llama_model_quantize.restype = ctypes.c_uint32
        self._lines: list[str] = []
        self._callback = _LogCallback(lambda _level, text, _data: self._lines.append(text.decode("utf-8", "replace")))
        self.llama.llama_log_set(self._callback, None)
        ggml.ggml_backend_load.restype = ctypes.c_void_p
        if not ggml.ggml_backend_load(str(folder / "libggml-cpu-x64.so").encode()):
            raise OSError(f"no processor backend could be loaded from {folder}")
        defaults = self.llama.llama_model_quantize_default_params()
        found = [getattr(defaults, field[0]) for field in _QuantizeParams._fields_[:10]]
        count = found[2]  # GGML_TYPE_COUNT, the number of types, stands for no choice
        expected = [0, FILE_TYPES["q8_0"], count, count, False, True, False, False, False, False]
        assert found == expected, f"llama_model_quantize_params has another layout in this library: {found}"

    @property
    def versions(self) -> str:
        """What the libraries say of themselves."""
        llama, ggml, commit = self.llama.llama_version(), self.base.ggml_version(), self.base.ggml_commit()
        return f"llama.cpp {llama.decode()} (ggml {ggml.decode()}, commit {commit.decode()})"

    def quantize(self, source: Path, target: Path, file_type: str, importances: Shapes | None) -> str | None:
        """Make `target`; the result is the library's complaint if it would not.

        `importances` are the tensors that get a flat importance matrix.
        """
        params = self.llama.llama_model_quantize_default_params()
        params.nthread = 2
        params.ftype = FILE_TYPES[file_type]
        if importances is not None:
            entries = (_ImatrixEntry * (len(importances) + 1))()
            for entry, (name, shape) in zip(entries, importances.items(), strict=False):
                size = shape[-1] * (shape[0] if len(shape) == 3 else 1)
                entry.name, entry.data, entry.size = name.encode(), (ctypes.c_float * size)(*[1.0] * size), size
            params.imatrix = entries
        self._lines.clear()
        status = self.llama.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
        if status == 0:
            return None
        complaint = re.search(r"failed to quantize: (.*)", "".join(self._lines))
        return complaint[1].strip() if complaint else f"status {status}"

    def tensor_types(self, path: Path) -> dict[str, str]:
        """The type of every tensor of a file, as the library reads it and, where it can, the gguf package."""
        context = self.base.gguf_init_from_file(str(path).encode(), _GgufInitParams(True, None))
        assert context, f"{path} could not be read"
        numbers = {
            self.base.gguf_get_tensor_name(context, i).decode(): self.base.gguf_get_tensor_type(context, i)
            for i in range(self.base.gguf_get_n_tensors(context))
        }
        self.base.gguf_free(context)
        if set(numbers.values()) <= {int(known) for known in gguf.GGMLQuantizationType}:
            again = {tensor.name: int(tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors}
            assert again == numbers, f"{path} is read in two ways"
        names = {number: self.base.ggml_type_name(number).decode().lower() for number in set(numbers.values())}
        return {tensor: OTHER_NAMES.get(names[number], names[number]) for tensor, number in numbers.items()}


def by_template(types: Mapping[str, str]) -> Row:
    """Types by name template: one type, or run lengths by layer."""
    columns: dict[str, dict[int, str]] = {}
    result: Row = {}
    for name, type_name in types.items():
        layer = re.match(r"blk\.(\d+)\.", name)
        if layer is None:
            result[name] = type_name
        else:
            columns.setdefault(f"blk.{{layer}}.{name[layer.end() :]}", {})[int(layer[1])] = type_name
    for template, column in columns.items():
        assert sorted(column) == list(range(len(column))), template
        runs = [(kind, len(list(run))) for kind, run in itertools.groupby(column[i] for i in range(len(column)))]
        result[template] = runs[0][0] if len(runs) == 1 else [[kind, count] for kind, count in runs]
    return dict(sorted(result.items()))


def without(always: Mapping[str, object], row: Row) -> Row:
    """The row without what is always so, and with its commonest type under `*`."""
    rest = {name: kind for name, kind in row.items() if name not in always}
    commonest = statistics.mode(kind for kind in rest.values() if isinstance(kind, str))
    return {"*": commonest} | {name: kind for name, kind in rest.items() if kind != commonest}


def make_case(library: Library, model: Model, imatrix: bool, file_types: tuple[str, ...], source: Path) -> Case:
    """Quantize the model to every one of the file types, and say what came out."""
    tensors = shapes(model)
    target = source.with_name("quantized.gguf")
    types: dict[str, Row] = {}
    refused: dict[str, str] = {}
    for file_type in file_types:
        complaint = library.quantize(source, target, file_type, tensors if imatrix else None)
        if complaint is not None:
            refused[file_type] = complaint
            continue
        found = library.tensor_types(target)
        assert found.keys() == tensors.keys()
        types[file_type] = by_template(found)
    first = next(iter(types.values()), {})
    always = {
        name: kind for name, kind in first.items() if kind == "fp32" and all(t[name] == kind for t in types.values())
    }
    return {
        "name": model.name + ("_imatrix" if imatrix else ""),
        "architecture": model.architecture,
        "hparams": model.hparams,
        "imatrix": imatrix,
        "shapes": {re.sub(r"^blk\.0\.", "blk.{layer}.", n): s for n, s in tensors.items() if not _later_layer(n)},
        "always": always,
        "types": {key: without(always, row) for key, row in types.items()},
        "refused": refused,
    }


def _later_layer(name: str) -> bool:
    return name.startswith("blk.") and not name.startswith("blk.0.")


def plan(only: str) -> Iterator[tuple[Model, bool, tuple[str, ...]]]:
    """Each model without and with an importance matrix, and the file types to make."""
    for model in MODELS:
        if not fnmatch.fnmatch(model.name, only):
            continue
        first = model is MODELS[0]
        yield model, False, tuple(name for name in FILE_TYPES if first or name not in NEEDS_IMATRIX)
        yield model, True, tuple(FILE_TYPES) if model.name in ALL_WITH_IMATRIX else NEEDS_IMATRIX


def as_text(source: str, all_cases: list[Case]) -> str:
    """JSON with one line for each file type of each case."""

    def line(value: object) -> str:
        return json.dumps(value, separators=(",", ":"))

    cases = []
    for case in all_cases:
        types = ",\n".join(f"    {line(key)}:{line(value)}" for key, value in case["types"].items())
        fields = [f"   {line(key)}:{line(value)}" for key, value in case.items() if key != "types"]
        cases.append("  {\n" + ",\n".join([*fields, f'   "types":{{\n{types}\n   }}']) + "\n  }")
    return f'{{\n "source":{line(source)},\n "cases":[\n' + ",\n".join(cases) + "\n ]\n}\n"


def main() -> None:
    """Read the two paths, make all cases, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("package", type=Path, help="the unpacked npm package, the folder with package.json")
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("--random", action="store_true", help="take random weights in place of zeros")
    parser.add_argument("--only", default="*", help="make only the models of this name pattern")
    arguments = parser.parse_args()
    library = Library(arguments.package)
    about = json.loads((arguments.package / "package.json").read_text())
    source = f"npm {about['name']} {about['version']} ({about['license']}), {library.versions}, llama_model_quantize"
    cases = []
    for model, group in itertools.groupby(plan(arguments.only), key=lambda item: item[0]):
        with tempfile.TemporaryDirectory() as folder:
            unquantized = Path(folder) / "model.gguf"
            write_model(model, unquantized, 0.02 if arguments.random else 0.0)
            for _, imatrix, file_types in group:
                cases.append(make_case(library, model, imatrix, file_types, unquantized))
                made, refused = len(cases[-1]["types"]), len(cases[-1]["refused"])
                print(f"{cases[-1]['name']}: {made} made, {refused} refused", file=sys.stderr)
    arguments.output.write_text(as_text(source, cases))


if __name__ == "__main__":
    main()
