"""What follows from the numbers of a statement alone: its equation, products whose units fit, ratios, sums, dates."""

from __future__ import annotations

import datetime
import itertools
import re
from dataclasses import replace

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.facts import Facts
from weighbridge.claims.measure import NOTHING, combined, dimensions
from weighbridge.claims.quantity import Quantity, is_size, quantities
from weighbridge.claims.rules.subject import named, subjects
from weighbridge.claims.solver import Part, solve
from weighbridge.estimate import Basis
from weighbridge.hardware.grids import find_grid
from weighbridge.predict.equivalents import equivalents
from weighbridge.predict.scaling_laws.laws import find_law
from weighbridge.predict.scaling_laws.optimum import RULE

_OPERATOR = re.compile(r"\s*([x×*/+])\s*")
_FIRST = {"x": 1, "×": 1, "*": 1, "/": -1}


def chain(text: str, found: tuple[Quantity, ...]) -> Interval | None:
    """The value of quantities joined by signs of arithmetic alone, from the first to the last; None where they are not.

    Example:
        >>> text = "1,720,320 h x 400 W"
        >>> round(chain(text, quantities(text)).low / 3.6e9), chain(text, quantities(text)).unit
        (688, 'joule')
    """
    if len(found) < 2:
        return None
    signs = []
    for one, other in itertools.pairwise(found):
        match = _OPERATOR.fullmatch(text[one.end : other.start])
        if match is None:
            return None
        signs.append(match[1])
    terms: list[Interval] = [_of(found[0])]
    for sign, quantity in zip(signs, found[1:], strict=True):
        if sign == "+":
            terms.append(_of(quantity))
        else:
            terms[-1] = _times(terms[-1], _of(quantity), _FIRST[sign])
    if len({term.unit for term in terms}) != 1:
        return None
    return Interval(sum(t.low for t in terms), sum(t.high for t in terms), terms[0].unit, Basis.SPECIFIED)


def _of(quantity: Quantity) -> Interval:
    return Interval(quantity.low, quantity.high, quantity.unit, Basis.SPECIFIED)


def _times(one: Interval, other: Interval, power: int) -> Interval:
    scale, unit = combined(one.unit, other.unit, power)
    if power > 0:
        return Interval(one.low * other.low * scale, one.high * other.high * scale, unit, Basis.SPECIFIED)
    if not other.low or not other.high:
        return Interval(float("inf"), float("inf"), unit)
    return Interval(one.low / other.high * scale, one.high / other.low * scale, unit, Basis.SPECIFIED)


def equation(facts: Facts) -> Answer | None:
    """An equation that the sentence itself writes: `50,257 x 12,288 = 617M`."""
    quote = facts.claim.quote
    left, sign, right = quote.partition("=")
    if not sign or not facts.claimed:
        return None
    found, after = quantities(left), quantities(right)
    value = chain(left, found)
    if value is None or len(after) != 1 or len(facts.claimed) != 1:
        return None
    if abs(after[0].low - facts.claimed[0].low) > 1e-6 * abs(after[0].low) or not _same(value.unit, facts.claimed[0]):
        return None
    counted = replace(value, low=value.low * after[0].magnitude, high=value.high * after[0].magnitude)
    return Answer("equation", (value, counted), (f"{left.strip()} = {value.low:,.10g}",), conventions=True)


def _same(unit: str, claimed: Quantity) -> bool:
    return NOTHING in (unit, claimed.unit) or dimensions(unit) == dimensions(claimed.unit)


def expression(facts: Facts) -> Answer | None:
    """Inputs that are written as arithmetic: `27K*24`, `1,720,320 h x 400 W`, `1.5B/340M`."""
    text = facts.claim.inputs
    value = chain(text, facts.given)
    if value is None or len(facts.claimed) != 1 or not _same(value.unit, facts.claimed[0]):
        return None
    claimed = facts.claimed[0]
    if dimensions(claimed.unit) and value.unit == NOTHING:  # pure numbers are in the unit of the claim
        each = claimed.scale / claimed.magnitude
        value = Interval(value.low * each, value.high * each, claimed.unit, value.basis)
    if facts.claimed[0].is_share and value.low > 1:
        return None
    return Answer("expression", (value,), (f"{text.strip()} = {value.low:,.6g}",))


_RATIOS = ("", "growth_ratio", "pruning", "distillation")
_LESS = ("prun", "smaller", "reduc", "cut", "fewer", "less", "removed", "shrink", "drop", "saves")


def ratio(facts: Facts) -> Answer | None:
    """How many times as much, or what share less, of two quantities of one kind."""
    if facts.claim.kind not in _RATIOS or len(facts.claimed) != 1:
        return None
    claimed = facts.claimed[0]
    if claimed.unit != NOTHING or claimed.has_magnitude or is_size(claimed):
        return None
    if facts.claim.kind == "" and not (claimed.is_share or re.search(r"\dx|×|times|fold", claimed.text + facts.text)):
        return None
    pair, source = _pair(facts)
    if pair is None:
        return None
    small, large = sorted(pair, key=lambda one: one.value)
    if not small.low:
        return None
    if claimed.is_share:
        low, high = small.low / large.high, small.high / large.low
        if facts.has(*_LESS):
            low, high = 1 - high, 1 - low
    else:
        low, high = large.low / small.high, large.high / small.low
    step = f"{large.text} against {small.text}: {low:,.4g}" + (f" to {high:,.4g}" if high > low else "")
    return Answer("ratio", (Interval(low, high, basis=Basis.SPECIFIED),), (step,), source, is_weak=not source)


def _pair(facts: Facts) -> tuple[tuple[Quantity, Quantity] | None, tuple[str, ...]]:
    """The two quantities of one dimension that a ratio is of: of the inputs, else of the sentence, else of what was
    said before, else the sizes of two models that are named.
    """
    own = [q for q in facts.given if q.unit != NOTHING or q.low > 100]
    both = own or [q for q in facts.said if q.unit != NOTHING or is_size(q)]
    if len(both) == 2 and dimensions(both[0].unit) == dimensions(both[1].unit):
        return (both[0], both[1]), ()
    if len(both) == 1:
        for one in reversed(facts.before):
            like = [q for q in one.claimed if dimensions(q.unit) == dimensions(both[0].unit) and q.unit != NOTHING]
            if like:
                return (like[-1], both[0]), ()
    if not both and not (facts.claim.is_read and len(facts.models) != 2):
        sized = [one for one in subjects(facts) if one.size and one.model is not None]
        if len(sized) == 2:
            first, second = (Quantity(one.size or 0, one.size or 0, "parameter", one.title) for one in sized)
            return (first, second), tuple(one.source for one in sized)
    return None, ()


ROUNDED = 0.02
"""What a conversion may be off by: it has no other cause than rounding."""
_SAME = re.compile(r"\b(?:is|are|uses?|used|draws?|costs?|equals?|means?|or|amounts? to|takes?|=)\b|=|≈")


def conversion(facts: Facts) -> Answer | None:
    """The same quantity in another unit: `1,000-1,500 h is 6-8 weeks`."""
    if len(facts.claimed) != 1 or facts.claimed[0].unit == NOTHING:
        return None
    claimed = facts.claimed[0]
    others = {(round(q.low, 6), round(q.high, 6), q.unit): q for q in (*facts.said, *facts.given)}
    like = [q for q in others.values() if dimensions(q.unit) == dimensions(claimed.unit)]
    if any(count > 1 for _, count in facts.devices):
        return None
    if len(like) != 1 or len(others) != 1 or not _SAME.search(facts.claim.quote):
        return None
    if abs(like[0].scale / like[0].magnitude - claimed.scale / claimed.magnitude) < 1e-9 * claimed.scale:
        return None
    one = like[0]
    is_off = not (one.is_range or claimed.is_range) and abs(one.value / claimed.value - 1) > ROUNDED
    return Answer("conversion", (Interval(one.low, one.high, one.unit),), (f"{one.text} in other units",), (),
                  Verdict.WRONG if is_off else None)  # fmt: skip


_TOTAL = re.compile(r"\bsum(?:s)?\b|\badd(?:s)? up\b|\btotal(?:s|ing)?\b")


def total(facts: Facts) -> Answer | None:
    """Numbers of a list whose sum is claimed."""
    if len(facts.claimed) != 1 or not _TOTAL.search(f"{facts.claim.claimed} {facts.claim.quote}".lower()):
        return None
    claimed = facts.claimed[0]
    for parts in (facts.given, facts.said):
        like = [
            q for q in parts if q.unit == claimed.unit and q.is_share == claimed.is_share and q.high < claimed.high * 2
        ]
        if len(like) > 2 and len(like) == len(parts):
            value = sum(q.value for q in like)
            return Answer("sum", (Interval(value, value, claimed.unit, Basis.SPECIFIED),),
                          (" + ".join(q.text for q in like) + f" = {value:,.6g}",))  # fmt: skip
    return None


_MONTHS = {name: number for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}  # fmt: skip
_DATE = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+((?:19|20)\d\d)\b")


def dates(facts: Facts) -> Answer | None:
    """The time between two months that are named."""
    found = [datetime.date(int(year), _MONTHS[month], 1) for month, year in _DATE.findall(facts.text)]
    if len(found) != 2 or len(facts.claimed) != 1 or facts.claimed[0].unit != "second":
        return None
    days = abs((found[1] - found[0]).days)
    step = f"{found[0]:%B %Y} to {found[1]:%B %Y}: {days / 365.25:.2f} years"
    return Answer("dates", (Interval(days * 86_400.0, days * 86_400.0, "second"),), (step,))


_POINTS = re.compile(r"\b(?:it|that|this|these|which|so|its)\b", re.IGNORECASE)
"""Words with which a sentence of a text goes on from the one before."""
_PASSES = ("train", "inference", "forward", "generat", "per token", "answer", "output")
"""Words of which one says whether operations are those of training or of answers."""
TOKENS_PER_WORD = 4 / 3
MONTH_S = 2_629_800.0
_NO_PRODUCT = frozenset({"benchmark", "scaling_law", "quantization_quality", "moe_efficiency", "pruning",
                         "growth_ratio", "other", "regulation", "distillation", "model_param_count"})  # fmt: skip


def product(facts: Facts) -> Answer | None:
    """A product of the numbers at hand whose unit is the claimed one; see `solver`."""
    if not facts.claimed or facts.claim.kind in _NO_PRODUCT:
        return None
    units = {q.unit for q in facts.claimed}
    if len(units) != 1:
        return None
    unit = units.pop()
    if unit == NOTHING and all(is_size(q) for q in facts.claimed):
        unit = "parameter"
    if unit == NOTHING:
        return None
    if len(facts.claimed) > 1:
        return _each_product(facts, unit)
    parts = _parts(facts, unit)
    found = solve(unit, parts) if any(part.is_required for part in parts) else ()
    for more in (_constants(facts, unit), _earlier(facts)):
        if found:
            break
        parts = [*parts, *more]
        found = solve(unit, parts) if any(part.is_required for part in parts) else ()
    if len(found) != 1:
        return None
    one = found[0]
    if len(one.parts) == 1:
        return None
    sources = tuple(dict.fromkeys(part.source for part in one.parts if part.source))
    interval = one.interval
    return Answer("product", (interval,), (f"{one.step} = {_told(interval)}",), sources)


def _told(interval: Interval) -> str:
    ends = [f"{end:,.6g}" for end in dict.fromkeys((interval.low, interval.high))]
    return f"{' to '.join(ends)} {interval.unit}"


def _each_product(facts: Facts, unit: str) -> Answer | None:
    """Several claims, each of one of as many groups of numbers in a row: `200-400 W, 2-4 s; 500-1000 W, 5-10 s`."""
    said = [q for q in (facts.given or facts.said) if q.unit != NOTHING]
    count = len(facts.claimed)
    if not said or len(said) % count or len(said) == count:
        return None
    size = len(said) // count
    found = [solve(unit, [_part(q, True) for q in said[place * size : (place + 1) * size]]) for place in range(count)]
    if not all(len(one) == 1 for one in found):
        return None
    return Answer("product", tuple(one[0].interval for one in found), tuple(one[0].step for one in found))


def _part(quantity: Quantity, is_required: bool, source: str = "") -> Part:
    unit = "parameter" if is_size(quantity) else quantity.unit
    return Part(quantity.low, quantity.high, unit, quantity.text, is_required, Basis.SPECIFIED, source)


def _parts(facts: Facts, unit: str) -> list[Part]:
    given = [_part(q, True) for q in facts.given if q.unit != NOTHING or is_size(q)]
    given += [_part(q, True) for q in facts.sizes if q.text.startswith("N=")]
    weekly = [q for q in facts.given if q.unit == NOTHING and "/" in q.text and 0 < q.high < 1]
    given += [Part(q.low, q.high, NOTHING, q.text, True, Basis.SPECIFIED) for q in weekly]
    if unit == "USD / second":  # storage is paid by the month
        given = [replace(p, low=p.low / MONTH_S, high=p.high / MONTH_S, unit="USD / byte / second",
                         text=f"{p.text} a month") if p.unit == "USD / byte" else p for p in given]  # fmt: skip
    measured = [q for q in facts.said if q.unit != NOTHING and not is_size(q)]
    said = [
        _part(q, not given and not (measured and is_size(q))) for q in facts.said if q.unit != NOTHING or is_size(q)
    ]
    if weekly:  # hours of work a week, so that money at its side is paid by the hour
        said = [Part(p.low / 3600, p.high / 3600, "USD / second", f"{p.text} an hour", p.is_required, p.basis, p.source)
                if p.unit == "USD" else p for p in said]  # fmt: skip
    return [*given, *said]


def _constants(facts: Facts, unit: str) -> list[Part]:
    """What the statement need not say: bytes of a format, operations of a parameter, tokens that suit one."""
    found: list[Part] = []
    for model in facts.models[:1]:
        one = named(model.name)
        if one.active and one.size and not facts.sizes:
            size = one.active if "FLOP" in unit else one.size
            found.append(Part(size, size, "parameter", f"{size:,.0f} parameters of {one.title}", basis=Basis.EXACT,
                              source=one.source))  # fmt: skip
        is_of_data = unit in ("FLOP", "token", "parameter", "token / parameter", "parameter / token")
        if model.training_tokens and not facts.tokens and is_of_data:
            found.append(Part(model.training_tokens, model.training_tokens, "token",
                              f"{model.training_tokens:,} tokens of {one.title}",
                              source=model.source_of("training_tokens")))  # fmt: skip
    if facts.bits and "byte" in unit:
        wide = min(facts.bits) / 8
        found.append(Part(wide, wide, "byte / parameter", f"{wide:g} B", basis=Basis.EXACT))
    if "device" not in unit and any("device" in q.unit for q in (*facts.given, *facts.said)):
        found.append(
            Part(1, 1, "device", "1 device", basis=Basis.EXACT, is_divisor=True)
        )  # watts and dollars are of each
    if "request" not in unit and any("request" in q.unit for q in (*facts.given, *facts.said)):
        found.append(Part(1, 1, "request", "1 request", basis=Basis.EXACT, is_divisor=True))  # what is used is of each
    if (facts.claim.kind == "chinchilla" and not facts.claim.is_read) or facts.has(
        "chinchilla", "optimal", "compute-optimal"
    ):
        law = find_law(RULE)
        each = law.optimal_tokens(1.2e22) / law.optimal_parameters(1.2e22)
        found.append(Part(each, each, "token / parameter", f"{each:g} tokens a parameter", basis=Basis.SPECIFIED,
                          source=law.source))  # fmt: skip
    if "word" in unit or any(q.unit == "word" for q in facts.said):
        found.append(Part(TOKENS_PER_WORD, TOKENS_PER_WORD, "token / word", f"{TOKENS_PER_WORD:.3g} tokens a word",
                          basis=Basis.ASSUMED, source="OpenAI: 100 tokens are about 75 English words"))  # fmt: skip
    if "FLOP" in unit and not (facts.claim.is_read and not facts.has(*_PASSES)):
        trains = facts.has("train") or facts.claim.kind == "training_flops"
        each = 6.0 if trains else 2.0
        found.append(Part(each, each, "FLOP / parameter / token", f"{each:g} FLOPs", basis=Basis.EXACT,
                          source="2 FLOPs a parameter and token forward, 4 backward"))  # fmt: skip
    if unit == "gram":
        grid = find_grid("usa")
        low, high = grid.bounds
        found.append(Part(low / 3.6e6, high / 3.6e6, "gram / joule", f"{grid.g_per_kwh:g} g/kWh", basis=Basis.ASSUMED,
                          source=grid.source))  # fmt: skip
    if unit in ("car", "1"):
        found += [Part(one.carbon_g, one.carbon_g, "gram / car", one.title, source=one.source)
                  for one in equivalents() if one.name == "car_years" and one.carbon_g is not None]  # fmt: skip
    return found


def _earlier(facts: Facts) -> list[Part]:
    """What the statements before it in the section say: sizes, and claims of things a request or a token."""
    found: list[Part] = []
    for one in reversed(facts.before[-4:]):
        same = bool({m.name for m in facts.models} & {m.name for m in one.models}) if facts.models else False
        if facts.claim.is_read and not (same or _POINTS.search(facts.claim.quote)):
            continue
        if facts.claim.is_read:
            found += [_part(q, False) for q in one.said if q.unit != NOTHING and not is_size(q)]
        sizes = one.sizes[:1]
        found += [_part(q, False) for q in (*sizes, *one.claimed[:1]) if q.unit != NOTHING or is_size(q)]
        if one.has("request", "query") and one.claimed and "request" not in one.claimed[0].unit:
            each = one.claimed[0]
            scale, unit = combined(each.unit, "request", -1)
            found.append(Part(each.low * scale, each.high * scale, unit, f"{each.text} a request", source=""))
    return list({(p.unit, p.low, p.high): p for p in found}.values())


RULES = (equation, dates, expression, total, product, ratio, conversion)
