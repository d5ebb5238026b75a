"""How does a smaller file read on a terminal? What it became, by encoding, what it lost, and what the proof said."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.compress.shrink import Shrunk
from weighbridge.errors import printable
from weighbridge.show import proofs
from weighbridge.show.tables import bold, table
from weighbridge.units import format_bytes

WORST = 5
"""Tensors with the largest errors that are listed."""


def lines(found: Shrunk) -> Iterator[str]:
    """The report of `weigh shrink`."""
    share = found.plan.size_bytes / found.input_bytes
    sizes = (
        f"{found.input_bytes:,} bytes to {found.plan.size_bytes:,} ({format_bytes(found.plan.size_bytes)}, {share:.1%})"
    )
    made = f"written to {printable(found.path)}" if found.path else "nothing was written"
    if found.proof is not None:
        made += f"; the proof says {found.proof.verdict}"
    yield bold(f"{sizes}; {made}")
    yield f"{found.bits_per_weight:.3f} bits a weight"
    yield ""
    names = sorted({one.name for one in found.plan.encodings.values()},
                   key=lambda name: -sum(one.name == name for one in found.plan.encodings.values()))  # fmt: skip
    rows = []
    for name in names:
        mine = [tensor for tensor, one in found.plan.encodings.items() if one.name == name]
        error = max(found.errors[tensor] for tensor in mine) ** 0.5
        rows.append((name, f"{len(mine):,}", proofs.number(error)))
    yield from table("encodings", ("encoding", "tensors", "largest relative error"), rows, right=(1, 2))
    worst = sorted((name for name in found.errors if found.errors[name]), key=lambda name: -found.errors[name])[:WORST]
    if worst:
        listed = [(printable(name), found.plan.encodings[name].name, proofs.number(found.errors[name] ** 0.5))
                  for name in worst]  # fmt: skip
        yield from table("what lost most", ("tensor", "encoding", "relative error"), listed, right=(2,))
    for some in sorted(set(found.plan.unfit.values())):
        count = sum(other == some for other in found.plan.unfit.values())
        yield f"the rows of {count:,} tensors are no whole number of blocks of {', '.join(some)}"
    for step in found.steps:
        yield f"tried {step.size_bytes:,} bytes: {step.verdict}, {printable(step.reason)}"
    yield from (f"note: {printable(note)}" for note in found.notes)
    if found.proof is not None:
        yield ""
        yield from proofs.lines(found.proof)
