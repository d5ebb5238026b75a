"""Is a file of one's own devices read as it is written, and is what no device can have refused with a sentence?"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import ConfigError, FormatError, SourceError
from weighbridge.hardware.catalogue import FOLDER, devices, read

GOOD = """
[my-card]
title = "My card"
vendor = "Mine"
kind = "gpu"
source = "its data sheet"
checked = 2026-11-22
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "devices.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_device_of_ones_own(tmp_path: Path) -> None:
    facts = 'memory_bytes = 24e9\nmemory_bytes_per_s = 5e11\nflops_per_s = {fp32 = 1e13}\naliases = ["Mine 1"]\n'
    (card,) = read(written(tmp_path, GOOD + facts))
    assert (card.memory_bytes, card.memory_bytes_per_s, card.flops_per_s) == (24_000_000_000, 5e11, {"fp32": 1e13})
    assert isinstance(card.memory_bytes, int) and card.aliases == ("Mine 1",)


def test_the_catalogue_s_own_files_are_valid() -> None:
    found = [device for path in sorted(FOLDER.glob("*.toml")) for device in read(path)]
    assert tuple(found) == devices()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("memory_bytes_per_s = 0", "positive finite number"), ("memory_bytes_per_s = -5e9", "positive finite number"),
        ('memory_bytes_per_s = "fast"', "positive finite number"), ("memory_bytes_per_s = inf", "positive finite"),
        ("memory_bytes_per_s = nan", "positive finite number"), ("memory_bytes_per_s = true", "positive finite"),
        ("memory_bytes_per_s = 1e300", "positive finite number"), ("memory_bytes = 0", "whole number above zero"),
        ("memory_bytes = 1.5", "whole number above zero"), ("memory_bytes = inf", "whole number above zero"),
        ("memory_bytes = nan", "whole number above zero"), (f"memory_bytes = 1{'0' * 400}", "whole number above"),
        ("cores = -4", "whole number above zero"), ('tdp_w = "a lot"', "positive finite number"),
        ("flops_per_s = {fp17 = 1e12}", "fp32, bf16, fp16"), ('flops_per_s = {fp32 = "x"}', "fp32, bf16, fp16"),
        ("flops_per_s = {fp32 = 0}", "positive finite numbers"), ("flops_per_s = 1e12", "a table of positive"),
        ('knd = "gpu"', "such as kind"), ('name = "x"', "a key that devices have"), ("measured = 1", "a key that"),
        ('aliases = "one"', "a list of texts"), ("notes = [1]", "a list of texts"), ("link = 3", "a text in quotes"),
        ('sources = {speed = "x"}', "a table of texts"), ("price_usd_per_h = -1", "positive finite number"),
    ],
)  # fmt: skip
def test_what_no_device_has_is_refused(tmp_path: Path, line: str, expected: str) -> None:
    path = written(tmp_path, GOOD + line + "\n")
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert line.split()[0] in raised.value.read and "my-card" in raised.value.read and str(path) in raised.value.read
    assert expected in raised.value.expected and len(str(raised.value)) < 1000
    result = CliRunner().invoke(main, ["fit", "llama-3.2-1b", "--on", "my-card", "--devices-file", str(path)])
    assert result.exit_code == 2, result.output
    assert "expected" in result.stderr and "Traceback" not in result.stderr and "__init__" not in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('kind = "gpu"', 'kind = "toaster"', "one of gpu"), ('kind = "gpu"', "kind = []", "one of gpu"),
        ('kind = "gpu"\n', "", "kind"), ("2026-11-22", '"today"', "a date"),
        ("2026-11-22", "2026-11-22T10:00:00", "a date"), ('"My card"', "7", "a text"),
    ],
)  # fmt: skip
def test_what_must_be_there(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(written(tmp_path, GOOD.replace(old, new)))
    assert expected in raised.value.expected


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no TOML"):
        read(written(tmp_path, "[half"))
    with pytest.raises(SourceError):
        read(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="a table for each device"):
        read(written(tmp_path, "x = 3\n"))
    twice = GOOD + GOOD.replace("my-card", "other")
    with pytest.raises(ConfigError, match="rename one of them"):
        read(written(tmp_path, twice))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError):
        read(tmp_path / "bytes.toml")
