"""How does a smaller model read on a terminal? What it became, what that costs, and what the proof said."""

from __future__ import annotations

import math
from collections.abc import Iterator

from weighbridge.compress.shrink import Shrunk
from weighbridge.errors import printable
from weighbridge.show import proofs
from weighbridge.show.tables import bold, table
from weighbridge.units import format_bytes

WORST = 5
"""Tensors that cost most that are listed."""


MOST_GROWTH = 10.0
"""Of perplexity, as a share, beyond which a bound says nothing."""


def lines(found: Shrunk) -> Iterator[str]:
    """The report of `weigh shrink`."""
    size = found.plan.size_bytes
    sizes = f"{found.input_bytes:,} bytes to {size:,} ({format_bytes(size)}, {size / found.input_bytes:.1%})"
    made = f"written to {printable(found.path)}" if found.path else "nothing was written"
    if found.proof is not None:
        made += f"; the proof says {found.proof.verdict}"
    yield bold(f"{sizes}; {made}")
    yield f"{found.bits_per_weight:.3f} bits a weight; {prior(found)}"
    yield f"costs of errors: {printable(found.costs.basis)}{_expected_loss(found)}"
    yield ""
    yield from _encodings(found)
    yield from _worst(found)
    for some in sorted(set(found.unfit.values())):
        count = sum(other == some for other in found.unfit.values())
        yield f"the rows of {count:,} tensors are no whole number of blocks of {', '.join(some)}"
    for step in found.steps:
        said = [f"{step.verdict}, {printable(step.reason or '')}"] if step.verdict is not None else []
        if step.divergence is not None:
            said.append(f"divergence {proofs.number(step.divergence)}")
        if step.expected is not None:
            said.append(f"{proofs.number(step.expected)} expected")
        yield f"tried {step.size_bytes:,} bytes by {printable(step.by)}: {'; '.join(said) or 'not measured'}"
    yield from (f"note: {printable(note)}" for note in found.notes)
    if found.proof is not None:
        yield ""
        yield from proofs.lines(found.proof)


def prior(found: Shrunk) -> str:
    """What published tables say of so many bits, and what was measured."""
    expected = found.expected
    if expected.value is None or expected.low is None or expected.high is None:
        return printable(expected.note)
    grows = [math.expm1(one) for one in (expected.value, expected.low, expected.high)]
    most = f"+{grows[2]:.1%}" if grows[2] < MOST_GROWTH else "no known bound"
    said = f"expected before: perplexity +{grows[0]:.1%} (+{grows[1]:.1%} to {most})"
    measured = measured_growth(found)
    if measured is None or found.is_packed:
        return said + (f"; {printable(expected.note)}" if expected.note else "")
    inside = "inside" if expected.low <= math.log1p(measured) <= expected.high else "outside"
    return f"{said}; measured {measured:+.1%}, {inside} that range"


def measured_growth(found: Shrunk) -> float | None:
    """By which share the proof found perplexity to grow; None where it measured none."""
    metrics = () if found.proof is None else found.proof.metrics
    one = next((each for each in metrics if each.name == "perplexity"), None)
    return None if one is None or not one.base else one.candidate / one.base - 1


def _expected_loss(found: Shrunk) -> str:
    if found.costs.unit is None or not found.plan.losses:
        return ""
    of = "divergence" if found.costs.unit == "nats" else "loss"
    return f"; {of} {proofs.number(found.plan.loss)} {found.costs.unit} expected"


def _encodings(found: Shrunk) -> Iterator[str]:
    by_name: dict[str, list[str]] = {}
    for tensor, encoding in found.plan.encodings.items():
        by_name.setdefault(encoding.name, []).append(tensor)
    rows = []
    for name, mine in sorted(by_name.items(), key=lambda one: -len(one[1])):
        errors = [found.errors[tensor] ** 0.5 for tensor in mine if tensor in found.errors]
        rows.append((name, f"{len(mine):,}", proofs.number(max(errors)) if errors else ""))
    yield from table("encodings", ("encoding", "tensors", "largest relative error"), rows, right=(1, 2))


def _worst(found: Shrunk) -> Iterator[str]:
    losses, whole = found.plan.losses, found.plan.loss
    worst = sorted((name for name in losses if losses[name]), key=lambda name: -losses[name])[:WORST]
    if worst and whole:
        listed = [(printable(name), found.plan.encodings[name].name, proofs.number(found.errors[name] ** 0.5),
                   f"{losses[name] / whole:.1%}") for name in worst]  # fmt: skip
        title = "what costs most"
        yield from table(title, ("tensor", "encoding", "relative error", "of all costs"), listed, right=(2, 3))
