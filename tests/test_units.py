"""Words: sizes, counts, estimates, errors and the writing of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge import output_file
from weighbridge.errors import SourceError, UnitError, UnknownNameError
from weighbridge.estimate import Basis, Estimate
from weighbridge.units import format_bytes, format_count, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("80MB", 80 * 10**6), ("80 mb", 80 * 10**6), ("1.5GiB", 3 * 2**29), ("2TB", 2 * 10**12),
     ("1e9B", 10**9), ("1,000,000", 10**6), ("0.5KiB", 512), ("12 bytes", 12)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["80Mb", "1Gbit", "8 gibit", "5 Kb", "3 Gb"])
def test_bits_are_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(UnitError, match="bits"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "1.5", "1 GB/s", "80 m", "3 tokens", "1e400GB", "nan", "٣", "1..2GB"]
)
def test_other_units_and_nonsense_are_refused(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_bytes(text)
    assert caught.value.action


@pytest.mark.parametrize(
    ("text", "count"),
    [("1.3B", 1_300_000_000), ("50k", 50_000), ("7", 7), ("1.8T", 18 * 10**11), ("128_256", 128_256)],
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["1GB", "1.5", "2 GiB", "7 b/s", "ten", "1.33333k"])
def test_sizes_are_not_taken_for_counts(text: str) -> None:
    with pytest.raises(UnitError):
        parse_count(text)


@given(st.integers(0, 10**18))
def test_whole_bytes_survive(size: int) -> None:
    assert parse_bytes(str(size)) == size == parse_bytes(f"{size}B") == parse_bytes(f"{size:,}")


def test_sizes_for_people_name_both_units() -> None:
    assert format_bytes(137_953_296_384) == "137.95 GB (128.48 GiB)"
    assert [format_bytes(x) for x in (999, 10**6, 10**9, 10**12)] == [
        "999 B", "1.00 MB (0.95 MiB)", "1.00 GB (0.93 GiB)", "1.00 TB (0.91 TiB)"]  # fmt: skip
    assert [format_count(x) for x in (0, 999, 1000, 134_515_008, 1_571_308_810_240)] == [
        "0", "999", "1K", "134.5M", "1.571T"]  # fmt: skip


def test_a_sum_carries_the_weakest_basis_and_adds_its_bounds() -> None:
    parts = [Estimate.exact(10, "B"), Estimate(5, 4, 7, "B", Basis.MEASURED), Estimate(1, 0, 9, "B", Basis.ASSUMED)]
    total = Estimate.sum(parts)
    assert (total.value, total.low, total.high, total.basis) == (16, 14, 26, Basis.ASSUMED)
    assert Estimate.sum(parts[:2]).basis is Basis.MEASURED
    assert [basis.value for basis in sorted(Basis, key=lambda b: b.strength)] == [
        "exact", "specified", "measured", "modelled", "assumed"]  # fmt: skip


def test_unknown_is_none_with_a_note_and_spreads() -> None:
    unknown = Estimate(None, None, None, "B", Basis.ASSUMED, "not published")
    total = Estimate.sum([Estimate.exact(1, "B"), unknown])
    assert total.value is None and "not published" in total.note
    assert total.to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "unit": "B",
        "basis": "assumed",
        "note": total.note,
    }
    with pytest.raises(AssertionError):
        Estimate(None, None, None, "B", Basis.ASSUMED)


@pytest.mark.parametrize("bounds", [(5, 6, 7), (5, 1, 4), (5, None, 7), (None, 1, 2)])
def test_bounds_hold_the_value(bounds: tuple[float | None, float | None, float | None]) -> None:
    with pytest.raises(AssertionError):
        Estimate(*bounds, "B", Basis.MODELLED, "note")


def test_units_do_not_mix() -> None:
    with pytest.raises(ValueError, match="one unit"):
        Estimate.sum([Estimate.exact(1, "B"), Estimate.exact(1, "J")])
    with pytest.raises(ValueError, match="one unit"):
        Estimate.sum([])


def test_errors_say_what_was_read_expected_and_to_do() -> None:
    error = UnknownNameError("encoding", "q4_k_x", ["q4_k", "q5_k", "fp16"], "look it up")
    assert error.exit_code == 2
    assert (error.nearest[0], error.action) == ("q4_k", "look it up")
    assert "q4_k_x" in error.read and "q4_k" in error.expected
    assert len(str(UnknownNameError("encoding", "x" * 10_000, ["a"], "b"))) < 400


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.svg"
    output_file.write_text(path, "old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SourceError, match="No space left"):
        output_file.write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.svg"]


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    output_file.write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
