"""When does each request get its first and its last token, on a machine that batches continuously?

The state moves from event to event. A step gives every running sequence a token; a step with work on prompts has room
for so many tokens of them beside. All running sequences advance by one token a step, so a sequence that starts to
decode at step v with n tokens to come ends at step v + n, whatever joins it: a heap of those ends stands for a count of
each sequence. Between two events (an arrival that has room, an end, a page of the cache that is not there) k steps take

    k x base[n] + cached_s x (k x tokens + n k (k - 1) / 2)   seconds

for n sequences with so many tokens in the cache, which grow by n a step.

The policy is that of vLLM's scheduler (`vllm/v1/core/sched/scheduler.py`: running sequences first, then prompts in the
order of arrival up to a budget of tokens, the last one cut; without a page for a running sequence the one that came
last gives its cache back and is worked on again) and of llama.cpp's server (`tools/server`: slots, each with a stretch
of the cache of its own). `reserves` takes the cache of the whole answer on admission, as TensorRT-LLM does by default.

Ten million requests are worked on in half a minute, so that `run` calls little and looks little up.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence, Sequence
from heapq import heappop, heappush
from math import sqrt

BUSY_S, ENERGY_J, SEQUENCE_S = range(3)
"""Rows of `bins`: seconds at work, energy, and sequences in the machine times seconds."""
STEPS, PREEMPTED, PROMPT_TOKENS, AGAIN_TOKENS, ANSWER_TOKENS, MOST_PAGES = range(6)
"""Places of `counts`. `AGAIN_TOKENS` were in a cache that was given back, and are worked on once more; `MOST_PAGES` are
those of the fullest cache, for one that is never full at most so many."""


def run(
    arrival: MutableSequence[float],
    prompt: Sequence[int],
    output: Sequence[int],
    shared: Sequence[int],
    clients: int,
    think_s: float,
    base_s: Sequence[float],
    mixed_s: Sequence[float],
    cached_s: float,
    token_s: float,
    pair_s: float,
    budget: int,
    mixes: bool,
    pages: int,
    page: int,
    reserves: bool,
    power_w: Sequence[float],
    bin_s: float,
    admitted: MutableSequence[float],
    first: MutableSequence[float],
    finish: MutableSequence[float],
    bins: Sequence[MutableSequence[float]],
    counts: MutableSequence[int],
    block: int,
) -> Iterator[int]:
    """Works on all requests; yields how many have ended after each `block` of them, and at the end.

    Args:
        arrival: seconds at which each request comes, in order; of a closed loop, those of the first clients, the
            others being filled in.
        prompt: tokens of each prompt, 1 or more.
        output: tokens of each answer, 1 or more.
        shared: tokens at the start of each prompt that the cache holds already; less than the prompt.
        clients: of a closed loop, who each ask again when they have their answer; 0 for an open one.
        think_s: seconds that a client takes to ask again.
        base_s: seconds of a step in which 0, 1, 2 ... sequences decode; its length bounds the sequences in the machine.
        mixed_s: the same of a step with work on prompts, before that work.
        cached_s: seconds that a step takes more for each token in the cache.
        token_s: seconds for each token of a prompt.
        pair_s: seconds for each pair of a prompt's token and one before it.
        budget: the most tokens of a step, more than sequences can run.
        mixes: whether sequences decode in steps with prompts.
        pages: of the cache, enough for any one request; 0 when it is never full.
        page: tokens of a page.
        reserves: whether a request takes the pages of its whole answer on admission.
        power_w: power while 0, 1, 2 ... sequences are in the machine.
        bin_s: width of the bins of time; what begins later counts in the last.
        admitted: where the time goes at which each request enters the machine.
        first: where the time of each first token goes.
        finish: where the time of each last token goes.
        bins: where what `BUSY_S` to `SEQUENCE_S` name goes, bin by bin.
        counts: where what `STEPS` to `MOST_PAGES` name goes.
        block: requests between two yields.
    """
    total, most, last_bin = len(prompt), len(base_s) - 1, len(bins[BUSY_S]) - 1
    issued = min(clients, total) if clients else total
    now, step, running, cached, free = arrival[0], 0, 0, 0, pages
    ended, told = 0, 0
    at, busy, energy, inside = int(now / bin_s), 0.0, 0.0, 0.0  # a bin, and what belongs to it so far
    at = min(at, last_bin)
    edge = (at + 1) * bin_s
    head = 0  # the next request
    part, part_begin = -1, 0  # one whose prompt was cut, and how much of it is done
    bounded = pages > 0
    grows = bounded and not reserves
    size = total if grows else 1
    began = [0] * size  # the step at which the cache of each was, or would have been, empty
    due = [0] * size  # the step of its end; 0 when it does not run
    done = [0] * size  # tokens of its answer from before its cache was given back
    phase = [0] * page  # how many sequences need a page at a step, by the step's number modulo the page
    ends = list[tuple[int, int]]()  # when each running sequence ends
    started = list[int]()  # running sequences in the order of their start, ended ones among them
    left = list[int]()  # those that gave their cache back
    joins = list[int]()  # those whose prompt is done in this step

    while ended < total:
        if running == 0 and part < 0 and len(left) == 0 and arrival[head] > now:
            while at < last_bin and edge <= arrival[head]:
                bins[BUSY_S][at] += busy
                bins[ENERGY_J][at] += energy + (edge - now) * power_w[0]
                bins[SEQUENCE_S][at] += inside
                busy = energy = inside = 0.0
                now = max(now, edge)
                at += 1
                edge = (at + 1) * bin_s
            energy += (arrival[head] - now) * power_w[0]
            now = arrival[head]
        gave = False
        if grows:
            while phase[step % page] > free and running + (part >= 0) > 1:
                gave = True
                counts[PREEMPTED] += 1
                if part >= 0:
                    free += -(-(prompt[part] + done[part] - shared[part]) // page)
                    counts[AGAIN_TOKENS] += part_begin - shared[part]
                    left.append(part)
                    part = -1
                    continue
                while due[started[-1]] == 0:
                    started.pop()
                who = started.pop()
                held = step - began[who]
                free += -(-held // page)
                phase[began[who] % page] -= 1
                running -= 1
                cached -= held + shared[who]
                due[who] = 0
                done[who] = held - (prompt[who] - shared[who]) + 1
                counts[AGAIN_TOKENS] += held
                left.append(who)
            while len(ends) > 0 and due[ends[0][1]] != ends[0][0]:
                heappop(ends)

        room = budget - running if mixes else budget
        present = running + (part >= 0)
        spent, worked = 0.0, 0
        while room > 0 and not gave:
            if part >= 0:
                who, begin = part, part_begin
            elif len(left) > 0:
                who = left[-1]
                begin = shared[who]
            elif head < issued and arrival[head] <= now:
                who, begin = head, shared[head]
            else:
                break
            whole = prompt[who] + done[who] if grows else prompt[who]
            if part < 0:
                if present >= most:
                    break
                if bounded:
                    need = -(-(whole - shared[who] + (output[who] if reserves else 0)) // page)
                    if need > free - phase[step % page]:
                        break
                    free -= need
                present += 1
                if len(left) > 0:
                    left.pop()
                else:
                    admitted[who] = now
                    head += 1
            chunk = whole - begin
            if chunk > room:  # noqa: PLR1730
                chunk = room
            spent += chunk * (token_s + pair_s * (begin + 0.5 * chunk))
            room -= chunk
            worked += chunk
            if begin + chunk < whole:
                part, part_begin = who, begin + chunk
            else:
                part = -1
                joins.append(who)

        many = 0  # steps in which the running sequences decode
        if worked > 0:
            seconds = spent
            if mixes and running > 0:
                many = 1
                seconds += mixed_s[running] + cached_s * cached
            else:
                seconds += mixed_s[0]
            counts[PROMPT_TOKENS] += worked
            counts[STEPS] += 1
        else:
            many = ends[0][0] - step
            line = base_s[running] + cached_s * (cached - 0.5 * running)
            square = 0.5 * cached_s * running
            if head < issued and running < most and len(left) == 0 and arrival[head] > now:
                gap = arrival[head] - now
                until = int(2.0 * gap / (line + sqrt(line * line + 4.0 * square * gap))) + 1
                if until < many:  # noqa: PLR1730  # a call of min() takes as long as all of this
                    many = until
            if grows and free < many * running:
                many = min(many, max(1, free // running * page))
            seconds = many * (line + square * many)
            counts[STEPS] += many
        busy += seconds
        energy += seconds * power_w[present]
        inside += seconds * present
        now += seconds
        if now >= edge and at < last_bin:
            bins[BUSY_S][at] += busy
            bins[ENERGY_J][at] += energy
            bins[SEQUENCE_S][at] += inside
            busy = energy = inside = 0.0
            at = min(int(now / bin_s), last_bin)
            edge = (at + 1) * bin_s

        if many > 0:
            counts[ANSWER_TOKENS] += many * running
            if grows:
                free -= many // page * running
                for ahead in range(step, step + many % page):
                    free -= phase[ahead % page]
            step += many
            cached += many * running
        held = pages - free
        if not bounded:
            held = cached + (prompt[part] if part >= 0 else 0)
            for who in joins:
                held += prompt[who]
            held = held // page + present
        if held > counts[MOST_PAGES]:  # noqa: PLR1730
            counts[MOST_PAGES] = held
        if many > 0:
            while len(ends) > 0 and ends[0][0] <= step:
                when, who = heappop(ends)
                if grows:
                    if due[who] != when:
                        continue
                    due[who] = 0
                    phase[began[who] % page] -= 1
                    free += -(-(step - began[who]) // page)
                elif bounded:
                    free += -(-(prompt[who] - shared[who] + output[who]) // page)
                running -= 1
                cached -= prompt[who] + output[who] - 1
                finish[who] = now
                ended += 1
                if issued < total:
                    arrival[issued] = now + think_s
                    issued += 1
        for who in joins:
            redo = done[who] if grows else 0
            if redo == 0:
                first[who] = now
            counts[ANSWER_TOKENS] += 1
            whole, more = prompt[who] + redo, output[who] - redo - 1
            if more == 0:
                if bounded:
                    free += -(-(whole - shared[who] + (output[who] if reserves else 0)) // page)
                finish[who] = now
                ended += 1
                if issued < total:
                    arrival[issued] = now + think_s
                    issued += 1
                continue
            running += 1
            cached += whole
            heappush(ends, (step + more, who))
            if grows:
                began[who] = step - (whole - shared[who])
                due[who] = step + more
                phase[began[who] % page] += 1
                started.append(who)
                if len(started) > 4 * most + 64:
                    started = [x for x in started if due[x] != 0]
        joins.clear()
        if ended - told >= block:
            told = ended
            bins[BUSY_S][at] += busy
            bins[ENERGY_J][at] += energy
            bins[SEQUENCE_S][at] += inside
            busy = energy = inside = 0.0
            yield ended
    bins[BUSY_S][at] += busy
    bins[ENERGY_J][at] += energy
    bins[SEQUENCE_S][at] += inside
    yield ended
