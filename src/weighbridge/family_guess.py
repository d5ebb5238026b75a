"""Which family wrote a header that comes without a configuration? A guess, by the names of its tensors alone.

Numbers in names are left open, so that `model.layers.7.mlp.up_proj.weight` counts once for all layers. The names are
held against those of the catalogue's models, one for each set of names; the share that both have, of all that either
has, says how near it is. Families that wire blocks under the same names cannot be told apart and are all named.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("family_names.json")
"""What `python -m weighbridge.family_guess` writes: the names of every kind of model in the catalogue."""
LEAST_OVERLAP = 0.6
"""Below this share of common names there is no guess."""


@dataclass(frozen=True, slots=True)
class FamilyGuess:
    """The families whose names come nearest, and the share of names that they have in common with the header."""

    families: tuple[str, ...]
    overlap: float

    def to_json(self) -> dict[str, Any]:
        """The part `family_guess` of the JSON document."""
        return {"families": list(self.families), "overlap": self.overlap, "basis": "assumed"}


def guess(names: Iterable[str]) -> FamilyGuess | None:
    """The families that a list of tensor names comes nearest to; None when none comes near.

    Example:
        >>> guess(["h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias", "h.0.attn.c_proj.weight", "h.0.attn.c_proj.bias",
        ...        "h.0.mlp.c_fc.weight", "h.0.mlp.c_fc.bias", "h.0.mlp.c_proj.weight", "h.0.mlp.c_proj.bias",
        ...        "h.0.ln_1.weight", "h.0.ln_1.bias", "h.0.ln_2.weight", "h.0.ln_2.bias", "wte.weight", "wpe.weight",
        ...        "ln_f.weight", "ln_f.bias"]).families
        ('gpt_bigcode', 'gpt2')
    """
    found = frozenset(map(_open, names))
    nearness: dict[str, float] = {}
    for family, learned, others in _known():
        overlap = len(found & (learned | others)) / len(found | learned)
        nearness[family] = max(overlap, nearness.get(family, 0.0))
    best = max(nearness.values())
    if best < LEAST_OVERLAP:
        return None
    return FamilyGuess(tuple(family for family, overlap in nearness.items() if overlap == best), best)


def _open(name: str) -> str:
    """A name with its numbers left open."""
    return re.sub(r"(?<![A-Za-z])\d+(?![A-Za-z])", "#", name)


@functools.cache
def _known() -> tuple[tuple[str, frozenset[str], frozenset[str]], ...]:
    """What `known` says, from the file that it was written to: to describe every model anew takes half a second."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    names = kept["names"]
    return tuple((family, *(frozenset(names[place] for place in part) for part in parts))
                 for family, *parts in kept["kinds"])  # fmt: skip


def kept_text() -> str:
    """The text of that file."""
    kinds = known()
    names = sorted({name for _, *parts in kinds for part in parts for name in part})
    place = {name: number for number, name in enumerate(names)}
    rows = [[family, *(sorted(place[name] for name in part) for part in parts)] for family, *parts in kinds]
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return f'{{"names":{json.dumps(names, separators=(",", ":"))},\n"kinds":[\n{lines}\n]}}\n'


def known() -> tuple[tuple[str, frozenset[str], frozenset[str]], ...]:
    """For one model of each kind in the catalogue its family and open names: what it learns, and what it may also hold.

    Each stands there twice, with the prefix of the body and without it.
    """
    from weighbridge.formats import config as config_format
    from weighbridge.model import catalogue, families
    from weighbridge.model.tensors import Kind

    kinds = {str([(k, v) for k, v in m.config.items() if not isinstance(v, int) or isinstance(v, bool)]): m
             for m in catalogue.models() if m.config}  # fmt: skip
    found: dict[tuple[str, frozenset[str], frozenset[str]], None] = {}
    for model in kinds.values():
        architecture = families.build(config_format.hyperparameters(model.config, model.name))
        learned: set[str] = set()
        others: set[str] = set()
        for group in architecture.groups:
            is_learned = group.weight.kind is Kind.PARAMETER and not group.mtp and group.weight.tied_to is None
            name = re.sub(r"\{(layer|expert)\}", "#", group.name)
            (learned if is_learned else others).add(_open(name))
        prefix = _open(architecture.base_prefix)
        found[architecture.family, frozenset(learned), frozenset(others)] = None
        bare = [frozenset(name.removeprefix(prefix) for name in part) for part in (learned, others)]
        found[architecture.family, bare[0], bare[1]] = None
    return tuple(found)


if __name__ == "__main__":
    KEPT.write_text(kept_text(), encoding="utf-8")
