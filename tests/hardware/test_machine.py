"""Is a machine's layout a product of its devices, and is every number of it one that a machine can have?"""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import UnitError
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.machine import MOST_DEVICES, machine

PARTS = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel")


@pytest.mark.parametrize(
    "devices", [0, -1, MOST_DEVICES + 1, 10**99, -(10**99), pytest.param(10**5000, id="long"), 1.5, float("inf")]
)
def test_numbers_of_devices_that_no_machine_has(devices: Any) -> None:
    with pytest.raises(UnitError, match=r"devices.*from 1 to 100,000") as raised:
        machine(find_device("h100-sxm"), devices)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("number", [0, -1, -2, 10**99])
def test_numbers_of_parallelism_that_no_machine_has(part: str, number: int) -> None:
    layout: dict[str, Any] = {part: number}
    with pytest.raises(UnitError, match=r"parallelism.*from 1 to 100,000"):
        machine(find_device("h100-sxm"), 4, **layout)
    with pytest.raises(UnitError):
        machine(find_device("h100-sxm"), 4, tensor_parallel=-2, pipeline_parallel=-2)


def test_layouts() -> None:
    card = find_device("h100-sxm")
    assert machine(card, MOST_DEVICES).tensor_parallel == MOST_DEVICES
    found = machine(card, 8, tensor_parallel=2, pipeline_parallel=2, data_parallel=2, expert_parallel=4)
    assert (found.devices, found.expert_parallel) == (8, 4)
    wrong: list[dict[str, Any]] = [
        {"tensor_parallel": 3}, {"expert_parallel": 3}, {"data_parallel": 8, "pipeline_parallel": 2}]  # fmt: skip
    for layout in wrong:
        with pytest.raises(UnitError):
            machine(card, 8, **layout)


def test_the_command_line_refuses_them() -> None:
    for text in ("1e99", "0", "-1"):
        result = CliRunner().invoke(main, ["fit", "llama-3.2-1b", "--on", "h100-sxm", "--devices", text])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
