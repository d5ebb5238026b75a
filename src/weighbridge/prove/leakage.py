"""Was the candidate made with what it is proved on? Examples that calibration or training data share with the proof's.

Two ways to find them: the same text, by hash, spaces and case aside; and runs of 13 words in common, as contamination
is searched for in pretraining data (Brown and others 2020, "Language models are few-shot learners", appendix C). An
example leaks when half of its runs are in the other data. Examples of fewer than 13 words leak only as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from weighbridge.prove.examples import Example, Kind, content

WORDS = 13
SHARE = 0.5


def leaks(
    kind: Kind, rows: Sequence[Example], others: Iterable[str], template: str | None = None
) -> list[int]:  # fmt: skip
    """Places of the rows that the other texts hold.

    Example:
        >>> rows = [Example({"text": "One two."}, "line 1"), Example({"text": "Three four."}, "line 2")]
        >>> leaks("texts", rows, ["three FOUR."])
        [1]
    """
    wholes: set[int] = set()
    runs: set[int] = set()
    for text in others:
        words = _words(text)
        wholes.add(hash(tuple(words)))
        runs.update(_runs(words))
    found = []
    for place, row in enumerate(rows):
        words = _words("\n".join(content(kind, row, template)))
        own = set(_runs(words))
        shared = len(own & runs) / len(own) if own else 0.0
        if hash(tuple(words)) in wholes or shared >= SHARE:
            found.append(place)
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(words: Sequence[str]) -> Iterator[int]:
    return (hash(tuple(words[place : place + WORDS])) for place in range(len(words) - WORDS + 1))
