"""What does a statement say, before anything is computed? Its numbers, things, formats and words, each found once.

What a statement leaves out it may take from the one before it in the same section: `or 176.2B by another method` speaks
of the model just named.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field, replace

from weighbridge.claims.claim import Claim
from weighbridge.claims.measure import NOTHING
from weighbridge.claims.quantity import Quantity, distinct, is_size, keys, quantities
from weighbridge.claims.subjects import Named, names
from weighbridge.hardware.device import Device
from weighbridge.model.catalogue import NamedModel

_BITS = (
    (re.compile(r"\b(?:fp|float)[- ]?32\b|\b32[- ]?bits?\b|\bfull[- ]precision\b|\bsingle precision\b", re.I), 32),
    (re.compile(r"\b(?:bf|fp|float|bfloat)[- ]?16\b|\b16[- ]?bits?\b|\bhalf[- ]precision\b", re.I), 16),
    (re.compile(r"\b(?:int|fp|q)[- ]?8\b|\b8[- ]?bits?\b", re.I), 8),
    (re.compile(r"\b(?:int|fp|nf|q)[- ]?4\b|\b4[- ]?bits?\b", re.I), 4),
    (re.compile(r"\bint[- ]?2\b|\b2[- ]?bits?\b", re.I), 2),
    (re.compile(r"\bint[- ]?3\b|\b3[- ]?bits?\b", re.I), 3),
)  # fmt: skip
_PROSE_KEYS = (
    ("d", re.compile(r"(\d[\d,]*)[- ]dim(?:s|ensions?|ensional)?\b")),
    ("d", re.compile(r"\b(?:hidden|model|embedding) (?:size|dimension|width)(?: of| is|:)? (\d[\d,]*)")),
    ("d", re.compile(r"\bd(?:_model|_?hidden)?\s?=\s?(\d[\d,]*)")),
    ("h", re.compile(r"(\d+)[- ](?:attention |query )?heads?\b")),
    ("kv", re.compile(r"(\d+)[- ](?:KV|key[- ]value|kv)(?:[- ]heads?)?\b")),
    ("hd", re.compile(r"\b(?:head[- ]dim(?:ension)?|head size)(?: of| is|:)? (\d+)")),
    ("L", re.compile(r"(\d+)[- ](?:transformer |decoder |encoder |MoE |moe )?(?:layers?|blocks)\b")),
    ("ff", re.compile(r"\b(?:ffn?|feed[- ]forward|intermediate)(?: size| dimension| width)?(?: of| is|:)? (\d[\d,]*)")),
    ("V", re.compile(r"\bvocab(?:ulary)?(?: size)?(?: of| is|:)? (\d[\d,]*)")),
    ("V", re.compile(r"(\d[\d,]*)[- ](?:word |token )?vocab(?:ulary)?\b")),
    ("E", re.compile(r"(\d[\d,]*)[- ](?:routed )?experts\b")),
    ("r", re.compile(r"\b(?:rank|r)[- =](?:of )?(\d+)\b")),
    ("b", re.compile(r"\bbatch(?: size)?(?: of| is|:)? (\d+)\b")),
    ("in", re.compile(r"(\d+)[- ](?:in\b|inputs?\b|input channels|input neurons)")),
    ("out", re.compile(r"(\d+)[- ](?:out\b|outputs?\b|output channels|filters|output neurons)")),
)  # fmt: skip
_CANON = {"d_model": "d", "hidden": "d", "hidden_size": "d", "heads": "h", "n_heads": "h", "layers": "L",
          "n_layers": "L", "vocab": "V", "seq": "s", "batch": "b", "rank": "r", "experts": "E", "d_ff": "ff",
          "dff": "ff", "n": "N", "k_v": "kv", "head_dim": "hd"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What one statement says. `before` are the statements above it in its section, the nearest last.

    `claimed` are the numbers that are judged; `given` those of its inputs; `said` the others of the sentence.
    """

    claim: Claim
    claimed: tuple[Quantity, ...]
    given: tuple[Quantity, ...]
    said: tuple[Quantity, ...]
    things: tuple[Named, ...]
    keys: dict[str, float] = field(default_factory=dict)
    before: tuple[Facts, ...] = ()

    @property
    def text(self) -> str:
        """The sentence and its inputs, in lower case."""
        return f"{self.claim.quote} | {self.claim.inputs}".lower()

    def has(self, *words: str) -> bool:
        """Whether any of these words, or beginnings of words, is said."""
        return any(re.search(rf"(?<![a-z]){re.escape(word)}", self.text) for word in words)

    @property
    def models(self) -> tuple[NamedModel, ...]:
        """The models that are named, the first meaning of each name."""
        return tuple(thing.models[0] for thing in self.things if thing.models)

    @property
    def named_models(self) -> tuple[Named, ...]:
        """The names of models."""
        return tuple(thing for thing in self.things if thing.models)

    @property
    def devices(self) -> tuple[tuple[Device, int], ...]:
        """The devices that are named, with how many."""
        return tuple((thing.device, thing.count) for thing in self.things if thing.device is not None)

    @property
    def sizes(self) -> tuple[Quantity, ...]:
        """Counts of parameters that say which model is meant, as in `a 70B model`; the claimed ones are none."""
        named = [Quantity(thing.size, thing.size, "parameter", thing.text) for thing in self.things if thing.size]
        found = list({(q.low, q.high): q for q in (*named, *self.said, *self.given) if is_size(q)}.values())
        if "N" in self.keys and not found:
            count = self.keys["N"]
            found = [Quantity(count, count, "parameter", f"N={count:g}", has_magnitude=True)]
        return tuple(found)

    @property
    def tokens(self) -> tuple[Quantity, ...]:
        """Counts of tokens."""
        return tuple(q for q in (*self.said, *self.given) if q.unit == "token")

    @property
    def bits(self) -> tuple[int, ...]:
        """The number formats that are named, in bits, in the order of the sentence and then of the inputs."""
        return formats(f"{self.claim.quote} | {self.claim.inputs} | {self.claim.claimed}")

    def near(self, want: str) -> Facts | None:
        """The nearest statement above, of the same section, that has this: `models` or `sizes`."""
        return next((one for one in reversed(self.before) if getattr(one, want)), None)


def formats(text: str) -> tuple[int, ...]:
    """The number formats of a text, in bits, in its order, each once.

    Example:
        >>> formats("FP32 to INT8, then 4-bit")
        (32, 8, 4)
    """
    found = sorted((match.start(), bits) for pattern, bits in _BITS for match in pattern.finditer(text))
    return tuple(dict.fromkeys(bits for _, bits in found))


def facts(claim: Claim, before: tuple[Facts, ...] = ()) -> Facts:
    """What a claim says.

    Example:
        >>> found = facts(Claim("Llama 2 70B needs 80 GB of KV cache for 4,096 tokens", claimed="80 GB"))
        >>> found.models[0].name, found.claimed[0].low, [q.unit for q in found.said]
        ('llama-2-70b', 80000000000.0, ['token'])
    """
    things = (*names(claim.quote), *names(claim.inputs))
    quote = _masked(claim.quote, names(claim.quote))
    inputs = _masked(claim.inputs, names(claim.inputs))
    claimed, others = _parted(_claimed(claim.claimed), distinct(quote))
    claimed = _summed(claim.claimed, claimed)
    return Facts(claim, claimed, quantities(inputs), others, things, _keys(f"{claim.inputs} ; {claim.quote}"), before)


_FRACTION = re.compile(r"\s*1\s?/\s?(\d+)(?:st|nd|rd|th)?\s*")
_BARE_UNITS = {"PB": 1e15, "petabyte": 1e15, "TB": 1e12, "terabyte": 1e12, "GB": 1e9, "gigabyte": 1e9}
_BARE = re.compile(r"(?:^|[;,])\s*(PB|TB|GB|petabyte|terabyte|gigabyte)s?\s*(?=$|[;,])")


def _claimed(text: str) -> list[Quantity]:
    """The numbers that are judged; a fraction is one, and so is a bare unit, which is some of it."""
    if fraction := _FRACTION.fullmatch(text):
        value = 1 / float(fraction[1]) if float(fraction[1]) else 0.0
        return [Quantity(value, value, NOTHING, text, digits=1)]
    found = list(quantities(text)) if any(map(str.isdigit, text)) else []
    for bare in _BARE.finditer(text):
        scale = _BARE_UNITS[bare[1]]
        found.append(Quantity(scale, 1000 * scale, "byte", bare[1], digits=1, scale=scale))
    return found


def _summed(text: str, claimed: tuple[Quantity, ...]) -> tuple[Quantity, ...]:
    """A sum that is claimed, as `2.3B + 0.3B`, is one number."""
    if len(claimed) < 2 or any(text[a.end : b.start].strip() != "+" for a, b in itertools.pairwise(quantities(text))):
        return claimed
    low, high = sum(q.low for q in claimed), sum(q.high for q in claimed)
    return (replace(claimed[0], low=low, high=high, text=text),)


def _parted(claimed: list[Quantity], said: tuple[Quantity, ...]) -> tuple[tuple[Quantity, ...], tuple[Quantity, ...]]:
    """The claimed numbers, in the units that the sentence gives them, and the others of the sentence.

    A size beside a claimed number that has a unit says of which model it is.
    """
    others = list(said)
    for place, one in enumerate(claimed):
        like = [q for q in others if _equal(q, one)]
        if like:
            others.remove(like[-1])
            if like[-1].unit not in (NOTHING, one.unit):
                claimed[place] = replace(like[-1], relation=one.relation)
            claimed[place] = replace(claimed[place], is_share=one.is_share or like[-1].is_share)
    if any(q.unit not in (NOTHING, "parameter") for q in claimed) and any(map(is_size, claimed)):
        others += [q for q in claimed if is_size(q)]
        claimed = [q for q in claimed if not is_size(q)]
    return tuple(claimed), tuple(others)


def _equal(said: Quantity, claimed: Quantity) -> bool:
    ends = ((said.stated(end), claimed.stated(other)) for end, other in
            ((said.low, claimed.low), (said.high, claimed.high)))  # fmt: skip
    same = all(math.isclose(*both, rel_tol=1e-9) for both in ends)
    return same and (claimed.unit in (NOTHING, said.unit, said.unit.split(" / ")[0]) or said.unit == NOTHING)


def _masked(text: str, things: tuple[Named, ...]) -> str:
    """The text without the names in it, whose numbers are none of its own."""
    for thing in things:
        text = text[: thing.start] + "_" * (thing.end - thing.start) + text[thing.end :]
    return text


def _keys(text: str) -> dict[str, float]:
    found = {_CANON.get(name, name): value for name, value in keys(text).items()}
    for name, pattern in _PROSE_KEYS:
        if name not in found and (match := pattern.search(text)):
            found[name] = float(match[1].replace(",", ""))
    return found
