"""Formulas: two are the same where they agree at many points; a growth is told from how a room's number grows."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

from weighbridge.claims.claim import Answer, Verdict
from weighbridge.claims.facts import Facts
from weighbridge.layer import count_layer
from weighbridge.predict.scaling_laws.laws import find_law
from weighbridge.predict.scaling_laws.optimum import RULE

_BINARY: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
MOST_CHARACTERS = 80
POINTS = ({"N": 7, "d": 24, "k": 40, "r": 4, "D": 600, "h": 3}, {"N": 64, "d": 96, "k": 32, "r": 8, "D": 9000, "h": 4})


def evaluate(text: str, names: Mapping[str, float]) -> float | None:
    """The value of an expression of names, numbers and + - * / and powers; None where it is no such thing.

    Example:
        >>> evaluate("r*(d+k)", {"r": 2, "d": 3, "k": 4}), evaluate("4d^2", {"d": 3}), evaluate("exit()", {})
        (14, 36.0, None)
    """
    plain = re.sub(r"(\d)\s*([A-Za-z(])", r"\1*\2", text.replace("×", "*").replace("^", "**"))
    if len(plain) > MOST_CHARACTERS:
        return None
    try:
        return _value(ast.parse(plain, mode="eval").body, names)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, names: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(node.op, ast.Pow):
            if abs(right) > 4:
                raise ValueError
            return float(left**right)
        return _BINARY[type(node.op)](left, right)
    raise ValueError


def identity(facts: Facts) -> Answer | None:
    """A formula for a count, held against the count itself at several sizes."""
    text = facts.claim.claimed
    known = _known(facts)
    if known is None or not re.search(r"[A-Za-z]", text) or text.startswith("O("):
        return None
    words, count = known
    left, sign, right = text.partition("=")
    plain = re.sub(r"\b(?:weights?|bias(?:es)?|parameters?|output|projection)\b", "", right if sign else left).strip()
    if not re.search(r"(?<![A-Za-z])[NdkrDh](?![A-Za-z])", plain):
        return None
    agree = []
    for names in POINTS:
        value, wanted = evaluate(plain, names), count(names)
        if value is None:
            return None
        agree.append(math.isclose(value, wanted, rel_tol=1e-9))
    steps = tuple(f"{words} at {', '.join(f'{k}={v:g}' for k, v in names.items() if k in plain)}: {count(names):,.6g}"
                  for names in POINTS)  # fmt: skip
    return Answer("formula", (), steps, (), Verdict.CONFIRMED if all(agree) else Verdict.WRONG)


def _known(facts: Facts) -> tuple[str, Callable[[Mapping[str, float]], float]] | None:
    if facts.has("neuron", "weighted sum"):
        return "weights of a neuron", lambda at: count_layer(f"neuron:{at['N']}").parameters
    if facts.claim.kind == "lora_trainable" or facts.has("lora"):
        return "rank x (inputs + outputs)", lambda at: sum(
            count_layer(f"linear:{a}x{b}:nobias").parameters for a, b in ((at["d"], at["r"]), (at["r"], at["k"]))
        )
    if facts.claim.kind == "chinchilla" or facts.has("chinchilla", "optimal parameters"):
        law = find_law(RULE)
        return "parameters that suit D tokens", lambda at: law.optimal_parameters(law.flops_for_tokens(at["D"]))
    if facts.has("attention"):
        return "weights of attention", lambda at: count_layer(f"attention:{at['d']}:{at['h']}:nobias").parameters
    return None


def part(facts: Facts) -> Answer | None:
    """A sum in numbers of which one term is named: `768*768*3 + output`."""
    claimed = facts.claim.claimed
    match = re.fullmatch(r"([\d*x× ]+)\+\s*(?:the )?(output|projection|out)(?: projection)?\s*", claimed)
    width = facts.keys.get("d")
    if match is None or not width or not facts.has("attention"):
        return None
    value = evaluate(match[1].replace("x", "*").strip(), {})
    counted = count_layer(f"attention:{width:g}:1:nobias").parameters
    if value is None:
        return None
    whole = value + width * width
    step = f"{value:,.0f} + {width:g} x {width:g} = {whole:,.0f}; attention has {counted:,}"
    return Answer("formula", (), (step,), (), Verdict.CONFIRMED if whole == counted else Verdict.WRONG)


_ORDER = re.compile(r"O\(\s*([A-Za-z])\s*(?:\^\s*(\d))?\s*\)")


def order(facts: Facts) -> Answer | None:
    """How a number grows, by the power that doubling shows."""
    match = _ORDER.search(facts.claim.claimed)
    if match is None:
        return None
    power = int(match[2] or 1)
    if "attention" in f"{facts.text} {facts.claim.section.lower()}" and facts.has("length", "sequence", "context"):
        from weighbridge.claims.rules.subject import named
        from weighbridge.model.architecture import Workload

        architecture = named("llama-2-7b").architecture
        assert architecture is not None
        costs = [
            sum(one.flops for one in architecture.operations(Workload(new_tokens=n)) if one.path.endswith("scores"))
            for n in (2048, 4096)
        ]
        grows, told = math.log2(costs[1] / costs[0]), "operations of attention, 4,096 tokens against 2,048"
    elif facts.claim.kind in ("inference_cost", "latency") or facts.has("inference"):
        costs = [count_layer(f"linear:{n}x4096:nobias").flops_per_token for n in (4096, 8192)]
        grows, told = math.log2(costs[1] / costs[0]), "operations of a matrix with twice the weights"
    else:
        return None
    right = abs(grows - power) < 0.05
    return Answer("formula", (), (f"{told}: 2^{grows:.2f} times",), (), Verdict.CONFIRMED if right else Verdict.WRONG)


RULES = (part, order, identity)
