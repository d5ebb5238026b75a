"""Where bytes come from: ranges, neighbours, and doubles that count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats.byte_source import LocalFile, LocalFolder, MemoryFile, MemoryFolder, file_name


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 11), (10, 1), (11, 0), (2**63, 1), (5, 2**70)])
def test_ranges_outside_the_file_are_refused_before_anything_is_read(tmp_path: Path, offset: int, length: int) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    for file in (LocalFile(tmp_path / "a"), MemoryFile("a", b"0123456789")):
        with pytest.raises(FormatError):
            file.read(offset, length)
        assert file.read(0, 10) == b"0123456789" and file.read(10, 0) == b"" and file.read(3, 2) == b"34"


def test_a_file_that_shrinks_meanwhile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    file = LocalFile(tmp_path / "a")
    (tmp_path / "a").write_bytes(bytes(50))
    with pytest.raises(SourceError, match="was changed while it was read"):
        file.read(0, 100)
    (tmp_path / "a").unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        file.read(0, 10)


def test_a_file_that_changes_between_reads_is_an_error_wherever_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    os.utime(path, ns=(0, 10**18))
    folder = LocalFolder(tmp_path)
    file = folder.open("a")
    assert file.read(0, 10) == bytes(10) and file.read(90, 10) == bytes(10)
    with path.open("r+b") as writer:
        writer.write(b"new")
    for offset in (0, 90):
        with pytest.raises(SourceError, match="was changed while it was read"):
            file.read(offset, 10)
    with pytest.raises(SourceError, match="was changed"):
        folder.open("a").read(0, 10)
    assert LocalFolder(tmp_path).open("a").read(0, 4) == b"new\0"


def test_a_file_that_another_takes_the_place_of_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * 100)
    os.utime(tmp_path / "b", ns=(0, 10**18))
    file = LocalFile(tmp_path / "a")
    (tmp_path / "b").replace(tmp_path / "a")
    with pytest.raises(SourceError, match="was changed"):
        file.read(0, 10)


def test_a_change_while_a_range_is_read_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    file = LocalFile(path)
    look = os.fstat

    def write_first(handle: int) -> os.stat_result:
        os.utime(path, ns=(0, 10**18))
        return look(handle)

    monkeypatch.setattr(os, "fstat", write_first)
    with pytest.raises(SourceError, match="was changed"):
        file.read(0, 100)


def test_reading_leaves_no_handle_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("this system does not list the handles of a process")
    before = len(list(handles.iterdir()))
    files = [LocalFile(tmp_path / "a") for _ in range(50)]
    assert all(file.read(0, 100) == bytes(100) for file in files)
    assert len(list(handles.iterdir())) == before


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\\b", "C:a", "a\0b", "a\nb"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    for folder in (LocalFolder(tmp_path), MemoryFolder({"a": b""})):
        with pytest.raises(FormatError, match="points outside"):
            folder.open(name)


def test_missing_and_unreadable_files_say_so(tmp_path: Path) -> None:
    for folder in (LocalFolder(tmp_path), MemoryFolder({})):
        assert list(folder.names()) == []
        with pytest.raises(SourceError):
            folder.open("a")
    with pytest.raises(SourceError, match="cannot be listed"):
        list(LocalFolder(tmp_path / "none").names())
    with pytest.raises(SourceError):
        LocalFile(tmp_path)


def test_the_double_counts_and_can_claim_to_be_larger(tmp_path: Path) -> None:
    file = MemoryFile("models/a.gguf", b"abc", size=10**15)
    assert (file.read(0, 2), file.read(2, 1), file.requests, file.bytes_read, file.size) == (b"ab", b"c", 2, 3, 10**15)
    with pytest.raises(AssertionError, match="double lacks"):
        file.read(0, 4)
    assert file_name(file) == "a.gguf" == file_name(MemoryFile("models\\a.gguf", b""))
    (tmp_path / "b").write_bytes(b"")
    assert list(LocalFolder(tmp_path).names()) == ["b"] and file_name(LocalFolder(tmp_path).open("b")) == "b"
