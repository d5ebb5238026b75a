"""Says how far the energy and money of training runs are from what was published of them.

    python benchmarks/training_energy.py ../shared/data

writes the table of training energy in `docs/reference/accuracy.md`. A metered run is predicted from the runs of
`predict/training/metered.toml` without it. Figures that are hours times a power, a grid or a rate test arithmetic only.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from weighbridge.estimate import Estimate
from weighbridge.hardware.catalogue import find_device
from weighbridge.predict.carbon import product, site
from weighbridge.predict.training.footprint import energy, metered, power
from weighbridge.predict.training.money import device_price, money
from weighbridge.show.plans import figure

ACCURACY = Path(__file__).resolve().parent.parent / "docs/reference/accuracy.md"
BEGIN, END = "<!-- fitted: training energy -->", "<!-- end fitted -->"


class Line(NamedTuple):
    """One published figure beside the predicted one."""

    run: str
    what: str
    rests_on: str
    published: float
    predicted: Estimate

    @property
    def error(self) -> float:
        """Predicted over published, less 1."""
        return (self.predicted.value or 0.0) / self.published - 1

    def __str__(self) -> str:
        found = self.predicted
        inside = "-" if found.low == found.high else (
            "yes" if (found.low or 0) <= self.published <= (found.high or 0) else "no")  # fmt: skip
        low, value, high = (figure(one or 0.0) for one in (found.low, found.value, found.high))
        ends = "" if found.low == found.high else f" ({low} to {high})"
        return (f"| {self.run} | {self.what} | {self.rests_on} | {figure(self.published)} | {value}{ends} | "
                f"{self.error:+.1%} | {inside} |")  # fmt: skip


def lines(rows: list[dict[str, str]]) -> Iterator[Line]:
    """Every run whose hours stand beside a published figure."""
    known = {row["row_id"]: row for row in rows}
    for row_id, name in (("T00050", "t5-11b"), ("T00051", "meena-2.6b")):
        row = known[row_id]
        hours = int(row["n_devices"]) * float(row["days"]) * 24
        watts = power(find_device(row["hardware_key"]), [one for one in metered() if one.name != name])
        kwh = product([Estimate.exact(round(hours), "h"), watts], "MWh", scale=float(row["pue"]) / 1e6)
        yield Line(row["model"], "MWh, data centre", "metered", float(row["energy_mwh"]), kwh)
    gopher, run = known["T00059"], known["T00040"]
    found = energy(_hours(run), find_device(run["hardware_key"]), site(None, gopher["pue"]))
    yield Line(gopher["model"], "MWh, data centre", "an estimate", float(gopher["energy_mwh"]),
               found.facility_kwh.times(1e-3))  # fmt: skip
    llama = known["T00003"]
    told = energy(_hours(llama), find_device(llama["hardware_key"]), site(llama["carbon_gco2_kwh"], llama["pue"]),
                  (400, 400))  # fmt: skip
    yield Line(llama["model"], "MWh, data centre", "hours x 400 W x PUE", float(llama["energy_mwh"]),
               told.facility_kwh.times(1e-3))  # fmt: skip
    yield Line(llama["model"], "t CO2e", "that x grid", float(llama["tco2e"]), told.carbon_g.times(1e-6))
    star = known["T00045"]
    found = energy(_hours(star), find_device(star["hardware_key"]), site(None, "1"), (280, 280))
    yield Line(star["model"], "MWh, devices", "hours x 280 W", float(star["energy_mwh"]),
               found.machines_kwh.times(1e-3))  # fmt: skip
    for row_id in ("T00020", "T00042"):
        row = known[row_id]
        usd = money(_hours(row), device_price(find_device(row["hardware_key"]), usd_per_hour=2.0))
        yield Line(row["model"], "USD", "hours x 2 USD", float(row["cost_usd"]), usd)


def _hours(row: dict[str, str]) -> Estimate:
    return Estimate.exact(int(float(row["gpu_hours"])), "h")


def main(data: Path) -> None:
    """Prints the table and writes it."""
    with (data / "perf/training.csv").open(encoding="utf-8") as file:
        found = list(lines(list(csv.DictReader(file))))
    head = ("| run | what | the published figure is | published | predicted | error | inside the interval |\n"
            "| --- | --- | --- | ---: | ---: | ---: | --- |")  # fmt: skip
    text = "\n".join([head, *map(str, found)])
    page = ACCURACY.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    ACCURACY.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
