"""Stand-in."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    section: str
    text: str
    line: int
    kind: str


@dataclass(frozen=True)
class Article:
    title: str | None
    encoding: str
    passages: tuple


def text_of(data, name):
    return data.decode("utf-8-sig"), "utf-8"


def read_article(data, name):
    text, _ = text_of(data, name)
    out = []
    sec = ""
    for i, l in enumerate(text.splitlines(), 1):
        if l.startswith("#"):
            sec = l.strip("# ")
            continue
        for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", l):
            if s.strip():
                out.append(Passage(sec, s.strip(), i, "sentence"))
    return Article(None, "utf-8", tuple(out))
