"""How fast are the values of weights read, beside safetensors and NumPy?

`python benchmarks/values_speed.py [--runs N]`. Each of the two gets the same file of random weights, in a process of
its own and in turns, and works out the same of every tensor: SHA-256, range, mean, deviation, zeros, NaN, infinities,
outliers, rows and columns of zeros. Ours adds the effective rank of a sample. What is told is bytes of the file for
each CPU second of the reading, the median, and how much memory the process took beyond what it had before, which Linux
alone tells. NumPy's own threads are off.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FILE_BYTES, TENSOR_BYTES, COLUMNS = 256 * 2**20, 16 * 2**20, 2048
ENCODINGS = {"F32": ("float32", 4), "BF16": ("bfloat16", 2), "F16": ("float16", 2), "I8": ("int8", 1)}

OURS = """
from weighbridge.formats import number_codes, rank_sample, safetensors, value_statistics, values, zero_lines
from weighbridge.formats.byte_source import LocalFolder

def work(path):
    folder = LocalFolder(path.parent)
    values.read(safetensors.read(folder.open(path.name)), folder)
"""
PEER = """
import hashlib, ml_dtypes, numpy as np, safetensors

def work(path):
    with safetensors.safe_open(path, "np") as file:
        for name in file.keys():
            stored = file.get_tensor(name)
            hashlib.sha256(stored.data if stored.dtype.kind in "fi" else stored.view("u2").data).hexdigest()
            x = stored.astype(np.float32)
            mean, deviation, lives = x.mean(dtype="f8"), x.std(dtype="f8"), x != 0
            (x.min(), x.max(), np.count_nonzero(lives), np.isnan(x).sum(), np.isinf(x).sum(),
             (np.abs(x - np.float32(mean)) > 6 * deviation).sum(), lives.any(axis=1).sum(), lives.any(axis=0).sum())
"""
TIMED = """
import sys, time
from pathlib import Path

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before, start = peak(), time.process_time()
work(Path(sys.argv[1]))
print(time.process_time() - start, (peak() - before) / 1024)
"""


def write(path: Path, kind: str) -> None:
    """A file of random weights in one encoding."""
    import ml_dtypes
    import numpy as np

    name, width = ENCODINGS[kind]
    dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
    shape, count = (TENSOR_BYTES // width // COLUMNS, COLUMNS), FILE_BYTES // TENSOR_BYTES
    header = {f"layers.{n}.weight": {"dtype": kind, "shape": shape,
                                     "data_offsets": [n * TENSOR_BYTES, (n + 1) * TENSOR_BYTES]}
              for n in range(count)}  # fmt: skip
    text, draw = json.dumps(header).encode(), np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(count):
            weights = draw.standard_normal(shape, dtype=np.float32) * np.float32(20 if kind == "I8" else 0.02)
            file.write(weights.astype(dtype).tobytes())


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each, in turns, after one that is not")
    runs = parser.parse_args().runs
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("weighbridge", "safetensors", "numpy")
    )
    print(f"{versions}; {FILE_BYTES / 1e6:,.0f} MB in tensors of {TENSOR_BYTES / 1e6:,.1f} MB; median of {runs}")
    print(f"{'encoding':10}{'who':22}{'GB/CPU-s':>10}{'memory, MiB':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ENCODINGS:
            path = Path(folder) / "model.safetensors"
            write(path, kind)
            found: dict[str, list[tuple[float, float]]] = {"weighbridge": [], "safetensors and NumPy": []}
            for turn in range(runs + 1):
                for who, code in zip(found, (OURS, PEER), strict=True):
                    done = subprocess.run([sys.executable, "-c", code + TIMED, str(path)], env=environment, check=True,
                                          capture_output=True, text=True)  # fmt: skip
                    cpu_s, memory = map(float, done.stdout.split())
                    if turn:
                        found[who].append((cpu_s, memory))
            for who, rows in found.items():
                rate = path.stat().st_size / 1e9 / statistics.median(cpu_s for cpu_s, _ in rows)
                print(f"{kind:10}{who:22}{rate:10.2f}{statistics.median(memory for _, memory in rows):14.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
