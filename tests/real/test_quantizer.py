"""Are the blocks that we write those of llama.cpp's own quantizer, for a real model?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks import shrink_peers

pytestmark = pytest.mark.real

PACKAGE = Path(__file__).resolve().parents[2] / "build" / "node-llama-cpp"
"""Where `benchmarks/shrink_peers.py` leaves llama.cpp; nothing is fetched here."""


def test_blocks_are_those_of_llama_cpp_with_and_without_an_importance(tmp_path: Path) -> None:
    if not (PACKAGE / "package").is_dir():
        pytest.skip("llama.cpp is not there (benchmarks/shrink_peers.py fetches it)")
    root, half = os.environ.get("WEIGHBRIDGE_REAL_MODELS"), tmp_path / "half.gguf"
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    shrink_peers.finish("half", (Path(root) / shrink_peers.SOURCE).resolve(), half)
    found = shrink_peers.blocks(shrink_peers.libraries(PACKAGE), half, tmp_path, "q4_k_m")
    for counted in found.values():
        assert counted.keys() == {"fp32", "q5_0", "q6_k", "q8_0", "q4_k"}
        assert sum(count["tensors"] for count in counted.values()) == 272
        assert [count["differing"] for count in counted.values()] == [0] * len(counted)
