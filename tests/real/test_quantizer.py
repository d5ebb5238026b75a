"""Are the blocks that we write those of llama.cpp's own quantizer, for a real model?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks import shrink_peers

pytestmark = pytest.mark.real

PACKAGE = Path(__file__).resolve().parents[2] / "build" / "node-llama-cpp"
"""Where `benchmarks/shrink_peers.py` leaves llama.cpp, once it has fetched it from the npm registry."""


def test_blocks_are_those_of_llama_cpp_with_and_without_an_importance(tmp_path: Path) -> None:
    try:
        libraries = shrink_peers.libraries(PACKAGE)
    except OSError as error:
        pytest.skip(f"llama.cpp's quantizer is not there: {error}")
    root, half = os.environ.get("WEIGHBRIDGE_REAL_MODELS"), tmp_path / "half.gguf"
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    shrink_peers.finish("half", (Path(root) / shrink_peers.SOURCE).resolve(), half)
    found = shrink_peers.blocks(libraries, half, tmp_path, "q4_k_m")
    for counted in found.values():
        assert counted.keys() == {"fp32", "q5_0", "q6_k", "q8_0", "q4_k"}
        assert sum(count["tensors"] for count in counted.values()) == 272
        assert [count["differing"] for count in counted.values()] == [0] * len(counted)
