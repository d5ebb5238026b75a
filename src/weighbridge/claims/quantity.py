"""Which quantities stand in a text? Numbers as people write them, with what they are measured in.

`$30,000-80,000`, `7-13B`, `2.1 x 10^25 FLOPs`, `140 GB -> 35 GB`, `1.2M GPU-hours`, `>1T`, `14; 140; 350 GB`,
`$1.50 per GPU-hour`. A quantity keeps how many digits were stated, because that is what it can be held to.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from weighbridge.claims.measure import NOTHING, base

_MAGNITUDES = {
    "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9, "t": 1e12,
    "tn": 1e12, "trillion": 1e12,
}  # fmt: skip
_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
          "eleven": 11, "twelve": 12}  # fmt: skip
_UNITS = {
    "B": "byte", "byte": "byte", "bytes": "byte", "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte",
    "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte", "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte",
    "TiB": "tebibyte", "PiB": "pebibyte", "gigabytes": "gigabyte", "gigabyte": "gigabyte", "megabytes": "megabyte",
    "megabyte": "megabyte", "terabytes": "terabyte", "terabyte": "terabyte", "petabytes": "petabyte",
    "petabyte": "petabyte",
    "bit": "bit_width", "bits": "bit_width",
    "ms": "millisecond", "milliseconds": "millisecond", "us": "microsecond", "µs": "microsecond", "s": "second",
    "sec": "second", "second": "second", "seconds": "second", "min": "minute", "minute": "minute",
    "minutes": "minute", "h": "hour", "hour": "hour", "hours": "hour", "hr": "hour", "hrs": "hour", "d": "day",
    "day": "day", "days": "day", "week": "week", "weeks": "week", "month": "month", "months": "month", "mo": "month",
    "year": "year", "years": "year", "yr": "year",
    "J": "joule", "joule": "joule", "joules": "joule", "kJ": "kilojoule", "MJ": "megajoule", "GJ": "gigajoule",
    "W": "watt", "watt": "watt", "watts": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt",
    "Wh": "watthour", "kWh": "kilowatthour", "MWh": "megawatthour", "GWh": "gigawatthour", "TWh": "terawatthour",
    "mg": "milligram", "g": "gram", "grams": "gram", "kg": "kilogram", "t": "tonne", "tonne": "tonne",
    "tonnes": "tonne", "tons": "tonne", "ton": "tonne", "tCO2e": "tonne", "tCO2": "tonne",
    "FLOP": "FLOP", "FLOPs": "FLOP", "flops": "FLOP", "FLOPS": "FLOP", "operations": "FLOP",
    "GFLOP": "gigaFLOP", "GFLOPs": "gigaFLOP", "TFLOP": "teraFLOP", "TFLOPs": "teraFLOP", "PFLOP": "petaFLOP",
    "PFLOPs": "petaFLOP", "TFLOPS": "teraFLOP / second", "PFLOPS": "petaFLOP / second",
    "GFLOPS": "gigaFLOP / second",
    "param": "parameter", "params": "parameter", "parameter": "parameter", "parameters": "parameter",
    "weight": "parameter", "weights": "parameter",
    "tok": "token", "token": "token", "tokens": "token", "word": "word", "words": "word",
    "reply": "request", "replies": "request", "answers": "request",
    "request": "request", "requests": "request", "query": "request", "queries": "request", "req": "request",
    "element": "thing", "elements": "thing", "USD": "USD", "dollar": "USD", "dollars": "USD",
    "example": "example", "examples": "example", "images": "image", "image": "image",
    "GPU": "device", "GPUs": "device", "gpu": "device", "gpus": "device", "device": "device", "devices": "device",
    "accelerators": "device", "cards": "device", "card": "device", "chips": "device", "TPUs": "device",
    "layer": "layer", "layers": "layer", "expert": "expert", "experts": "expert", "head": "head", "heads": "head",
    "car": "car", "cars": "car", "person": "person", "people": "person", "step": "step", "steps": "step",
    "synapses": "synapse", "block": "block", "copies": "copy", "copy": "copy",
    "%": "percent", "percent": "percent", "pct": "percent", "x": NOTHING, "×": NOTHING, "times": NOTHING,
    "fold": NOTHING,
}  # fmt: skip
"""What units are called in texts, by the names of `measure`. Case matters: `MB` is no `Mb`, `kW` no `KW`."""

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_VALUE = rf"(?:(?:{_NUMBER}\s?[x×*]\s?)?10\^[+-]?\d{{1,3}}|{_NUMBER}(?:[eE][+-]?\d{{1,3}})?)"
_MAGNITUDE = (
    r"(?:(?:K|k|M|B|T|bn|mn|tn)(?![A-Za-z0-9])|[ \-]?(?:thousand|million|billion|trillion)s?\b"
    r"|[ ][MBT](?=[ ](?:param|token|weight|word|model)))"
)
_PATTERN = re.compile(
    rf"(?P<money>US\$|\$|€|£)?(?P<one>{_VALUE})(?P<scale>{_MAGNITUDE})?(?P<plus>\+(?!\s?\d))?"
    rf"(?:\s?(?:-|–|—|\.\.\.?|\bto\b|\bthrough\b)\s?(?P<money2>\$)?(?P<two>{_VALUE})(?P<scale2>{_MAGNITUDE})?)?"
)
_NEXT = re.compile(r"[\s-]?(/|%|[A-Za-zµ×$]+2?e?)")
_BEFORE = (
    (re.compile(r"(?:>=|≥|at least|no less than|from|minimum of)\s*$"), ">="),
    (re.compile(r"(?:(?<![-=])>|more than|greater than|over|above|exceeds?|exceeding|beyond)\s*$"), ">"),
    (re.compile(r"(?:<=|≤|at most|up to|no more than|maximum of)\s*$"), "<="),
    (re.compile(r"(?:<|less than|fewer than|under|below|within)\s*$"), "<"),
    (re.compile(r"(?:~|≈|about|around|roughly|approximately|nearly|almost|circa|some)\s*$"), "~"),
    (re.compile(r"exactly\s*$"), "=="),
)  # fmt: skip
_SPAN = 40
"""Characters before a number in which words of comparison are looked for."""
MOST_DIGITS = 40
MOST = 1e60
"""Nothing that models are written about with is more, in any unit."""
LEAST_SIZE = 1e6
"""Numbers without a unit that may be counts of parameters begin here."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its range, in base units of `measure`. `digits` are those stated; `start` and `end` in its text.

    `relation` is one of `=`, `==` (said to be exact), `~`, `<`, `<=`, `>` and `>=`. `scale` is what the number as
    written was multiplied by, `magnitude` how much of that its K, M, B or T is.
    """

    low: float
    high: float
    unit: str
    text: str
    start: int = 0
    end: int = 0
    digits: int = 2
    relation: str = "="
    scale: float = 1.0
    has_magnitude: bool = False
    magnitude: float = 1.0
    is_share: bool = False

    @property
    def is_measured(self) -> bool:
        """Whether it has a unit or a magnitude that the members of a list before it may share."""
        return self.unit != NOTHING or self.scale != 1

    def stated(self, end: float) -> float:
        """One of its ends as the number that was written, with its magnitude and without its unit."""
        return end / self.scale * self.magnitude

    @property
    def value(self) -> float:
        """The number, or the middle of its range."""
        return (self.low + self.high) / 2

    @property
    def is_range(self) -> bool:
        """Whether two different ends are stated."""
        return self.low != self.high

    def of(self, unit: str, scale: float = 1.0, magnitude: float = 1.0) -> Quantity:
        """The same number, taken for something else."""
        return replace(self, unit=unit, low=self.low * scale, high=self.high * scale, scale=self.scale * scale,
                       magnitude=self.magnitude * magnitude)  # fmt: skip


@functools.lru_cache(1024)
def quantities(text: str) -> tuple[Quantity, ...]:
    """Every quantity of a text, in its order, in time linear in its length.

    Example:
        >>> [(q.low, q.high, q.unit) for q in quantities("7-13B models in 26 GB")]
        [(7000000000.0, 13000000000.0, '1'), (26000000000.0, 26000000000.0, 'byte')]
        >>> [(q.low, q.unit) for q in quantities("14; 28 GB at $0.10 per 1M tokens")]
        [(14000000000.0, 'byte'), (28000000000.0, 'byte'), (1e-07, 'USD / token')]
    """
    plain = _COUNTED.sub(_digit, _KEY.sub(lambda match: " " * len(match[0]), text))
    return tuple(_lists([*_read(plain)], plain))


_COUNTED = re.compile(
    rf"\b(?:a(?= (?:thousand|million|billion|trillion)\b)|(?:{'|'.join(_WORDS)})(?= [a-z]+s\b| (?:m|b|tr)illion))", re.I
)


def _digit(match: re.Match[str]) -> str:
    return f"{_WORDS.get(match[0].lower(), 1)}".ljust(len(match[0]))


def distinct(text: str) -> tuple[Quantity, ...]:
    """The quantities of a text, without those in brackets that restate the one before in another unit.

    Example:
        >>> [q.text for q in distinct("80 GB (74.5 GiB) on 2 cards (160 W)")]
        ['80 GB', '2 cards', '160 W']
    """
    found = quantities(text)
    return tuple(q for place, q in enumerate(found) if not (place and _restates(found[place - 1], q, text)))


def _restates(one: Quantity, other: Quantity, text: str) -> bool:
    """Whether a number in brackets is the one before it in another unit: `80 GB (74.5 GiB)`."""
    gap = text[one.end : other.start]
    return gap.strip() == "(" and one.unit == other.unit and abs(one.value - other.value) <= 0.01 * abs(one.value)


def _read(text: str) -> Iterator[Quantity]:
    position = 0
    while match := _PATTERN.search(text, position):
        position = match.end()
        before = text[match.start() - 1 : match.start()] if match.start() else ""
        if before.isalpha() or before in ("_", ".") or len(match["one"]) > MOST_DIGITS:
            continue
        if before == "-" and match.start() > 1 and (text[match.start() - 2].isalpha()):
            continue  # part of a name, as in GPT-3
        found = _quantity(match, text)
        if found is not None:
            yield found
            position = max(position, found.end)


def _quantity(match: re.Match[str], text: str) -> Quantity | None:
    end = match.end()
    two, scale2 = match["two"], match["scale2"]
    one = _number(match["one"])
    high = one if two is None else _number(two)
    if one is None or high is None or math.isinf(one) or math.isinf(high):
        return None
    first, second = _magnitude(match["scale"]), _magnitude(scale2)
    if two is None:
        low, top = one * (first or 1), one * (first or 1)
    else:
        low, top = one * (first or second or 1), high * (second or 1)
        if low > top and first is None:
            low = one
    is_money = match["money"] is not None
    unit, end = ("USD", end) if is_money else _unit(text, end)
    scale, name = 1.0, NOTHING
    if unit is not None:
        amount, per, after = _per(text, end)
        if unit in ("parameter", "car", "person") or (
            unit == "FLOP" and per == " / (request)"
        ):  # 13B parameters per token are 13B
            amount, per = 1.0, ""
        end = after
        scale, name = base(unit + per)
        scale /= amount
    plus = match["plus"] is not None or (text[end : end + 1] == "+" and not text[end + 1 : end + 3].strip())
    relation = _relation(text, match.start(), plus)
    if low > top:
        low, top = top, low
    if top * scale > MOST:
        return None
    stated = (second if two is not None else first) or 1.0
    return Quantity(low * scale, top * scale, name, text[match.start():end].strip(), match.start(), end,
                    max(_digits(match["one"]), _digits(two)), relation, scale * stated,
                    bool(first or second), stated, unit == "percent")  # fmt: skip


def _number(text: str) -> float | None:
    plain = text.replace(",", "").replace(" ", "")
    power = re.fullmatch(r"(?:([\d.]+)[x×*])?10\^([+-]?\d+)", plain)
    if power is not None:
        return float(power[1] or 1) * 10.0 ** min(int(power[2]), 300)
    try:
        return float(plain)
    except ValueError:
        return None


def _magnitude(text: str | None) -> float | None:
    return None if text is None else _MAGNITUDES[re.sub(r"[\s-]|s$", "", text.lower())]


def _digits(text: str | None) -> int:
    """Digits that count: zeros at the end of a whole number do not."""
    if text is None:
        return 0
    mantissa = re.split(r"[eEx×*]", text.replace(",", ""))[0].strip()
    plain = mantissa.replace(".", "").lstrip("0")
    return max(1, len(plain if "." in mantissa else plain.rstrip("0")))


def _unit(text: str, end: int) -> tuple[str | None, int]:
    """The unit that follows a number, and where it ends."""
    match = _NEXT.match(text, end)
    if match is None or match[1] == "/":
        return None, end
    word = match[1]
    joined = _compound(text, match)
    if joined is not None:
        return joined
    if word not in _UNITS and _THINGS.match(text, match.start()):
        return "thing", match.end()
    if word in ("g", "kg", "t", "tonne", "tonnes", "tons", "grams") and (carbon := _CARBON.match(text, match.end())):
        return _UNITS[word], carbon.end()
    if word in _UNITS:
        if word in "x×" and text[match.end() : match.end() + 2].strip()[:1].isdigit():
            return None, end  # 768 x 768
        return _UNITS[word], match.end()
    return None, end


_COMPOUND = re.compile(
    r"[\s-]?(?:GPU|TPU|A100|H100|V100|device|core|chip|accelerator|TPU-v\d|card)s?[\s-]"
    r"(?P<time>hours?|h|days?|years?|months?)\b"
)


_THINGS = re.compile(
    r"(?<=[mbt]illion) (?!(?:of|in|and|or|to|for|from|with|at|on|by|is|are|was|were|has|have|the|but|than|as|more|fewer"
    r"|less|times|before|after|when|while|that|which|would|will|can|may|total|active|dense|sparse|trainable|model\w*|version\w*"
    r"|variant\w*)\b)[a-z]{3,}|[ ](?:users|people|customers|documents|rows|records|lines|calls|views|downloads)\b"
)
"""What else is counted in millions: a noun that is no parameter and no token."""
_LATER = re.compile(
    r" (?:attention|query|convolutional|hidden|transformer|decoder|encoder|routed) (layers|heads|experts)\b"
)
_CARBON = re.compile(r" (?:of )?(?:CO2|carbon)(?:e|eq)?\b(?: equivalents?| dioxide)?")
_EVERY = re.compile(r"[\s-](daily|monthly|yearly|hourly|weekly)[\s-](requests?|queries|tokens|users)\b")


def _compound(text: str, match: re.Match[str]) -> tuple[str, int] | None:
    every = _EVERY.match(text, match.start())
    if every is not None and every[2] in _UNITS:
        return f"{_UNITS[every[2]]} / {_ADVERBS[every[1]]}", every.end()
    later = _LATER.match(text, match.start())
    if later is not None:
        return _UNITS[later[1]], later.end()
    found = _COMPOUND.match(text, match.start())
    return None if found is None else (f"device * {_UNITS[found['time']]}", found.end())


_PER = re.compile(
    r"\s?(?:/|\bper\b|\ba\b|\bevery\b|\beach\b|\bin a\b)\s?(?P<count>\d[\d,.]*)?\s?"
    r"(?P<scale>K|k|M|B|million|billion|thousand)?\s?"
    r"(?P<unit>(?:GPU|TPU|A100|H100|V100|device|input|output)?[\s-]?[A-Za-z]+)"
)


_ADVERBS = {"daily": "day", "monthly": "month", "yearly": "year", "annually": "year", "hourly": "hour",
            "weekly": "week"}  # fmt: skip
_OFTEN = re.compile(r"\s(daily|monthly|yearly|annually|hourly|weekly)\b", re.IGNORECASE)


def _per(text: str, end: int) -> tuple[float, str, int]:
    """How many of what a quantity is per, the latter as the end of a unit's name."""
    often = _OFTEN.match(text, end)
    if often is not None:
        return 1.0, f" / {_ADVERBS[often[1].lower()]}", often.end()
    match = _PER.match(text, end)
    if match is None:
        return 1.0, "", end
    words = match["unit"].replace("-", " ").split()
    if words[-1] not in _UNITS:
        if words[0] not in _UNITS:
            return 1.0, "", end
        words = words[:1]
        stop = match.start("unit") + len(words[0])
    else:
        stop = match.end()
    amount = float((match["count"] or "1").rstrip(",.").replace(",", "")) * (_magnitude(match["scale"]) or 1.0)
    name = _UNITS[words[-1]]
    if name in (NOTHING, "percent") or not amount:
        return 1.0, "", end
    if words[0] in ("GPU", "TPU", "A100", "H100", "V100", "device") and len(words) > 1:
        name = f"device * {name}"
    return amount, f" / ({name})", stop


def _relation(text: str, start: int, plus: bool) -> str:
    if plus:
        return ">="
    before = text[max(0, start - _SPAN) : start].lower()
    return next((sign for pattern, sign in _BEFORE if pattern.search(before)), "=")


_BETWEEN = re.compile(r"[\s]*(?:[,;/|]|->|→|and|or|vs\.?|against|,\s*(?:and|or))?[\s]*")


def _lists(found: list[Quantity], text: str) -> Iterator[Quantity]:
    """Members of a list share the unit of the last: `14; 140; 350 GB`."""
    for place in range(len(found) - 2, -1, -1):
        this, after = found[place], found[place + 1]
        gap = text[this.end : after.start]
        if this.unit == NOTHING and this.scale == 1 and after.is_measured and gap.strip() and _BETWEEN.fullmatch(gap):
            found[place] = replace(this.of(after.unit, after.scale, after.magnitude), is_share=after.is_share)
        elif this.unit == NOTHING and this.has_magnitude and after.unit != NOTHING and _BETWEEN.fullmatch(gap):
            if gap.strip():
                found[place] = this.of(after.unit)
            elif after.unit == "request" and after.has_magnitude:  # a billion 7B requests: 7B says of which model
                found[place], found[place + 1] = this.of("request"), after.of(NOTHING)
    yield from found


_KEY = re.compile(
    rf"\b([A-Za-z]{{1,2}}|[dnk]_[a-z]+|d_?ff|in|out|rank|heads|layers|experts|hidden(?:_size)?|head_dim|vocab|seq|batch)"
    rf"\s?=\s?({_NUMBER}[KMBT]?)(?![\w.]*\d)"
)


def keys(text: str) -> dict[str, float]:
    """The sizes that are given by name, as in `d=768 h=12`.

    Example:
        >>> keys("V=30522 d=1024 L=24 ff=4096 + pooler")
        {'V': 30522.0, 'd': 1024.0, 'L': 24.0, 'ff': 4096.0}
    """
    return {name: found[0].value for name, value in _KEY.findall(text) if (found := quantities(value))}


def is_size(quantity: Quantity) -> bool:
    """Whether a number can be a count of parameters: it says so, or is large, written with B or M, and has no unit.

    Example:
        >>> [is_size(q) for q in quantities("a 70B model, 2,048 tokens and 300B tokens")]
        [True, False, False]
    """
    return quantity.unit == "parameter" or (
        quantity.unit == NOTHING and quantity.has_magnitude and quantity.low >= LEAST_SIZE and not quantity.is_share
    )


_PEOPLE: dict[str, tuple[tuple[float, str], ...]] = {
    "byte": ((1e15, " PB"), (1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B")),
    "joule": ((3.6e12, " GWh"), (3.6e9, " MWh"), (3.6e6, " kWh"), (1, " J")),
    "gram": ((1e6, " t"), (1e3, " kg"), (1, " g")),
    "second": ((31_557_600.0, " years"), (604_800.0, " weeks"), (172_800.0, " days"), (3600, " h"), (60, " min"),
               (1, " s"), (1e-3, " ms")),
    "device * second": ((3600.0, " GPU-hours"),),
}  # fmt: skip


def told(value: float, unit: str) -> str:
    """A number in base units for people.

    Example:
        >>> told(1_342_177_280, "byte"), told(174_604_259_328, "parameter"), told(0.0021, "1"), told(2.477e12, "joule")
        ('1.342 GB', '174,604,259,328 parameters', '0.0021', '688.1 MWh')
    """
    scales = _PEOPLE.get(unit)
    if scales is not None:
        scale, name = next((one for one in scales if abs(value) >= one[0]), scales[-1])
        return f"{value / scale:,.4g}{name}"
    number = f"{value:,.0f}" if value == int(value) and 1000 <= abs(value) < 1e15 else f"{value:,.4g}"
    if unit == NOTHING:
        return number
    if unit == "USD":
        return f"${number}"
    if " " in unit or value == 1:
        return f"{number} {unit}"
    return f"{number} {unit[:-1]}ies" if unit.endswith("y") else f"{number} {unit}s"


def unit_of(words: str) -> str:
    """The word of a unit that a header of a column is, as `Layers`; empty where it is none.

    Example:
        >>> unit_of("Layers"), unit_of("Speed (tokens/s)"), unit_of("Note")
        ('layers', 'tokens/s', '')
    """
    within = re.search(r"\(([^()]+)\)\s*$", words)
    word = within[1] if within else words.strip().lower()
    return word if re.split(r"[/ ]", word)[0] in _UNITS else ""
