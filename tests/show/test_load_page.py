"""The capacity page: the numbers of the load in it, marks where they belong, nothing off the page or from outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.load_curve import curve, knee
from weighbridge.loading import Load, load
from weighbridge.predict.traffic import Lengths, Traffic
from weighbridge.service_level import Limit
from weighbridge.show import chart, load_page, load_pictures, loads
from weighbridge.show.plans import amount, figure

SVG = "{http://www.w3.org/2000/svg}"
LIMITS = (Limit("ttft", 1.0), Limit("tpot", 0.06), Limit("e2e", 12.0))
WIDE = Lengths(prompt_tokens=512, output_tokens=128, prompt_cv=0.5, output_cv=0.7)
ONE_TOKEN = Lengths(prompt_tokens=512, output_tokens=1)


@cache
def case(name: str) -> Load:
    source, device, options = CASES[name]
    return load(source, device, **options)


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sample": ("llama-3.1-8b", "h100-sxm", {"rate": 80.0, "limits": LIMITS, "lengths": WIDE}),
    "day": ("llama-3.1-8b", "h100-sxm", {"rate": 0.5, "duration_s": 86_400.0, "peak": 2.0, "limits": LIMITS,
                                         "percent": 90.0, "lengths": WIDE, "availability": 0.999}),
    "clients": ("llama-3.1-8b", "rtx-4090", {"clients": 8, "think_s": 5.0, "weights": "q4_k_m"}),
    "too much": ("llama-3.1-8b", "h100-sxm", {"rate": 200.0, "replicas": 1,
                                              "limits": (Limit("ttft", 0.010), Limit("e2e", 0.020))}),
    "one token": ("llama-3.1-8b", "h100-sxm", {"rate": 3.0, "lengths": ONE_TOKEN,
                                               "limits": (Limit("tpot", 0.05), Limit("e2e", 1.0))}),
    "no price": ("llama-3.1-8b", "apple-m2-max", {"rate": 0.3, "weights": "q4_k_m"}),
}  # fmt: skip


def pictures(page: str) -> dict[str, ET.Element]:
    found = [ET.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", page, re.DOTALL)]
    return {root.attrib["aria-label"]: root for root in found}


def titles(root: ET.Element) -> list[str]:
    return [title.text or "" for title in root.iter(f"{SVG}title")]


def marked(root: ET.Element, name: str) -> tuple[str, float, float]:
    """The words of a mark above a plot, the place of its disc, and of the line down from it."""
    for group in root.iter(f"{SVG}g"):
        title, disc, down = (group.find(f"{SVG}{tag}") for tag in ("title", "circle", "line"))
        if title is not None and disc is not None and down is not None and (title.text or "").startswith(f"{name}: "):
            return title.text or "", float(disc.attrib["cx"]), float(down.attrib["x1"])
    raise AssertionError(name)


def rows_of(page: str, head: str) -> list[list[str]]:
    body = page.split(f"<h3>{head}")[1].split("</table>")[0].split("<tbody>")[1]
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in body.split("<tr>")[1:]]


@pytest.mark.parametrize("name", CASES)
def test_the_page_is_whole_and_stays_within_itself(name: str) -> None:
    page = load_page.page(case(name))
    assert "<script" not in page and "href" not in page and "url(" not in page and "src=" not in page
    assert page.count("prefers-color-scheme:dark") >= 4
    for label, root in pictures(page).items():
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert not re.search(r"\b(nan|inf)\b", ET.tostring(root, encoding="unicode")), label
        for element in root.iter():
            for key, most in (("x", width), ("x1", width), ("x2", width), ("cx", width),
                              ("y", height), ("y1", height), ("y2", height), ("cy", height)):  # fmt: skip
                assert -10 <= float(element.attrib.get(key, 0)) <= most, (label, element.attrib)
            for point in element.attrib.get("points", "").split():
                x, y = map(float, point.split(","))
                assert chart.LEFT <= x <= chart.WIDTH - chart.RIGHT and chart.TOP <= y <= height, (label, point)


@pytest.mark.parametrize("name", CASES)
def test_words_do_not_lie_on_each_other(name: str) -> None:
    for label, root in pictures(load_page.page(case(name))).items():
        boxes = []
        for element in root.iter(f"{SVG}text"):
            width = 6.2 * len(element.text or "") * float(element.attrib["font-size"]) / 13
            left = float(element.attrib["x"])
            left -= {"start": 0.0, "middle": width / 2, "end": width}[element.attrib.get("text-anchor", "start")]
            boxes.append((left, left + width, float(element.attrib["y"]), element.text))
            assert left >= 0 and left + width <= chart.WIDTH + 10, (label, element.text)
        for place, (left, right, y, words) in enumerate(boxes):
            for start, end, other, more in boxes[place + 1 :]:
                assert abs(y - other) >= 11 or left >= end or start >= right, (label, words, more)


@pytest.mark.parametrize("name", CASES)
def test_tables_are_those_of_the_terminal(name: str) -> None:
    found = case(name)
    page = load_page.page(found)
    assert loads.load_words(found) in unescape(page)
    assert rows_of(page, "What users wait") == [list(row) for row in loads.latency_rows(found)]
    assert rows_of(page, "Machines") == [list(row) for row in loads.machine_rows(found)]
    if found.limits:
        assert rows_of(page, "Limits for ") == [list(row) for row in loads.limit_rows(found)]
    if loads.cost_rows(found):
        assert rows_of(page, "Cost<") == [list(row) for row in loads.cost_rows(found)]
    if loads.energy_rows(found):
        assert rows_of(page, "Energy and carbon") == [list(row) for row in loads.energy_rows(found)]
    assert all(note in unescape(page) for note in found.notes)


def test_marks_are_the_numbers_of_the_load_at_their_places() -> None:
    """Places are held against the axis that the numbers below the plot draw."""
    found = case("sample")
    bend = knee(curve(found))
    assert bend is not None and found.capacity is not None
    expected = {"load of one replica": (found.traffic.rate / found.replicas, figure(found.rate_of_one)),
                "knee": (bend, figure(bend)),
                "within the limits": (found.capacity.value, amount(found.capacity)),
                "at most": (found.bearable.value, amount(found.bearable))}  # fmt: skip
    shown = pictures(load_page.page(found))
    for picture in ("Latency over load", "Cost over load"):
        ticks = ticks_below(shown[picture])
        (x0, v0), (x1, v1) = ticks[0], ticks[-1]
        for name, (value, words) in expected.items():
            said, disc, down = marked(shown[picture], name)
            assert said == f"{name}: {words}"
            assert value is not None
            assert disc == down == pytest.approx(x0 + (value - v0) * (x1 - x0) / (v1 - v0), abs=0.2), name


def ticks_below(root: ET.Element) -> list[tuple[float, float]]:
    """Places and numbers of the marks of the lower axis."""
    texts = [element for element in root.iter(f"{SVG}text") if element.attrib.get("text-anchor") == "middle"]
    numbers = [element for element in texts if re.fullmatch(r"[\d.,]+", element.text or "")]
    lowest = max(float(element.attrib["y"]) for element in numbers)
    return [(float(element.attrib["x"]), float((element.text or "").replace(",", "")))
            for element in numbers if float(element.attrib["y"]) == lowest]  # fmt: skip


def test_curves_have_the_points_of_the_simulations() -> None:
    found = case("day")
    points = curve(found)
    said = titles(pictures(load_page.page(found))["Latency over load"])
    for percent in ("p50", "p90", "p99"):
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            for point in points[::6]:
                value = chart.people(point.seconds[name][percent], "s")
                assert (
                    f"{loads.MEASURES[name]}, {percent} at {figure(point.requests_per_s)} requests/s: {value}" in said
                )
    assert not any(", p95" in title for title in said), "limits are for 90% of the requests"
    assert points[0].requests_per_s < points[-1].requests_per_s < (found.bearable.value or 0.0)
    assert "limit: time per output token up to 60 ms for 90%" in said


def test_the_cost_falls_with_the_load_as_one_over_it() -> None:
    """A machine costs as much whatever it does: twice the requests are half the cost of each."""
    points = curve(case("sample"))
    cost = [point.usd_per_million_output_tokens or 0.0 for point in points]
    rates = [point.requests_per_s for point in points]
    middle = len(points) // 2
    assert cost[0] / cost[middle] == pytest.approx(rates[middle] / rates[0], rel=0.1)


def test_the_day_is_drawn_and_counted_hour_by_hour() -> None:
    found = case("day")
    hours = found.hours()
    page = load_page.page(found)
    shown = pictures(page)["Over time"]
    said = titles(shown)
    for hour in hours:
        assert f"requests/s from hour {hour['start_s'] / 3600:g}: {figure(hour['requests_per_s'])}" in said
        assert f"replicas needed from hour {hour['start_s'] / 3600:g}: {figure(hour['replicas_needed'])}" in said
    assert len(hours) == 24 and f"simulated with {found.replicas}" in said
    busiest = max(hours, key=lambda hour: hour["requests_per_s"])
    assert 10 <= busiest["start_s"] / 3600 <= 13, "the quietest hour comes first, the busiest twelve hours later"
    assert marked(pictures(page)["Latency over load"], "in its busiest hour")[0].endswith(
        figure(busiest["requests_per_s"] / found.replicas))  # fmt: skip
    heights = [float(bar.attrib["height"]) for bar in shown.iter(f"{SVG}rect") if bar.attrib.get("class") == "w-f-blue"]
    rates = [hour["requests_per_s"] for hour in hours]
    assert heights == pytest.approx([heights[0] * rate / rates[0] for rate in rates], abs=0.6)
    assert "<details>" in page and page.count("<td>23</td>") == 1
    assert "99.9000%" in page and "failures are not simulated" in page


@pytest.mark.parametrize("name", ["sample", "clients", "too much"])
def test_what_has_no_hours_has_no_picture_of_them(name: str) -> None:
    page = load_page.page(case(name))
    assert "Over time" not in page and "<details>" not in page
    assert load_pictures.hours_svg(case(name)) == ""


def test_waits_spread_as_they_were_simulated() -> None:
    found = case("sample")
    root = pictures(load_page.page(found))["How waits spread"]
    said = titles(root)
    for name in ("ttft_s", "e2e_s"):
        for percent in loads.percents(found):
            assert f"{loads.MEASURES[name]}, {percent}: {amount(found.latency[name][percent])} s" in said
    lines = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    for line in lines:
        x, y = (np.array([float(point.split(",")[axis]) for point in line]) for axis in (0, 1))
        assert (np.diff(x) >= 0).all() and (np.diff(y) <= 0).all(), "a share of all never falls"


def test_too_much_load_is_off_the_edge_and_said() -> None:
    found = case("too much")
    root = pictures(load_page.page(found))["Latency over load"]
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert f"load of one replica: {figure(found.rate_of_one)}, beyond the right edge" in words
    assert "within the limits: 0" in words
    assert any(word.endswith(" s") and float(word[:-2].replace(",", "")) >= 100 for word in words if word[0].isdigit())


def test_answers_of_one_token_have_no_time_between_tokens() -> None:
    page = load_page.page(case("one token"))
    assert "no answer has a second token" in page
    assert not any(
        title.startswith("time per output token, p") for title in titles(pictures(page)["Latency over load"])
    )


def test_an_unknown_price_is_said_in_place_of_a_picture() -> None:
    page = load_page.page(case("no price"))
    assert "nothing to draw: no price of this device is known" in page and "<h3>Cost</h3>" not in page
    assert ["price", "unknown", "specified", "no price of this device is known"] in rows_of(page, "What it rests on")


def test_assumptions_have_their_numbers_and_bases() -> None:
    rows = {row[0]: row[1:] for row in rows_of(load_page.page(case("sample")), "What it rests on")}
    assert rows["most sequences in a machine"] == ["256", "assumed", "vllm starts with it by default"]
    assert rows["most tokens of a step"] == ["8,192", "assumed", "vllm starts with it by default"]
    assert rows["which replica a request goes to"][1] == "assumed"
    assert re.fullmatch(r"standard deviation: 0\.(6[5-9]|7[0-5]) times the mean", rows["lengths of answers"][2])
    value, basis, note = rows["price of all machines"]
    found = case("sample")
    price = found.engine.plan.machine.device.price_usd_per_h
    assert price is not None
    assert value == f"{figure(price * found.replicas)} USD an hour" and basis == "specified"
    assert note.startswith("https://") and re.search(r"read on \d{4}-\d\d-\d\d$", note)
    low, high = found.engine.spread["tpot"]
    assert rows["how unsure steps are"][0] == f"{low:.2f} to {high:.2f} times the middle"
    assert {row[1] for row in rows.values()} <= {"modelled", "assumed", "specified", "measured"}
    asked = load("llama-3.1-8b", "h100-sxm", rate=5.0, replicas=1, max_sequences=32, step_tokens=1024,
                 lengths=Lengths(prompt_tokens=512, output_tokens=16, shared_tokens=256))  # fmt: skip
    rows = {row[0]: row[1:] for row in rows_of(load_page.page(asked), "What it rests on")}
    assert rows["most sequences in a machine"][:2] == ["32", "modelled"]
    assert rows["most tokens of a step"][0] == "1,024"
    assert rows["tokens of prompts in the cache before"][0] == "256 on average"
    assert "which replica a request goes to" not in rows
    clients = {row[0]: row[1:] for row in rows_of(load_page.page(case("clients")), "What it rests on")}
    assert clients["arrivals"][::2] == ["8 clients, each after its answer", "they ask again after 5 s"]


def test_a_stopped_run_has_a_page() -> None:
    """An interrupt in the second block of the only replica leaves the requests of the first."""

    def stop(done: int, total: int) -> None:
        if done >= 20_000 and total > 30_000:
            raise KeyboardInterrupt

    found = load("llama-3.1-8b", "h100-sxm", rate=10.0, replicas=1, duration_s=4500.0, progress=stop,
                 lengths=Lengths(prompt_tokens=64, output_tokens=2))  # fmt: skip
    assert found.outcome.is_stopped and 20_000 <= len(found.outcome) < 45_000
    page = load_page.page(found)
    assert f"stopped after {len(found.outcome):,} of 45,000 requests" in page
    assert len(pictures(page)) == 3, "it was stopped in the first hour"


def test_a_log_of_two_requests_has_a_page() -> None:
    two = Traffic(arrival_s=np.array([0.0, 1.5]), prompt_tokens=np.array([100, 300]), output_tokens=np.array([10, 20]))
    page = load_page.page(load("llama-3.1-8b", "h100-sxm", traffic=two))
    assert set(pictures(page)) == {"Latency over load", "How waits spread", "Cost over load"}


def test_names_of_strangers_are_escaped() -> None:
    found = case("sample")
    evil = '<script>alert(1)</script>\x1b[31m&"'
    plan = replace(found.engine.plan, source=evil)
    page = load_page.page(replace(found, engine=replace(found.engine, plan=plan), notes=(evil,)))
    assert "alert(1)" in page and "<script" not in page and "\x1b" not in page
    assert len(pictures(page)) == 3


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    target = tmp_path / "load.html"
    options = ["load", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "20", "--slo", "ttft=2s", "--report", str(target)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    refused = CliRunner().invoke(main, [*options[:-1], str(tmp_path)])
    assert refused.exit_code == 2 and "Traceback" not in refused.output
