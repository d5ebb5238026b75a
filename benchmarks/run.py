"""What does weighing cost beside its peers? `make bench`, or `python benchmarks/run.py [--runs N]`.

Whole processes are timed in turns (A B C, A B C ...) after one uncounted turn, so that a change in the machine's load
meets all of them. What is counted is user and system CPU time of the process, from `os.wait4`: it does not grow while
somebody else's process waits or runs. A shared machine still changes its clock and its caches, so quote ratios between
rows of one table, not seconds. Each process gets the same local input, an environment made here and no network: what a
peer asks of the hub is answered on 127.0.0.1 (`hub.py`), in the benchmark's process and so on nobody's account.

Prints tables and writes `benchmarks/results.json`. A peer that is not installed is left out with a line that says so.
Exit codes: 0 done; 1 a bar was missed; 2 weighbridge is not installed for this interpreter.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this file is run as a script; its neighbours are the package `benchmarks`

from benchmarks import hub, inputs  # noqa: E402
from benchmarks.hub import Hub  # noqa: E402

CONFIG_BAR_CPU_S = 0.15
"""`weigh inspect config.json`, the whole process, median."""
REMOTE_BAR_CPU_S = 0.5
REMOTE_BAR_SHARE = 0.25
"""`weigh inspect org/name --json` of the repositories of many shards: the whole process, median, and of hf-mem."""
COUNT_BAR_S = 0.001
PLAN_BARS_S = {"plan of a model": 0.002, "a sweep of a million plans": 5.0}
"""Counting the parameters of a described model, median."""
FEWEST_RUNS = 7
COUNT_CALLS = 200
SLOWEST_S = 600
"""A process that takes longer is ended."""

HEADER_TENSORS = 92_000
REPOSITORY_SHARDS = 165
REPOSITORY = (
    f"repository of {REPOSITORY_SHARDS} shards and {HEADER_TENSORS:,} tensors, over HTTP on the loopback address"
)
DESCRIBED_SHARDS = 163
DESCRIBED = f"DeepSeek-V3 in {DESCRIBED_SHARDS} shards with its config.json, over HTTP on the loopback address"
EDGE_HEADERS = (99_993, 99_994, 99_999, 100_000)
"""Lengths of a safetensors header around the end of hf-mem's first request, which is for bytes 0 to 100,000."""

PEERS = ("hf-mem", "accelerate", "aiconfigurator", "llm-analysis", "transformers", "torch", "safetensors")
BARE = "python -c pass"
Measured = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """A process to time: what the table calls it, its arguments, and how its answer is found out.

    `asked` are the arguments of one further run, not counted, whose output `answer` reads.
    """

    name: str
    arguments: Sequence[str]
    asked: Sequence[str] = ()
    answer: Callable[[str], str] = field(default=lambda _: "")


@dataclass(frozen=True, slots=True)
class Finished:
    """One process that has ended."""

    exit_code: int
    cpu_s: float
    output: str
    errors: str


class Bench:
    """Runs processes below one folder of inputs, which also is the root of the hub's double."""

    def __init__(self, root: Path, hub_double: Hub, runs: int) -> None:
        self.root, self.hub, self.runs = root, hub_double, runs
        own = str(Path(sys.executable).parent)
        self.path = os.pathsep.join([own, os.environ.get("PATH", os.defpath)])
        home = root / "home"
        home.mkdir()
        # Nothing of the caller's settings: no proxy, no token, no switch that keeps Python from caching bytecode.
        self.environment = {
            "PATH": self.path, "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": hub_double.endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "LANG": "C.UTF-8",
        }  # fmt: skip

    def find(self, program: str) -> str | None:
        """The program beside this interpreter, or on the path."""
        return shutil.which(program, path=self.path)

    def finish(self, arguments: Sequence[str]) -> Finished:
        """Runs a process to its end; its CPU time includes that of children that it waited for."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                arguments, cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )
            timer = threading.Timer(SLOWEST_S, process.kill)
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            timer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(self.without_places(file.read().decode("utf-8", "replace")))
            return Finished(process.returncode, usage.ru_utime + usage.ru_stime, texts[0], texts[1])

    def without_places(self, text: str) -> str:
        """The text without this machine's folders, as it may be published."""
        for place in (str(self.root), str(HERE.parent), sys.prefix):
            text = text.replace(place, "")
        return text

    def compare(self, commands: Sequence[Command]) -> dict[str, Measured]:
        """The commands in turns, and then what each answers. One that fails is reported and not timed further."""
        times: dict[str, list[float]] = {command.name: [] for command in commands}
        failed: dict[str, str] = {}
        for turn in range(self.runs + 1):
            for command in commands:
                if command.name in failed:
                    continue
                done = self.finish(command.arguments)
                if done.exit_code:
                    failed[command.name] = f"exit code {done.exit_code}: {last_line(done.errors)}"
                elif turn:
                    times[command.name].append(done.cpu_s)
        found: dict[str, Measured] = {}
        for command in commands:
            if command.name in failed:
                found[command.name] = {"failed": failed[command.name]}
                continue
            found[command.name] = summary(times[command.name])
            if command.asked:
                self.hub.requests.clear()
                done = self.finish(command.asked)
                found[command.name]["answer"] = command.answer(done.output) if not done.exit_code else "no answer"
                found[command.name]["hub_requests"] = len(self.hub.requests)
        return found


def summary(times_s: Sequence[float]) -> Measured:
    """Median, least and number of some times."""
    return {"median_s": round(statistics.median(times_s), 6), "min_s": round(min(times_s), 6), "runs": len(times_s)}


def last_line(text: str) -> str:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


# --- the peers ------------------------------------------------------------------------------------------------------


def bare(bench: Bench) -> Command:
    """The interpreter alone: what every other row pays, too."""
    return Command(BARE, [sys.executable, "-c", "pass"])


def weigh(bench: Bench, source: str, *options: str) -> Command:
    """`weigh inspect`."""

    def answer(output: str) -> str:
        document = json.loads(output)
        stored = document["bytes"]["tensors"]
        size = f"{stored:,} bytes stored" if stored else f"{document['bytes']['by_encoding']['bf16']:,} bytes in bf16"
        return f"{document['parameters']['total']:,} parameters, {size}"

    program = bench.find("weigh")
    assert program is not None, "checked before anything is run"
    arguments = [program, "inspect", source, *options]
    return Command("weigh inspect", arguments, [program, "inspect", "--json", source], answer)


def hf_mem(bench: Bench, repository: str, file: str | None = None) -> list[Command]:
    """hf-mem on the same folder, through the hub's double; nothing when it is not installed."""
    if version("hf-mem") is None:
        return []

    def answer(output: str) -> str:
        component = json.loads(output)["memory"]["components"]["Transformer"]
        return f"{component['param_count']:,} parameters, {component['bytes']:,} bytes stored"

    launcher = str(HERE / "hf_mem_on_loopback.py")
    arguments = [sys.executable, launcher, "--model-id", repository, *(["--gguf-file", file] if file else [])]
    return [Command("hf-mem", arguments, [*arguments, "--json-output", "--details"], answer)]


def accelerate(bench: Bench, repository: str) -> list[Command]:
    """`accelerate estimate-memory` on the same config.json, read from the folder; nothing when it is not installed.

    It asks the hub for the repository's description first, also for a folder that lies here.
    """
    program = bench.find("accelerate")
    if program is None or version("transformers") is None or version("accelerate") is None:
        return []

    def answer(output: str) -> str:
        row = re.search(r"float16\s*│[^│]*│\s*([^│]+?)\s*│", output)
        return f"{row[1]} in float16, as printed" if row else "no answer"

    arguments = [program, "estimate-memory", repository, "--library_name", "transformers"]
    return [Command("accelerate estimate-memory", arguments, arguments, answer)]


def weigh_fit(bench: Bench, source: str) -> Command:
    """`weigh fit` on an H100 under vLLM, for a prompt of 512 tokens and an answer of 128."""

    def answer(output: str) -> str:
        found = json.loads(output)
        memory, speed = found["memory"]["total_bytes"]["value"], found["speed"]
        return planned(memory, speed["ttft_s"]["value"], speed["tpot_s"]["value"])

    program = bench.find("weigh")
    assert program is not None, "checked before anything is run"
    arguments = [program, "fit", source, "--on", "h100-sxm", "--runtime", "vllm"]
    return Command("weigh fit", arguments, [*arguments, "--json"], answer)


def aiconfigurator(bench: Bench, repository: str) -> list[Command]:
    """`aiconfigurator cli estimate` of the same; nothing when it is not installed."""
    program = bench.find("aiconfigurator")
    if program is None or version("aiconfigurator") is None:
        return []

    def answer(output: str) -> str:
        first, each, held = (float(re.search(rf"{name}:\s+([\d.]+)", output)[1])  # type: ignore[index]
                             for name in ("TTFT", "TPOT", r"Memory \(GPU\)"))  # fmt: skip
        return planned(held * 1e9, first / 1000, each / 1000)

    words = ["cli", "estimate", "--model-path", repository, "--system", "h100_sxm", "--backend", "vllm", "--isl", "512",
             "--osl", "128", "--batch-size", "1", "--tp-size", "1", "--estimate-mode", "static"]  # fmt: skip
    return [Command("aiconfigurator cli estimate", [program, *words], [program, *words], answer)]


def planned(held_bytes: float, first_s: float, each_s: float) -> str:
    """What a plan answers, in one form for all."""
    return f"{held_bytes / 1e9:.1f} GB, first token {1000 * first_s:.1f} ms, each after {1000 * each_s:.2f} ms"


def version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def whole_processes(bench: Bench) -> dict[str, dict[str, Measured]]:
    """Every input with the commands that can weigh it."""
    inputs.write_config(bench.root / "bench/llama-405b", inputs.LLAMA_405B)
    inputs.write_sharded(bench.root / "bench/llama-8b", inputs.LLAMA_8B, shards=4)
    inputs.write_one_file(bench.root / "bench/experts", inputs.expert_entries(HEADER_TENSORS))
    inputs.write_cut(bench.root / "bench/repository", inputs.expert_entries(HEADER_TENSORS), REPOSITORY_SHARDS)
    inputs.write_described(bench.root / "bench/deepseek-v3", DESCRIBED_SHARDS)
    inputs.write_gguf(bench.root / "bench/vocabulary/model.gguf", inputs.LLAMA_1B_LARGE_VOCABULARY)
    groups = {
        "config.json of Llama 3.1 405B": [
            bare(bench), weigh(bench, "bench/llama-405b/config.json"), *accelerate(bench, "bench/llama-405b"),
        ],
        "folder: Llama 3 8B, config.json, index, 4 safetensors files": [
            weigh(bench, "bench/llama-8b"), *hf_mem(bench, "bench/llama-8b"), *accelerate(bench, "bench/llama-8b"),
        ],
        f"safetensors file with {HEADER_TENSORS:,} tensors": [
            weigh(bench, "bench/experts/model.safetensors"), *hf_mem(bench, "bench/experts"),
        ],
        # With a revision it is no path, though the folder lies here.
        REPOSITORY: [weigh(bench, "bench/repository@main", "--json"), *hf_mem(bench, "bench/repository")],
        DESCRIBED: [weigh(bench, "bench/deepseek-v3@main", "--json"), *hf_mem(bench, "bench/deepseek-v3")],
        f"GGUF file with {inputs.LLAMA_1B_LARGE_VOCABULARY['vocab_size']:,} tokens": [
            weigh(bench, "bench/vocabulary/model.gguf"), *hf_mem(bench, "bench/vocabulary", "model.gguf"),
        ],
        "a plan of Llama 3 8B on one H100": [
            weigh_fit(bench, "bench/llama-8b/config.json"), *aiconfigurator(bench, "bench/llama-8b"),
        ],
    }  # fmt: skip
    found = {}
    for title, commands in groups.items():
        found[title] = bench.compare(commands)
        show_group(title, found[title])
    return found


def header_edge(bench: Bench) -> dict[str, dict[str, str]]:
    """What weigh and hf-mem say of headers around the end of hf-mem's first request. Not timed."""
    print("\nsafetensors headers around 100,000 bytes (not timed)")
    found: dict[str, dict[str, str]] = {}
    for length in EDGE_HEADERS:
        name = f"bench/header-{length}"
        inputs.write_header_of(bench.root / name, length)
        answers = {}
        for command in (weigh(bench, f"{name}/model.safetensors"), *hf_mem(bench, name)):
            done = bench.finish(command.asked)
            answers[command.name] = (
                f"exit code {done.exit_code}: {last_line(done.errors)}" if done.exit_code
                else command.answer(done.output)
            )  # fmt: skip
            print(f"  header of {length:>7,} bytes  {command.name:13}  {answers[command.name]}")
        found[str(length)] = answers
    return found


# --- in this process ------------------------------------------------------------------------------------------------


def cpu_s(function: Callable[[], Any]) -> float:
    """CPU seconds of this thread for one call."""
    begun = time.thread_time_ns()
    function()
    return (time.thread_time_ns() - begun) / 1e9


def counting() -> dict[str, Measured]:
    """Counting the parameters of Llama 3.1 405B, each call with objects that have cached nothing."""
    from weighbridge import inspection
    from weighbridge.formats import config as config_format
    from weighbridge.model import families
    from weighbridge.predict import counts

    config = dict(inputs.LLAMA_405B)
    alone, from_config = [], []
    for _ in range(COUNT_CALLS + 1):
        architecture = families.build(config_format.hyperparameters(config, "config.json"))
        alone.append(cpu_s(lambda built=architecture: counts.count(built)))  # type: ignore[misc]
        from_config.append(cpu_s(lambda: inspection.inspect(config).parameters))
    assert counts.count(architecture).total == inspection.inspect(config).parameters.total
    return {"count of a described model": summary(alone[1:]), "description and count": summary(from_config[1:])}


def planning() -> dict[str, Measured]:
    """One plan, model and device described; and a million of them, over machines, batches and contexts."""
    from weighbridge import inspection
    from weighbridge.hardware import catalogue
    from weighbridge.hardware.machine import machine
    from weighbridge.model import recipes
    from weighbridge.planning import fit
    from weighbridge.predict import sweep
    from weighbridge.predict.demand import demand, stored_weights
    from weighbridge.predict.service import service

    model = inspection.inspect(dict(inputs.LLAMA_405B))
    card = catalogue.find_device("h100-sxm")
    options: dict[str, Any] = {"devices": 8, "weights": "fp8", "runtime": "vllm", "alternatives": False}
    single = [cpu_s(lambda: fit(model, card, **options)) for _ in range(COUNT_CALLS + 1)]
    assert model.architecture is not None
    need, stored = demand(model.architecture), stored_weights(model.architecture, recipes.find("fp8"))
    cards = [device for device in catalogue.devices() if device.memory_bytes and device.memory_bytes_per_s][:50]
    machines = [machine(device, number) for device in cards for number in (1, 2, 4, 8)]
    batches, contexts = range(1, 101), range(1000, 6000, 100)
    assert len(machines) * len(batches) * len(contexts) == 1_000_000
    swept = [cpu_s(lambda: sweep.sweep(need, stored, machines, service("vllm"), batches, contexts)) for _ in range(4)]
    return {"plan of a model": summary(single[1:]), "a sweep of a million plans": summary(swept[1:])}


def planning_beside(runs: int) -> dict[str, Measured]:
    """One plan of GPT-3 175B on eight H100, model and device described, in turns with llm-analysis where it is there.

    llm-analysis describes only feed-forward widths that are a multiple of the hidden size: no Llama would do.
    """
    from weighbridge import inspection
    from weighbridge.hardware import catalogue
    from weighbridge.planning import fit

    model, card = inspection.inspect(dict(inputs.GPT_3)), catalogue.find_device("h100-pcie")

    def own() -> str:
        plan = fit(model, card, devices=8, weights="bf16", runtime="vllm", alternatives=False)
        held, fast = plan.memory.total_bytes.value, plan.speed
        assert held is not None and fast.ttft_s.value is not None and fast.tpot_s.value is not None
        return planned(held, fast.ttft_s.value, fast.tpot_s.value)

    functions: dict[str, Callable[[], str]] = {"weighbridge.planning.fit": own}
    if version("llm-analysis") is not None:
        logging.disable(logging.WARNING)
        peer, settings = (importlib.import_module(f"llm_analysis.{name}") for name in ("analysis", "config"))
        described = settings.ModelConfig(name="gpt3", max_seq_len=2048, num_layers=96, n_head=96, hidden_dim=12288,
                                         vocab_size=50257, expansion_ratio=4)  # fmt: skip
        device, bits = (settings.get_gpu_config_by_name("h100-pcie-80gb"),
                        settings.get_dtype_config_by_name("w16a16e16"))  # fmt: skip
        layout = settings.ParallelismConfig(tp_size=8)

        def theirs() -> str:
            found = peer.LLMAnalysis(described, device, bits, layout).inference(
                batch_size_per_gpu=1, seq_len=512, num_tokens_to_generate=128, use_kv_cache=True)  # fmt: skip
            held = sum(found[f"{name}_per_gpu"] for name in ("weight_memory", "kv_cache_memory"))
            return planned(8 * held, found["prefill_latency"], found["decode_latency"])

        functions["llm_analysis.LLMAnalysis.inference"] = theirs
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(20 * runs + 1):
        for name, function in functions.items():
            taken = cpu_s(function)
            if turn:
                times[name].append(taken)
    return {name: {**summary(taken), "answer": functions[name]()} for name, taken in times.items()}


def parsing(root: Path, runs: int) -> dict[str, dict[str, Measured]]:
    """Reading two large headers, in turns with what does less: Python's JSON parser, and the reference in Rust."""
    from weighbridge.formats import gguf, safetensors
    from weighbridge.formats.byte_source import LocalFile

    tensors_file, tokens_file = root / "bench/experts/model.safetensors", root / "bench/vocabulary/model.gguf"

    def json_alone() -> None:
        with tensors_file.open("rb") as file:
            json.loads(file.read(int.from_bytes(file.read(8), "little")))

    readers: dict[str, dict[str, Callable[[], Any]]] = {
        f"header of {HEADER_TENSORS:,} tensors": {
            "weighbridge.formats.safetensors.read": lambda: safetensors.read(LocalFile(tensors_file)),
            "json.loads, no checks": json_alone,
        },
        "header of 262,144 tokens": {"weighbridge.formats.gguf.read": lambda: gguf.read(LocalFile(tokens_file))},
    }
    if version("safetensors") is not None and version("numpy") is not None:
        reference = importlib.import_module("safetensors")

        def names_alone() -> None:
            with reference.safe_open(str(tensors_file), framework="np") as opened:
                list(opened.keys())

        readers[f"header of {HEADER_TENSORS:,} tensors"]["safetensors.safe_open, names"] = names_alone
    found: dict[str, dict[str, Measured]] = {}
    for title, functions in readers.items():
        times: dict[str, list[float]] = {name: [] for name in functions}
        for turn in range(runs + 1):
            for name, function in functions.items():
                taken = cpu_s(function)
                if turn:
                    times[name].append(taken)
        found[title] = {name: summary(taken) for name, taken in times.items()}
    return found


# --- what is printed and written ------------------------------------------------------------------------------------


def show_group(title: str, rows: dict[str, Measured], unit: str = "s") -> None:
    """One table: CPU seconds, the ratio to weigh, and what was answered."""
    print(f"\n{title}")
    print(f"  {'command':38} {'median':>9} {'least':>9} {'ratio':>7}  answer")
    first = next((row["median_s"] for name, row in rows.items() if name != BARE and "median_s" in row), None)
    for name, row in rows.items():
        if "failed" in row:
            print(f"  {name:38} failed: {row['failed']}")
            continue
        ratio = f"{row['median_s'] / first:.2f}" if first else ""
        row["ratio_to_first"] = round(row["median_s"] / first, 3) if first else None
        median, least = (row[key] * (1000 if unit == "ms" else 1) for key in ("median_s", "min_s"))
        print(f"  {name:38} {median:7.3f} {unit} {least:7.3f} {unit} {ratio:>7}  {row.get('answer', '')}")


def missed_bars(
    processes: dict[str, dict[str, Measured]], counted: dict[str, Measured], plans: dict[str, Measured]
) -> list[str]:
    """A sentence for each bar that was missed, and for each input that weigh itself could not weigh."""
    missed = [
        f"{name} failed on the {title}: {row['failed']}"
        for title, rows in processes.items()
        for name, row in rows.items()
        if name.startswith("weigh ") and "failed" in row
    ]
    rows = {("weigh inspect config.json", CONFIG_BAR_CPU_S): next(iter(processes.values()))["weigh inspect"]}
    for title in (REPOSITORY, DESCRIBED):
        repository = processes[title]
        rows[f"weigh inspect of the {title}", REMOTE_BAR_CPU_S] = repository["weigh inspect"]
        if "median_s" in repository.get("hf-mem", {}):
            share = round(REMOTE_BAR_SHARE * repository["hf-mem"]["median_s"], 3)
            rows[f"weigh inspect of the {title}, beside hf-mem,", share] = repository["weigh inspect"]
    rows |= {(name, COUNT_BAR_S): row for name, row in counted.items()}
    rows |= {(name, PLAN_BARS_S[name]): row for name, row in plans.items()}
    return missed + [
        f"{name} took {row['median_s']:g} CPU-s in the median, {row['min_s']:g} at least; the bar is a median of "
        f"{bar_s:g} on a machine that does nothing else"
        for (name, bar_s), row in rows.items()
        if "failed" not in row and row["median_s"] > bar_s
    ]


def write_results(document: dict[str, Any]) -> None:
    """`results.json`, written beside and renamed, so that a reader never finds half of it."""
    path = HERE / "results.json"
    beside = path.with_suffix(".json.part")
    beside.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)


def main() -> int:
    """Everything in turn; the exit code."""
    parser = argparse.ArgumentParser(description="Time weighbridge against its peers.")
    parser.add_argument("--runs", type=int, default=FEWEST_RUNS, help=f"counted runs of each, {FEWEST_RUNS} or more")
    runs: int = parser.parse_args().runs
    if runs < FEWEST_RUNS:
        parser.error(f"--runs {runs}: a median of fewer than {FEWEST_RUNS} says little")
    if version("weighbridge") is None:
        print("weighbridge is not installed for this interpreter: run `make bench`", file=sys.stderr)
        return 2
    versions = {name: version(name) for name in ("weighbridge", *PEERS)}
    for name in PEERS:
        if versions[name] is None:
            print(f"left out: {name} is not installed (`make bench` installs it)")
    print("CPU time, user and system; medians and least of", runs, "runs in turns after one that is not counted")
    with tempfile.TemporaryDirectory() as folder, hub.serve(Path(folder)) as double:
        bench = Bench(Path(folder), double, runs)
        if bench.find("weigh") is None:
            print("the command weigh is not on the path: run `make bench`", file=sys.stderr)
            return 2
        processes = whole_processes(bench)
        edge = header_edge(bench)
        counted, plans, beside = counting(), planning(), planning_beside(runs)
        parsed = parsing(bench.root, runs)
    print(f"\nLlama 3.1 405B in this process, {COUNT_CALLS} calls")
    for name, row in counted.items():
        print(f"  {name:38} {row['median_s'] * 1e6:6.0f} µs {row['min_s'] * 1e6:6.0f} µs")
    print("\na plan of it on 8 x H100, and a million plans, in this process")
    for name, row in plans.items():
        print(f"  {name:38} {row['median_s'] * 1e3:8.2f} ms {row['min_s'] * 1e3:8.2f} ms")
    show_group("a plan of GPT-3 175B on 8 x H100, in this process", beside, "ms")
    for title, rows in parsed.items():
        show_group(f"{title}, in this process", rows)
    missed = missed_bars(processes, counted, plans)
    write_results({
        "versions": {"python": platform.python_version(), **versions},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "unit": "seconds of CPU time, user and system",
        "bars": {"weigh inspect config.json": CONFIG_BAR_CPU_S, "weigh inspect of the repository": REMOTE_BAR_CPU_S,
                 "weigh inspect of the repository, of hf-mem's time": REMOTE_BAR_SHARE,
                 "counting": COUNT_BAR_S, **PLAN_BARS_S},
        "missed": missed,
        "processes": processes,
        "counting": counted,
        "planning": plans,
        "planning_beside": beside,
        "parsing": parsed,
        "header_edge": edge,
    })  # fmt: skip
    print()
    for sentence in missed:
        print(f"bar missed: {sentence}")
    if not missed:
        print(f"bars met: weigh inspect config.json within {CONFIG_BAR_CPU_S} CPU-s, of repositories within "
              f"{REMOTE_BAR_CPU_S} CPU-s and a quarter of hf-mem's, counting within 1 ms, "
              "a plan within 2 ms, a million plans within 5 s")  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
