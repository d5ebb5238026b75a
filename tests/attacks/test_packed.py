"""Packed checkpoints that lie: nothing is guessed, a note says why, and no input may cost anything."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats.test_packed import BITS, LLAMA, checkpoint, gptq, header, nf4, quantized

from weighbridge.formats import safetensors as reader
from weighbridge.formats.byte_source import MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.packed import packing, unpacked
from weighbridge.formats.packing.endings import ATTACHED, ROLES
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import inspect
from weighbridge.model.encodings import find
from weighbridge.model.tensors import TensorSpec

Table = dict[str, tuple[str, tuple[int, ...]]]
GPTQ: Table = {f"q.{ending}": entry for ending, entry in gptq(256, 256).items()}
AWQ: Table = {"q.qweight": ("I32", (256, 32)), "q.qzeros": ("I32", (4, 32)), "q.scales": ("F16", (4, 256))}
MLX: Table = {"q.weight": ("U32", (64, 16)), "q.scales": ("F16", (64, 2)), "q.biases": ("F16", (64, 2))}
NF4: Table = {f"q.{ending}": entry for ending, entry in nf4(256, 256).items()}
PACKED: Table = {
    "q.weight_packed": ("I32", (64, 16)),
    "q.weight_scale": ("BF16", (64, 4)),
    "q.weight_shape": ("I64", (2,)),
}
EXL2: Table = {"q.q_weight": ("I32", (32, 512)), "q.q_invperm": ("I32", (256,)), "q.q_scale": ("I32", (4, 64)),
        "q.q_scale_max": ("F16", (4,)), "q.q_groups": ("I16", (8,))}  # fmt: skip
EXL3: Table = {"q.trellis": ("I16", (16, 32, 48)), "q.suh": ("F16", (256,)), "q.svh": ("F16", (512,))}
HQQ: Table = {"q.W_q": ("U8", (192, 64)), "q.scale": ("F16", (384, 1)), "q.zero": ("F16", (384, 1))}
FP8: Table = {"q.weight": ("F8_E4M3", (576, 7168)), "q.weight_scale_inv": ("F32", (5, 56))}
BLOCKS: Table = {"e.gate_up_proj_blocks": ("U8", (4, 64, 3, 16)), "e.gate_up_proj_scales": ("U8", (4, 64, 3))}
NVFP4: Table = {
    "q.weight": ("U8", (768, 128)),
    "q.weight_scale": ("F8_E4M3", (768, 16)),
    "q.weight_scale_2": ("F32", ()),
}
VALID: list[Table] = [
    GPTQ, AWQ, MLX, NF4, PACKED, EXL2, EXL3, HQQ, FP8, BLOCKS, NVFP4]  # fmt: skip


def told(found: Checkpoint) -> str:
    """The one note; nothing was unpacked, and every element is counted as it is stored."""
    (note,) = found.notes
    assert packing(found) is None and found.packed_by == "" and note.isprintable() and len(note) < 1000
    assert all(tensor.stands_for is None and not tensor.role for tensor in found.tensors)
    return note


@pytest.mark.parametrize("bits", [0, -4, 3, 8, 10**30, 4.5, "4", True, [4], {"a": 4}])
def test_bits_that_the_shapes_contradict(bits: object) -> None:
    config = quantized(quant_method="gptq", bits=bits, group_size=64)
    assert "the configuration says bits" in told(unpacked(checkpoint(GPTQ, config)))
    assert told(unpacked(checkpoint(AWQ, config)))
    group = {"group_0": {"weights": {"num_bits": bits, "group_size": 32, "type": "int"}}}
    ours = quantized(quant_method="compressed-tensors", config_groups=group)
    assert bits == 4.0 or told(unpacked(checkpoint(PACKED, ours)))
    assert told(unpacked(checkpoint(MLX, {"quantization": {"bits": bits, "group_size": 64}})))


@pytest.mark.parametrize("group", [0, -2, 3, 128, 10**30, 64.0, "64", True, [64]])
def test_group_sizes_that_the_shapes_contradict(group: object) -> None:
    config = quantized(quant_method="gptq", bits=4, group_size=group)
    assert "group size" in told(unpacked(checkpoint(GPTQ, config)))
    assert told(unpacked(checkpoint(MLX, {"quantization": {"bits": 4, "group_size": group}})))
    weights = {"weights": {"num_bits": 4, "group_size": group}}
    assert told(
        unpacked(checkpoint(PACKED, quantized(quant_method="compressed-tensors", config_groups={"a": weights})))
    )


@pytest.mark.parametrize("block", [0, [], [128], [0, 0], [-128, 128], ["128", "128"], [64, 64], [True, True], {"a": 1}])
def test_blocks_that_are_none(block: object) -> None:
    told(unpacked(checkpoint(FP8, quantized(quant_method="fp8", weight_block_size=block))))


def _missing() -> list[tuple[dict[str, Any], str]]:
    optional = ("g_idx", "nested_absmax", "nested_quant_map", "bitsandbytes__nf4", "biases", "weight_shape",
                "weight_scale_2")  # fmt: skip
    return [(tensors, name) for tensors in VALID for name in tensors if not name.endswith(optional)]


@pytest.mark.parametrize(("tensors", "name"), _missing())
def test_missing_parts(tensors: dict[str, Any], name: str) -> None:
    """Whatever is missing, nothing stands for a weight."""
    config = quantized(quant_method="x") | {"quantization": {"bits": 4, "group_size": 64}}
    told(unpacked(checkpoint({other: entry for other, entry in tensors.items() if other != name}, config)))


@pytest.mark.parametrize("number", range(len(VALID)))
def test_scales_of_a_wrong_shape(number: int) -> None:
    tensors = VALID[number]
    config: dict[str, Any] = {}
    if tensors in (MLX, PACKED):
        config = {"quantization": {"bits": 4, "group_size": 64 if tensors == MLX else 32}}
    elif tensors == FP8:
        config = quantized(quant_method="fp8", weight_block_size=[128, 128])
    assert unpacked(checkpoint(tensors, config)).packed_by, "the file as it should be"
    scales = [
        name
        for name in tensors
        if ROLES.get(name.rpartition(".")[2]) == "scale" or name.endswith(("_scales", "absmax"))
    ]
    for name in scales:
        if name.endswith(("_2", "nested_absmax")):
            continue
        for shape in ((7, 11), (7,), (0,), (1, 2, 1, 1, 1), (0, 2**60)):
            told(unpacked(checkpoint(tensors | {name: (tensors[name][0], shape)}, config)))


def test_packed_and_plain_at_once() -> None:
    assert "stored twice" in told(unpacked(checkpoint(GPTQ | {"q.weight": ("F16", (256, 256))})))
    assert "stored twice" in told(unpacked(checkpoint(EXL3 | {"q.q_weight": ("I32", (1, 1))})))
    both = unpacked(checkpoint(NF4 | {"q.weight_scale": ("F32", ())}))
    assert both.packed_by == "bitsandbytes" and sum(t.stands_for is not None for t in both.tensors) == 1


def test_shapes_whose_product_overflows() -> None:
    """Empty tensors may name any length."""
    for tensors in (
        {"q.qweight": ("I32", (0, 2**62)), "q.qzeros": ("I32", (2**62, 0)), "q.scales": ("F16", (2**62, 0))},
        {"q.weight": ("U32", (2**60, 0)), "q.scales": ("F16", (2**60, 0))},
        {"q.weight": ("I8", (2**62, 0, 2**62)), "q.weight_scale": ("F32", ())},
        {"e.x_blocks": ("U8", (2**62, 0, 9, 16)), "e.x_scales": ("U8", (2**62, 0, 9))},
        {"q.trellis": ("I16", (2**60, 0, 48)), "q.suh": ("F16", (0,)), "q.svh": ("F16", (0,))},
    ):
        told(unpacked(checkpoint(tensors, {"quantization": {"bits": 4, "group_size": 64}})))


@pytest.mark.parametrize(
    "state",
    [b"", b"{", b"\xff" * 170, b"[" * 170, b"null", b"[]", b'{"shape": null, "blocksize": 64}',
     b'{"shape": [256, 256]}', b'{"shape": [256, 256], "blocksize": 0}', b'{"shape": [256, 256], "blocksize": -64}',
     b'{"shape": [256, 256], "blocksize": 1e400}', b'{"shape": [256, 256], "blocksize": 4096}',
     b'{"shape": [256, 257], "blocksize": 64}', b'{"shape": [-256, -256], "blocksize": 64}',
     b'{"shape": [65536.0], "blocksize": 64}', b'{"shape": [true, 65536], "blocksize": 64}',
     b'{"shape": ["256", 256], "blocksize": 64}', b'{"shape": [99999999999999999999, 1], "blocksize": 64}',
     b'{"shape": [1,1,1,1,1,1,1,1,1,65536], "blocksize": 64}'],
)  # fmt: skip
def test_states_of_bitsandbytes_that_say_nothing_true(state: bytes) -> None:
    name = "q.weight.quant_state.bitsandbytes__nf4"
    tensors = {other: entry for other, entry in NF4.items() if other != name} | {name: ("U8", (len(state),))}
    head, size = header(tensors)
    folder = MemoryFolder({"a": head[: size - len(state)].ljust(size - len(state), b"\0") + state})
    assert "quant_state" in told(unpacked(reader.read(folder.open("a")), folder))


def test_shapes_in_the_data_that_say_nothing_true() -> None:
    """`weight_shape` of a channel's scales, which alone tells the last few columns, and HQQ's `shape`."""
    channel = {
        "q.weight_packed": ("I32", (64, 16)),
        "q.weight_scale": ("BF16", (64, 1)),
        "q.weight_shape": ("I64", (2,)),
    }
    hqq = HQQ | {"q.shape": ("I64", (2,))}
    config = quantized(quant_method="compressed-tensors", config_groups={"a": {"weights": {"num_bits": 4}}})
    for tensors, right in ((channel, (64, 125)), (hqq, (192, 128))):
        for numbers in (right, (64, 129), (0, 0), (-64, -125), (2**62, 2**62), (125, 64)):
            head, size = header(tensors)
            tail = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
            folder = MemoryFolder({"a": head[: size - 16].ljust(size - 16, b"\0") + tail})
            found = reader.read(folder.open("a"))
            found = unpacked(Checkpoint("a", "safetensors", found.files, found.tensors, config=config), folder)
            assert (packing(found) is not None) == (numbers == right), numbers


@pytest.mark.parametrize(
    "said",
    [None, 7, "gptq", [], {}, {"quant_method": 7}, {"quant_method": "\x1b[2J" * 99}, {"config_groups": {"a": None}},
     {"config_groups": []}, {"quant_config": {"weight_quant_params": 3}}, {"dynamic": 3, "bits": 4},
     {"extra_config": [1], "bits": 4}, {"dynamic": {"a": {"bits": {}}}, "bits": {}},
     {"config_groups": {str(n): {"weights": {"num_bits": n}} for n in range(5000)}}],
)  # fmt: skip
def test_configurations_of_any_form(said: Any) -> None:
    for tensors in VALID:
        for config in (
            {"quantization_config": said},
            {"quantization": said},
            {"text_config": {"quantization_config": said}},
        ):
            found = unpacked(checkpoint(tensors, config))
            assert (
                all(note.isprintable() and len(note) < 1500 for note in found.notes) and found.packed_by.isprintable()
            )
    assert inspect({**LLAMA, "quantization_config": said}).parameters.total > 0


def test_a_mismatch_makes_the_file_differ_and_says_why() -> None:
    described = inspect(LLAMA).architecture
    assert described is not None
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in described.tensors():
        if tensor.name.endswith("_proj.weight"):
            stem = tensor.name.removesuffix("weight")
            tensors |= {stem + ending: entry for ending, entry in gptq(*tensor.shape).items()}
        else:
            tensors[tensor.name] = ("F16", tensor.shape)
    for bits in (8, "4"):
        found = inspect(checkpoint(tensors, LLAMA | quantized(quant_method="gptq", bits=bits, group_size=64)))
        assert found.reconciliation.status is Status.DIFFERS and found.packing is None
        assert any("14 packed tensors do not fit together" in note for note in found.notes)
    swapped = LLAMA | {"intermediate_size": 256} | quantized(quant_method="gptq", bits=4, group_size=64)
    result = inspect(checkpoint(tensors, swapped)).reconciliation
    assert result.status is Status.DIFFERS and {d.kind for d in result.differences} == {"shape"}


def test_fp8_that_lies_turned_is_another_model() -> None:
    """Only packers that change a shape may turn it."""
    described = inspect(LLAMA).architecture
    assert described is not None
    tensors = {t.name: ("F8_E4M3" if "_proj" in t.name else "F16", t.shape[::-1] if "_proj" in t.name else t.shape)
               for t in described.tensors()}  # fmt: skip
    tensors |= {f"{t.name}_scale": ("F32", ()) for t in described.tensors() if "_proj" in t.name}
    assert inspect(checkpoint(tensors, LLAMA)).reconciliation.status is Status.DIFFERS


def test_92_000_tensors_cost_little() -> None:
    """Plain ones nearly nothing, packed ones some microseconds each."""
    plain = [(f"model.layers.{n // 1500}.mlp.experts.{n}.up_proj.weight", "bf16") for n in range(92_000)]
    fp8 = [(f"model.experts.{n}.{ending}", dtype) for n in range(46_000)
           for ending, dtype in (("weight", "fp8"), ("weight_scale_inv", "fp32"))]  # fmt: skip
    hostile = [(f"{'a' * 20}{n}_scale", "fp32") for n in range(92_000)]
    for named, most in ((plain, 0.2), (fp8, 3.0), (hostile, 1.5)):
        tensors = tuple(TensorSpec(name, (1, 1), find(dtype), byte_range=(0, 4)) for name, dtype in named)
        found = Checkpoint("a", "safetensors", (), tensors)
        begin = time.process_time()
        unpacked(found)
        assert time.process_time() - begin < most


ENDINGS = sorted(
    {f".{ending}" for ending in ROLES} | set(ATTACHED) | {".weight", ".weight.absmax", ".weight.quant_map"}
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 16, 31, 32, 48, 64, 128, 256]), max_size=5).map(tuple)
SMALL = SHAPES.filter(lambda shape: _size(shape) < 10**6)
ENTRIES = st.tuples(st.sampled_from(sorted(BITS)), SMALL)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats()
    | st.sampled_from(["gptq", "4", "bitnet", "fp8", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["bits", "group_size", "num_bits", "weights", "config_groups", "quant_config", "weight_quant_params", "dynamic",
         "q", "extra_config", "quant_method", "weight_block_size", "quantization_config", "quantization"]),
        inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def _run(tensors: Mapping[str, tuple[str, tuple[int, ...]]], config: Any, tail: bytes = b"") -> None:
    head, size = header(tensors)
    folder = MemoryFolder({"a": (head.ljust(size, b"\0")[: size - len(tail)] + tail) if len(tail) < _free(tensors) else
                           head.ljust(size, b"\0")})  # fmt: skip
    read = reader.read(folder.open("a"))
    given_config = {"quantization_config": config} if config is not None else None
    before = Checkpoint("a", "safetensors", read.files, read.tensors, config=given_config)
    begin = time.process_time()
    found = unpacked(before, folder)
    sums = packing(found)
    assert time.process_time() - begin < 1
    assert [t.name for t in found.tensors] == [t.name for t in before.tensors]
    assert (sums is not None) == bool(found.packed_by)
    for tensor in found.tensors:
        if tensor.stands_for is not None:  # a weight has a bit at least, and no more than a word
            assert (
                tensor.elements > 0
                and tensor.size_bytes / 64 <= tensor.stands_for.elements <= 8 * tensor.size_bytes + 8
            )
    inspect(found).to_json()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(ENDINGS), ENTRIES, min_size=1, max_size=6), VALUES)
def test_any_tensors_and_any_configuration(parts: dict[str, Any], config: Any) -> None:
    _run({f"a.q{ending}": entry for ending, entry in parts.items()}, config)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(VALID), st.dictionaries(st.integers(0, 5), ENTRIES, max_size=2), VALUES, st.binary(max_size=64))
def test_valid_files_with_a_part_changed(
    tensors: dict[str, Any], changes: dict[int, Any], config: Any, tail: bytes
) -> None:
    names = list(tensors)
    changed = dict(tensors)
    for number, entry in changes.items():
        changed[names[number % len(names)]] = entry
    _run({name: entry for name, entry in changed.items() if _size(entry[1]) < 10**6}, config, tail)


def _free(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """Bytes of the tensors, which may be anything."""
    return sum(_size(shape) * BITS[dtype] // 8 for dtype, shape in tensors.values())


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def test_nothing_large_is_allocated() -> None:
    """A weight of 2**40 elements is a name and two numbers."""
    tensors = {"q.weight": ("U8", (2**30, 2**10)), "q.weight_scale": ("F8_E4M3", (2**30, 2**7))}
    found = checkpoint(tensors)
    tracemalloc.start()
    try:
        assert packing(unpacked(found)) is not None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
