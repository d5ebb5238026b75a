"""Fits the factors of `predict.steps` to published measurements, and says how far off they are on unseen ones.

    python benchmarks/fit_speed.py ../shared/data

writes `src/weighbridge/predict/fits/speed.toml` (factors, residuals, what was measured) and the tables of
`docs/reference/accuracy.md`. Every error figure is of rows whose (model, device) pair was left out of the fit that
predicted them. Rows flagged `QA:` are left out; identical copies count once. Needs scipy.
"""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from weighbridge.predict import speed, steps

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.measurements import (  # noqa: E402
    NAMES,
    RUNTIMES,
    STATIC_RUNTIMES,
    Sample,
    cpu_weight_ps,
    decode_sample,
    device_of,
    read_rows,
    served_samples,
    static_sample,
    with_steps,
    without_faulty,
)

FITS = ROOT / "src/weighbridge/predict/fits/speed.toml"
ACCURACY = ROOT / "docs/reference/accuracy.md"


def fit(sample: Sample, low: Sequence[float], high: Sequence[float], chosen: np.ndarray | None = None) -> list[float]:
    """Factors that make the sum of terms come nearest to what was measured, in ratio; outliers count less."""
    index = np.arange(len(sample.measured)) if chosen is None else chosen
    terms, measured = np.array(sample.terms)[index], np.array(sample.measured)[index]
    weight = np.sqrt(sample.weights[index])
    bounds = np.log(np.array(low)), np.log(np.array(high))

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.asarray(weight * (np.log(terms @ np.exp(logs)) - np.log(measured)))

    start = (bounds[0] + bounds[1]) / 2
    found = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.2)
    return [float(x) for x in np.exp(found.x)]


def unseen(sample: Sample, low: Sequence[float], high: Sequence[float], by: str = "pair") -> np.ndarray:
    """What is predicted for each row by factors that saw no row of its group."""
    terms, predicted, groups = np.array(sample.terms), np.zeros(len(sample.measured)), sample.groups(by)
    for group in sorted(set(groups)):
        inside = np.array([place for place, other in enumerate(groups) if other == group])
        outside = np.array([place for place, other in enumerate(groups) if other != group])
        predicted[inside] = terms[inside] @ np.array(fit(sample, low, high, outside))
    return predicted


KINDS = ("reading", "rereads", "compute", "overhead", "exchange")
KIND_OF_TERM = [KINDS.index(steps.STATIC_KINDS[name]) for name in steps.STATIC]
READ_IN_FULL = np.array([float(name in steps.READ_IN_FULL) for name in steps.STATIC])
STATIC_BOUNDS = ([0.01, 0.01, 0.5, 0.3, 1e-7, 1e-7, 0.1, 1e-7, 0.01, 0.5],
                 [6, 20, 40, 20, 1e-3, 3e-3, 60, 3e-3, 20, 20])  # fmt: skip


def static_key(row: dict[str, str]) -> str:
    """The engine and the device of a row, as the file of factors spells them."""
    device = device_of(row)
    assert device is not None
    return f"{STATIC_RUNTIMES[row['runtime']]}/{device.name}"


def static_factors(shared: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Factors of the terms from logarithms of the shared ones and of an engine's own on a device."""
    return np.asarray(READ_IN_FULL + np.exp(shared + own[..., KIND_OF_TERM]))


def fit_static(sample: Sample, chosen: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logarithms of the shared factors, and of each engine's on each device for each kind, drawn towards 0."""
    terms, logs = np.array(sample.terms)[chosen], np.log(np.array(sample.measured)[chosen])
    keys = [static_key(sample.rows[i]) for i in chosen]
    names = sorted(set(keys))
    place = np.array([names.index(key) for key in keys])
    count = len(steps.STATIC)

    def residuals(found: np.ndarray) -> np.ndarray:
        own = found[count:].reshape(-1, len(KINDS))
        predicted = (terms * static_factors(found[:count], own[place])).sum(axis=1)
        return np.concatenate([np.log(predicted) - logs, 0.5 * found[count:]])

    low, high = (np.concatenate([np.log(bound), side * np.full(len(KINDS) * len(names), 3.0)])
                 for bound, side in zip(STATIC_BOUNDS, (-1, 1), strict=True))  # fmt: skip
    found = least_squares(residuals, (low + high) / 2, bounds=(low, high), loss="soft_l1", f_scale=0.15, max_nfev=60).x
    return found[:count], dict(zip(names, found[count:].reshape(-1, len(KINDS)), strict=True))


def unseen_static(sample: Sample, by: str = "pair") -> np.ndarray:
    """As `unseen`, with the own factors of engines on devices."""
    predicted, groups = np.zeros(len(sample.measured)), sample.groups(by)
    for group in sorted(set(groups)):
        shared, own = fit_static(sample, np.array([i for i, other in enumerate(groups) if other != group]))
        for i in (i for i, other in enumerate(groups) if other == group):
            factors = static_factors(shared, own.get(static_key(sample.rows[i]), np.zeros(len(KINDS))))
            predicted[i] = np.array(sample.terms[i]) @ factors
    return predicted


def own_factors(sample: Sample, predicted: np.ndarray, prior: float = 3.0) -> dict[str, float]:
    """The logarithm by which each device differs from its class, drawn towards 0 as if `prior` rows had said so."""
    logs: dict[str, list[float]] = defaultdict(list)
    for row, value, guess in zip(sample.rows, sample.measured, predicted, strict=True):
        device = device_of(row)
        assert device is not None
        logs[device.name].append(math.log(value / guess))
    return {name: sum(found) / (len(found) + prior) for name, found in sorted(logs.items())}


def unseen_with_own(sample: Sample, low: Sequence[float], high: Sequence[float], by: str = "pair") -> np.ndarray:
    """As `unseen`, each device's own factor taken from its other rows."""
    terms, predicted = np.array(sample.terms), np.zeros(len(sample.measured))
    groups = sample.groups(by)
    for group in sorted(set(groups)):
        inside = np.array([place for place, other in enumerate(groups) if other == group])
        outside = np.array([place for place, other in enumerate(groups) if other != group])
        if not len(outside):
            outside = inside
        factors = np.array(fit(sample, low, high, outside))
        rest = Sample(measured=[sample.measured[i] for i in outside], rows=[sample.rows[i] for i in outside])
        own = own_factors(rest, terms[outside] @ factors)
        for place in inside:
            device = device_of(sample.rows[place])
            assert device is not None
            predicted[place] = terms[place] @ factors * math.exp(own.get(device.name, 0.0))
    return predicted


def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value below which a share of the weights lies."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() * share)])


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """The 5% and 95% quantiles, never narrower than 2% on either side."""
    low, high = np.quantile(ratios, [0.05, 0.95], method="hazen")
    return min(float(low), -0.02), max(float(high), 0.02)


@dataclass(frozen=True)
class Result:
    """One line of the table of errors."""

    metric: str
    kind: str
    sample: Sample
    predicted: np.ndarray
    plain: np.ndarray
    """What one constant, calibrated on the other pairs, times the plainest term predicts."""
    strangers: dict[str, np.ndarray]
    """Predictions by fits that saw nothing of the row's device, or of its model."""

    @property
    def ratios(self) -> np.ndarray:
        return np.asarray(np.log(np.array(self.sample.measured) / self.predicted))

    @property
    def interval(self) -> tuple[float, float]:
        """The 5% and 95% quantiles of measured over predicted, as logarithms, of pairs that were left out."""
        return interval(self.ratios)

    @property
    def interval_of_strangers(self) -> tuple[float, float]:
        """The same of devices that were left out whole."""
        return interval(np.log(np.array(self.sample.measured) / self.strangers["device"]))

    def row(self) -> str:
        weight, error = self.sample.weights, self.sample.errors(self.predicted)
        median, tail = quantile(error, weight, 0.5), quantile(error, weight, 0.9)
        low, high = self.interval
        covered = float(np.average((self.ratios >= low) & (self.ratios <= high), weights=weight))
        bias = math.exp(-float(np.average(self.ratios, weights=weight))) - 1
        coarse = self.sample.errors(self.plain)
        middle = quantile(coarse, weight, 0.5)
        cells = (self.metric, self.kind, f"{len(self.ratios):,}", f"{sum(self.sample.left_out.values()):,}",
                 f"{median:.1%}", f"{float(np.average(error, weights=weight)):.1%}", f"{tail:.1%}", f"{bias:+.1%}",
                 f"{covered:.0%}", f"{middle:.1%}", f"{float(np.average(coarse, weights=weight)):.1%}")  # fmt: skip
        return "| " + " | ".join(cells) + " |"

    def strangers_row(self) -> str:
        """Median and mean error when pairs, devices or models are left out whole."""
        cells = [self.metric, self.kind]
        for predicted in (self.predicted, *self.strangers.values()):
            weight, error = self.sample.weights, self.sample.errors(predicted)
            cells += [f"{quantile(error, weight, 0.5):.1%}", f"{float(np.average(error, weights=weight)):.1%}"]
        return "| " + " | ".join(cells) + " |"


STRANGERS = ("device", "model")


def whole_requests(each: Result, first: Result) -> Result:
    """The time of whole requests: first and other tokens of one run, each as predicted without the row's group."""
    places = {row["source"]: place for place, row in enumerate(each.sample.rows)}
    pairs = [(one, places[row["source"]]) for one, row in enumerate(first.sample.rows)
             if row["source"] in places and float(row["output_len"]) > 1]  # fmt: skip
    others = np.array([float(first.sample.rows[one]["output_len"]) - 1 for one, _ in pairs])
    ones, tpots = (np.array(column) for column in zip(*pairs, strict=True))

    def added(of_first: np.ndarray, of_each: np.ndarray) -> np.ndarray:
        return np.asarray(of_first[ones] + others * of_each[tpots])

    measured = added(np.array(first.sample.measured), np.array(each.sample.measured))
    sample = Sample(measured=[float(value) for value in measured], rows=[first.sample.rows[one] for one in ones],
                    left_out=first.sample.left_out)  # fmt: skip
    return Result("a whole request", "served", sample, added(first.predicted, each.predicted),
                  added(first.plain, each.plain),
                  {by: added(first.strangers[by], each.strangers[by]) for by in STRANGERS})  # fmt: skip


def one_constant(sample: Sample, places: Sequence[int]) -> np.ndarray:
    """The sum of these terms times one constant, which for each pair is the median over all other pairs."""
    terms = np.array(sample.terms)[:, list(places)].sum(axis=1)
    ratios, predicted = np.array(sample.measured) / terms, np.zeros(len(terms))
    groups = sample.groups()
    for group in sorted(set(groups)):
        inside = np.array([other == group for other in groups])
        outside = ~inside if not inside.all() else inside
        predicted[inside] = terms[inside] * np.median(ratios[outside])
    return predicted


def centred(sample: Sample, predicted: np.ndarray) -> float:
    """The factor on predictions of unseen pairs that makes their mean error in percent smallest.

    A prediction in the middle of the logarithms is not that: one that is too high can be off by any multiple, one that
    is too low by 100% at most.
    """
    grid = np.arange(0.6, 1.21, 0.01)
    errors = [float(np.average(sample.errors(predicted * by), weights=sample.weights)) for by in grid]
    return float(grid[int(np.argmin(errors))])


def table(factors: dict[str, float]) -> str:
    return "\n".join(f"{name if re.fullmatch('[A-Za-z0-9_-]+', name) else chr(34) + name + chr(34)} = {value:.6g}"
                     for name, value in factors.items())  # fmt: skip


TOGETHER: dict[str, list[tuple[str, ...]]] = {
    "decode": [(kind,) for kind in speed.CLASSES],
    "prefill": [("gpu", "hbm"), ("soc",), ("cpu",)],
}
"""Classes of devices that have factors in common under llama.cpp: prompts are a matter of arithmetic, of which stacked
memory changes nothing."""


SLOWEST_CACHE = {"gpu": 4.0, "hbm": 4.0, "soc": 12.0, "cpu": 4.0}
"""The largest factor on reading the cache when llama.cpp decodes: contexts of 8,192 tokens on Apple's chips say 9.6,
and elsewhere the contexts that were measured are too short to tell it."""


def main(folder: Path) -> None:
    rows = read_rows(folder)
    text = [
        "# Factors of predict.steps, their residuals and what was measured: written by benchmarks/fit_speed.py, not",
        "# to be edited. Fitted to the measurements that docs/reference/accuracy.md names.",
    ]  # fmt: skip
    costs = cpu_weight_ps(rows)
    speed.fits.cache_clear()
    speed.fits = lambda: {"cpu_weight_ps": costs}  # type: ignore[assignment]  # the file is what is being written
    results: list[Result] = []

    tpot, ttft = served_samples(rows)
    low, high = [1, 1, 1, 1, 1e-7, 1e-7, 0.5, 1e-7, 0.1], [4, 8, 20, 10, 2e-4, 3e-4, 30, 5e-4, 30]
    step = fit(tpot, low, high)
    guess = unseen(tpot, low, high)
    centre = centred(tpot, guess)
    results.append(Result("time per output token", "served", tpot, guess * centre,
                          one_constant(tpot, (0, 1, 3)),
                          {by: unseen(tpot, low, high, by) * centre for by in STRANGERS}))  # fmt: skip
    step = [max(factor * centre, float(name in steps.READ_IN_FULL))
            for name, factor in zip(steps.SERVED_STEP, step, strict=True)]  # fmt: skip
    first = with_steps(ttft, step)
    low = [0.3, 0.01, 0.999, 0.01, *[1e-4] * 3, *[1e-4] * 6]  # the third, the queue, is arithmetic and no factor
    high = [20, 10, 1.001, 300, 30, 10, 10, *[0.5] * 3, *[3] * 3]
    guess = unseen(first, low, high)
    centre = centred(first, guess)
    results.append(Result("time to first token", "served", first, guess * centre,
                          one_constant(first, (0,)),
                          {by: unseen(first, low, high, by) * centre for by in STRANGERS}))  # fmt: skip
    results.append(whole_requests(*results))
    found = [factor * centre for factor in fit(first, low, high)]
    text += ["", "[served_step]", table(dict(zip(steps.SERVED_STEP, step, strict=True)))]
    common = [name for name in steps.FIRST_TOKEN if name not in ("start", "burst")]
    shared = dict(zip(common, found[: len(common)], strict=True)) | {"queue": 1.0}
    starts, bursts = found[len(common) : -len(RUNTIMES)], found[-len(RUNTIMES) :]
    for name, start, burst in zip(RUNTIMES, starts, bursts, strict=True):
        text += ["", f"[first_token.{name}]", table(shared | {"start": start, "burst": burst})]
    middle = shared | {"start": float(np.median(starts)), "burst": float(np.median(bursts))}
    text += ["", "[first_token.others]", table(middle)]

    static = static_sample(rows)
    results.append(Result("latency of a static batch", "served", static, unseen_static(static),
                          one_constant(static, (0, 1, 3)),
                          {by: unseen_static(static, by) for by in STRANGERS}))  # fmt: skip
    shared_logs, own_logs = fit_static(static, np.arange(len(static.measured)))
    text += ["", "[static.shared]", table(dict(zip(steps.STATIC, np.exp(shared_logs), strict=True)))]
    for name, logs in sorted(own_logs.items()):
        text += ["", f'[static.devices."{name}"]', table(dict(zip(KINDS, np.exp(logs), strict=True)))]

    bounds = {"decode_tok_s": ([1, 0.5, 0.01, 1e-7, 1e-7], [4, 4, 20, 3e-3, 5e-3], steps.DECODE, "decode"),
              "prefill_tok_s": ([1, 0.01, 0.05, 1e-6], [10, 5, 20, 2e-3], steps.PREFILL, "prefill")}  # fmt: skip
    measured: dict[str, set[str]] = defaultdict(set)
    for metric, (low, high, names, title) in bounds.items():
        devices: dict[str, float] = {}
        for kinds in TOGETHER[title]:
            samples = [without_faulty(decode_sample(rows, metric, kind)) for kind in kinds]
            whole = Sample([term for one in samples for term in one.terms],
                           [value for one in samples for value in one.measured],
                           [row for one in samples for row in one.rows])  # fmt: skip
            most = [*high[:1], SLOWEST_CACHE[kinds[0]], *high[2:]] if title == "decode" else high
            factors = fit(whole, low, most)
            devices |= own_factors(whole, np.array(whole.terms) @ np.array(factors))
            guesses = {by: unseen_with_own(whole, low, most, by) for by in ("pair", *STRANGERS)}
            done = 0
            for kind, sample in zip(kinds, samples, strict=True):
                text += ["", f"[{title}.{kind}]", table(dict(zip(names, factors, strict=True)))]
                part = slice(done, done := done + len(sample.measured))
                results.append(Result("decoding a token" if title == "decode" else "a prompt", f"llama.cpp, {kind}",
                                      sample, guesses["pair"][part],
                                      one_constant(sample, (0, 1) if title == "decode" else (0,)),
                                      {by: guesses[by][part] for by in STRANGERS}))  # fmt: skip
            for row in whole.rows:
                device = device_of(row)
                assert device is not None
                measured["llama.cpp"].add(device.name)
        text += ["", f"[{title}.devices]", table(devices)]
    text += ["", "[cpu_weight_ps]", table(costs)]
    keys = [
        "tpot",
        "ttft",
        "request",
        "static",
        *(f"{title}.{kind}" for title in ("decode", "prefill") for kind in speed.CLASSES),
    ]
    for key, result in zip(keys, results, strict=True):
        bottom, top = result.interval
        text += ["", f"[residuals.{key}]", f"low = {bottom:.4f}", f"high = {top:.4f}", f"n = {len(result.ratios)}"]
        bottom, top = result.interval_of_strangers
        text += [f"unmeasured_low = {bottom:.4f}", f"unmeasured_high = {top:.4f}"]
    served: dict[str, set[str]] = defaultdict(set)
    for row in tpot.rows:
        device = device_of(row)
        assert device is not None
        served[NAMES.get(row["runtime"], row["runtime"])].add(device.name)
    together: dict[str, set[str]] = defaultdict(set)
    for key in own_logs:
        runtime, _, name = key.partition("/")
        together[runtime].add(name)
    for title, known in (("served", served), ("static", together), ("decode", measured)):
        text += ["", f"[measured.{title}]"]
        text += [f'"{name}" = {sorted(found)}'.replace("'", '"') for name, found in sorted(known.items())]
    FITS.parent.mkdir(exist_ok=True)
    FITS.write_text("\n".join(text) + "\n", encoding="utf-8")
    heads = ("metric", "engine", "rows", "refused", "median", "mean", "90th percentile", "bias", "inside the interval",
             "one constant, median", "one constant, mean")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * (len(heads) - 2),
             *(result.row() for result in results)]  # fmt: skip
    strangers = ["| metric | engine |" + "".join(f" {by}, median | {by}, mean |" for by in ("pair", *STRANGERS)),
                 "| --- | --- |" + " ---: |" * 6, *(result.strangers_row() for result in results)]  # fmt: skip
    page = ACCURACY.read_text(encoding="utf-8")
    for name, table_lines in (("errors", lines), ("strangers", strangers)):
        print("\n".join(table_lines))
        begin, end = f"<!-- fitted: {name} -->", "<!-- end fitted -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n" + "\n".join(table_lines) + f"\n\n{end}{rest.split(end, 1)[1]}"
    ACCURACY.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
