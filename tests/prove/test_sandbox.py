"""Is a program told right from wrong, and is it kept from the machine whatever it tries?"""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from weighbridge.errors import ConfigError
from weighbridge.prove import sandbox
from weighbridge.prove.sandbox import Outcome, isolation, run


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was found out about this machine is found out anew."""
    isolation.cache_clear()
    yield
    isolation.cache_clear()


def alive(word: str) -> list[int]:
    """The processes with a word on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if word.encode() in words:
            found.append(int(place.parent.name))
    return found


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "program",
    [
        "", "assert 1 + 1 == 2", "print('x' * 100_000)", "import os\nassert os.listdir() == []",
        "if __name__ != '__main__':\n    raise ValueError",
        "import collections, datetime, decimal, functools, hashlib, heapq, itertools, math, random, re, typing",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 1\nassert A() == A(1)",
        "import time\ntime.sleep(0.01)\nassert time.time() > 0",
    ],
)  # fmt: skip
def test_a_program_that_runs_to_its_end_passes(program: str) -> None:
    assert run(program) == Outcome(True, "passed")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2, 'one'", "failed: AssertionError: one"), ("x = (", "failed: SyntaxError"),
        ("import sys\nsys.exit(0)", "failed: SystemExit: 0"), ("raise KeyboardInterrupt", "failed: KeyboardInterrupt"),
        ("import os\nos._exit(0)", "failed: it ended before its tests did (exit status 0)"),
        ("import ctypes\nctypes.string_at(0)", "failed: it ended before its tests did (signal 11)"),
        ("input()", "failed: EOFError"), ("x = '\ud800'", "failed: UnicodeEncodeError"), ("\0", "failed: "),
        ("raise ValueError('a\\n\\x1b[2Jb')", "failed: ValueError: a \\x1b[2Jb"),
        ("class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E", "failed: it ended before"),
        ("def f():\n    f()\nf()", "failed: RecursionError"),
        ("import os\nfor n in range(32):\n    try:\n        os.write(n, b'passed')\n    except OSError:\n        pass\n"
         "os._exit(0)", "failed: it ended before"),
        ("import os\nos.closerange(0, 32)\nwhile True:\n    pass", "failed: it ended before"),
    ],
)  # fmt: skip
def test_a_program_that_does_not_is_told_why(program: str, reason: str) -> None:
    found = run(program)
    assert not found.passed and found.reason.startswith(reason) and found.reason.isprintable()


@pytest.mark.usefixtures("kept")
def test_reasons_are_short() -> None:
    assert len(run("raise ValueError('x' * 10_000)").reason) == sandbox.MOST_REASON


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "program",
    [
        "while True:\n    pass", "while True:\n    print('x' * 10_000)", "10 ** 10 ** 10",
        "import time\ntime.sleep(60)",
        "try:\n    while True:\n        pass\nfinally:\n    while True:\n        pass",
        "import sys\nwhile True:\n    sys.stderr.write('x' * 10_000)",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n    pass",
    ],
)  # fmt: skip
def test_what_does_not_end_is_ended(program: str) -> None:
    began = time.monotonic()
    assert run(program, seconds=0.7) == Outcome(False, "too slow")
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "program",
    ["x = [0] * 10 ** 9", "import mmap\nmmap.mmap(-1, 1 << 30)",
     "x = []\nwhile True:\n    x.append(str(len(x)) * 10 ** 6)"],
)  # fmt: skip
def test_memory_is_bounded(program: str) -> None:
    found = run(program)
    assert not found.passed and "memory" in found.reason


ATTEMPTS = """
import ctypes, os, signal, socket, subprocess, threading
def refused(attempt, *words, **named):
    try:
        attempt(*words, **named)
    except (OSError, RuntimeError):
        return
    raise AssertionError(f"{attempt} is not refused")
"""


@pytest.mark.usefixtures("kept")
def test_the_network_is_cut_off(tmp_path: Path) -> None:
    place = str(tmp_path / "socket")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(place)
        local.listen()
        port = server.getsockname()[1]
        assert run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))").reason.startswith("failed: Perm")
        assert run(f"import socket\nsocket.socket(socket.AF_UNIX).connect({place!r})").reason.startswith("failed: Perm")
        for waiting in (server, local):
            waiting.setblocking(False)
            with pytest.raises(BlockingIOError):
                waiting.accept()
    every = "for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):\n    refused(socket.socket, 2, kind)"
    assert run(ATTEMPTS + every + "\nrefused(socket.socketpair)") == Outcome(True, "passed")


@pytest.mark.usefixtures("kept")
def test_files_outside_are_neither_read_nor_changed(tmp_path: Path) -> None:
    kept_file = tmp_path / "kept"
    kept_file.write_text("secret")
    kept_file.chmod(0o644)
    tried = f"""
    for place in ({str(kept_file)!r}, "/etc/passwd", "/proc/self/environ", "/proc/1/cmdline", os.path.expanduser("~")):
        refused(os.listdir if os.path.isdir(place) else open, place)
    for place in ({str(tmp_path)!r}, ".", "/tmp", "/dev/shm", os.path.dirname(os.__file__)):
        refused(open, os.path.join(place, "new-of-weighbridge"), "w")
        refused(os.mkdir, os.path.join(place, "new-of-weighbridge"))
        refused(os.open, place, os.O_TRUNC)
    for change in (os.remove, os.chmod, os.truncate, os.rename, os.symlink, os.chown, os.utime):
        words = {{os.chmod: (0,), os.truncate: (0,), os.chown: (0, 0), os.remove: (), os.utime: ()}}
        refused(change, {str(kept_file)!r}, *words.get(change, ({str(tmp_path / "other")!r},)))
    refused(os.chdir, "/")
    """
    assert run(ATTEMPTS + "if True:" + tried) == Outcome(True, "passed")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and kept_file.read_text() == "secret"
    assert kept_file.stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("kept")
def test_other_processes_are_out_of_reach() -> None:
    libc = "ctypes.CDLL(None)"
    tried = f"""
    for number in (signal.SIGKILL, signal.SIGTERM, 0):
        refused(os.kill, os.getppid(), number)
        refused(os.kill, {os.getpid()}, number)
        refused(os.killpg, {os.getpgrp()}, number)
    refused(os.setpriority, os.PRIO_PROCESS, {os.getpid()}, 19)
    import fcntl
    refused(fcntl.fcntl, 0, 8, {os.getpid()})
    for call in (lambda: {libc}.ptrace(16, {os.getpid()}, 0, 0), lambda: {libc}.shmget(0, 4096, 0o1600),
                 lambda: {libc}.memfd_create(b"x", 0), lambda: {libc}.unshare(0x10000000),
                 lambda: {libc}.mount(b"/", b"/", None, 0, None), lambda: {libc}.syscall(425, 4, bytes(120))):
        assert call() == -1
    """
    assert run(ATTEMPTS + "if True:" + tried) == Outcome(True, "passed")


@pytest.mark.usefixtures("kept")
def test_every_system_call_that_is_not_listed_is_refused() -> None:
    column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    listed = {numbers[column] for numbers in (*sandbox._CALLS.values(), sandbox._OPENAT, sandbox._FCNTL)}
    probes = {335, 336}  # uretprobe and uprobe of x86-64 pass every filter, and do nothing but end who calls them
    others = [number for number in range(600) if number not in listed | probes]
    tried = f"""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in {[*others, 0x40000000, 0x40000029]}:
        ctypes.set_errno(0)
        assert libc.syscall(number, 0, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1, number
    """
    assert run(ATTEMPTS + "if True:" + tried) == Outcome(True, "passed")


@pytest.mark.usefixtures("kept")
def test_no_program_starts_another_or_outlives_its_end() -> None:
    mark = str(400_000_000 + os.getpid())
    fork = "import os\nwhile True:\n    os.fork()"
    assert run(fork, memory_bytes=int(mark)).reason.startswith("failed: PermissionError")
    tried = """
    refused(os.fork)
    refused(os.posix_spawn, "/bin/sleep", ["sleep", "60"], {})
    refused(subprocess.Popen, ["sleep", "60"], start_new_session=True)
    refused(os.execv, "/bin/sleep", ["sleep", "60"])
    refused(threading.Thread(target=print).start)
    """
    assert run(ATTEMPTS + "if True:" + tried, memory_bytes=int(mark)) == Outcome(True, "passed")
    forever = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    assert run(forever, memory_bytes=int(mark), seconds=0.7) == Outcome(False, "too slow")
    assert alive(mark) == []


@pytest.mark.usefixtures("kept")
def test_a_program_ends_with_the_process_that_runs_it() -> None:
    mark = str(500_000_000 + os.getpid())
    code = f"from weighbridge.prove.sandbox import run; run('while True: pass', seconds=60, memory_bytes={mark})"
    with subprocess.Popen([sys.executable, "-c", code]) as runner:
        try:
            until = time.monotonic() + 30
            while not alive(mark) and time.monotonic() < until:
                time.sleep(0.05)
            assert alive(mark)
            time.sleep(0.5)  # so that it is cut off
        finally:
            runner.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while alive(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive(mark) == []


@pytest.mark.usefixtures("kept")
def test_its_directory_is_empty_and_is_gone_afterwards() -> None:
    reason = run("import os\nraise ValueError(os.getcwd())").reason
    scratch = Path(reason.removeprefix("failed: ValueError: "))
    assert scratch.is_absolute() and not scratch.exists()


@pytest.mark.usefixtures("kept")
def test_it_sees_nothing_of_the_environment_and_ends_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    assert run("import os\nassert set(os.environ) <= {'PYTHONHASHSEED', 'LC_CTYPE'}, os.environ").passed
    order = "raise ValueError(list({'one', 'two', 'three', 'four', 'five', 'six'}))"
    assert run(order) == run(order)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")])
def test_on_other_machines_nothing_is_run(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ConfigError, match=f"{system} on {machine}.*expected Linux"):
        run("print()")


@pytest.mark.usefixtures("forgotten")
def test_what_cannot_be_cut_off_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def open_machine(program: str, seconds: float, memory_bytes: int) -> Outcome:
        ran.append(program)
        return Outcome(False, "failed: SystemExit: the network is not refused")

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sandbox, "_run", open_machine)
    with pytest.raises(ConfigError, match="the network is not refused"):
        run("print()")
    assert len(ran) == 1 and "the network" in ran[0]


@pytest.mark.usefixtures("kept", "forgotten")
@pytest.mark.parametrize("missing", ['call("syscall", 446', 'call("prctl", 22'])
def test_a_kernel_that_does_not_help_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    source = Path(sandbox.__file__).read_text()
    assert source.count(missing) == 1
    weaker = tmp_path / "weaker.py"
    weaker.write_text(source.replace(missing, missing.replace("call", "print")))
    monkeypatch.setattr(sandbox, "__file__", str(weaker))
    with pytest.raises(ConfigError, match="is not refused"):
        isolation()
