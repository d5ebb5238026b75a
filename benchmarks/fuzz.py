"""Does any reader fail on what nobody wrote? Bytes that a fuzzer makes, given to every reader of headers.

`make fuzz`, or `python benchmarks/fuzz.py [--runs N] [--readers NAME...]`. For each reader a process of its own starts
from small valid files (`fuzz_seeds.py`) and changes them, guided by which lines of the reader a change reaches
(atheris, which is libFuzzer for Python), for its share of the runs; Hypothesis then changes them too. An input fails

- when anything but an error of this project comes out;
- when reading it takes more than a second of processor time, or five while atheris watches;
- when one request asks for more than 100 MB, or the process grows by more than that.

One input in eight claims to be a file of a terabyte that goes on with zeros: sizes in a header then look as if they
could be true. Prints a table and writes `benchmarks/fuzz_results.json`; inputs that fail are kept in `build/fuzz`.
Exit codes: 0 no input failed; 1 one did; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this file is run as a script; its neighbours are the package `benchmarks`

from benchmarks.fuzz_seeds import TARGETS, Target  # noqa: E402

RUNS = 10_000_000
EXAMPLES = 2_000
"""Inputs that Hypothesis makes for each reader; it makes some hundred a second, where atheris makes some thousand."""
MOST_BYTES = 100_000_000
MOST_CPU_S = 1.0
WATCHED = 5.0
"""How much slower a reader may be while atheris looks at each of its lines; it is about ten times as slow."""
INPUT_BYTES = 8192
FAILURES = HERE.parent / "build" / "fuzz"


class Failure(Exception):  # noqa: N818
    """An input that broke a bound."""


def check(target: Target, data: bytes, slowed: float = 1.0) -> None:
    """Gives one input to a reader, which is so many times as slow as alone.

    Raises:
        Failure: when it takes too long or too much.
    """
    begin, grown = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target.read(data)
    taken = time.process_time() - begin
    if taken > slowed * MOST_CPU_S:
        raise Failure(f"{taken:.1f} s of processor time")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown) * 1024
    if grown > MOST_BYTES:
        raise Failure(f"{grown:,} bytes of memory")


def by_atheris(name: str, runs: int, corpus: str, seed: int) -> None:
    """Runs one target in this process, which libFuzzer ends."""
    atheris = importlib.import_module("atheris")
    target = TARGETS[name]
    with atheris.instrument_imports(include=["weighbridge.formats"]):
        for module in target.modules:
            importlib.import_module(f"weighbridge.formats.{module}")
    for valid in target.seeds():
        check(target, valid)
    options = [f"-runs={runs}", f"-max_len={INPUT_BYTES}", "-timeout=60", "-rss_limit_mb=3000", "-print_final_stats=1",
               "-verbosity=0", f"-seed={seed}", f"-artifact_prefix={FAILURES / name}-"]  # fmt: skip
    atheris.Setup([sys.argv[0], corpus, *options], lambda data: check(target, data, WATCHED))
    atheris.Fuzz()


def by_hypothesis(name: str, examples: int) -> None:
    """Seeds with a few bytes changed, cut or added, and bytes without a seed."""
    hypothesis = importlib.import_module("hypothesis")
    st = hypothesis.strategies
    target = TARGETS[name]
    change = st.tuples(st.integers(0, 2**20), st.binary(max_size=8), st.integers(0, 8))

    def mutated(seed: bytes, changes: Sequence[tuple[int, bytes, int]]) -> bytes:
        for place, put, cut in changes:
            at = place % (len(seed) + 1)
            seed = seed[:at] + put + seed[at + cut :]
        return seed

    inputs = st.one_of(
        st.binary(max_size=200), st.builds(mutated, st.sampled_from(target.seeds()), st.lists(change, max_size=5))
    )
    bounds = hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=True,
                                 suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    bounds(hypothesis.given(inputs)(lambda data: check(target, data)))()


def child(name: str, way: str, count: int, corpus: Path, seed: int) -> tuple[int, int, str]:
    """One process: how many inputs it tried, its exit code, and the end of what it printed."""
    command = [sys.executable, __file__, "--child", way, "--runs", str(count), "--corpus", str(corpus),
               "--seed", str(seed), name]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    tried = int(said[-1]) if said else (count if done.returncode == 0 else 0)
    return tried, done.returncode, done.stderr[-3000:]


def tested(name: str, runs: int, seed: int) -> dict[str, Any]:
    """One reader in both ways: how many inputs it was given, how long that took, and what failed."""
    corpus = FAILURES / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, valid in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(valid)
    begin = time.monotonic()
    row: dict[str, Any] = {"reader": name}
    for way, count in {"atheris": runs, "hypothesis": EXAMPLES}.items():
        row[way], code, said = child(name, way, count, corpus, seed)
        if code:
            row["failed"] = said
    row["seconds"] = round(time.monotonic() - begin, 1)
    failed = "FAILED" if "failed" in row else ""
    print(f"{name:20} {row['atheris']:>12,} {row['hypothesis']:>8,} {row['seconds']:>8} s {failed}", flush=True)
    if failed:
        print(row["failed"], file=sys.stderr)
    return row


def main(arguments: Sequence[str]) -> int:
    """Runs every target and says what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(TARGETS)}; all when none is named")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"inputs over all readers together; {RUNS:,}")
    parser.add_argument("--jobs", type=int, default=2, help="readers tested at the same time; 2")
    parser.add_argument("--seed", type=int, default=1, help="where atheris begins; 1")
    parser.add_argument("--child", choices=("atheris", "hypothesis"), help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.readers) - TARGETS.keys())
    if unknown:
        parser.error(f"no reader is called {unknown[0]}")
    if options.child == "atheris":
        by_atheris(options.readers[0], options.runs, str(options.corpus), options.seed)
    if options.child == "hypothesis":
        by_hypothesis(options.readers[0], options.runs)
        return 0
    FAILURES.mkdir(parents=True, exist_ok=True)
    names = options.readers or list(TARGETS)
    share = -(-options.runs // len(names))
    with ThreadPoolExecutor(options.jobs) as jobs:
        rows = list(jobs.map(lambda name: tested(name, share, options.seed), names))
    tried = sum(row["atheris"] + row["hypothesis"] for row in rows)
    failures = [row["reader"] for row in rows if "failed" in row]
    print(f"{tried:,} inputs over {len(rows)} readers, {len(failures)} of which failed")
    if not options.readers:
        kept = [{key: value for key, value in row.items() if key != "failed"} for row in rows]
        record = {"inputs": tried, "failed": failures, "python": sys.version.split()[0], "readers": kept}
        (HERE / "fuzz_results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
