"""Do simulated loads agree with closed loops that others measured? Run where the collected measurements lie beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.skipif(not (DATA / "perf").exists(), reason="the collected measurements are not here")
def test_closed_loops_of_others() -> None:
    """Whole answers within 20% and first tokens within 45% on average, the delays fitted without each row's pair."""
    pytest.importorskip("scipy")
    from benchmarks import fit_load, measurements
    from benchmarks.fit_speed import unseen

    first, tpot, tpot_measured, tokens = fit_load.samples(measurements.read_rows(DATA))
    ttft, ttft_measured, weights = unseen(first, fit_load.LOW, fit_load.HIGH), np.array(first.measured), first.weights
    assert len(ttft) > 2000

    def error(predicted: np.ndarray, measured: np.ndarray) -> float:
        return float(np.average(np.abs(predicted / measured - 1), weights=weights))

    assert error(ttft + tokens * tpot, ttft_measured + tokens * tpot_measured) <= 0.20
    assert error(ttft, ttft_measured) <= 0.45
