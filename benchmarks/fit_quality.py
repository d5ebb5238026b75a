"""Fits the constants of `compress.prior` to published perplexities, and says how far off they are on unseen ones.

    python benchmarks/fit_quality.py ../shared/data/perf/quality_loss.csv

prints the constants, the errors of several forms when all rows of a model, or of a source, are left out, and what the
90% interval covers; it writes the table of `docs/reference/accuracy.md`. Needs scipy.

Taken are rows whose weights alone were quantized and whose table names the perplexity before. Rows flagged `QA:`,
pruned models, and quantized activations or caches are left out by rule. A row weighs one over the root of the number of
rows of its model in its source; outliers count less; a row is known no better than its last printed digit.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from weighbridge.compress import prior
from weighbridge.model import catalogue

ROOT = Path(__file__).resolve().parent.parent
ACCURACY = ROOT / "docs/reference/accuracy.md"
ROUNDED_ROWS = ("RTN", "SmoothQuant")
"""Methods that round with one scale for a row of weights, and correct nothing."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One published pair of perplexities; `loss` is the logarithm of their ratio, `blur` what its digits leave open."""

    model: str
    source: str
    method: str
    bits: float
    parameters: float
    tokens: float
    scheme: str
    loss: float
    blur: float


def digit(text: str) -> float:
    """Half of the last printed digit."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def read_rows(path: Path) -> tuple[list[Row], Counter[str]]:
    """The rows that are taken, and how many are left out for which reason."""
    found, left_out = [], Counter[str]()
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if "ppl" not in row["metric"]:
                left_out["another metric"] += 1
            elif "QA:" in row["notes"]:
                left_out["flagged as faulty"] += 1
            elif not row["before"]:
                left_out["no perplexity before"] += 1
            elif row["sparsity"]:
                left_out["pruned"] += 1
            elif row["kv_or_act_bits"] not in ("", "A16 KV16"):
                left_out["activations or cache quantized"] += 1
            elif float(row["bits"]) >= 16:
                left_out["16 bits"] += 1
            else:
                model = catalogue.find_model(row["model"])
                assert model.training_tokens is not None, row["model"]
                before, after = float(row["before"]), float(row["after"])
                found.append(Row(
                    model.title, row["source"].split()[0], row["method"], float(row["bits"]),
                    float(row["params_b"]) * 1e9, float(model.training_tokens),
                    "rows" if row["method"] in ROUNDED_ROWS else "blocks", math.log(after / before),
                    digit(row["before"]) / before + digit(row["after"]) / after))  # fmt: skip
    return found, left_out


def read_recoveries(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Of each scheme the models and the shares of a score that they kept, from rows of accuracies."""
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if "ppl" in row["metric"] or "QA:" in row["notes"] or row["kv_or_act_bits"] not in ("", "A16 KV16"):
                continue
            scheme = f"w{row['bits']}a16" + ("-rows" if row["method"] in ROUNDED_ROWS else "")
            found[scheme].append((row["model"].lower(), float(row["after"]) / float(row["before"])))
    return found


@dataclass(frozen=True)
class Form:
    """A candidate: features of which the logarithm of the loss is a sum, and the bounds of their factors."""

    name: str
    features: tuple[tuple[Callable[[Row], float], float, float], ...]
    fixed: Callable[[Row], float] = lambda row: 0.0

    def fit(self, rows: Sequence[Row]) -> Array:
        """Factors that come nearest to the rows."""
        table = self.table(rows)
        fixed, weights = np.array([self.fixed(row) for row in rows]), np.sqrt(weights_of(rows))
        loss, blur = np.array([row.loss for row in rows]), np.array([row.blur for row in rows])
        low, high = np.array([(low, high) for _, low, high in self.features]).T

        def residuals(factors: Array) -> Array:
            return np.asarray(weights * np.log((np.exp(fixed + table @ factors) + blur) / (loss + blur)))

        start = np.clip([3.0] + [0.5] * (len(low) - 1), low, high)
        return np.asarray(least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=0.3).x)

    def table(self, rows: Sequence[Row]) -> Array:
        return np.array([[feature(row) for feature, _, _ in self.features] for row in rows])

    def predict(self, factors: Array, rows: Sequence[Row]) -> Array:
        return np.asarray(np.exp(np.array([self.fixed(row) for row in rows]) + self.table(rows) @ factors))

    def unseen(self, rows: Sequence[Row], group: Callable[[Row], str]) -> Array:
        """What is predicted for each row by factors that saw no row of its group."""
        found = np.zeros(len(rows))
        for name in {group(row) for row in rows}:
            inside = [place for place, row in enumerate(rows) if group(row) == name]
            factors = self.fit([row for row in rows if group(row) != name])
            found[inside] = self.predict(factors, [rows[place] for place in inside])
        return found


def weights_of(rows: Sequence[Row]) -> Array:
    """The weight of each row: one over the root of the number of rows of its model in its source, 1 in the mean."""
    counts = Counter((row.model, row.source) for row in rows)
    found = np.array([counts[row.model, row.source] ** -0.5 for row in rows])
    return np.asarray(found / found.mean())


def constant(rows: Sequence[Row], group: Callable[[Row], str]) -> Array:
    """The naive baseline: the median of the other groups' rows with the same whole number of bits, or the nearest."""
    found = []
    for row in rows:
        others = [other for other in rows if group(other) != group(row)]
        nearest = min(abs(round(other.bits) - round(row.bits)) for other in others)
        found.append(np.median([other.loss for other in others
                                if abs(round(other.bits) - round(row.bits)) == nearest]))  # fmt: skip
    return np.array(found)


LOG4 = math.log(4)
ONE = (lambda row: 1.0, -9.0, 15.0)
BITS = (lambda row: -row.bits * math.log(2), 0.5, 4.0)
ROWS = (lambda row: float(row.scheme == "rows"), 0.0, 3.0)
SIZE = (lambda row: -math.log(row.parameters / 1e9), 0.0, 2.0)
TOKENS = (lambda row: math.log(row.tokens / prior.TOKENS), 0.0, 2.0)
PER_PARAMETER = (lambda row: math.log(row.tokens / row.parameters / 200), 0.0, 2.0)


def four(row: Row) -> float:
    """Each bit divides the squared error of rounding by four."""
    return -LOG4 * row.bits


CHOSEN = Form("a 4^-bits s D^d", (ONE, ROWS, TOKENS), four)
FORMS = (
    Form("a 2^(-b bits)", (ONE, BITS)),
    Form("a 2^(-b bits) s", (ONE, BITS, ROWS)),
    Form("a 4^-bits s", (ONE, ROWS), four),
    Form("a 4^-bits s N^-c", (ONE, ROWS, SIZE), four),
    Form("a 4^-bits s (D/N)^d", (ONE, ROWS, PER_PARAMETER), four),
    CHOSEN,
    Form("a 4^-bits s D^d N^-c", (ONE, ROWS, TOKENS, SIZE), four),
    Form("a 2^(-b bits) s D^d", (ONE, BITS, ROWS, TOKENS)),
)
"""s: the factor of scales for whole rows; N: parameters; D: tokens of training."""


def off(rows: Sequence[Row], predicted: Array) -> Array:
    """The logarithm of measured over predicted, each as blurred as the digits of the row."""
    loss, blur = np.array([row.loss for row in rows]), np.array([row.blur for row in rows])
    return np.asarray(np.log((loss + blur) / (predicted + blur)))


def errors(rows: Sequence[Row], predicted: Array) -> str:
    """The median and the mean factor by which a loss is missed, and the median error of the growth of perplexity."""
    ratios = np.abs(off(rows, predicted))
    growth = np.abs(np.exp(predicted) - np.exp([row.loss for row in rows]))
    return f"x{np.exp(np.median(ratios)):.2f} | x{np.exp(ratios.mean()):.2f} | {100 * np.median(growth):.1f}"


def quantiles(values: Array, weights: Array) -> tuple[float, float]:
    """The values below which 5% and 95% of the weights lie."""
    order = np.argsort(values)
    places = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, high = np.interp([0.05, 0.95], places, values[order])
    return float(low), float(high)


def nested_coverage(rows: Sequence[Row], ratios: Array) -> float:
    """The share of rows inside an interval that was made of the other models' residuals alone."""
    weights, inside = weights_of(rows), []
    for model in {row.model for row in rows}:
        mine = np.array([row.model == model for row in rows])
        low, high = quantiles(ratios[~mine], weights[~mine])
        inside += [low <= ratio <= high for ratio in ratios[mine]]
    return float(np.mean(inside))


def by_model(row: Row) -> str:
    return row.model


def by_source(row: Row) -> str:
    return row.source


def main(path: Path) -> None:
    rows, left_out = read_rows(path)
    print(
        f"{len(rows)} rows of {len({row.model for row in rows})} models and {len({row.source for row in rows})} sources"
    )
    print("left out: " + ", ".join(f"{count} {why}" for why, count in left_out.items()))
    print("\n| form | model left out: median | mean | points | source left out: median | mean | points | factors |")
    print("| --- | --- | --- | ---: | --- | --- | ---: | --- |")
    groups = (by_model, by_source)
    for form in FORMS:
        cells = " | ".join(errors(rows, form.unseen(rows, group)) for group in groups)
        print(f"| {form.name} | {cells} | {', '.join(f'{x:.3f}' for x in form.fit(rows))} |")
    print(f"| one constant a bit | {' | '.join(errors(rows, constant(rows, group)) for group in groups)} | |")

    factors = CHOSEN.fit(rows)
    unseen = {group: CHOSEN.unseen(rows, group) for group in groups}
    ratios, weights = np.concatenate([off(rows, one) for one in unseen.values()]), np.tile(weights_of(rows), 2)
    low, high = quantiles(ratios, weights)
    print(f"\nSCALE = {math.exp(factors[0]):.3g}\nROWS_FACTOR = {math.exp(factors[1]):.3g}")
    print(f"TOKENS_EXPONENT = {factors[2]:.3g}\nLOW, HIGH = {math.exp(low):.3g}, {math.exp(high):.3g}")
    for group in groups:
        covered = np.mean([low <= ratio <= high for ratio in off(rows, unseen[group])])
        print(f"covered, {group.__name__.replace('_', ' ')} left out: {covered:.0%}")
    print(f"covered by intervals of the other models alone: {nested_coverage(rows, off(rows, unseen[by_model])):.0%}")

    for scheme, kept in sorted(read_recoveries(path).items()):
        shares = np.array([share for _, share in kept])
        means = [np.mean([share for other, share in kept if other == name]) for name in {name for name, _ in kept}]
        bottom, top = np.quantile(shares, [0.05, 0.95], method="hazen")
        print(f"recovery {scheme}: {np.mean(means):.3f}, {bottom:.3f} to {top:.3f}, {len(shares)} rows, "
              f"{len(means)} models")  # fmt: skip

    lines = ["| model | method | bits | measured | expected | model left out | 90% interval | inside |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"]  # fmt: skip
    for row, other in zip(rows, unseen[by_model], strict=True):
        found = prior.expected_loss(row.bits, row.parameters, training_tokens=row.tokens, scheme=row.scheme)
        assert found.value is not None and found.low is not None and found.high is not None
        inside = found.low <= row.loss + row.blur and row.loss - row.blur <= found.high
        lines.append(f"| {row.model} | {row.method} | {row.bits:g} | {percent(row.loss)} | {percent(found.value)} | "
                     f"{percent(other)} | {percent(found.low)} to {percent(found.high)} | "
                     f"{'yes' if inside else 'no'} |")  # fmt: skip
    page = ACCURACY.read_text(encoding="utf-8")
    begin, end = "<!-- fitted: quality -->", "<!-- end fitted -->"
    before, rest = page.split(begin)
    ACCURACY.write_text(f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{rest.split(end, 1)[1]}", "utf-8")


def percent(loss: float) -> str:
    """By how much perplexity grows."""
    return f"{math.expm1(loss):.2%}" if loss < 0.1 else f"{math.expm1(loss):.0%}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
