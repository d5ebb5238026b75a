"""What is a statement about? Models and devices are found in a text by the names of the catalogues."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weighbridge.hardware.catalogue import devices
from weighbridge.hardware.device import Device
from weighbridge.model.catalogue import NamedModel, models
from weighbridge.names import index, plain

_WORD = re.compile(r"[A-Za-z0-9µ][\w.+/'-]*")
_MOST_WORDS = 6
_COMMON = frozenset({"transformer", "command", "orca", "solar", "here", "grok", "gemini", "nova", "aurora"})
"""Names of models that are words of the language too: alone and in lower case they name nothing."""
_SIZE_WORD = re.compile(r"-?(?:\d+x)?\d+(?:\.\d+)?[bmt](?:-a\d+(?:\.\d+)?b)?$")


@dataclass(frozen=True, slots=True)
class Named:
    """A name found in a text: one device, or the models that it may mean, and how many devices were said.

    `is_series` says that no model is called so, but several begin so. A name that no catalogue has, as `Heron-34B`,
    names a model too, of the `size` that it ends in.
    """

    text: str
    start: int
    end: int
    models: tuple[NamedModel, ...] = ()
    device: Device | None = None
    count: int = 1
    is_series: bool = False
    size: float | None = None


@functools.cache
def _exact() -> Mapping[str, NamedModel]:
    return index(models())


@functools.cache
def _models() -> Mapping[str, tuple[NamedModel, ...]]:
    found: dict[str, tuple[NamedModel, ...]] = {name: (model,) for name, model in _exact().items()}
    series: dict[str, list[NamedModel]] = {}
    for model in models():
        for name in map(plain, (model.name, model.title)):
            short = _SIZE_WORD.sub("", name).rstrip("-")
            if short != name and len(short) > 2 and model not in series.setdefault(short, []):
                series[short].append(model)
    for short, same in series.items():
        if short not in found:
            found[short] = tuple(same)
    titled = [(plain(model.title), model) for model in models()]
    for name, members in found.items():
        others = [model for title, model in titled if title.startswith(f"{name}-") and model not in members]
        found[name] = (*members, *others)
    return found


@functools.cache
def _devices() -> Mapping[str, Device]:
    return {name: device for name, device in index(devices()).items() if not re.match(r"\d+x", name)}


@functools.lru_cache(1024)
def names(text: str) -> tuple[Named, ...]:
    """The models and devices that a text names, the longest names first taken, in time linear in its length.

    Example:
        >>> [(n.text, n.models[0].name if n.models else n.device.name, n.count)
        ...  for n in names("Llama 2 70B on 2x A100 80GB")]
        [('Llama 2 70B', 'llama-2-70b', 1), ('2x A100 80GB', 'a100-sxm-80', 2)]
    """
    return tuple(_names(text))


def _names(text: str) -> Iterator[Named]:
    words = [(match.start(), match.start() + len(match[0].rstrip(".,'-/+"))) for match in _WORD.finditer(text)]
    place = 0
    while place < len(words):
        for count in range(min(_MOST_WORDS, len(words) - place), 0, -1):
            start, end = words[place][0], words[place + count - 1][1]
            if end - start > 60:
                continue
            found = _named(text, start, end)
            if found is not None:
                yield found
                place += count
                break
        else:
            start, end = words[place]
            stranger = _STRANGER.fullmatch(text[start:end])
            if stranger is not None:
                yield Named(text[start:end], start, end, size=float(stranger[1]) * _SIZES[stranger[2]])
            place += 1


_STRANGER = re.compile(r"[A-Z][A-Za-z]{2,}[\w.]*-(\d+(?:\.\d+)?)([BMT])(?:-[A-Za-z]+)*")
_SIZES = {"M": 1e6, "B": 1e9, "T": 1e12}
_IN_A_BOX = 8
"""Devices of a DGX or HGX computer."""
_NUMBERS = {"two": 2, "three": 3, "four": 4, "six": 6, "eight": 8, "sixteen": 16, "thirty-two": 32}
_COUNTED = re.compile(rf"\b({'|'.join(_NUMBERS)})\s(?:NVIDIA\s)?$", re.I)
_SEVERAL = re.compile(r"\s(?:GPUs|cards|chips|accelerators|devices)\b")
_COUNT = re.compile(r"(\d{1,6}(?:,\d{3})*)\s?(?:x|×|\*)?\s?(?:NVIDIA\s)?$")


def _named(text: str, start: int, end: int) -> Named | None:
    said = text[start:end]
    for ending in ("", "s", "'s"):
        if ending and not said.endswith(ending):
            continue
        name = plain(said[: len(said) - len(ending)] if ending else said)
        glued = re.match(r"(\d+)x(?=[a-z])", name)
        if glued and name[glued.end() :] in _devices():
            return Named(said, start, end, device=_devices()[name[glued.end() :]], count=int(glued[1]))
        if name in _models() and _is_name(said, name):
            return Named(said, start, end, models=_models()[name], is_series=name not in _exact())
        if name in _devices() and re.search("[a-z]", name):
            before = _COUNT.search(text[max(0, start - 20) : start].rstrip(" "))
            count = 1
            if before and (said[-1] == "s" or before[0][-1] in "x×*" or _SEVERAL.match(text, end)):
                count, start = int(before[1].replace(",", "")), max(0, start - 20) + before.start()
            elif worded := _COUNTED.search(text[max(0, start - 20) : start]):
                count = _NUMBERS[worded[1].lower()]
            if name.startswith(("dgx", "hgx")):
                count *= _IN_A_BOX
            return Named(text[start:end], start, end, device=_devices()[name], count=max(1, count))
    return None


def _is_name(said: str, name: str) -> bool:
    if any(letter.isdigit() for letter in name):
        return not re.fullmatch(r"[\d.]+[a-z]?", name)
    return any(letter.isupper() for letter in said) and (name not in _COMMON or " " in said)
