"""The pictures of a plan: the numbers of the plan in them, nothing off the page, nothing from outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.hardware.catalogue import devices, find_device
from weighbridge.inspection import inspect
from weighbridge.planning import Plan, Question, fit
from weighbridge.show import chart, curves, memory_stack, plan_page, roofline

SVG = "{http://www.w3.org/2000/svg}"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "card": ("llama-3.1-8b", "rtx-4090", {"weights": "q4_k_m", "batch": 4}),
    "too small": ("llama-2-70b", "rtx-4090", {"weights": "q4_k_m"}),
    "served": ("mixtral-8x7b", "h100-sxm", {"devices": 2, "concurrency": 32, "context_tokens": 4096}),
    "board": ("smollm2-135m", "raspberry-pi-5", {"weights": "q8_0"}),
}


def planned(case: str) -> tuple[Plan, Question]:
    source, device, options = CASES[case]
    inspection, found = inspect(source), find_device(device)
    return fit(inspection, found, **options), Question(inspection, found, options)


def pictures(plan: Plan, question: Question) -> dict[str, str]:
    return {
        "memory": plan_page.memory_svg(plan, question),
        "roofline": roofline.svg(plan, roofline.marks(plan, question)),
        "throughput": curves.throughput_svg(plan, curves.over_batch(plan, question)),
        "latency": curves.latency_svg(plan, curves.over_context(plan, question)),
    }


def titles(svg: str) -> list[str]:
    return [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_whole_and_stay_on_the_page(case: str) -> None:
    for name, svg in pictures(*planned(case)).items():
        root = ET.fromstring(svg)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root.iter():
            for key, most in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height)):
                assert -10 <= float(element.attrib.get(key, 0)) <= most, (name, element.attrib)
        assert "prefers-color-scheme:dark" in svg
        assert "<script" not in svg and "href" not in svg and "url(" not in svg
        assert len(titles(svg)) >= 4, name
        assert "nan" not in svg and "inf" not in svg, name


@pytest.mark.parametrize("case", CASES)
def test_words_do_not_lie_on_each_other(case: str) -> None:
    """Lines of text with the width that letters of their size take at least."""
    for name, svg in pictures(*planned(case)).items():
        boxes = []
        for element in ET.fromstring(svg).iter(f"{SVG}text"):
            width = 6.2 * len(element.text or "") * float(element.attrib["font-size"]) / 13
            left = float(element.attrib["x"])
            left -= {"start": 0.0, "middle": width / 2, "end": width}[element.attrib.get("text-anchor", "start")]
            boxes.append((left, left + width, float(element.attrib["y"]), element.text))
        for place, (left, right, y, words) in enumerate(boxes):
            for start, end, other, more in boxes[place + 1 :]:
                assert abs(y - other) >= 11 or left >= end or start >= right, (name, words, more)


def test_the_stack_is_drawn_in_proportion() -> None:
    plan, question = planned("card")
    root = ET.fromstring(memory_stack.svg([memory_stack.Bar("one", plan)]))
    found = {}
    for group in root.iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and box is not None:
            found[(title.text or "").split(":")[0]] = float(box.attrib["width"])
    memory = plan.memory
    scale = found["memory of one"] / (memory.capacity_bytes or 0)
    assert found["weights"] == pytest.approx(((memory.weights_bytes.value or 0) - memory.host_bytes) * scale, abs=0.06)
    assert found["cache and state"] == pytest.approx((memory.state_bytes.value or 0) * scale, abs=0.06)
    assert sum(found[name] for name in memory_stack.PARTS) == pytest.approx(
        (memory.total_bytes.value or 0) * scale, abs=0.1)  # fmt: skip
    labels = [bar.label for bar in memory_stack.bars(plan, question)]
    assert labels[1 : 1 + len(plan.alternatives)] == [f"the same, {other.change}" for other in plan.alternatives]
    assert len(labels) == 1 + len(plan.alternatives) + 3


def test_what_does_not_fit_is_said_and_goes_over_its_memory() -> None:
    plan, question = planned("too small")
    svg = plan_page.memory_svg(plan, question)
    assert "it does NOT fit" in svg and "does not fit" in svg


def test_points_of_the_curves_are_plans_of_their_own() -> None:
    plan, question = planned("served")
    batches = curves.over_batch(plan, question)
    assert 12 <= len(batches) <= 16 and batches[0][0] == 1
    for clients, point in batches[::5]:
        alone = fit(plan.inspection, plan.machine.device, devices=2, concurrency=clients, context_tokens=4096)
        assert point.speed == alone.speed
    contexts = curves.over_context(plan, question)
    assert 12 <= len(contexts) <= 16
    context, point = contexts[7]
    assert point.service.prompt_tokens + point.service.output_tokens == context == point.service.context_tokens
    found = titles(curves.throughput_svg(plan, batches))
    assert sum(title.startswith("the whole machine at ") for title in found) == len(batches)


def test_points_lie_where_the_plan_says() -> None:
    """Decoding of a dense model in 16 bits spends 2 FLOPs on each weight of 2 bytes, less the cache that it reads."""
    plan, question = fit("llama-3.1-8b", "h100-sxm"), Question(inspect("llama-3.1-8b"), find_device("h100-sxm"), {})
    prompt, alone = roofline.marks(plan, question)
    assert 0.95 < alone.intensity < 1.05
    assert 400 < prompt.intensity < 600
    assert alone.flops_per_s == pytest.approx(2 * 7.504924672e9 / (plan.speed.tpot_s.value or 0), rel=0.05)
    many = roofline.marks(*planned("served"))
    assert many[1].intensity < many[2].intensity < many[0].intensity


def test_ceilings_of_one_height_are_one_line() -> None:
    plan = fit("llama-3.1-8b", "h100-sxm", devices=2)
    rates = plan.machine.device.flops_per_s
    assert [name for name, _ in roofline.ceilings(plan)] == ["fp8, int8", "bf16, fp16", "fp32"]
    assert roofline.ceilings(plan)[0][1] == 2 * rates["fp8"]


def test_unknown_facts_are_said_in_place_of_a_picture() -> None:
    bare = replace(find_device("rtx-4090"), memory_bytes_per_s=None, memory_bytes=None)
    inspection = inspect("llama-3.1-8b")
    question = Question(inspection, bare, {"weights": "q4_k_m"})
    found = pictures(fit(inspection, bare, weights="q4_k_m"), question)
    assert "there is no roof to draw" in found["roofline"]
    assert "nothing to draw: the memory bandwidth of" in found["throughput"]
    assert "nothing to draw: the memory bandwidth of" in found["latency"]
    assert "of an unknown memory: unknown" in found["memory"]


def test_neighbours_are_of_the_same_class_and_of_other_sizes() -> None:
    for device in devices():
        for other in memory_stack.neighbours(device):
            assert other.kind == device.kind and other.memory_bytes != device.memory_bytes
            assert other.memory_bytes_per_s is not None


def test_names_are_written_as_text() -> None:
    plan, question = planned("board")
    named = replace(plan, source='<b onclick="x">&')
    for svg in (*pictures(named, question).values(), plan_page.page(named, question)):
        assert "<b onclick" not in svg
    ET.fromstring(plan_page.memory_svg(named, question))


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    arguments = ["fit", "smollm2-135m", "--on", "raspberry-pi-5", "--weights", "q8_0"]
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    done = CliRunner().invoke(main, [*arguments, "--svg", str(svg), "--html", str(html)])
    assert done.exit_code == 0, done.output
    text = html.read_text()
    assert svg.read_text() in text and text.count("<svg") == 4
    assert not re.search(r'(src|href)="|<script|@import', text)
    assert "Cost and energy" in text and "Time per output token" in text.replace("time per", "Time per")
    same = CliRunner().invoke(main, [*arguments, "--svg", str(svg), "--html", str(svg)])
    assert same.exit_code == 2 and "another file" in same.output


def test_units_for_people() -> None:
    assert chart.people(1.979e15, "FLOP/s") == "1.98 PFLOP/s"
    assert chart.people(999.9e3, "B") == "1 MB"
    assert chart.people(2345.6, "s") == "2,346 s", "nobody says kiloseconds"
    assert chart.people(0, "s") == "0 s"
