"""Does a Python program that nobody vouches for run to its end?

This file is its own starter: `run` runs it as a script, which cuts itself off from the machine and then runs the
program within. The kernel keeps it there: seccomp lets harmless system calls through and refuses all others (no
network, no other process or thread, no signals, nothing written), Landlock lets the library of Python be read and no
other file, and limits bound the memory. What a program may still learn is whether a file exists, its size and times.

A program passes when it ran to its end, which the starter tells over a pipe with a secret. A program made to fool this
very file could look for the secret in its own process, as it could give an answer that says it equals everything.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

KEPT = "seccomp and Landlock: no network, no other process, no file but Python's library, none written"
MOST_REASON = 200

_SECRET_BYTES = 32
_MOST_SAID = 1024
"""Bytes that come back from a program: few enough to be written at once."""
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""The column of the numbers below, and the number of the architecture itself (linux/audit.h)."""
_CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "lseek": (8, 62), "pread64": (17, 67), "getcwd": (79, 17),
    "stat": (4, None), "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79), "getdents64": (217, 61),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "futex": (202, 98), "sched_yield": (24, 124), "getrandom": (318, 278),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "uname": (63, 160), "sysinfo": (99, 179), "exit": (60, 93),
    "exit_group": (231, 94),
}  # fmt: skip
"""The system calls that are let through."""
_OPENAT, _WRITES = (257, 56), os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FCNTL, _LAST_HARMLESS = (72, 25), 4
"""Beyond F_SETFL are those that send signals to others and lock files."""
_CHECK = """
import decimal, json, os, random, re, socket
attempts = {"reading": lambda: open(OUTSIDE), "writing": lambda: open("here", "w"), "the network": socket.socket,
            "signals": lambda: os.kill(os.getppid(), 0), "processes": os.fork, "changing": lambda: os.chmod(".", 0)}
for name, attempt in attempts.items():
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit(name + " is not refused")
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a program ran to its end, and what kept it from that.

    Example:
        >>> Outcome(False, "too slow").passed
        False
    """

    passed: bool
    reason: str


def run(program: str, *, seconds: float = 5.0, memory_bytes: int = 512 << 20) -> Outcome:
    """Runs a program in a process that is cut off from the machine, in an empty directory of its own.

    Args:
        program: the text of the program.
        seconds: the time that it may take, the start of Python included.
        memory_bytes: the address space that it may take, Python included.

    Raises:
        ConfigError: when it cannot be cut off here; it is not run then.
    """
    isolation()
    return _run(program, seconds, memory_bytes)


@functools.cache
def isolation() -> str:
    """How programs are cut off here, tried out by one that attempts what it must not.

    Raises:
        ConfigError: when they cannot be cut off.
    """
    from weighbridge.errors import ConfigError

    reason = f"{platform.system()} on {platform.machine()}"
    if platform.system() == "Linux" and platform.machine() in _ARCHITECTURES:
        with tempfile.NamedTemporaryFile() as outside:
            found = _run(f"OUTSIDE = {outside.name!r}\n{_CHECK}", 30.0, 512 << 20)
        if found.passed:
            return KEPT
        reason = found.reason
    read = f"a program cannot be cut off from this machine ({reason})"
    raise ConfigError(read, "Linux 5.13 or later with Landlock and seccomp, on x86-64 or ARM", "run no code here")


def _run(program: str, seconds: float, memory_bytes: int) -> Outcome:
    from weighbridge.errors import printable

    secret = secrets.token_hex(_SECRET_BYTES // 2).encode()
    words = [sys.executable, "-B", "-P", "-S", __file__, str(math.ceil(seconds) + 1), str(memory_bytes)]
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as order:
        order.write(secret + program.encode("utf-8", "surrogatepass"))
        order.seek(0)
        with subprocess.Popen(
            words, stdin=order, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=scratch, start_new_session=True,
            env={"PYTHONHASHSEED": "0"},  # sets have one order, so that a program ends the same way each time
        ) as process:  # fmt: skip
            assert process.stdout is not None
            waiting = select.poll()
            waiting.register(process.stdout, select.POLLIN)
            try:
                if not waiting.poll(seconds * 1000):
                    return Outcome(False, "too slow")
                said = os.read(process.stdout.fileno(), _MOST_SAID)
            finally:
                process.kill()
    if said.startswith(secret):
        reason = printable(" ".join(said[_SECRET_BYTES:].decode("utf-8", "replace").split()))
        return Outcome(reason == "passed", reason[:MOST_REASON])
    code = process.returncode
    end = f"signal {-code}" if code < 0 else f"exit status {code}"
    return Outcome(False, f"failed: it ended before its tests did ({end})")


def _inside() -> None:
    """Cuts this process off, runs the program in it, and tells how it ended."""
    write, leave, answer = os.write, os._exit, os.dup(1)
    order = sys.stdin.buffer.read()
    secret = order[:_SECRET_BYTES]
    os.dup2(2, 0)
    os.dup2(2, 1)
    try:
        _cut_off(int(sys.argv[1]), int(sys.argv[2]))
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(order[_SECRET_BYTES:].decode("utf-8", "surrogatepass"), "program", "exec"), main.__dict__)
        said = b"passed"
    except MemoryError:
        said = b"too much memory"
    except BaseException as error:
        said = f"failed: {type(error).__name__}: {error}".encode("utf-8", "replace")
    write(answer, (secret + said)[:_MOST_SAID])
    leave(0)


def _cut_off(seconds: int, memory_bytes: int) -> None:
    """Bounds this process, for good."""
    import ctypes
    import resource

    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *words: int | bytes) -> int:
        found: int = getattr(libc, name)(*words)
        if found < 0:
            raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())} in {name} {words[0]!r}")
        return found

    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0,
              resource.RLIMIT_NOFILE: 32, resource.RLIMIT_CORE: 0}  # fmt: skip
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))
    call("prctl", 1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the process that started this one
    call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    rules = call("syscall", 444, struct.pack("Q", (1 << 13) - 1), 8, 0)  # landlock_create_ruleset: of all rights
    for place in (f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64", Path.cwd()):
        if Path(place).is_dir():
            folder = os.open(place, os.O_PATH)
            call("syscall", 445, rules, 1, struct.pack("=Qi", 4 | 8, folder), 0)  # landlock_add_rule: read and list
            os.close(folder)
    call("syscall", 446, rules, 0)  # landlock_restrict_self
    os.close(rules)
    steps = b"".join(struct.pack("=HBBI", *step) for step in _filter(*_ARCHITECTURES[platform.machine()]))
    kept = ctypes.create_string_buffer(steps, len(steps))
    call("prctl", 22, 2, struct.pack("HP", len(steps) // 8, ctypes.addressof(kept)))  # PR_SET_SECCOMP by a filter


def _filter(column: int, architecture: int) -> Iterator[tuple[int, int, int, int]]:
    """The steps of the filter: what to do, how many steps to leave out if it holds and if not, and a number for it."""
    load, equal, greater, common, give = 0x20, 0x15, 0x25, 0x45, 0x06
    allow, refuse = 0x7FFF0000, 0x00050001  # what is refused says EPERM
    yield from ((load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, refuse), (load, 0, 0, 0))
    for numbers, word, test, bound in ((_OPENAT, 32, common, _WRITES), (_FCNTL, 24, greater, _LAST_HARMLESS)):
        yield from ((equal, 0, 4, numbers[column]), (load, 0, 0, word), (test, 0, 1, bound))
        yield from ((give, 0, 0, refuse), (give, 0, 0, allow))
    for names in _CALLS.values():
        number = names[column]
        if number is not None:
            yield from ((equal, 0, 1, number), (give, 0, 0, allow))
    yield (give, 0, 0, refuse)


if __name__ == "__main__":
    _inside()
