"""Laws fitted to planted runs, and to the runs of Chinchilla where they are at hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from weighbridge.errors import UnitError
from weighbridge.predict.scaling_laws import law_fit
from weighbridge.predict.scaling_laws.law_fit import Runs, fit_law
from weighbridge.predict.scaling_laws.laws import additive_law

POINTS = Path(__file__).resolve().parents[4] / "shared/data/perf/scaling_points_chinchilla.csv"
LAW = additive_law("chinchilla-corrected")


def planted(count: int, noise: float, seed: int = 0, ratio: tuple[float, float] = (5.0, 100.0)) -> Runs:
    draws = np.random.default_rng(seed)
    parameters = np.exp(draws.uniform(math.log(50e6), math.log(5e9), count))
    tokens = parameters * np.exp(draws.uniform(math.log(ratio[0]), math.log(ratio[1]), count))
    loss = LAW.floor + LAW.a / parameters**LAW.alpha + LAW.b / tokens**LAW.beta
    return Runs(loss * np.exp(noise * draws.standard_normal(count)), parameters, tokens, 6 * parameters * tokens)


def test_planted_constants_without_noise_come_back() -> None:
    found = fit_law(planted(30, 0.0), bootstrap=0)
    for name, value in (("E", LAW.floor), ("A", LAW.a), ("B", LAW.b), ("alpha", LAW.alpha), ("beta", LAW.beta)):
        assert found.constants[name].value == pytest.approx(value, rel=0.02), name
    assert found.constants["a"].value == pytest.approx(LAW.exponent, rel=0.01)
    assert found.loss(parameters=70e9, tokens=1.4e12) == pytest.approx(LAW.loss(70e9, 1.4e12), rel=1e-3)


def test_intervals_hold_what_was_planted_and_a_larger_run() -> None:
    held = {"alpha": 0, "beta": 0, "E": 0, "run": 0}
    worlds = 20
    for seed in range(worlds):
        found = fit_law(planted(60, 0.003, seed), bootstrap=100, seed=seed)
        for name, value in (("alpha", LAW.alpha), ("beta", LAW.beta), ("E", LAW.floor)):
            one = found.constants[name]
            assert one.low is not None and one.high is not None
            held[name] += one.low <= value <= one.high
        said = found.predict(parameters=50e9, tokens=1e12)
        assert said.low is not None and said.high is not None
        assert said.high / said.low < 1.2
        held["run"] += said.low <= LAW.loss(50e9, 1e12) <= said.high
    assert min(held.values()) >= 0.75 * worlds, held


def test_one_outlier_hardly_moves_it() -> None:
    runs = planted(60, 0.002)
    loss = runs.loss.copy()
    loss[7] *= 1.5
    clean = fit_law(runs, bootstrap=0)
    found = fit_law(Runs(loss, runs.parameters, runs.tokens, runs.flops), bootstrap=0)
    assert found.far == (7,)
    assert found.constants["alpha"].value == pytest.approx(clean.constants["alpha"].value or 0, rel=0.1)


def test_one_quantity_that_varies() -> None:
    parameters = np.geomspace(1e7, 1e10, 12)
    loss = 1.9 + 400 / parameters**0.34
    found = fit_law(Runs(loss, parameters, np.full(12, 1e11), 6e11 * parameters), bootstrap=50)
    assert found.variables == ("parameters",)
    assert found.constants["alpha"].value == pytest.approx(0.34, rel=1e-3)
    assert found.constants["E"].value == pytest.approx(1.9, rel=1e-3)
    assert any("tokens hardly vary" in note for note in found.notes)


def test_a_plain_power_is_a_straight_line_of_logarithms() -> None:
    tokens = np.geomspace(1e9, 1e12, 9)
    loss = (5.4e13 / tokens) ** 0.095
    found = fit_law(Runs(loss, None, tokens, None), floor=False, bootstrap=30)
    slope, intercept = np.polyfit(np.log(tokens), np.log(loss), 1)
    assert found.constants["beta"].value == pytest.approx(-slope, rel=1e-6)
    assert math.log(found.constants["B"].value or 0) == pytest.approx(intercept, rel=1e-6)
    assert "E" not in found.constants


def test_quantities_in_step_are_one() -> None:
    runs = planted(20, 0.001, ratio=(19.999, 20.001))
    found = fit_law(runs, bootstrap=50)
    assert found.variables == ("flops",)
    assert any("cannot be told apart" in note for note in found.notes)


def test_runs_that_settle_nothing_are_undecided() -> None:
    found = fit_law(planted(8, 0.02, seed=3), bootstrap=100)
    assert not found.is_decided and found.undecided
    assert found.predict(parameters=1e10, tokens=1e11).basis.value == "assumed"


def test_without_resamples_nothing_is_said_to_be_settled() -> None:
    found = fit_law(planted(8, 0.02, seed=3), bootstrap=0)
    assert found.is_decided is None and not found.undecided
    for one in (*found.constants.values(), found.predict(parameters=1e10, tokens=1e11)):
        assert one.basis.value == "assumed" and "no interval" in one.note
    with pytest.raises(UnitError, match="0, or 20 to"):
        fit_law(planted(20, 0.01), bootstrap=19)


def test_starts_are_solved_in_parts_of_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_law(planted(30, 0.005), bootstrap=0)
    monkeypatch.setattr(law_fit, "AT_ONCE", 1)
    assert fit_law(planted(30, 0.005), bootstrap=0).point == pytest.approx(whole.point, rel=1e-9)


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, two, other = (fit_law(planted(30, 0.005), bootstrap=40, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.samples, two.samples) and not np.array_equal(one.samples, other.samples)


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    fit_law(planted(20, 0.01), bootstrap=50, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (50, 50) and len(told) > 5


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(UnitError, match="6 runs"):
        fit_law(planted(6, 0.01))
    same = np.full(9, 1e9)
    with pytest.raises(UnitError, match="nor operations vary"):
        fit_law(Runs(np.linspace(2, 3, 9), same, same, same))
    with pytest.raises(UnitError, match="delta"):
        fit_law(planted(20, 0.01), delta=0)


@pytest.fixture(scope="module")
def chinchilla() -> Runs:
    """The 240 runs of the replication: those with the five largest losses are left out, D = C / (6 N)."""
    if not POINTS.is_file():
        pytest.skip("the digitised runs are not at hand")
    with POINTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    loss, parameters, flops = (np.array([float(row[name]) for row in rows])
                               for name in ("loss", "Model Size", "Training FLOP"))  # fmt: skip
    kept = loss < np.sort(loss)[-5]
    assert kept.sum() == 240
    return Runs(loss[kept], parameters[kept], (flops / 6 / parameters)[kept], flops[kept])


def test_the_published_refit_is_reproduced(chinchilla: Runs) -> None:
    """Besiroglu et al. 2024, Table 1: constants with their standard errors."""
    found = fit_law(chinchilla, bootstrap=400, seed=42)
    for name, value, error in (("E", 1.8172, 0.03), ("A", 482.01, 124.58), ("B", 2085.43, 1293.23),
                               ("alpha", 0.3478, 0.02), ("beta", 0.3658, 0.02), ("a", 0.5126, 0.02)):  # fmt: skip
        one = found.constants[name]
        assert one.value == pytest.approx(value, abs=0.2 * error), name
        assert one.low is not None and one.high is not None
        assert one.low < value < one.high
    spread = found.samples.std(axis=0)
    assert spread[3] == pytest.approx(0.02, abs=0.006) and spread[4] == pytest.approx(0.02, abs=0.004)
    assert found.is_decided and found.objective <= 0.00101864, "at most that of the published constants"


def test_no_other_solver_finds_less(chinchilla: Runs) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    found = fit_law(chinchilla, bootstrap=0)
    logs = np.log([chinchilla.quantity("parameters"), chinchilla.quantity("tokens")])
    wanted = np.log(chinchilla.loss)

    def objective(at: np.ndarray) -> float:
        a, b, e, alpha, beta = at
        size = np.abs(np.logaddexp(np.logaddexp(a - alpha * logs[0], b - beta * logs[1]), e) - wanted)
        return float(np.where(size <= 1e-3, size**2 / 2, 1e-3 * (size - 5e-4)).sum())

    assert objective(found.point) == pytest.approx(found.objective, rel=1e-9)
    other = optimize.minimize(objective, found.point, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000})
    assert found.objective <= other.fun * (1 + 1e-5)
