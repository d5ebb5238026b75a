"""Does the simulation from event to event do what the same machine does step by step, token by token, page by page?

`by_hand` keeps a list of sequences, a queue and single pages, as the scheduler does whose policy it is, and knows
neither events nor sums over steps. Times that must not coincide by chance are multiples of roots of different primes.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from weighbridge.predict import batching

GAP_S, THINK_S = 0.01 * math.sqrt(2), 0.01 * math.sqrt(3)


@dataclass(frozen=True)
class Case:
    """Requests, a machine and a policy, as `batching.run` takes them."""

    gaps: tuple[int, ...]
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    shared: tuple[int, ...]
    clients: int
    think: int
    most: int
    cached_s: float
    budget: int
    mixes: bool
    pages: int
    page: int
    reserves: bool

    token_s: float = 0.001 * math.sqrt(7)
    pair_s: float = 0.0001 * math.sqrt(11)

    @property
    def base_s(self) -> list[float]:
        """Steps that are longer with more sequences; one without any never is."""
        return [math.nan] + [0.01 * math.sqrt(13) + n * 0.001 * math.sqrt(17) for n in range(self.most)]

    @property
    def mixed_s(self) -> list[float]:
        """Longer with prompts, and of prompts alone shorter."""
        return [0.005 * math.sqrt(5)] + [0.02 * math.sqrt(3) + n * 0.001 * math.sqrt(19) for n in range(self.most)]

    @property
    def power_w(self) -> list[float]:
        """More with more sequences."""
        return [100.0 + 10.0 * n for n in range(self.most + 1)]

    @property
    def arrival_s(self) -> list[float]:
        """Those of a closed loop's first clients are 0."""
        return [0.0] * len(self.gaps) if self.clients else (GAP_S * np.cumsum(self.gaps)).tolist()

    @property
    def fits(self) -> bool:
        """Whether each request has room in an empty cache."""
        longest = max(p + o for p, o in zip(self.prompt, self.output, strict=True))
        return not self.pages or longest <= self.pages * self.page


@dataclass
class Found:
    """What became of the requests."""

    admitted: list[float]
    first: list[float]
    finish: list[float]
    arrival: list[float]
    busy_s: float = 0.0
    energy_j: float = 0.0
    sequence_s: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * 6)


def run(case: Case, bin_s: float = 0.25, columns: int = 7, block: int = 2) -> Found:
    """What the simulation says, with its bins added up."""
    total = len(case.prompt)
    arrival = array("d", case.arrival_s)
    admitted, first, finish = (array("d", bytes(8 * total)) for _ in range(3))
    bins = [[0.0] * columns for _ in range(3)]
    counts = [0] * 6
    told = list(
        batching.run(
            arrival, case.prompt, case.output, case.shared, case.clients, case.think * THINK_S, case.base_s,
            case.mixed_s, case.cached_s, case.token_s, case.pair_s, case.budget, case.mixes, case.pages, case.page,
            case.reserves, case.power_w, bin_s, admitted, first, finish, bins, counts, block,
        )
    )  # fmt: skip
    assert told == sorted(told) and told[-1] == total
    busy, energy, inside = (sum(row) for row in bins)
    return Found(list(admitted), list(first), list(finish), list(arrival), busy, energy, inside, counts)


@dataclass
class Sequence:
    """One request, and how far it is."""

    number: int
    prompt: int
    output: int
    shared: int
    told: int = 0
    worked: int = 0
    decodes: bool = False
    pages: list[int] = field(default_factory=list)

    @property
    def target(self) -> int:
        """Tokens to be worked on until the next one is told."""
        return self.prompt + self.told


def by_hand(case: Case) -> Found:
    """The same machine, a step at a time."""
    total = len(case.prompt)
    nothing = [-1.0] * total
    found = Found(nothing[:], nothing[:], nothing[:], case.arrival_s)
    requests = [Sequence(n, case.prompt[n], case.output[n], case.shared[n]) for n in range(total)]
    coming = requests[: case.clients] if case.clients else requests[:]
    behind = requests[case.clients :] if case.clients else []
    waiting: list[Sequence] = []
    running: list[Sequence] = []
    unused = list(range(case.pages or 10**4))
    everything = len(unused)
    now = found.arrival[0]
    while min(found.finish) < 0:
        if not running and not waiting and found.arrival[coming[0].number] > now:
            found.energy_j += (found.arrival[coming[0].number] - now) * case.power_w[0]
            now = found.arrival[coming[0].number]
        while coming and found.arrival[coming[0].number] <= now:
            waiting.append(coming.pop(0))
        # A page for each running sequence that needs one, or the last one goes.
        gave = False
        for sequence in [one for one in running if one.decodes]:
            while sequence in running and sequence.worked - sequence.shared == len(sequence.pages) * case.page:
                if unused:
                    sequence.pages.append(unused.pop())
                    continue
                last, gave = running.pop(), True
                found.counts[batching.PREEMPTED] += 1
                found.counts[batching.AGAIN_TOKENS] += last.worked - last.shared
                last.worked, last.decodes = 0, False
                unused += last.pages
                last.pages = []
                waiting.insert(0, last)
        decoding = [one for one in running if one.decodes]
        # Prompts, in the order of arrival, up to the budget.
        room = case.budget - len(decoding) if case.mixes else case.budget
        seconds, prompts = 0.0, []
        while room and not gave:
            if running and not running[-1].decodes and running[-1] not in prompts:
                sequence = running[-1]
            elif waiting and len(running) < case.most:
                sequence = waiting[0]
                tokens = sequence.target - sequence.shared + (sequence.output if case.reserves else 0)
                needed = math.ceil(tokens / case.page)
                if needed > len(unused):
                    break
                sequence.pages = [unused.pop() for _ in range(needed)]
                sequence.worked = sequence.shared
                running.append(waiting.pop(0))
                if found.admitted[sequence.number] < 0:
                    found.admitted[sequence.number] = now
            else:
                break
            prompts.append(sequence)
            while room and sequence.worked < sequence.target:
                seconds += case.token_s + case.pair_s * (sequence.worked + 0.5)
                sequence.worked += 1
                room -= 1
                found.counts[batching.PROMPT_TOKENS] += 1
        present = len(running)
        if prompts and not case.mixes:  # pages for the tokens of this step stay unused
            for sequence in [] if case.reserves else decoding:
                while (len(sequence.pages) - 1) * case.page >= sequence.worked - sequence.shared:
                    unused.append(sequence.pages.pop())
            decoding = []
        seconds += (case.mixed_s if prompts else case.base_s)[len(decoding)]
        for sequence in decoding:
            seconds += case.cached_s * sequence.worked
            sequence.worked += 1
        now += seconds
        found.busy_s += seconds
        found.sequence_s += seconds * present
        found.energy_j += seconds * case.power_w[present]
        found.counts[batching.STEPS] += 1
        found.counts[batching.MOST_PAGES] = max(found.counts[batching.MOST_PAGES], everything - len(unused))
        for sequence in decoding + prompts:
            if sequence.worked < sequence.target:
                continue
            sequence.told += 1
            sequence.decodes = True
            found.counts[batching.ANSWER_TOKENS] += 1
            if sequence.told == 1:
                found.first[sequence.number] = now
            if sequence.told == sequence.output:
                found.finish[sequence.number] = now
                running.remove(sequence)
                unused += sequence.pages
                if behind:
                    found.arrival[behind[0].number] = now + case.think * THINK_S
                    coming.append(behind.pop(0))
    assert len(unused) == everything
    return found


@st.composite
def cases(draw: st.DrawFn, is_full: bool) -> Case:
    """Machines whose cache is never full, or full of answers that are longer than prompts."""
    total = draw(st.integers(8 if is_full else 1, 16))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))

    def several(low: int, high: int) -> tuple[int, ...]:
        return tuple(random.integers(low, high, total, endpoint=True).tolist())

    prompt = several(1, draw(st.sampled_from([3, 12, 40])))
    output = several(1, draw(st.sampled_from([25, 60] if is_full else [1, 4, 30])))
    most = draw(st.integers(2 if is_full else 1, 6))
    mixes = draw(st.booleans())
    page = draw(st.sampled_from([1, 2, 3, 4, 16]))
    longest = max(p + o for p, o in zip(prompt, output, strict=True))
    return Case(
        gaps=several(0, draw(st.sampled_from([0, 3, 40]))), prompt=prompt, output=output,
        shared=tuple(random.integers(0, prompt).tolist()) if draw(st.booleans()) else (0,) * total,
        clients=draw(st.integers(1, 6)) if draw(st.booleans()) else 0, think=draw(st.sampled_from([0, 0, 1, 7, 60])),
        most=most, cached_s=draw(st.sampled_from([0.0, 0.0001 * math.sqrt(19)])),
        budget=draw(st.integers(most + 1 if mixes else 1, 24)), mixes=mixes,
        pages=math.ceil(longest / page) + draw(st.integers(0, 8)) if is_full else 0, page=page,
        reserves=is_full and draw(st.sampled_from([False, False, True])),
    )  # fmt: skip


def assert_equal(found: Found, expected: Found) -> None:
    assert found.counts[:5] == expected.counts[:5]
    for name in ("arrival", "admitted", "first", "finish", "busy_s", "sequence_s", "energy_j"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9, abs=1e-9), name


@settings(max_examples=600, deadline=None)
@given(cases(is_full=False))
def test_events_agree_with_steps(case: Case) -> None:
    found, expected = run(case), by_hand(case)
    assert_equal(found, expected)
    assert found.counts[batching.MOST_PAGES] >= expected.counts[batching.MOST_PAGES]


@settings(max_examples=600, deadline=None)
@given(cases(is_full=True))
def test_events_agree_with_steps_when_the_cache_is_full(case: Case) -> None:
    found, expected = run(case), by_hand(case)
    event(f"preempted {min(expected.counts[batching.PREEMPTED], 5)}")
    assert_equal(found, expected)
    assert found.counts[batching.MOST_PAGES] == expected.counts[batching.MOST_PAGES]
