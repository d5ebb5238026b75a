"""The exception tree: what can go wrong with what a user gives.

Every error answers three questions: what was read, what was expected, and what to do about it. The command line
prints the sentence and exits with `exit_code`; it never shows a traceback for one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str) -> str:
    r"""Text with its control characters written out: names come from files that nobody vouches for.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class WeighbridgeError(Exception):
    """The root of all errors that a user's input can cause.

    Args:
        read: what was found, with the file or the key it was found in.
        expected: what would have been accepted.
        action: what the user can do next.

    Example:
        >>> str(WeighbridgeError("the file is empty", "a GGUF header", "download it again"))
        'the file is empty; expected a GGUF header; download it again.'
    """

    exit_code = 2

    def __init__(self, read: str, expected: str, action: str) -> None:
        self.read, self.expected, self.action = printable(read), printable(expected), printable(action)
        super().__init__(f"{self.read}; expected {self.expected}; {self.action}.")


class SourceError(WeighbridgeError):
    """The source cannot be opened: no such file, no permission, no known format."""


class FormatError(WeighbridgeError):
    """The bytes are not a valid file of the format that they claim to be."""


class ConfigError(WeighbridgeError):
    """A model configuration lacks a key, or holds a value that no model can have."""


class UnitError(WeighbridgeError):
    """A quantity has no unit, an unknown one, or one of another kind."""


class UnknownNameError(WeighbridgeError):
    """A name is in no table. The message gives its nearest known neighbours.

    Example:
        >>> str(UnknownNameError("encoding", "q4_k_x", ["q4_k", "q5_k", "fp16"], "run `weigh encodings`"))
        "the encoding 'q4_k_x' is not known; expected a known encoding such as q4_k, q5_k; run `weigh encodings`."
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], action: str) -> None:
        names = sorted(set(known))
        self.kind, self.name = kind, name
        lower = {known.lower(): known for known in reversed(names)}
        near = difflib.get_close_matches(name.lower(), lower, n=4, cutoff=0.4)
        self.nearest = tuple(lower[match] for match in near) or tuple(names[:6])
        expected = f"a known {kind} such as {', '.join(self.nearest)}" if names else f"no {kind}"
        super().__init__(f"the {kind} {name[:200]!r} is not known", expected, action)
