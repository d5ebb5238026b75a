"""How does a smaller model read on a terminal? What it became, what that costs, and what the proof said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from weighbridge.compress.shrink import Shrunk
from weighbridge.errors import printable
from weighbridge.prove.comparison import Comparison
from weighbridge.show import proofs
from weighbridge.show.tables import bold, table
from weighbridge.units import format_bytes

WORST = 5
"""Tensors that cost most that are listed."""
MOST_GROWTH = 10.0
"""Of perplexity, as a share, beyond which a bound says nothing."""
_MOST_LOG = 700.0
"""Whose exponential is still a number."""


def lines(found: Shrunk) -> Iterator[str]:
    """The report of `weigh shrink`."""
    size = found.plan.size_bytes
    sizes = f"{found.input_bytes:,} bytes to {size:,} ({format_bytes(size)}, {size / found.input_bytes:.1%})"
    made = f"written to {printable(found.path)}" if found.path else "nothing was written"
    if found.proof is not None:
        made += f"; the proof says {found.proof.verdict}"
    yield bold(f"{sizes}; {made}")
    yield f"{found.bits_per_weight:.3f} bits a weight; {prior(found)}"
    yield costs_words(found)
    yield ""
    yield from _encodings(found)
    yield from _worst(found)
    yield from unfit_words(found)
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
    value, low, high = (growth_words(growth(one)) for one in (expected.value, expected.low, expected.high))
    said = f"expected before: perplexity {value} ({low} to {high})"
    measured = measured_growth(found)
    if measured is None or found.is_packed:
        return said + (f"; {printable(expected.note)}" if expected.note else "")
    inside = "inside" if expected.low <= math.log1p(measured) <= expected.high else "outside"
    return f"{said}; measured {growth_words(measured)}, {inside} that range"


def growth(log: float) -> float:
    """The growth of perplexity, as a share, by the logarithm of it after over before.

    Example:
        >>> round(growth(0.1), 4), growth(1e6) > MOST_GROWTH
        (0.1052, True)
    """
    return math.expm1(min(log, _MOST_LOG))


def growth_words(share: float) -> str:
    """A growth of perplexity in words; one that is absurd bounds nothing.

    Example:
        >>> growth_words(0.1052), growth_words(-0.02), growth_words(1e9)
        ('+10.5%', '-2.0%', 'no known bound')
    """
    return f"{share:+.1%}" if -1 <= share < MOST_GROWTH else "no known bound"


def perplexity(found: Shrunk) -> Comparison | None:
    """What the proof found of perplexity; None where it measured none."""
    metrics = () if found.proof is None else found.proof.metrics
    return next((one for one in metrics if one.name == "perplexity" and one.base), None)


def measured_growth(found: Shrunk) -> float | None:
    """By which share the proof found perplexity to grow; None where it measured none."""
    one = perplexity(found)
    return None if one is None else one.candidate / one.base - 1


def costs_words(found: Shrunk) -> str:
    """By what errors were weighed and, where their unit is known, what all together are expected to cost."""
    said = f"costs of errors: {printable(found.costs.basis)}"
    if found.costs.unit is None or not found.plan.budget_bytes:  # errors of a method are known without their columns
        return said
    of = "divergence" if found.costs.unit == "nats" else "loss"
    return f"{said}; {of} {proofs.number(found.plan.loss)} {found.costs.unit} expected"


def unfit_words(found: Shrunk) -> Iterator[str]:
    """How many tensors have rows that encodings do not fit, for each kind of them."""
    for some, count in sorted(Counter(found.unfit.values()).items()):
        became = Counter(found.plan.encodings[name].name for name in found.unfit if found.unfit[name] == some)
        taken = ", ".join(f"{name} ({number:,})" for name, number in became.most_common())
        yield f"the rows of {count:,} tensors are no whole number of blocks of {', '.join(some)}: they became {taken}"


def by_encoding(found: Shrunk) -> dict[str, list[str]]:
    """The tensors of each encoding, that with the most first.

    Args:
        found: whose plan it is.

    Returns:
        Names of tensors by the name of their encoding.
    """
    by_name: dict[str, list[str]] = {}
    for tensor, encoding in found.plan.encodings.items():
        by_name.setdefault(encoding.name, []).append(tensor)
    return dict(sorted(by_name.items(), key=lambda one: -len(one[1])))


def largest_error(found: Shrunk, tensors: Iterable[str]) -> str:
    """The largest relative error of tensors; nothing where none is known."""
    errors = [found.errors[tensor] ** 0.5 for tensor in tensors if tensor in found.errors]
    return proofs.number(max(errors)) if errors else ""


def _encodings(found: Shrunk) -> Iterator[str]:
    rows = [(name, f"{len(mine):,}", largest_error(found, mine)) for name, mine in by_encoding(found).items()]
    yield from table("encodings", ("encoding", "tensors", "largest relative error"), rows, right=(1, 2))


def _worst(found: Shrunk) -> Iterator[str]:
    losses, whole = found.plan.losses, found.plan.loss
    worst = sorted((name for name in losses if losses[name]), key=lambda name: -losses[name])[:WORST]
    if worst and whole:
        listed = [(printable(name), found.plan.encodings[name].name, proofs.number(found.errors[name] ** 0.5),
                   f"{losses[name] / whole:.1%}") for name in worst]  # fmt: skip
        title = "what costs most"
        yield from table(title, ("tensor", "encoding", "relative error", "of all costs"), listed, right=(2, 3))
