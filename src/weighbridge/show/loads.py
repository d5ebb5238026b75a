"""How does a load read on a terminal? What users see, how busy the machines are, what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.errors import printable
from weighbridge.loading import Load
from weighbridge.predict import batching
from weighbridge.show.plans import amount, figure, title
from weighbridge.show.tables import bar, bold, table
from weighbridge.units import format_seconds

MEASURES = {"ttft_s": "time to first token", "tpot_s": "time per output token", "e2e_s": "whole answer",
            "waiting_s": "of it, waiting"}  # fmt: skip
HELD = {"yes": "kept, at the high bound too", "likely": "kept in the middle of the interval, not at its high bound",
        "unlikely": "broken in the middle of the interval, kept at its low bound", "no": "broken"}  # fmt: skip


def load_lines(found: Load) -> Iterator[str]:
    """The whole report of `weigh load`."""
    yield bold(title(found.engine.plan))
    yield load_words(found)
    yield ""
    yield from table("what users wait, in seconds (modelled, 90% intervals)", ("measure", "mean", *percents(found)),
                     latency_rows(found), right=tuple(range(1, 2 + len(percents(found)))))  # fmt: skip
    if found.limits:
        yield from table(f"limits for {found.percent:g}% of the requests", ("limit", "value", ""), limit_rows(found),
                         right=(1,))  # fmt: skip
    yield from table("machines", ("quantity", "value"), machine_rows(found), right=(1,))
    money = cost_rows(found)
    if money:
        yield from table("cost", ("quantity", "value"), money, right=(1,))
    power = energy_rows(found)
    if power:
        yield from table("energy and carbon", ("quantity", "value", "basis"), power, right=(1,))
    hours = hour_rows(found)
    if len(hours) > 1:
        heads = ("from hour", "requests/s", "with work", "first token, p95", "replicas needed", "")
        yield from table("over time", heads, hours, right=(0, 1, 2, 3, 4))
    yield from (f"note: {printable(note)}" for note in found.notes)


def percents(found: Load) -> tuple[str, ...]:
    """The percentiles that are told, as `p50`."""
    return tuple(name for name in found.latency["e2e_s"] if name != "mean")


def load_words(found: Load) -> str:
    """Who asks for what, in one line."""
    traffic, outcome = found.traffic, found.outcome
    who = f"{found.clients:,} clients" if found.clients else f"{figure(found.rate)} requests/s"
    again = f", each asking again after {format_seconds(found.think_s)}" if found.clients and found.think_s else ""
    runtime = found.engine.plan.service.runtime.name
    prompt, output = traffic.prompt_tokens.mean(), traffic.output_tokens.mean()
    return (f"{runtime}, {found.replicas:,} replica{'s' * (found.replicas > 1)}, {who}{again}, prompts of "
            f"{prompt:,.0f} and answers of {output:,.0f} tokens on average; {len(outcome):,} requests in "
            f"{format_seconds(outcome.span_s)} simulated")  # fmt: skip


def latency_rows(found: Load) -> list[tuple[str, ...]]:
    """Measures with their mean and percentiles."""
    return [(title_, *(amount(one) for one in found.latency[name].values())) for name, title_ in MEASURES.items()]


def limit_rows(found: Load) -> list[tuple[str, str, str]]:
    """Limits, what they were held against, and whether they are kept."""
    return [(f"{MEASURES[f'{limit.name}_s']} up to {format_seconds(limit.seconds)}",
             amount(found.latency[f"{limit.name}_s"][f"p{found.percent:g}"]), HELD[found.held(limit)])
            for limit in found.limits]  # fmt: skip


def machine_rows(found: Load) -> list[tuple[str, str]]:
    """How busy the machines are, and what one of them bears."""
    outcome = found.outcome
    rows = [
        ("load over the most that they bear", f"{found.of_bearable:.0%}"),
        ("time with a request in them", f"{outcome.busy_share:.0%}"),
        ("sequences in each meanwhile", f"{figure(outcome.sequences, 3)} of {found.engine.times.most:,}"),
        ("fullest cache", "no bound" if found.cache_share is None else f"{found.cache_share:.0%}"),
        ("requests/s, all together", figure(found.requests_per_s)),
        ("output token/s, all together", figure(found.output_tokens_per_s)),
        ("requests/s that one bears at most", amount(found.bearable)),
    ]
    if found.capacity is not None:
        rows.append(("requests/s of one within the limits", amount(found.capacity)))
    if failures := found.failures:
        rows.append(("time in which all replicas work", f"{failures.enough:.3%}"))
        rows.append((f"spares for {failures.uptime:.4g} of the time", f"{failures.spares:,}"))
    if preempted := outcome.counts[batching.PREEMPTED]:
        rows.append(("sequences that gave their cache back", f"{preempted:,}"))
    return rows


def cost_rows(found: Load) -> list[tuple[str, str]]:
    """What all machines cost, where a price is known."""
    names = {"usd_per_hour": "USD an hour", "usd_per_day": "USD a day", "usd_per_year": "USD a year",
             "usd_per_request": "USD a request",
             "usd_per_million_output_tokens": "USD a million output tokens"}  # fmt: skip
    return [(names[key], amount(one)) for key, one in found.cost().items() if one.value is not None]


def energy_rows(found: Load) -> list[tuple[str, str, str]]:
    """What all machines take, where their power is known."""
    names = {"average_power_w": "watts, on average", "kwh_per_day": "kWh a day", "j_per_request": "joules a request",
             "j_per_output_token": "joules an output token", "kgco2e_per_day": "kg of CO2e a day",
             "gco2e_per_million_output_tokens": "grams of CO2e a million output tokens"}  # fmt: skip
    return [(names[key], amount(one), one.basis.value) for key, one in found.energy().items() if one.value is not None]


def hour_rows(found: Load) -> list[tuple[str, ...]]:
    """The load by stretches of time."""
    hours = found.hours()
    highest = max((hour["requests_per_s"] for hour in hours), default=0.0) or 1.0
    return [(f"{hour['start_s'] / 3600:g}", figure(hour["requests_per_s"]), f"{hour['busy_share']:.0%}",
             "-" if hour["ttft_p95_s"] is None else format_seconds(hour["ttft_p95_s"]),
             "-" if hour["replicas_needed"] is None else f"{hour['replicas_needed']:,}",
             bar(hour["requests_per_s"] / highest)) for hour in hours]  # fmt: skip
