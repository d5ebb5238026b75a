"""How does a plan read on a terminal? Memory part by part with bars, speed with intervals, what else could be done."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from weighbridge.errors import printable
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.launch.line import Launch
from weighbridge.planning import Plan
from weighbridge.predict.cost import cost, energy
from weighbridge.rankings import Budget, Candidate
from weighbridge.show.tables import bar, bold, table
from weighbridge.units import format_bytes


def size(estimate: Estimate) -> str:
    """Bytes for people, with the interval where there is one.

    Example:
        >>> size(Estimate.exact(2_000_000_000, "B")), size(Estimate(3e9, 2e9, 4e9, "B", Basis.MODELLED))
        ('2.00 GB', '3.00 GB (2.00 to 4.00)')
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "unknown"
    scale, unit = next(((s, u) for s, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
                        if estimate.value >= s), (1.0, "B"))  # fmt: skip
    text = f"{estimate.value / scale:,.2f} {unit}"
    if estimate.low == estimate.high:
        return text
    return f"{text} ({estimate.low / scale:,.2f} to {estimate.high / scale:,.2f})"


def amount(estimate: Estimate) -> str:
    """A number for people, with the interval where there is one."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return f"unknown: {estimate.note}"
    if estimate.low == estimate.high:
        return figure(estimate.value)
    return f"{figure(estimate.value)} ({figure(estimate.low, 3)} to {figure(estimate.high, 3)})"


def basis(estimate: Estimate) -> str:
    """What a number rests on; nothing that is unknown rests on anything.

    Example:
        >>> basis(Estimate.exact(1, "B")), basis(Estimate(None, None, None, "USD", Basis.MODELLED, "no price"))
        ('exact', 'unknown')
    """
    return "unknown" if estimate.value is None else estimate.basis.value


def figure(value: float, digits: int = 4) -> str:
    """A number in so many digits, written out where it has more before the point.

    Example:
        >>> figure(0.0123456), figure(27460.4), figure(44512.0, 3)
        ('0.01235', '27,460', '44,512')
    """
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """The whole report of `weigh fit`."""
    memory = plan.memory
    yield bold(title(plan))
    yield service_words(plan)
    yield ""
    memory_heads = ("part", "bytes", "basis", "")
    yield from table(f"memory: {VERDICTS[memory.fits]}", memory_heads, memory_rows(plan), right=(1,))
    limits = limit_words(plan)
    if limits:
        yield limits
        yield ""
    yield from table(speed_title(plan), ("quantity", "value"), speed_rows(plan), right=(1,))
    costs = cost_rows(plan)
    if costs:
        yield from table("cost and energy", ("quantity", "value", "basis"), costs, right=(1,))
    others = other_rows(plan)
    if others:
        yield from table("otherwise", OTHER_HEADS, others, right=(1, 3))
    yield from (f"note: {printable(note)}" for note in plan.notes)


VERDICTS = {True: "it fits", False: "it does NOT fit", None: "whether it fits is unknown"}
OTHER_HEADS = ("change", "memory needed", "", "decoding, token/s")


def launch_lines(launch: Launch) -> Iterator[str]:
    """The line that starts an engine, with the files that it reads, for a shell; below it what it cannot be told."""
    yield ""
    yield bold("launch")
    for name, text in launch.files.items():
        yield f"cat > {shlex.quote(name)} <<'END'"
        yield from (printable(line) for line in text.splitlines())
        yield "END"
    yield printable(launch.line)
    yield f"options as of {launch.version}"
    yield from (f"note: {printable(note)}" for note in launch.notes)


def title(plan: Plan) -> str:
    """Model, encoding and machine in one line."""
    built = plan.machine
    return printable(f"{plan.source} in {plan.weights.recipe} on {built.devices} x {built.device.title}")


def service_words(plan: Plan) -> str:
    """What is asked of the machine, in one line."""
    service = plan.service
    asked = f"{service.concurrency} clients" if service.concurrency else f"a batch of {service.batch}"
    return (f"{service.runtime.name}, {asked}, prompts of {service.prompt_tokens:,}, answers of "
            f"{service.output_tokens:,}, contexts of {service.context_tokens:,}, cache in {service.kv}")  # fmt: skip


def memory_rows(plan: Plan) -> list[tuple[str, str, str, str]]:
    """Part, bytes, basis and bar of the memory."""
    memory = plan.memory
    parts = {"weights": memory.weights_bytes, "cache and state": memory.state_bytes,
             "activations": memory.activation_bytes, "overhead": memory.overhead_bytes}  # fmt: skip
    whole = memory.capacity_bytes or memory.total_bytes.value or 1
    rows = [(name, size(part), part.basis.value, bar((part.value or 0) / whole)) for name, part in parts.items()]
    if memory.host_bytes:
        rows.append(("of these on the host", f"-{format_bytes(memory.host_bytes)}", memory.host_basis.value, ""))
    rows.append(("needed", size(memory.total_bytes), memory.total_bytes.basis.value,
                 bar((memory.total_bytes.value or 0) / whole)))  # fmt: skip
    rows.append(("reserved by the engine", size(memory.reserved_bytes), memory.reserved_bytes.basis.value, ""))
    if memory.capacity_bytes is not None:
        rows.append(("memory of the devices", format_bytes(memory.capacity_bytes), "specified", ""))
    return rows


def limit_words(plan: Plan) -> str:
    """The largest context and batch that fit; empty where both are without a bound or unknown.

    With a closed loop, the largest context with which all clients run at once.
    """
    words = []
    if (most := plan.memory.max_context) is not None:
        longest = plan.inspection.longest_context
        beyond = f" (the model has {longest:,} positions)" if longest is not None and most > longest else ""
        words.append(f"{context_word(plan)}: {most:,}{beyond}")
    if plan.memory.max_batch is not None:
        words.append(f"largest batch: {plan.memory.max_batch:,}")
    return "; ".join(words)


def context_word(plan: Plan) -> str:
    """What the largest context is called."""
    return "largest context" if plan.service.is_static else "largest context with all clients at once"


def speed_title(plan: Plan) -> str:
    """What the table of speeds is called."""
    bound = f"; bound by {plan.speed.bound_by}" if plan.speed.bound_by else ""
    return f"speed (modelled, 90% intervals{bound})"


def speed_rows(plan: Plan) -> list[tuple[str, str]]:
    """Quantity and value of the speeds."""
    fast = plan.speed
    speeds = [("prompts, token/s", fast.prefill_tok_s), ("decoding, token/s of one sequence", fast.decode_tok_s),
              ("time to first token, s", fast.ttft_s), ("time per output token, s", fast.tpot_s),
              ("a whole request, s", fast.request_s),
              ("output of the machine, token/s", fast.output_tok_s)]  # fmt: skip
    return [(name, amount(value)) for name, value in speeds]


def cost_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """Quantity, value and basis of what is known of cost and energy."""
    money = {**cost(plan.machine, plan.speed, plan.service), **energy(plan.joules, plan.site)}
    names = {"usd_per_hour": "USD an hour", "usd_per_million_output_tokens": "USD a million output tokens",
             "usd_per_request": "USD a request", "j_per_output_token": "joules an output token",
             "gco2e_per_million_output_tokens": "grams of CO2e a million output tokens"}  # fmt: skip
    return [(names[key], _document(value), str(value["basis"])) for key, value in money.items()
            if value["value"] is not None]  # fmt: skip


def other_rows(plan: Plan) -> list[tuple[str, str, str, str]]:
    """What else could be done: change, memory, verdict, speed."""
    words = {True: "fits", False: "does not fit", None: "unknown"}
    return [(a.change, size(a.memory_total_bytes), words[a.fits], amount(a.decode_tok_s)) for a in plan.alternatives]


def _document(value: dict[str, object]) -> str:
    return amount(Estimate(value["value"], value["low"], value["high"], "", Basis.ASSUMED, "-"))  # type: ignore[arg-type]


def device_lines(devices: Iterable[Device]) -> Iterator[str]:
    """The table of `weigh devices`."""
    rows = [
        (d.name, d.title, d.kind, format_bytes(d.memory_bytes) if d.memory_bytes else "unknown",
         f"{d.memory_bytes_per_s / 1e9:,.0f}" if d.memory_bytes_per_s else "unknown",
         f"{max(d.flops_per_s.values()) / 1e12:,.0f}" if d.flops_per_s else "unknown")
        for d in devices
    ]  # fmt: skip
    heads = ("name", "title", "kind", "memory", "GB/s", "most TFLOP/s")
    yield from table("devices (specified)", heads, rows, right=(3, 4, 5))


def candidate_lines(candidates: Sequence[Candidate], most: int) -> Iterator[str]:
    """The table of `weigh devices --for` and `weigh models --on`: the first of them."""
    rows = [
        (c.name, c.title, f"{c.plan.weights.recipe}, {c.plan.service.runtime.name}",
         {True: "fits", False: "does not fit", None: "unknown"}[c.plan.memory.fits],
         size(c.plan.memory.total_bytes),
         format_bytes(c.plan.memory.capacity_bytes) if c.plan.memory.capacity_bytes else "unknown",
         f"{c.plan.memory.max_context:,}" if c.plan.memory.max_context else "-", amount(c.plan.speed.decode_tok_s))
        for c in candidates[:most]
    ]  # fmt: skip
    heads = ("name", "title", "weights", "", "memory needed", "of", "largest context", "decoding, token/s")
    yield from table("ranked", heads, rows, right=(4, 5, 6, 7))
    fitting = sum(c.plan.memory.fits is True for c in candidates)
    yield f"{fitting:,} of {len(candidates):,} that can be planned fit; {min(most, len(candidates)):,} are shown"


def budget_lines(found: Budget) -> Iterator[str]:
    """The answer of `weigh fit --within`."""
    bits = f"{found.bits_per_weight:.2f} bits a weight"
    yield bold(printable(f"{found.source} within {format_bytes(found.budget_bytes)}: {bits}"))
    yield ""
    if not found.recipes:
        yield "no encoding is that small: it does NOT fit"
        return
    rows = [(name, f"{size:,}") for name, size in found.recipes]
    yield from table("what fits (exact bytes of the tensors)", ("encoding", "bytes"), rows, right=(1,))
