"""Which beliefs about parameters do not survive a computation? Each is settled by numbers that are worked out now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.claims.example import LARGE, SMALL, floor_s
from weighbridge.errors import UnknownNameError
from weighbridge.inspection import inspect
from weighbridge.model.catalogue import find_model
from weighbridge.planning import fit
from weighbridge.predict.scaling_laws.gains import gain_of
from weighbridge.predict.scaling_laws.laws import find_law
from weighbridge.predict.scaling_laws.optimum import predicted_loss
from weighbridge.units import format_bytes, format_seconds

SAME = 0.05
"""Two times that differ by less are the same here."""
MOST_USEFUL = 1e9
"""`Useful AI needs billions`: what has fewer refutes it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a belief: whether it holds, None where only a measurement can say, and the numbers."""

    holds: bool | None
    text: str

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "holds", False: "does not hold", None: "undecided: it is to be measured"}[self.holds]


@dataclass(frozen=True, slots=True)
class Myth:
    """A belief with the computation that settles it."""

    number: int
    text: str
    settle: Callable[[], Settled]

    def to_json(self) -> dict[str, Any]:
        """One entry of the documents of `weigh explain`."""
        found = self.settle()
        return {"myth": self.number, "text": self.text, "holds": found.holds, "answer": found.text}


def _total(name: str) -> int:
    return inspect(find_model(name)).parameters.total


def _loss(name: str) -> float:
    model = find_model(name)
    return predicted_loss("chinchilla-corrected", _total(name), model.training_tokens or 0).value or 0.0


def _always_better() -> Settled:
    small, large = "llama-2-70b", "gpt-3"
    one, other = _loss(small), _loss(large)
    return Settled(other < one, f"By the corrected law of Chinchilla, Llama 2 70B with its tokens has a loss of "
                                f"{one:.3f} "
                   f"and GPT-3, {_total(large) / _total(small):.1f} times as large, {other:.3f}")  # fmt: skip


def _needs_billions() -> Settled:
    sizes = {name: _total(name) for name in ("mobilenet-v2", "distilbert-base", "resnet-50")}
    told = ", ".join(f"{find_model(name).title} {size:,}" for name, size in sizes.items())
    return Settled(min(sizes.values()) >= MOST_USEFUL, f"In daily use with fewer: {told}")


def _intelligence() -> Settled:
    names = ("llama-2-7b", "pythia-12b", "llama-2-70b", "gpt-3")
    by_size, by_loss = sorted(names, key=_total), sorted(names, key=_loss, reverse=True)
    told = ", ".join(f"{find_model(name).title} {_loss(name):.3f}" for name in by_size)
    return Settled(by_size == by_loss, f"From the smallest to the largest, with the tokens that each read, the "
                                       f"corrected law "
                   f"of Chinchilla has losses of {told}: not one order")  # fmt: skip


def _file_size() -> Settled:
    sizes = inspect(find_model(LARGE)).bytes_by_encoding
    ratio = sizes["fp32"] / sizes["q4_0"]
    return Settled(ratio < 1.05, f"The same {_total(LARGE):,} parameters take {format_bytes(sizes['fp32'])} in "
                                 f"32 bits and "
                   f"{format_bytes(sizes['q4_0'])} in blocks of 4: {ratio:.1f} times apart")  # fmt: skip


def _open_models() -> Settled:
    ours = _total("llama-3.1-405b")
    theirs = _total("gpt-3")
    return Settled(ours < theirs, f"Llama 3.1 405B, open, has {ours:,}; GPT-3, closed, {theirs:,}; of later "
                                  f"closed models "
                   "no count is disclosed")  # fmt: skip


def _compression() -> Settled:
    small, large = (inspect(find_model(name)).bytes_by_encoding for name in (SMALL, LARGE))
    ratio = large["q4_k_m"] / small["fp16"]
    return Settled(None, f"What it costs depends on the bits and the task (`weigh prove`). What it saves is "
                         f"exact: a 70B in "
                   f"q4_k_m takes {format_bytes(large['q4_k_m'])}, {ratio:.1f} times a 7B in 16 bits")  # fmt: skip


def _always_smarter() -> Settled:
    small, tokens = 70e9, 1.4e12
    one, other = (predicted_loss("chinchilla-corrected", size, small * tokens / size).value or 0.0
                  for size in (small, 10 * small))  # fmt: skip
    share = gain_of(find_law("chinchilla-corrected"), small, 10.0) or 0.0
    return Settled(other < one, f"For the same arithmetic, ten times the parameters of 70B leave a tenth of the "
                                f"tokens, and "
                   f"the loss goes from {one:.3f} to {other:.3f}; with all the data it could use it falls by "
                   f"{share:.1%}")  # fmt: skip


def _speed() -> Settled:
    dense, moe = floor_s(LARGE, "h100-sxm"), floor_s("mixtral-8x7b", "h100-sxm")
    four = fit(LARGE, "h100-sxm", devices=4, alternatives=False).speed.tpot_s.value or 0.0
    two = fit(LARGE, "h100-sxm", devices=2, alternatives=False).speed.tpot_s.value or 0.0
    size = _total("mixtral-8x7b") / _total(LARGE)
    return Settled(abs(moe / dense / size - 1) < SAME and abs(four / two - 1) < SAME, f"Mixtral 8x7B has "
                                                                                      f"{size:.0%} of Llama 2 "
                                                                                      f"70B's parameters and "
                   f"{moe / dense:.0%} of its least time a token; the same 70B takes {format_seconds(two)} a "
                   f"token on two "
                   f"H100 and {format_seconds(four)} on four")  # fmt: skip


def _quality() -> Settled:
    one, other = "pythia-12b", "llama-2-7b"
    return Settled(_loss(one) < _loss(other), f"Pythia 12B has {_total(one) / _total(other):.1f} times the "
                                              f"parameters of "
                   f"Llama 2 7B and, with its tokens, a predicted loss of {_loss(one):.3f} against "
                   f"{_loss(other):.3f}")  # fmt: skip


_BELIEVED: tuple[tuple[str, Callable[[], Settled]], ...] = (
    ("More parameters always perform better.", _always_better),
    ("Useful AI needs billions of parameters.", _needs_billions),
    ("The number of parameters determines intelligence.", _intelligence),
    ("Parameters and file size are the same.", _file_size),
    ("Open models lag for want of parameters.", _open_models),
    ("Compression cripples quality.", _compression),
    ("More parameters are always smarter.", _always_smarter),
    ("The number of parameters alone determines how fast answers come.", _speed),
    ("Quality can be read off the number of parameters.", _quality),
)  # fmt: skip
MYTHS = tuple(Myth(number, *believed) for number, believed in enumerate(_BELIEVED, 1))


def find_myth(number: int) -> Myth:
    """The belief of this number.

    Raises:
        UnknownNameError: when there is none.

    Example:
        >>> find_myth(4).settle().holds
        False
    """
    if not 1 <= number <= len(MYTHS):
        raise UnknownNameError("myth", str(number), [str(one.number) for one in MYTHS],
                               "`weigh explain --myths` lists them")  # fmt: skip
    return MYTHS[number - 1]
