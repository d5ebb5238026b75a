"""How much memory does a checkpoint of 40 GB take while it is encoded, block after block?

`python benchmarks/shrink_size.py [--gigabytes N] [--method NAME] [--memory BYTES] [--jobs N]`. The checkpoint is made
up as it is read (`tests/compress/synthetic.py`), and what would be written goes into a checksum, so that neither takes
room on a disk; in between is what `weigh shrink` does. Exit code 1 when the peak grows past the memory that was asked.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.compress.synthetic import SyntheticModel

from weighbridge.compress import codecs, gguf_file
from weighbridge.measuring.process import peak_resident_bytes


def main() -> int:
    """Everything in turn; the exit code."""
    parser = argparse.ArgumentParser(description="Encode a checkpoint that lies nowhere, and watch the memory.")
    parser.add_argument("--gigabytes", type=float, default=40.0, help="of bf16, 10^9 bytes each")
    parser.add_argument("--method", default="q4_0", help="the encoding of every matrix")
    parser.add_argument("--memory", type=int, default=gguf_file.MEMORY_BYTES, help="bytes that the blocks may take")
    parser.add_argument("--jobs", type=int, default=1, help="blocks that are encoded at once")
    asked = parser.parse_args()
    model = SyntheticModel(int(asked.gigabytes * 1e9), columns=8192, tensors=80, vectors=80)
    encodings = model.encodings(asked.method)
    codecs.encode(model.rows(model.tensors[0], 0, 1), encodings[model.tensors[0].name])
    before, begun = peak_resident_bytes() or 0, (time.perf_counter(), time.process_time())
    whole, written, lost, squares = hashlib.sha256(), 0, 0.0, 0.0
    for tensor in model.tensors:
        for data, error, sums in gguf_file.encoded(
            model, tensor, encodings[tensor.name], memory_bytes=asked.memory, jobs=asked.jobs
        ):
            whole.update(data)
            written += len(data)
            lost, squares = lost + error, squares + sums
    grown = (peak_resident_bytes() or 0) - before
    print(f"{model.size_bytes:,} bytes of bf16 into {written:,} of {asked.method}, {asked.jobs} at once: peak memory "
          f"{before:,} bytes before and {grown:,} more, {time.perf_counter() - begun[0]:.0f} s, CPU "
          f"{time.process_time() - begun[1]:.0f} s, relative error {(lost / squares) ** 0.5:.4f}, "
          f"SHA-256 {whole.hexdigest()[:16]}")  # fmt: skip
    return 1 if grown > asked.memory else 0


if __name__ == "__main__":
    sys.exit(main())
