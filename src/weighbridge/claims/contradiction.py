"""Where does a text, or do texts, state one quantity twice with different values?

Two statements are of the same quantity when they speak of the same models or sizes, with a number of the same kind and
dimension, of the same aspect (its UNet, its cache, its training ...), under the same conditions. They contradict each
other when their values differ by more than both could have been rounded by. The same number in other units does not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge.claims.facts import Facts
from weighbridge.claims.judge import CLOSE
from weighbridge.claims.measure import NOTHING, dimensions
from weighbridge.claims.quantity import Quantity, is_size

_ASPECTS = re.compile(
    r"\b(?:total|active|dormant|routers?|unet|u-net|vae|refiner|vision|text encoders?|encoder|decoder|cache|weights"
    r"|activations?|overhead|layers?|heads?|experts?|hidden|vocabulary|embeddings?|context|norm\w*|attention|feed-forward"
    r"|inference|training|fine-?tun\w*|lora|qlora|adapters?|prompts?|full|input|output|prefill|decode|first year"
    r"|first token|storage|download|disk|energy|power|mmlu|humaneval|accuracy|speed|latency|peak"
    r"|average|largest|smallest|minimum|maximum|fp\d+|bf16|int\d|\d-bit"
    r"|per (?:token|request|layer|block|year|month|day)|small|medium|large|web|chat\w*|fraud|search|simple|complex)\b",
    re.IGNORECASE,
)
"""What of a thing is meant: statements that name different aspects are of different quantities."""
_BESIDE = re.compile(r"\b(?:before|after|without|besides?|excluding|not counting)(?: any| the| its)? [a-z-]+")
"""What a number leaves out is no aspect of it."""
_WORD = re.compile(r"[a-z][a-z-]{3,}")
_COMMON = frozenset({
    "about", "above", "also", "and", "approximately", "around", "been", "below", "between", "both", "called", "comes",
    "costs", "each", "even", "exactly", "from", "gives", "has", "have", "having", "into", "itself", "just", "least",
    "less", "like", "made", "makes", "many", "more", "most", "much", "need", "needs", "only", "other", "over",
    "parameters", "parameter", "per", "roughly", "same", "some", "such", "takes", "than", "that", "their", "them",
    "then", "there", "these", "they", "this", "those", "tokens", "typical", "typically", "under", "until", "used",
    "uses", "using", "very", "were", "what", "when", "where", "which", "while", "will", "with", "would", "model",
    "models", "million", "billion", "trillion",
})  # fmt: skip
ALIKE = 0.5
"""Of the words of two statements that name no model, the share that has to be common."""
FEWEST_WORDS = 3
"""That are common, where sentences of a text name nothing."""
_HELD = ("storage_size", "inference_memory")
"""Kinds that texts do not tell apart: what weights take on disk, and in memory."""
ALIKE_READ = 0.75
"""The same of sentences of a text, which have more words to differ in."""
MOST_COMPARED = 500
"""Statements of one kind that are compared with each other, so that time stays linear."""
LOADS_APART = 2.0
"""How far two loads lie apart before one bill for both is a contradiction."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Statements, by name, that give one quantity different values."""

    names: tuple[str, ...]
    quantity: str
    values: tuple[str, ...]
    quotes: tuple[str, ...]

    @property
    def statements(self) -> tuple[tuple[str, str], ...]:
        """Name and sentence of each."""
        return tuple(zip(self.names, self.quotes, strict=True))

    def to_json(self) -> dict[str, Any]:
        """One entry of `contradictions` in the JSON contract."""
        return {"ids": list(self.names), "quantity": self.quantity, "values": list(self.values),
                "quotes": list(self.quotes)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Mention:
    facts: Facts
    quantity: Quantity
    subject: tuple[str, ...]
    aspects: frozenset[str]
    conditions: dict[str, tuple[float, float]]
    words: frozenset[str]

    @property
    def name(self) -> str:
        return self.facts.claim.name or self.facts.claim.quote


def contradictions(statements: Iterable[Facts]) -> list[Contradiction]:
    """Every quantity that is stated with different values, in the order of the first statement of it.

    Example:
        >>> from weighbridge.claims.claim import Claim
        >>> from weighbridge.claims.facts import facts
        >>> said = [facts(Claim(f"BERT has {size} parameters", "model_param_count", size, name=size))
        ...         for size in ("340M", "0.34B", "110M")]
        >>> contradictions(said)[0].values
        ('340M parameters', '110M parameters')
    """
    statements = list(statements)
    groups: dict[tuple[Any, ...], list[_Mention]] = {}
    for mention in itertools.chain(*map(_mentions, statements), *map(_devices, statements)):
        unit = "parameter" if is_size(mention.quantity) else mention.quantity.unit
        kind = "bytes" if mention.facts.claim.kind in _HELD else mention.facts.claim.kind
        key = (mention.subject, kind, dimensions(unit), mention.quantity.is_share, mention.aspects)
        groups.setdefault(key, []).append(mention)
    found = [one for group in groups.values() for one in _of_group(group)]
    return [*found, *_bills(statements)]


def _mentions(facts: Facts) -> Iterator[_Mention]:
    """The claimed number of a statement that claims just one: of several nobody says which is of what, unless its
    table says only that there are several values of one.
    """
    if facts.claim.is_read and not facts.claim.kind:
        return
    if facts.claim.is_row and not (facts.claimed and _is_plain(facts)):
        return
    claimed = facts.claimed
    if len(claimed) != 1 and re.search(r"\d", facts.claim.claimed):
        return
    claimed = claimed or tuple(q for q in facts.said if q.scale != 1 or q.unit != NOTHING or "x" in q.text)
    if not claimed or len({(q.unit, q.is_share) for q in claimed}) > 1:
        return
    quote = facts.claim.quote.lower()
    strangers = {thing.text for thing in facts.things if thing.size is not None}
    models = tuple(sorted({model.name for model in facts.models} | strangers))
    sizes = tuple(sorted({f"{q.low:g}-{q.high:g}" for q in facts.sizes}))
    told = _BESIDE.sub(" ", facts.claim.about.lower() or quote)
    aspects = frozenset(match.rstrip("s") for match in _ASPECTS.findall(told))
    conditions = {q.unit: (q.low, q.high) for q in facts.said if q.unit != NOTHING and not is_size(q)}
    conditions |= {thing.device.name: (thing.count, thing.count) for thing in facts.things if thing.device is not None}
    words = frozenset(_WORD.findall(quote)) - _COMMON
    if claimed is not facts.claimed:
        conditions = {}
    for one in claimed:
        yield _Mention(facts, one, models or sizes, aspects, conditions, words)


def _is_plain(facts: Facts) -> bool:
    """Whether a row names one thing and gives numbers of it: with further words, they may be of anything."""
    cells = [cell.partition(": ")[2] for cell in facts.claim.quote.split("; ")]
    return sum(not re.match(r"[~<>$]?\d", cell) for cell in cells) <= 1 and not facts.claimed[0].is_share


def _devices(facts: Facts) -> Iterator[_Mention]:
    """How many devices a model was trained on."""
    counted = [thing for thing in facts.things if thing.device is not None and thing.count > 1]
    named = [thing for thing in facts.things if thing.models or thing.size is not None]
    if len(counted) == 1 == len(named) and facts.has("trained on", "training on"):
        count = float(counted[0].count)
        said = Quantity(count, count, "device", counted[0].text)
        yield _Mention(facts, said, (named[0].text,), frozenset({"training"}), {}, frozenset())


def _of_group(group: list[_Mention]) -> Iterator[Contradiction]:
    """The contradictions among mentions of one thing, one for each set that agrees on what it speaks of."""
    left = group[:MOST_COMPARED]
    while len(left) > 1:
        first, *rest = left
        like = [one for one in rest if _is_same(first, one)]
        values = [first]
        for one in like:
            if all(_differ(one.quantity, other.quantity) for other in values):
                values.append(one)
        if len(values) > 1:
            told = first.facts.claim.kind.replace("_", " ") or "number"
            thing = ", ".join(first.subject) or " ".join(sorted(first.words)[:4])
            yield Contradiction(tuple(one.name for one in values), f"{told} of {thing}",
                                tuple(one.quantity.text for one in values),
                                tuple(one.facts.claim.quote for one in values))  # fmt: skip
        left = [one for one in rest if one not in like]


def _is_same(one: _Mention, other: _Mention) -> bool:
    if one.facts.claim.quote == other.facts.claim.quote or any(
        one.conditions[unit] != other.conditions[unit] for unit in one.conditions.keys() & other.conditions.keys()
    ):
        return False
    devices = [{name for name in mention.conditions if "-" in name} for mention in (one, other)]
    if all(devices) and devices[0] != devices[1]:
        return False
    if one.subject:
        return True
    if one.facts.claim.is_row or other.facts.claim.is_row:  # rows of a table differ in a cell that names no model
        return False
    common, both = one.words & other.words, one.words | other.words
    fewest = FEWEST_WORDS if one.facts.claim.is_read or other.facts.claim.is_read else 1
    alike = ALIKE_READ if fewest > 1 else ALIKE
    return len(common) >= fewest and len(common) / len(both) >= alike


def _differ(one: Quantity, other: Quantity) -> bool:
    """Whether neither value can be the other rounded: ranges apart, or one no part of the other."""
    bounds = {">", ">=", "<", "<="}
    if one.relation in bounds or other.relation in bounds:
        return _outside(one, other) or _outside(other, one)
    slack = CLOSE if "~" in (one.relation, other.relation) else CLOSE / 2
    return one.high < other.low * (1 - slack) or other.high < one.low * (1 - slack) or (
        one.is_range and other.is_range
        and max(abs(one.low - other.low) / max(one.low, other.low, 1e-300),
                abs(one.high - other.high) / max(one.high, other.high, 1e-300)) > 0.25
    )  # fmt: skip


def _outside(bound: Quantity, other: Quantity) -> bool:
    if bound.relation in (">", ">="):
        return other.high < bound.low * (1 - CLOSE)
    if bound.relation in ("<", "<="):
        return other.low > bound.high * (1 + CLOSE)
    return False


def _bills(statements: list[Facts]) -> Iterator[Contradiction]:
    """One bill for two loads: equal money, requests that lie apart."""
    bills: dict[float, list[tuple[Facts, Quantity, Quantity]]] = {}
    for facts in statements:
        loads = [q for q in (*facts.said, *facts.given, *facts.claimed) if q.unit == "request / second"]
        for paid in facts.claimed:
            if loads and paid.unit in ("USD", "USD / second"):
                amount = round(paid.stated(paid.low), 2)
                bills.setdefault(amount, []).append((facts, paid, loads[0]))
    for amount, group in bills.items():
        first, load = group[0][0], group[0][2]
        for facts, _, other in group[1:]:
            ratio = max(load.value, other.value) / max(min(load.value, other.value), 1e-300)
            if facts is not first and ratio > LOADS_APART:
                yield Contradiction((first.claim.name or first.claim.quote, facts.claim.name or facts.claim.quote),
                                    f"requests that {amount:,.0f} USD pay for", (load.text, other.text),
                                    (first.claim.quote, facts.claim.quote))  # fmt: skip
