"""Which law do the user's own runs follow, and how sure is that?

L = E + A / N^alpha + B / D^beta is fitted to the logarithm of the loss with the loss of Huber, delta 1e-3, as in
Hoffmann et al. 2022; where only one quantity varies, or both in step, L = E + A / x^alpha of that one. The sum of
Huber's losses is made least by steps of Levenberg and Marquardt with weights min(1, delta / |residual|) (iteratively
reweighted least squares; Holland and Welsch 1977), from a grid of exponents at which E, A and B follow by least
squares, delta lowered in turns. All starts and all resamples are solved together.

Intervals are 90%, of resampled runs (Efron 1979): runs are drawn with replacement, as in Besiroglu et al. 2024. A
prediction adds a residual of the fit, drawn too. With few runs resampling is too sure of itself; residuals and spreads
are widened by sqrt(n / (n - p)) for p constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

DELTA = 1e-3
LEAST_RUNS, LEAST_RUNS_OF_TWO = 5, 7
MOST_RUNS = 100_000
LEAST_BOOTSTRAP, MOST_BOOTSTRAP = 20, 100_000
"""Resamples, where there are any: with fewer no interval of 90% has an end."""
STEP = 0.997
"""From which correlation of the logarithms on two quantities count as one."""
LEAST_SPREAD = 1.5
"""A quantity varies when the largest is so many times the smallest."""
EXPONENTS = (0.08, 0.15, 0.3, 0.5, 0.8, 1.3)
FLOORS = (0.0, 0.5, 0.9)
ROUNDS = (1e-1, 1e-2)
"""Values of delta that lead down to the wanted one."""
STEPS = 60
AT_ONCE = 2_000_000
"""Residuals that are worked on together."""
NO_INTERVAL = "no resamples: no interval is known"
NAMES = {"parameters": ("A", "alpha"), "tokens": ("B", "beta"), "flops": ("A", "alpha")}


@dataclass(frozen=True, slots=True)
class Runs:
    """Finished runs; of `parameters`, `tokens` and `flops` those that are known."""

    loss: Array
    parameters: Array | None = None
    tokens: Array | None = None
    flops: Array | None = None

    def quantity(self, name: str) -> Array:
        """A quantity that is known."""
        found: Array | None = getattr(self, name)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class LawFit:
    """A law of the user's own.

    `variables` are the quantities that it rests on, `has_floor` says whether it has E. `constants` are estimates by
    their names; of one that the runs do not settle `undecided` has the reason. `samples` are the constants of each
    resample: logarithms of A, B and E, then the exponents. `residuals` are those of the logarithm of the loss,
    and `far` the places of runs that lie far from the law.
    """

    variables: tuple[str, ...]
    has_floor: bool
    constants: dict[str, Estimate]
    undecided: dict[str, str]
    objective: float
    point: Array
    samples: Array
    residuals: Array
    seed: int
    delta: float
    notes: tuple[str, ...]
    far: tuple[int, ...]

    @property
    def is_decided(self) -> bool | None:
        """Whether the runs settle the exponents; None without resamples, which alone can tell."""
        if not len(self.samples):
            return None
        return not any(name in ("alpha", "beta") for name in self.undecided)

    def loss(self, **at: float) -> float:
        """The loss at quantities named as in `variables`."""
        return float(np.exp(_log_loss(self.point[None], self._x(at), self.has_floor))[0, 0])

    def _x(self, at: dict[str, float]) -> Array:
        return np.log([[float(at[name])] for name in self.variables])

    def predict(self, **at: float) -> Estimate:
        """The loss of one more run, with the interval in which it comes out.

        Args:
            at: the quantities that the law rests on, by name; further ones are not used.
        """
        value = self.loss(**at)
        if not len(self.samples):
            return Estimate(value, value, value, "nats/token", Basis.ASSUMED, NO_INTERVAL)
        count, free = len(self.residuals), len(self.point)
        widen = np.sqrt(count / max(1, count - free))
        logs = _log_loss(self.samples, self._x(at), self.has_floor)[:, 0]
        centre = np.log(value)
        drawn = np.random.default_rng(self.seed).choice(self.residuals, len(logs))
        low, high = np.exp(np.quantile(centre + widen * (logs - centre + drawn), [0.05, 0.95]))
        basis = Basis.MODELLED if self.is_decided else Basis.ASSUMED
        note = "" if self.is_decided else "the runs do not settle the law"
        return Estimate(value, min(value, float(low)), max(value, float(high)), "nats/token", basis, note)

    def to_json(self) -> dict[str, Any]:
        """The law in `weigh scaling fit`."""
        return {
            "variables": list(self.variables), "has_floor": self.has_floor,
            "constants": {name: one.to_json() for name, one in self.constants.items()}, "undecided": self.undecided,
            "decided": self.is_decided, "runs": len(self.residuals), "resamples": len(self.samples),
            "objective": self.objective, "median_error": float(np.median(np.abs(self.residuals))),
            "delta": self.delta, "seed": self.seed, "far": list(self.far),
            "covariance": np.cov(self.samples.T).tolist() if len(self.samples) > 1 else None,
            "notes": list(self.notes),
        }  # fmt: skip


def fit_law(
    runs: Runs, *, floor: bool = True, bootstrap: int = 400, seed: int = 0, delta: float = DELTA,
    progress: Progress | None = None,
) -> LawFit:  # fmt: skip
    """The law that finished runs follow.

    Args:
        runs: at least 5, and 7 where parameters and tokens both vary.
        floor: whether the law has E, the loss that nothing goes below.
        bootstrap: how many times runs are drawn anew for the intervals: at least 20, or 0 for no intervals.
        seed: of these draws.
        delta: of Huber's loss, of the logarithm of the loss.
        progress: is told how many resamples are done, of how many.

    Raises:
        UnitError: for too few runs, or runs among which nothing varies.
    """
    is_enough = bootstrap == 0 or LEAST_BOOTSTRAP <= bootstrap <= MOST_BOOTSTRAP
    if not (is_enough and 1e-9 <= delta <= 10):
        read = f"{bootstrap:,} resamples and delta {delta:g}"
        expected = f"0, or {LEAST_BOOTSTRAP} to {MOST_BOOTSTRAP:,} resamples, and a delta from 1e-9 to 10"
        raise UnitError(read, expected, "correct them")
    variables, notes = _variables(runs)
    x, y = np.log([runs.quantity(name) for name in variables]), np.log(runs.loss)
    count, free = len(y), 2 * len(variables) + floor
    least = LEAST_RUNS_OF_TWO if len(variables) == 2 else LEAST_RUNS
    if not least <= count <= MOST_RUNS:
        read = f"{count:,} runs with different {' and '.join(variables)}"
        raise UnitError(read, f"{least} to {MOST_RUNS:,} of them", "add runs" if count < least else "leave some out")
    starts = _starts(x, y, floor)
    at_once = max(1, AT_ONCE // (count * free))
    parts = [starts[first : first + at_once] for first in range(0, len(starts), at_once)]
    solved = [_solve(part, x, y, np.ones((len(part), count)), delta, floor) for part in parts]
    found, costs = (np.concatenate(column) for column in zip(*solved, strict=True))
    point = found[int(np.argmin(costs))]
    samples = _resample(point, x, y, bootstrap, seed, delta, floor, progress)
    residuals = y - _log_loss(point[None], x, floor)[0]
    widen = float(np.sqrt(count / max(1, count - free)))
    constants = _constants(variables, floor, point, samples, widen)
    typical = float(np.median(np.abs(residuals)))
    far = tuple(int(i) for i in np.flatnonzero(np.abs(residuals) > 15 * max(typical, delta)))
    undecided = _undecided(constants, float(runs.loss.min())) if bootstrap else {}
    return LawFit(variables, floor, constants, undecided, float(costs.min()), point, samples, residuals, seed, delta,
                  tuple(notes), far)  # fmt: skip


def _variables(runs: Runs) -> tuple[tuple[str, ...], list[str]]:
    """The quantities that vary, each by itself, and what is said of the others."""
    known = [name for name in ("parameters", "tokens") if getattr(runs, name) is not None]
    varied = [name for name in known if np.ptp(np.log(runs.quantity(name))) >= np.log(LEAST_SPREAD)]
    if len(varied) == 2:
        logs = np.log([runs.quantity(name) for name in varied])
        if abs(np.corrcoef(logs)[0, 1]) < STEP:
            return ("parameters", "tokens"), []
        note = "parameters and tokens grow in step, so that their parts cannot be told apart: a law of operations"
        return ("flops",), [note]
    if varied:
        fixed = [name for name in known if name not in varied]
        return (varied[0],), [f"{fixed[0]} hardly vary: the law holds for as many"] if fixed else []
    if runs.flops is not None and np.ptp(np.log(runs.flops)) >= np.log(LEAST_SPREAD):
        return ("flops",), [] if known else ["the law holds for runs that split operations as these do"]
    raise UnitError("runs among which neither parameters nor tokens nor operations vary", "runs of different sizes",
                    "add runs that are larger or smaller")  # fmt: skip


def _log_loss(constants: Array, x: Array, floor: bool) -> Array:
    """The logarithm of the loss: constants of shape (starts, 2 k + floor), x of (k, runs); (starts, runs)."""
    return np.asarray(np.log(_terms(constants, x, floor).sum(axis=1)))


def _terms(constants: Array, x: Array, floor: bool) -> Array:
    """The terms of the loss: (starts, k + floor, runs). Constants are logarithms of A, B and E, then the exponents."""
    k = len(x)
    logs, exponents = constants[:, : k + floor], constants[:, k + floor :]
    parts = np.repeat(logs[:, :, None], x.shape[1], axis=2)
    parts[:, :k] -= exponents[:, :, None] * x[None]
    return np.asarray(np.exp(np.clip(parts, -300, 300)))


def _starts(x: Array, y: Array, floor: bool) -> Array:
    """Constants to begin at: exponents of a grid, with the E, A and B that come nearest by least squares."""
    k, loss = len(x), np.exp(y)
    grids = np.meshgrid(*[EXPONENTS] * k, indexing="ij")
    exponents = np.stack([grid.ravel() for grid in grids], axis=1)
    found = []
    for row in exponents:
        for share in FLOORS if floor else (0.0,):
            left = loss - share * loss.min()
            columns = np.exp(-row[:, None] * (x - x.mean(axis=1, keepdims=True))) / loss
            weights = np.linalg.lstsq(columns.T, left / loss, rcond=None)[0]
            weights = np.maximum(weights, 0.02 * loss.min())
            logs = np.log(weights) + row * x.mean(axis=1)
            tail = [np.log(max(share, 0.05) * loss.min())] if floor else []
            found.append(np.concatenate([logs, tail, row]))
    assert k == exponents.shape[1]
    return np.array(found)


def _solve(starts: Array, x: Array, y: Array, weights: Array, delta: float, floor: bool) -> tuple[Array, Array]:
    """The constants nearest to each start that make the weighted sum of Huber's losses least, and that sum."""
    constants = starts.copy()
    cost = np.zeros(len(starts))
    for width in (*(one for one in ROUNDS if one > delta), delta):
        constants, cost = _descend(constants, x, y, weights, width, floor, STEPS if width > delta else 4 * STEPS)
    return constants, cost


def _huber(residuals: Array, weights: Array, delta: float) -> Array:
    size = np.abs(residuals)
    return np.asarray((weights * np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))).sum(axis=1))


def _descend(
    constants: Array, x: Array, y: Array, weights: Array, delta: float, floor: bool, steps: int
) -> tuple[Array, Array]:
    """Levenberg-Marquardt steps of all starts together, until none comes further."""
    k, centre = len(x), x.mean(axis=1)
    damping = np.full(len(constants), 1e-3)
    cost = _huber(_log_loss(constants, x, floor) - y, weights, delta)
    active = np.arange(len(constants))
    still = np.zeros(len(constants), dtype=int)
    for _ in range(steps):
        now = constants[active]
        terms = _terms(now, x, floor)
        whole = terms.sum(axis=1, keepdims=True)
        shares = terms / whole
        residuals = np.log(whole[:, 0]) - y
        pull = weights[active] * np.minimum(1.0, delta / np.maximum(np.abs(residuals), 1e-12))
        slopes = np.concatenate([shares, -shares[:, :k] * (x - centre[:, None])[None]], axis=1)
        weighted = slopes * pull[:, None]
        square = weighted @ slopes.transpose(0, 2, 1)
        gradient = (weighted @ residuals[:, :, None])[:, :, 0]
        diagonal = np.einsum("sii->si", square)
        scale = damping[active, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
        step = -np.linalg.solve(square + scale[:, :, None] * np.eye(square.shape[1]), gradient[:, :, None])[:, :, 0]
        step = np.clip(step, -2.0, 2.0)
        step[:, :k] += step[:, k + floor :] * centre
        tried = now + step
        new = _huber(_log_loss(tried, x, floor) - y, weights[active], delta)
        better = new < cost[active]
        moved = active[better]
        gain = (cost[moved] - new[better]) / np.maximum(cost[moved], 1e-300)
        constants[moved], cost[moved] = tried[better], new[better]
        damping[active] = np.clip(np.where(better, damping[active] / 5, damping[active] * 4), 1e-9, 1e9)
        still[moved[gain > 1e-7]] = 0
        still[moved[gain <= 1e-7]] += 1
        still[active[~better]] += 1
        active = active[still[active] < 8]
        if not len(active):
            break
    return constants, cost


def _resample(
    point: Array, x: Array, y: Array, bootstrap: int, seed: int, delta: float, floor: bool, progress: Progress | None
) -> Array:
    """The constants of runs drawn with replacement: how often each is drawn is its weight."""
    draws, count = np.random.default_rng(seed), len(y)
    found = np.empty((bootstrap, len(point)))
    part = max(1, min(bootstrap // 20 + 1, AT_ONCE // (count * len(point))))
    for first in range(0, bootstrap, part):
        last = min(bootstrap, first + part)
        weights = draws.multinomial(count, np.full(count, 1.0 / count), last - first).astype(float)
        found[first:last] = _solve(np.repeat(point[None], last - first, 0), x, y, weights, delta, floor)[0]
        if progress is not None:
            progress(last, bootstrap)
    return found


def _constants(
    variables: Sequence[str], floor: bool, point: Array, samples: Array, widen: float
) -> dict[str, Estimate]:  # fmt: skip
    """Estimates of the constants by their names, and of what follows from two exponents."""
    k = len(variables)

    def estimate(value: float, drawn: Array, back: Callable[[float], float]) -> Estimate:
        if not len(drawn):
            exact = back(value)
            return Estimate(exact, exact, exact, "", Basis.ASSUMED, NO_INTERVAL)
        low, high = (back(float(value + widen * (end - value))) for end in np.quantile(drawn, [0.05, 0.95]))
        centre = back(value)
        return Estimate(centre, min(low, centre), max(high, centre), "", Basis.MODELLED)

    def same(value: float) -> float:
        return value

    def power(log: float) -> float:
        return float(np.exp(np.clip(log, -600, 600)))

    found = {}
    if floor:
        found["E"] = estimate(float(point[k]), samples[:, k], power)
    for place, name in enumerate(variables):
        scale, exponent = NAMES[name]
        found[scale] = estimate(float(point[place]), samples[:, place], power)
        at = k + floor + place
        found[exponent] = estimate(float(point[at]), samples[:, at], same)
    if k == 2:
        share = point[-1] / (point[-2] + point[-1])
        found["a"] = estimate(float(share), samples[:, -1] / (samples[:, -2] + samples[:, -1]), same)
    return found


def _undecided(constants: dict[str, Estimate], least: float) -> dict[str, str]:
    """The constants that the runs do not settle, with the reason."""
    found = {}
    for name in ("alpha", "beta"):
        one = constants.get(name)
        if one is not None and one.value is not None and one.low is not None and one.high is not None:
            if one.low <= 0:
                found[name] = f"from {one.low:.2g} to {one.high:.2g}: it may be none"
            elif one.high > 4 * one.low:
                found[name] = f"from {one.low:.2g} to {one.high:.2g}: the largest is {one.high / one.low:.2g} times"
    floor = constants.get("E")
    if floor is not None and floor.low is not None and floor.low < 0.05 * least:
        found["E"] = f"from {floor.low:.2g}: there may be no floor at all"
    return found
