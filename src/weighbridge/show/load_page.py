"""One page for one load: how long users wait, what it costs, how many machines it takes, and what all that rests on."""

from __future__ import annotations

from html import escape

import numpy as np

from weighbridge.errors import printable
from weighbridge.estimate import Basis
from weighbridge.load_curve import curve
from weighbridge.load_engine import HABITS
from weighbridge.loading import Load
from weighbridge.show import load_pictures, loads, report
from weighbridge.show.plans import figure, title
from weighbridge.units import format_seconds

STYLE = """.weighbridge .basis td{vertical-align:top}
.weighbridge .basis td:first-child,.weighbridge .basis td:nth-child(2){min-width:12rem}
.weighbridge .basis td:last-child{overflow-wrap:anywhere}
"""
HOUR_HEADS = ("from hour", "requests/s", "busy", "first token, p95", "replicas needed")


def page(found: Load) -> str:
    """The load as one self-contained HTML page."""
    heading, points = title(found.engine.plan), curve(found)
    limits, hours = loads.limit_rows(found), [row[:5] for row in loads.hour_rows(found)]
    money, power = loads.cost_rows(found), loads.energy_rows(found)
    rests = report.table("What it rests on", ("what", "value", "basis", ""), assumption_rows(found), (0, 1, 2, 3))
    parts = [
        f'<h2>{escape(heading)}</h2><p class="soft">{escape(loads.load_words(found))}</p>',
        report.table("What users wait, in seconds (modelled, 90% intervals)",
                     ("measure", "mean", *loads.percents(found)), loads.latency_rows(found)),
        report.table(f"Limits for {found.percent:g}% of the requests", ("limit", "value, s", ""), limits, (0, 2))
        if limits else "",
        load_pictures.latency_svg(found, points),
        load_pictures.spread_svg(found),
        report.table("Machines", ("quantity", "value"), loads.machine_rows(found)),
        load_pictures.hours_svg(found),
        f"<details><summary>the same in numbers</summary>{report.table('', HOUR_HEADS, hours)}</details>"
        if len(hours) > 1 else "",
        load_pictures.cost_svg(found, points),
        report.table("Cost", ("quantity", "value"), money) if money else "",
        report.table("Energy and carbon", ("quantity", "value", "basis"), power) if power else "",
        f'<div class="basis">{rests}</div>',
        report.items(printable(note) for note in found.notes),
    ]  # fmt: skip
    return report.document(
        heading, f'<div class="weighbridge"><style>{report.STYLE}{STYLE}</style>{"".join(parts)}</div>'
    )


def assumption_rows(found: Load) -> list[tuple[str, str, str, str]]:
    """What the simulation rests on: what it is, its value, its basis, and where it comes from."""
    modelled, assumed, specified = Basis.MODELLED.value, Basis.ASSUMED.value, Basis.SPECIFIED.value
    engine, traffic = found.engine, found.traffic
    runtime, times, policy = engine.plan.service.runtime, engine.times, engine.policy
    habits = HABITS[runtime.name]
    steps = engine.plan.speed.tpot_s.basis.value

    def spread(name: str) -> str:
        low, high = engine.spread[name]
        return f"{low:.2f} to {high:.2f} times the middle"

    def habit(value: int, own: int) -> tuple[str, str]:
        if value == own:
            return assumed, f"{runtime.name} starts with it by default"
        return modelled, f"as asked, or as there is room; {runtime.name} starts with {own:,} by default"

    rows = [
        ("a step of one sequence, with an empty cache", format_seconds(float(times.base_s[1])), steps,
         "the engine of weigh fit"),
        (f"a step of {times.most:,}", format_seconds(float(times.base_s[-1])), steps, "likewise"),
        ("a token more in the cache", _small(times.cached_s), steps, "likewise"),
        ("a token of a prompt", _small(times.token_s), steps, "likewise; more after a long prompt"),
        ("how unsure steps are", spread("tpot"), modelled, "90% interval of the fit"),
        ("how unsure first tokens are", spread("ttft"), modelled, "90% interval of simulated against measured"),
        ("how unsure whole answers are", spread("e2e"), modelled, "likewise"),
        ("what a request waits outside of steps",
         f"{_small(times.start_s)}, {_small(times.start_token_s)} a token of its prompt, {times.start_steps:.3g} steps",
         modelled, "fitted to measured closed loops" if times.start_steps else "not known of this engine: none"),
        ("most sequences in a machine", f"{times.most:,}", *habit(times.most, habits.sequences)),
        ("most tokens of a step", f"{policy.budget:,}", *habit(policy.budget, habits.step_tokens)),
        ("prompts", "share steps with answers" if policy.mixes else "have steps of their own", assumed,
         f"a habit of {runtime.name}"),
        ("cache", f"{policy.tokens:,.0f} tokens in pages of {policy.page:,}" if policy.pages else "never full",
         modelled, "memory less weights, activations and overhead" if policy.pages else "each sequence has its part"),
    ]  # fmt: skip
    if policy.pages:
        words = "room for the whole answer" if policy.reserves else "room for its prompt, then for each token"
        rows.append(("what a sequence takes of it", words, assumed, f"a habit of {runtime.name}"))
    if found.replicas > 1:
        rows.append(("which replica a request goes to", "each in its turn", assumed, "no router is simulated"))
    for name, tokens in (("prompts", traffic.prompt_tokens), ("answers", traffic.output_tokens)):
        lengths = f"{tokens.mean():,.0f} tokens on average, {tokens.min():,} to {tokens.max():,}"
        spreads = f"{tokens.std() / tokens.mean():.2f} times the mean"
        rows.append((f"lengths of {name}", lengths, specified, f"standard deviation: {spreads}"))
    shared = float(np.mean(traffic.shared_tokens))
    if shared:
        rows.append(("tokens of prompts in the cache before", f"{shared:,.0f} on average", specified,
                     "they are there from the start, which is assumed"))  # fmt: skip
    rows.append(_arrivals(found))
    if found.outcome.left_out:
        rows.append(("requests left out at the start", f"{found.outcome.left_out:,}", assumed,
                     "they came to machines that had nothing to do"))  # fmt: skip
    if found.failures is not None:
        rows.append(
            ("time that one device works", f"{found.failures.device:.4%}", specified, "failures are not simulated")
        )
    draws = engine.power
    watts = "unknown" if draws.value is None else f"{figure(draws.value)} W"
    rows.append(("power of a replica that is half full", watts, draws.basis.value, draws.note))
    hour = found.usd_per_hour
    if hour.value is None:
        rows.append(("price", "unknown", specified, hour.note))
    else:
        rows.append(("price of all machines", f"{figure(hour.value)} USD an hour", hour.basis.value,
                     f"{hour.note}, read on {engine.plan.machine.device.checked}"))  # fmt: skip
    return [(row[0], row[1], row[2], printable(row[3])) for row in rows]


def _arrivals(found: Load) -> tuple[str, str, str, str]:
    """Who comes when."""
    if found.clients:
        again = format_seconds(found.think_s) if found.think_s else "at once"
        return ("arrivals", f"{found.clients:,} clients, each after its answer", Basis.SPECIFIED.value,
                f"they ask again {'after ' if found.think_s else ''}{again}")  # fmt: skip
    gaps = found.traffic.arrival_s[1:] - found.traffic.arrival_s[:-1]
    # A sample has the requests of some replicas, whose arrivals are more even than those of all.
    uneven = (found.replicas / found.outcome.replicas) ** 0.5 if found.outcome.left_out else 1.0
    value = f"{figure(found.rate)} requests/s on average"
    spread = (
        "one request" if not len(gaps) or not gaps.mean() else f"{uneven * gaps.std() / gaps.mean():.2f} times the mean"
    )
    return (
        "arrivals",
        value,
        Basis.SPECIFIED.value,
        f"standard deviation of the time between two: {spread} (1 where they are independent, at an even rate)",
    )


def _small(seconds: float) -> str:
    """A time that may be far below a millisecond."""
    return f"{seconds * 1e6:.3g} µs" if 0 < seconds < 1e-3 else format_seconds(seconds)
