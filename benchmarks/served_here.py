"""What does a real server with continuous batching take under load? llama.cpp's on one core, driven and logged.

`python benchmarks/served_here.py MODEL.gguf [--logs FOLDER] [--output FILE]`. The server is that of the wheel xllamacpp
with the defaults of llama-server (4 slots, one cache for all, batches of 2048 tokens in passes of 512), one thread, no
reuse of prompts, in a process of its own; this process is its clients. A closed loop has so many clients that each send
the next request when they have their answer; an open loop sends at the times of a Poisson process. Prompts are random
tokens, and a bias makes every answer the same whole word, so that each token is streamed as it is made. First the time
of a step is measured by number of sequences, context and prompt.

A run counts only where the server had its core: its busiest thread waited for a core at most 5% of the time that it
ran, other programs kept less than a fifth of a core busy (a neighbour slows the other core of a virtual machine too,
here by up to 1.8), and one sequence alone took the same before and after the run, to 10%. Linux alone tells these.
Loads that the output file has already are run again only as far as runs that count are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from weighbridge.hardware.probe import processor_name
from weighbridge.measuring.comparison import percentile

WORD = 260
"""The token that every answer repeats: " the" for SmolLM2, a whole word, which the server streams at once."""
VOCABULARY = (1000, 40_000)
SLOTS, CONTEXT = 4, 8192
STEP_SLOTS, STEP_CONTEXT = 8, 12_288
READY = 8
"""Tokens of an answer that is well under way."""
LEAST_SHARE, MOST_OTHERS, MOST_DRIFT = 0.95, 0.20, 0.10
UNDISTURBED = 0.2
"""The percentile of a stream's steps that tells what one takes alone: other programs make steps longer."""
TRIES = 3
"""How often a load may run for each run that counts."""
ALONE = (32, 64)
"""Prompt and answer of the sequence that runs alone before and after."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one client asks for; `due_s` is when, and None where a client sends it once it is free."""

    prompt_tokens: int
    output_tokens: int
    due_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of a log, in seconds since the run began. In an open loop `arrival_s` is when it was due."""

    arrival_s: float
    sent_s: float
    prompt_tokens: int
    output_tokens: int
    first_token_s: float
    finish_s: float

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.arrival_s

    @property
    def e2e_s(self) -> float:
        return self.finish_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds for each token after the first; None where there is none."""
        more = self.output_tokens - 1
        return (self.finish_s - self.first_token_s) / more if more else None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens from the least to the most, each as likely as another."""

    least: int
    most: int

    def draw(self, by: random.Random) -> int:
        return by.randint(self.least, self.most)

    @property
    def mean(self) -> float:
        return (self.least + self.most) / 2


def workload(count: int, seed: int, prompt: Lengths, output: Lengths, rate: float | None = None) -> list[Request]:
    """The same requests for the same seed: of a closed loop, or at so many a second of an open one."""
    by, now, found = random.Random(seed), 0.0, []
    for _ in range(count):
        if rate is not None:
            now += by.expovariate(rate)
        found.append(Request(prompt.draw(by), output.draw(by), None if rate is None else now))
    return found


@dataclass(slots=True)
class Client:
    """Asks a server for completions; `token_s` of an answer are the times at which its tokens came."""

    address: str
    seed: int = 0

    async def ask(
        self, prompt_tokens: int, output_tokens: int, ready: asyncio.Event | None = None
    ) -> tuple[list[float], float, dict[str, Any]]:
        """The times of the tokens, the time of the end, and the server's last word; `ready` is told at some tokens.

        Raises:
            RuntimeError: when the server refuses, or makes another number of tokens.
        """
        self.seed += 1
        by = random.Random(self.seed)
        body = json.dumps({
            "prompt": [by.randrange(*VOCABULARY) for _ in range(prompt_tokens)], "n_predict": output_tokens,
            "temperature": 0, "samplers": ["top_k"], "top_k": 1, "logit_bias": [[WORD, 60.0]], "ignore_eos": True,
            "cache_prompt": False, "stream": True, "return_tokens": True,
        }).encode()  # fmt: skip
        host, port = self.address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        head = (f"POST /completion HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n")  # fmt: skip
        writer.write(head.encode() + body)
        times: list[float] = []
        last: dict[str, Any] = {}
        seen: list[bytes] = []
        try:
            while line := await reader.readline():
                now = time.perf_counter()
                seen = [*seen[-20:], line]
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    times += [now] * len(event.get("tokens", ()))
                    if ready is not None and len(times) >= READY:
                        ready.set()
                    if event.get("stop"):
                        last = event
                        break
        finally:
            writer.close()
        if last.get("tokens_predicted") != output_tokens or last.get("tokens_evaluated") != prompt_tokens:
            raise RuntimeError(f"asked for {prompt_tokens} and {output_tokens} tokens: {b''.join(seen)[-500:]!r}")
        if len(times) != output_tokens:
            raise RuntimeError(f"{len(times)} of {output_tokens} tokens were streamed")
        return times, now, last

    async def answer(self, request: Request, start: float) -> Answer:
        """The line of the log for one request; an early one waits until it is due."""
        if request.due_s is not None:
            await asyncio.sleep(max(0.0, start + request.due_s - time.perf_counter()))
        sent = time.perf_counter() - start
        times, end, _ = await self.ask(request.prompt_tokens, request.output_tokens)
        return Answer(sent if request.due_s is None else request.due_s, sent, request.prompt_tokens,
                      request.output_tokens, times[0] - start, end - start)  # fmt: skip

    async def closed(self, requests: Sequence[Request], clients: int) -> list[Answer]:
        """Each client takes the next request of the list when it has its answer."""
        todo, start = iter(requests), time.perf_counter()

        async def client() -> list[Answer]:
            return [await self.answer(request, start) for request in todo]

        found = await asyncio.gather(*(client() for _ in range(clients)))
        return sorted((one for answers in found for one in answers), key=lambda one: one.arrival_s)

    async def open(self, requests: Sequence[Request]) -> list[Answer]:
        """Each request at the time that it is due, however many are under way."""
        start = time.perf_counter()
        return list(await asyncio.gather(*(self.answer(request, start) for request in requests)))


def summary(log: Sequence[Answer]) -> dict[str, Any]:
    """Mean and percentiles of a log; rates are over the time from the first arrival to the last token."""
    span = max(one.finish_s for one in log) - min(one.arrival_s for one in log)
    found: dict[str, Any] = {}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        values = [value for one in log if (value := getattr(one, name)) is not None]
        found[name] = {"mean": statistics.fmean(values), **{f"p{share}": percentile(values, share / 100)
                                                           for share in (50, 90, 99)}}  # fmt: skip
    late = max(one.sent_s - one.arrival_s for one in log)
    return {**found, "requests": len(log), "span_s": span, "requests_per_s": len(log) / span,
            "output_tok_s": sum(one.output_tokens for one in log) / span, "latest_sent_s": late,
            "mean_in_system": in_system(log)}  # fmt: skip


def in_system(log: Sequence[Answer]) -> float:
    """How many requests were under way on average, by counting over time from the first arrival to the last token."""
    events = sorted([(one.arrival_s, 1) for one in log] + [(one.finish_s, -1) for one in log])
    area, inside, before = 0.0, 0, events[0][0]
    for now, change in events:
        area += inside * (now - before)
        inside, before = inside + change, now
    return area / (before - events[0][0])


SERVE = """
import os, sys, importlib
path, slots, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine = importlib.import_module("xllamacpp")
settings = engine.CommonParams()
settings.model.path = path
settings.n_ctx, settings.n_parallel, settings.kv_unified = context, slots, True
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
settings.n_gpu_layers, settings.cache_ram_mib, settings.verbosity, settings.n_ctx_checkpoints = 0, 0, 0, 0
settings.n_threads_http = 2 * slots + 32
running = engine.Server(settings)
out = os.fdopen(int(sys.argv[4]), "w")
print(running.listening_address, file=out, flush=True)
sys.stdin.read()
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs: where, and its process."""

    address: str
    pid: int

    def waits(self) -> tuple[float, float] | None:
        """Seconds that its busiest thread has run, and waited for a core; None where the system does not say."""
        threads = []
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError):
                ran, waited, _ = (int(x) for x in path.read_text().split())
                threads.append((ran * 1e-9, waited * 1e-9))
        return max(threads, default=None)


@contextlib.contextmanager
def serving(model: Path, slots: int, context: int) -> Iterator[Serving]:
    """A server in a process of its own, while the block runs."""
    read, write = os.pipe()
    words = [sys.executable, "-c", SERVE, str(model), str(slots), str(context), str(write)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          pass_fds=(write,)) as process:  # fmt: skip
        os.close(write)
        with os.fdopen(read) as answers:
            address = answers.readline().strip()
        if not address:
            raise RuntimeError("llama.cpp's server did not start")
        try:
            yield Serving(address, process.pid)
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def gaps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def decode_step(client: Client, sequences: int, context: int, steps: int = 40) -> float:
    """Seconds of one step in which so many sequences of about this context get a token, when nobody is in the way."""

    async def together() -> list[list[float]]:
        # Prompts may end in different steps: only the time in which all are being answered counts.
        asked = (client.ask(max(1, context - steps // 2), steps + 2 * sequences) for _ in range(sequences))
        return [times for times, _, _ in await asyncio.gather(*asked)]

    found = asyncio.run(together())
    begin, end = max(times[0] for times in found), min(times[-1] for times in found)
    return percentile(gaps([now for now in found[0] if begin <= now <= end]), UNDISTURBED)


def prompt_pass(client: Client, prompt: int) -> float:
    """Seconds of a prompt alone, with the first token, by the server's own clock."""
    return float(asyncio.run(client.ask(prompt, 1))[2]["timings"]["prompt_ms"]) / 1000


def mixed_step(client: Client, sequences: int, context: int, prompt: int, steps: int = 60) -> float:
    """Seconds of the step that holds a prompt and a token for each sequence: the longest gap in a stream meanwhile."""

    async def disturbed() -> float:
        ready = [asyncio.Event() for _ in range(sequences)]
        running = [asyncio.ensure_future(client.ask(max(1, context - steps // 2), steps, one)) for one in ready]
        await asyncio.gather(*(one.wait() for one in ready))
        sent = time.perf_counter()
        times, _, _ = await client.ask(prompt, 1)
        stream, _, _ = (await asyncio.gather(*running))[0]
        if stream[-1] < times[0]:
            raise RuntimeError("the sequences had ended before the prompt was done")
        return max(after - before for before, after in itertools.pairwise(stream) if after > sent)

    return asyncio.run(disturbed())


def step_times(client: Client, repeats: int) -> Iterator[list[dict[str, Any]]]:
    """Each kind of step so many times: the median, the least and the most, after each turn of all kinds."""
    asked = [(sequences, context, 0) for context in (64, 256, 512) for sequences in (1, 2, 4, 8)
             if context < 512 or sequences in (1, 4)]  # fmt: skip
    asked += [(0, 0, prompt) for prompt in (16, 32, 64, 128, 256, 512, 1024)]
    asked += [(sequences, 256, prompt) for sequences in (1, 3) for prompt in (16, 64, 256)]
    found: list[list[float]] = [[] for _ in asked]
    for _ in range(repeats):
        for values, one in zip(found, asked, strict=True):
            values.append(step(client, *one))
        yield [{"sequences": one[0], "context": one[1], "prompt_tokens": one[2], "step_s": statistics.median(values),
                "least_s": min(values), "most_s": max(values), "turns": len(values)}
               for one, values in zip(asked, found, strict=True)]  # fmt: skip


def step(client: Client, sequences: int, context: int, prompt: int) -> float:
    """Seconds of a step with so many sequences of a context that get a token, and so many tokens of a prompt."""
    if not prompt:
        return decode_step(client, sequences, context)
    return mixed_step(client, sequences, context, prompt) if sequences else prompt_pass(client, prompt)


def watched(server: Serving, client: Client, run: Callable[[], list[Answer]]) -> tuple[list[Answer], dict[str, Any]]:
    """A run's log and what became of the server's core: a run that may not count says so."""

    def alone() -> float:
        return percentile(gaps(asyncio.run(client.ask(*ALONE))[0]), UNDISTURBED)

    step_before, before, begin, others = alone(), server.waits(), time.perf_counter(), busy_s(server)
    log = run()
    others, span, after = busy_s(server) - others, time.perf_counter() - begin, server.waits()
    step_after = alone()
    share = None
    if before and after and after[0] > before[0]:
        ran, waited = after[0] - before[0], after[1] - before[1]
        share = ran / (ran + waited)
    drift = abs(step_after / step_before - 1)
    good = share is not None and share >= LEAST_SHARE and others / span <= MOST_OTHERS and drift <= MOST_DRIFT
    return log, {"usable": good, "core_share": share, "others_cores": others / span,
                 "alone_step_s": [step_before, step_after]}  # fmt: skip


def busy_s(server: Serving) -> float:
    """CPU seconds that this machine has spent, those of the server and of this process left out; Linux alone says."""
    with contextlib.suppress(OSError, ValueError):
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        its = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return (user + nice + system + irq + soft - int(its[11]) - int(its[12])) / tick - time.process_time()
    return 0.0


PROMPT, OUTPUT = Lengths(16, 112), Lengths(8, 56)
"""Lengths of a load with spread; a fixed load has their means."""
CLOSED, OPEN = (2, 4, 8), (0.30, 0.60, 0.85)


def loads(requests: int, full_rate: float, spread: bool) -> list[dict[str, Any]]:
    """The loads of one kind of lengths: closed loops, and open ones at shares of the rate that the slots complete."""
    prompt, output = PROMPT, OUTPUT
    if not spread:
        prompt, output = (Lengths(round(one.mean), round(one.mean)) for one in (PROMPT, OUTPUT))
    shared = {"lengths": "spread" if spread else "fixed", "requests": requests, "seed": 8, "prompt": asdict(prompt),
              "output": asdict(output)}  # fmt: skip
    closed: list[dict[str, Any]] = [{"loop": "closed", "clients": clients, **shared, "runs": []} for clients in CLOSED]
    return closed + [{"loop": "open", "rate": share * full_rate, "share": share, **shared, "runs": []}
                     for share in OPEN]  # fmt: skip


def drive(client: Client, load: dict[str, Any]) -> list[Answer]:
    """The log of one load."""
    todo = workload(load["requests"], load["seed"], Lengths(**load["prompt"]), Lengths(**load["output"]),
                    load.get("rate"))  # fmt: skip
    return asyncio.run(client.closed(todo, load["clients"]) if load["loop"] == "closed" else client.open(todo))


def main() -> int:
    """Writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--logs", type=Path, help="a folder for the log of each run, a JSONL file")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--only", choices=("steps", "loads"))
    asked = parser.parse_args()

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    kept = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    kept["machine"] = {"processor": processor_name(), "cores": os.cpu_count(), "shared": True, "threads": 1}
    kept["engine"] = {"server": f"xllamacpp {importlib.metadata.version('xllamacpp')}", "model": asked.model.name,
                      "slots": SLOTS, "batch_tokens": 2048, "pass_tokens": 512, "context": CONTEXT}  # fmt: skip

    def keep(**parts: Any) -> None:
        kept.update(parts)
        asked.output.write_text(json.dumps(kept, indent=1) + "\n")

    if asked.only != "loads":
        with serving(asked.model, STEP_SLOTS, STEP_CONTEXT) as server:
            decode_step(Client(server.address), 1, 64)  # warms up
            for steps in step_times(Client(server.address), asked.repeats):
                tell("a turn of all steps")
                ran = server.waits()
                keep(steps=steps, steps_core_share=ran and ran[0] / sum(ran))
    if asked.only != "steps":
        with serving(asked.model, SLOTS, CONTEXT) as server:
            client = Client(server.address)
            found = kept.get("loads")
            if not found:
                found = [
                    one for spread in (True, False) for one in loads(asked.requests, capacity(client, spread), spread)
                ]
            for load, run in measured_loads(server, client, found, asked.repeats):
                load["runs"].append(run[1] | summary(run[0]))
                keep(loads=found)
                at = load.get("clients") or load["share"]
                name = "-".join(map(str, (load["loop"], at, load["lengths"], len(load["runs"]))))
                tell(f"{name}: {load['runs'][-1]['e2e_s']['p50']:.2f} s, core {run[1]['core_share']}")
                if asked.logs is not None:
                    asked.logs.mkdir(parents=True, exist_ok=True)
                    lines = "".join(json.dumps(asdict(one)) + "\n" for one in run[0])
                    (asked.logs / f"{name}.jsonl").write_text(lines)
    return 0


def capacity(client: Client, spread: bool) -> float:
    """Requests a second that a closed loop of as many clients as slots completes."""
    full = next(load for load in loads(24, 1.0, spread) if load.get("clients") == SLOTS)
    return float(summary(drive(client, full))["requests_per_s"])


def measured_loads(
    server: Serving, client: Client, todo: list[dict[str, Any]], repeats: int
) -> Iterator[tuple[dict[str, Any], tuple[list[Answer], dict[str, Any]]]]:
    """Every load with its run, those with spread first, until each has so many runs that count."""
    for lengths in ("spread", "fixed"):
        for _ in range(TRIES * repeats):
            for load in todo:
                if load["lengths"] == lengths and sum(run["usable"] for run in load["runs"]) < repeats:
                    yield load, watched(server, client, partial(drive, client, load))


if __name__ == "__main__":
    raise SystemExit(main())
