"""How often do the intervals of a law fitted to planted runs hold what was planted, and a larger run held back?

    python benchmarks/scaling_fit_coverage.py [--worlds 200] [--bootstrap 200]

Runs follow the corrected law of Chinchilla with noise on the logarithm of the loss, at parameters from 50 million to 5
billion with 5 to 100 tokens each; the run held back has ten times the largest number of parameters. An interval of 90%
should hold nine times of ten.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from weighbridge.predict.scaling_laws.law_fit import Runs, fit_law
from weighbridge.predict.scaling_laws.laws import additive_law

HELD_BACK = 50e9, 1e12


def planted(count: int, noise: float, draws: np.random.Generator, one: bool) -> tuple[Runs, float]:
    """Runs of the law, and the loss of the run held back."""
    law = additive_law("chinchilla-corrected")
    parameters = np.exp(draws.uniform(math.log(50e6), math.log(5e9), count))
    tokens = np.full(count, 100e9) if one else parameters * np.exp(draws.uniform(math.log(5), math.log(100), count))
    loss = np.array([law.loss(n, d) for n, d in zip(parameters, tokens, strict=True)])
    loss *= np.exp(noise * draws.standard_normal(count))
    held = law.loss(HELD_BACK[0], 100e9 if one else HELD_BACK[1]) * math.exp(noise * draws.standard_normal())
    return Runs(loss, parameters, tokens, 6 * parameters * tokens), held


def main() -> None:
    """Prints a row for each kind of data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=200)
    options = parser.parse_args()
    law = additive_law("chinchilla-corrected")
    print("varies           runs  noise  alpha in  beta in  E in  held-back in  median error  undecided")
    for one in (False, True):
        for count in (8, 16, 40, 120):
            for noise in (0.001, 0.01):
                held = {"alpha": 0, "beta": 0, "E": 0, "run": 0, "undecided": 0}
                errors = []
                for world in range(options.worlds):
                    draws = np.random.default_rng(world)
                    runs, loss = planted(count, noise, draws, one)
                    found = fit_law(runs, bootstrap=options.bootstrap, seed=world)
                    truth = {"alpha": law.alpha, "beta": law.beta, "E": law.floor + one * law.b / 100e9**law.beta}
                    for name, value in truth.items():
                        if (constant := found.constants.get(name)) is not None:
                            assert constant.low is not None and constant.high is not None
                            held[name] += constant.low <= value <= constant.high
                    said = found.predict(parameters=HELD_BACK[0], tokens=HELD_BACK[1])
                    assert said.low is not None and said.high is not None and said.value is not None
                    held["run"] += said.low <= loss <= said.high
                    held["undecided"] += not found.is_decided
                    errors.append(abs(said.value / loss - 1))
                share = {name: f"{value / options.worlds:.0%}" for name, value in held.items()}
                what = "parameters" if one else "both"
                print(f"{what:15s} {count:5d} {noise:6.1%} {share['alpha']:>9s} {'-' if one else share['beta']:>8s} "
                      f"{share['E']:>5s} {share['run']:>13s} {np.median(errors):13.2%} "
                      f"{share['undecided']:>10s}")  # fmt: skip


if __name__ == "__main__":
    main()
