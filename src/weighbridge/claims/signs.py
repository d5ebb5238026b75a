"""How are the signs of a text written? One way, whatever its author and its format used.

`10²⁵`, `10<sup>25</sup>` and `$10^{25}$` are `10^25`, `50–80` is `50-80`, `16 384 000` with narrow spaces is
`16,384,000`, CO₂ is CO2, spaces of any width are blanks, and soft hyphens are none. Marks of notes say nothing and are
dropped.
"""

from __future__ import annotations

import re

_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_RAISE = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
_ONE_WAY = {
    **dict.fromkeys([0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"), None),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2212"), "-"),
    **{0x2080 + digit: str(digit) for digit in range(10)},
}  # fmt: skip
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})++(?!\d)")
_POWER = re.compile(rf"[{''.join(_RAISED)}]++")
_BASE = re.compile(r"(?:\d|\)|(?<![^\W_])[^\W\d_]{1,2})$")
"""What may be raised to a power: a number, a bracket, a unit or a letter. After a longer word the sign marks a note."""
_RANGE = re.compile(r"(\d[A-Za-z%]{0,2}) ?– ?(?=[$€£~]?\d)")
_DASH = re.compile(r"(?<=\S)–(?=\S)")
_POINT = re.compile(r"(?<=\d) ?[·⋅∙] ?(?=10\^)")
_CITED = re.compile(r"(?<=[\w.,;:!?)\"”%])(?:\[\d{1,3}(?:[,–-] ?\d{1,3})*+\])++")


def plain(text: str) -> str:
    """Text with its signs written one way; line breaks stay.

    Example:
        >>> plain("2.1 × 10²⁵ in 50–80 days, 16\u202f384\u202f000 of CO₂[3]")
        '2.1 × 10^25 in 50-80 days, 16,384,000 of CO2'
    """
    if text.isascii():
        return _CITED.sub("", text)
    text = _GROUPED.sub(lambda match: re.sub(r"\D", ",", match[0]), text).translate(_ONE_WAY)
    text = _POWER.sub(_power, text)
    text = _DASH.sub("-", _RANGE.sub(r"\1-", text))
    return _CITED.sub("", _POINT.sub(" × ", text))


def _power(match: re.Match[str]) -> str:
    base = _BASE.search(match.string[max(0, match.start() - 3) : match.start()])
    return "" if base is None else "^" + "".join(_RAISED[sign] for sign in match[0])


def raised(text: str) -> str:
    """What is set high in a page, as text: a power, an ordinal's ending, or the mark of a note, which is dropped."""
    text = text.strip()
    if re.fullmatch(r"[+−–-]?\d{1,9}", text):
        return text.translate(_RAISE)
    if text in ("st", "nd", "rd", "th"):
        return text
    return f"^{text}" if re.fullmatch(r"[A-Za-z]|[+−–-]?\d{1,9}\.\d{1,9}", text) else ""


_MATH = re.compile(
    r"\$\$([^$]++)\$\$|\\\(((?:[^\\]|\\(?![()]))*+)\\\)|\\\[((?:[^\\]|\\(?![\[\]]))*+)\\\]"
    r"|\$(?=[^\s$])([^$\n]{1,200})(?<=\S)\$(?!\d)"
)
_TEX = {
    "times": "×", "cdot": "×", "approx": "≈", "sim": "~", "simeq": "≈", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥",
    "to": "->", "rightarrow": "->", "pm": "±", "quad": " ", "ldots": "...", "dots": "...", "log": "log", "mu": "µ",
}  # fmt: skip


def without_tex(text: str) -> str:
    """Text with its formulas in TeX as one would type them; money between dollar signs is none."""
    return _MATH.sub(_formula, text) if "$" in text or "\\" in text else text


def _formula(match: re.Match[str]) -> str:
    body = next(group for group in match.groups() if group is not None)
    return typed(body) if match[4] is None or re.search(r"[\\^_]", body) else match[0]


def typed(formula: str) -> str:
    r"""A formula in TeX as one would type it: `2.1 \times 10^{25}` is `2.1 × 10^25`."""
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*+)\}\s*\{([^{}]*+)\}", r"\1/\2", formula)
    text = re.sub(r"\\([A-Za-z]++)", lambda match: _TEX.get(match[1], ""), text)
    text = re.sub(r"\\[,;:! ]", "\u202f", re.sub(r"\\([%$&#_{}])", r"\1", text))
    return text.replace("{,}", ",").replace("{", "").replace("}", "")
