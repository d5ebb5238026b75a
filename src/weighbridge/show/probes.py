"""How do a probe of this machine and a measured model read on a terminal?"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.errors import printable
from weighbridge.estimate import Estimate
from weighbridge.hardware.probe import Probe
from weighbridge.measuring.comparison import Compared, Comparison, percentile
from weighbridge.show.plans import amount, size
from weighbridge.show.tables import bold, table
from weighbridge.units import format_bytes


def probe_lines(found: Probe) -> Iterator[str]:
    """The report of `weigh probe`."""
    yield bold(printable(found.processor))
    yield ""
    values = found.measured

    def giga(value: float | None) -> str:
        return "unknown" if value is None else f"{value / 1e9:,.1f}"

    cores = f"{found.physical_cores or 'unknown'} ({found.logical_cores} logical)"
    rows = [
        ("cores", cores, ""),
        ("memory", format_bytes(found.memory_bytes) if found.memory_bytes else "unknown", ""),
        ("memory bandwidth, GB/s", giga(values.bytes_per_s_one), giga(values.bytes_per_s_all)),
        ("fp32 products, GFLOP/s", giga(values.fp32_flops_per_s_one), giga(values.fp32_flops_per_s_all)),
        ("disk, GB/s", giga(found.disk.bytes_per_s if found.disk else None), ""),
    ]
    heads = ("measured", "one thread", f"{values.threads} threads")
    yield from table("this machine", heads, rows, right=(1, 2))
    for kernels in values.kernels.values():
        timed = [(name, f"{ps:,.1f}", f"{kernels.prompt_ps[name]:,.1f}") for name, ps in kernels.weight_ps.items()]
        yield from table(f"picoseconds a weight, one thread ({kernels.engine})",
                         ("encoding", "decoding", "prompts"), timed, right=(1, 2))  # fmt: skip
    if values.training is not None:
        names = {"product_ps": "a multiply-add of a product", "logit_ps": "a logit", "element_ps": "a kept element",
                 "update_ps": "an update of AdamW"}  # fmt: skip
        timed_parts = [(words, f"{getattr(values.training, name):,.1f}") for name, words in names.items()]
        yield from table(f"picoseconds of training, one thread ({values.training.engine})", ("part", "ps"),
                         timed_parts, right=(1,))  # fmt: skip
    for gpu in found.gpus:
        device = gpu.device
        yield printable(f"{gpu.title}: {device.name if device else 'not in the catalogue'} ({gpu.tool})")
    yield from (f"note: {printable(note)}" for note in found.notes)
    yield f"measured in {found.seconds:.1f} s"


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The report of `weigh measure`."""
    service = found.plan.service
    yield bold(printable(f"{found.plan.source} on {found.plan.machine.device.title}"))
    load = "" if found.load_average is None else f", load {found.load_average[0]:.1f} to {found.load_average[1]:.1f}"
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    yield (f"{service.runtime.name}, {threads}, {found.repeat} repetitions of {service.prompt_tokens:,} and "
           f"{service.output_tokens:,} tokens after a warm-up{load}")  # fmt: skip
    yield ""
    names = {"prefill_tok_s": "prompts, token/s", "decode_tok_s": "decoding, token/s", "ttft_s": "first token, s",
             "tpot_s": "each token after, s", "total_bytes": "peak memory",
             "j_per_output_token": "joules an output token", "average_power_w": "power, W"}  # fmt: skip
    rows = [(names[key], *_row(one)) for key, one in {**found.speed, **found.memory, **found.energy}.items()
            if key in names]  # fmt: skip
    heads = ("quantity", "measured (10th to 90th percentile)", "predicted", "ratio", "")
    yield from table("measured against predicted", heads, rows, right=(1, 2, 3))
    yield from (f"note: {printable(note)}" for note in (*found.plan.notes, *found.notes))


def _row(one: Compared) -> tuple[str, str, str, str]:
    form = size if one.predicted.unit == "B" else amount
    if not one.values:
        return "not measured", "unknown" if one.predicted.value is None else form(one.predicted), "-", ""
    low, high = percentile(one.values, 0.1), percentile(one.values, 0.9)
    told = Estimate(one.median, low, high, one.predicted.unit, one.predicted.basis)
    inside = {True: "inside", False: "OUTSIDE", None: "not predicted"}[one.covered]
    return form(told), form(one.predicted), "-" if one.ratio is None else f"{one.ratio:.2f}", inside
